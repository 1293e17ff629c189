"""Functions that the kernel calls back: `loop` and `for_each` of a map, and what they are in plain Python.

Timers, whose functions are called later, are `timers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ebpfkit.abi.limits import MAX_LOOP_ITERATIONS
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import s32, s64, u32, u64

__all__ = ["E2BIG", "for_each", "loop"]

S = TypeVar("S", bound=Struct | None)
E2BIG = 7


def loop(count: int, step: Callable[[u32, S], bool | None] | Callable[[u64, S], bool | None], state: S, /) -> s32:
    """Call `step(index, state)` for 0 to count - 1, until it returns True (bpf_loop, kernel 5.17): how often it ran.

    For loops that are too long to be unrolled or verified round by round, up to 8,388,608 rounds; for more the result
    is -7 (E2BIG) and nothing runs. `state` is a local structure, or None: what `step` shares with the program.
    """
    run = current_run()
    if run is None:
        refuse("program-only", "loop() has a meaning only in a running program", "write for i in range(n)")
    if run.locked:
        refuse("in-lock", "loop() is called while a spin lock is held", "call it before or after the with")
    rounds = int(u32.accept(count))
    if rounds > MAX_LOOP_ITERATIONS:
        return s32(-E2BIG)
    index_type = u64 if _first_annotation(step) in (u64, "u64") else u32
    for index in range(rounds):
        if step(index_type(index), state):  # type: ignore[arg-type]  # the annotation said which
            return s32(index + 1)
    return s32(rounds)


def _first_annotation(step: Callable[..., object]) -> object:
    return next(iter(getattr(step, "__annotations__", {}).values()), None)


def for_each(entries: Iterable[tuple[Any, Any]], visit: Callable[..., bool | None], state: object) -> s64:
    """What `for_each` of a map does with its entries: how many were visited."""
    visited = 0
    for key, value in entries:
        visited += 1
        if visit(key, value, state):
            break
    return s64(visited)
