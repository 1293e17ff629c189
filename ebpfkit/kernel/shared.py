"""Memory of a map that user space and programs share: arenas, whose addresses mean the same to both."""

from __future__ import annotations

import ctypes
import mmap
from types import TracebackType
from typing import Protocol, Self

from ebpfkit.errors import KernelError, UsageError

__all__ = ["SharedMemory"]

_MAP_FIXED_NOREPLACE = 0x100000
_FAILED = ctypes.c_void_p(-1).value


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


class SharedMemory:
    """`size` bytes of a map, mapped at `address` (0: where the kernel likes). Raises KernelError."""

    def __init__(self, fd: _HasFileno, size: int, address: int = 0) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
        libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
        flags = mmap.MAP_SHARED | (_MAP_FIXED_NOREPLACE if address else 0)
        found = libc.mmap(address or None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd.fileno(), 0)
        if found == _FAILED:
            number = ctypes.get_errno()
            raise KernelError(f"cannot map {size} bytes of the map at {address or 'any address'}", errno=number)
        self._libc = libc
        self.address: int = found
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        """A copy of `size` bytes from `offset`."""
        self._check(offset, size)
        return ctypes.string_at(self.address + offset, size)

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes at `offset`."""
        self._check(offset, len(data))
        ctypes.memmove(self.address + offset, data, len(data))

    def _check(self, offset: int, size: int) -> None:
        if not self.size:
            raise UsageError("the memory is closed")
        if offset < 0 or size < 0 or offset + size > self.size:
            raise UsageError(f"{size} bytes from {offset} are outside the {self.size} bytes of this memory")

    def close(self) -> None:
        """Unmap it; the map keeps what it holds."""
        if self.size:
            self._libc.munmap(self.address, self.size)
            self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
