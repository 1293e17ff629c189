"""When a stored state covers the current one, and what a stored state may forget.

Three levels: `NOT_EXACT` prunes finished states (numbers count only where precise), `RANGE_WITHIN` lets loops converge
(every number counts), `EXACT` finds loops without progress. The comparison of a finished state is compiled once into a
list of checks, cheap identity tests first; ids are matched one to one at the end.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ebpfkit.verifier.domain import tnum
from ebpfkit.verifier.domain.pointer import MAP_KEY, MAP_VALUE, MEM, PACKET, PACKET_META, Pointer
from ebpfkit.verifier.domain.scalar import Scalar
from ebpfkit.verifier.domain.values import Value, Values
from ebpfkit.verifier.liveness import StackLiveness
from ebpfkit.verifier.state import (
    DYNPTR,
    ID_MASK,
    INVALID,
    LINK32,
    LINK64,
    MISC,
    SPILL,
    ZERO,
    Checkpoint,
    Frame,
    Slot,
    State,
    link_offset,
)

__all__ = ["EXACT", "NOT_EXACT", "RANGE_WITHIN", "Comparison", "IdMap", "clean", "may_loop"]

NOT_EXACT, RANGE_WITHIN, EXACT = range(3)

_EMPTY = Slot(bytes([INVALID] * 8))
_FULL_SPILL = bytes([SPILL] * 8)
_FULL_MISC = bytes([MISC] * 8)
_LINKS = LINK32 | LINK64
_SlotCheck = tuple[int, int, Slot, bool, bool]  # frame, place, slot, whether it is precise, whether any number will do


@cache
def _registers_of(mask: int) -> tuple[int, ...]:
    return tuple(register for register in range(10) if mask >> register & 1)


def clean(stored: Checkpoint, live: list[int], stack: StackLiveness) -> None:
    """Forget what is dead in a finished state."""
    stored.checks = None
    stored.misfits = frozenset()
    last = len(stored.frames) - 1
    innermost = stored.frames[-1].chain
    for number, frame in enumerate(stored.frames):
        index = stored.index if number == last else stored.frames[number + 1].site
        vals, ids = frame.vals, frame.ids
        for register in _registers_of(~live[index] & 0x3FF):
            if vals[register] is not None:
                vals[register] = None
                ids[register] = 0
        if frame.slots:
            alive = stack.live_mask(innermost, stored.index, number)
            dead = [place for place in frame.slots if not alive >> place & 1]
            if dead:
                frame.drop_slots(dead)


def may_loop(stored: Checkpoint, frame: Frame) -> bool:
    """Whether the current frame's registers are the very same: the cheap first question of loop detection."""
    old = stored.frames[-1]
    return old.vals == frame.vals and old.ids == frame.ids and len(stored.frames) == frame.number + 1


def is_within(old: Value, new: Value) -> bool:
    """Whether every number of `new` is one of `old`."""
    assert isinstance(old, Scalar) and isinstance(new, Scalar)
    return (
        old.umin <= new.umin
        and old.umax >= new.umax
        and old.smin <= new.smin
        and old.smax >= new.smax
        and old.u32_min <= new.u32_min
        and old.u32_max >= new.u32_max
        and old.s32_min <= new.s32_min
        and old.s32_max >= new.s32_max
        and tnum.is_subset(old.tnum, new.tnum)
    )


def is_covered(old: Pointer, new: Pointer) -> bool:
    """Whether what was proved for `old` holds for `new`, ids apart."""
    if old.off != new.off or old.kind != new.kind or old.nullable != new.nullable or old.target != new.target:
        return False
    if old.readonly != new.readonly or old.record != new.record:
        return False
    if old.kind in (PACKET, PACKET_META):
        if old.range < 0 or new.range < 0:
            if old.range != new.range:
                return False
        elif old.range > new.range:
            return False
        return old.var is new.var or is_within(old.var, new.var)
    if old.range != new.range:
        return False
    if old.kind in (MAP_VALUE, MAP_KEY, MEM):
        return old.var is new.var or is_within(old.var, new.var)
    return old is new


