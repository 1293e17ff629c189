"""Stored states: where they are made and dropped, and when the path being walked ends at one.

Where the kernel stores a state, how long it keeps it, and in which order it compares decide how many instructions are
walked, so all of that is the kernel's. What "covers" means is in `states`; what a stored state relied on is followed by
`precision`; the walk itself is in `explore`.
"""

from __future__ import annotations

from ebpfkit.verifier.liveness import StackLiveness
from ebpfkit.verifier.precision import Precision
from ebpfkit.verifier.program import CALLS_BACK, FORCED, ITERATES, JUMP_POINT, Code
from ebpfkit.verifier.rejection import Rejection
from ebpfkit.verifier.state import Checkpoint, Frame, History, State
from ebpfkit.verifier.states import EXACT, RANGE_WITHIN, Comparison, clean, may_loop
from ebpfkit.verifier.transfer.iteration import depths_differ, is_active_at

__all__ = ["Checkpoints"]

_MAX_ROUNDS = 64
_PATIENCE = 3
_FORCED_PATIENCE = 64
_MAX_HISTORY = 40


class _Place:
    """The states stored at one instruction of one call site, the latest first. `fresh` are those not cleaned yet."""

    __slots__ = ("fresh", "states")

    def __init__(self) -> None:
        self.states: list[Checkpoint] = []
        self.fresh: list[Checkpoint] = []


class _BackEdge:
    """A path that ended at a state of a loop still being walked: what that state relies on later concerns it too."""

    __slots__ = ("index", "state", "stored")

    def __init__(self, state: State, index: int, stored: Checkpoint) -> None:
        self.state = state
        self.index = index
        self.stored = stored


class _LoopVisit:
    """One entry into a loop (a strongly connected component in one call chain)."""

    __slots__ = ("edges", "entry")

    def __init__(self) -> None:
        self.entry: Checkpoint | None = None
        self.edges: list[_BackEdge] = []


