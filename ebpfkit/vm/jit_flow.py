"""What registers certainly hold at each instruction, as far as generated code profits from knowing it.

A forward walk over one program: the offset of a stack or context pointer, the map behind a map pointer or a map value.
What it finds chooses between ways to do an access; in safe mode none of them reaches memory outside the regions even if
a fact were wrong. Belongs here: facts and the instructions that are reachable. Does not belong here: code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ebpfkit._bits import to_signed
from ebpfkit.asm.insn import Instruction, KfuncRef
from ebpfkit.asm.isa import Kind
from ebpfkit.vm.kfuncs_registry import CALLBACK_KFUNCS
from ebpfkit.vm.steps import written_register

__all__ = ["CALLBACK_HELPERS", "OTHER", "UNKNOWN", "Fact", "Flow", "Linked", "walk"]


class Fact(NamedTuple):
    """`kind`: "unknown", "other" (no pointer to fields), "stack", "context", "map", "value" (number is the map) or
    "place" (number is a constant address). `off` is what was added, None when that is not constant."""

    kind: str
    number: int = 0
    off: int | None = 0


UNKNOWN: Final = Fact("unknown")
OTHER: Final = Fact("other")
_MOVING = ("stack", "context", "value", "place")
_FRAME = 10
_LOOKUP = 1
CALLBACK_HELPERS: Final = frozenset({164, 181, 209})
_TAIL_CALL = 12
Facts = tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Linked:
    """One linked program: its instructions by slot of the common numbering, [base, end)."""

    base: int
    end: int
    instructions: dict[int, Instruction]
    targets: tuple[int, ...] = ()  # slots that indirect jumps are meant for

    def target(self, slot: int, distance: int) -> int:
        """Where a jump goes; `end` for a place outside."""
        target = slot + 1 + distance
        return target if self.base <= target < self.end else self.end


@dataclass(frozen=True, slots=True)
class Flow:
    """Facts before each reachable slot, the entries, and where blocks begin."""

    facts: dict[int, Facts]
    entries: tuple[int, ...]
    leaders: frozenset[int]


def calls_back(insn: Instruction) -> bool:
    """Whether what is called may run functions of the program."""
    if insn.op.name == "CALL_KFUNC":
        return isinstance(insn.ref, KfuncRef) and insn.ref.name in CALLBACK_KFUNCS
    return insn.op.kind is Kind.CALL_INDIRECT or (insn.op.name == "CALL" and insn.imm in CALLBACK_HELPERS)


def walk(
    linked: Linked, start: Facts, constant: Callable[[Instruction], Fact], is_fault: Callable[[Instruction], bool]
) -> Flow:
    """Follow every path from the start and from functions whose address is taken.

    `constant` says what a wide load gives; `is_fault` which instructions always stop.
    """
    facts: dict[int, Facts] = {}
    leaders: set[int] = {linked.base}
    entries: list[int] = [linked.base]
    todo: list[int] = []

    def reach(slot: int, state: Facts, leader: bool) -> None:
        if leader:
            leaders.add(slot)
        known = facts.get(slot)
        merged = state if known is None else tuple(map(_join, known, state))
        if merged != known:
            facts[slot] = merged
            todo.append(slot)

    reach(linked.base, start, True)
    while todo:
        slot = todo.pop()
        insn = linked.instructions.get(slot)
        if insn is None or is_fault(insn):
            continue
        state = facts[slot]
        if insn.op.operation == "func":
            function = linked.target(slot, to_signed(insn.imm, 32))
            if function not in entries:
                entries.append(function)
                reach(function, (*(UNKNOWN,) * 10, Fact("stack")), True)
        for target, then, leader in _successors(linked, slot, insn, state, constant):
            reach(target, then, leader)
    # Where control can get into the middle of a wide load, what follows the load is not the next slot.
    leaders.update(slot + 2 for slot in facts if slot + 1 in facts and _is_wide(linked, slot))
    return Flow(facts, tuple(entries), frozenset(leaders))


def _is_wide(linked: Linked, slot: int) -> bool:
    insn = linked.instructions.get(slot)
    return insn is not None and insn.slots == 2


def _successors(
    linked: Linked, slot: int, insn: Instruction, state: Facts, constant: Callable[[Instruction], Fact]
) -> Iterable[tuple[int, Facts, bool]]:
    """(slot, facts there, whether a block begins there) of what may come next."""
    kind, following = insn.op.kind, slot + insn.slots
    if kind is Kind.EXIT:
        return
    if kind is Kind.GOTO:
        yield linked.target(slot, insn.off), state, True
    elif kind in (Kind.JUMP, Kind.MAY_GOTO):
        yield linked.target(slot, insn.off), state, True
        yield following, state, True
    elif insn.op.name == "CALL_LOCAL":
        inside = tuple(OTHER if fact.kind == "stack" else fact for fact in state[:10])
        yield linked.target(slot, insn.imm), (*inside, Fact("stack")), True
        yield following, (*(UNKNOWN,) * 6, *state[6:]), True
    elif kind is Kind.GOTO_INDIRECT:
        for target in linked.targets:
            yield target, state, True
    elif kind in (Kind.CALL, Kind.CALL_INDIRECT):
        yield (
            following,
            _after_helper(insn, state),
            calls_back(insn) or (insn.op.name == "CALL" and insn.imm == _TAIL_CALL),
        )
    elif kind is Kind.PACKET:
        yield following, (OTHER, *state[1:]), True
    else:
        register = written_register(insn)
        if insn.op.operation == "cmpxchg":
            register = 0
        after = list(state)
        if register is not None:
            after[register] = _result(insn, state, constant)
        yield following, tuple(after), False


def _after_helper(insn: Instruction, state: Facts) -> Facts:
    if calls_back(insn):
        return (*(UNKNOWN,) * 6, *state[6:])
    result = UNKNOWN
    if insn.op.name == "CALL" and insn.imm == _LOOKUP and state[1].kind == "map" and state[1].off == 0:
        result = Fact("value", state[1].number)
    return (result, *state[1:])


def _result(insn: Instruction, state: Facts, constant: Callable[[Instruction], Fact]) -> Fact:
    kind, dst = insn.op.kind, state[insn.dst]
    if kind is Kind.WIDE:
        return constant(insn)
    if kind is Kind.MOV and insn.op.width == 64 and insn.op.source == "reg":
        return state[insn.src]
    if kind is Kind.MOV:
        return OTHER
    if kind is Kind.ALU and insn.op.width == 64 and insn.op.operation in ("add", "sub"):
        if insn.op.source == "imm":
            sign = 1 if insn.op.operation == "add" else -1
            return _moved(dst, sign * insn.imm)
        pointers = {dst.kind, state[insn.src].kind}
        return UNKNOWN if pointers & {"unknown", "context"} else _moved(dst, None)
    if kind is Kind.ALU and UNKNOWN not in (dst, state[insn.src] if insn.op.source == "reg" else OTHER):
        return OTHER
    if kind in (Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE):
        if state[insn.src].kind == "context":
            return OTHER if insn.op.size <= 4 else UNKNOWN  # pointers to sockets take 8 bytes
        return OTHER if state[insn.src].kind in ("value", "place") else UNKNOWN
    return UNKNOWN


def _moved(fact: Fact, distance: int | None) -> Fact:
    if fact.kind not in _MOVING:
        return OTHER if fact.kind == "map" else fact
    if distance is None and fact.kind != "value":
        return UNKNOWN if fact.kind == "context" else OTHER
    off = None if distance is None or fact.off is None else fact.off + distance
    return Fact(fact.kind, fact.number, off)


def _join(a: Fact, b: Fact) -> Fact:
    if a == b:
        return a
    if a.kind == b.kind == "value" and a.number == b.number:
        return Fact("value", a.number, None)
    if {a.kind, b.kind} & {"unknown", "context"}:
        return UNKNOWN
    return OTHER
