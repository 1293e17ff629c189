"""Maps whose entries belong to kernel objects: sockets, tasks, cgroups, inodes.

User space names an object by a descriptor in the kernel; here by its number: a socket by its cookie, a task by its pid,
a cgroup by its id. Which objects there are is known to who runs programs.
"""

from __future__ import annotations

import errno

from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MapError
from ebpfkit.maps.base import ENOTSUPP, MAX_STORE_BYTES, Cell, MemoryStore, PerCpuValues, flag_error
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST

__all__ = ["CgroupStorageStore", "ObjectStorageStore", "PerCpuCgroupStorageStore"]

BPF_F_NO_PREALLOC = 1
_KEY_SIZES = (8, 16)  # a cgroup's id, and perhaps the attach type


class ObjectStorageStore(MemoryStore):
    """`sk_storage`, `task_storage`, `cgrp_storage`, `inode_storage`: one value for each object that has one.

    `keys` lists the objects, which the kernel does not tell.
    """

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._values: dict[int, bytearray] = {}

    def _validate(self, spec: MapSpec) -> None:
        if spec.key_size != 4 or not spec.value_size or spec.max_entries:
            self._refuse("key_size must be 4, value_size must not be zero, and max_entries must be")
        if not spec.flags & BPF_F_NO_PREALLOC:
            self._refuse("storage of objects needs the flag BPF_F_NO_PREALLOC (1)")

    def value_of(self, number: int) -> bytearray | None:
        """The live value of an object."""
        return self._values.get(number)

    def set_of(self, number: int, value: bytes, flags: int = BPF_ANY) -> int:
        """Give an object a new value: 0 or a negative errno."""
        cell, value = self._values.get(number), self._without_lock(value)
        code = flag_error(flags & ~BPF_F_LOCK, cell is not None)
        if not code and (len(self._values) + 1) * self._spec.value_size > MAX_STORE_BYTES:
            code = -errno.ENOMEM
        if not code and cell is not None and flags & BPF_F_LOCK:
            cell[:] = value  # under its lock, where it is
        elif not code:
            self._values[number] = bytearray(value)
        return code

    def delete_of(self, number: int) -> int:
        """Take the value of an object away: 0 or -ENOENT."""
        return 0 if self._values.pop(number, None) is not None else -errno.ENOENT

    def _read(self, key: bytes) -> bytes | int:
        cell = self.value_of(int.from_bytes(key, self.order))
        return -errno.ENOENT if cell is None else bytes(cell)

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        return self.set_of(int.from_bytes(key, self.order), value, flags)

    def _erase(self, key: bytes) -> int:
        return self.delete_of(int.from_bytes(key, self.order))

    def _keys(self) -> list[bytes]:
        return [(number & 0xFFFF_FFFF).to_bytes(4, self.order) for number in self._values]

    def __len__(self) -> int:
        return len(self._values)


class CgroupStorageStore(MemoryStore):
    """`cgroup_storage`: a value for each cgroup and attach type in which a program has run."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._values: dict[bytes, list[bytearray]] = {}

    def _validate(self, spec: MapSpec) -> None:
        if spec.key_size not in _KEY_SIZES or not spec.value_size:
            self._refuse(f"key_size must be 8 or 16, not {spec.key_size}, and value_size must not be zero")
        if spec.max_entries:
            self._refuse("max_entries must be zero")
        if spec.value_size > MAX_STORE_BYTES:
            raise MapError(f"map '{spec.name}': values of {spec.value_size} bytes are too large", errno=errno.E2BIG)

    def value_in(self, cgroup: int, attach_type: int, cpu: int = 0) -> bytearray:
        """The live value for a program attached there; the first use makes it, of zeros."""
        kind = attach_type if self._spec.key_size == 16 else 0
        key = (cgroup.to_bytes(8, self.order) + kind.to_bytes(4, self.order)).ljust(16, b"\0")[: self._spec.key_size]
        if key not in self._values:
            count = self.cpus if self.per_cpu else 1
            self._values[key] = [bytearray(self._spec.value_size) for _ in range(count)]
        return self._values[key][cpu if self.per_cpu else 0]

    def lookup(self, key: bytes, cpu: int = 0) -> Cell | None:
        return None  # programs reach it through get_local_storage alone

    def _read(self, key: bytes) -> bytes | int:
        cells = self._values.get(bytes(key))
        if cells is None:
            return -errno.ENOENT
        return PerCpuValues(self._spec.value_size, self.cpus).join(cells) if self.per_cpu else bytes(cells[0])

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        if flags & ~(BPF_F_LOCK | BPF_EXIST) or flags == BPF_NOEXIST:
            return -errno.EINVAL
        cells = self._values.get(bytes(key))
        if cells is None:
            return -errno.ENOENT
        parts = PerCpuValues(self._spec.value_size, self.cpus).split(value) if self.per_cpu else [value]
        for cell, part in zip(cells, parts, strict=True):
            cell[:] = part
        return 0

    def _erase(self, key: bytes) -> int:
        return -errno.EINVAL

    def _pop(self, key: bytes) -> bytes | int:
        return -ENOTSUPP

    def _keys(self) -> list[bytes]:
        return list(self._values)


class PerCpuCgroupStorageStore(CgroupStorageStore):
    """Its per-CPU form."""

    per_cpu = True
