"""What each program type sees in its context: our verdict and count against the kernel's."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from cases import program
from judged import assert_agrees

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

SLEEPABLE = 1 << 4

# name -> (verdict, program type, attach type, target, flags, program)
CASES = {
    "a hook's state": (
        "accept", "netfilter", "netfilter", None, 0, "r2 = *(u64 *)(r1 + 0); r3 = *(u8 *)(r2 + 0); r0 = 1; exit",
    ),
    "a packet behind a hook": (
        "accept", "netfilter", "netfilter", None, 0, "r2 = *(u64 *)(r1 + 8); r3 = *(u32 *)(r2 + 112); r0 = 1; exit",
    ),
    "half a pointer": (
        "reject", "netfilter", "netfilter", None, 0, "r2 = *(u64 *)(r1 + 0); r3 = *(u32 *)(r2 + 16); r0 = 1; exit",
    ),
    "a system call that cannot sleep": ("reject", "syscall", None, None, 0, "r0 = 0; exit"),
    "a system call's argument": (
        "accept", "syscall", None, None, SLEEPABLE,
        "r2 = *(u64 *)(r1 + 8); *(u32 *)(r1 + 12) = 7; r0 = 0; exit",
    ),
    "a system call's argument by a variable": (
        "reject", "syscall", None, None, SLEEPABLE,
        "r2 = *(u64 *)(r1 + 0); r2 &= 7; r1 += r2; r3 = *(u8 *)(r1 + 0); r0 = 0; exit",
    ),
    "xdp cannot sleep": ("reject", "xdp", None, None, SLEEPABLE, "r0 = 2; exit"),
    "a user probe can": ("accept", "kprobe", None, None, SLEEPABLE, "r0 = 0; exit"),
    "an iterator can": ("accept", "tracing", "trace_iter", "task", SLEEPABLE, "r0 = 0; exit"),
    "a tracepoint cannot": ("reject", "tracing", "trace_raw_tp", "sched_switch", SLEEPABLE, "r0 = 0; exit"),
    "a helper that sleeps": (
        "accept", "kprobe", None, None, SLEEPABLE, "r1 = r10; r1 += -8; r2 = 8; r3 = 0; call 148; r0 = 0; exit",
    ),
    "the same where it may not": (
        "reject", "kprobe", None, None, 0, "r1 = r10; r1 += -8; r2 = 8; r3 = 0; call 148; r0 = 0; exit",
    ),
    "a tracepoint's record is written": (
        "accept", "raw_tracepoint_writable", None, None, 0,
        "r2 = *(u64 *)(r1 + 0); r2 += 8; *(u64 *)(r2 - 8) = 1; r0 = 0; exit",
    ),
    "before the record": (
        "reject", "raw_tracepoint_writable", None, None, 0, "r2 = *(u64 *)(r1 + 0); r0 = *(u64 *)(r2 - 8); exit",
    ),
    "a variable place in the record": (
        "reject", "raw_tracepoint_writable", None, None, 0,
        "r2 = *(u64 *)(r1 + 0); r3 = *(u64 *)(r1 + 8); r3 &= 7; r2 += r3; r0 = *(u64 *)(r2 + 8); exit",
    ),
    "flow keys": (
        "accept", "flow_dissector", "flow_dissector", None, 0,
        "r2 = *(u64 *)(r1 + 144); r2 += 4; r3 = *(u16 *)(r2 + 2); *(u16 *)(r2 + 50) = 3; r0 = 0; exit",
    ),
    "behind the flow keys": (
        "reject", "flow_dissector", "flow_dissector", None, 0,
        "r2 = *(u64 *)(r1 + 144); r3 = *(u16 *)(r2 + 55); r0 = 0; exit",
    ),
    "a number of a tracepoint": (
        "accept", "tracing", "trace_raw_tp", "sched_switch", 0, "r0 = *(u32 *)(r1 + 24); exit",
    ),
    "an argument too many": (
        "reject", "tracing", "trace_raw_tp", "sched_switch", 0, "r0 = *(u64 *)(r1 + 32); exit",
    ),
    "half an argument": ("reject", "tracing", "trace_raw_tp", "sched_switch", 0, "r0 = *(u32 *)(r1 + 8); exit"),
    "a task is not written": (
        "reject", "tracing", "trace_raw_tp", "sched_switch", 0, "r2 = *(u64 *)(r1 + 8); *(u64 *)(r2 + 0) = 1; exit",
    ),
    "a trusted task is never null": (
        "accept", "tracing", "trace_raw_tp", "sched_switch", 0,
        "r2 = *(u64 *)(r1 + 8); r0 = 0; if r2 != 0 goto +1; r0 = r9; exit",
    ),
    "a socket that may be null": (
        "reject", "tracing", "trace_raw_tp", "kfree_skb", 0, "r2 = *(u64 *)(r1 + 24); r0 = *(u8 *)(r2 + 0); exit",
    ),
    "and is not": (
        "accept", "tracing", "trace_raw_tp", "kfree_skb", 0,
        "r2 = *(u64 *)(r1 + 24); r0 = 0; if r2 == 0 goto +1; r0 = *(u8 *)(r2 + 0); exit",
    ),
    "an iterator's key": (
        "accept", "tracing", "trace_iter", "bpf_map_elem", 0,
        "r2 = *(u64 *)(r1 + 16); r0 = 0; if r2 == 0 goto +2; r3 = *(u64 *)(r2 + 4000); r0 = 1; exit",
    ),
    "an iterator's key is not written": (
        "reject", "tracing", "trace_iter", "bpf_map_elem", 0,
        "r2 = *(u64 *)(r1 + 16); r0 = 0; if r2 == 0 goto +1; *(u8 *)(r2 + 0) = 1; exit",
    ),
    "an iterator's value is": (
        "accept", "tracing", "trace_iter", "bpf_map_elem", 0,
        "r2 = *(u64 *)(r1 + 24); r0 = 0; if r2 == 0 goto +1; *(u8 *)(r2 + 0) = 1; exit",
    ),
    "an iterator returns 0 or 1": ("reject", "tracing", "trace_iter", "task", 0, "r0 = 2; exit"),
}  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_contexts(name: str, oracle: KernelOracle) -> None:
    from verifier_kernel import running_types

    verdict, prog_type, attach_type, target, flags, text = CASES[name]
    spec = program(text, prog_type, flags=flags).replace(attach_type=attach_type, attach_target=target)
    assert_agrees(spec, verdict, oracle, running_types())


def accesses(rng: random.Random, count: int) -> Iterator[tuple[str, str | None, str]]:
    """Loads and stores of every width about the context of every program type that needs no target."""
    types = [row for row in PROG_TYPES.values() if row.context and row.name not in ("syscall", "lirc_mode2")]
    for _ in range(count):
        row = rng.choice(types)
        size = min(CONTEXTS[row.context or ""].size, 256)
        offset = rng.randrange(0, size + 4)
        width = rng.choice((8, 16, 32, 64))
        place = f"*(u{width} *)(r1 + {offset // (width // 8) * (width // 8) if rng.random() < 0.9 else offset})"
        text = rng.choice((f"r2 = {place}", f"r2 = 0; {place} = r2", f"r2 = {place}"))
        yield row.name, rng.choice(row.attach_types or (None,)), f"{text}; r0 = 1; exit"


@pytest.mark.kernel
def test_accesses_of_every_width(oracle: KernelOracle) -> None:
    from verifier_kernel import running_types

    verdicts = []
    for prog_type, attach_type, text in accesses(random.Random(3), 1_500):
        spec = program(text, prog_type).replace(attach_type=attach_type)
        kernel = oracle.ask(spec, log_size=4096)
        verdicts.append(kernel.accepted)
        report = verify_program(spec, kernel_btf=running_types())
        assert report.ok == kernel.accepted, f"{prog_type} {attach_type} {text} {report}"
        assert kernel.accepted or report.message in kernel.log, f"{prog_type} {attach_type} {text} {report}"
    assert 300 < sum(verdicts) < 1_200


def test_without_the_kernels_types_there_is_no_verdict() -> None:
    spec = program("r0 = 0; exit", "tracing").replace(attach_type="trace_raw_tp", attach_target="sched_switch")
    report = verify_program(spec)
    assert report.verdict == "unsupported" and "--btf" in report.message
