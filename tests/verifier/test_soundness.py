"""End to end: whatever a run of the virtual machine has in its registers, the verifier had thought of it there.

The walk runs without pruning here, since a path that ends at a stored state lets numbers go that nothing relies on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from cases import MAPS, program
from generator import generate

from ebpfkit.asm.isa import Kind
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import NotSupported
from ebpfkit.verifier import verify_program
from ebpfkit.verifier.checkpoints import Checkpoints
from ebpfkit.verifier.domain.pointer import MAP_VALUE, PACKET, STACK
from ebpfkit.verifier.state import State
from ebpfkit.vm import Machine

_M = (1 << 64) - 1
_LIMIT = 3_000  # instructions walked without pruning
_SEEDS = range(160)


class Known:
    """All states of an unpruned walk: per slot, the registers of the innermost frame with that frame's number."""

    def __init__(self) -> None:
        self.states: dict[int, set[tuple[int, tuple[Any, ...]]]] = {}

    def __call__(self, slot: int, state: State) -> None:
        frame = state.frames[-1]
        self.states.setdefault(slot, set()).add((frame.number, tuple(frame.vals)))


class Watch:
    """Holds every step of a run against what is known; the packet's base is what the first pointer into it says."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.base: int | None = None
        self.steps = 0

    def __call__(self, step: Any) -> None:
        self.steps += 1
        states = self.known.states.get(step.slot)
        assert states, f"slot {step.slot} was never walked"
        assert any(self._fits(number, values, step.registers) for number, values in states), (
            f"slot {step.slot}: {step.instruction}: {[hex(r) for r in step.registers]} is in none of {states}"
        )
        if step.instruction.op.kind is Kind.CALL:
            self.base = None  # helpers may move the packet

    def _fits(self, number: int, values: tuple[Any, ...], registers: tuple[int, ...]) -> bool:
        base = self.base
        for value, held in zip(values[:10], registers):
            if value is None or (value.nullable and held == 0):
                continue
            if value.is_scalar:
                if not value.contains(held):
                    return False
            elif value.kind == STACK and value.target == number:
                if not value.var.contains((held - registers[10] - value.off) & _M):
                    return False
            elif value.kind == PACKET:
                if base is None and value.var.const is not None:
                    base = held - value.off - value.var.const & _M
                if base is not None and not value.var.contains((held - base - value.off) & _M):
                    return False
            elif value.kind == MAP_VALUE and held == 0:
                return False
        self.base = base
        return True


def _accepted(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ProgramSpec, Known]]:
    monkeypatch.setattr(Checkpoints, "visit", lambda self, state, frame, index, flag, processed: False)
    for seed in _SEEDS:
        spec = program(generate(seed)[0])
        known = Known()
        if verify_program(spec, max_insns=_LIMIT, observe=known).verdict == "accept":
            yield spec, known


def test_what_runs_was_thought_of(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    programs = steps = 0
    for spec, known in _accepted(monkeypatch):
        programs += 1
        for _ in range(4):
            watch = Watch(known)
            packet = rng.randbytes(rng.choice((14, 20, 34, 60, 64, 200, 1400)))
            with suppress(NotSupported):  # a helper that asks the world around; every step until then counts
                Machine(spec, "xdp", list(MAPS.values())).run(packet, trace=watch)
            steps += watch.steps
    assert programs > 40 and steps > 4000
