"""End to end: whatever a run of the virtual machine has in its registers, the verifier had thought of it there.

The walk runs without pruning here, since a path that ends at a stored state lets numbers go that nothing relies on.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest
from cases import program
from constructs import STRATA, Writer
from generator import generate
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ebpfkit.asm.isa import Kind
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import NotSupported
from ebpfkit.verifier import verify_program
from ebpfkit.verifier.checkpoints import Checkpoints
from ebpfkit.verifier.domain.pointer import MAP_VALUE, PACKET, STACK
from ebpfkit.verifier.domain.values import Values
from ebpfkit.verifier.state import State
from ebpfkit.vm import Machine

_M = (1 << 64) - 1
_LIMIT = 3_000  # instructions walked without pruning
_CONSTRUCTS = ("spin locks", "iterators", "callbacks, written", "dynptrs, written", "objects")


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


def _walk_whole(spec: ProgramSpec) -> Known | None:
    """Every state of the walk; None where the program is not accepted, or too long without pruning."""
    known = Known()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "visit", lambda self, state, frame, index, flag, processed: False)
        report = verify_program(spec, max_insns=_LIMIT, observe=known)
    return known if report.verdict == "accept" else None


def _run(spec: ProgramSpec, known: Known, packet: bytes) -> int:
    """Runs the program and returns how many steps were held against what is known."""
    watch = Watch(known)
    with suppress(NotSupported):  # a helper that asks the world around; every step until then counts
        Machine(spec, "xdp", list(spec.maps.values())).run(packet, trace=watch)
    return watch.steps


PACKETS = st.lists(
    st.binary(min_size=14, max_size=80) | st.integers(14, 1400).map(lambda size: b"\x08\0\x45" * (size // 3 + 1)),
    min_size=1, max_size=4,
)  # fmt: skip
LAW = settings(
    derandomize=True, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)


@settings(LAW, max_examples=110)
@given(st.integers(0, 1 << 32), PACKETS)
def test_what_runs_was_thought_of(seed: int, packets: list[bytes]) -> None:
    spec = program(generate(seed)[0])
    known = _walk_whole(spec)
    assume(known is not None)
    assert known is not None
    for packet in packets:
        assert _run(spec, known, packet)


@settings(LAW, max_examples=50)
@given(st.integers(0, 1 << 32), st.sampled_from(_CONSTRUCTS), PACKETS)
def test_what_runs_of_younger_constructs_was_thought_of(seed: int, stratum: str, packets: list[bytes]) -> None:
    spec = Writer(random.Random(seed), "xdp").build(STRATA[stratum][1])
    known = _walk_whole(spec)
    assume(known is not None)
    assert known is not None
    assume(_run(spec, known, packets[0]))  # not every kernel function has a machine


def test_a_state_that_does_not_hold_is_found() -> None:
    spec = program("r0 = 2; r0 += 1; exit")
    known = _walk_whole(spec)
    assert known is not None
    values = Values()
    known.states[1] = {(0, (values.constant(7), *[None] * 9))}
    with pytest.raises(AssertionError, match="is in none of"):
        _run(spec, known, bytes(64))
