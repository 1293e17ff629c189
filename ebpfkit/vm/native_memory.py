"""Memory that native code reaches: the machine's regions with their places in this process.

Belongs here: the two address spaces of the JIT. In `SafeSpace` a program sees the interpreter's addresses, and a table
of windows lets generated code check and translate each access; values of native stores have addresses of their own
above `STORE_BIT`. In `TrustedSpace` a program sees real addresses, and only helpers look them up. Does not belong here:
generated code.
"""

from __future__ import annotations

import ctypes
import mmap
from bisect import bisect_right
from typing import Any, Final

from ebpfkit.maps.base import Cell, MemoryStore
from ebpfkit.maps.native import Layout
from ebpfkit.vm.memory import REGION_SHIFT, AddressSpace, Fields, MemoryFault, Region

__all__ = [
    "ENTRY_BYTES",
    "FIELDS_BYTES",
    "TABLE_ENTRIES",
    "NativeRegion",
    "NativeSpace",
    "SafeSpace",
    "TrustedSpace",
    "place_of",
]

TABLE_ENTRIES: Final = 1 << 14
ENTRY_BYTES: Final = 128
STORE_BIT: Final = 1 << 63  # addresses of values in native stores: 7 bits of slot, 24 of entry, then the offset
STORE_SLOTS: Final = 64
STORE_ENTRY_BYTES: Final = 64
MAX_STORE_ENTRIES: Final = 1 << 24
MIDDLE: Final = 1 << (REGION_SHIFT - 1)
OPAQUE_BYTES: Final = 4096  # what a pointer without memory behind it takes of the process's addresses
FIELDS_BYTES: Final = 1 << 22  # all pointers to fields (contexts, sockets), which generated code must not follow
_FUNCTION_BYTES = 1 << 24


def place_of(data: Cell) -> tuple[int, Any]:
    """The address of a buffer in this process, and what keeps it there."""
    if not len(data):
        return 0, None
    held = (ctypes.c_char * len(data)).from_buffer(data)
    return ctypes.addressof(held), held


