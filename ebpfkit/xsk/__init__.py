"""AF_XDP: packets between a NIC's queue and this process without the kernel's network stack.

Belongs here: the memory that packets live in (`umem`), the four rings (`ring`), sockets (`socket`), several queues at
once (`group`), the program that steers packets to them (`redirect`), handlers in native code (`running`). The words are
libxdp's. System calls are
`kernel/xdp_socket.py`'s, loading and attaching programs is `loader/`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebpfkit.xsk.frame import Frame
    from ebpfkit.xsk.group import XskGroup
    from ebpfkit.xsk.handover import Handle, hand_over, take_over
    from ebpfkit.xsk.metadata import TxTimestamp
    from ebpfkit.xsk.redirect import redirect_object
    from ebpfkit.xsk.ring import DESCRIPTOR, ConsumerRing, ProducerRing
    from ebpfkit.xsk.running import HandedFrame, LoopCounters, Running, run
    from ebpfkit.xsk.setup import BusyPoll
    from ebpfkit.xsk.socket import XskSocket
    from ebpfkit.xsk.stats import XskStatistics
    from ebpfkit.xsk.umem import FrameOwner, Umem

__all__ = [
    "DESCRIPTOR",
    "BusyPoll",
    "ConsumerRing",
    "Frame",
    "FrameOwner",
    "HandedFrame",
    "Handle",
    "LoopCounters",
    "ProducerRing",
    "Running",
    "TxTimestamp",
    "Umem",
    "XskGroup",
    "XskSocket",
    "XskStatistics",
    "hand_over",
    "redirect_object",
    "run",
    "take_over",
]

_HOMES = {
    "DESCRIPTOR": "ring",
    "BusyPoll": "setup",
    "ConsumerRing": "ring",
    "Frame": "frame",
    "FrameOwner": "umem",
    "HandedFrame": "running",
    "Handle": "handover",
    "LoopCounters": "running",
    "ProducerRing": "ring",
    "Running": "running",
    "TxTimestamp": "metadata",
    "Umem": "umem",
    "XskGroup": "group",
    "XskSocket": "socket",
    "XskStatistics": "stats",
    "hand_over": "handover",
    "redirect_object": "redirect",
    "run": "running",
    "take_over": "handover",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
