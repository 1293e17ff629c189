"""What turns a function into a program: `@xdp`."""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.verdicts import XDP_ABORTED, XdpAction

__all__ = ["xdp"]


@overload
def xdp(function: Callable[[Packet], int], /) -> Program: ...
@overload
def xdp(
    *, short: XdpAction = XDP_ABORTED, frags: bool = False, name: str = ""
) -> Callable[[Callable[[Packet], int]], Program]: ...
def xdp(
    function: Callable[[Packet], int] | None = None,
    /,
    *,
    short: XdpAction = XDP_ABORTED,
    frags: bool = False,
    name: str = "",
) -> Program | Callable[[Callable[[Packet], int]], Program]:
    """Make an XDP program of a function from a packet to a verdict.

    `short` is the verdict for a packet that is too short to read and for a missing key; `frags` lets packets come in
    several buffers (section "xdp.frags"); `name` is the program's name where it is not the function's.
    """
    if function is not None:
        return Program(function)
    return lambda wrapped: Program(wrapped, short=short, frags=frags, name=name)
