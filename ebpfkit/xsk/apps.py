"""What AF_XDP sockets are most often measured with: drop, send, send back; and how fast they are at it.

Each is a worker `work(sock, stop)` for `XskGroup.threads`, on the batch interface. The command line's `ebpfkit xsk` and
the examples in programs/ use them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ebpfkit.errors import UsageError, XskError
from ebpfkit.xsk.ring import DESCRIPTOR
from ebpfkit.xsk.stats import XskStatistics
from ebpfkit.xsk.umem import Umem

if TYPE_CHECKING:
    from ebpfkit.xsk.socket import XskSocket
    from ebpfkit.xsk.workers import Stop

__all__ = ["Rate", "Rates", "drop", "forward", "generator", "swap_addresses"]

BURST = 64
_TURN = 0.1  # seconds after which a worker looks whether it is to stop


def drop(sock: XskSocket, stop: Stop) -> None:
    """Receive and forget."""
    while not stop.is_set():
        batch = sock.receive_batch(4 * BURST, timeout=_TURN)
        if len(batch):
            sock.release_batch(batch)


def swap_addresses(umem: Umem, batch: NDArray[Any]) -> None:
    """Exchange source and destination MAC of every packet of a batch."""
    both = umem.gather(batch["addr"], 0, 12)
    umem.scatter(batch["addr"], 0, np.roll(both, 6, axis=1))


def forward(sock: XskSocket, stop: Stop) -> None:
    """Send every packet back to where it came from."""
    while not stop.is_set():
        batch = sock.receive_batch(4 * BURST, timeout=_TURN)
        if len(batch):
            swap_addresses(sock.umem, batch)
            try:
                sock.send_batch(batch)
            except XskError as error:
                if not error.errno:
                    raise  # not the device's doing


def generator(
    packet: bytes, *, rate: float | None = None, count: int | None = None
) -> Callable[[XskSocket, Stop], None]:
    """A worker that sends `packet` over and over: `rate` packets a second (None: as many as go), `count` in all.

    For sockets without RX ring (`rx_size=0`): every frame of their UMEM holds the packet, written once.
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
        batch = np.zeros(BURST, DESCRIPTOR)
        batch["len"] = len(packet)
        began, sent = time.monotonic(), 0
        while not stop.is_set() and (count is None or sent < count):
            size = BURST if count is None else min(BURST, count - sent)
            if rate is not None:
                due = int(rate * (time.monotonic() - began)) + 1 - sent
                if due < min(size, max(1, rate / 1000)):  # at most a thousand bursts a second
                    time.sleep(min(_TURN, 0.2 / rate + 0.0005))
                    continue
                size = min(size, due)
            sock.reap()
            addresses = umem.allocate(size)
            if not len(addresses):
                sock.flush()
                continue
            part = batch[: len(addresses)]
            part["addr"] = addresses + np.uint64(start)
            sock.send_batch(part)
            sent += len(part)
        sock.drain(1)

    return work


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
