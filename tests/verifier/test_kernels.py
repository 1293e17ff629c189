"""The same program before several kernels: what changed between them, as small programs. All verdicts were measured."""

from __future__ import annotations

import pytest
from cases import program

from ebpfkit.abi.model import HostProfile
from ebpfkit.elf.model import MapSpec
from ebpfkit.verifier import verify_program

KERNELS = ("6.1", "6.12", "6.18")
LOOKUP = "r2 = r10; r2 += -4; *(u32 *)(r10 - 4) = 1; r1 = map[hash] ll; call 1; if r0 == 0 goto out"

# What it is about, the program, and the verdict of each kernel: accept (a), reject (r).
CASES = [
    ("signed division", "r0 = 7; r1 = 2; r0 s/= r1; r0 = 0; exit", "raa"),
    ("a sign-extending move that is not walked", "r0 = 0; if r0 == 0 goto out; r1 = (s8)r0; out: exit", "aaa"),
    ("may_goto", "r0 = 0; may_goto out; r0 += 1; out: r0 = 0; exit", "raa"),
    ("may_goto to the next instruction", "may_goto next; next: r0 = 0; exit", "rra"),
    ("a constant comes first", "call 7; r0 &= 3; r1 = 5; if r1 > r0 goto ok; r0 = r9; ok: r0 = 0; exit", "raa"),
    ("the index of a byte swap", (f"{LOOKUP}; r6 = r0; call 7; r0 &= 3; r0 = bswap64 r0; r0 >>= 56; r6 += r0;"
     " r0 = *(u8 *)(r6 + 0); out: r0 = 0; exit"), "rra"),
    ("the negative of a negative index", (f"{LOOKUP}; r6 = r0; call 7; r0 &= 7; r0 = -r0; r0 = -r0; r6 += r0;"
     " r0 = *(u8 *)(r6 + 0); out: r0 = 0; exit"), "rra"),
    ("a known key of an array", ("*(u32 *)(r10 - 8) = 1; r2 = r10; r2 += -8; r1 = map[array] ll; call 1;"
     " r0 = *(u8 *)(r0 + 0); r0 = 0; exit"), "rra"),
    ("a copy four away", (f"{LOOKUP}; r6 = r0; call 7; r8 = r0; r9 = r8; r9 += 4; if r8 > 3 goto out;"
     " r6 += r9; r0 = *(u8 *)(r6 + 0); out: r0 = 0; exit"), "raa"),
    ("a copy four away in 32 bits", (f"{LOOKUP}; r6 = r0; call 7; w8 = w0; w9 = w8; w9 += 4; if r8 > 3 goto out;"
     " r6 += r9; r0 = *(u8 *)(r6 + 0); out: r0 = 0; exit"), "rra"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "asm", "verdicts"), CASES, ids=[case[0] for case in CASES])
def test_each_kernel_has_its_verdict(name: str, asm: str, verdicts: str) -> None:
    spec = program(asm)
    found = "".join(verify_program(spec, HostProfile(kernel=kernel)).verdict[0] for kernel in KERNELS)
    assert found == verdicts


@pytest.mark.parametrize(
    ("kernel", "verdict", "word"),
    [("4.4", "reject", "programs of type xdp"), ("4.17", "reject", "maps of type xskmap"), ("4.18", "accept", "")],
)
def test_types_of_programs_and_maps_came_with_kernels(kernel: str, verdict: str, word: str) -> None:
    spec = program("r0 = 0; exit").replace(maps={"socks": MapSpec("socks", "xskmap", 4, 4, 4)})
    report = verify_program(spec, HostProfile(kernel=kernel))
    assert (report.verdict, word in report.message) == (verdict, True)
    assert report.rule == ("not-in-kernel" if verdict == "reject" else "")


def test_stack_that_was_never_written_could_not_always_be_read() -> None:
    spec = program("r0 = *(u64 *)(r10 - 8); r0 = 0; exit")
    reports = {kernel: verify_program(spec, HostProfile(kernel=kernel)) for kernel in ("5.15", "6.1")}
    assert reports["6.1"].verdict == "accept"
    assert (reports["5.15"].verdict, reports["5.15"].rule) == ("reject", "uninitialised-stack")


def test_the_number_of_processors_decides() -> None:
    asm = f"{LOOKUP}; r6 = r0; call 8; r6 += r0; r0 = *(u8 *)(r6 + 8); out: r0 = 0; exit"
    verdicts = {cpus: verify_program(program(asm), HostProfile(cpus=cpus)).verdict for cpus in (2, 64)}
    assert verdicts == {2: "accept", 64: "reject"}
