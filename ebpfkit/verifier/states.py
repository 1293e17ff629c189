"""When a stored state covers the current one, and what a stored state may forget.

Three levels: `NOT_EXACT` prunes finished states (numbers count only where precise), `RANGE_WITHIN` lets loops converge
(every number counts), `EXACT` finds loops without progress. The comparison of a finished state is compiled once into a
list of checks, cheap identity tests first; ids are matched one to one at the end.
"""

from __future__ import annotations

from typing import Any

from ebpfkit.verifier.domain import tnum
from ebpfkit.verifier.domain.pointer import MAP_VALUE, MEM, PACKET, PACKET_META, Pointer
from ebpfkit.verifier.domain.scalar import Scalar
from ebpfkit.verifier.domain.values import Value, Values
from ebpfkit.verifier.liveness import StackLiveness
from ebpfkit.verifier.state import (
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
_LINKS = LINK32 | LINK64


def clean(stored: Checkpoint, live: list[int]) -> None:
    """Forget what is dead in a finished state."""
    stored.cleaned = True
    stored.checks = None
    last = len(stored.frames) - 1
    innermost = stored.frames[-1].chain
    for number, frame in enumerate(stored.frames):
        index = stored.index if number == last else stored.frames[number + 1].site
        mask = live[index]
        vals = frame.vals
        for register in range(10):
            if not mask >> register & 1:
                vals[register] = None
                frame.ids[register] = 0
        alive = StackLiveness.live_mask(innermost, stored.index, number)
        if frame.slots:
            frame.slots = {n: slot for n, slot in frame.slots.items() if alive >> n & 1}
            frame.shared = False


def may_loop(stored: Checkpoint, state: State) -> bool:
    """Whether the current frame's registers are the very same: the cheap first question of loop detection."""
    old, new = stored.frames, state.frames
    return len(old) == len(new) and old[-1].vals == new[-1].vals and old[-1].ids == new[-1].ids


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
    if old.kind != new.kind or old.nullable != new.nullable or old.target != new.target:
        return False
    if old.off != new.off or old.readonly != new.readonly or old.record != new.record:
        return False
    if old.kind in (PACKET, PACKET_META):
        if old.range < 0 or new.range < 0:
            if old.range != new.range:
                return False
        elif old.range > new.range:
            return False
        return old.var is new.var or is_within(old.var, new.var)
    if old.kind in (MAP_VALUE, MEM):
        return old.var is new.var or is_within(old.var, new.var)
    return old is new


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


class _Check:
    """One place of a stored state that the current one is held against."""

    __slots__ = ("frame", "id", "place", "precise", "value")

    def __init__(self, frame: int, place: int, value: Any, identity: int, precise: bool) -> None:
        self.frame = frame
        self.place = place
        self.value = value
        self.id = identity
        self.precise = precise


class _Checks:
    """The compiled comparison of a finished state."""

    __slots__ = ("identical", "kinds", "slots", "values")

    def __init__(self) -> None:
        self.identical: list[tuple[int, int, Any]] = []  # (frame, register, value): must be this very value
        self.kinds: list[tuple[int, int]] = []  # must be some number
        self.values: list[_Check] = []
        self.slots: list[tuple[int, int, Slot, bool]] = []


class Comparison:
    """Comparisons of one verification; containment of values is memoised by identity."""

    def __init__(self, values: Values, privileged: bool) -> None:
        self.values = values
        self.privileged = privileged
        self._memo: dict[tuple[Any, Any], bool] = {}
        self._types: dict[tuple[bytes, bytes], bool] = {}

    # -- values --------------------------------------------------------------------------------------------------

    def contains(self, old: Any, new: Any) -> bool:
        """Whether `new` is covered by `old`, of one kind or not, ids apart."""
        if old is new:
            return True
        key = (old, new)
        found = self._memo.get(key)
        if found is None:
            if old.is_scalar or new.is_scalar:
                found = old.is_scalar and new.is_scalar and is_within(old, new)
            else:
                found = is_covered(old, new)
            self._memo[key] = found
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
            if not new.is_scalar:
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
        if all(t == MISC or (t == INVALID and self.privileged) for t in types):
            return self.values.unknown, 0
        return None

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
        if level == EXACT and old.types != (new.types if new is not None else _EMPTY.types):
            return False
        if old is new and not old.id:
            return True
        if not any(t not in (INVALID, MISC) if self.privileged else t != INVALID for t in old.types):
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
        return True

    # -- states --------------------------------------------------------------------------------------------------

    def covers(self, stored: Checkpoint, state: State, level: int) -> bool:
        """Whether what was proved from `stored` on holds for the current state too."""
        if not stored.is_at_same_calls(state.frames) or len(stored.references) != len(state.references):
            return False
        if level == NOT_EXACT:
            return self._covers_finished(stored, state)
        ids = IdMap()
        for old, new in zip(stored.references, state.references):
            if not ids.match(old[0], new[0]):
                return False
        for number, (old_frame, new_frame) in enumerate(zip(stored.frames, state.frames)):
            registers, slots = stored.marks[number]
            for register in range(10):
                if not self._register(
                    old_frame.vals[register],
                    old_frame.ids[register],
                    new_frame.vals[register],
                    new_frame.ids[register],
                    bool(registers >> register & 1),
                    ids,
                    level,
                ):
                    return False
            if level == EXACT and old_frame.depth > new_frame.depth:
                return False
            places = old_frame.slots if level != EXACT else {**old_frame.slots, **_limited(new_frame, old_frame.depth)}
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

    def _covers_finished(self, stored: Checkpoint, state: State) -> bool:
        checks: _Checks | None = stored.checks
        if checks is None:
            checks = stored.checks = self._compile(stored)
        frames = state.frames
        for frame, register, value in checks.identical:
            if frames[frame].vals[register] is not value:
                return False
        for frame, register in checks.kinds:
            value = frames[frame].vals[register]
            if value is None or not value.is_scalar:
                return False
        contains = self.contains
        for check in checks.values:
            new = frames[check.frame].vals[check.place]
            old = check.value
            if new is not old and (new is None or not contains(old, new)):
                return False
        ids = IdMap()
        for mine, other in zip(stored.references, state.references):
            if not ids.match(mine[0], other[0]):
                return False
        for frame, place, slot, precise in checks.slots:
            current = frames[frame]
            if not self._slot(slot, current.slots.get(place), precise, ids, NOT_EXACT, current.depth > 8 * place):
                return False
        for check in checks.values:
            new_id = frames[check.frame].ids[check.place]
            if check.value.is_scalar:
                if not ids.match_scalars(check.id, new_id):
                    return False
            elif not ids.match_pointers(check.id, new_id):
                return False
        return True

    def _compile(self, stored: Checkpoint) -> _Checks:
        checks = _Checks()
        for number, frame in enumerate(stored.frames):
            registers, slots = stored.marks[number]
            for register in range(10):
                value = frame.vals[register]
                if value is None:
                    continue
                precise = bool(registers >> register & 1)
                if value.is_scalar and not precise:
                    checks.kinds.append((number, register))
                    continue
                if value.is_scalar and value.const is not None:
                    checks.identical.append((number, register, value))
                checks.values.append(_Check(number, register, value, frame.ids[register], precise))
            for place, slot in frame.slots.items():
                if any(t not in (INVALID, MISC) if self.privileged else t != INVALID for t in slot.types):
                    checks.slots.append((number, place, slot, bool(slots >> place & 1)))
        return checks


def _limited(frame: Frame, depth: int) -> dict[int, Slot]:
    return {place: slot for place, slot in frame.slots.items() if 8 * place < depth}
