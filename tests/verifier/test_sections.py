"""What may sleep, inside of sections in which nothing may: our verdict, reason and count against the kernel's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import test_functions
from cases import kernel_program
from judged import assert_agrees

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

SLEEPS = 1 << 4
COPY = "*(u64 *)(r10 - 8) = 0; r1 = r10; r1 += -8; r2 = 8; r3 = 0; call 148"
FLAGS = "r1 = r10; r1 += -16"
SECTIONS = {
    "RCU": ("kcall bpf_rcu_read_lock", "kcall bpf_rcu_read_unlock"),
    "preemption": ("kcall bpf_preempt_disable", "kcall bpf_preempt_enable"),
    "interrupts": (f"{FLAGS}; kcall bpf_local_irq_save", f"{FLAGS}; kcall bpf_local_irq_restore"),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("inside", [True, False])
def test_helpers_that_sleep(name: str, inside: bool, oracle: KernelOracle) -> None:
    begin, end = SECTIONS[name]
    steps = [begin, COPY, end] if inside else [begin, end, COPY]
    spec = kernel_program("; ".join([*steps, "r0 = 0; exit"]), "syscall", flags=SLEEPS)
    assert_agrees(spec, "reject" if inside else "accept", oracle, oracle.types)


SOURCE = """
extern void bpf_rcu_read_lock(void) __attribute__((section(".ksyms")));
extern void bpf_rcu_read_unlock(void) __attribute__((section(".ksyms")));
static long (*copy)(void *, u32, const void *) = (void *)148;
G int f(u64 a) { u64 x = 0; return copy(&x, 8, (void *)a); }
SEC("syscall") int prog(void *ctx) { BEFORE int r = f(3); AFTER return r; }
"""


@pytest.mark.kernel
@pytest.mark.parametrize("inside", [True, False])
def test_functions_that_sleep(inside: bool, oracle: KernelOracle, tmp_path: Path) -> None:
    calls = ("bpf_rcu_read_lock();", "bpf_rcu_read_unlock();")
    before, after = calls if inside else ("".join(calls), "")
    spec = test_functions.build(tmp_path, SOURCE.replace("BEFORE", before).replace("AFTER", after))
    assert_agrees(spec, "reject" if inside else "accept", oracle, oracle.types)
