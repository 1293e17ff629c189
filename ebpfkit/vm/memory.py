"""The machine's memory: regions of Python buffers under virtual addresses, every access checked.

An address is the number of a region in its upper 32 bits and a place in that region in the lower ones; region 0 does
not exist, so that small numbers never are addresses (an arena's pointers are the exception). A program can reach the
bytes of a region's window and nothing else; what is outside is a `MemoryFault`, which the interpreter turns into a
`MachineFault` at its instruction. What regions are for (stack, packet, context, map values) is decided by who adds
them.
"""

from __future__ import annotations

from typing import Protocol

from ebpfkit._bits import U64_MAX
from ebpfkit.maps.base import ORDER, ByteOrder, Cell
from ebpfkit.maps.memory import MemoryStore

__all__ = ["AddressSpace", "Fields", "MemoryFault", "Region"]

REGION_SHIFT = 32
_MIDDLE = 1 << (REGION_SHIFT - 1)  # data starts here, so that places before it are still of its region
_FIRST = 2  # 0 and 1 are where an arena is, if there is one
_CELLS_KEPT = 1024  # map values that keep their address from one run to the next


class MemoryFault(Exception):
    """An access that is not allowed, on its way to become a MachineFault. Never leaves this room."""

    def __init__(self, message: str, region: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.region = region


class Fields(Protocol):
    """Memory that is not bytes: a context, whose loads and stores are translated field by field."""

    def load(self, offset: int, size: int) -> int: ...

    def store(self, offset: int, size: int, value: int) -> None: ...


class Region:
    """Some bytes under an address: the program may read [`low`, `high`) and write [`low`, `write_high`) of `data`.

    `fields` translates accesses instead where there is one (the window is empty then); `store` and `entry` say what an
    address without bytes stands for: a map, or a function.
    """

    __slots__ = ("base", "data", "fields", "high", "low", "name", "store", "write_high")

    def __init__(
        self,
        name: str,
        base: int,
        data: Cell,
        *,
        writable: bool = True,
        fields: Fields | None = None,
        store: MemoryStore | None = None,
    ) -> None:
        self.name = name
        self.base = base
        self.data = data
        self.low = 0
        self.high = len(data)
        self.write_high = self.high if writable else 0
        self.fields = fields
        self.store = store

    def set_window(self, low: int, high: int) -> None:
        """Let the program reach other bytes of the buffer (a packet that moved)."""
        self.low, self.high, self.write_high = low, high, high

    def __repr__(self) -> str:
        return f"<Region {self.name} at {self.base:#x}, {self.high - self.low} bytes>"


class AddressSpace:
    """All regions of one machine, whose numbers are in the byte order of its programs."""

    order: ByteOrder = ORDER

    def __init__(self) -> None:
        self.regions: dict[int, Region] = {}
        self._next = _FIRST
        self._windows: set[int] = set()  # numbers of regions that are not given out
        self._cells: dict[int, Region] = {}
        self._fixed: dict[int, Region] = {}

    def add(
        self,
        name: str,
        data: Cell,
        *,
        writable: bool = True,
        fields: Fields | None = None,
        store: MemoryStore | None = None,
    ) -> Region:
        """A new region; its address is `region.base`."""
        region = Region(name, self._next << REGION_SHIFT | _MIDDLE, data, writable=writable, fields=fields, store=store)
        self.regions[self._next] = region
        self._advance()
        return region

    def _advance(self) -> None:
        """The number of the next region."""
        self._next += 1
        while self._next in self._windows:
            self._next += 1

    def add_window(self, name: str, start: int, size: int, guard: int, fields: Fields) -> None:
        """Addresses from `start` on that `fields` translates by their distance from there, `guard` bytes on either
        side included."""
        region = Region(name, start, bytearray(), fields=fields)
        for number in range((start - guard) >> REGION_SHIFT, ((start + size + guard - 1) >> REGION_SHIFT) + 1):
            self.regions[number] = region
            self._windows.add(number)

    def find(self, address: int) -> Region | None:
        """The region that an address belongs to, whether or not it is inside its window."""
        return self.regions.get(address >> REGION_SHIFT)

    def remove(self, region: Region) -> None:
        """Take a region away: its addresses fault from now on, and are not given out again."""
        self.regions.pop(region.base >> REGION_SHIFT, None)

    def address_of_cell(self, cell: Cell, name: str, writable: bool = True, *, keep: bool = False) -> int:
        """The address of a live map value, the same as long as the value is in use; `keep`: for ever."""
        region = self._fixed.get(id(cell)) or self._cells.get(id(cell))
        if region is None:
            region = self.add(name, cell, writable=writable)  # it holds on to `cell`, whose id stays its own
            (self._fixed if keep else self._cells)[id(cell)] = region
        elif keep:
            self._fixed[id(cell)] = region
        return region.base

    def known_address(self, cell: Cell) -> int | None:
        """The address of a map value that has one."""
        region = self._cells.get(id(cell)) or self._fixed.get(id(cell))
        return None if region is None else region.base

    def forget_cells(self) -> None:
        """Between runs: map values give their addresses back when many have one."""
        if len(self._cells) > _CELLS_KEPT:
            for key, region in self._cells.items():
                if key not in self._fixed:
                    self.remove(region)
            self._cells.clear()

    # Access by the interpreter's slow path and by helpers.

    def load(self, address: int, size: int) -> int:
        """An unsigned load of 1, 2, 4 or 8 bytes. Raises MemoryFault."""
        region = self.find(address)
        if region is not None:
            offset = address - region.base
            if region.fields is not None:
                return region.fields.load(offset, size)
            if region.low <= offset and offset + size <= region.high:
                return int.from_bytes(region.data[offset : offset + size], self.order)
        raise self.fault(address, size, "read")

    def store(self, address: int, size: int, value: int) -> None:
        """A store of the low bytes of `value`. Raises MemoryFault."""
        region = self.find(address)
        if region is not None:
            offset = address - region.base
            if region.fields is not None:
                region.fields.store(offset, size, value)
                return
            if region.low <= offset and offset + size <= region.write_high:
                region.data[offset : offset + size] = (value & ((1 << size * 8) - 1)).to_bytes(size, self.order)
                return
        raise self.fault(address, size, "write")

    def read(self, address: int, size: int) -> bytes:
        """A copy of `size` bytes for a helper; no bytes need no address. Raises MemoryFault."""
        if not size:
            return b""
        region = self.find(address)
        if region is not None:
            offset = address - region.base
            if region.low <= offset and offset + size <= region.high:
                return bytes(region.data[offset : offset + size])
        raise self.fault(address, size, "read")

    def write(self, address: int, data: bytes) -> None:
        """What a helper writes. Raises MemoryFault."""
        if not data:
            return
        region = self.find(address)
        if region is not None:
            offset = address - region.base
            if region.low <= offset and offset + len(data) <= region.write_high:
                region.data[offset : offset + len(data)] = data
                return
        raise self.fault(address, len(data), "write")

    def clear(self, address: int, size: int) -> None:
        """Zeros that a helper writes: any size may be asked for, and none is made that has no place. MemoryFault."""
        region = self.find(address) if size else None
        if region is not None:
            offset = address - region.base
            if region.low <= offset and offset + size <= region.write_high:
                region.data[offset : offset + size] = bytes(size)
                return
        if size:
            raise self.fault(address, size, "write")

    def read_string(self, address: int, limit: int) -> bytes:
        """The bytes before the first zero, at most `limit` and at most to the end of the region."""
        region = self.find(address)
        if region is None or not region.low <= address - region.base < region.high:
            raise self.fault(address, 1, "read")
        offset = address - region.base
        return bytes(region.data[offset : min(region.high, offset + limit)]).split(b"\0", 1)[0]

    def store_at(self, address: int) -> MemoryStore:
        """The map that a map pointer stands for. Raises MemoryFault."""
        region = self.find(address)
        if region is None or region.store is None or address != region.base:
            raise MemoryFault(f"{address:#x} is no map pointer", region.name if region else "")
        return region.store

    def fault(self, address: int, size: int, action: str) -> MemoryFault:
        """The fault of this access, in words."""
        region = self.find(address)
        what = f"{action} of {size} byte{'s' if size != 1 else ''}"
        if region is None:
            where = "null" if 0 <= address < 1 << 16 else f"{address & U64_MAX:#x}"
            return MemoryFault(f"{what} at {where}: no memory there")
        offset = address - region.base
        if region.store is not None and not region.high:
            return MemoryFault(f"{what} at offset {offset} of the {region.name}: a map pointer is opaque", region.name)
        if action == "write" and not region.write_high and region.low <= offset and offset + size <= region.high:
            return MemoryFault(f"{what} at offset {offset} of the {region.name}: it is read-only", region.name)
        place = offset - region.low
        length = region.high - region.low
        return MemoryFault(f"{what} at offset {place} of the {region.name}, which has {length} bytes", region.name)
