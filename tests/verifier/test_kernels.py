"""The same program before several kernels: what changed between them, as small programs. All verdicts were measured."""

from __future__ import annotations

import pytest
from cases import kernel_program, program

from ebpfkit.abi.model import HostProfile
from ebpfkit.elf.model import MapSpec, ProgramSpec
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
    ("the packet behind a tail call", ("r6 = r1; r7 = *(u32 *)(r1 + 0); r8 = *(u32 *)(r1 + 4); r2 = r7; r2 += 8;"
     " if r2 > r8 goto out; r1 = r6; r2 = map[progs] ll; r3 = 1; call 12; r0 = *(u8 *)(r7 + 0); out: r0 = 1; exit"),
     "ara"),
    ("a loop that an addition closes", "r0 = 0; goto +1; r0 += 1; if r0 < 4 goto -2; exit", "raa"),
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


def _of_type(prog_type: str, asm: str, attach_type: str | None = None) -> ProgramSpec:
    return program(asm, prog_type).replace(attach_type=attach_type)


@pytest.mark.parametrize(
    ("prog_type", "verdict"), [("kprobe", "reject"), ("sk_msg", "reject"), ("xdp", "accept"), ("sock_ops", "accept")]
)
def test_few_program_types_take_sockets_out_of_a_map(prog_type: str, verdict: str) -> None:
    spec = _of_type(prog_type, "*(u32 *)(r10 - 4) = 1; r2 = r10; r2 += -4; r1 = map[progs] ll; call 3; r0 = 1; exit")
    spec = spec.replace(maps={**spec.maps, "progs": MapSpec("progs", "sockmap", 4, 4, 4)})
    assert {verify_program(spec, HostProfile(kernel=kernel)).verdict for kernel in KERNELS} == {verdict}


def test_a_program_without_attach_type_is_taken_for_the_oldest_one() -> None:
    spec = _of_type("cgroup_sock", "r0 = *(u32 *)(r1 + 0); r0 &= 1; exit")
    assert {verify_program(spec, HostProfile(kernel=kernel)).verdict for kernel in KERNELS} == {"accept"}


def test_what_a_kernel_is_built_without_has_no_verdict() -> None:
    spec = _of_type("kprobe", "r2 = 0; call 58; r0 = 0; exit")
    report = verify_program(spec)
    assert (report.verdict, "configuration" in report.message) == ("unsupported", True)
    host = HostProfile(helpers=frozenset({"override_return"}))
    assert verify_program(spec, host).verdict == "accept"


@pytest.mark.parametrize(
    ("kernel", "verdict", "word"),
    [
        ("6.1", "reject", "no kernel function"),
        ("6.12", "accept", ""),
        ("6.18", "accept", ""),
        ("6.6", "unsupported", ""),
    ],
)
def test_kernel_functions_are_those_of_the_kernel(kernel: str, verdict: str, word: str) -> None:
    spec = kernel_program("kcall bpf_rcu_read_lock; kcall bpf_rcu_read_unlock; r0 = 1; exit")
    report = verify_program(spec, HostProfile(kernel=kernel))
    assert (report.verdict, word in report.message) == (verdict, True)
