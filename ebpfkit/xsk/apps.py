"""What AF_XDP sockets are most often measured with: drop, send, send back; and how fast they are at it.

Handlers for compiled loops, a worker that sends for `XskGroup.threads`, and rates. The command line's `ebpfkit xsk` and
the examples in programs/ use them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ebpfkit.dsl.decorators import xdp
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.verdicts import XDP_DROP, XDP_TX, XdpAction
from ebpfkit.errors import UsageError
from ebpfkit.net import Ethernet
from ebpfkit.xsk.loop import Loop
from ebpfkit.xsk.stats import XskStatistics

if TYPE_CHECKING:
    from ebpfkit.xsk.socket import XskSocket
    from ebpfkit.xsk.workers import Stop

__all__ = ["Rate", "Rates", "drop", "forward", "generator"]

SLICE = 8192  # packets between two looks at whether to stop
_TURN = 0.1  # seconds after which a worker looks whether it is to stop


@xdp(short=XDP_DROP)
def drop(pkt: Packet) -> XdpAction:
    """Receive and forget."""
    return XDP_DROP


@xdp(short=XDP_DROP)
def forward(pkt: Packet) -> XdpAction:
    """Send every packet back to where it came from."""
    eth = pkt.read(Ethernet)
    eth.dst, eth.src = eth.src, eth.dst
    return XDP_TX


def generator(
    packet: bytes, *, rate: float | None = None, count: int | None = None
) -> Callable[[XskSocket, Stop], None]:
    """A worker that sends `packet` over and over: `rate` packets a second (None: as many as go), `count` in all.

    For sockets without RX ring (`rx_size=0`): every frame of their UMEM holds the packet, written once. Raises XskError
    when the device goes down.
    """
    if rate is not None and rate <= 0:
        raise UsageError(f"a rate is a positive number of packets a second, not {rate}")

    def work(sock: XskSocket, stop: Stop) -> None:
        umem = sock.umem
        if sock.sizes.rx:
            raise UsageError("a generator's sockets only send: make them with rx_size=0")
        if not 0 < len(packet) <= umem.frame_size - umem.data_offset:
            raise UsageError(f"a packet of {len(packet)} bytes does not fit a frame of {umem.frame_size}")
        start = umem.data_offset
        umem.frames[:, start : start + len(packet)] = np.frombuffer(packet, np.uint8)
        loop = Loop([sock], None)
        loop.attach()
        try:
            _generate(loop, stop, len(packet), rate, count)
        finally:
            loop.detach()
            loop.close()
        sock.drain(1)

    return work


def _generate(loop: Loop, stop: Stop, length: int, rate: float | None, count: int | None) -> None:
    """Slices of packets until it is stopped, all have gone, or the device went down."""
    began, sent = time.monotonic(), 0
    while not stop.is_set() and (count is None or sent < count):
        size = SLICE if count is None else min(SLICE, count - sent)
        if rate is not None:
            due = int(rate * (time.monotonic() - began)) + 1 - sent
            if due < min(size, max(1, rate / 1000)):  # at most a thousand bursts a second
                time.sleep(min(_TURN, 0.2 / rate + 0.0005))
                continue
            size = min(size, due)
        done = loop.generate(size, length)
        sent += done
        if done < size:
            return


@dataclass(frozen=True, slots=True)
class Rate:
    """What happened in an interval: packets a second in and out, and packets lost in it."""

    seconds: float
    received: float
    sent: float
    lost: int


class Rates:
    """Reads the counters of sockets that other threads use, and says how fast they went since the last look."""

    def __init__(self, sockets: Mapping[int, XskSocket]) -> None:
        self._sockets = sockets
        self._last = self._read()

    def _read(self) -> tuple[float, int, int, int]:
        sockets = self._sockets.values()
        return (
            time.monotonic(),
            sum(sock.counters.received for sock in sockets),
            sum(sock.counters.completed for sock in sockets),
            self.statistics().lost,
        )

    def statistics(self) -> XskStatistics:
        """The kernel's counts, summed."""
        first, *others = (sock.statistics() for sock in self._sockets.values())
        for other in others:
            first += other
        return first

    def sample(self) -> Rate:
        """The rates since the last sample."""
        before, self._last = self._last, self._read()
        seconds, received, sent, lost = (now - then for now, then in zip(self._last, before, strict=True))
        seconds = max(seconds, 1e-9)
        return Rate(seconds, received / seconds, sent / seconds, int(lost))

    @property
    def received(self) -> int:
        return sum(sock.counters.received for sock in self._sockets.values())

    @property
    def sent(self) -> int:
        return sum(sock.counters.completed for sock in self._sockets.values())
