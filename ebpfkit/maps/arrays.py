"""Arrays: `array` (also the maps of data sections) and `percpu_array`. Entries always exist and cannot be deleted."""

from __future__ import annotations

import errno

from ebpfkit._bits import round_up
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MapError
from ebpfkit.maps.base import MAX_STORE_BYTES, Cell, MemoryStore, PerCpuValues
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST

__all__ = ["ArrayStore", "PerCpuArrayStore"]

_CELLS_KEPT = 1 << 16  # views of cells are remembered so that a cell is one object; beyond this they are made anew


class ArrayStore(MemoryStore):
    """One block of memory; elements are padded to 8 bytes as in the kernel."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._stride = round_up(spec.value_size, 8)
        self._blocks = [self._allocate() for _ in range(self._block_count)]
        self._views = [memoryview(block) for block in self._blocks]
        self._cells: dict[tuple[int, bytes], memoryview] = {}
        if spec.data is not None:
            self._blocks[0][: len(spec.data)] = spec.data

    @property
    def _block_count(self) -> int:
        return 1

    @property
    def blocks(self) -> tuple[bytearray, ...]:
        """The memory itself: one block, or one for each CPU, which native code works on. Never resized."""
        return tuple(self._blocks)

    def _validate(self, spec: MapSpec) -> None:
        super()._validate(spec)
        if spec.key_size != 4:
            self._refuse(f"the key of an array is a u32, not {spec.key_size} bytes")
        if spec.data is not None and len(spec.data) > spec.value_size:
            self._refuse(f"{len(spec.data)} bytes of initial data do not fit into {spec.value_size}")
        if round_up(spec.value_size, 8) * spec.max_entries * self._block_count > MAX_STORE_BYTES:
            raise MapError(
                f"map '{spec.name}': {spec.max_entries} entries of {spec.value_size} bytes take too much memory",
                errno=errno.ENOMEM,
            )

    def _allocate(self) -> bytearray:
        return bytearray(self._stride * self._spec.max_entries)

    def lookup(self, key: bytes, cpu: int = 0) -> Cell | None:
        if not self.per_cpu:
            cpu = 0
        cell = self._cells.get((cpu, key))
        if cell is not None:
            return cell
        index = int.from_bytes(key, self.order)
        if index >= self._spec.max_entries:
            return None
        if len(self._cells) >= _CELLS_KEPT:
            self._cells.clear()
        start = index * self._stride
        cell = self._cells[cpu, bytes(key)] = self._views[cpu][start : start + self._spec.value_size]
        return cell

    def _slot_error(self, key: bytes, flags: int) -> int:
        if flags & ~BPF_F_LOCK > BPF_EXIST:
            return -errno.EINVAL
        if int.from_bytes(key, self.order) >= self._spec.max_entries:
            return -errno.E2BIG
        if flags & BPF_NOEXIST:
            return -errno.EEXIST
        return -errno.EINVAL if flags & BPF_F_LOCK and self.lock_at is None else 0

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        code = self._slot_error(key, flags)
        if not code:
            start = int.from_bytes(key, self.order) * self._stride
            block = self._blocks[cpu if self.per_cpu else 0]
            block[start : start + self._spec.value_size] = self._without_lock(value)
        return code

    def remove(self, key: bytes) -> int:
        return -errno.EINVAL

    def _keys(self) -> list[bytes]:
        return [index.to_bytes(4, self.order) for index in range(self._spec.max_entries)]


class PerCpuArrayStore(ArrayStore):
    """One block for each CPU."""

    per_cpu = True

    @property
    def _block_count(self) -> int:
        return self.cpus

    def _read(self, key: bytes) -> bytes | int:
        cells = [self.lookup(key, cpu) for cpu in range(self.cpus)]
        present = [cell for cell in cells if cell is not None]
        return PerCpuValues(self._spec.value_size, self.cpus).join(present) if present else -errno.ENOENT

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        code = self._slot_error(key, flags)
        if not code:
            for cpu, part in enumerate(PerCpuValues(self._spec.value_size, self.cpus).split(value)):
                self.update(key, part, BPF_ANY, cpu)
        return code
