"""Making an AF_XDP socket: UMEM registration, rings, mappings, bind, in the order the kernel wants them.

Every failure leaves nothing behind. Receiving and sending are `socket`'s.
"""

from __future__ import annotations

import ctypes
import errno
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ebpfkit.abi import uapi
from ebpfkit.errors import KernelError, NotSupported, UsageError
from ebpfkit.kernel import xdp_socket
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.netlink import Device
from ebpfkit.kernel.xdp_socket import RingOffsets
from ebpfkit.xsk.explain import bind_error, setup_error
from ebpfkit.xsk.ring import ADDRESS, DESCRIPTOR, ConsumerRing, ProducerRing
from ebpfkit.xsk.umem import Umem

__all__ = ["MODES", "Opened", "Sizes", "open_bound"]

MODES = {"auto": 0, "copy": uapi.XDP_COPY, "zero-copy": uapi.XDP_ZEROCOPY}

_DEFAULT_BUDGET = 32  # packets one sendto sends in copy mode, and the least that can be set
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.05


@dataclass(frozen=True, slots=True)
class Sizes:
    """Entries of each ring."""

    rx: int
    tx: int
    fill: int
    completion: int


@dataclass(slots=True)
class Opened:
    """A bound socket and its mappings."""

    fd: Fd
    fill: ProducerRing
    completion: ConsumerRing
    rx: ConsumerRing | None
    tx: ProducerRing | None
    tx_budget: int
    mappings: list[tuple[int, int]] = field(default_factory=list)

    def close(self) -> None:
        """Unmap first: a mapped ring keeps the socket, and so the queue, after its descriptor is closed."""
        self.detach()
        for address, length in self.mappings:
            xdp_socket.unmap(address, length)
        self.mappings.clear()
        self.fd.close()

    def detach(self) -> None:
        """Take the mappings away from the rings."""
        for ring in (self.fill, self.completion, self.rx, self.tx):
            if ring is not None:
                ring.detach()


def open_bound(
    umem: Umem,
    device: Device,
    queue: int,
    sizes: Sizes,
    *,
    mode: str,
    need_wakeup: bool,
    tx_budget: int | None,
    timeout: float,
) -> Opened:
    """A socket bound to the queue.

    A closed socket's queue is released some 20 to 100 ms later, so EBUSY is tried again for `timeout` seconds, each
    time from the start: a socket that was refused once cannot be set up again. Raises XskError, NotSupported.
    """
    if not sizes.rx and not sizes.tx:
        raise UsageError("a socket needs an RX ring, a TX ring, or both")
    if queue < 0:
        raise UsageError(f"queues are numbered from 0, not {queue}")
    if tx_budget is not None and not _DEFAULT_BUDGET <= tx_budget <= max(sizes.tx, _DEFAULT_BUDGET):
        raise UsageError(f"a TX budget is {_DEFAULT_BUDGET} to the TX ring's {sizes.tx} packets, not {tx_budget}")
    if umem.in_use:
        raise NotSupported("one UMEM for several sockets", why="give each socket its own")
    flags = MODES[mode] | (uapi.XDP_USE_NEED_WAKEUP if need_wakeup else 0)
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        with ExitStack() as undo:
            opened = _set_up(undo, umem, sizes, tx_budget)
            try:
                xdp_socket.bind(opened.fd, device.index, queue, flags=flags)
            except KernelError as error:
                number = error.errno or 0
                if number != errno.EBUSY or time.monotonic() + pause > deadline:
                    raise bind_error(number, device, queue, mode) from error
            else:
                undo.pop_all()
                umem.in_use = True
                return opened
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _set_up(undo: ExitStack, umem: Umem, sizes: Sizes, tx_budget: int | None) -> Opened:
    what = "socket"
    try:
        fd = undo.enter_context(xdp_socket.open_socket())
        what = f"UMEM of {umem.frame_count} frames of {umem.frame_size} bytes"
        xdp_socket.register_umem(fd, umem.address, umem.length, umem.frame_size, umem.headroom)
        for ring in ("fill", "completion", "rx", "tx"):
            entries = getattr(sizes, ring)
            if entries:
                what = f"{ring} ring of {entries} entries"
                xdp_socket.set_ring_size(fd, ring, entries)
        what = "TX budget"
        budget = tx_budget or max(sizes.tx, _DEFAULT_BUDGET)
        # The default is 32 packets a sendto, then EAGAIN: the ring's size instead saves most of the system calls.
        if budget != _DEFAULT_BUDGET and sizes.tx and not xdp_socket.set_tx_budget(fd, budget):
            budget = _DEFAULT_BUDGET
        what = "mapping the rings"
        return _map_rings(undo, fd, sizes, budget)
    except KernelError as error:
        raise setup_error(error.errno or 0, what) from error


def _map_rings(undo: ExitStack, fd: Fd, sizes: Sizes, budget: int) -> Opened:
    offsets = xdp_socket.get_mmap_offsets(fd)
    mappings: list[tuple[int, int]] = []

    def parts(name: str, entry: np.dtype[Any]) -> tuple[memoryview, np.dtype[Any], int, dict[str, Any]]:
        size = getattr(sizes, name)
        where: RingOffsets = getattr(offsets, name)
        length = where.descriptors + size * entry.itemsize
        address = xdp_socket.map_ring(fd, name, length)
        mappings.append((address, length))
        undo.callback(xdp_socket.unmap, address, length)
        xdp_socket.exclude_from_fork(address, length)
        memory = memoryview((ctypes.c_ubyte * length).from_address(address)).cast("B")
        places = {
            "producer": where.producer,
            "consumer": where.consumer,
            "entries": where.descriptors,
            "flags": where.flags,
            "name": f"{name if name in ('fill', 'completion') else name.upper()} ring",
        }
        return memory, entry, size, places

    def producer(name: str, entry: np.dtype[Any]) -> ProducerRing:
        memory, kind, size, places = parts(name, entry)
        return ProducerRing(memory, kind, size, **places)

    def consumer(name: str, entry: np.dtype[Any]) -> ConsumerRing:
        memory, kind, size, places = parts(name, entry)
        return ConsumerRing(memory, kind, size, **places)

    return Opened(
        fd,
        fill=producer("fill", ADDRESS),
        completion=consumer("completion", ADDRESS),
        rx=consumer("rx", DESCRIPTOR) if sizes.rx else None,
        tx=producer("tx", DESCRIPTOR) if sizes.tx else None,
        tx_budget=budget,
        mappings=mappings,
    )
