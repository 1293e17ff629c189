"""Spin locks in map values: `with value.lock:` keeps other CPUs out."""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType

from ebpfkit.dsl.memory import RegionKind
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import u32

__all__ = ["SpinLock"]


class bpf_spin_lock(Struct):  # the kernel finds it by this name in the map's types
    """A spin lock as a field of a map's value; it is never named in a constructor.

        lock: bpf.SpinLock = bpf.SpinLock()      # what stands behind = is for type checkers, and may be left out

    `with value.lock:` takes it and gives it back however the block is left. Inside, a program may compute and change
    the value; it may call no helper, use no other map, and read no further packet header.
    """

    val: u32 = u32(0)

    def __enter__(self) -> None:
        run = current_run()
        if run is None:
            refuse("program-only", "a spin lock has a meaning only in a running program")
        if self._region.kind is not RegionKind.MAP:
            refuse("bad-lock", f"this lock lies in {self._region.kind.value}", "lock a value that a map gave")
        if run.locked:
            refuse("bad-lock", "a second lock inside of another", "give back the first")
        run.locked = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run = current_run()
        assert run is not None
        run.locked = False


bpf_spin_lock.__ebpf_type__ = replace(bpf_spin_lock.__ebpf_type__, opaque=True)
SpinLock = bpf_spin_lock
