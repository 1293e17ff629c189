"""`arena`: memory of pages that programs allocate and address by pointers, and that user space shares.

The pages and who has them belong here. How a program's pointers lead into them is the virtual machine's.
"""

from __future__ import annotations

import errno
import mmap

from ebpfkit.abi.uapi import BPF_F_MMAPABLE, BPF_F_SEGV_ON_FAULT
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MapError
from ebpfkit.maps.base import ENOTSUPP, MemoryStore
from ebpfkit.maps.store import BPF_ANY

__all__ = ["ArenaStore"]

PAGE = 4096
_MAX_BYTES = 1 << 32


class ArenaStore(MemoryStore):
    """Pages by number; `memory` is all of them, and only those that are touched take room.

    `user_address` is where user space has the arena mapped (`map_extra`), 0 when that was left open.
    """

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self.memory = mmap.mmap(-1, spec.max_entries * PAGE, flags=flags)
        self.user_address = spec.map_extra
        self._pages: set[int] = set()
        self._reserved: set[int] = set()

    def _validate(self, spec: MapSpec) -> None:
        if spec.key_size or spec.value_size or not spec.max_entries:
            self._refuse("key_size and value_size must be zero, max_entries (pages) must not")
        if not spec.flags & BPF_F_MMAPABLE:
            self._refuse("an arena needs the flag BPF_F_MMAPABLE (1024)")
        if spec.map_extra % PAGE:
            self._refuse(
                f"map_extra is the address in user space, a multiple of the page size, not {spec.map_extra:#x}"
            )
        size = spec.max_entries * PAGE
        if size > _MAX_BYTES:
            raise MapError(
                f"map '{spec.name}': an arena has at most 4 GiB, not {spec.max_entries} pages", errno=errno.E2BIG
            )
        if spec.map_extra and spec.map_extra >> 32 != (spec.map_extra + size - 1) >> 32:
            raise MapError(f"map '{spec.name}': an arena must not cross a boundary of 4 GiB", errno=errno.ERANGE)

    def allocate(self, count: int, at: int | None = None) -> int | None:
        """The first of `count` fresh pages of zeros, from page `at` on if that is given; None when there is no room."""
        if count < 1 or count > self._spec.max_entries:
            return None
        start = self._first_free(count) if at is None else at
        if start is None or start < 0 or start + count > self._spec.max_entries:
            return None
        wanted = range(start, start + count)
        if not self._is_free(wanted):
            return None
        self._pages.update(wanted)
        return start

    def _first_free(self, count: int) -> int | None:
        """Where the first `count` free pages in a row are."""
        free = 0
        for page in range(self._spec.max_entries):
            free = 0 if page in self._pages or page in self._reserved else free + 1
            if free == count:
                return page - count + 1
        return None

    def _is_free(self, wanted: range) -> bool:
        return self._pages.isdisjoint(wanted) and self._reserved.isdisjoint(wanted)

    def free(self, first: int, count: int) -> None:
        """Give pages back; those that nobody has are passed over."""
        for page in range(max(first, 0), min(first + count, self._spec.max_entries)):
            if page in self._pages:
                self._pages.discard(page)
                self.memory[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)

    def reserve(self, first: int, count: int) -> bool:
        """Keep pages from being allocated; False when somebody has one of them."""
        wanted = range(first, first + count)
        if not self._is_free(wanted):
            return False
        self._reserved.update(wanted)
        return True

    def has(self, page: int) -> bool:
        """Whether a page is allocated."""
        return page in self._pages

    def touch(self, page: int) -> bool:
        """What user space does when it reaches for a page: allocates it, unless the map says that this is an error."""
        if not 0 <= page < self._spec.max_entries:
            return False
        if page not in self._pages and not self._spec.flags & BPF_F_SEGV_ON_FAULT:
            self._pages.add(page)
        return page in self._pages

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        return -errno.EOPNOTSUPP

    def _read(self, key: bytes) -> bytes | int:
        return -errno.EINVAL

    def _pop(self, key: bytes) -> bytes | int:
        return -ENOTSUPP

    def __len__(self) -> int:
        return len(self._pages)
