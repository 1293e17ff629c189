"""Loops that the kernel counts, and what they are in plain Python."""

from __future__ import annotations

from collections.abc import Iterable

from ebpfkit.abi.limits import MAX_LOOP_ITERATIONS
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.types import s32

__all__ = ["iter_num"]


def iter_num(start: int, stop: int, /) -> Iterable[int]:
    """The numbers from start to stop - 1, counted by the kernel (bpf_iter_num, 6.4): `for i in iter_num(0, n)`.

    For loops whose rounds the verifier need not walk one by one: with an end that is only known at run time, or with
    very many rounds (at most 8,388,608; with more there are none). Both ends are s32.
    """
    run = current_run()
    if run is None:
        refuse("program-only", "iter_num() has a meaning only in a running program", "write range(start, stop)")
    if run.locked:
        refuse("in-lock", "iter_num() is called while a spin lock is held", "write range()")
    first, last = int(s32.accept(start)), int(s32.accept(stop))
    return range(first, last) if last - first <= MAX_LOOP_ITERATIONS else range(0)
