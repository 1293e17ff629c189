"""The memory of a BPF user ring buffer, mapped: records in, in order (Linux 6.1).

One page holds the kernel's position, which user space may only read, the next its own, then come the data pages, mapped
twice in a row so that no record wraps.
"""

from __future__ import annotations

import mmap
import sys

from ebpfkit._bits import round_up
from ebpfkit.errors import KernelError
from ebpfkit.kernel.barrier import Barrier
from ebpfkit.kernel.bpf import HasFileno

__all__ = ["UserRingMemory"]

_HEADER = 8


class UserRingMemory:
    """The mapped ring of a map of `size` data bytes (a power of two of pages); one writer at a time."""

    def __init__(self, map_fd: HasFileno, size: int) -> None:
        page = mmap.PAGESIZE
        self.size = size
        self._barrier = Barrier()
        writable = mmap.PROT_READ | mmap.PROT_WRITE
        try:
            self._consumer = mmap.mmap(map_fd.fileno(), page, mmap.MAP_SHARED, mmap.PROT_READ)
        except OSError as error:
            raise KernelError(f"cannot map the user ring buffer: {error.strerror}", errno=error.errno or 0) from error
        try:
            self._producer = mmap.mmap(map_fd.fileno(), page + 2 * size, mmap.MAP_SHARED, writable, offset=page)
        except OSError as error:
            self._consumer.close()
            raise KernelError(f"cannot map the user ring buffer: {error.strerror}", errno=error.errno or 0) from error
        # Aligned 8-byte accesses through these views are single loads and stores.
        self._read_position = memoryview(self._consumer)[:8].cast("Q")
        self._write_position = memoryview(self._producer)[:8].cast("Q")
        self._data = memoryview(self._producer)[page:]

    def put(self, record: bytes) -> bool:
        """Append a record; False while there is no room."""
        total = round_up(len(record) + _HEADER, 8)
        position = self._write_position[0]
        if position - self._read_position[0] + total > self.size:
            return False
        self._barrier()  # the kernel's position before its bytes are written over
        at = position & self.size - 1
        self._data[at : at + _HEADER + len(record)] = len(record).to_bytes(4, sys.byteorder) + bytes(4) + record
        self._barrier()  # the record before the position that shows it
        self._write_position[0] = position + total
        return True

    def close(self) -> None:
        """Unmap; what was sent stays in the map."""
        for view in (self._data, self._write_position, self._read_position):
            view.release()
        self._producer.close()
        self._consumer.close()