class NativeRegion(Region):
    """A region whose window is known to generated code. New `data` closes the window until it is set."""

    __slots__ = ("_bytes", "_held", "_write_high", "place", "space")

    def __init__(
        self,
        space: NativeSpace,
        name: str,
        base: int,
        data: Cell,
        writable: bool,
        fields: Fields | None,
        store: MemoryStore | None,
    ) -> None:
        self.space: NativeSpace | None = None
        super().__init__(name, base, data, writable=writable, fields=fields, store=store)
        self.space = space

    @property
    def data(self) -> Cell:
        return self._bytes

    @data.setter
    def data(self, data: Cell) -> None:
        self._bytes = data
        self.place, self._held = place_of(data)
        if self.space is not None:
            self.low = self.high = self._write_high = 0
            self.space.moved(self)

    @property
    def write_high(self) -> int:
        return self._write_high

    @write_high.setter
    def write_high(self, write_high: int) -> None:
        self._write_high = write_high
        if self.space is not None:
            self.space.publish(self)

    def set_window(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.write_high = high


class NativeSpace(AddressSpace):
    """What both address spaces share: native stores and their slots."""

    trusted = False

    def __init__(self) -> None:
        super().__init__()
        self.slots: list[tuple[MemoryStore, Layout, int]] = []
        self._stores: Any = (ctypes.c_uint64 * (STORE_SLOTS * STORE_ENTRY_BYTES // 8))()
        self.stores_address = ctypes.addressof(self._stores)
        self._first_slot: dict[int, int] = {}

    def publish(self, region: NativeRegion) -> None:
        """The window of a region changed."""

    def moved(self, region: NativeRegion) -> None:
        """The bytes of a region are others now."""
        self.publish(region)

    def is_kept(self, region: Region) -> bool:
        """Whether a region stays where it is for ever: the first value of a map that programs address directly."""
        return any(region is kept for kept in self._fixed.values())

    def register_store(self, store: MemoryStore, layout: Layout) -> int | None:
        """The first slot of a native store (one for each CPU), or None when it cannot have any."""
        if store.id in self._first_slot:
            return self._first_slot[store.id]
        if len(self.slots) + len(layout.blocks) > STORE_SLOTS or layout.count > MAX_STORE_ENTRIES:
            return None
        first = self._first_slot[store.id] = len(self.slots)
        for cpu in range(len(layout.blocks)):
            self.slots.append((store, layout, cpu))
            self._publish_slot(first + cpu)
        return first

    def _publish_slot(self, slot: int) -> None:
        """A native store got a slot: tell generated code where its values are."""
        _, layout, cpu = self.slots[slot]
        start = slot * STORE_ENTRY_BYTES // 8
        row = [layout.addresses[cpu], layout.stride, layout.value_size, layout.count, int(layout.writable)]
        self._stores[start : start + len(row)] = row


class SafeSpace(NativeSpace):
    """The interpreter's addresses, with a table for generated code.

    An entry of the table: the lowest address, its place in the process, the distances from it that may be read with 1,
    2, 4 and 8 bytes, and those that may be written. Entries are shared by region numbers; the distance to the lowest
    address tells whose it is, and a region without an entry is served by Python.
    """

    def __init__(self) -> None:
        super().__init__()
        self._table_memory = mmap.mmap(-1, TABLE_ENTRIES * ENTRY_BYTES)
        self._table: Any = (ctypes.c_uint64 * (TABLE_ENTRIES * ENTRY_BYTES // 8)).from_buffer(self._table_memory)
        self.table_address = ctypes.addressof(self._table)
        self._owners: dict[int, NativeRegion] = {}

    def add(
        self,
        name: str,
        data: Cell,
        *,
        writable: bool = True,
        fields: Fields | None = None,
        store: MemoryStore | None = None,
    ) -> Region:
        base = self._next << REGION_SHIFT | MIDDLE
        region = NativeRegion(self, name, base, data, writable, fields, store)
        self.regions[self._next] = region
        self._owners.setdefault(self._next % TABLE_ENTRIES, region)
        self._advance()
        self.publish(region)
        return region

    def remove(self, region: Region) -> None:
        super().remove(region)
        index = (region.base >> REGION_SHIFT) % TABLE_ENTRIES
        if self._owners.get(index) is region:
            del self._owners[index]
            start = index * ENTRY_BYTES // 8
            self._table[start : start + 10] = [0] * 10

    def owns(self, region: Region) -> bool:
        """Whether a region has an entry in the table."""
        return self._owners.get((region.base >> REGION_SHIFT) % TABLE_ENTRIES) is region

    def publish(self, region: NativeRegion) -> None:
        index = (region.base >> REGION_SHIFT) % TABLE_ENTRIES
        if self._owners.get(index) is not region:
            return
        start = index * ENTRY_BYTES // 8
        low = region.low
        readable, writable = region.high - low, region.write_high - low
        self._table[start : start + 10] = [
            region.base + low,
            region.place + low,
            *(max(0, readable - size + 1) for size in (1, 2, 4, 8)),
            *(max(0, writable - size + 1) for size in (1, 2, 4, 8)),
        ]

    def find(self, address: int) -> Region | None:
        if address >> 63 != 1:
            return super().find(address)
        slot, entry = address >> 56 & 0x7F, address >> REGION_SHIFT & (MAX_STORE_ENTRIES - 1)
        if slot >= len(self.slots):
            return None
        store, layout, cpu = self.slots[slot]
        if entry >= layout.count:
            return None
        base = address >> REGION_SHIFT << REGION_SHIFT | MIDDLE
        cell = layout.cell(cpu, entry)
        return Region(f"value of map '{store.spec.name}'", base, cell, writable=layout.writable)


class TrustedSpace(NativeSpace):
    """Real addresses: regions are found by order, for helpers alone."""

    trusted = True

    def __init__(self) -> None:
        super().__init__()
        self._ranges: list[tuple[int, int, Region]] = []  # of arenas: no memory, so by hand
        self._starts: list[int] = []
        self._by_start: list[NativeRegion] = []
        self._opaque: dict[int, Any] = {}
        self._arena = mmap.mmap(-1, FIELDS_BYTES)
        self._arena_held = (ctypes.c_char * FIELDS_BYTES).from_buffer(self._arena)
        self.fields_address = ctypes.addressof(self._arena_held)
        self._arena_used: dict[int, int] = {}
        self._arena_next = 0

    def add(
        self,
        name: str,
        data: Cell,
        *,
        writable: bool = True,
        fields: Fields | None = None,
        store: MemoryStore | None = None,
    ) -> Region:
        region = NativeRegion(self, name, 0, data, writable, fields, store)
        self._insert(region)
        return region

    def add_window(self, name: str, start: int, size: int, guard: int, fields: Fields) -> None:
        region = Region(name, start, bytearray(), fields=fields)
        self._ranges.append((start - guard, start + size + guard, region))

    def _insert(self, region: NativeRegion) -> None:
        if region.place:
            region.base = region.place
        elif region.fields is not None:
            region.base = self._place_of_fields(region)
        else:
            size = _FUNCTION_BYTES if region.name == "function address" else OPAQUE_BYTES
            memory = mmap.mmap(-1, size)
            held = (ctypes.c_char * size).from_buffer(memory)
            self._opaque[id(region)] = (memory, held)
            region.base = ctypes.addressof(held)
        at = bisect_right(self._starts, region.base)
        self._starts.insert(at, region.base)
        self._by_start.insert(at, region)

    def remove(self, region: Region) -> None:
        for at, known in enumerate(self._by_start):
            if known is region:
                del self._starts[at], self._by_start[at]
        self._opaque.pop(id(region), None)
        self._arena_used.pop(id(region), None)

    def _place_of_fields(self, region: NativeRegion) -> int:
        places = FIELDS_BYTES // OPAQUE_BYTES
        if len(self._arena_used) >= places:
            raise MemoryFault(f"more than {places} contexts and sockets at once")
        taken = set(self._arena_used.values())
        while self._arena_next in taken:
            self._arena_next = (self._arena_next + 1) % places
        self._arena_used[id(region)] = self._arena_next
        return self.fields_address + self._arena_next * OPAQUE_BYTES

    def moved(self, region: NativeRegion) -> None:
        self.remove(region)
        self._insert(region)

    def find(self, address: int) -> Region | None:
        for start, end, window in self._ranges:
            if start <= address < end:
                return window
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        region = self._by_start[at]
        size = len(region.data) or OPAQUE_BYTES
        return region if address - region.base <= size else None

    def address_of_cell(self, cell: Cell, name: str, writable: bool = True, *, keep: bool = False) -> int:
        place, _ = place_of(cell)
        region = self.find(place)
        if region is not None and region.base <= place and place + len(cell) <= region.base + len(region.data):
            return place
        return super().address_of_cell(cell, name, writable, keep=keep)

    def _publish_slot(self, slot: int) -> None:
        super()._publish_slot(slot)
        store, layout, cpu = self.slots[slot]
        self.add(f"value of map '{store.spec.name}'", layout.blocks[cpu], writable=layout.writable)

    def store_at(self, address: int) -> MemoryStore:
        region = self.find(address)
        if region is None or region.store is None:
            raise MemoryFault(f"{address:#x} is no map pointer", region.name if region else "")
        return region.store
