"""The walk: pruning, precision, loops, functions, limits, reports; each with the kernel's count of instructions."""

from __future__ import annotations

import pickle
import random
from typing import TYPE_CHECKING

import pytest
from cases import MAPS, program
from differential import broken_bytes

from ebpfkit.abi.model import HostProfile
from ebpfkit.asm.codec import decode
from ebpfkit.diag.rules import RULES
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.errors import UsageError, VerifierError
from ebpfkit.verifier import ProgramReport, Report, verify_program
from ebpfkit.verifier.explore import Walk

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

# name, program, instructions that Linux 6.18 walks
COUNTS = {
    "both sides of a branch join and are walked once": (
        """r6 = *(u32 *)(r1 +12); r0 = 0; if r6 > 7 goto a; r0 = 1; a: r2 = 1; r3 = 2; r4 = 3; r5 = 4;
        r2 += r3; r4 += r5;
        if r6 > 9 goto b; r0 = 2; b: r0 = 3; exit""",
        24,
    ),
    "a number that decides later keeps the paths apart": (
        """r6 = *(u32 *)(r1 +12); r7 = 0; if r6 > 7 goto a; r7 = 1; a: r2 = 1; r3 = 2; r4 = 3; r5 = 4;
        r2 += r3; r4 += r5;
        if r7 == 1 goto b; r0 = 2; b: r0 = 3; exit""",
        22,
    ),
    "a number that decides through a spill": (
        """r6 = *(u32 *)(r1 +12); r7 = 0; if r6 > 7 goto a; r7 = 1; a: *(u64 *)(r10 -8) = r7; r2 = 1; r3 = 2;
        r4 = 3; r5 = 4;
        if r6 > 9 goto c; r2 = 3; c: r7 = *(u64 *)(r10 -8); if r7 == 1 goto b; r0 = 2; b: r0 = 3; exit""",
        32,
    ),
    "a loop over a precise counter": ("r6 = 0; l: r6 += 1; r2 = r6; r3 = r6; if r6 < 30 goto l; r0 = 0; exit", 123),
    "a loop with a branch inside": (
        """r7 = r1; r6 = 0; l: r2 = *(u32 *)(r7 +12); if r2 > 5 goto m; r3 = 1; m: r6 += 1;
        if r6 < 30 goto l; r0 = 0; exit""",
        508,
    ),
    "functions called twice with the same argument": (
        "r1 = 1; call f; r1 = 1; call f; r0 = 0; exit; f: r2 = r1; if r2 == 1 goto g; r2 = 5; g: r0 = r2; exit",
        14,
    ),
    "dead slots do not keep paths apart": (
        """r6 = *(u32 *)(r1 +12); *(u64 *)(r10 -8) = 0; if r6 > 7 goto a; *(u64 *)(r10 -8) = 5; a: r2 = 1;
        r3 = 2; r4 = 3; r5 = 4;
        r2 += r3; r4 += r5; if r6 > 9 goto b; r0 = 2; b: r0 = 3; exit""",
        24,
    ),
    "a callee reads its caller's slot": (
        """r6 = *(u32 *)(r1 +12); *(u64 *)(r10 -8) = 0; if r6 > 7 goto a; *(u64 *)(r10 -8) = 5; a: r1 = r10;
        r1 += -8; call f;
        if r0 == 5 goto b; r0 = 2; b: r0 = 3; exit; f: r0 = *(u64 *)(r1 +0); exit""",
        21,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name: str) -> None:
    asm, expected = COUNTS[name]
    report = verify_program(program(asm))
    assert report.verdict == "accept", str(report)
    assert report.insns_processed == expected


@pytest.mark.kernel
@pytest.mark.parametrize("name", COUNTS)
def test_the_kernel_walks_as_many(name: str, oracle: KernelOracle) -> None:
    spec = program(COUNTS[name][0])
    assert verify_program(spec).insns_processed == oracle.ask(spec).processed


# --- reports ------------------------------------------------------------------------------------------------------

BAD = """r2 = *(u32 *)(r1 +0); r3 = *(u32 *)(r1 +4); r4 = r2; r4 += 14; if r4 > r3 goto out;
r0 = *(u8 *)(r2 +14); out: r0 = 0; exit"""


def test_a_rejection_says_what_where_why_and_what_to_write() -> None:
    report = verify_program(program(BAD))
    assert (report.verdict, report.rule, report.insn) == ("reject", "unbounded-packet-access", 5)
    assert report.span is not None and report.span.line == 7
    assert "off=14 size=1" in report.message and "offset is outside of the packet" in report.message
    assert report.register == "R2" and "14 bytes proved" in report.state
    assert "data_end" in report.mend
    error = report.to_error()
    assert isinstance(error, VerifierError) and error.insn == 5 and error.rule == report.rule
    assert set(report.to_json()) == {
        "name", "section", "prog_type", "kernel", "verdict", "basis", "rule", "message", "insn", "file",
        "line", "column",
        "insns_processed", "seconds",
    }  # fmt: skip
    assert pickle.loads(pickle.dumps(report)) == report


WAYS = {
    "a range and what was added": (
        """r6 = *(u32 *)(r1 +12); r2 = *(u32 *)(r1 +0); r3 = *(u32 *)(r1 +4); r4 = r2; r4 += 14; if r4 > r3 goto out;
        r6 &= 31; r5 = r2; r5 += r6; r9 = 1; r0 = *(u8 *)(r5 +14); out: r0 = 2; exit""",
        [0, 1, 5, 6, 7, 8],
        "R5 is now the packet + (0..31), 0 bytes proved",
    ),
    "in a function": (
        """call f; r0 = 2; exit; f: r1 = map[hash] ll; r2 = r10; r2 += -4; *(u32 *)(r10 -4) = 0; call 1; r6 = r0;
        r0 = *(u64 *)(r6 +0); exit""",
        [8, 9],
        "R6 is now a value of map hash, may be null",
    ),
    "through an argument": (
        "r1 = *(u32 *)(r1 +12); r1 &= 7; call f; exit; f: r2 = r10; r2 += r1; *(u8 *)(r2 -4) = 1; r0 = 0; exit",
        [0, 1, 4, 5],
        "R2 is now the stack of frame 1 + (0..7)",
    ),
    "on the taken side of a branch": (
        """r7 = 1; r2 = *(u32 *)(r1 +12); if r2 > 5 goto a; r7 = 2; a: if r2 > 5 goto b; r0 = 0; exit; b: r7 = 9;
        r0 = *(u8 *)(r7 +0); exit""",
        [7],
        "R7 is now 9",
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_rejection_says_how_it_came_about(name: str) -> None:
    asm, slots, last = WAYS[name]
    report = verify_program(program(asm))
    assert report.verdict == "reject"
    assert [step.insn for step in report.path] == slots, report.path
    assert report.path[-1].note == last
    assert all(step.span is not None for step in report.path)


def test_slots_count_wide_loads_twice() -> None:
    report = verify_program(program("r1 = 0x1122334455667788 ll; r0 = r7; exit"))
    assert (report.insn, report.rule) == (2, "uninitialised-register")


def test_report_of_several() -> None:
    good, bad = verify_program(program("r0 = 0; exit")), verify_program(program(BAD))
    unknown = verify_program(program("r1 = map[hash] ll; r0 = *(u64 *)(r1 +0); r0 = 0; exit"))
    assert (good.verdict, bad.verdict, unknown.verdict) == ("accept", "reject", "unsupported")
    assert Report((good,)).ok and not Report((good, bad)).ok
    assert Report((good, unknown, bad)).verdict == "reject"
    assert Report((good, unknown)).verdict == "unsupported"
    assert len(Report((good, bad)).errors) == 1
    assert Report((good, bad)).insns_processed == good.insns_processed + bad.insns_processed
    assert "--btf" in unknown.message


def test_the_basis_follows_the_kernel() -> None:
    spec = program("r0 = 0; exit")
    assert verify_program(spec).basis == "measured"
    assert verify_program(spec, HostProfile(kernel="5.15", basis="documented")).basis == "documented"
    assert verify_program(spec, HostProfile(privileged=False)).rule == "execution-context"  # XDP needs CAP_BPF


def test_unknown_program_type() -> None:
    with pytest.raises(UsageError, match="no program type"):
        verify_program(program("r0 = 0; exit").replace(prog_type="nonsense"))


def test_the_budget_stops_the_walk() -> None:
    report = verify_program(program("r0 = 0; l: r0 += 1; if r0 < 1000 goto l; exit"), max_insns=100)
    assert (report.verdict, report.rule, report.insns_processed) == ("reject", "too-complex", 101)


def test_the_number_of_cpus_counts() -> None:
    spec = program(
        """r2 = r10; r2 += -4; r1 = map[hash] ll; call 1; if r0 == 0 goto out; r6 = r0; call 8; r6 += r0;
        r0 = *(u8 *)(r6 +0); out: r0 = 0; exit"""
    )
    assert verify_program(spec, HostProfile(cpus=16)).verdict == "accept"
    assert verify_program(spec, HostProfile(cpus=17)).verdict == "reject"


def test_an_empty_program() -> None:
    report = verify_program(ProgramSpec("empty", "xdp", "xdp", ()))
    assert (report.verdict, report.rule) == ("reject", "empty-program")


REFERENCES = {
    "submitted": ("r1 = r0; r2 = 0; call 132", "accept", ""),
    "leaked": ("r1 = 0", "reject", "reference-leak"),
    "submitted twice": ("r6 = r0; r1 = r0; r2 = 0; call 132; r1 = r6; r2 = 0; call 132", "reject", "helper-argument"),
    "used after": ("r6 = r0; r1 = r0; r2 = 0; call 132; *(u64 *)(r6 +0) = 1", "reject", "invalid-memory-access"),
    "submitted with an offset": ("r1 = r0; r1 += 8; r2 = 0; call 132", "reject", "reference-misuse"),
    "written past its end": ("*(u64 *)(r0 +16) = 1; r1 = r0; r2 = 0; call 132", "reject", "memory-out-of-bounds"),
    "spilled and filled": ("*(u64 *)(r10 -8) = r0; r1 = *(u64 *)(r10 -8); r2 = 0; call 133", "accept", ""),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", REFERENCES)
def test_ring_buffer_records(name: str, oracle: KernelOracle) -> None:
    middle, verdict, rule = REFERENCES[name]
    spec = program(f"r1 = map[ring] ll; r2 = 16; r3 = 0; call 131; if r0 == 0 goto out; {middle}; out: r0 = 0; exit")
    report = verify_program(spec)
    assert (report.verdict, report.rule) == (verdict, rule), str(report)
    assert oracle.ask(spec).accepted == (verdict == "accept")


def test_every_rule_that_we_raise_has_a_row() -> None:
    """Rules are named in the source; each must exist in diag."""
    import re
    from pathlib import Path

    import ebpfkit.verifier

    root = Path(ebpfkit.verifier.__file__).parent
    named = set()
    for path in root.rglob("*.py"):
        text = path.read_text()
        named |= set(re.findall(r"Rejection\(\s*\"([a-z-]+)\"", text)) | set(re.findall(r"rule = \"([a-z-]+)\"", text))
    assert len(named) > 25
    assert named <= set(RULES)


# --- robustness ---------------------------------------------------------------------------------------------------


def test_any_bytes_give_a_report() -> None:
    for seed in range(400):
        insns = tuple(decode(broken_bytes(seed), strict=False))
        report = verify_program(ProgramSpec("bytes", "xdp", "xdp", insns, "GPL", maps=MAPS), max_insns=5_000)
        assert isinstance(report, ProgramReport)
        assert report.verdict in ("accept", "reject", "unsupported")


@pytest.mark.parametrize("prog_type", ["xdp", "sched_cls", "socket_filter", "kprobe", "cgroup_skb", "lwt_in", "sk_msg"])
def test_random_bytes_in_any_program_type(prog_type: str) -> None:
    rng = random.Random(7)
    for _ in range(60):
        insns = tuple(decode(rng.randbytes(8 * rng.randrange(1, 8)), strict=False))
        maps = {"m": MapSpec("m", "hash", 4, 8, 1)}
        report = verify_program(ProgramSpec("bytes", "x", prog_type, insns, "GPL", maps=maps), max_insns=5_000)
        assert report.verdict in ("accept", "reject", "unsupported")


def test_the_walk_keeps_its_tables_to_itself() -> None:
    """Two verifications share no interned value."""
    tables = []
    original = Walk.__init__

    def spying(self: Walk, *arguments: object) -> None:
        original(self, *arguments)  # type: ignore[arg-type]
        tables.append(self.values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Walk, "__init__", spying)
        verify_program(program("r0 = 7; exit"))
        verify_program(program("r0 = 7; exit"))
    assert tables[0].constant(7) is tables[0].constant(7)
    assert tables[0].constant(7) is not tables[1].constant(7)
