"""`lpm_trie`: longest-prefix match. A key is a u32 prefix length in this machine's order, then the data."""

from __future__ import annotations

import errno

from ebpfkit.elf.model import MapSpec
from ebpfkit.maps.base import MAX_STORE_BYTES, Cell, MemoryStore
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST, BPF_NOEXIST

__all__ = ["LpmTrieStore"]

BPF_F_NO_PREALLOC = 1


class LpmTrieStore(MemoryStore):
    """One table for each prefix length; a look-up tries the lengths in use, longest first."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._bits = (spec.key_size - 4) * 8
        # length -> network number -> (the key as it was given, the live cell)
        self._tables: dict[int, dict[int, tuple[bytes, bytearray]]] = {}
        self._lengths: list[int] = []  # in use, longest first
        self._count = 0

    def _validate(self, spec: MapSpec) -> None:
        super()._validate(spec)
        if not 5 <= spec.key_size <= 260:
            self._refuse(f"a key has 4 bytes of prefix length and 1 to 256 of data, not {spec.key_size} in all")
        if not spec.flags & BPF_F_NO_PREALLOC:
            self._refuse("an LPM trie needs the flag BPF_F_NO_PREALLOC (1)")

    def _split(self, key: bytes) -> tuple[int, int]:
        return int.from_bytes(key[:4], self.order), int.from_bytes(key[4:], "big")

    def lookup(self, key: bytes, cpu: int = 0) -> Cell | None:
        length, bits = self._split(key)
        if length > self._bits:
            return None
        for used in self._lengths:
            if used <= length:
                found = self._tables[used].get(bits >> (self._bits - used))
                if found is not None:
                    return found[1]
        return None

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        length, bits = self._split(key)
        if flags > BPF_EXIST or length > self._bits:
            return -errno.EINVAL
        network = bits >> (self._bits - length)
        found = self._tables.get(length, {}).get(network)
        if found is not None:
            if flags == BPF_NOEXIST:
                return -errno.EEXIST
        else:
            if flags == BPF_EXIST:
                return -errno.ENOENT
            if self._count == self._spec.max_entries:
                return -errno.ENOSPC
            if (self._count + 1) * self._spec.value_size > MAX_STORE_BYTES:
                return -errno.ENOMEM
            self._count += 1
        # The kernel puts a new node in place of the old one: a program that holds the old value keeps it.
        self._tables.setdefault(length, {})[network] = (bytes(key), bytearray(value))
        self._lengths = sorted(self._tables, reverse=True)
        return 0

    def remove(self, key: bytes) -> int:
        length, bits = self._split(key)
        if length > self._bits:
            return -errno.EINVAL
        table = self._tables.get(length)
        if table is None or table.pop(bits >> (self._bits - length), None) is None:
            return -errno.ENOENT
        if not table:
            del self._tables[length]
            self._lengths.remove(length)
        self._count -= 1
        return 0

    def _keys(self) -> list[bytes]:
        return [key for length in self._lengths for key, _ in self._tables[length].values()]

    def __len__(self) -> int:
        return self._count
