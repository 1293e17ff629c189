"""Stores that generated code works on without calling Python, and the layout it needs to know.

Arrays are blocks of memory as they are. Hash tables, LRU hash tables and prefix tries live in one block each, and
Python goes through the same native functions as programs do (`native_code`), so both may work at the same time. They
follow `MapStore` with the same error numbers as the stores in pure Python, which they replace in a JIT machine.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from ebpfkit._bits import round_up
from ebpfkit.elf.model import MapSpec
from ebpfkit.maps.arrays import ArrayStore
from ebpfkit.maps.base import BPF_F_RDONLY_PROG, MAX_STORE_BYTES, ORDER, ByteOrder, Cell, MemoryStore, flag_error
from ebpfkit.maps.hashes import HashStore
from ebpfkit.maps.memory import create_store
from ebpfkit.maps.native_code import DECLARATIONS, HEADER_BYTES, WORDS, StoreCode, node_stride
from ebpfkit.maps.store import BPF_ANY, BPF_F_LOCK
from ebpfkit.maps.trie import LpmTrieStore

__all__ = [
    "NATIVE", "Layout", "NativeHashStore", "NativeLpmTrieStore", "NativeLruHashStore", "create_native_store",
    "layout_of", "store_code",
]  # fmt: skip

_SPARE_NODES = 64  # a value that was replaced or deleted stays readable for a while, as in the kernel
_CELLS_KEPT = 1 << 16
_LITTLE_ENDIAN = ORDER == "little"


@dataclass(frozen=True)
class Layout:
    """Where the values of a store are: one block for each CPU, entries `stride` bytes apart."""

    kind: str
    blocks: tuple[Cell, ...]
    addresses: tuple[int, ...]
    stride: int
    value_size: int
    count: int
    writable: bool
    cell: Callable[[int, int], Cell]
    held: tuple[Any, ...] = field(default=(), repr=False)
    header: int = 0
    fields: Mapping[str, int] = field(default_factory=dict)


def layout_of(store: MemoryStore) -> Layout | None:
    """The layout of a store that generated code can use, None for any other, and for one whose values have locks."""
    if store.lock_at is not None:
        return None
    writable = not (store.spec.frozen or store.spec.flags & BPF_F_RDONLY_PROG)
    if isinstance(store, (NativeHashStore, NativeLpmTrieStore)):
        return store.table.layout(writable)
    if isinstance(store, ArrayStore) and _LITTLE_ENDIAN:
        return _array_layout(store, writable)
    return None


def _array_layout(store: ArrayStore, writable: bool) -> Layout:
    held = tuple((ctypes.c_char * len(block)).from_buffer(block) for block in store.blocks)
    stride, size = round_up(store.spec.value_size, 8), store.spec.value_size

    def cell(cpu: int, entry: int) -> Cell:
        found = store.lookup(entry.to_bytes(4, store.order), cpu)
        assert found is not None
        return found

    kind = "percpu_array" if store.per_cpu else "array"
    addresses = tuple(ctypes.addressof(block) for block in held)
    return Layout(kind, store.blocks, addresses, stride, size, store.spec.max_entries, writable, cell, held)


def store_code(layout: Layout, key_size: int, name: str) -> str:
    """The functions of one table as text for a program: everything constant."""
    return StoreCode(layout.kind, key_size, name, fields=layout.fields, header=layout.header).text()


class _Functions:
    """A table's functions for Python, for every table of this kind and key size."""

    def __init__(self, kind: str, key_size: int) -> None:
        from ebpfkit.llvm.native import compile_native

        self._module = compile_native(StoreCode(kind, key_size, "table").text() + "\n" + DECLARATIONS)
        key = ctypes.c_char_p
        self.lookup = self._function("lookup", key)
        self.update = self._function("update", key, ctypes.c_char_p, ctypes.c_uint64)
        self.delete = self._function("delete", key)
        self.peek = self._function("peek" if kind == "lru_hash" else "lookup", key)

    def _function(self, name: str, *arguments: Any) -> Callable[..., int]:
        # The interpreter's lock is kept: a table's own lock is held for moments, and never by who waits for Python.
        prototype = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, *arguments)
        function: Callable[..., int] = prototype(self._module.address(f"table_{name}"))
        return function


@cache
def _functions(kind: str, key_size: int) -> _Functions:
    return _Functions(kind, key_size)


