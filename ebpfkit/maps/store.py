"""The protocol that every store of a map follows: in memory, native, and in the kernel.

Everything is bytes here; codecs turn them into Python values. Errors carry the kernel's errno (`MapError`), so that a
test written against one store holds on another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from ebpfkit.elf.model import MapSpec

__all__ = ["BPF_ANY", "BPF_EXIST", "BPF_F_LOCK", "BPF_NOEXIST", "MapStore"]

BPF_ANY, BPF_NOEXIST, BPF_EXIST, BPF_F_LOCK = 0, 1, 2, 4


@runtime_checkable
class MapStore(Protocol):
    """Entries of one map as bytes. For per-CPU maps a value is every CPU's value, each padded to 8 bytes, in order."""

    @property
    def spec(self) -> MapSpec: ...

    def get(self, key: bytes) -> bytes | None:
        """A copy of the value, or None when the key is not there."""

    def set(self, key: bytes, value: bytes, flags: int = BPF_ANY) -> None:
        """Store a value. Raises MapError with E2BIG (full), EEXIST (BPF_NOEXIST), ENOENT (BPF_EXIST), EINVAL."""

    def delete(self, key: bytes) -> None:
        """Remove an entry. Raises MapKeyError (ENOENT) when it is not there, MapError (EINVAL) for arrays."""

    def keys(self) -> Iterator[bytes]:
        """Every key, in the store's own order."""

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every entry."""

    def set_many(self, entries: Iterable[tuple[bytes, bytes]], flags: int = BPF_ANY) -> int:
        """Store many entries, in batches where the store can; returns how many."""
