"""Random programs that the kernel's verifier accepts compute the same in the machine and in the kernel."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfkit.asm.insn import R10, Instruction, Register
from ebpfkit.asm.isa import OPCODES, Kind, Opcode
from ebpfkit.asm.parser import parse
from ebpfkit.vm.machine import Machine

from .kernel_runner import run_in_kernel

LAW = settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SLOTS = [-8 * i for i in range(1, 9)]
NUMBERS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 0xFF, 0x8000]),
)
REGISTERS = st.integers(0, 9).map(Register)
COMPUTING = [op for op in OPCODES.values() if op.kind in (Kind.ALU, Kind.MOV, Kind.MOVSX, Kind.SWAP)]
JUMPING = [op for op in OPCODES.values() if op.kind is Kind.JUMP]
STORING = [op for op in OPCODES.values() if op.kind in (Kind.STORE, Kind.STORE_RELEASE)]
LOADING = [op for op in OPCODES.values() if op.kind in (Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE)]
ATOMIC = [op for op in OPCODES.values() if op.kind is Kind.ATOMIC]


def immediate(op: Opcode) -> st.SearchStrategy[int]:
    if op.operation in ("lsh", "rsh", "arsh"):
        return st.integers(0, op.width - 1)
    numbers = st.one_of(st.integers(-(2**31), 2**31 - 1), st.sampled_from([1, -1, 2**31 - 1, -(2**31)]))
    return numbers.filter(bool) if op.operation in ("div", "mod", "sdiv", "smod") else numbers


@st.composite
def computation(draw: st.DrawFn) -> Instruction:
    op = draw(st.sampled_from(COMPUTING))
    fields = {"dst": draw(REGISTERS)}
    if "src" in op.operands:
        fields["src"] = draw(REGISTERS)
    elif op.source == "imm":
        return Instruction(op, fields["dst"], imm=draw(immediate(op)))
    return Instruction(op, **fields)


@st.composite
def access(draw: st.DrawFn) -> Instruction:
    """A naturally aligned access to a slot of the stack that has been written."""
    op = draw(st.sampled_from(STORING + LOADING + ATOMIC))
    off = draw(st.sampled_from(SLOTS)) + op.size * draw(st.integers(0, 8 // op.size - 1))
    if op.kind in (Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE):
        return Instruction(op, draw(REGISTERS), R10, off)
    if op.source == "imm":
        return Instruction(op, R10, off=off, imm=draw(st.integers(-(2**31), 2**31 - 1)))
    return Instruction(op, R10, draw(REGISTERS), off)


@st.composite
def programs(draw: st.DrawFn) -> list[Instruction]:
    """Ten registers and eight stack slots with numbers, a body with forward jumps, and a digest of everything."""
    wide = OPCODES["LDDW"]
    start = [Instruction(wide, Register(i), imm=draw(NUMBERS)) for i in range(10)]
    start += [Instruction(OPCODES["STXDW"], R10, Register(i % 10), off) for i, off in enumerate(SLOTS)]
    body = draw(st.lists(st.one_of(computation(), computation(), access()), min_size=5, max_size=40))
    for position in sorted(draw(st.sets(st.integers(0, len(body) - 1), max_size=6)), reverse=True):
        op = draw(st.sampled_from(JUMPING))
        operand = {"src": draw(REGISTERS)} if op.source == "reg" else {"imm": draw(st.integers(-(2**31), 2**31 - 1))}
        distance = draw(st.integers(0, min(5, len(body) - position)))
        body.insert(position, Instruction(op, draw(REGISTERS), off=distance, **operand))
    digest = "".join(f"r0 *= 31\nr0 += r{i}\n" for i in range(1, 10))
    digest += "".join(f"r1 = *(u64 *)(r10 {off})\nr0 *= 31\nr0 += r1\n" for off in SLOTS)
    return [*start, *body, *parse(digest + "exit")]


@pytest.mark.kernel
@LAW
@given(programs())
def test_the_kernel_computes_the_same(program: list[Instruction]) -> None:
    assert hex(Machine(program, prog_type=None).run().r0) == hex(run_in_kernel(program).r0)
