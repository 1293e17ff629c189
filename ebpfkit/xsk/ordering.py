"""The 32-bit indices that rings share with the kernel: load with acquire, store with release.

On x86-64 a plain load and a plain store are that already, and CPython reorders nothing. Elsewhere two tiny native
functions do it. What the indices mean is `ring`'s.
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ORDERING_IR", "NativeIndex", "PlainIndex", "SharedIndex", "shared_index"]

_STRONGLY_ORDERED = frozenset({"x86_64", "amd64", "i686", "i386", "s390x"})

ORDERING_IR = """\
define i32 @ebpfkit_load_acquire(ptr %place) {
  %value = load atomic i32, ptr %place acquire, align 4
  ret i32 %value
}

define void @ebpfkit_store_release(ptr %place, i32 %value) {
  store atomic i32 %value, ptr %place release, align 4
  ret void
}
"""
"""LLVM text of the two functions, for every architecture."""


class SharedIndex(Protocol):
    """A u32 that the other side reads or writes at the same time."""

    def load(self) -> int:
        """The value; what the other side wrote before it is visible from now on."""

    def store(self, value: int) -> None:
        """Publish a value; what was written before is visible to whoever sees it."""


class PlainIndex:
    """For machines whose plain accesses are ordered enough."""

    __slots__ = ("_cell",)

    def __init__(self, cell: memoryview) -> None:
        self._cell = cell.cast("B").cast("I")

    def load(self) -> int:
        value: int = self._cell[0]
        return value

    def store(self, value: int) -> None:
        self._cell[0] = value


class NativeIndex:
    """Through native functions with acquire and release."""

    __slots__ = ("_address", "_cell", "_load", "_store")

    def __init__(self, cell: memoryview) -> None:
        self._cell = cell  # keeps the memory alive
        self._address = ctypes.addressof(ctypes.c_uint32.from_buffer(cell))
        self._load, self._store = _native_functions()

    def load(self) -> int:
        return self._load(self._address)

    def store(self, value: int) -> None:
        self._store(self._address, value)


@cache
def _native_functions() -> tuple[Callable[[int], int], Callable[[int, int], None]]:
    from ebpfkit.llvm.native import compile_native

    module = compile_native(ORDERING_IR)
    load = ctypes.PYFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)(module.address("ebpfkit_load_acquire"))
    store = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32)(module.address("ebpfkit_store_release"))
    load.module = store.module = module  # type: ignore[attr-defined]  # the code lives as long as the functions
    return load, store


def shared_index(cell: memoryview) -> SharedIndex:
    """The right kind of index for this machine over 4 writable bytes."""
    return PlainIndex(cell) if platform.machine().lower() in _STRONGLY_ORDERED else NativeIndex(cell)
