"""What runs a handler over AF_XDP sockets: threads around compiled loops, and the packets that they hand up to Python.

    with group.run(handler) as running:
        for frame in running.receive(timeout=1):      # what the handler returned XDP_PASS for
            print(bytes(frame.data))

XDP_DROP gives the frame back to the kernel, XDP_TX sends the packet out again on its own socket, a redirect through an
`XskMap` sends it out on another one (`ports[1] = sock` before the start), XDP_PASS hands it up. The maps of the
handler's module can be read and written while it runs. The loop itself is `loop`'s.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ebpfkit.errors import UsageError, XskError
from ebpfkit.xsk.loop import Loop, prepare_handler
from ebpfkit.xsk.loop_text import IDLE
from ebpfkit.xsk.workers import cpus_for

if TYPE_CHECKING:
    from ebpfkit.dsl.program import Program
    from ebpfkit.xsk.socket import XskSocket

__all__ = ["HandedFrame", "LoopCounters", "Running", "run"]

_TURN = 0.5
_DRAIN = 0.2  # seconds that packets on their way out are waited for at the end


@dataclass(frozen=True, slots=True)
class LoopCounters:
    """What became of packets: `no_room` could not be sent (a TX ring stayed full, or a copy found no frame),
    `not_taken` could not be handed up; both were dropped. `aborted` counts XDP_ABORTED and redirects to nowhere.
    """

    received: int
    bytes: int
    aborted: int
    dropped: int
    passed: int
    sent: int
    forwarded: int
    no_room: int
    not_taken: int
    completed: int
    wakeups: int


class HandedFrame:
    """A packet that the handler passed: `data` is a view of it, valid in the body of the loop; `send` sends it back."""

    __slots__ = ("_address", "_sent", "data", "socket")

    def __init__(self, socket: XskSocket, address: int, data: memoryview) -> None:
        self.socket, self._address, self.data = socket, address, data
        self._sent = 0

    def send(self, length: int | None = None) -> None:
        """Send the packet, as it is now, out on its socket: the first `length` bytes, when the loop's body ends."""
        size = len(self.data) if length is None else length
        if not 0 < size <= len(self.data):
            raise UsageError(f"a packet of {len(self.data)} bytes cannot be sent with {size}")
        self._sent = size

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)


