"""Random programs give the same in the interpreter and in native code; `tools/jit_campaign.py` runs many more."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from ebpfkit.elf.raw import program_from_code
from ebpfkit.verifier import Report, verify_program
from ebpfkit.vm.jit import Unit

from .random_code import KINDS, MAPS, agree, outcome


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without LLVM's passes: a quarter of the time."""
    monkeypatch.setattr(Unit, "speed", 0)
    yield


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize("kind", KINDS)
def test_safe_code_does_what_the_interpreter_does(kind: str) -> None:
    wrong = []
    for number in range(60):
        dice = random.Random(f"{kind}/test/{number}")
        program = KINDS[kind](dice)
        prog_type = dice.choice([None, "xdp", "sched_cls"])
        ours, theirs = outcome(program, "safe", prog_type), outcome(program, None, prog_type)
        if not agree(ours, theirs):
            wrong.append((number, ours, theirs))
    assert not wrong


def test_trusted_code_does_what_the_interpreter_does() -> None:
    wrong, ran = [], 0
    for number in range(12):
        program = KINDS["computation"](random.Random(f"trusted/{number}"))
        verdict = verify_program(program_from_code(program, prog_type="xdp", maps=MAPS))
        if not verdict.ok:
            continue
        ran += 1
        ours, theirs = outcome(program, "trusted", "xdp", report=Report((verdict,))), outcome(program, None, "xdp")
        if not agree(ours, theirs, counted=False):
            wrong.append((number, ours, theirs))
    assert not wrong
    assert ran > 4