class Table:
    """The block of memory of a hash table or trie, and what Python does with it."""

    def __init__(self, kind: str, spec: MapSpec) -> None:
        self.kind = kind
        self.spec = spec
        self.key_bytes = round_up(spec.key_size, 8)
        self.total = spec.max_entries + _SPARE_NODES
        self.fields = self._plan()
        self._memory = mmap.mmap(-1, self.size)
        self._held = (ctypes.c_char * self.size).from_buffer(self._memory)
        self.header = ctypes.addressof(self._held)
        self.view = memoryview(self._memory)
        for name in ("buckets", "nodes", "values", "counts", "masks"):
            self.fields[name] += self.header
        words = (ctypes.c_uint64 * len(WORDS)).from_buffer(self._memory)
        for name, value in self.fields.items():
            words[WORDS[name]] = value
        self._words = words
        self._cells: dict[int, memoryview] = {}
        if kind == "lpm_trie":
            self._write_masks()
        self.functions = _functions(kind, spec.key_size)

    def _plan(self) -> dict[str, int]:
        """The constant words of the header, addresses counted from its start; sets `size`."""
        spec = self.spec
        buckets = 1 << max(1, (spec.max_entries - 1).bit_length())
        stride = round_up(spec.value_size, 8)
        nodes = node_stride(self.kind, spec.key_size)
        bits = (spec.key_size - 4) * 8 if self.kind == "lpm_trie" else 0
        fields = {
            "capacity": spec.max_entries, "total": self.total, "value_size": spec.value_size, "stride": stride,
            "node_stride": nodes, "mask": buckets - 1, "bits": bits,
        }  # fmt: skip
        place = HEADER_BYTES
        for name, size in (
            ("buckets", 4 * buckets),
            ("nodes", nodes * self.total),
            ("values", stride * self.total),
            ("counts", 4 * (bits + 1)),
            ("masks", self.key_bytes * (bits + 1)),
        ):
            fields[name] = place
            place = round_up(place + size, 64)
        self.size = place
        return fields

    def _write_masks(self) -> None:
        width = self.spec.key_size - 4
        start = self.fields["masks"] - self.header
        for length in range(width * 8 + 1):
            number = ((1 << length) - 1) << (width * 8 - length)
            row = bytes(4) + number.to_bytes(width, "big")
            at = start + length * self.key_bytes
            self.view[at : at + len(row)] = row

    def layout(self, writable: bool) -> Layout:
        start, size = self.fields["values"] - self.header, self.fields["stride"] * self.total
        block = self.view[start : start + size]
        return Layout(
            self.kind, (block,), (self.fields["values"],), self.fields["stride"], self.spec.value_size, self.total,
            writable, lambda cpu, entry: self.cell(entry), (self,), self.header, dict(self.fields),
        )  # fmt: skip

    def __len__(self) -> int:
        return int(self._words[WORDS["count"]])

    def cell(self, entry: int) -> memoryview:
        """The value of an entry, counted from 0: one object for each place."""
        found = self._cells.get(entry)
        if found is None:
            if len(self._cells) >= _CELLS_KEPT:
                self._cells.clear()
            start = self.fields["values"] - self.header + entry * self.fields["stride"]
            found = self._cells[entry] = self.view[start : start + self.spec.value_size]
        return found

    def lookup(self, key: bytes) -> memoryview | None:
        """The value that a program's look-up finds."""
        index = self.functions.lookup(self.header, bytes(key))
        return self.cell(index - 1) if index else None

    def glance(self, key: bytes) -> memoryview | None:
        """The value that a look-up finds; the order of an LRU table stays."""
        index = self.functions.peek(self.header, bytes(key))
        return self.cell(index - 1) if index else None

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        return self.functions.update(self.header, bytes(key), bytes(value), min(flags, 3))

    def delete(self, key: bytes) -> int:
        return self.functions.delete(self.header, bytes(key))

    def _entries(self) -> Iterator[tuple[int, bytes]]:
        """Entries in use with their keys, as they were given."""
        stride = self.fields["node_stride"]
        start = self.fields["nodes"] - self.header
        place = 16 + (self.key_bytes if self.kind == "lpm_trie" else 0)
        for entry in range(int(self._words[WORDS["used"]])):
            at = start + entry * stride
            if self.view[at + 7] & 0x80:
                yield entry, bytes(self.view[at + place : at + place + self.spec.key_size])

    def keys(self) -> list[bytes]:
        return [key for _, key in self._entries()]


class _TableStore(MemoryStore):
    """What the stores in a block of memory share."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self.table = Table(spec.type, spec)

    def lookup(self, key: bytes, cpu: int = 0) -> Cell | None:
        return self.table.lookup(key)

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        return self.table.update(key, value, flags)

    def remove(self, key: bytes) -> int:
        return self.table.delete(key)

    def __len__(self) -> int:
        return len(self.table)


class NativeHashStore(_TableStore, HashStore):
    """`hash` in a block of memory."""

    def glance(self, key: bytes, cpu: int = 0) -> Cell | None:
        return self.table.glance(key)

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        if self.lock_at is None:
            return self.table.update(key, value, flags)
        cell, value = self.table.glance(key), self._without_lock(value)
        code = flag_error(flags & ~BPF_F_LOCK, cell is not None)
        if not code and cell is not None and flags & BPF_F_LOCK:
            cell[:] = value  # under its lock, where it is
            return 0
        return code or self.table.update(key, value, flags & ~BPF_F_LOCK)

    def _read(self, key: bytes) -> bytes | int:
        value = self.table.glance(key)
        return -errno.ENOENT if value is None else bytes(value)

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        return self.update(key, value, flags)

    def _keys(self) -> list[bytes]:
        return self.table.keys()


class NativeLruHashStore(NativeHashStore):
    """`lru_hash` in a block of memory; reading from user space does not make an entry younger."""


class NativeLpmTrieStore(_TableStore, LpmTrieStore):
    """`lpm_trie` in a block of memory."""

    def _keys(self) -> list[bytes]:
        return sorted(self.table.keys(), key=lambda key: -int.from_bytes(key[:4], self.order))


NATIVE: Final = MappingProxyType[str, type[MemoryStore]](
    {"hash": NativeHashStore, "lru_hash": NativeLruHashStore, "lpm_trie": NativeLpmTrieStore}
)
"""The class for each map type that has a native store of its own; arrays are native as they are."""


def create_native_store(spec: MapSpec, *, cpus: int = 1, order: ByteOrder = ORDER) -> MemoryStore:
    """As `maps.memory.create_store`, with a native store for the types that have one and fit into memory."""
    kind = NATIVE.get(spec.type)
    bucket = 16 + 4 * round_up(spec.key_size, 8) + round_up(spec.value_size, 8)
    too_large = spec.max_entries * bucket > MAX_STORE_BYTES or spec.key_size > 512
    swapped = order != ORDER and spec.type == "lpm_trie"  # its code reads prefix lengths in this machine's order
    if kind is None or too_large or swapped or not spec.max_entries or sys.byteorder != "little":
        return create_store(spec, cpus=cpus, order=order)
    store = kind(spec, cpus)
    store.order = order
    store.set_many(spec.contents)
    return store