class Running:
    """Compiled loops at work, one thread for each group of sockets; leaving the block stops them.

    `receive` gives what was handed up, `counters` what happened, `wait` waits and raises what went wrong.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[XskSocket]],
        program: Program,
        *,
        cpus: Iterable[int] | None = None,
        queue_size: int = 1024,
    ) -> None:
        """`groups`: the sockets of each thread; `cpus`: where the threads run, in turn (None: anywhere);
        `queue_size`: packets that wait for `receive`, a power of 2.
        """
        if queue_size < 1 or queue_size & (queue_size - 1):
            raise UsageError(f"queue_size is a power of 2, not {queue_size}")
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.loops: list[Loop] = []
        self.failures: list[BaseException] = []
        pinned = cpus_for(range(len(groups)), cpus) if cpus is not None else {}
        self._threads: list[threading.Thread] = []
        try:
            handler = prepare_handler(program, cpus=len(groups))
            for number, sockets in enumerate(groups):
                if number and handler.targets:  # the tables of its socket maps name the sockets of one loop
                    handler = prepare_handler(program, cpus=len(groups))
                loop = Loop(sockets, handler, number=number, up_size=queue_size, up_fd=self._fd)
                self.loops.append(loop)
            for number, loop in enumerate(self.loops):
                loop.end = self.close
                loop.attach()
                thread = threading.Thread(target=self._work, args=(loop, pinned.get(number)), daemon=True)
                thread.name = f"xsk-loop-{number}"
                self._threads.append(thread)
        except BaseException:
            self._threads = []
            self.close()
            raise
        _RUNNING.add(self)
        for thread in self._threads:
            thread.start()

    def _work(self, loop: Loop, cpu: int | None) -> None:
        try:
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            while loop.turn() == IDLE:
                for sock in loop.sockets:
                    sock.check_device()
        except BaseException as error:  # raised again in the thread that waits
            self.failures.append(error)
        finally:
            loop.detach()
            for sock in loop.sockets:
                _drain(sock)
            os.eventfd_write(self._fd, 1)

    # --- what happened

    @property
    def is_running(self) -> bool:
        """Whether any of the threads is at work."""
        return any(thread.is_alive() for thread in self._threads)

    @property
    def counters(self) -> LoopCounters:
        """All sockets' counts so far."""
        counts = [loop.counters() for loop in self.loops]
        return LoopCounters(**{field.name: sum(one[field.name] for one in counts) for field in fields(LoopCounters)})

    def wait(self, timeout: float | None = None, stop: threading.Event | None = None) -> bool:
        """Wait until a loop has ended by itself; False after `timeout` seconds, or when `stop` is set.

        Raises what ended it.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = stop or threading.Event()
        while self.is_running:
            self._raise()
            left = _TURN if deadline is None else min(_TURN, deadline - time.monotonic())
            if left <= 0 or pause.wait(min(left, 0.05)):
                return False
        self._raise()
        return True

    def _raise(self) -> None:
        for failure in self.failures:
            raise failure

    # --- what is handed up

    def fileno(self) -> int:
        """A descriptor that is readable when packets were handed up, for selectors and asyncio; then `receive(0)`."""
        if self._fd < 0:
            raise XskError("this run is closed")
        return self._fd

    def receive(self, timeout: float | None = None, *, count: int = 64) -> Iterator[HandedFrame]:
        """Packets that the handler passed, at most `count` a loop; waits up to `timeout` seconds (None: for ever).

        A frame is valid in the body of the loop and goes back behind it. Also gives what is left after `stop`.
        """
        if not self._await(timeout):
            return
        for loop in self.loops:
            index, found = loop.up.peek(count)
            rows = loop.up.read(index, found)
            sockets = loop.sockets
            given = 0
            try:
                for address, length, number in rows.tolist():
                    sock = sockets[number]
                    frame = HandedFrame(sock, address, sock.umem.memory[address : address + length])
                    given += 1
                    try:
                        yield frame
                    finally:
                        frame.data = memoryview(b"")
                        self._give_back(loop, frame, number)
            finally:
                loop.up.cancel(found - given)
                if given:
                    loop.up.release(given)

    def _await(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        while True:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
            if any(loop.up.available() for loop in self.loops):
                os.eventfd_write(self._fd, 1)  # others wait too, and what is left is announced again
                return True
            self._raise()
            left = _TURN if deadline is None else min(_TURN, deadline - time.monotonic())
            if left <= 0 or not self.is_running:
                return False
            poller.poll(left * 1000)

    def _give_back(self, loop: Loop, frame: HandedFrame, number: int) -> None:
        while not loop.give_back(frame._address, frame._sent, number):
            time.sleep(0.001)  # the loop takes them at its next turn

    # --- the end

    def stop(self) -> None:
        """Have all loops end, and wait until the sockets are Python's again."""
        for loop in self.loops:
            loop.stop()
        for thread in self._threads:
            thread.join()
        for loop in self.loops:
            loop.detach()

    def close(self) -> None:
        """Stop, and give packets that nobody took back to the sockets."""
        self.stop()
        for loop in self.loops:
            for address, _, number in loop.up.consume(loop.up.size).tolist():
                loop.give_back(address, 0, number)
            loop.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self._raise()


def run(sockets: Sequence[XskSocket], handler: Program, **options: Any) -> Running:
    """Serve these sockets with a compiled handler in one thread, so that packets can go from any to any of them.

    Options are those of `Running`. Raises CompileError, VerifierError, UsageError, XskError.
    """
    return Running([tuple(sockets)], handler, **options)


def _drain(sock: XskSocket) -> None:
    """Let packets that are on their way out leave; a device that is down keeps them."""
    with contextlib.suppress(XskError):
        if not sock.closed and sock.sizes.tx:
            sock.drain(_DRAIN)


_RUNNING: weakref.WeakSet[Running] = weakref.WeakSet()


def _stop_all() -> None:
    """Before the interpreter goes: native code must not outlive the memory it works on."""
    for running in list(_RUNNING):
        running.stop()


atexit.register(_stop_all)
