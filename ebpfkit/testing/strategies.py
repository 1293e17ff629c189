"""Hypothesis strategies: instructions, well-formed programs, packets and maps.

They are published because property-based tests of verifiers, virtual machines and programs are a use of this package;
its own tests draw from them too. Needs the extra `testing`.
"""

from __future__ import annotations

from hypothesis import strategies as st

from ebpfkit._bits import S32_MAX, S32_MIN, U64_MAX
from ebpfkit.asm.insn import Instruction, Register
from ebpfkit.asm.isa import OPCODES, Opcode

__all__ = ["instructions", "instructions_of"]

_REGISTERS = st.integers(0, 10).map(Register)
_S16 = st.integers(-0x8000, 0x7FFF)
_S32 = st.integers(S32_MIN, S32_MAX)
_U64 = st.integers(0, U64_MAX)


def instructions_of(op: Opcode) -> st.SearchStrategy[Instruction]:
    """All instructions of one opcode: every operand over its whole range, reserved fields zero."""
    return st.builds(
        Instruction,
        st.just(op),
        _REGISTERS if "dst" in op.operands else st.just(Register(0)),
        _REGISTERS if "src" in op.operands else st.just(Register(0)),
        (_S32 if op.name == "JA32" else _S16) if "off" in op.operands else st.just(0),
        (_U64 if op.slots == 2 or op.name == "INVALID" else _S32) if "imm" in op.operands else st.just(0),
    )


def instructions() -> st.SearchStrategy[Instruction]:
    """Any instruction, INVALID too."""
    return st.sampled_from(list(OPCODES.values())).flatmap(instructions_of)
