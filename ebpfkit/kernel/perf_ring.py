"""The ring of a perf event that BPF programs output to, mapped: payloads out, in order (Linux 4.4).

A page of control data, then a power of two of pages. The writer's position is `data_head` at byte 1024 of the first
page, the reader's `data_tail` at 1032 (linux/perf_event.h). What payloads mean, and waiting, is `loader.perfbuf`'s.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import struct
from collections.abc import Iterator

from ebpfkit.errors import KernelError
from ebpfkit.kernel.barrier import Barrier
from ebpfkit.kernel.bpf import HasFileno

__all__ = ["PerfRing"]

_ENABLE = 0x2400  # PERF_EVENT_IOC_ENABLE
_HEAD, _TAIL = 1024, 1032
_LOST, _SAMPLE = 2, 9


class PerfRing:
    """The ring of one CPU's event, `pages` pages (a power of two); one reader. `lost` counts what found no room."""

    def __init__(self, event: HasFileno, pages: int) -> None:
        self.size = pages * mmap.PAGESIZE
        self.lost = 0
        self._barrier = Barrier()
        try:
            self._memory = mmap.mmap(event.fileno(), mmap.PAGESIZE + self.size)
            fcntl.ioctl(event.fileno(), _ENABLE, 0)
        except OSError as error:
            raise KernelError(f"cannot map a perf event: {error.strerror}", errno=error.errno or 0) from error
        self._view = memoryview(self._memory)
        # Aligned 8-byte accesses through these views are single loads and stores.
        self._head = self._view[_HEAD : _HEAD + 8].cast("Q")
        self._tail = self._view[_TAIL : _TAIL + 8].cast("Q")
        self._data = self._view[mmap.PAGESIZE :]

    def take(self) -> list[bytes]:
        """The payloads that are there, oldest first (with what pads them to 8 bytes); they leave the ring."""
        head, tail = self._head[0], self._tail[0]
        if head == tail:
            return []
        self._barrier()  # the writer's position before the data
        records = list(self._walk(tail, head))
        self._barrier()  # the data before the space is given back
        self._tail[0] = head
        return records

    def _walk(self, position: int, head: int) -> Iterator[bytes]:
        while position < head:
            kind, _, size = struct.unpack("=IHH", self._bytes(position, 8))
            if size < 8:
                raise KernelError("a perf event without a size", errno=errno.EIO)
            if kind == _SAMPLE:
                (length,) = struct.unpack("=I", self._bytes(position + 8, 4))
                yield self._bytes(position + 12, min(length, size - 12))
            elif kind == _LOST:
                self.lost += struct.unpack("=QQ", self._bytes(position + 8, 16))[1]
            position += size

    def _bytes(self, position: int, size: int) -> bytes:
        """Bytes of the ring, which wrap at its end."""
        at = position % self.size
        first = bytes(self._data[at : at + size])
        return first if len(first) == size else first + bytes(self._data[: size - len(first)])

    def close(self) -> None:
        """Unmap; payloads already taken stay valid."""
        for view in (self._head, self._tail, self._data, self._view):
            view.release()
        self._memory.close()
