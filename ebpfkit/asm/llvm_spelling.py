"""Instructions in LLVM's own spelling, as clang's assembler reads them and its `.s` has them.

It differs from the kernel's in spaces, in distances without `pc`, in exchanges (`xchg_64`), in decimal immediates of
jumps, and in calls by bare numbers. The kernel's own spelling is `printer`'s.
"""

from __future__ import annotations

from typing import Final

from ebpfkit.asm.insn import Instruction, Label, MapRef
from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.asm.printer import JUMP_SYMBOLS, LOCK_SYMBOLS, format_instruction

__all__ = ["NOT_IN_LLVM", "format_llvm"]

NOT_IN_LLVM: Final = {
    "INVALID": "data",
    "CALL_KFUNC": "a relocation names it",
    **{name: "a relocation names it" for name in OPCODES if name.startswith("LDDW_")},
}
"""Rows that LLVM's assembly has no spelling for by numbers alone."""


def format_llvm(insn: Instruction) -> str:
    """One instruction as LLVM writes it. Raises KeyError for the rows of NOT_IN_LLVM, except maps by name."""
    op = insn.op
    target = insn.ref.name if isinstance(insn.ref, Label) else f"{insn.off:+d}"
    if isinstance(insn.ref, MapRef):
        return f"r{int(insn.dst)} = {insn.ref.name} ll"
    if op.name in NOT_IN_LLVM:
        raise KeyError(op.name)
    if op.kind is Kind.JUMP:
        letter = "w" if op.width == 32 else "r"
        value = f"{letter}{int(insn.src)}" if op.source == "reg" else str(insn.imm)
        return f"if {letter}{int(insn.dst)} {JUMP_SYMBOLS[op.operation]} {value} goto {target}"
    if op.kind in (Kind.GOTO, Kind.MAY_GOTO):
        return f"{'goto' if op.operation == 'ja' else op.operation} {target}"
    if op.kind is Kind.CALL:
        return f"call {insn.ref.name if isinstance(insn.ref, Label) else insn.imm}"
    if op.kind is Kind.WIDE:
        return f"r{int(insn.dst)} = {insn.imm} ll"
    if op.kind in (Kind.LOAD, Kind.LOADSX):
        sign = "s" if op.kind is Kind.LOADSX else "u"
        return f"r{int(insn.dst)} = *({sign}{op.size * 8} *)({_place(insn, insn.src)})"
    if op.kind is Kind.ATOMIC:
        return _format_atomic(insn)
    if op.operation == "ind" and not insn.imm:  # LLVM has no spelling for another number
        return f"r0 = *(u{op.size * 8} *)skb[r{int(insn.src)}]"
    if op.kind is Kind.STORE:
        value = f"r{int(insn.src)}" if op.source == "reg" else str(insn.imm)
        return f"*(u{op.size * 8} *)({_place(insn, insn.dst)}) = {value}"
    if op.kind is Kind.LOAD_ACQUIRE:
        return f"{_letter(insn)}{int(insn.dst)} = load_acquire((u{op.size * 8} *)({_place(insn, insn.src)}))"
    if op.kind is Kind.STORE_RELEASE:
        return f"store_release((u{op.size * 8} *)({_place(insn, insn.dst)}), {_letter(insn)}{int(insn.src)})"
    return format_instruction(insn)


def _place(insn: Instruction, base: int) -> str:
    return f"r{int(base)} {'-' if insn.off < 0 else '+'} {abs(insn.off)}"


def _letter(insn: Instruction) -> str:
    return "r" if insn.op.size == 8 else "w"


def _format_atomic(insn: Instruction) -> str:
    operation, letter, src = insn.op.operation, _letter(insn), int(insn.src)
    place, bits = _place(insn, insn.dst), insn.op.size * 8
    middle = "32" if bits == 32 else ""
    if operation == "xchg":
        return f"{letter}{src} = xchg{middle}_{bits}({place}, {letter}{src})"
    if operation == "cmpxchg":
        return f"{letter}0 = cmpxchg{middle}_{bits}({place}, {letter}0, {letter}{src})"
    memory = f"(u{bits} *)({place})"
    if operation.startswith("fetch_"):
        return f"{letter}{src} = atomic_{operation}({memory}, {letter}{src})"
    return f"lock *{memory} {LOCK_SYMBOLS[operation]} {letter}{src}"
