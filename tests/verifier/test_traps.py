"""Programs on which a naive verifier disagrees with Linux: our verdict, and the running kernel's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cases import program

from ebpfkit.diag.rules import RULES
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

TRAPS: list[dict[str, Any]] = [
    trap for name in ("traps.yaml", "found.yaml") for trap in yaml.safe_load((Path(__file__).parent / name).read_text())
]
IDS = [f"{trap.get('n', 0):02}-{trap['name']}" for trap in TRAPS]


def build(trap: dict[str, Any]) -> ProgramSpec:
    asm = trap["asm"].replace("EACH", trap.get("each", "") * trap.get("repeat", 0))
    return program(asm, trap.get("type", "xdp"), flags=trap.get("flags", 0))


def limit(trap: dict[str, Any]) -> int:
    # What runs to the million in the kernel is stopped early here: the rule is the same.
    return 20_000 if trap.get("slow") else 1_000_000


@pytest.mark.parametrize("trap", TRAPS, ids=IDS)
def test_our_verdict(trap: dict[str, Any]) -> None:
    report = verify_program(build(trap), max_insns=limit(trap))
    assert report.verdict == trap.get("ours", trap["expect"]), str(report)
    if report.verdict == "reject":
        assert report.rule in RULES
        assert report.rule in (trap["rule"], *trap.get("also", ())), str(report)
        assert report.message
        assert report.mend
        if trap["rule"] not in ("stack-depth", "too-complex"):
            assert report.span is not None and report.span.line > 0
    if "walked" in trap:
        assert report.insns_processed == trap["walked"]


QUICK = [trap for trap in TRAPS if not trap.get("slow")]  # the others walk a million instructions in the kernel


@pytest.mark.kernel
@pytest.mark.parametrize("trap", QUICK, ids=[f"{trap.get('n', 0):02}-{trap['name']}" for trap in QUICK])
def test_the_kernel_agrees(trap: dict[str, Any], oracle: KernelOracle) -> None:
    spec = build(trap)
    verdict = oracle.ask(spec)
    assert verdict.accepted == (trap["expect"] == "accept"), verdict.log
    report = verify_program(spec)
    if report.verdict != "unsupported":
        assert report.insns_processed == verdict.processed


def test_every_trap_is_there() -> None:
    assert {trap["n"] for trap in TRAPS if "n" in trap} == set(range(1, 65))