def _is_contained(old: Any, new: Any) -> bool:
    if old.is_scalar or new.is_scalar:
        return bool(old.is_scalar and new.is_scalar) and is_within(old, new)
    return is_covered(old, new)


class IdMap:
    """A one-to-one mapping of the stored state's ids to the current state's."""

    __slots__ = ("back", "forth", "fresh")

    def __init__(self) -> None:
        self.forth: dict[int, int] = {}
        self.back: dict[int, int] = {}
        self.fresh = 1 << 64

    def match(self, old: int, new: int) -> bool:
        if not old or not new:
            return old == new
        if self.forth.setdefault(old, new) != new:
            return False
        return self.back.setdefault(new, old) == old

    def match_exact(self, old: int, new: int) -> bool:
        """Scalars under EXACT: ids as they are, distances equal."""
        return not (old ^ new) & ~ID_MASK and self.match(old & ID_MASK, new & ID_MASK)

    def match_scalars(self, old: int, new: int) -> bool:
        """Scalars: without an old id only ranges count; an absent new id counts as one of its own."""
        if not old:
            return True
        if (old ^ new) & _LINKS or link_offset(old) != link_offset(new):
            return False
        old &= ID_MASK
        new &= ID_MASK
        if not new:
            self.fresh += 1
            new = self.fresh
        return self.match(old, new)

    def match_pointers(self, old: int, new: int) -> bool:
        return self.match(old & ID_MASK, new & ID_MASK) and self.match(old >> 32, new >> 32)


class _Checks:
    """What of the comparison of a finished state is compiled: all that follows the registers of the last frame."""

    __slots__ = ("demand", "lone", "numbers", "outer", "pointers", "rest", "rounds", "slots")

    def __init__(self) -> None:
        self.rest = True
        self.demand: tuple[tuple[int, int], ...] | None = None  # the masks of `marks` that are numbers, per frame
        self.numbers: list[tuple[int, int]] = []  # (register, identity of a number)
        self.pointers: list[tuple[int, int]] = []  # (register, identity of a pointer)
        self.outer: list[tuple[int, int, Any, int, bool]] = []  # (frame, register, value, identity, precise)
        self.rounds: list[tuple[int, int]] = []  # (frame, visits of callbacks): at least as many
        self.slots: list[_SlotCheck] = []
        self.lone = False  # so few identities that no mapping of them is needed


