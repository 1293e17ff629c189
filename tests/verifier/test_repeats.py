"""What the walk remembers of one visit must not decide the next one: calls, straight lines, parted paths."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from cases import program

from ebpfkit.abi.model import HostProfile
from ebpfkit.verifier import verify_program
from ebpfkit.verifier.state import Checkpoint

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

_KEY = "*(u32 *)(r10 -4) = 0"
_LOOK = "r1 = map[hash]; r2 = r10; r2 += -4; call 1"
_DONE = "r0 = 0; exit"

# name, program, the rule (accepted: none): the same instructions are met a second time in another state.
AGAIN = {
    "a key that both paths wrote": (
        f"""r6 = *(u32 *)(r1 +12); if r6 > 7 goto b; {_KEY}; a: {_LOOK}; {_DONE}; b: {_KEY}; goto a""",
        "",
    ),
    "a key known to be in the array on the first path alone": (
        f"""r6 = *(u32 *)(r1 +12); if r6 > 7 goto b; *(u32 *)(r10 -8) = 2; a: r1 = map[array]; r2 = r10; r2 += -8;
        call 1; r1 = *(u64 *)(r0 +0); {_DONE}; b: *(u32 *)(r10 -8) = 9; goto a""",
        "null-map-value",
    ),
    "a key known to be in the array on both paths": (
        f"""r6 = *(u32 *)(r1 +12); if r6 > 7 goto b; *(u32 *)(r10 -8) = 2; a: r1 = map[array]; r2 = r10; r2 += -8;
        call 1; r1 = *(u64 *)(r0 +0); {_DONE}; b: *(u32 *)(r10 -8) = 1; goto a""",
        "",
    ),
    "a result tested on one path alone": (
        f"""{_KEY}; r7 = 0; a: {_LOOK}; if r7 == 1 goto b; if r0 == 0 goto c; r7 = *(u64 *)(r0 +0); c: r7 = 1; goto a;
        b: r1 = *(u64 *)(r0 +0); {_DONE}""",
        "null-map-value",
    ),
    "two results, of which one is tested": (
        f"""{_KEY}; {_LOOK}; r7 = r0; {_LOOK}; if r0 == 0 goto c; r1 = *(u64 *)(r7 +0); c: {_DONE}""",
        "null-map-value",
    ),
    "a copy of the result is tested": (
        f"""{_KEY}; {_LOOK}; r7 = r0; *(u64 *)(r10 -16) = r0; if r0 == 0 goto c; r1 = *(u64 *)(r7 +0);
        r2 = *(u64 *)(r10 -16); r1 = *(u64 *)(r2 +0); c: {_DONE}""",
        "",
    ),
    "the packet is measured at one of two jumps that join": (
        f"""r2 = *(u32 *)(r1 +0); r3 = *(u32 *)(r1 +4); r6 = *(u32 *)(r1 +12); r4 = r2; r4 += 8; if r6 > 7 goto a;
        r4 = r2; r4 += 4; a: if r4 > r3 goto c; r1 = *(u64 *)(r2 +0); c: {_DONE}""",
        "unbounded-packet-access",
    ),
    "a spilled pointer is measured with its original": (
        f"""r2 = *(u32 *)(r1 +0); r3 = *(u32 *)(r1 +4); *(u64 *)(r10 -8) = r2; r4 = r2; r4 += 8; if r4 > r3 goto c;
        r5 = *(u64 *)(r10 -8); r1 = *(u64 *)(r5 +0); c: {_DONE}""",
        "",
    ),
}


@pytest.mark.parametrize("name", AGAIN)
def test_a_second_visit_is_judged_by_its_own_state(name: str) -> None:
    asm, rule = AGAIN[name]
    report = verify_program(program(asm))
    assert (report.verdict, report.rule) == ("reject" if rule else "accept", rule)


def test_a_key_that_only_the_first_path_wrote_is_none_where_reads_must_be_written() -> None:
    asm = f"r6 = *(u32 *)(r1 +12); if r6 > 7 goto b; {_KEY}; a: {_LOOK}; {_DONE}; b: goto a"
    assert verify_program(program(asm)).verdict == "accept"
    assert verify_program(program(asm), HostProfile(kernel="5.15")).rule == "uninitialised-stack"


@pytest.mark.kernel
@pytest.mark.parametrize("name", AGAIN)
def test_the_kernel_judges_a_second_visit_alike(name: str, oracle: KernelOracle) -> None:
    asm, rule = AGAIN[name]
    spec = program(asm)
    verdict = oracle.ask(spec)
    assert verdict.accepted == (not rule)
    assert verdict.processed == verify_program(spec).insns_processed


_LOOP = "r6 = 0; r7 = 1; l: r6 += 1; r7 += r6; r8 = r7; r9 = r8; r9 += 3; if r6 < 20 goto l; r0 = 0; exit"


def test_the_budget_counts_single_instructions_of_straight_lines() -> None:
    spec = program(_LOOP)
    whole = verify_program(spec).insns_processed
    for budget in range(1, whole):
        report = verify_program(spec, max_insns=budget)
        assert (report.rule, report.insns_processed) == ("too-complex", budget + 1)
    assert verify_program(spec, max_insns=whole).verdict == "accept"


@pytest.mark.parametrize("kernel", ["5.15", "6.1", "6.12", "6.18"])
def test_watching_changes_nothing(kernel: str) -> None:
    profile = HostProfile(kernel=kernel)
    seen: list[int] = []

    def note(slot: int, _: object) -> None:
        seen.append(slot)

    for asm in [*(asm for asm, _ in AGAIN.values()), _LOOP]:
        seen.clear()
        watched = verify_program(program(asm), profile, observe=note)
        plain = verify_program(program(asm), profile)
        assert (watched.message, watched.insns_processed) == (plain.message, plain.insns_processed)
        assert len(seen) <= plain.insns_processed  # a path that ends at a stored state takes no step there


def test_what_a_walk_stored_goes_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        assert verify_program(program(_LOOP)).total_states > 1
        assert not [found for found in gc.get_objects() if isinstance(found, Checkpoint)]
    finally:
        gc.enable()
