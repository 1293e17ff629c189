"""Stores that generated code works on without calling Python, and the layout it needs to know.

Arrays are blocks of memory as they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ebpfkit._bits import round_up
from ebpfkit.maps.arrays import ArrayStore
from ebpfkit.maps.base import BPF_F_RDONLY_PROG, Cell, MemoryStore

__all__ = ["Layout", "layout_of"]


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


def layout_of(store: MemoryStore) -> Layout | None:
    """The layout of a store that generated code can use, None for any other."""
    writable = not (store.spec.frozen or store.spec.flags & BPF_F_RDONLY_PROG)
    if isinstance(store, ArrayStore):
        return _array_layout(store, writable)
    return None


def _array_layout(store: ArrayStore, writable: bool) -> Layout:
    blocks = tuple(store.blocks)
    held = tuple((ctypes.c_char * len(block)).from_buffer(block) for block in blocks)
    stride, size = round_up(store.spec.value_size, 8), store.spec.value_size

    def cell(cpu: int, entry: int) -> Cell:
        found = store.lookup(entry.to_bytes(4, "little"), cpu)
        assert found is not None
        return found

    kind = "percpu_array" if store.per_cpu else "array"
    addresses = tuple(ctypes.addressof(block) for block in held)
    return Layout(kind, blocks, addresses, stride, size, store.spec.max_entries, writable, cell, held)
