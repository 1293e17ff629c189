"""Every rule shown by an example: the failing program breaks that very rule, the mended one is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ebpfkit.asm.parser import parse
from ebpfkit.diag.examples import EXAMPLE_MAPS, EXAMPLES, Example
from ebpfkit.diag.kernel_log import parse_kernel_log
from ebpfkit.diag.rules import RULES
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.elf.raw import program_from_code
from ebpfkit.verifier import verify_program

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

_STRICT = 1
# Rules of which no example can be a few lines of assembly for a packet program: what they need instead.
WITHOUT = {
    "attach-target": "the BTF of an attach target",
    "back-edge": "a kernel before 5.3, or an unprivileged loader",
    "btf-mismatch": "wrong BTF",
    "callback": "the address of a function",
    "global-function-argument": "functions with BTF",
    "invalid-register": "bytes that no assembler writes",
    "iterator": "kernel functions and BTF",
    "kfunc-argument": "kernel functions and BTF",
    "kfunc-not-allowed": "kernel functions and BTF",
    "lock": "a map with BTF",
    "not-in-kernel": "a kernel older than the program",
    "not-modelled": "no rule of the kernel",
    "other": "no rule of the kernel",
    "pointer-comparison": "an unprivileged loader",
    "reserved-field": "bytes that no assembler writes",
    "special-field": "a map with BTF",
    "too-large": "a million instructions",
    "too-many-functions": "257 functions",
    "too-many-maps": "65 maps",
    "uninitialised-stack": "an unprivileged loader",
    "unknown-opcode": "bytes that no assembler writes",
    "unprivileged": "an unprivileged loader",
    "untrusted-pointer": "kernel functions and BTF",
    "verifier-bug": "no rule of the kernel",
    "write-only-memory": "a map with the flag",
}


def _maps() -> list[MapSpec]:
    return [
        MapSpec(
            name, kind, key, value, entries,
            data=bytes(value) if name in ("settings", "state") else None, frozen=name == "settings",
        )
        for name, (kind, key, value, entries) in EXAMPLE_MAPS.items()
    ]  # fmt: skip


def _program(example: Example, text: str) -> ProgramSpec:
    spec = program_from_code(parse(text), prog_type=example.prog_type, maps=_maps(), license=example.license)
    return spec.replace(flags=_STRICT) if example.strict_alignment else spec


@pytest.mark.parametrize("rule", EXAMPLES)
def test_an_example_breaks_its_rule_and_is_mended(rule: str) -> None:
    example = EXAMPLES[rule]
    failing, mended = (verify_program(_program(example, text)) for text in (example.failing, example.mended))
    assert (failing.verdict, failing.rule) == ("reject", rule), str(failing)
    assert mended.verdict == "accept", str(mended)


@pytest.mark.kernel
@pytest.mark.parametrize("rule", EXAMPLES)
def test_the_running_kernel_sees_the_examples_so(rule: str, oracle: KernelOracle) -> None:
    example = EXAMPLES[rule]
    if rule not in ("empty-program", "invalid-map"):  # refused before there is a verifier, and without a log
        verdict = oracle.ask(_program(example, example.failing))
        assert not verdict.accepted
        assert parse_kernel_log(verdict.log, rejected=True).rule == rule, verdict.log
    assert oracle.ask(_program(example, example.mended)).accepted


def test_every_rule_has_an_example_or_a_reason_why_not() -> None:
    assert set(EXAMPLES) | set(WITHOUT) == set(RULES)
    assert not set(EXAMPLES) & set(WITHOUT)
