"""The stack: what a store leaves in it and what a load finds, byte by byte and spill by spill.

Bounds were proved before (`check.check_stack_bounds`). Slots count 8-byte words below the frame pointer: slot 0 is
-8 to -1. Bytes within a slot are numbered by address.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ebpfkit._bits import to_signed
from ebpfkit.verifier import check
from ebpfkit.verifier.domain.pointer import STACK, Pointer
from ebpfkit.verifier.liveness import StackLiveness
from ebpfkit.verifier.rejection import Rejection
from ebpfkit.verifier.state import DYNPTR, INVALID, IRQ, ITER, MISC, SPILL, ZERO, Frame, Slot
from ebpfkit.verifier.transfer.alu import give_id
from ebpfkit.verifier.transfer.stack_objects import destroy_dynptr
from ebpfkit.verifier.unprivileged import check_helper_stack

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = ["StackRead", "blank", "fill", "find_constant_key", "overwrite_bytes", "read_for_helper", "spill", "spill_at"]

_EMPTY = Slot(bytes([INVALID] * 8))
_FRAME_POINTER = 10
_WHOLE = frozenset({SPILL, DYNPTR, ITER, IRQ})
_SPILL8 = bytes([SPILL] * 8)
_ZEROS = {size: bytes([ZERO] * size) for size in (1, 2, 4, 8)}
_note_read = StackLiveness.note_read
_note_write = StackLiveness.note_write


def _slot_of(offset: int) -> int:
    return (-offset - 1) // 8


def _spill_size(types: bytes) -> int:
    size = 0
    while size < 8 and types[size] == SPILL:
        size += 1
    return size


def _scrub(types: bytes) -> bytes:
    """What is left of a slot whose spilled value is overwritten in part: bytes of which nothing is known."""
    return bytes(MISC if t != INVALID else INVALID for t in types)


# --- stores ---------------------------------------------------------------------------------------------------------


def spill(
    w: Walk, index: int, pointer: Pointer, offset: int, size: int, value: Any, identity: int, register: int
) -> None:
    """Store `value` (None: bytes that nobody knows) of `size` bytes. `register` is its source, -1 for a constant."""
    if pointer.var.const is None:
        _note_write(w.frame.chain, index, 0, 0)
        _spill_anywhere(w, index, w.state.frames[pointer.target], pointer, offset, size, value, register)
        return
    at = pointer.off + offset + to_signed(pointer.var.const, 64)
    spill_at(w, index, w.state.frames[pointer.target], at, size, value, identity, register)


def spill_at(w: Walk, index: int, frame: Frame, at: int, size: int, value: Any, identity: int, register: int) -> None:
    """The same at a known distance from the frame's top."""
    chain = w.frame.chain
    number = (-at - 1) // 8
    place = at & 7
    if size == 8 and not place:
        _note_write(chain, index, frame.number, 1 << number)
    elif index in chain.writes:
        _note_write(chain, index, 0, 0)
    old = frame.slots.get(number, _EMPTY)
    if old.types[0] == DYNPTR:
        destroy_dynptr(w, index, frame, number)
        old = _EMPTY
    if "narrow-spills" not in w.behaviours and value is not None and value.is_scalar:
        _store_number(w, index, frame, number, place, size, value, identity, register)
        return
    if value is not None and value.is_scalar and not place and w.profile.privileged:
        if register >= 0:
            if value.width <= 8 * size:
                give_id(w, w.vals, w.ids, register)
                identity = w.ids[register]
            else:
                identity = 0
        frame.set_slot(number, _spilled(old, value, identity, size))
        w.record_stack(index, frame.number, number)
        return
    if value is not None and not value.is_scalar:
        if size != 8:
            raise Rejection("stack-pointer-corruption", "invalid size of register spill", index=index)
        if frame is not w.frame and value.kind == STACK:
            message = "cannot spill pointers to stack into stack frame of the caller"
            raise Rejection("pointer-leak", message, index=index)
        frame.set_slot(number, _spilled(old, value, identity, size))
        w.record_stack(index, frame.number, number)
        return
    kind = MISC
    if value is not None and value.const == 0:
        kind = ZERO
        if register >= 0:
            w.precision.demand_register(w.state, index, register)
    _write_bytes(frame, number, place, size, kind)


