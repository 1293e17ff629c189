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
from ebpfkit.errors import KernelError, UsageError
from ebpfkit.host.bind import SocketRequest
from ebpfkit.kernel import xdp_socket
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.netlink import Device
from ebpfkit.kernel.netns import namespace_inode
from ebpfkit.kernel.xdp_socket import RingOffsets
from ebpfkit.xsk.explain import bind_error, setup_error
from ebpfkit.xsk.ring import ADDRESS, DESCRIPTOR, ConsumerRing, ProducerRing
from ebpfkit.xsk.umem import Umem

__all__ = ["MODES", "BusyPoll", "Opened", "Options", "Pool", "Sizes", "map_rings", "open_bound"]

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


@dataclass(frozen=True, slots=True)
class BusyPoll:
    """The application's own calls run the driver: for `microseconds` a call, `packets` at most (Linux 5.11)."""

    microseconds: int = 20
    packets: int = 64


@dataclass(frozen=True, slots=True)
class Options:
    """How a socket is bound."""

    mode: str = "auto"
    need_wakeup: bool = True
    multi_buffer: bool = False
    tx_budget: int | None = None
    busy_poll: BusyPoll | None = None
    timeout: float = 1.0


@dataclass(slots=True, eq=False)
class Pool:
    """The fill and the completion ring of one queue; several sockets may be bound to it and use them together."""

    number: int
    key: tuple[int, int, int]  # namespace, device, queue
    fd: Fd  # of the socket that came first: it keeps the rings
    fill: ProducerRing
    completion: ConsumerRing
    sizes: Sizes
    options: Options
    mappings: list[tuple[int, int]]
    users: int = 1
    sent: int = 0
    completed: int = 0

    def close(self) -> None:
        """Unmap first: a mapped ring keeps the socket, and so the queue, after its descriptor is closed."""
        for address, length in self.mappings:
            xdp_socket.unmap(address, length)
        self.mappings.clear()
        self.fd.close()


@dataclass(slots=True)
class Opened:
    """A bound socket, its queue's rings and its own."""

    fd: Fd
    pool: Pool
    rx: ConsumerRing | None
    tx: ProducerRing | None
    tx_budget: int
    mappings: list[tuple[int, int]] = field(default_factory=list)

    def close(self, umem: Umem) -> None:
        """Give back what the kernel had of the UMEM, unmap the rings and close.

        The socket that came first on its queue is kept until the others on that queue are closed.
        """
        pool = self.pool
        pool.users -= 1
        if pool.users:
            self._reclaim_own(umem)
        self.detach()
        for address, length in self.mappings:
            xdp_socket.unmap(address, length)
        self.mappings.clear()
        if self.fd is not pool.fd:
            self.fd.close()
        if not pool.users:
            pool.fill.detach()
            pool.completion.detach()
            pool.close()
            umem.pools.pop(pool.key, None)
            umem.reclaim(pool.number)

    def leave(self) -> None:
        """Unmap and close, and leave the frames to the process that has the socket now."""
        self.detach()
        self.pool.fill.detach()
        self.pool.completion.detach()
        for address, length in self.mappings:
            xdp_socket.unmap(address, length)
        self.mappings.clear()
        self.pool.close()

    def _reclaim_own(self, umem: Umem) -> None:
        """Others go on using the queue: only what lies in this socket's own rings comes back."""
        addresses = []
        if self.rx is not None:
            addresses.append(umem.to_plain(self.rx.consume(self.rx.size)["addr"]))
        if self.tx is not None:
            addresses.append(self.tx.unconsumed()["addr"])
        for found in addresses:
            umem.owners[umem.frames_of(found)] = 0
        umem.rebuild()

    def detach(self) -> None:
        """Take the mappings away from the rings of its own."""
        for ring in (self.rx, self.tx):
            if ring is not None:
                ring.detach()


