"""Reading what programs output to a perf event array: a channel for each CPU, opened here.

The memory and its protocol are `kernel.perf_ring`'s.
"""

from __future__ import annotations

import select
import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ebpfkit.errors import UsageError
from ebpfkit.kernel.cpus import online_cpus
from ebpfkit.kernel.perf import open_bpf_output
from ebpfkit.kernel.perf_ring import PerfRing
from ebpfkit.loader.maps import Map

__all__ = ["PerfBuffer"]


class PerfBuffer:
    """The reading end of a perf event array, with `pages` of room (a power of two) for each CPU that is online."""

    def __init__(self, array: Map, pages: int = 64) -> None:
        if array.spec.type != "perf_event_array":
            raise UsageError(f"map {array.name!r} is of type {array.spec.type}, not a perf_event_array")
        if pages < 1 or pages & (pages - 1):
            raise UsageError(f"the pages of a perf buffer are a power of two, not {pages}")
        self.name = array.name
        self._rings: dict[int, PerfRing] = {}
        self._poller = select.epoll()
        with ExitStack() as undo:
            undo.callback(self._poller.close)
            for cpu in online_cpus():
                event = undo.enter_context(open_bpf_output(cpu))
                self._rings[cpu] = ring = PerfRing(event, pages)
                undo.callback(ring.close)
                array.set(cpu.to_bytes(4, sys.byteorder), event.fileno().to_bytes(4, sys.byteorder))
                self._poller.register(event.fileno(), select.EPOLLIN)
            self._held = undo.pop_all()

    @property
    def lost(self) -> int:
        """How many events came while there was no room, as far as the kernel has said."""
        return sum(ring.lost for ring in self._rings.values())

    def fileno(self) -> int:
        """A descriptor that is readable while events wait, for select and asyncio."""
        return self._poller.fileno()

    def poll(self, timeout: float | None = None) -> list[tuple[int, bytes]]:
        """(CPU, payload) of the events that have come, each CPU's oldest first; waits up to `timeout` seconds (None:
        for ever). Payloads may have up to 7 bytes more than the program sent."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            found = [(cpu, data) for cpu, ring in self._rings.items() for data in ring.take()]
            left = None if deadline is None else deadline - time.monotonic()
            if found or (left is not None and left <= 0):
                return found
            self._poller.poll(left)

    def close(self) -> None:
        """Close the channels: what programs output from now on is dropped."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
