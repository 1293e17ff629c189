"""Hypothesis strategies for instructions: every opcode, every operand over its whole range."""

from __future__ import annotations

from hypothesis import strategies as st

from ebpfkit._bits import S32_MAX, S32_MIN, U64_MAX
from ebpfkit.asm.insn import Instruction, Register
from ebpfkit.asm.isa import OPCODES, Opcode

REGISTERS = st.integers(0, 10).map(Register)
S16 = st.integers(-0x8000, 0x7FFF)
S32 = st.integers(S32_MIN, S32_MAX)
U64 = st.integers(0, U64_MAX)


def instructions_of(op: Opcode) -> st.SearchStrategy[Instruction]:
    """All instructions of one opcode."""
    return st.builds(
        Instruction,
        st.just(op),
        REGISTERS if "dst" in op.operands else st.just(Register(0)),
        REGISTERS if "src" in op.operands else st.just(Register(0)),
        (S32 if op.name == "JA32" else S16) if "off" in op.operands else st.just(0),
        (U64 if op.slots == 2 or op.name == "INVALID" else S32) if "imm" in op.operands else st.just(0),
    )


def instructions() -> st.SearchStrategy[Instruction]:
    """Any instruction, INVALID too."""
    return st.sampled_from(list(OPCODES.values())).flatmap(instructions_of)
