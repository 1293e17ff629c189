"""An AF_XDP socket: one queue of a device, its UMEM and four rings, receiving and sending.

Two speeds, one state: `receive` and `send` hand out one packet at a time as a `Frame`; `receive_batch`, `send_batch`
and `release_batch` take arrays of descriptors. The rings are public, for those who do it all by themselves. Several
queues are `group`'s, the program that steers packets here is `redirect`'s.
"""

from __future__ import annotations

import errno
import os
import time
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ebpfkit.abi import uapi
from ebpfkit.errors import UsageError, XskError
from ebpfkit.kernel import netlink, xdp_socket
from ebpfkit.xsk import forking
from ebpfkit.xsk.frame import Frame
from ebpfkit.xsk.handover import produce
from ebpfkit.xsk.metadata import TxTimestamp, read_timestamp
from ebpfkit.xsk.pieces import in_pieces, whole_packets
from ebpfkit.xsk.ring import DESCRIPTOR, ConsumerRing, ProducerRing
from ebpfkit.xsk.setup import MODES, BusyPoll, Opened, Options, Pool, Sizes, open_bound
from ebpfkit.xsk.stats import XskStatistics
from ebpfkit.xsk.umem import FrameOwner, Umem

if TYPE_CHECKING:
    from ebpfkit.dsl.program import Program
    from ebpfkit.xsk.loop import Loop
    from ebpfkit.xsk.running import Running

__all__ = ["XskSocket"]

BATCH = 64
"""How many packets one round of receiving takes at most, unless told otherwise."""
LONGEST_WAIT = 1.0
"""Seconds of one poll: poll(2) does not tell when the device goes away, so it is asked for in between."""

_LATER = frozenset({errno.EAGAIN, errno.EBUSY, errno.ENOBUFS, errno.EINTR})
_PAUSE = 50e-6
# As plain numbers: members of an enum are slow to look up.
_FREE, _FILL, _USER, _TX = (int(owner) for owner in (FrameOwner.FREE, FrameOwner.FILL, FrameOwner.USER, FrameOwner.TX))
_CONTINUED = uapi.XDP_PKT_CONTD
_LONGEST_PACKET = 32  # descriptors; the kernel's limit is below it (MAX_SKB_FRAGS + 1)


@dataclass(slots=True)
class Counters:
    """What the application's side did, in packets; `wakeups` counts system calls that woke the kernel."""

    received: int = 0
    sent: int = 0
    completed: int = 0
    wakeups: int = 0