class Comparison:
    """Comparisons of one verification; containment of values is memoised by identity."""

    def __init__(self, values: Values, privileged: bool, live: list[int]) -> None:
        self.values = values
        self.live = live  # of each instruction, as masks: other registers count nowhere
        self._alive = [list(_registers_of(mask & 0x3FF)) for mask in live]
        self.privileged = privileged
        self.strict = False  # numbers match only themselves: different ones might need different masks
        self.memo = values.new_memo()
        self._types: dict[tuple[bytes, bytes], bool] = {}
        self._matter: dict[bytes, bool] = {}

    # -- values --------------------------------------------------------------------------------------------------

    def contains(self, old: Any, new: Any) -> bool:
        """Whether `new` is covered by `old`, of one kind or not, ids apart."""
        if old is new:
            return True
        key = (old, new)
        found: bool | None = self.memo.get(key)
        if found is None:
            found = self.memo[key] = _is_contained(old, new)
        return found

    def _register(self, old: Any, old_id: int, new: Any, new_id: int, precise: bool, ids: IdMap, level: int) -> bool:
        if level == EXACT:
            return old is new and (
                old is None
                or (ids.match_pointers(old_id, new_id) if not old.is_scalar else ids.match_exact(old_id, new_id))
            )
        if old is None:
            return True
        if new is None:
            return False
        if old.is_scalar:
            if not new.is_scalar or (self.strict and old is not new):
                return False
            if not precise and level == NOT_EXACT:
                return True
            return self.contains(old, new) and ids.match_scalars(old_id, new_id)
        return self.contains(old, new) and ids.match_pointers(old_id, new_id)

    # -- stack ---------------------------------------------------------------------------------------------------

    def _as_number(self, slot: Slot) -> tuple[Any, int] | None:
        """The slot as one 8-byte number: a spilled scalar, or bytes of which nothing is known."""
        types = slot.types
        if types == _FULL_SPILL:
            return (slot.value, slot.id) if slot.value is not None and slot.value.is_scalar else None
        if not self._matters(types) and (self.privileged or types == _FULL_MISC):
            return self.values.unknown, 0
        return None

    def _matters(self, types: bytes) -> bool:
        """Whether anything that a later path may rely on is in a slot of these types."""
        found = self._matter.get(types)
        if found is None:
            ignored = (INVALID, MISC) if self.privileged else (INVALID,)
            found = self._matter[types] = any(t not in ignored for t in types)
        return found

    def _types_fit(self, old: bytes, new: bytes) -> bool:
        key = (old, new)
        found = self._types.get(key)
        if found is None:
            found = True
            for mine, other in zip(old, new):
                if mine in (INVALID, other) or (mine == MISC and self.privileged):
                    continue
                if mine == MISC and other == ZERO:
                    continue
                found = False
                break
            self._types[key] = found
        return found

    def _slot(self, old: Slot, new: Slot | None, precise: bool, ids: IdMap, level: int, allocated: bool) -> bool:
        if level != NOT_EXACT and old.types != (new.types if new is not None else _EMPTY.types):
            return False
        if old is new and not old.id:
            return True
        if not self._matters(old.types):
            return True
        if new is None:
            if not allocated:
                return False
            new = _EMPTY
        mine, other = self._as_number(old), self._as_number(new)
        if mine is not None and other is not None:
            return self._register(*mine, *other, precise and old.types == _FULL_SPILL, ids, level)
        if not self._types_fit(old.types, new.types):
            return False
        if old.types[0] == SPILL:
            return self._register(old.value, old.id, new.value, new.id, precise, ids, level)
        if old.types[0] >= DYNPTR:
            made: Any = old.value
            return made.covers(new.value) and ids.match(old.id >> 32, new.id >> 32)
        return True

    # -- states --------------------------------------------------------------------------------------------------

    def covers(self, stored: Checkpoint, state: State, level: int) -> bool:
        """Whether what was proved from `stored` on holds for the current state too."""
        if level == NOT_EXACT:
            return self.covers_finished(stored, state)
        return self._covers_each(stored, state, level)

    def _covers_each(self, stored: Checkpoint, state: State, level: int) -> bool:
        if stored.chain is not state.frames[-1].chain or len(stored.references) != len(state.references):
            return False
        ids = IdMap()
        if not _same_sections(stored, state, ids):
            return False
        for old, new in zip(stored.references, state.references):
            if not ids.match(old[0], new[0]):
                return False
        last = len(stored.frames) - 1
        for number, (old_frame, new_frame) in enumerate(zip(stored.frames, state.frames)):
            if old_frame.rounds > new_frame.rounds:
                return False
            registers, slots = stored.marks[number]
            alive = self.live[stored.index if number == last else stored.frames[number + 1].site]
            for register in range(10):
                if alive >> register & 1 and not self._register(
                    old_frame.vals[register],
                    old_frame.ids[register],
                    new_frame.vals[register],
                    new_frame.ids[register],
                    bool(registers >> register & 1),
                    ids,
                    level,
                ):
                    return False
            if level != NOT_EXACT and old_frame.depth > new_frame.depth:
                return False
            places = {**old_frame.slots, **_limited(new_frame, old_frame.depth)}
            for place in places:
                if not self._slot(
                    old_frame.slots.get(place, _EMPTY),
                    new_frame.slots.get(place),
                    bool(slots >> place & 1),
                    ids,
                    level,
                    new_frame.depth > 8 * place,
                ):
                    return False
        return True

    def covers_finished(self, stored: Checkpoint, state: State) -> bool:
        """The same for a finished state, whose numbers count only where they are precise.

        What failed last time is tested first: states at one place tend to differ at one place.
        """
        if self.strict:
            return self._covers_each(stored, state, NOT_EXACT)
        frames = state.frames
        frame = frames[-1]
        if stored.chain is not frame.chain:
            return False
        mine = stored.frames[-1]
        olds, words = mine.vals, mine.ids
        vals, ids = frame.vals, frame.ids
        precise = stored.marks[-1][0]
        for register in self._alive[stored.index]:
            old, new = olds[register], vals[register]
            if old is not new:
                if old is None:
                    continue
                if old.is_scalar and not precise >> register & 1:
                    if new is None or not new.is_scalar:
                        return False
                    continue
                if (old.fits is None or new not in old.fits) and not self._note(stored, register, old, new):
                    return False
            if ids[register] and not words[register] and old is not None and not old.is_scalar:
                return False
        checks: _Checks | None = stored.checks
        if checks is None:
            checks = stored.checks = self._compile(stored)
        if (
            stored.references is not state.references
            or stored.lock is not state.lock
            or stored.irqs is not state.irqs
            or stored.rcu != state.rcu
            or stored.preempt != state.preempt
        ):
            return self._covers_rest(checks, stored, state)
        if not checks.rest:
            return True
        if checks.lone and not state.references and state.lock is None and not state.irqs:
            return self._covers_lone(checks, state)
        return self._covers_rest(checks, stored, state)

    def _note(self, stored: Checkpoint, register: int, old: Any, new: Any) -> bool:
        """Whether `new` is covered, remembered: one look-up rules the stored state out when this value comes again."""
        misfits = old.misfits
        if misfits is None:
            misfits = old.misfits = set()
        if new not in misfits:
            same_sort = new is not None and old.is_scalar is new.is_scalar
            if same_sort and (is_within(old, new) if old.is_scalar else is_covered(old, new)):
                if old.fits is None:
                    old.fits = set()
                old.fits.add(new)
                return True
            misfits.add(new)
        stored.place = register
        stored.misfits = misfits
        order = self._alive[stored.index]
        if order[0] != register:  # states at one place tend to differ at one place
            order.remove(register)
            order.insert(0, register)
        return False

    def _covers_rest(self, checks: _Checks, stored: Checkpoint, state: State) -> bool:
        """What is left after the registers of the last frame: outer frames, slots, identities, what is held."""
        frames = state.frames
        if len(stored.references) != len(state.references):
            return False
        for number, count in checks.rounds:
            if count > frames[number].rounds:
                return False
        ids = IdMap()
        for number, register, old, identity, precise in checks.outer:
            outer = frames[number]
            if outer.vals[register] is old and not identity and not outer.ids[register]:
                continue
            if not self._register(old, identity, outer.vals[register], outer.ids[register], precise, ids, NOT_EXACT):
                return False
        if not self._covers_slots(checks.slots, frames, ids) or not _same_sections(stored, state, ids):
            return False
        for mine, other in zip(stored.references, state.references):
            if not ids.match(mine[0], other[0]):
                return False
        words = frames[-1].ids
        for register, identity in checks.numbers:
            if not ids.match_scalars(identity, words[register]):
                return False
        for register, identity in checks.pointers:  # noqa: SIM110 - all() costs a generator each time
            if not ids.match_pointers(identity, words[register]):
                return False
        return True

    def _covers_slots(self, slots: list[_SlotCheck], frames: list[Frame], ids: IdMap | None) -> bool:
        """Without `ids` no slot has an identity that counts."""
        for check in slots:
            number, place, slot, precise, plain = check
            current = frames[number]
            now = current.slots.get(place)
            if now is not None and now.types == slot.types:
                # The same without an identity, or any number in place of one that nothing relied on.
                if plain:
                    if now.value is not None and now.value.is_scalar:
                        continue
                elif now.value is slot.value and not slot.id and not now.id and slot.types[0] < DYNPTR:
                    continue
            if not self._slot(slot, now, precise, ids or IdMap(), NOT_EXACT, current.depth > 8 * place):
                if check is not slots[0]:
                    slots.remove(check)
                    slots.insert(0, check)
                return False
        return True

    def _covers_lone(self, checks: _Checks, state: State) -> bool:
        """The same where the stored state has one frame, and one identity in a register or two of pointers."""
        frame = state.frames[-1]
        for register, identity in checks.numbers:
            word = frame.ids[register]
            if (identity ^ word) & _LINKS or link_offset(identity) != link_offset(word):
                return False
        for register, _ in checks.pointers:
            if not 0 < frame.ids[register] <= ID_MASK:
                return False
        if len(checks.pointers) == 2:
            (first, mine), (second, other) = checks.pointers
            if (mine == other) != (frame.ids[first] == frame.ids[second]):
                return False
        return not checks.slots or self._covers_slots(checks.slots, state.frames, None)

    def _compile(self, stored: Checkpoint) -> _Checks:
        checks = _Checks()
        last = len(stored.frames) - 1
        lone = not last and not stored.references
        for number, frame in enumerate(stored.frames):
            registers, precise = stored.marks[number]
            if frame.rounds:
                checks.rounds.append((number, frame.rounds))
            if number == last:
                self._compile_identities(checks, frame, registers)
            else:
                checks.outer += [
                    (number, register, value, frame.ids[register], bool(registers >> register & 1))
                    for register, value in enumerate(frame.vals[:10])
                    if value is not None
                ]
            for place, slot in frame.slots.items():
                types = slot.types
                if self._matters(types):
                    needed = bool(precise >> place & 1)
                    plain = not needed and types[0] == SPILL and slot.value is not None and slot.value.is_scalar
                    checks.slots.append((number, place, slot, needed, plain))
                    lone = lone and (plain or not slot.id) and types[0] < DYNPTR
        words = checks.numbers + checks.pointers
        lone = lone and not checks.rounds
        for _, word in checks.pointers:
            lone = lone and word <= ID_MASK
        checks.lone = lone and (len(words) <= 1 or (len(words) == 2 and not checks.numbers))
        checks.rest = bool(words or checks.slots or checks.outer or checks.rounds)
        return checks

    @staticmethod
    def _compile_identities(checks: _Checks, frame: Frame, precise: int) -> None:
        for register, word in enumerate(frame.ids):
            value = frame.vals[register]
            if not word or value is None:
                continue
            if not value.is_scalar:
                checks.pointers.append((register, word))
            elif precise >> register & 1:
                checks.numbers.append((register, word))


def _same_sections(stored: Checkpoint, state: State, ids: IdMap) -> bool:
    """Whether the same spin lock, or none, is held, and the path is in as many sections of each kind."""
    if stored.rcu != state.rcu or stored.preempt != state.preempt or len(stored.irqs) != len(state.irqs):
        return False
    for saved, now in zip(stored.irqs, state.irqs):
        if not ids.match(saved[0], now[0]):
            return False
    mine, other = stored.lock, state.lock
    while mine is not None and other is not None:
        if mine.home is not other.home or mine.kind != other.kind or not ids.match(mine.identity, other.identity):
            return False
        mine, other = mine.outer, other.outer
    return mine is other


def _limited(frame: Frame, depth: int) -> dict[int, Slot]:
    return {place: slot for place, slot in frame.slots.items() if 8 * place < depth}
