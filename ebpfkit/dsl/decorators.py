"""What turns a function into a program: `@xdp` and its siblings."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal, overload

from ebpfkit._bits import U32_MAX
from ebpfkit.dsl.actions import SK_DROP, TC_ACT_SHOT, SkAction, TcAction
from ebpfkit.dsl.kinds import KINDS
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.program import Program, TracingProgram
from ebpfkit.dsl.skbuff import SkBuff
from ebpfkit.dsl.verdicts import XDP_ABORTED, XDP_PASS, XdpAction
from ebpfkit.elf.run_config import RunConfig
from ebpfkit.errors import UsageError

__all__ = [
    "cgroup_skb", "fentry", "fexit", "kprobe", "kretprobe", "perf_event", "raw_tracepoint", "socket_filter", "tc",
    "tp_btf", "tracepoint", "xdp",
]  # fmt: skip

Traced = Callable[[Callable[..., int | None]], TracingProgram]


@overload
def xdp(function: Callable[[Packet], int], /) -> Program[XdpAction]: ...
@overload
def xdp(
    *,
    short: XdpAction = XDP_ABORTED,
    frags: bool = False,
    at: Literal["", "devmap", "cpumap"] = "",
    name: str = "",
    priority: int = ...,
    chain: Collection[XdpAction] = ...,
) -> Callable[[Callable[[Packet], int]], Program[XdpAction]]: ...
def xdp(
    function: Callable[[Packet], int] | None = None,
    /,
    *,
    short: XdpAction = XDP_ABORTED,
    frags: bool = False,
    at: Literal["", "devmap", "cpumap"] = "",
    name: str = "",
    priority: int = RunConfig().priority,
    chain: Collection[XdpAction] = (XDP_PASS,),
) -> Program[XdpAction] | Callable[[Callable[[Packet], int]], Program[XdpAction]]:
    """Make an XDP program of a function from a packet to a verdict.

    `short` is the verdict for a packet that is too short to read and for a missing key; `frags` lets packets come in
    several buffers (section "xdp.frags"); `at` makes it a program of the entries of a "devmap" or "cpumap"; `name` is
    the program's name where it is not the function's. Beside other programs of a device, behind a dispatcher, those of
    lower `priority` run first, and after a verdict of `chain` the next one runs; libxdp reads both from the object.
    """
    if at not in ("", "devmap", "cpumap"):
        raise UsageError(f"at={at!r} is neither 'devmap' nor 'cpumap'")
    if not 0 <= priority <= U32_MAX:
        raise UsageError(f"priority={priority} is not within 0..{U32_MAX}")
    if any(not isinstance(verdict, XdpAction) for verdict in chain):
        raise UsageError(f"chain={chain!r} is a tuple of verdicts, such as (XDP_PASS, XDP_DROP)")
    run_config = RunConfig(priority, frozenset(verdict.name for verdict in chain))
    if at and run_config != RunConfig():
        raise UsageError(f"a program of a {at} stands alone in its entry: priority and chain have no meaning there")
    if function is not None:
        return Program(function)
    return lambda wrapped: Program(wrapped, short=short, frags=frags, at=at, name=name, run_config=run_config)


@overload
def tc(function: Callable[[SkBuff], int], /) -> Program[TcAction]: ...
@overload
def tc(*, short: TcAction = TC_ACT_SHOT, name: str = "") -> Callable[[Callable[[SkBuff], int]], Program[TcAction]]: ...
def tc(
    function: Callable[[SkBuff], int] | None = None, /, *, short: TcAction = TC_ACT_SHOT, name: str = ""
) -> Program[TcAction] | Callable[[Callable[[SkBuff], int]], Program[TcAction]]:
    """Make a traffic control program (sched_cls) of a function from a packet to a verdict.

    `program.attach("eth0", "ingress")` puts it at a device (tcx), with `via="clsact"` as a filter of the clsact queue.
    """
    if function is not None:
        return Program(function, kind=KINDS["tc"])
    return lambda wrapped: Program(wrapped, kind=KINDS["tc"], short=short, name=name)


@overload
def socket_filter(function: Callable[[SkBuff], int], /) -> Program[int]: ...
@overload
def socket_filter(*, short: int = 0, name: str = "") -> Callable[[Callable[[SkBuff], int]], Program[int]]: ...
def socket_filter(
    function: Callable[[SkBuff], int] | None = None, /, *, short: int = 0, name: str = ""
) -> Program[int] | Callable[[Callable[[SkBuff], int]], Program[int]]:
    """Make a socket filter of a function from a packet to the number of its bytes to keep: 0 drops it."""
    if function is not None:
        return Program(function, kind=KINDS["socket_filter"])
    return lambda wrapped: Program(wrapped, kind=KINDS["socket_filter"], short=short, name=name)


def cgroup_skb(
    at: Literal["ingress", "egress"], /, *, short: SkAction = SK_DROP, name: str = ""
) -> Callable[[Callable[[SkBuff], int]], Program[SkAction]]:
    """Make a filter of the packets that the processes of a control group receive ("ingress") or send ("egress")."""
    if at not in ("ingress", "egress"):
        raise UsageError(f'write @cgroup_skb("ingress") or @cgroup_skb("egress"), not {at!r}')
    return lambda wrapped: Program(wrapped, kind=KINDS["cgroup_skb"], at=at, short=short, name=name)


def _tracing(decorator: str, target: object, name: str) -> Traced:
    if not isinstance(target, str):
        raise UsageError(f"@{decorator}(...) names {KINDS[decorator].needs_target}, as a text")

    def make(function: Callable[..., int | None]) -> TracingProgram:
        return TracingProgram(function, kind=KINDS[decorator], target=target, name=name)

    return make


def kprobe(function: str, /, *, name: str = "") -> Traced:
    """Make a program that runs where a function of the kernel begins; its parameters are that function's arguments."""
    return _tracing("kprobe", function, name)