def _store_number(
    w: Walk, index: int, frame: Frame, number: int, place: int, size: int, value: Any, identity: int, register: int
) -> None:
    """As kernels before `narrow-spills` have it: zero is bytes, and a number of which nothing is known no spill."""
    if value.const == 0 or place or value is w.values.unknown:
        if value.const == 0 and register >= 0:
            w.precision.demand_register(w.state, index, register)
        _write_bytes(frame, number, place, size, ZERO if value.const == 0 else MISC)
        return
    if register >= 0 and int(w.code.insns[index].dst) != _FRAME_POINTER:
        w.precision.demand_register(w.state, index, register)  # only stores through the frame pointer are followed back
    old = frame.slots.get(number, _EMPTY)
    upper = bytes(INVALID if t == INVALID else MISC for t in old.types[size:])
    identity = identity if value.width <= 8 * size else 0
    frame.set_slot(number, Slot(bytes([SPILL] * size) + upper, value, identity))
    w.record_stack(index, frame.number, number)


def _fill_narrow(
    w: Walk, index: int, frame: Frame, number: int, slot: Slot, place: int, size: int, signed: bool
) -> tuple[Any, int]:
    """A load of part of a spilled number, as kernels before `narrow-spills` have it: known only as it was stored."""
    if place or size != _spill_size(slot.types):
        return w.values.unknown_of(size, signed), 0
    w.record_stack(index, frame.number, number)
    return _narrowed(w, slot.value, size, signed), slot.id


def _spilled(old: Slot, value: Any, identity: int, size: int) -> Slot:
    if size == 8:
        return Slot(_SPILL8, value, identity)
    return Slot(_under_spill(old.types, size), value, identity)


@lru_cache(maxsize=4096)
def _under_spill(types: bytes, size: int) -> bytes:
    """The types of a slot after a number of fewer than 8 bytes was spilled over these."""
    upper = bytes(t if t in (ZERO, INVALID) else MISC for t in types[size:])
    return bytes([SPILL] * size) + upper


@lru_cache(maxsize=4096)
def _with_bytes(types: bytes, place: int, size: int, kind: int) -> Slot:
    """What a slot of these types is after `size` bytes of one kind were written: without a value, so it is shared."""
    changed = bytearray(_scrub(types) if types[0] in _WHOLE else types)
    changed[place : place + size] = bytes([kind] * size)
    return Slot(bytes(changed))


def _write_bytes(frame: Frame, number: int, place: int, size: int, kind: int) -> None:
    old = frame.slots.get(number, _EMPTY)
    frame.set_slot(number, _with_bytes(old.types, place, size, kind))


def _spill_anywhere(
    w: Walk, index: int, frame: Frame, pointer: Pointer, offset: int, size: int, value: Any, register: int
) -> None:
    """A store whose place is not known: every byte in reach may have been hit."""
    zero = value is not None and value.const == 0
    used = False
    low = pointer.var.smin + pointer.off + offset
    high = pointer.var.smax + pointer.off + offset + size
    for number in range(_slot_of(high - 1), _slot_of(low) + 1):
        destroy_dynptr(w, index, frame, number)
    for at in range(low, high):
        number, place = _slot_of(at), at & 7
        slot = frame.slots.get(number, _EMPTY)
        kind = slot.types[place]
        if zero and kind == SPILL and slot.types[0] == SPILL and slot.value is not None and slot.value.const == 0:
            used = True
            continue
        # A spilled value that may have been hit in one byte is gone as a whole.
        scrubs = slot.types[0] in _WHOLE and "narrow-spills" in w.behaviours
        types = bytearray(_scrub(slot.types) if scrubs else slot.types)
        if zero and types[place] == ZERO:
            used = True
        else:
            types[place] = MISC
        frame.set_slot(number, Slot(bytes(types)))
    if used and register >= 0:
        w.precision.demand_register(w.state, index, register)


def overwrite_bytes(w: Walk, index: int, pointer: Pointer, offset: int, size: int) -> None:
    """A helper wrote `size` bytes at a known place that need not have been initialised: nothing is known of them."""
    frame = w.state.frames[pointer.target]
    start = pointer.off + offset + to_signed(pointer.var.value, 64)
    at = start
    while at < start + size:
        number, place = _slot_of(at), at & 7
        part = min(8 - place, start + size - at)
        _write_bytes(frame, number, place, part, MISC)
        at += part


# --- loads ----------------------------------------------------------------------------------------------------------


