"""What programs that trace the kernel are called with: arguments, registers, records.

A probe names its function's arguments as its own parameters; where it needs the context itself, for a helper, its first
parameter is `Context`. Where arguments lie is the program type's, by the rows of `ebpfkit.abi`.
"""

from __future__ import annotations

from typing import Any

from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import s32, u8, u16, u64

__all__ = ["Context", "TraceEvent"]


class Context:
    """The context of a tracing program itself: to hand to helpers, and, of probes, the registers.

    `ip`, `sp` and `fp` are those of the place that was hit (kprobe, kretprobe, perf_event); `sample_period` and `addr`
    are a perf event's.
    """

    __slots__ = ("_values",)

    ip: u64
    sp: u64
    fp: u64
    sample_period: u64
    addr: u64

    def __init__(self, values: dict[str, int]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            refuse("context-field", f"this context has no {name}", f"it has {', '.join(self._values) or 'no fields'}")
        return u64(self._values[name])


class TraceEvent(Struct):
    """The record of a tracepoint: a subclass names the fields behind the common ones, as the kernel's `format` does.

        class Switch(bpf.TraceEvent):
            prev_comm: array[u8, Literal[16]]
            prev_pid: s32

    /sys/kernel/tracing/events/GROUP/NAME/format has the fields. The common ones are there, but no program may read
    them.
    """

    common_type: u16
    common_flags: u8
    common_preempt_count: u8
    common_pid: s32


def record_of(kind: type[TraceEvent], data: bytes) -> TraceEvent:
    """A read-only view of a record's bytes."""
    size = kind.__ebpf_type__.size
    return kind.__ebpf_load__(Region(bytearray(data[:size].ljust(size, b"\0")), RegionKind.READ_ONLY_CONTEXT), 0)