class XskSocket:
    """Bound to queue `queue` of device `dev` of the current network namespace, ready to receive and send.

    `mode` is "auto" (the kernel's choice), "copy" or "zero-copy". Sizes are entries of the rings; a socket without TX
    ring (`tx_size=0`) only receives, without RX ring only sends. Without `umem` it makes one of `frame_count` frames of
    `frame_size` bytes; a `umem` that other sockets use already is shared with them (on the same queue its fill and
    completion rings too: then one thread uses all of these sockets). `multi_buffer` takes and sends packets that need
    several frames. The fill ring is kept at `fill_target` frames (None: as many as suit the UMEM). A queue that is
    still being torn down is waited for `bind_timeout` seconds. Packets arrive once an XDP program redirects them here
    through an XSK map (see `XskGroup`). One thread at a time may use a socket; the rings have no locks. Raises
    XskError, AttachError, UsageError.
    """

    def __init__(
        self,
        dev: str | int,
        queue: int = 0,
        *,
        umem: Umem | None = None,
        mode: str = "auto",
        rx_size: int = 2048,
        tx_size: int = 2048,
        fill_size: int = 2048,
        completion_size: int = 2048,
        frame_count: int = 4096,
        frame_size: int = 4096,
        headroom: int = 0,
        huge_pages: bool = False,
        unaligned: bool = False,
        tx_metadata: bool = False,
        software_checksum: bool = False,
        shareable: bool = False,
        need_wakeup: bool = True,
        multi_buffer: bool = False,
        busy_poll: BusyPoll | None = None,
        tx_budget: int | None = None,
        fill_target: int | None = None,
        bind_timeout: float = 1.0,
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"mode {mode!r} is none of {', '.join(MODES)}")
        self._opened: Opened | None = None
        self._forked = False
        device = _find_device(dev)
        if umem is None:
            umem = Umem(
                frame_count, frame_size, headroom=headroom, huge_pages=huge_pages, unaligned=unaligned,
                tx_metadata=tx_metadata, software_checksum=software_checksum, shareable=shareable,
            )  # fmt: skip
        sizes = Sizes(rx_size, tx_size, fill_size, completion_size)
        options = Options(mode, need_wakeup, multi_buffer, tx_budget, busy_poll, bind_timeout)
        self._start(device, queue, umem, sizes, options, open_bound(umem, device, queue, sizes, options), fill_target)
        try:
            self._fill_first()
        except XskError:
            self.close(check=False)
            raise

    def _start(
        self,
        device: netlink.Device,
        queue: int,
        umem: Umem,
        sizes: Sizes,
        options: Options,
        opened: Opened,
        fill_target: int | None,
    ) -> None:
        """Everything behind bind, for a socket bound here or taken over from another process."""
        self.device, self.queue, self.umem = device, queue, umem
        self.sizes, self.options = sizes, options
        self.multi_buffer = options.multi_buffer
        self._opened, self._forked = opened, False
        forking.watch(self)
        self._pool: Pool = opened.pool
        self.fill: ProducerRing = opened.pool.fill
        self.completion: ConsumerRing = opened.pool.completion
        self._rx, self._tx = opened.rx, opened.tx
        self.tx_budget = opened.tx_budget
        self.tallies = Counters()
        self.loop: Loop | None = None  # the compiled loop that works on this socket
        self.timestamps: deque[TxTimestamp] = deque(maxlen=4096)
        self._timed: dict[int, tuple[int, int]] = {}  # frames whose time of sending was asked for: address, tag
        self._number = opened.fd.fileno()
        self._receiving = False
        self._failure = 0
        self._unsent = False
        self._outbox: list[tuple[int, int, int]] = []  # sent, not yet in the TX ring
        self._room = 0 if self._tx is None else self._tx.free()
        self.fill_target = min(fill_target or _share_of(umem.frame_count, sizes), self.fill.size)
        self.zero_copy = bool(xdp_socket.get_options(opened.fd) & uapi.XDP_OPTIONS_ZEROCOPY)

    def _fill_first(self) -> None:
        self.refill()
        if self._rx is not None and not len(self.fill):
            raise XskError(
                f"no frame is free for the fill ring of queue {self.queue}: the UMEM's {self.umem.frame_count} frames "
                "are with its other sockets; make it larger, or give those sockets a smaller fill_target"
            )

    # --- what it is

    @property
    def rx(self) -> ConsumerRing:
        """The RX ring. Raises UsageError on a socket that only sends."""
        if self._rx is None:
            raise UsageError("this socket has no RX ring (rx_size=0)")
        return self._rx

    @property
    def tx(self) -> ProducerRing:
        """The TX ring. Raises UsageError on a socket that only receives."""
        if self._tx is None:
            raise UsageError("this socket has no TX ring (tx_size=0)")
        return self._tx

    def fileno(self) -> int:
        """The descriptor, for XSK maps, selectors and asyncio: readable while the RX ring has packets."""
        self._check_open()
        return self._number

    @property
    def closed(self) -> bool:
        return self._opened is None

    def statistics(self) -> XskStatistics:
        """The kernel's counts (XDP_STATISTICS)."""
        return XskStatistics.from_bytes(xdp_socket.get_statistics(self._check_open().fd))

    def _check_open(self) -> Opened:
        if self._opened is None:
            if self._forked:
                raise XskError(
                    "this AF_XDP socket belongs to the parent process; open one in the child, or start it with "
                    "multiprocessing's spawn method"
                )
            raise XskError("this AF_XDP socket is closed")
        return self._opened

    def _check_idle(self) -> Opened:
        opened = self._check_open()
        if self.loop is not None:
            raise XskError("a compiled loop works on this socket; take packets from what `run` gave, or stop it first")
        return opened

    @property
    def counters(self) -> Counters:
        """What the application's side did, a compiled loop included."""
        if self.loop is not None:
            self.loop.tally(self)
        return self.tallies

    # --- compiled

    def run(self, handler: Program, **options: Any) -> Running:
        """Serve this socket with a handler compiled to native code, in a thread of its own, until the block is left.

        The handler is a function that `@xdp` decorates, as for `attach`. See `ebpfkit.xsk.running.Running`.
        """
        from ebpfkit.xsk.running import run

        return run([self], handler, **options)

    def resume(self) -> None:
        """Go on after a compiled loop: packets may be on their way out."""
        self._room = 0 if self._tx is None else self._tx.free()
        self._unsent = self._tx is not None and bool(len(self._tx))

    # --- receiving

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the RX ring has packets; False after `timeout` seconds (None: for ever).

        Raises XskError (ENETDOWN) when the device has gone.
        """
        self._check_idle()
        if self._unsent or self._outbox:
            self.flush()
        if self.rx.available():
            return True
        self.refill()
        if self.fill.needs_wakeup:
            self.tallies.wakeups += 1
            xdp_socket.kick_rx(self._number)
        if timeout is not None and timeout <= 0:
            return bool(self.rx.available())
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LONGEST_WAIT if deadline is None else deadline - time.monotonic()
            xdp_socket.wait_ready(self._number, timeout=min(left, LONGEST_WAIT))
            if self.rx.available():
                return True
            self.check_device()
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def check_device(self) -> None:
        """Raises XskError (ENETDOWN) when the device was removed after bind."""
        self._failure = xdp_socket.pending_error(self._check_open().fd) or self._failure
        if self._failure:
            raise XskError(
                f"queue {self.queue} of {self.device.name} has failed: {os.strerror(self._failure)}; the device has "
                "gone from this network namespace, close this socket",
                errno=self._failure,
            )

    def receive(self, timeout: float | None = None, *, count: int = BATCH) -> Iterator[Frame]:
        """The packets that are there, at most `count`; waits up to `timeout` seconds for the first (None: for ever).

        Each frame is valid in the body of the loop and released behind it, unless it was sent or kept. What is sent in
        the loop leaves when the loop ends. Frames not yet seen when the loop is left early come again next time.
        """
        if self._receiving:
            raise XskError("a loop over receive() is running on this socket already")
        if not self.wait(timeout):
            return
        descriptors = self._peek(count)
        self.umem.move(descriptors["addr"], _FILL, _USER)
        memory = self.umem.memory
        seen = packets = 0
        done: list[int] = []
        frame: Frame | None = None
        self._receiving = True
        rows = iter(descriptors.tolist())
        try:
            for address, length, options in rows:
                seen += 1
                packets += 1
                frame = Frame(self, address, memory[address : address + length])
                if options & _CONTINUED:
                    seen += frame.extend(rows)
                yield frame
                if frame.address >= 0 and not frame.is_kept:
                    done += frame.invalidate()
        finally:
            if frame is not None and frame.address >= 0 and not frame.is_kept:  # the loop was left from its body
                done += frame.invalidate()
            self._receiving = False
            self.umem.release(np.array(done, np.uint64))
            if self._opened is not None:
                self.umem.move(descriptors["addr"][seen:], _USER, _FILL)
                self.rx.cancel(len(descriptors) - seen)
                self.rx.release(seen)
                self.tallies.received += packets
                if self._outbox or self._unsent:
                    self.flush()
                self.refill()

    def _peek(self, count: int) -> NDArray[Any]:
        """Up to `count` descriptors of whole packets, their addresses plain; they stay in the ring until released."""
        index, found = self.rx.peek(count)
        descriptors = self.rx.read(index, found)
        if self.multi_buffer and found and descriptors["options"][-1] & _CONTINUED:
            if count < _LONGEST_PACKET:  # enough for any packet
                self.rx.cancel(found)
                return self._peek(_LONGEST_PACKET)
            whole = whole_packets(descriptors)
            self.rx.cancel(found - whole)
            descriptors = descriptors[:whole]
        if self.umem.unaligned:
            descriptors["addr"] = self.umem.to_plain(descriptors["addr"])
        return descriptors

    def receive_batch(self, count: int = BATCH, timeout: float | None = 0) -> NDArray[Any]:
        """Up to `count` descriptors (`DESCRIPTOR`: addr, len, options); their frames are the application's.

        Waits up to `timeout` seconds for the first (None: for ever). Give them back with `release_batch`, or send them.
        With multi-buffer packets, all but the last descriptor of a packet have XDP_PKT_CONTD (1) in their options.
        """
        if self._receiving:
            raise XskError("a loop over receive() is running on this socket already")
        if not self.wait(timeout):
            return np.empty(0, DESCRIPTOR)
        descriptors = self._peek(count)
        self.umem.move(descriptors["addr"], _FILL, _USER)
        if len(descriptors):
            self.rx.release(len(descriptors))
        self.tallies.received += self._packets(descriptors)
        self.refill()  # here too: under steady load the RX ring is never empty, and nobody waits
        return descriptors

    def _packets(self, descriptors: NDArray[Any]) -> int:
        """How many packets the descriptors are."""
        if not self.multi_buffer:
            return len(descriptors)
        return int(np.count_nonzero((descriptors["options"] & _CONTINUED) == 0))

    async def batches(self, count: int = BATCH) -> AsyncIterator[NDArray[Any]]:
        """Arrays of descriptors as `receive_batch` gives them, for ever, waiting in asyncio's event loop.

        `async for batch in sock` is the same. Raises XskError (ENETDOWN) when the device has gone.
        """
        from ebpfkit.xsk.waiting import wait_readable

        while True:
            batch = self.receive_batch(count, timeout=0)
            if len(batch):
                yield batch
            elif not await wait_readable(self.fileno(), LONGEST_WAIT):
                self.check_device()

    def __aiter__(self) -> AsyncIterator[NDArray[Any]]:
        return self.batches()

    def release_batch(self, descriptors: NDArray[Any]) -> None:
        """Give frames back and top up the fill ring. Raises XskError naming a frame that is not the application's."""
        self._check_idle()
        self.umem.release(descriptors["addr"])
        self.refill()

    def refill(self) -> int:
        """Take back sent frames, and put free ones into the fill ring up to its share; how many were put in."""
        self._check_idle()
        self.reap()
        if self._rx is None:
            return 0
        waiting = self.fill.size - self.fill.free()
        wanted = min(self.fill_target - waiting, len(self.umem))
        if wanted <= 0:
            return 0
        if self.umem.journal is not None and not self.umem.is_spread:
            addresses = self.umem.take_free(wanted, _FREE)
            produce(self.umem, self.fill, addresses, self.umem.frames_of(addresses), _FILL)
            return wanted
        addresses = self.umem.take_free(wanted, _FILL)
        if self.umem.is_spread:
            self.umem.holders[self.umem.frames_of(addresses)] = self._pool.number
        self.fill.produce(addresses)
        return wanted

    # --- sending

    def allocate(self, length: int = 0) -> Frame:
        """A free frame for a packet of `length` bytes, to be filled in and sent. Raises XskError when none is free."""
        self._check_idle()
        address = self._allocate(length)
        return Frame(self, address, self.umem.memory[address : address + length], kept=True)

    def _allocate(self, length: int) -> int:
        room = self.umem.frame_size - self.umem.data_offset
        if not 0 <= length <= room:
            several = "" if self.multi_buffer else "; larger ones need multi_buffer=True and are given as bytes"
            raise UsageError(f"a packet of {length} bytes does not fit a frame, which has room for {room}{several}")
        address = self.umem.allocate_one()
        if address < 0 and self.reap():
            address = self.umem.allocate_one()
        if address < 0:
            raise XskError(
                f"no frame is free: {self.umem.count(FrameOwner.USER)} are the application's, "
                f"{self.umem.count(FrameOwner.FILL)} in the fill ring, {self.umem.count(FrameOwner.TX)} being sent; "
                "release some, or make the socket with a larger frame_count"
            )
        return address + self.umem.data_offset

    def send(
        self, packet: Frame | bytes | bytearray | memoryview, *, flush: bool = True, timeout: float | None = None
    ) -> None:
        """Send a frame without a copy, or a copy of any bytes (or of a frame of another socket).

        Waits up to `timeout` seconds (None: for ever) for room in the TX ring. In a loop over `receive` the packet
        leaves when the loop ends, else at once, or with `flush=False` some packets later or when `flush` is called.
        Raises XskError (ETIMEDOUT, ENETDOWN), UsageError.
        """
        self._check_idle()
        if len(self._outbox) >= self._room:
            self._await_room(1, timeout)
        if isinstance(packet, Frame) and packet.socket.umem is self.umem:
            packet.check()
            if packet.rest:
                self._await_room(len(self._outbox) + len(packet.rest) + 1, timeout)
            if packet.timestamp_tag is not None:
                self._timed[self.umem.index_of(packet.address)] = (packet.address, packet.timestamp_tag)
            self._outbox += packet.descriptors()
            packet.invalidate()
        elif self.multi_buffer and len(packet) > self.umem.frame_size - self.umem.data_offset:
            step = self.umem.frame_size - self.umem.data_offset
            self._await_frames(-(-len(packet) // step), timeout)
            self._outbox += in_pieces(self.umem, bytes(packet), self._allocate)
        else:
            if isinstance(packet, Frame) and packet.rest:
                raise UsageError("a packet of several frames goes only to a socket with multi_buffer=True")
            data = packet.data if isinstance(packet, Frame) else memoryview(packet).cast("B")
            if not len(self.umem) and self._pool.completed < self._pool.sent + len(self._outbox):
                self._await(lambda: len(self.umem) > 0, "no frame came back from sending", timeout)
            address, length = self._allocate(len(data)), len(data)
            self.umem.memory[address : address + length] = data
            self._outbox.append((address, length, 0))
        if not self._receiving and (flush or len(self._outbox) >= BATCH):
            self.flush()

    def _post(self) -> None:
        """What was sent frame by frame goes into the TX ring, where room for it was made sure of."""
        if self._outbox:
            descriptors = np.array(self._outbox, DESCRIPTOR)
            self._outbox.clear()
            self._put(descriptors)

    def _put(self, descriptors: NDArray[Any]) -> None:
        if self.umem.journal is not None and not self.umem.is_spread:
            frames = self.umem.move(descriptors["addr"], _USER, _USER)  # which checks them
            produce(self.umem, self.tx, descriptors, frames, _TX)
        else:
            frames = self.umem.move(descriptors["addr"], _USER, _TX)
            if self.umem.is_spread:
                self.umem.holders[frames] = self._pool.number
            self.tx.produce(descriptors)
        self._room = self.tx.free()
        self.tallies.sent += self._packets(descriptors)
        self._pool.sent += len(descriptors)
        self._unsent = True

    def send_batch(self, descriptors: NDArray[Any], *, timeout: float | None = None) -> None:
        """Send frames of the application by descriptor; waits for room as `send` does, and wakes the kernel once.

        Raises XskError naming a frame that is not the application's, or ETIMEDOUT; then none has been sent.
        """
        self._check_idle()
        if len(descriptors) > self.tx.size:
            raise UsageError(f"{len(descriptors)} descriptors do not fit the TX ring of {self.tx.size}")
        self._await_room(len(descriptors), timeout)
        self._put(descriptors)
        self.flush()

    def flush(self) -> int:
        """Wake the kernel until it has taken everything in the TX ring or takes no more now; how many are left.

        Copy mode needs it always; zero-copy only when the ring says so. Raises XskError (ENETDOWN, ENXIO).
        """
        self._check_idle()
        self._post()
        left = len(self.tx)
        idle = 0
        while left and idle < 3:
            if self.zero_copy and not self.tx.needs_wakeup:
                break
            self.tallies.wakeups += 1
            number = xdp_socket.kick_tx(self._number)
            if number and number not in _LATER:
                raise self._send_error(number)
            before, left = left, len(self.tx)
            if left == before:
                idle += 1
                self.reap()
        self._unsent = left > 0
        return left

    def reap(self) -> int:
        """Take frames that have been sent back from the completion ring; how many."""
        self._check_idle()
        if not self.completion.available():
            return 0
        index, found = self.completion.peek(self.completion.size)
        addresses = self.completion.read(index, found)
        if self._timed:
            for address in addresses.tolist():
                asked = self._timed.pop(self.umem.index_of(address), None)
                if asked is not None:
                    self.timestamps.append(read_timestamp(self.umem, *asked))
        self.umem.free_from(addresses, _TX)
        self.completion.release(found)
        self.tallies.completed += found
        self._pool.completed += found
        return found

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until everything sent has left and its frames are back; False after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        left = self.flush()
        while self._pool.completed < self._pool.sent:
            if not self.reap():
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                time.sleep(_PAUSE)
            if left:
                left = self.flush()
        return True

    def _await_room(self, count: int, timeout: float | None) -> None:
        self._post()
        self._await(lambda: self.tx.free(count) >= count, "the TX ring stayed full", timeout)
        self._room = self.tx.free()

    def _await_frames(self, count: int, timeout: float | None) -> None:
        """Wait for room in the TX ring and for free frames."""
        self._await_room(count, timeout)
        if len(self.umem) < count:
            self._await(lambda: len(self.umem) >= count, "too few frames came back from sending", timeout)

    def _await(self, is_ready: Callable[[], bool], what: str, timeout: float | None) -> None:
        if is_ready():
            return
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self.reap()
            self.flush()
            if is_ready():
                return
            if deadline is not None and time.monotonic() >= deadline:
                where = f"queue {self.queue} of {self.device.name}"
                raise XskError(f"{what} for {timeout} seconds on {where}", errno=errno.ETIMEDOUT)
            time.sleep(_PAUSE)

    def _send_error(self, number: int) -> XskError:
        where = f"queue {self.queue} of {self.device.name}"
        if number == errno.ENETDOWN:
            mend = f"bring it up: ip link set dev {self.device.name} up"
            return XskError(f"cannot send on {where}: the device is down; {mend}", errno=number)
        return XskError(f"cannot send on {where}: {os.strerror(number)}", errno=number)

    # --- the end

    def close(self, *, check: bool = True) -> None:
        """Release the queue: send what waits, unmap the rings, close. Take the socket out of XSK maps before.

        With `check`, raises XskError after closing when the application still holds frames, naming them.
        """
        if self._opened is None:
            return
        if self.loop is not None:
            self.loop.end()
        try:
            if self._outbox or self._unsent:
                self.flush()
        except XskError:
            pass  # the device is down or gone: what is left cannot leave
        opened, self._opened = self._opened, None
        opened.close(self.umem)
        if not self.umem.pools:
            self.umem.close_memory()
        if check and not self.umem.pools:
            self.umem.check_leaks()

    def _leave(self) -> None:
        """Let go of a socket that lives on in another process: nothing of it is undone."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.leave()
            self.umem.pools.clear()
            self.umem.close_memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(check=error is None)

    def __del__(self) -> None:
        if getattr(self, "_opened", None) is not None:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.close(check=False)

    def abandon_in_child(self) -> None:
        """After fork: the rings are not mapped here; only the copy of the descriptor holds the queue, so close it."""
        opened, self._opened, self._forked = self._opened, None, True
        if opened is not None:
            opened.detach()
            opened.fd.close()
            opened.pool.fill.detach()
            opened.pool.completion.detach()
            opened.pool.fd.close()
            self.umem.pools.clear()
            self.umem.close_memory()

    def __repr__(self) -> str:
        state = "closed " if self._opened is None else ""
        return f"<{state}XskSocket on queue {self.queue} of {self.device.name}>"


def _find_device(dev: str | int) -> netlink.Device:
    from ebpfkit.loader.links.xdp import find_device

    return find_device(dev)


def _share_of(frame_count: int, sizes: Sizes) -> int:
    """How many frames the fill ring is kept at: all of it, or its share when there are not frames enough for TX too."""
    if not sizes.tx or frame_count >= sizes.fill + sizes.tx:
        return min(sizes.fill, frame_count)
    return max(1, frame_count * sizes.fill // (sizes.fill + sizes.tx))
