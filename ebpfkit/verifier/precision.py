"""Which numbers a proof relied on: walking back along the recorded path from where a number was needed.

A state stored earlier covers a later one only if the numbers that decided something (a branch, an address, a size) are
covered; the others may be anything. So each demand is carried backwards through moves, arithmetic, spills and calls,
and marked in every checkpoint on the way. Marks live in checkpoints; the current state needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.asm.isa import Kind
from ebpfkit.verifier.program import CALLS_BACK, JUMP_POINT, Code
from ebpfkit.verifier.state import SPILL, Checkpoint, Note, Slot, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Precision"]

_ARGUMENTS = 0b111110

# How a demand passes an instruction backwards.
(
    _NOTHING, _MOVE, _DEFINE, _COMBINE, _LOAD, _STORE, _STORE_REGISTER, _CALL, _CALL_LOCAL, _CALL_GLOBAL, _EXIT,
    _COMPARE, _GIVE_UP, _CALL_TAIL, _CALL_BACK,
) = range(15)  # fmt: skip
_FRAME_CHANGES = frozenset({_CALL_LOCAL, _CALL_GLOBAL, _CALL_BACK, _EXIT})

_FRAME = 1 << 12  # no register: stands for a change of the frame
_Step = tuple[int, int, int]  # kind, mask of dst, mask of src
Demand = list[list[int]]  # per frame: mask of registers, mask of slots


def _steps(code: Code) -> list[_Step]:
    return [_step_of(code, index) for index in range(len(code.insns))]


def _step_of(code: Code, index: int) -> _Step:
    insn = code.insns[index]
    op = insn.op
    dst, src = 1 << insn.dst, 1 << insn.src
    from_register = op.source == "reg"
    match op.kind:
        case Kind.ALU:
            kind = _COMBINE if from_register else _NOTHING
        case Kind.MOV:
            kind = _MOVE if from_register else _DEFINE
        case Kind.MOVSX:
            kind = _MOVE
        case Kind.LOAD | Kind.LOADSX | Kind.LOAD_ACQUIRE:
            kind = _LOAD
        case Kind.STORE:
            kind = _STORE_REGISTER if from_register else _STORE
        case Kind.ATOMIC | Kind.STORE_RELEASE:
            kind = _STORE_REGISTER
        case Kind.JUMP:
            kind = _COMPARE if from_register else _NOTHING
        case Kind.WIDE:
            kind = _DEFINE
        case Kind.PACKET:
            kind, dst = _GIVE_UP, 1
        case Kind.EXIT:
            kind = _EXIT
        case Kind.CALL:
            kind = _CALL_TAIL if code.is_tail_call(index) else _CALL
            if code.flags[index] & CALLS_BACK:
                kind = _CALL_BACK
            target = code.targets[index]
            if target is not None:
                kind = _CALL_GLOBAL if code.subprogram_at(target).is_global else _CALL_LOCAL
        case _:
            kind = _NOTHING
    if kind in (_MOVE, _COMBINE, _COMPARE) and insn.src == 10:
        src = 0  # the frame pointer is never a number
    return kind, dst, src


def _touched(step: _Step) -> int:
    """The registers of which a demand meets the instruction; with `_FRAME`, any demand does."""
    kind, dst, src = step
    if kind in (_CALL_LOCAL, _EXIT, _CALL_TAIL, _CALL_BACK):
        return _FRAME
    if kind in (_CALL, _CALL_GLOBAL):
        return 1
    if kind == _COMPARE:
        return dst | src
    return 0 if kind == _NOTHING else dst


class Precision:
    """Backtracking over one program."""

    def __init__(self, code: Code, follows_calls: bool = True) -> None:
        self.code = code
        self.follows_calls = follows_calls  # into functions and out of them; older kernels give up there
        self.steps = _steps(code)
        self.touched = [
            _touched(step) | (0 if follows_calls or step[0] not in _FRAME_CHANGES else _FRAME) for step in self.steps
        ]
        # The same for all instructions of the straight line that leads from a jump's target to the instruction.
        self.touched_before = self.touched[:]
        for index in range(1, len(self.steps)):
            if not code.flags[index] & JUMP_POINT:
                self.touched_before[index] |= self.touched_before[index - 1]

    def demand_register(self, state: State, index: int, register: int) -> None:
        """The number in `register` of the current frame, before the instruction `index`, decided something."""
        last = len(state.frames) - 1
        demand = [[0, 0] for _ in state.frames] if last else [[0, 0]]
        demand[last][0] = 1 << register
        self._walk_back(state, index, demand, last)

    def demand_slot(self, state: State, index: int, frame: int, slot: int) -> None:
        """The number spilled in `slot` of `frame` decided something."""
        demand = [[0, 0] for _ in state.frames]
        demand[frame][1] = 1 << slot
        self._walk_back(state, index, demand, len(state.frames) - 1)

    def relied_on(self, stored: Checkpoint) -> tuple[tuple[int, int], ...]:
        """The numbers that `stored` relied on: per frame the masks of registers and of slots; () for none at all."""
        checks = stored.checks
        relied: tuple[tuple[int, int], ...] | None = checks.demand if checks is not None else None
        if relied is None:
            found = []
            for frame, (registers, slots) in zip(stored.frames, stored.marks):
                if registers:
                    registers = _scalar_registers(frame.vals, registers)
                if slots:
                    slots = _scalar_slots(frame.slots, slots)
                found.append((registers, slots))
            relied = tuple(found) if _is_any(found) else ()
            if checks is not None:
                checks.demand = relied  # `checks` goes when marks or contents change
        return relied

    def demand_like(self, state: State, index: int, stored: Checkpoint) -> bool:
        """What `stored` relied on is relied on along the current path too; returns whether a mark was new."""
        relied = self.relied_on(stored)
        return bool(relied) and self.demand_all(state, index, relied)

    def demand_all(self, state: State, index: int, relied: tuple[tuple[int, int], ...]) -> bool:
        """The numbers in these registers and slots, per frame, decided something; returns whether a mark was new."""
        demand = [[registers, slots] for registers, slots in relied]
        return self._walk_back(state, index, demand, len(state.frames) - 1)

    def mark_all(self, state: State) -> bool:
        """Give up following a demand: every number in every checkpoint above is precise."""
        changed = False
        parent = state.parent
        while parent is not None:
            for frame, marks in zip(parent.frames, parent.marks):
                registers = _scalar_registers(frame.vals, 0x3FF)
                slots = 0
                for number, slot in frame.slots.items():
                    if slot.types[0] == SPILL and slot.value is not None and slot.value.is_scalar:
                        slots |= 1 << number
                if registers & ~marks[0] or slots & ~marks[1]:
                    marks[0] |= registers
                    marks[1] |= slots
                    parent.checks = None
                    changed = True
            parent = parent.parent
        return changed

    def _walk_back(self, state: State, index: int, demand: Demand, frame: int) -> bool:
        steps, touched, touched_before = self.steps, self.touched, self.touched_before
        history, first, at = state.history, state.first, index
        parent = state.parent
        subsequent = -1
        changed = False
        current = demand[frame]
        skip = True
        while True:
            recorded = history.index if history is not None else -1  # the instruction of the latest entry
            mask = current[0] | _FRAME
            while True:
                if not skip and not touched_before[at] & mask:
                    # Nothing on the straight line up to here meets the demand, but what a note may tell.
                    if history is None:
                        break
                    if not history.is_note:
                        if recorded == first and history.count == 1:
                            break
                        subsequent = recorded
                        at, history = history.previous, history.before
                        recorded = history.index if history is not None else -1
                        continue
                    if at != recorded:
                        subsequent = recorded + 1
                        at = recorded
                entry = history if at == recorded else None
                if skip:
                    skip = False
                # Most instructions have nothing to do with the demand.
                elif touched[at] & mask or (entry is not None and entry.is_note):
                    note = entry if isinstance(entry, Note) else None
                    frame = self._pass(steps[at], at, subsequent, note, demand, frame)
                    if frame < 0:
                        return self.mark_all(state) or changed
                    current = demand[frame]
                    if not current[0] and not current[1] and not _is_any(demand):
                        return changed
                    mask = current[0] | _FRAME
                subsequent = at
                if at == first and (history is None or (entry is not None and entry.count == 1)):
                    break
                if entry is None:
                    at -= 1
                else:
                    at = entry.previous
                    history = entry.before
                    recorded = history.index if history is not None else -1
            if parent is None:
                break
            changed = _mark(parent, demand) or changed
            if not current[0] and not current[1] and not _is_any(demand):
                return changed
            subsequent = first
            history, first, at = parent.history, parent.first, parent.last
            parent = parent.parent
            if at < 0:
                break
        if self._is_entry_of_function(state, demand):
            return changed
        return self.mark_all(state) or changed

    @staticmethod
    def _is_entry_of_function(state: State, demand: Demand) -> bool:
        """Whether what is left are arguments of a global function that is walked on its own: known to no one."""
        registers, slots = demand[0]
        return state.frames[0].function.number > 0 and not slots and not registers & ~_ARGUMENTS

    def _pass(self, step: _Step, index: int, subsequent: int, entry: Note | None, demand: Demand, frame: int) -> int:
        """Move the demand in front of one instruction; returns the frame it now belongs to, -1 to give up."""
        kind, dst, src = step
        if entry is not None and entry.linked:
            _demand_linked(entry.linked, demand)
        current = demand[frame]
        if kind in _FRAME_CHANGES and not self.follows_calls:
            return -1
        if kind == _EXIT or (kind == _CALL_TAIL and index != subsequent - 1):
            if kind == _EXIT and subsequent >= 0 and self.steps[subsequent][0] == _CALL_BACK:
                current[0] &= ~_ARGUMENTS
            wanted = current[0] & 1 if subsequent > 0 and self.steps[subsequent - 1][0] == _CALL_LOCAL else 0
            current[0] &= ~1
            frame += 1
            if frame >= len(demand):
                demand.append([0, 0])
            demand[frame][0] |= wanted
            return frame
        if kind == _CALL_LOCAL:
            if frame == 0:
                return -1
            demand[frame - 1][0] |= current[0] & _ARGUMENTS
            if current[0] & ~_ARGUMENTS or current[1]:
                return -1
            current[0] = 0
            return frame - 1
        if kind == _CALL_BACK and index != subsequent - 1:
            # Where the callback begins: its arguments come from whoever calls it.
            if frame == 0 or current[0] & ~_ARGUMENTS or current[1]:
                return -1
            current[0] = 0
            return frame - 1
        if kind in (_CALL, _CALL_GLOBAL, _CALL_BACK, _CALL_TAIL):
            current[0] &= ~1
            return frame
        if kind in (_STORE, _STORE_REGISTER):
            if current[0] & dst:
                return -1
            if entry is not None and entry.slot >= 0 and demand[entry.frame][1] >> entry.slot & 1:
                demand[entry.frame][1] &= ~(1 << entry.slot)
                if kind == _STORE_REGISTER:
                    current[0] |= src
            return frame
        if kind == _COMPARE:
            if current[0] & (dst | src):
                operands = entry.stack_operands if entry is not None else 0
                current[0] |= (0 if operands & 1 else dst) | (0 if operands & 2 else src)
        elif current[0] & dst:
            if kind == _MOVE:
                current[0] = current[0] & ~dst | src
            elif kind == _DEFINE:
                current[0] &= ~dst
            elif kind == _COMBINE:
                current[0] |= src
            elif kind == _LOAD:
                current[0] &= ~dst
                if entry is not None and entry.slot >= 0:
                    demand[entry.frame][1] |= 1 << entry.slot
            elif kind == _GIVE_UP:
                return -1
        if entry is not None and entry.linked:
            _demand_linked(entry.linked, demand)
        return frame


def _is_any(demand: Iterable[Sequence[int]]) -> bool:
    """Whether anything is demanded (a plain loop: this runs at every step back)."""
    for frame in demand:  # noqa: SIM110 - any() costs a generator each time
        if frame[0] or frame[1]:
            return True
    return False


def _demand_linked(linked: Iterable[tuple[int, int]], demand: Demand) -> None:
    for frame, place in linked:
        if frame < len(demand) and (
            demand[frame][0] >> place & 1 if place >= 0 else demand[frame][1] >> (-1 - place) & 1
        ):
            break
    else:
        return
    for frame, place in linked:
        if place >= 0:
            demand[frame][0] |= 1 << place
        else:
            demand[frame][1] |= 1 << (-1 - place)


def _mark(parent: Checkpoint, demand: Demand) -> bool:
    """Mark what is demanded in a checkpoint and drop what need not go further up; returns whether a mark is new."""
    changed = False
    for frame, marks, wanted in zip(parent.frames, parent.marks, demand):
        registers, slots = wanted
        if registers:
            registers = wanted[0] = _scalar_registers(frame.vals, registers & ~marks[0])
        if slots:
            slots = wanted[1] = _scalar_slots(frame.slots, slots & ~marks[1])
        if registers or slots:
            marks[0] |= registers
            marks[1] |= slots
            parent.checks = None
            changed = True
    return changed


def _scalar_registers(vals: list[Any], mask: int) -> int:
    result = 0
    while mask:
        bit = mask & -mask
        mask ^= bit
        value = vals[bit.bit_length() - 1]
        if value is not None and value.is_scalar:
            result |= bit
    return result


def _scalar_slots(slots: dict[int, Slot], mask: int) -> int:
    result = 0
    while mask:
        bit = mask & -mask
        mask ^= bit
        slot = slots.get(bit.bit_length() - 1)
        if slot is not None and slot.types[0] == SPILL and slot.value is not None and slot.value.is_scalar:
            result |= bit
    return result