class Checkpoints:
    """The stored states of one walk. `jumps` counts the jump-class instructions walked so far."""

    def __init__(self, code: Code, comparison: Comparison, precision: Precision, stack: StackLiveness) -> None:
        self.code = code
        self.comparison = comparison
        self.precision = precision
        self.stack_liveness = stack
        self.same = EXACT  # what makes a state seen on the same path an infinite loop
        self.jumps = 0
        self.total = 0
        self._last_jumps = 0
        self._last_processed = 0
        self._places: dict[tuple[int, int], _Place] = {}
        self._loops: dict[tuple[int, ...], _LoopVisit] = {}
        self._open_edges = 0
        self._has_loops = any(code.loops)

    def forget(self) -> None:
        """Another function is walked now: nothing that is stored concerns it."""
        self._places = {}
        self._loops = {}
        self._open_edges = 0

    def find_open(self, index: int, frame: Frame, depth: int) -> Checkpoint | None:
        """The latest checkpoint at this place on the current path with fewer than `depth` checkpoints above it."""
        place = self._places.get((index, frame.site))
        for stored in place.states if place is not None else ():
            if stored.branches and stored.chain is frame.chain and stored.depth < depth:
                return stored
        return None

    def visit(self, state: State, frame: Frame, index: int, flag: int, processed: int) -> bool:
        """Whether a stored state covers the current one; if not, store it where the kernel would."""
        history = state.history
        new_jumps = self.jumps - self._last_jumps
        new_insns = processed - self._last_processed
        kept = flag & FORCED
        forced = kept or (history is not None and history.count > _MAX_HISTORY)
        add = (new_jumps >= 2 and new_insns >= 8) or forced
        key = (index, frame.site)
        place = self._places.get(key)
        if place is not None and place.states:
            for stored in place.fresh:
                if not stored.branches:
                    self._clean(place, frame)
                    break
            may_skip = not forced and new_jumps < 20 and new_insns < 100
            vals = frame.vals
            evicted: list[Checkpoint] = []
            ended = False
            found = None
            covers = self._is_covered if self._open_edges else self.comparison.covers_finished
            for stored in place.states:
                if stored.branches:
                    if (kept or stored.frames[-1].vals == vals) and self._meets_open(stored, state, frame, index, flag):
                        ended = True
                        break
                    if may_skip:
                        add = False
                elif vals[stored.place] not in stored.misfits and covers(stored, state):
                    found = stored
                    break
                if add:
                    misses = stored.misses = stored.misses + 1
                    if misses > _PATIENCE:
                        patience = _FORCED_PATIENCE if kept and stored.branches else _PATIENCE
                        if misses > stored.hits * patience + patience:
                            evicted.append(stored)
            for stored in evicted:
                place.states.remove(stored)
                if stored in place.fresh:
                    place.fresh.remove(stored)
            if found is not None:
                self._hit(found, state, index, flag, bool(self._open_edges) and self._in_open_loop(found))
                return True
            if ended:
                return True
        if add:
            if place is None:
                place = self._places[key] = _Place()
            self._store(place, state, index, processed)
        return False

    def _clean(self, place: _Place, frame: Frame) -> None:
        """Let finished states forget what is dead; it counts when the walk comes by, not when they finish."""
        left = []
        for stored in place.fresh:
            if stored.branches or stored.chain is not frame.chain or (self._open_edges and self._in_open_loop(stored)):
                left.append(stored)
            else:
                clean(stored, self.code.live, self.stack_liveness)
        place.fresh = left

    def _meets_open(self, stored: Checkpoint, state: State, frame: Frame, index: int, flag: int) -> bool:
        """The stored state is still being explored: either a loop converges here, or it never ends."""
        covers = self.comparison.covers
        if flag & ITERATES:
            if covers(stored, state, RANGE_WITHIN) and is_active_at(state):
                self._hit(stored, state, index, flag, True)
                return True
            return False
        if (
            flag & FORCED
            and (flag & CALLS_BACK or stored.goto_depth != state.goto_depth)
            and covers(stored, state, RANGE_WITHIN)
        ):
            self._hit(stored, state, index, flag, not flag & CALLS_BACK)
            return True
        if (
            may_loop(stored, frame)
            and not flag & CALLS_BACK
            and not _is_other_entry(stored, frame)
            and covers(stored, state, self.same)
            and stored.goto_depth == state.goto_depth
            and stored.unrolled == state.unrolled
            and not depths_differ(stored.frames, state.frames)
        ):
            message = f"infinite loop detected at insn {self.code.slot_of(index)}"
            raise Rejection("infinite-loop", message, index=index)
        return False

    def _is_covered(self, stored: Checkpoint, state: State) -> bool:
        if self._in_open_loop(stored):
            return self.comparison.covers(stored, state, RANGE_WITHIN)
        return self.comparison.covers_finished(stored, state)

    def _store(self, place: _Place, state: State, index: int, processed: int) -> None:
        self._last_jumps = self.jumps
        self._last_processed = processed
        checkpoint = Checkpoint(state, index)
        if self._has_loops:
            self._enter_loop(checkpoint)
        state.parent = checkpoint
        state.first = index
        state.depth = checkpoint.depth + 1
        state.history = None
        place.states.insert(0, checkpoint)
        place.fresh.append(checkpoint)
        self.total += 1

    def _hit(self, stored: Checkpoint, state: State, index: int, flag: int, loop: bool) -> None:
        stored.hits += 1
        relied = self.precision.relied_on(stored)
        if not relied and not loop:
            return
        if flag & JUMP_POINT:
            state.history = History(state.history, index, state.previous)
        if relied:
            self.precision.demand_all(state, index, relied)
        if loop:
            visit = self._loops.get(self._loop_key(stored) or ())
            if visit is not None:
                visit.edges.append(_BackEdge(state, index, stored))
                self._open_edges += 1

    def finish(self, stored: Checkpoint | None) -> None:
        """A path from this state ended: it, and the states above where it was the last, have one branch less."""
        while stored is not None:
            stored.branches -= 1
            if stored.branches:
                break
            if self._loops:
                self._leave_loop(stored)
            stored = stored.parent

    # -- loops -------------------------------------------------------------------------------------------------------

    def _loop_key(self, stored: Checkpoint) -> tuple[int, ...] | None:
        """The loop around the state: the outermost frame that is in one, with the call sites that lead there."""
        loops = self.code.loops
        sites: list[int] = []
        last = len(stored.frames) - 1
        for number in range(last + 1):
            index = stored.index if number == last else stored.frames[number + 1].site
            if loops[index]:
                return (*sites, -loops[index])
            sites.append(index)
        return None

    def _enter_loop(self, stored: Checkpoint) -> None:
        key = self._loop_key(stored)
        if key is None:
            return
        visit = self._loops.get(key)
        if visit is None:
            visit = self._loops[key] = _LoopVisit()
        if visit.entry is None:
            visit.entry = stored

    def _in_open_loop(self, stored: Checkpoint) -> bool:
        if not self._open_edges:
            return False
        key = self._loop_key(stored)
        visit = self._loops.get(key) if key is not None else None
        return visit is not None and bool(visit.edges)

    def _leave_loop(self, stored: Checkpoint) -> None:
        """The loop's first state is finished: let marks flow round its back edges until they settle."""
        key = self._loop_key(stored)
        visit = self._loops.get(key) if key is not None else None
        if visit is None or visit.entry is not stored:
            return
        for rounds in range(_MAX_ROUNDS + 1):
            changed = False
            for edge in visit.edges:
                if rounds == _MAX_ROUNDS:
                    self.precision.mark_all(edge.state)
                elif self.precision.demand_like(edge.state, edge.index, edge.stored):
                    changed = True
            if not changed:
                break
        self._open_edges -= len(visit.edges)
        visit.edges = []
        visit.entry = None


def _is_other_entry(stored: Checkpoint, frame: Frame) -> bool:
    """Whether the stored state belongs to another entry into an asynchronous callback."""
    mine, theirs = stored.frames[-1].callback, frame.callback
    if mine is None or not mine.is_async:
        return False
    return theirs is None or theirs.entries != mine.entries
