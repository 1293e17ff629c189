"""Every instruction against the table in `cases`: in the interpreter and, where it is accepted, in the kernel."""

from __future__ import annotations

import pytest

from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.asm.parser import parse
from ebpfkit.errors import MachineFault
from ebpfkit.vm.machine import Machine

from .cases import FAULTS, Case, all_cases
from .cases_small import small_cases
from .kernel_runner import Rejected, run_in_kernel

CASES = [*all_cases(), *small_cases()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_interpreter(case: Case) -> None:
    result = Machine(parse(case.asm), prog_type=None).run(case.memory)
    assert hex(result.r0) == hex(case.expected)
    assert result.data == (case.memory if case.memory_after is None else case.memory_after)


@pytest.mark.kernel
def test_kernel_agrees() -> None:
    wrong = []
    for case in CASES:
        if case.kernel:
            try:
                ran = run_in_kernel(parse(case.asm), case.memory)
            except Rejected as refusal:
                wrong.append((case.name, "rejected", str(refusal).splitlines()[-2]))
                continue
            after = case.memory if case.memory_after is None else case.memory_after
            if (ran.r0, ran.memory) != (case.expected, after):
                wrong.append((case.name, hex(ran.r0), hex(case.expected)))
    assert not wrong


@pytest.mark.parametrize(("name", "asm", "message"), FAULTS, ids=[name for name, _, _ in FAULTS])
def test_faults(name: str, asm: str, message: str) -> None:
    machine = Machine(parse(asm), prog_type=None, budget=10_000)
    with pytest.raises(MachineFault) as caught:
        machine.run(bytes(16))
    assert message in caught.value.message
    assert caught.value.insn is not None


def test_a_fault_names_slot_span_and_region() -> None:
    machine = Machine(parse("r0 = 1 ll\nr0 = *(u8 *)(r1 +99)\nexit", file="prog.s"), prog_type=None)
    with pytest.raises(MachineFault) as caught:
        machine.run(bytes(4))
    fault = caught.value
    assert (fault.insn, fault.region) == (2, "memory")
    assert fault.span is not None and (fault.span.file, fault.span.line) == ("prog.s", 2)


ELSEWHERE = {
    **{op.name: "test_contexts" for op in OPCODES.values() if op.kind is Kind.PACKET},
    "CALL": "test_helpers",
    "CALL_KFUNC": "test_kfuncs",
    "LDDW_VAR": "test_kfuncs",
    "ADDR_SPACE_CAST": "test_arena",
    "JA_INDIRECT": "test_indirect",
    "CALLX": "test_indirect",
    "INVALID": "test_hostile",
    **{name: "test_machine and test_helpers" for name in OPCODES if name.startswith(("LDDW_MAP", "LDDW_FUNC"))},
}
"""Instructions that plain programs without maps and contexts cannot hold, and where their cases are."""


def test_every_instruction_has_three_cases() -> None:
    """Each opcode is in at least three programs of the table that the kernel runs too, or has its cases elsewhere."""
    seen = dict.fromkeys(OPCODES, 0)
    for case in (case for case in CASES if case.kernel):
        for op in {insn.op.name for insn in parse(case.asm)}:
            seen[op] += 1
    assert not {op for op, count in seen.items() if count < 3} - set(ELSEWHERE)


def test_cases_have_names_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
