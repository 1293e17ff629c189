"""Names for the places that jumps and calls go to, so that a program reads and assembles without distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ebpfkit._bits import to_signed
from ebpfkit.asm.codec import slot_starts
from ebpfkit.asm.insn import FuncRef, Instruction, Label
from ebpfkit.asm.isa import Kind
from ebpfkit.asm.scanner import is_label_name

__all__ = ["label_targets", "target_slot"]


def target_slot(insn: Instruction, slot: int) -> int | None:
    """The slot that a jump, a local call or the address of a function goes to; `slot` is where it stands."""
    kind = insn.op.kind
    if kind in (Kind.JUMP, Kind.GOTO, Kind.MAY_GOTO):
        return slot + 1 + insn.off
    if insn.op.name == "CALL_LOCAL":
        return slot + 1 + insn.imm
    if insn.op.name == "LDDW_FUNC":
        return slot + 1 + to_signed(insn.imm, 32)
    return None


def label_targets(insns: Sequence[Instruction], functions: Mapping[int, str] | None = None) -> list[Instruction]:
    """The same program with a label at every place that is gone to, and a reference to it where one goes.

    `functions` names those that begin at a slot; other places are called `L` and their slot. Labels that are there
    already stay. Distances to places where no instruction begins stay distances.
    """
    starts = slot_starts(insns)
    known = set(starts)
    names = {slot: insn.labels[0] for slot, insn in zip(starts, insns, strict=True) if insn.labels}
    taken = set(names.values())
    added: dict[int, str] = {}

    def add(slot: int, name: str) -> None:
        while name in taken:
            name += "_"
        taken.add(name)
        names[slot] = added[slot] = name

    for slot, name in (functions or {}).items():
        if slot in known and slot not in names:
            add(slot, name if is_label_name(name) else f"function_{slot}")
    for slot, insn in zip(starts, insns, strict=True):
        target = target_slot(insn, slot)
        if target is not None and target in known and target not in names:
            name = insn.ref.name if isinstance(insn.ref, FuncRef) else ""
            add(target, name if is_label_name(name) else f"L{target}")
    labelled = []
    for slot, insn in zip(starts, insns, strict=True):
        target = target_slot(insn, slot)
        ref = Label(names[target]) if target is not None and target in names else insn.ref
        labels = (added[slot], *insn.labels) if slot in added else insn.labels
        labelled.append(insn.replace(ref=ref, labels=labels))
    return labelled
