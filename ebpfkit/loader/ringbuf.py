"""Reading the records that a program sends through a ring buffer map.

The memory and its protocol are `kernel.ringbuf`'s.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from ebpfkit.errors import MapError, UsageError
from ebpfkit.kernel.ringbuf import RingMemory
from ebpfkit.loader.maps import Map

__all__ = ["RingBuffer"]


class RingBuffer:
    """The reading end of a ring buffer map; only one may read a map at a time.

    It keeps the map alive until closed, and can be waited for with select, poll, epoll or asyncio (`fileno`).
    """

    def __init__(self, ring: Map) -> None:
        if ring.spec.type != "ringbuf":
            raise UsageError(f"map {ring.name!r} is of type {ring.spec.type}, not a ringbuf")
        self.name = ring.name
        self._fd = ring.fd.duplicate()
        try:
            self._memory = RingMemory(self._fd, ring.info.max_entries)
        except BaseException:
            self._fd.close()
            raise

    def fileno(self) -> int:
        return self._fd.fileno()

    @property
    def pending(self) -> int:
        """Bytes not yet read, headers and unfinished records included."""
        return self._memory.pending

    def poll(self, timeout: float | None = None, *, limit: int | None = None) -> list[bytes]:
        """The records that are complete, oldest first; waits up to `timeout` seconds for the first (None: for ever)."""
        if self._fd.closed:
            raise MapError(f"the ring buffer of map {self.name!r} is closed", errno=9)
        records = self._memory.take(limit)
        if records or timeout == 0:
            return records
        deadline = None if timeout is None else time.monotonic() + timeout
        poller = select.poll()
        poller.register(self._fd.fileno(), select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            poller.poll(None if left is None else left * 1000)
            records = self._memory.take(limit)
            if records or (deadline is not None and time.monotonic() >= deadline):
                return records

    def __iter__(self) -> Iterator[bytes]:
        """Records for ever, waiting for each."""
        while True:
            yield from self.poll()

    def close(self) -> None:
        """Stop reading; what was not read stays in the map."""
        if not self._fd.closed:
            self._memory.close()
            self._fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
