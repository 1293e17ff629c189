"""Hash tables: `hash`, `percpu_hash`, `lru_hash`, `lru_percpu_hash`.

The kernel's LRU is approximate and works on batches per CPU; here it is exact: the entry that was looked up by a
program or written longest ago makes room. A test that holds on both must not name the victim.
"""

from __future__ import annotations

import errno

from ebpfkit.elf.model import MapSpec
from ebpfkit.maps.base import MAX_STORE_BYTES, Cell, MemoryStore, PerCpuValues, flag_error
from ebpfkit.maps.store import BPF_ANY, BPF_F_LOCK

__all__ = ["HashStore", "LruHashStore", "LruPerCpuHashStore", "PerCpuHashStore"]


class HashStore(MemoryStore):
    """One cell for each key, in order of insertion."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._cells: dict[bytes, list[bytearray]] = {}

    def lookup(self, key: bytes, cpu: int = 0) -> Cell | None:
        cells = self._cells.get(bytes(key))
        return None if cells is None else cells[cpu if self.per_cpu else 0]

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        if not self.per_cpu:
            return self._put(bytes(key), [bytes(value)], flags)
        # A program writes its own CPU's value; a new entry starts as zeros on the others.
        parts: list[bytes | None] = [None] * self.cpus
        parts[cpu] = bytes(value)
        return self._put(bytes(key), parts, flags)

    def _put(self, key: bytes, parts: list[bytes | None] | list[bytes], flags: int) -> int:
        cells = self._cells.get(key)
        locked = flags & BPF_F_LOCK
        code = flag_error(flags & ~BPF_F_LOCK, cells is not None)
        if code or (locked and self.lock_at is None):
            return code or -errno.EINVAL
        if cells is None:
            if len(self._cells) >= self._spec.max_entries and not self._make_room():
                return -errno.E2BIG
            if (len(self._cells) + 1) * self.value_bytes > MAX_STORE_BYTES:
                return -errno.ENOMEM
            size = self._spec.value_size
            self._cells[key] = [
                bytearray(size) if part is None else bytearray(self._without_lock(part)) for part in parts
            ]
        elif locked and parts[0] is not None:
            cells[0][:] = self._without_lock(parts[0])  # under its lock, where it is
        else:
            self._replace(key, cells, parts)
        return 0

    def _replace(self, key: bytes, cells: list[bytearray], parts: list[bytes | None] | list[bytes]) -> None:
        if not self.per_cpu:
            # As in the kernel, a new element takes the place of the old: a program that holds the old value keeps that.
            self._cells[key] = [bytearray(self._without_lock(part)) for part in parts if part is not None]
            return
        for cell, part in zip(cells, parts, strict=True):
            if part is not None:
                cell[:] = part

    def _make_room(self) -> bool:
        return False

    def remove(self, key: bytes) -> int:
        return 0 if self._cells.pop(bytes(key), None) is not None else -errno.ENOENT

    def _read(self, key: bytes) -> bytes | int:
        cells = self._cells.get(bytes(key))
        if cells is None:
            return -errno.ENOENT
        return PerCpuValues(self._spec.value_size, self.cpus).join(cells) if self.per_cpu else bytes(cells[0])

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        parts = PerCpuValues(self._spec.value_size, self.cpus).split(value) if self.per_cpu else [bytes(value)]
        return self._put(bytes(key), parts, flags)

    def _pop(self, key: bytes) -> bytes | int:
        value = self._read(key)
        if not isinstance(value, int):
            self.remove(key)
        return value

    def _keys(self) -> list[bytes]:
        return list(self._cells)

    def glance(self, key: bytes, cpu: int = 0) -> Cell | None:
        """The live value as bpf_for_each_map_elem shows it: an LRU entry does not become younger."""
        return HashStore.lookup(self, key, cpu)

    def __len__(self) -> int:
        return len(self._cells)


class PerCpuHashStore(HashStore):
    """A cell for each key and CPU."""

    per_cpu = True


class LruHashStore(HashStore):
    """A hash that forgets the least recently used entry when it is full."""

    def lookup(self, key: bytes, cpu: int = 0) -> Cell | None:
        key = bytes(key)
        cells = self._cells.pop(key, None)
        if cells is None:
            return None
        self._cells[key] = cells  # at the young end
        return cells[cpu if self.per_cpu else 0]

    def _replace(self, key: bytes, cells: list[bytearray], parts: list[bytes | None] | list[bytes]) -> None:
        super()._replace(key, cells, parts)
        self._cells[key] = self._cells.pop(key)  # at the young end

    def _make_room(self) -> bool:
        del self._cells[next(iter(self._cells))]
        return True


class LruPerCpuHashStore(LruHashStore):
    """Its per-CPU form."""

    per_cpu = True