def fill(w: Walk, index: int, pointer: Pointer, offset: int, size: int, register: int, signed: bool) -> tuple[Any, int]:
    """What a load of `size` bytes finds, and its identity. `register` < 0: the value is not wanted."""
    frame = w.state.frames[pointer.target]
    if pointer.var.const is None:
        return _fill_anywhere(w, index, frame, pointer, offset, size, signed), 0
    at = pointer.off + offset + to_signed(pointer.var.const, 64)
    number, place = _slot_of(at), at & 7
    _note_read(w.frame.chain, index, frame.number, 1 << number)
    slot = frame.slots.get(number, _EMPTY)
    types = slot.types
    if INVALID in types[place : place + size] and "uninitialised-reads" not in w.behaviours:
        message = f"invalid read from stack off {at}+{types.index(INVALID, place) - place} size {size}"
        raise Rejection("uninitialised-stack", message, index=index)
    if types[0] != SPILL:
        if types[0] >= DYNPTR:
            message = f"invalid read from stack off {at}+0 size {size}"
            raise Rejection("uninitialised-stack", message, index=index)
        zeros = types[place : place + size] == _ZEROS[size]
        return (w.values.zero if zeros else w.values.unknown_of(size, signed)), 0
    value = slot.value
    spilled = _spill_size(types)
    if size == 8 and spilled == 8:
        if register < 0:
            return value, 0
        if "narrow-spills" in w.behaviours:
            slot = _with_id(w, frame, number, slot)
        w.record_stack(index, frame.number, number)
        return slot.value, slot.id
    if value is None or not value.is_scalar:
        raise Rejection("stack-pointer-corruption", "invalid size of register fill", index=index)
    if register < 0:
        return w.values.unknown, 0
    if "narrow-spills" not in w.behaviours:
        return _fill_narrow(w, index, frame, number, slot, place, size, signed)
    low_end = spilled - size if w.big_endian else 0  # where the low bytes of what was spilled lie
    if size <= spilled and place == low_end:
        if size == 4 and spilled == 4 and value.width <= 32:
            slot = _with_id(w, frame, number, slot)
        identity = slot.id if value.width <= 8 * size else 0
        w.record_stack(index, frame.number, number)
        return _narrowed(w, value, size, signed), identity
    part = types[place : place + size]
    if value.const == 0 and part == _SPILL8[:size]:
        w.record_stack(index, frame.number, number)
        return w.values.zero, 0
    if part == _ZEROS[size]:
        return w.values.zero, 0
    return w.values.unknown_of(size, signed), 0


def _with_id(w: Walk, frame: Frame, number: int, slot: Slot) -> Slot:
    """The slot, its number sharing an id with what is filled from it."""
    value = slot.value
    if value is None or not value.is_scalar:
        return slot
    identity = slot.id
    if identity >> 32:
        identity = 0
    if not identity and value.const is None:
        identity = w.new_id()
    if identity == slot.id:
        return slot
    slot = Slot(slot.types, value, identity)
    frame.set_slot(number, slot)
    return slot


def _narrowed(w: Walk, value: Any, size: int, signed: bool) -> Any:
    key = (value, size, signed)
    found = w.narrow_memo.get(key)
    if found is None:
        d = value.bounds()
        found = w.values.scalar(d.sign_extend(size) if signed else d.truncate(size) if size < 8 else d)
        w.narrow_memo[key] = found
    return found


def _fill_anywhere(w: Walk, index: int, frame: Frame, pointer: Pointer, offset: int, size: int, signed: bool) -> Any:
    low = pointer.var.smin + pointer.off + offset
    high = pointer.var.smax + pointer.off + offset + size
    mask = 0
    zeros = True
    for at in range(low, high):
        number = _slot_of(at)
        kind = frame.slots.get(number, _EMPTY).types[at & 7]
        if kind == INVALID and "uninitialised-reads" not in w.behaviours:
            message = f"invalid read from stack with a variable offset, byte {at}"
            raise Rejection("uninitialised-stack", message, index=index)
        mask |= 1 << number
        zeros = zeros and kind == ZERO
    _note_read(w.frame.chain, index, frame.number, mask)
    return w.values.zero if zeros else w.values.unknown_of(size, signed)


# --- helpers --------------------------------------------------------------------------------------------------------


