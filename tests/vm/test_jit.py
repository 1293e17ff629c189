"""The conformance table and the faults in native code: as the interpreter has them, and trusted where verified."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from ebpfkit.asm.codec import decode
from ebpfkit.asm.insn import Instruction, MapValueRef, Register
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.elf.raw import program_from_code
from ebpfkit.errors import EbpfError, MachineFault, UsageError
from ebpfkit.verifier import Report, verify_program
from ebpfkit.vm.helpers import IMPLEMENTED
from ebpfkit.vm.jit_flow import CALLBACK_HELPERS
from ebpfkit.vm.machine import Machine

from .both import accepted
from .cases import FAULTS, Case, all_cases
from .cases_small import small_cases
from .kernel_runner import wrap

CASES = [*all_cases(), *small_cases()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_safe(case: Case) -> None:
    result = Machine(parse(case.asm), prog_type=None, jit="safe").run(case.memory)
    assert hex(result.r0) == hex(case.expected)
    assert result.data == (case.memory if case.memory_after is None else case.memory_after)
    assert result.insns == Machine(parse(case.asm), prog_type=None).run(case.memory).insns


def test_trusted() -> None:
    """Every row that the verifier accepts, inside the XDP program that the kernel runs."""
    wrong, accepted = [], 0
    for case in CASES:
        spec = program_from_code(decode(wrap(parse(case.asm), len(case.memory))), prog_type="xdp")
        report = verify_program(spec)
        if not report.ok:
            continue
        accepted += 1
        machine = Machine(spec, jit="trusted", report=Report((report,)))
        out = machine.run((bytes(8) + case.memory).ljust(16, b"\0"))
        after = case.memory if case.memory_after is None else case.memory_after
        got = int.from_bytes(out.data[:8], "little"), out.data[8 : 8 + len(after)], out.insns
        if got != (case.expected, after, None):
            wrong.append((case.name, got))
    assert not wrong
    assert accepted > 350


def outcome(program: Any, jit: str | None, memory: bytes = bytes(16), **options: Any) -> tuple[Any, ...]:
    """How a run ended: everything that can be told about it."""
    options.setdefault("prog_type", None)
    try:
        result = Machine(program, jit=jit, budget=10_000, **options).run(memory)
    except EbpfError as error:
        return type(error), error.message, error.span, getattr(error, "insn", None), getattr(error, "region", None)
    return result.r0, result.data, result.insns, result.printed


@pytest.mark.parametrize(("name", "asm", "message"), FAULTS, ids=[name for name, _, _ in FAULTS])
def test_faults_are_the_interpreters(name: str, asm: str, message: str) -> None:
    program = parse(asm, file="prog.s")
    ours = outcome(program, "safe")
    assert ours[0] is MachineFault and message in ours[1]
    assert ours == outcome(program, None)


def test_trust_needs_the_verifier() -> None:
    program = parse("r0 = 2\nexit")
    with pytest.raises(UsageError, match="report"):
        Machine(program, jit="trusted")
    bad = program_from_code(parse("r0 = *(u64 *)(r0 +0)\nexit"), prog_type="xdp")
    report = Report((verify_program(bad),))
    assert not report.ok
    with pytest.raises(UsageError, match="not accepted"):
        Machine(bad, jit="trusted", report=report)
    with pytest.raises(UsageError, match="no JIT mode"):
        Machine(program, jit="fast")


def test_helpers_that_call_back_are_known() -> None:
    """Native code gives all registers and the budget along to exactly these."""
    from ebpfkit.abi.helpers import HELPERS_BY_NAME

    calling = {name for name, f in IMPLEMENTED.items() if "interpreter.call(" in inspect.getsource(f)}
    assert {HELPERS_BY_NAME[name].id for name in calling} == CALLBACK_HELPERS


def test_an_offset_behind_a_map_value_reaches_nothing_else() -> None:
    """Addresses of map values are constants in the code; one that leads elsewhere is checked like any other."""
    data = MapSpec("data", "array", 4, 8, 1)
    for offset in (0, 4, 8, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0):
        program = [
            Instruction(OPCODES["LDDW_MAP_VALUE"], Register(1), imm=offset << 32, ref=MapValueRef("data", offset)),
            *parse("r0 = *(u32 *)(r1 +0)\nexit"),
        ]
        ours = outcome(program, "safe", maps=[data])
        assert (ours[0] == 0) == (offset <= 4)
        assert ours[0] is outcome(program, None, maps=[data])[0] or ours[0] == 0


@pytest.mark.parametrize("jit", [None, "safe"])
def test_a_plain_array_is_the_same_on_every_cpu(jit: str | None) -> None:
    asm = "*(u32 *)(r10 -4) = 1\nr2 = r10\nr2 += -4\nr1 = map[counts] ll\ncall bpf_map_lookup_elem#1\n"
    asm += "if r0 == 0 goto out\nr1 = 1\nlock *(u64 *)(r0 +0) += r1\nr0 = *(u64 *)(r0 +0)\nout: exit"
    machine = Machine(parse(asm), maps=[MapSpec("counts", "array", 4, 8, 2)], cpus=2, jit=jit)
    assert [machine.run(bytes(14), cpu=cpu).r0 for cpu in (0, 1, 1)] == [1, 2, 3]


@pytest.mark.parametrize("jit", [None, "safe"])
def test_an_atomic_operation_on_an_unaligned_value_is_done(jit: str | None) -> None:
    asm = "*(u32 *)(r10 -4) = 1\nr2 = r10\nr2 += -4\nr1 = map[counts] ll\ncall bpf_map_lookup_elem#1\n"
    asm += "if r0 == 0 goto out\nr1 = 5\nlock *(u32 *)(r0 +2) += r1\nr0 = *(u32 *)(r0 +2)\nout: exit"
    machine = Machine(parse(asm), maps=[MapSpec("counts", "array", 4, 8, 2)], jit=jit)
    assert machine.run(bytes(14)).r0 == 5


@pytest.mark.parametrize("jit", ["safe", "trusted"])
def test_a_trace_watches_that_run_in_the_interpreter(jit: str) -> None:
    """Never silently nothing: a machine with a JIT traces every instruction, callbacks too, and goes on natively."""
    asm = "r6 = 5\nr1 = 3\nr2 = subprog[+6] ll\nr3 = 0\nr4 = 0\ncall bpf_loop#181\nr0 += r6\nexit\nr0 = 0\nexit"
    steps: list[int] = []
    machine = Machine(parse(asm), jit=jit, report=accepted("prog"))
    before = machine.run(bytes(14))
    traced = machine.run(bytes(14), trace=lambda step: steps.append(step.slot))
    after = machine.run(bytes(14))
    assert before.r0 == traced.r0 == after.r0 == 8
    assert len(steps) == Machine(parse(asm)).run(bytes(14)).insns
    assert before.insns == after.insns == (14 if jit == "safe" else None)
