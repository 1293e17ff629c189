"""Arguments that a helper takes in some programs, or with some maps, only: our verdict against the kernel's."""

# ruff: noqa: E501 - programs, one a line
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cases import MAPS, program

from ebpfkit.abi.model import HostProfile
from ebpfkit.elf.model import MapSpec
from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

WRITE_ONLY = 1 << 8
NO_PREALLOC = 1
OWN = {
    "bloom": MapSpec("bloom", "bloom_filter", 0, 8, 8),
    "queue": MapSpec("queue", "queue", 0, 8, 8),
    "hidden": MapSpec("hidden", "array", 4, 16, 1, flags=WRITE_ONLY),
    "sparse": MapSpec("sparse", "hash", 4, 8, 8, flags=NO_PREALLOC),
}
VALUE = "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map[{}] ll; call 1; if r0 == 0 goto out; r2 = r0; r1 = map[{}] ll; call 89; out:; r0 = 1; exit"

# name -> (verdict, program type, program)
CASES = {
    "no socket for a lookup": ("accept", "sk_lookup", "r2 = 0; r3 = 0; call 124; r0 = 1; exit"),
    "a socket of the context, or none, for a lookup": ("accept", "sk_lookup", "r2 = *(u64 *)(r1 + 0); r3 = 0; call 124; r0 = 1; exit"),
    "a number as the socket of a lookup": ("reject", "sk_lookup", "r2 = 5; r3 = 0; call 124; r0 = 1; exit"),
    "no socket for a packet": ("reject", "sched_cls", "r2 = 0; r3 = 0; call 124; r0 = 0; exit"),
    "a bloom filter looks for a constant": ("accept", "xdp", VALUE.format("rodata", "bloom")),
    "a queue writes into a constant": ("reject", "xdp", VALUE.format("rodata", "queue")),
    "a bloom filter looks for what may not be read": ("reject", "xdp", VALUE.format("hidden", "bloom")),
    "a queue writes what may not be read": ("accept", "xdp", VALUE.format("hidden", "queue")),
    "what a bloom filter looked for is still known": ("accept", "xdp", "*(u64 *)(r10 - 8) = 1; r2 = r10; r2 += -8; r1 = map[bloom] ll; call 89; r0 = *(u64 *)(r10 - 8); if r0 == 1 goto done; r0 = *(u64 *)(r7 + 0); done:; r0 = 2; exit"),
}  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_an_argument_of_some_programs_or_maps(name: str, oracle: KernelOracle) -> None:
    expected, prog_type, text = CASES[name]
    attach_type = "sk_lookup" if prog_type == "sk_lookup" else None
    spec = program(text, prog_type).replace(maps={**MAPS, **OWN}, attach_type=attach_type)
    kernel, report = oracle.ask(spec), verify_program(spec)
    assert ("accept" if kernel.accepted else "reject") == expected, kernel.log
    assert report.verdict == expected, f"{report}\n{kernel.log}"
    assert kernel.accepted or report.message in kernel.log, f"{report}\n{kernel.log}"


LOOKUP = "*(u32 *)(r10 - 4) = 0; r2 = r10; r2 += -4; r1 = map[{}] ll; call 1; r0 = 0; exit"


@pytest.mark.parametrize(
    ("kernel", "prog_type", "used", "expected"),
    [
        ("5.15", "perf_event", "sparse", "reject"),
        ("5.15", "perf_event", "hash", "accept"),
        ("5.15", "kprobe", "sparse", "accept"),
        ("5.15", "tracepoint", "sparse", "accept"),
        ("6.1", "perf_event", "sparse", "accept"),
        ("6.18", "perf_event", "sparse", "accept"),
    ],
)
def test_perf_events_used_to_need_preallocated_hash_maps(kernel: str, prog_type: str, used: str, expected: str) -> None:
    # A map that the program does not use counts for nothing.
    spec = program(LOOKUP.format(used), prog_type).replace(maps={**MAPS, **OWN})
    maps = {name: shape for name, shape in spec.maps.items() if name in (used, "sparse")}
    report = verify_program(spec.replace(maps=maps), HostProfile(kernel=kernel))
    assert report.verdict == expected, str(report)
