"""Random programs that the kernel's verifier accepts compute the same in the machine and in the kernel."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from ebpfkit.asm.insn import Instruction
from ebpfkit.testing.strategies import programs
from ebpfkit.vm.machine import Machine

from .kernel_runner import run_in_kernel

LAW = settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.kernel
@LAW
@given(programs())
def test_the_kernel_computes_the_same(program: list[Instruction]) -> None:
    assert hex(Machine(program, prog_type=None).run().r0) == hex(run_in_kernel(program).r0)
