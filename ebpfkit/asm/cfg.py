"""Basic blocks and edges of a program. Paths, states and loops are the verifier's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ebpfkit.asm.codec import SLOT_SIZE, resolve_labels, slot_starts
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.asm.labels import target_slot
from ebpfkit.errors import AsmError, NotSupported

__all__ = ["Block", "Cfg", "Edge", "EdgeKind", "build_cfg"]


class EdgeKind(Enum):
    """Why control goes from one block to the next."""

    FALL = "fall"  # the next instruction, or the branch not taken
    JUMP = "jump"  # the branch taken


@dataclass(frozen=True, slots=True)
class Edge:
    """From block `source` to block `target`, by index."""

    source: int
    target: int
    kind: EdgeKind


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions `first` to `last` (indices, both included), which run one after the other; `slot` is the first's."""

    index: int
    slot: int
    first: int
    last: int
    successors: tuple[Edge, ...]
    predecessors: tuple[Edge, ...]
    falls_off: bool  # control would run past the end of the program


@dataclass(frozen=True, slots=True)
class Cfg:
    """The blocks in program order, and those where functions begin (the first, targets of local calls, callbacks).

    Calls are no edges: control comes back to the next instruction.
    """

    blocks: tuple[Block, ...]
    functions: tuple[int, ...]

    def reachable(self) -> set[int]:
        """The blocks that some function reaches, calls included."""
        seen: set[int] = set()
        todo = list(self.functions)
        while todo:
            index = todo.pop()
            if index not in seen:
                seen.add(index)
                todo.extend(edge.target for edge in self.blocks[index].successors)
        return seen


def build_cfg(insns: Sequence[Instruction]) -> Cfg:
    """The control flow of a program.

    Raises AsmError for a jump or call to a place where no instruction begins, NotSupported for `gotox`, whose targets
    are not in the instruction.
    """
    insns = resolve_labels(insns)
    if not insns:
        return Cfg((), ())
    starts = slot_starts(insns)
    index_of = {slot: index for index, slot in enumerate(starts)}
    jumps: dict[int, int] = {}
    entries = {0}
    leaders = {0}
    for index, insn in enumerate(insns):
        target = _target_slot(insn, starts[index])
        if target is not None:
            found = index_of.get(target)
            if found is None:
                place = f"slot {starts[index]} (byte {starts[index] * SLOT_SIZE:#x})"
                raise AsmError(
                    f"{place}: {insn.op.name} goes to slot {target}, where no instruction begins",
                    span=insn.span,
                )
            leaders.add(found)
            if insn.op.kind in (Kind.CALL, Kind.WIDE):
                entries.add(found)
            else:
                jumps[index] = found
        if _ends_block(insn) and index + 1 < len(insns):
            leaders.add(index + 1)
    return _link(insns, starts, sorted(leaders), jumps, entries)


def _target_slot(insn: Instruction, slot: int) -> int | None:
    if insn.op.kind is Kind.GOTO_INDIRECT:
        raise NotSupported("the control flow of gotox", why="its targets are in a map", span=insn.span)
    return target_slot(insn, slot)


def _ends_block(insn: Instruction) -> bool:
    return insn.op.kind in (Kind.JUMP, Kind.GOTO, Kind.MAY_GOTO, Kind.EXIT)


def _link(
    insns: Sequence[Instruction], starts: list[int], leaders: list[int], jumps: dict[int, int], entries: set[int]
) -> Cfg:
    block_of = {first: number for number, first in enumerate(leaders)}
    bounds = list(zip(leaders, [first - 1 for first in leaders[1:]] + [len(insns) - 1], strict=True))
    outgoing: list[tuple[Edge, ...]] = []
    incoming: list[list[Edge]] = [[] for _ in leaders]
    falls_off = []
    for number, (_, last) in enumerate(bounds):
        edges = []
        falls = insns[last].op.kind not in (Kind.GOTO, Kind.EXIT)
        falls_off.append(falls and last + 1 == len(insns))
        if falls and last + 1 < len(insns):
            edges.append(Edge(number, block_of[last + 1], EdgeKind.FALL))
        if last in jumps:
            edges.append(Edge(number, block_of[jumps[last]], EdgeKind.JUMP))
        outgoing.append(tuple(edges))
        for edge in edges:
            incoming[edge.target].append(edge)
    blocks = tuple(
        Block(number, starts[first], first, last, outgoing[number], tuple(incoming[number]), falls_off[number])
        for number, (first, last) in enumerate(bounds)
    )
    return Cfg(blocks, tuple(sorted(block_of[entry] for entry in entries)))
