"""Watching a walk: what the verifier knew before every instruction, for tools that ask for it.

A walk that is not watched pays nothing for this. `Trace` keeps a bounded sample; whoever wants every step gives
`verify_program` a function of its own. How states are worded or printed is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ebpfkit.verifier.domain.values import Value
from ebpfkit.verifier.explore import Step, Walk
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.state import ZERO, Slot, State

__all__ = ["Observer", "Snapshot", "Trace", "watching"]

Observer = Callable[[int, State], None]
"""Called before every instruction walked, with its 8-byte slot and the state of the path, which must not be changed."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was known in one frame at one visit: values of R0 to R10 (None: not written) and of the stack, by slot."""

    frame: int
    registers: tuple[Value | None, ...]
    stack: Mapping[int, Slot]

    def words(self) -> dict[str, str]:
        """Registers and spilled values in words: `{"R1": "the context", "fp-8": "0..255"}`."""
        found = {
            f"R{number}": value.describe()
            for number, value in enumerate(self.registers)
            if value is not None and number < 10
        }
        for number, slot in sorted(self.stack.items()):
            value = slot.spilled
            if value is not None:
                words = value.describe()
            elif all(kind == ZERO for kind in slot.types):
                words = "zero bytes"
            else:
                words = "bytes of which nothing is known"
            found[f"fp-{8 * (number + 1)}"] = words
        return found


class Trace:
    """How often each 8-byte slot was walked, and up to `limit` different states that were there, the first ones."""

    def __init__(self, limit: int = 8) -> None:
        self.limit = limit
        self.visits: dict[int, int] = {}
        self.states: dict[int, list[Snapshot]] = {}
        self._known: set[Any] = set()

    def __call__(self, slot: int, state: State) -> None:
        self.visits[slot] = self.visits.get(slot, 0) + 1
        states = self.states.setdefault(slot, [])
        if len(states) >= self.limit:
            return
        frame = state.frames[-1]
        registers = tuple(frame.vals)
        key = (slot, registers)
        if key not in self._known:
            self._known.add(key)
            states.append(Snapshot(frame.number, registers, dict(frame.slots)))


def watching(observe: Observer) -> type[Walk]:
    """The walk that calls `observe` before every instruction."""

    class Watched(Walk):
        def _build(self, index: int) -> Step:
            slot = self.code.slot_of(index)
            try:
                step = super()._build(index)
            except (Rejection, Unmodelled):
                observe(slot, self.state)  # some are refused for what they are, at the first visit
                raise

            def watched(vals: list[Any], ids: list[int]) -> int:
                observe(slot, self.state)
                return step(vals, ids)

            return watched

    return Watched