def read_for_helper(w: Walk, index: int, register: int, pointer: Pointer, size: int, write: bool) -> None:
    """A helper reads (and with `write` may overwrite) `size` bytes: whatever was known of overwritten bytes is gone."""
    if not w.profile.privileged:
        check_helper_stack(w, index, register, pointer, size)
    low, high = check.check_stack_bounds(w, index, register, pointer, 0, size, "write to" if write else "read from")
    frame = w.state.frames[pointer.target]
    mask = 0
    end = high + size
    at = low
    while at < end:
        number, place = _slot_of(at), at & 7
        part = min(8 - place, end - at)
        mask |= 1 << number
        slot = frame.slots.get(number, _EMPTY)
        types = slot.types
        if INVALID in types[place : place + part] and "uninitialised-reads" not in w.behaviours:
            message = f"invalid indirect read from stack R{register} off {low}+{at - low} size {size}"
            raise Rejection("uninitialised-stack", message, index=index, register=register)
        if types[0] >= DYNPTR:
            message = f"invalid read from stack R{register} off {low}+{at - low} size {size}"
            raise Rejection("uninitialised-stack", message, index=index, register=register)
        if SPILL in types:
            if types[0] != SPILL and SPILL in types[place : place + part]:
                message = f"invalid read from stack R{register} off {low}+{at - low} size {size}"
                raise Rejection("uninitialised-stack", message, index=index, register=register)
            if write:
                _clobber(frame, number, slot, place, part)
        elif write:
            changed = types[:place] + bytes([MISC] * part) + types[place + part :]
            if changed != types:
                frame.set_slot(number, Slot(changed))
        at += part
    _note_read(w.frame.chain, index, frame.number, mask)


class StackRead:
    """A helper's read of stack memory at one call, which may come again with other things in the slots."""

    __slots__ = ("fine", "mask", "numbers", "pointer", "register", "size", "write")

    def __init__(self, register: int, pointer: Pointer, size: int, write: bool) -> None:
        self.register = register
        self.pointer = pointer
        self.size = size
        self.write = write
        # Whole types of the slots that were read and left as they are; unprivileged reads are checked each time.
        self.fine: set[tuple[bytes, ...]] = set()
        self.numbers: tuple[int, ...] = ()
        self.mask = 0

    def again(self, w: Walk, index: int) -> None:
        """Read for the helper, at the call `index`."""
        frame = w.state.frames[self.pointer.target]
        slots = frame.slots
        if self.numbers:
            try:
                types = tuple([slots[number].types for number in self.numbers])
            except KeyError:
                types = ()
            if types in self.fine:
                _note_read(w.frame.chain, index, frame.number, self.mask)
                return
        read_for_helper(w, index, self.register, self.pointer, self.size, self.write)
        if self.write or self.pointer.var.const is None or not self.size or not w.profile.privileged:
            return
        low = self.pointer.off + to_signed(self.pointer.var.const, 64)
        self.numbers = tuple(range(_slot_of(low + self.size - 1), _slot_of(low) + 1))
        self.mask = sum(1 << number for number in self.numbers)
        if all(number in slots for number in self.numbers):
            self.fine.add(tuple([slots[number].types for number in self.numbers]))


def _clobber(frame: Frame, number: int, slot: Slot, place: int, part: int) -> None:
    """A helper may have written over bytes of a slot that holds a spilled value."""
    types = slot.types
    for byte in range(place, place + part):
        if types[byte] == SPILL:
            types = _scrub(types)
        elif types[byte] != MISC:
            types = types[:byte] + bytes([MISC]) + types[byte + 1 :]
    frame.set_slot(number, Slot(types, slot.value, slot.id) if types[0] == SPILL else Slot(types))


def blank(w: Walk, index: int, register: int, pointer: Pointer, size: int) -> None:
    """A helper will write `size` bytes at a known place, whether or not they were initialised."""
    low, _ = check.check_stack_bounds(w, index, register, pointer, 0, size, "write to")
    slots = w.state.frames[pointer.target].slots
    for at in range(low, low + size):
        slot = slots.get(_slot_of(at))
        if slot is not None and slot.types[0] == DYNPTR:
            message = f"potential write to dynptr at off={at} disallowed"
            raise Rejection("dynptr", message, index=index, register=register)


def find_constant_key(w: Walk, index: int, pointer: Pointer, size: int) -> int | None:
    """The key of `size` bytes on the stack when it is a known number; what it relied on becomes precise."""
    if pointer.kind != STACK or pointer.var.const is None:
        return None
    at = pointer.off + to_signed(pointer.var.const, 64)
    number, place = _slot_of(at), at & 7
    frame = w.state.frames[pointer.target]
    slot = frame.slots.get(number, _EMPTY)
    types = slot.types
    zeros = 0
    while place + zeros < 8 and types[place + zeros] == ZERO:
        zeros += 1
    if zeros >= size:
        return 0
    if types[0] != SPILL or slot.value is None or not slot.value.is_scalar:
        return None
    spilled = 0
    while place + spilled < 8 and types[place + spilled] == SPILL:
        spilled += 1
    if spilled != size or slot.value.const is None:
        return None
    w.precision.demand_slot(w.state, index, pointer.target, number)
    return int(slot.value.const)
