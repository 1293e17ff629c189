"""The memory of a BPF ring buffer, mapped: records out, in order (Linux 5.8).

One page holds the reader's position, the next the writer's, then come the data pages, mapped twice in a row so that no
record wraps (kernel: Documentation/bpf/ringbuf.rst). What records mean, and waiting for them, is `loader.ringbuf`'s.
"""

from __future__ import annotations

import mmap

from ebpfkit.errors import KernelError
from ebpfkit.kernel.barrier import Barrier
from ebpfkit.kernel.bpf import HasFileno

__all__ = ["RingMemory"]

_BUSY, _DISCARDED, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_HEADER = 8


class RingMemory:
    """The mapped ring of a map of `size` data bytes (a power of two of pages); one reader at a time."""

    def __init__(self, map_fd: HasFileno, size: int) -> None:
        page = mmap.PAGESIZE
        self.size = size
        self._mask = size - 1
        self._barrier = Barrier()
        try:
            self._consumer = mmap.mmap(map_fd.fileno(), page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            raise KernelError(f"cannot map the ring buffer: {error.strerror}", errno=error.errno or 0) from error
        try:
            self._producer = mmap.mmap(map_fd.fileno(), page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except OSError as error:
            self._consumer.close()
            raise KernelError(f"cannot map the ring buffer: {error.strerror}", errno=error.errno or 0) from error
        # Aligned 8-byte accesses through these views are single loads and stores.
        self._read_position = memoryview(self._consumer)[:8].cast("Q")
        self._write_position = memoryview(self._producer)[:8].cast("Q")
        self._data = memoryview(self._producer)[page:]
        self._words = self._data.cast("I")

    @property
    def pending(self) -> int:
        """Bytes between the reader's and the writer's position, headers and unfinished records included."""
        return self._write_position[0] - self._read_position[0]

    def take(self, limit: int | None = None) -> list[bytes]:
        """The records that are complete, oldest first, at most `limit`; they leave the ring."""
        position = self._read_position[0]
        end = self._write_position[0]
        if position == end:
            return []
        self._barrier()  # the writer's position before the headers
        words, mask = self._words, self._mask
        found: list[tuple[int, int]] = []
        while position < end and (limit is None or len(found) < limit):
            at = position & mask
            header = words[at >> 2]
            if header & _BUSY:
                break
            length = header & _LENGTH
            if not header & _DISCARDED:
                found.append((at + _HEADER, length))
            position += (length + _HEADER + 7) & ~7
        self._barrier()  # the headers before the data
        data = self._data
        records = [bytes(data[at : at + length]) for at, length in found]
        self._barrier()  # the data before the space is given back
        self._read_position[0] = position
        return records

    def close(self) -> None:
        """Unmap; records already taken stay valid."""
        for view in (self._words, self._data, self._write_position, self._read_position):
            view.release()
        self._producer.close()
        self._consumer.close()
