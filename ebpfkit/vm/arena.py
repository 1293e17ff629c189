"""Arenas in a program's memory: where its pointers lead, and the kernel functions that allocate pages.

A program holds an arena pointer in two forms: as user space sees it (the arena's address, any 64 bits of it stored
anywhere), and, after a cast, as the 32 bits that it may follow. An access to a page that nobody allocated does not
fault: a load gives 0 and a store is dropped, as in the kernel. The pages themselves are in `maps.arena`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ebpfkit._bits import U32_MAX, U64_MAX
from ebpfkit.maps.base import ByteOrder
from ebpfkit.maps.memory import ArenaStore
from ebpfkit.vm.kfuncs_registry import kfunc
from ebpfkit.vm.memory import MemoryFault

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine

__all__ = ["GUARD_BYTES", "TO_KERNEL", "TO_USER", "WINDOW_BYTES", "ArenaWindow"]

TO_KERNEL: Final = 1  # immediates of a cast: the target's address space in the upper half
TO_USER: Final = 1 << 16
WINDOW_BYTES: Final = 1 << 32
GUARD_BYTES: Final = 1 << 16  # around the window, as far as a displacement reaches
_PAGE = 4096
_DEFAULT_ADDRESS = 1 << 44  # where an arena is that nobody has given an address
_NO_USER_CONVERSION = 1 << 18
_EBUSY, _EINVAL = 16, 22


class ArenaWindow:
    """An arena as programs address it: 4 GiB, of which the arena's pages are a part."""

    def __init__(self, store: ArenaStore, order: ByteOrder) -> None:
        self.pages = store
        self.order = order
        self.address = store.user_address or _DEFAULT_ADDRESS
        self.high = self.address & (U64_MAX ^ U32_MAX)
        self.converts = not store.spec.flags & _NO_USER_CONVERSION

    def cast(self, value: int, kind: int) -> int:
        """What a cast makes of a pointer; `kind` is the instruction's immediate. Raises MemoryFault."""
        low = value & U32_MAX
        if kind == TO_KERNEL:
            return low
        if kind != TO_USER:
            raise MemoryFault("a cast between address spaces that do not exist: there are 0 and 1", "program")
        return self.high | low if low and self.converts else low

    def place(self, offset: int, size: int) -> int | None:
        """Where `size` bytes are in the arena's memory, None when not all of them are in allocated pages."""
        if not 0 <= offset <= WINDOW_BYTES - size:
            return None
        start = (offset - self.address) & U32_MAX
        has = self.pages.has
        return start if has(start // _PAGE) and has((start + size - 1) // _PAGE) else None

    def load(self, offset: int, size: int) -> int:
        start = self.place(offset, size)
        return 0 if start is None else int.from_bytes(self.pages.memory[start : start + size], self.order)

    def store(self, offset: int, size: int, value: int) -> None:
        start = self.place(offset, size)
        if start is not None:
            self.pages.memory[start : start + size] = (value & ((1 << size * 8) - 1)).to_bytes(size, self.order)

    def page_of(self, address: int) -> int:
        """The page at an address in either form."""
        return ((address - self.address) & U32_MAX) // _PAGE


def _window(vm: Machine, array: int) -> ArenaWindow:
    store = vm.memory.store_at(array)
    window = vm.arena
    if window is None or store is not window.pages:
        raise MemoryFault(f"map '{store.spec.name}' is no arena of this program", f"map '{store.spec.name}'")
    return window


@kfunc("bpf_arena_alloc_pages", bits=64)
def arena_alloc_pages(vm: Machine, array: int, address: int, count: int, node: int, flags: int) -> int:
    """Pages as user space sees their address, or 0."""
    window = _window(vm, array)
    count &= U32_MAX
    if flags or not count or address % _PAGE:
        return 0
    page = window.pages.allocate(count, window.page_of(address) if address else None)
    return 0 if page is None else window.high | (window.address + page * _PAGE) & U32_MAX


@kfunc("bpf_arena_free_pages")
def arena_free_pages(vm: Machine, array: int, address: int, count: int) -> int:
    window = _window(vm, array)
    window.pages.free(window.page_of(address), count & U32_MAX)
    return 0


@kfunc("bpf_arena_reserve_pages")
def arena_reserve_pages(vm: Machine, array: int, address: int, count: int) -> int:
    """Reserved pages belong to nobody, and nobody gets them."""
    window, count = _window(vm, array), count & U32_MAX
    page = window.page_of(address)
    if address % _PAGE or page + count > window.pages.spec.max_entries:
        return -_EINVAL
    return 0 if not count or window.pages.reserve(page, count) else -_EBUSY