def kretprobe(function: str, /, *, name: str = "") -> Traced:
    """Make a program that runs where a function of the kernel returns; its parameter is what that function returns."""
    return _tracing("kretprobe", function, name)


def tracepoint(event: str, /, *, name: str = "") -> Traced:
    """Make a program that runs at a tracepoint, "sched:sched_switch"; its parameter is a `TraceEvent` of yours."""
    group, colon, rest = event.partition(":")
    if not (colon and group and rest):
        raise UsageError(f"a tracepoint is named by group and name, 'sched:sched_switch', not {event!r}")
    return _tracing("tracepoint", f"{group}/{rest}", name)


def raw_tracepoint(event: str, /, *, name: str = "") -> Traced:
    """Make a program that runs at a tracepoint with the arguments that the kernel passes there, 64 bits each."""
    return _tracing("raw_tracepoint", event, name)


def tp_btf(event: str, /, *, name: str = "") -> Traced:
    """Make a program that runs at a tracepoint, whose arguments the verifier knows by type."""
    return _tracing("tp_btf", event, name)


def fentry(function: str, /, *, name: str = "") -> Traced:
    """Make a program that runs where a function of the kernel begins; its parameters are that function's arguments."""
    return _tracing("fentry", function, name)


def fexit(function: str, /, *, name: str = "") -> Traced:
    """Make a program that runs where a function of the kernel returns: its arguments, all of them, and its result."""
    return _tracing("fexit", function, name)


@overload
def perf_event(function: Callable[..., int | None], /) -> TracingProgram: ...
@overload
def perf_event(*, name: str = "") -> Traced: ...
def perf_event(function: Callable[..., int | None] | None = None, /, *, name: str = "") -> TracingProgram | Traced:
    """Make a program that runs at a perf event, such as so many times a second; its parameter is the `Context`."""
    if function is not None:
        return TracingProgram(function, kind=KINDS["perf_event"], target="")
    return _tracing("perf_event", "", name)
