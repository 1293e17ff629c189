"""One worker for each socket of a group: threads here, or processes of their own, each pinned to a CPU.

A worker is a function of a socket and an event that ends it. What it does with packets is its own affair; a process
that dies leaves its socket open, so that `restart` goes on where it ended.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from ebpfkit.errors import UsageError, XskError
from ebpfkit.xsk.handover import Handle, hand_over, take_over
from ebpfkit.xsk.stats import XskStatistics

if TYPE_CHECKING:
    from ebpfkit.xsk.group import XskGroup
    from ebpfkit.xsk.socket import XskSocket

__all__ = ["Processes", "Stop", "Threads", "cpus_for"]

_TURN = 0.05
_PATIENCE = 5.0  # seconds that a worker has to end after it was asked to


class Stop(Protocol):
    """The event that ends a worker."""

    def is_set(self) -> bool: ...


def cpus_for(queues: Iterable[int], cpus: Iterable[int] | None) -> dict[int, int]:
    """A CPU for each queue, in turn; by default all that this process may run on."""
    queues = list(queues)
    chosen = list(cpus) if cpus is not None else sorted(os.sched_getaffinity(0))
    unknown = set(chosen) - os.sched_getaffinity(0)
    if not chosen or unknown:
        raise UsageError(
            f"CPU {', '.join(map(str, sorted(unknown))) or '(none)'} is not among those this process may run on: "
            f"{', '.join(map(str, sorted(os.sched_getaffinity(0))))}"
        )
    return {queue: chosen[at % len(chosen)] for at, queue in enumerate(queues)}


class _Workers:
    """What both kinds have: leaving the block stops and joins."""

    cpus: dict[int, int]

    def stop(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except BaseException:
            if error is None:
                raise


class Threads(_Workers):
    """A thread for each socket: `work(sock, stop)` runs in it until `stop.is_set()`.

    `cpus` are the CPUs to pin them to, in turn (None: all that there are). Python's interpreter lock is theirs in turn;
    waiting and the numpy work on batches let go of it.
    """

    def __init__(
        self,
        sockets: Mapping[int, XskSocket],
        work: Callable[[XskSocket, Stop], object],
        cpus: Iterable[int] | None = None,
    ) -> None:
        self.cpus = cpus_for(sockets, cpus)
        self.event = threading.Event()
        self.results: dict[int, object] = {}
        self.failures: dict[int, BaseException] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(queue, sock, work), name=f"xsk-{sock.device.name}-{queue}")
            for queue, sock in sockets.items()
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, queue: int, sock: XskSocket, work: Callable[[XskSocket, Stop], object]) -> None:
        try:
            os.sched_setaffinity(0, {self.cpus[queue]})
            self.results[queue] = work(sock, self.event)
        except BaseException as error:  # it is raised again in the thread that stops
            self.failures[queue] = error
            self.event.set()

    @property
    def is_running(self) -> bool:
        """Whether any is."""
        return any(thread.is_alive() for thread in self._threads)

    def wait(self, timeout: float, stop: threading.Event | None = None) -> None:
        """Wait until all have ended, one has failed, `stop` is set, or `timeout` seconds are over."""
        deadline = time.monotonic() + timeout
        while self.is_running and not self.event.is_set() and (left := deadline - time.monotonic()) > 0:
            (stop or self.event).wait(min(left, _TURN))
            if stop is not None and stop.is_set():
                return

    def stop(self) -> None:
        """Ask all to end, wait for them, and raise what the first of them raised."""
        self.event.set()
        for thread in self._threads:
            thread.join()
        for failure in self.failures.values():
            raise failure


class Processes(_Workers):
    """A process for each socket: `work(sock, stop, *arguments)` runs in it, a function at the top level of a module.

    The group was made with `shareable=True`; its sockets are closed here and live in the processes. Privileges are not
    needed there. The memory of a socket outlives its process: `restart` after a crash loses no frame.
    """

    def __init__(
        self,
        group: XskGroup,
        work: Callable[..., object],
        arguments: tuple[Any, ...] = (),
        cpus: Iterable[int] | None = None,
    ) -> None:
        self.cpus = cpus_for(group.sockets, cpus)
        self._context = multiprocessing.get_context("spawn")
        self.event = self._context.Event()
        self._work, self._arguments = work, arguments
        self._handles: dict[int, Handle] = {}
        self.processes: dict[int, multiprocessing.process.BaseProcess] = {}
        try:
            for queue, sock in group.sockets.items():
                self._handles[queue] = Handle.of(sock)
                self._start(queue, lambda channel, sock=sock: hand_over(sock, channel))  # type: ignore[misc]
        except BaseException:
            self._end()
            raise

    def _start(self, queue: int, give: Callable[[socket.socket], None]) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = self._context.Process(
                target=_serve, args=(theirs, self.cpus[queue], self._work, self.event, self._arguments), daemon=True
            )
            process.start()
            self.processes[queue] = process
            give(ours)
            ours.settimeout(30)
            if ours.recv(1) != b"+":
                raise XskError(f"the process for queue {queue} did not take its socket over; see its error output")

    def restart(self, queue: int) -> None:
        """Start the worker of a queue anew after its process has ended, on the same socket."""
        process = self.processes[queue]
        process.join(_PATIENCE)
        if process.is_alive():
            raise UsageError(f"the process of queue {queue} is still running")
        self._start(queue, self._handles[queue].send)

    def statistics(self) -> XskStatistics:
        """The kernel's counts, summed over the queues."""
        first, *others = (handle.statistics() for handle in self._handles.values())
        for other in others:
            first += other
        return first

    def stop(self) -> None:
        """Ask all to end and wait for them. Raises XskError naming those that failed."""
        self.event.set()
        for process in self.processes.values():
            process.join(_PATIENCE)
        failed = {queue: process.exitcode for queue, process in self.processes.items() if process.exitcode != 0}
        self._end()
        if failed:
            raise XskError(f"workers ended with an error (queue: exit status): {failed}")

    def _end(self) -> None:
        for process in self.processes.values():
            if process.is_alive():
                process.kill()
                process.join()
        for handle in self._handles.values():
            handle.close()


def _serve(
    channel: socket.socket, cpu: int, work: Callable[..., object], stop: Stop, arguments: tuple[Any, ...]
) -> None:
    os.sched_setaffinity(0, {cpu})
    sock = take_over(channel)
    channel.sendall(b"+")
    channel.close()
    with sock:
        work(sock, stop, *arguments)
