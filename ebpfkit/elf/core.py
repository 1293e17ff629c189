"""CO-RE answers put into instructions: offsets, widths, constants, and poison where the target has no such thing.

The answers come from `btf.core`.
"""

from __future__ import annotations

from ebpfkit._bits import S32_MAX, S32_MIN, U64_MAX, to_signed
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.btf.core import CoreAnswer

__all__ = ["POISON", "CorePatchError", "patch"]

POISON = 0xBAD2310
"""The helper number that libbpf calls where an instruction must not run: the verifier refuses it unless it is dead."""

_CALL = OPCODES["CALL"]
_LETTERS = {1: "B", 2: "H", 4: "W", 8: "DW"}
_PREFIXES = {Kind.LOAD: "LDX", Kind.LOADSX: "LDXS", Kind.STORE: "STX"}


class CorePatchError(Exception):
    """An answer that the instruction cannot hold."""


def patch(insn: Instruction, answer: CoreAnswer) -> list[Instruction]:
    """The instruction, or what stands in its slots, with the target's answer. Raises CorePatchError."""
    if answer.value is None:
        return [Instruction(_CALL, imm=POISON, span=insn.span)] * insn.slots
    kind = insn.op.kind
    if kind is Kind.WIDE:
        _expect(insn, answer, insn.imm if answer.local is None or answer.local >= 0 else to_signed(insn.imm, 64))
        return [insn.replace(imm=answer.value & U64_MAX)]
    if kind in (Kind.ALU, Kind.MOV) and insn.op.source == "imm":
        _expect(insn, answer, insn.imm)
        value = answer.value
        if insn.op.width == 32 and 0 <= value <= 0xFFFF_FFFF:
            value = to_signed(value, 32)
        if not S32_MIN <= value <= S32_MAX:
            raise CorePatchError(f"{answer.value} does not fit the immediate of {insn.op.name}")
        return [insn.replace(imm=value)]
    if kind in _PREFIXES:
        return [_patch_memory(insn, answer, answer.value)]
    raise CorePatchError(f"{insn.op.name} is no instruction that holds such an answer")


def _expect(insn: Instruction, answer: CoreAnswer, found: int) -> None:
    if answer.local is not None and found != answer.local:
        raise CorePatchError(f"{insn.op.name} holds {found}, and the object's own types say {answer.local}")


def _patch_memory(insn: Instruction, answer: CoreAnswer, offset: int) -> Instruction:
    _expect(insn, answer, insn.off)
    if not -0x8000 <= offset <= 0x7FFF:
        raise CorePatchError(f"offset {offset} does not fit {insn.op.name}")
    op = insn.op
    if answer.size != answer.local_size and op.size == answer.local_size:
        letter = _LETTERS.get(answer.size)
        if answer.signed or letter is None or op.kind is Kind.LOADSX:
            raise CorePatchError(f"the field has {answer.size} bytes on the target, and {op.name} reads {op.size}")
        prefix = "ST" if op.kind is Kind.STORE and op.source == "imm" else _PREFIXES[op.kind]
        op = OPCODES[prefix + letter]
    return insn.replace(op=op, off=offset)
