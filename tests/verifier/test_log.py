"""Our log of level 2 beside the running kernel's: the same instructions in the same order with the same states."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from cases import program
from generator import generate

from ebpfkit.diag.kernel_log import parse_kernel_log
from ebpfkit.verifier import verify_program
from ebpfkit.verifier.trace import Trace

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

_INSN = re.compile(r"^(\d+): \([0-9a-f]{2}\) (.*?)(?:\s+;(.*))?$")
_STATE = re.compile(r"^(\d+): ((?:R\d|frame\d|fp-).*)$")
_FROM = re.compile(r"^from (-?\d+) to (\d+): (.*)$")
_ADDRESS = re.compile(r"0xffff[0-9a-f]{12}|map\[\w+\](?:\[0\]\+\d+)? ll|map=\w*")
_KNOWN_LATER = re.compile(r"(?<==)P(?=-?\d|0x|scalar)")


def states_of(log: str) -> list[tuple[str, str, str]]:
    """What a log says of the walk: (slot, text, state) of each instruction, and of each path taken up or left."""
    found: list[tuple[str, str, str]] = []
    for line in log.splitlines():
        line = _KNOWN_LATER.sub("", _ADDRESS.sub("...", line.rstrip()))
        if match := _INSN.match(line):
            found.append((match[1], match[2], (match[3] or "").strip()))
        elif match := _FROM.match(line):
            found.append((match[2], f"from {match[1]}", match[3]))
        elif (match := _STATE.match(line)) and found and not found[-1][2] and found[-1][1] != "safe":
            # The kernel wrote something in between: the state stands on a line of its own.
            found[-1] = (found[-1][0], found[-1][1], match[2])
        elif line.endswith(": safe"):
            found.append((line.split(":")[0], "safe", ""))
    return found


def our_log(seed: int) -> str:
    lines: list[str] = []
    verify_program(program(generate(seed)[0]), log=lines.append)
    return "\n".join(lines)


def test_the_log_is_one_that_our_parser_reads() -> None:
    lines: list[str] = []
    report = verify_program(program("r0 = r9; exit"), log=lines.append)
    log = parse_kernel_log("\n".join(lines), rejected=True)
    assert (log.rule, log.insn, log.message) == (report.rule, report.insn, report.message)
    assert log.processed == report.insns_processed


@pytest.mark.kernel
def test_the_states_are_the_kernels(oracle: KernelOracle) -> None:
    compared = 0
    for seed in range(60):
        spec = program(generate(seed)[0])
        if verify_program(spec).insns_processed > 300:
            continue
        theirs = states_of(oracle.ask(spec, log_level=2, log_size=1 << 22).log)
        ours = states_of(our_log(seed))
        for mine, kernel in zip(ours, theirs):
            assert mine == kernel, f"seed {seed}"
        assert len(ours) == len(theirs), f"seed {seed}"
        compared += 1
    assert compared >= 20


def test_an_instruction_that_is_refused_for_what_it_is_was_seen() -> None:
    trace = Trace()
    report = verify_program(program("r6 = 7; call 999; exit"), observe=trace)
    assert report.insn == 1 and trace.visits[1] == 1 and trace.states[1][0].words()["R6"] == "7"
