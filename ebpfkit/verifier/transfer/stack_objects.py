"""Building, using and ending what the kernel keeps in the program's stack: dynptrs, iterators, saved IRQ flags.

Where such an object stands is checked here too; what its kind demands is in `dynptrs`, `iterators` and `sections`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit._bits import to_signed
from ebpfkit.verifier import check
from ebpfkit.verifier.domain.pointer import MEM
from ebpfkit.verifier.domain.stack_objects import PACKET_SLICE, StackObject
from ebpfkit.verifier.liveness import StackLiveness
from ebpfkit.verifier.rejection import Rejection
from ebpfkit.verifier.state import DYNPTR, ID_MASK, INVALID, SPILL, Frame, Slot
from ebpfkit.verifier.transfer.iteration import slot_at

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = [
    "destroy_dynptr", "drop_dynptrs", "drop_slices", "find_slots", "find_spot", "place_object", "remove_object",
    "replace_object", "touch_slots",
]  # fmt: skip

_RULES = {"dynptr": "dynptr", "iter": "iterator", "irq_flag": "execution-context"}
_EMPTY = Slot(bytes([INVALID] * 8))


def find_spot(w: Walk, index: int, register: int, what: str, slots: int, then: str) -> tuple[Frame, int] | None:
    """The frame and the slot at the lowest address of an object of `slots` slots; None below what the frame has used.

    `then` is what the kernel says after the reason.
    """
    p = w.vals[register]

    def refuse(reason: str) -> Rejection:
        return Rejection(_RULES[what], f"{reason}; {then}", index=index, register=register)

    if p.var.const is None:
        raise refuse(f"{what} has to be at a constant offset")
    off = p.off + to_signed(p.var.const, 64)
    number = slot_at(off)
    if off % 8 or number + 1 < slots:
        raise refuse(f"cannot pass in {what} at an offset={off}")
    frame = w.state.frames[p.target]
    return (frame, number) if 8 * (number + 1) <= frame.depth else None


def find_slots(w: Walk, register: int, slots: int) -> tuple[Frame, range]:
    """The slots of an object, the one at the lowest address first, where it was proved to be."""
    p = w.vals[register]
    number = slot_at(p.off + to_signed(p.var.value, 64))
    return w.state.frames[p.target], range(number, number - slots, -1)


def place_object(
    w: Walk, index: int, register: int, kind: int, slots: int, made: StackObject, identity: int, rest: int
) -> None:
    """Build an object: bounds first, then what stood there goes. `rest` is the identity word of its other slots."""
    p = w.vals[register]
    for at in range(slots):
        check.check_stack_bounds(w, index, register, p, 8 * at, 8, "write to")
        frame, numbers = find_slots(w, register, slots)
        destroy_dynptr(w, index, frame, numbers[at])
    frame, numbers = find_slots(w, register, slots)
    for at, number in enumerate(numbers):
        frame.set_slot(number, Slot(bytes([kind] * 8), made.changed(first=not at), rest if at else identity))
    touch_slots(w, index, register, slots, write=True)


def remove_object(w: Walk, index: int, register: int, slots: int) -> None:
    """The object is gone: its bytes are as if never written."""
    frame, numbers = find_slots(w, register, slots)
    for number in numbers:
        frame.set_slot(number, _EMPTY)
    touch_slots(w, index, register, slots, write=True)


def replace_object(frame: Frame, number: int, made: StackObject) -> None:
    """The same object in another state."""
    slot = frame.slots[number]
    frame.set_slot(number, Slot(slot.types, made, slot.id))


def touch_slots(w: Walk, index: int, register: int, slots: int, *, write: bool) -> None:
    """Tell liveness that the object was read or built here."""
    frame, numbers = find_slots(w, register, slots)
    mask = 0
    for number in numbers:
        mask |= 1 << number
    if write:
        StackLiveness.note_write(w.frame.chain, index, frame.number, mask)
    else:
        StackLiveness.note_read(w.frame.chain, index, frame.number, mask)


def destroy_dynptr(w: Walk, index: int, frame: Frame, number: int) -> None:
    """A store hits a slot: a dynptr there goes as a whole, with the memory that it gave out."""
    slot = frame.slots.get(number)
    if slot is None or slot.types[0] != DYNPTR:
        return
    dynptr: Any = slot.value
    first = number if dynptr.first else number + 1
    if dynptr.word == "ringbuf":
        raise Rejection("dynptr", "cannot overwrite referenced dynptr", index=index)
    identity = frame.slots[first].id & ID_MASK
    for gone in (first, first - 1):
        frame.set_slot(gone, _EMPTY)
    drop_slices(w, lambda value: value.range & ~PACKET_SLICE == identity)  # a lasting one has another mark


def drop_slices(w: Walk, matches: Any) -> None:
    """Memory from dynptrs for which `matches` says so becomes a number."""

    def gone(value: Any) -> bool:
        return value is not None and value.kind == MEM and value.range and matches(value)

    for frame in w.state.frames:
        for register in range(10):
            if gone(frame.vals[register]):
                frame.vals[register], frame.ids[register] = w.values.unknown, 0
        for number, slot in list(frame.slots.items()):
            if slot.types[0] == SPILL and gone(slot.value):
                frame.set_slot(number, Slot(slot.types, w.values.unknown, 0))


def drop_dynptrs(w: Walk, frame: Frame, reference: int) -> None:
    """Every dynptr of the frame that shares the reference is gone."""
    for number, slot in list(frame.slots.items()):
        if slot.types[0] == DYNPTR and slot.id >> 32 == reference:
            frame.set_slot(number, _EMPTY)
