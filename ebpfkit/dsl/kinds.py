"""The types of programs as the language knows them: what each is called with, what it may answer, where it attaches.

Rows only; the numbers behind them (contexts, helpers, ranges of verdicts) are in `ebpfkit.abi`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any

from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.dsl.actions import SkAction, TcAction
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.skbuff import SkBuff
from ebpfkit.dsl.trace_context import Context, TraceEvent
from ebpfkit.dsl.typeinfo import IntType
from ebpfkit.dsl.types import s32, u32
from ebpfkit.dsl.verdicts import XdpAction

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of program.

    `context` is the class of what it is called with; `Context` means that its parameters are the arguments of what it
    traces. `access` says how it reads the packet: "write" and "read" in place, "" by copies. `lowest` and `highest`
    bound what it may return. `test_run`: the kernel runs it on request (BPF_PROG_TEST_RUN).
    """

    decorator: str
    prog_type: str
    section: str
    context: Any
    verdict: type[IntEnum] | None = None
    number: IntType = u32.__ebpf_type__
    lowest: int = 0
    highest: int = 0xFFFF_FFFF
    test_run: bool = True
    needs_target: str = ""  # what its decorator wants to know: "a kernel function"

    @property
    def layout(self) -> str:
        """The row of `ebpfkit.abi.contexts` that says how the context lies in memory; "" where none does."""
        return PROG_TYPES[self.prog_type].context or ""

    @property
    def struct(self) -> str:
        """The C structure that the context is."""
        return self.layout.partition("/")[0] or "bpf_raw_tracepoint_args"

    @property
    def access(self) -> str:
        return PROG_TYPES[self.prog_type].direct_packet_access

    @property
    def has_packet(self) -> bool:
        return self.context in (Packet, SkBuff)

    @property
    def sees_link_layer(self) -> bool:
        """Whether the packet begins at its Ethernet header; else at its network header."""
        return self.prog_type in ("xdp", "sched_cls")

    @property
    def answer(self) -> str:
        """What a message says it returns."""
        if self.verdict is not None:
            first = next(iter(self.verdict)).name.split("_")[0]
            example = {"XDP": "XDP_PASS", "TC": "TC_ACT_OK", "SK": "SK_PASS"}[first]
            return f"{example} or another {self.verdict.__name__}"
        if self.lowest == self.highest:
            return f"{self.lowest}, or nothing"
        return f"a number from {self.lowest} to {self.highest}"


_S32 = s32.__ebpf_type__
_LOWEST, _HIGHEST = -(1 << 31), (1 << 31) - 1


def _traces(decorator: str, prog_type: str, target: str, *, context: Any = Context, test_run: bool = False) -> Kind:
    """A program whose answer is a number, which mostly nobody asks for."""
    section = {"raw_tracepoint": "raw_tp"}.get(decorator, decorator)
    return Kind(decorator, prog_type, section, context, None, _S32, _LOWEST, _HIGHEST, test_run, target)


def _silent(decorator: str, target: str) -> Kind:
    """A program that must answer 0."""
    return Kind(decorator, "tracing", decorator, Context, None, _S32, 0, 0, False, target)


_FUNCTION = "a kernel function"
_ROWS = (
    Kind("xdp", "xdp", "xdp", Packet, XdpAction, XdpAction.__ebpf_type__, 0, 4),  # type: ignore[attr-defined]
    Kind("tc", "sched_cls", "tc", SkBuff, TcAction, TcAction.__ebpf_type__, -1, 8),  # type: ignore[attr-defined]
    Kind("socket_filter", "socket_filter", "socket", SkBuff),
    Kind("cgroup_skb", "cgroup_skb", "cgroup_skb", SkBuff, SkAction, SkAction.__ebpf_type__, 0, 1),  # type: ignore[attr-defined]
    _traces("kprobe", "kprobe", _FUNCTION),
    _traces("kretprobe", "kprobe", _FUNCTION),
    _traces("tracepoint", "tracepoint", "a tracepoint", context=TraceEvent),
    _traces("raw_tracepoint", "raw_tracepoint", "a tracepoint", test_run=True),
    _silent("tp_btf", "a tracepoint"),
    _silent("fentry", _FUNCTION),
    _silent("fexit", _FUNCTION),
    _traces("perf_event", "perf_event", ""),
)

KINDS: Mapping[str, Kind] = MappingProxyType({row.decorator: row for row in _ROWS})
"""Every type of program of the language, by the name of its decorator."""