def open_bound(umem: Umem, device: Device, queue: int, sizes: Sizes, options: Options) -> Opened:
    """A socket bound to the queue.

    The first socket of a UMEM registers it; those after it share it, and on the same queue its fill and completion
    rings as well. A closed socket's queue is released some 20 to 100 ms later, so EBUSY is tried again for
    `options.timeout` seconds, each time from the start: a socket that was refused once cannot be set up again. Raises
    XskError, UsageError.
    """
    budget = options.tx_budget
    if not sizes.rx and not sizes.tx:
        raise UsageError("a socket needs an RX ring, a TX ring, or both")
    if queue < 0:
        raise UsageError(f"queues are numbered from 0, not {queue}")
    if budget is not None and not _DEFAULT_BUDGET <= budget <= max(sizes.tx, _DEFAULT_BUDGET):
        raise UsageError(f"a TX budget is {_DEFAULT_BUDGET} to the TX ring's {sizes.tx} packets, not {budget}")
    key = (namespace_inode(), device.index, queue)
    pool = umem.pools.get(key)
    first = next(iter(umem.pools.values()), None)
    if first is not None:
        _check_shared(first.options, options)
    deadline = time.monotonic() + options.timeout
    pause = _FIRST_PAUSE
    while True:
        with ExitStack() as undo:
            opened = _set_up(undo, umem, key, pool, sizes, options)
            try:
                if first is not None:  # mode, wake-up and multi-buffer are those of the first
                    shared = pool or first
                    xdp_socket.bind(opened.fd, device.index, queue, flags=uapi.XDP_SHARED_UMEM, shared_umem=shared.fd)
                else:
                    xdp_socket.bind(opened.fd, device.index, queue, flags=_flags(options))
            except KernelError as error:
                number = error.errno or 0
                if number != errno.EBUSY or time.monotonic() + pause > deadline:
                    request = SocketRequest(queue, options.mode, options.multi_buffer, shared=first is not None)
                    raise bind_error(number, device, request) from error
            else:
                undo.pop_all()
                if pool is None:
                    umem.pools[key] = opened.pool
                else:
                    pool.users += 1
                umem.is_spread |= opened.pool.number > 0
                return opened
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _flags(options: Options) -> int:
    return (
        MODES[options.mode]
        | (uapi.XDP_USE_NEED_WAKEUP if options.need_wakeup else 0)
        | (uapi.XDP_USE_SG if options.multi_buffer else 0)
    )


def _check_shared(first: Options, asked: Options) -> None:
    if asked.mode not in ("auto", first.mode) or asked.multi_buffer != first.multi_buffer:
        raise UsageError(
            "sockets that share a UMEM have one mode and all or none multi_buffer, those of its first socket: "
            f"mode={first.mode!r}, multi_buffer={first.multi_buffer}"
        )


def _set_up(
    undo: ExitStack, umem: Umem, key: tuple[int, int, int], pool: Pool | None, sizes: Sizes, options: Options
) -> Opened:
    what = "socket"
    try:
        fd = undo.enter_context(xdp_socket.open_socket())
        if not umem.pools:
            what = f"UMEM of {umem.frame_count} frames of {umem.frame_size} bytes"
            xdp_socket.register_umem(
                fd, umem.address, umem.length, umem.frame_size, umem.headroom,
                flags=umem.flags, tx_metadata=umem.tx_metadata_size,
            )  # fmt: skip
        for ring in ("rx", "tx") if pool else ("fill", "completion", "rx", "tx"):
            entries = getattr(sizes, ring)
            if entries:
                what = f"{ring} ring of {entries} entries"
                xdp_socket.set_ring_size(fd, ring, entries)
        what = "TX budget"
        budget = options.tx_budget or max(sizes.tx, _DEFAULT_BUDGET)
        # The default is 32 packets a sendto, then EAGAIN: the ring's size instead saves most of the system calls.
        if budget != _DEFAULT_BUDGET and sizes.tx and not xdp_socket.set_tx_budget(fd, budget):
            budget = _DEFAULT_BUDGET
        if options.busy_poll is not None:
            what = "busy polling"
            xdp_socket.set_busy_poll(fd, options.busy_poll.microseconds, options.busy_poll.packets)
        what = "mapping the rings"
        return map_rings(undo, fd, umem, key, pool, sizes, options, budget)
    except KernelError as error:
        raise setup_error(error.errno or 0, what) from error


def map_rings(
    undo: ExitStack,
    fd: Fd,
    umem: Umem,
    key: tuple[int, int, int],
    pool: Pool | None,
    sizes: Sizes,
    options: Options,
    budget: int,
) -> Opened:
    """The rings of a socket in this process; those of its queue are `pool`'s where that is given."""
    offsets = xdp_socket.get_mmap_offsets(fd)

    def parts(name: str, entry: np.dtype[Any], mappings: list[tuple[int, int]]) -> tuple[Any, ...]:
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

    def producer(name: str, entry: np.dtype[Any], mappings: list[tuple[int, int]]) -> ProducerRing:
        memory, kind, size, places = parts(name, entry, mappings)
        return ProducerRing(memory, kind, size, **places)

    def consumer(name: str, entry: np.dtype[Any], mappings: list[tuple[int, int]]) -> ConsumerRing:
        memory, kind, size, places = parts(name, entry, mappings)
        return ConsumerRing(memory, kind, size, **places)

    if pool is None:
        shared: list[tuple[int, int]] = []
        taken = {other.number for other in umem.pools.values()}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        fill, completion = producer("fill", ADDRESS, shared), consumer("completion", ADDRESS, shared)
        pool = Pool(number, key, fd, fill, completion, sizes, options, shared)
    own: list[tuple[int, int]] = []
    return Opened(
        fd,
        pool,
        rx=consumer("rx", DESCRIPTOR, own) if sizes.rx else None,
        tx=producer("tx", DESCRIPTOR, own) if sizes.tx else None,
        tx_budget=budget,
        mappings=own,
    )
