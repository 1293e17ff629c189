"""`insn_array`: places in a program, for indirect jumps. User space writes them before the program is loaded."""

from __future__ import annotations

import errno

from ebpfkit.elf.model import MapSpec
from ebpfkit.maps.arrays import ArrayStore
from ebpfkit.maps.base import Cell
from ebpfkit.maps.store import BPF_ANY

__all__ = ["InsnArrayStore"]

_VALUE_BYTES = 16  # struct bpf_insn_array_value: the slot in the program as it is given, then what became of it


class InsnArrayStore(ArrayStore):
    """Slots of a program by index; programs read the addresses that stand for them, and cannot write."""

    def _validate(self, spec: MapSpec) -> None:
        super()._validate(spec)
        if spec.value_size != _VALUE_BYTES:
            self._refuse(f"a value has {_VALUE_BYTES} bytes, not {spec.value_size}")

    @property
    def slots(self) -> list[int]:
        """The slot that each entry names."""
        block = self.blocks[0]
        starts = range(0, _VALUE_BYTES * self.spec.max_entries, _VALUE_BYTES)
        return [int.from_bytes(block[start : start + 4], self.order) for start in starts]

    def lookup(self, key: bytes, cpu: int = 0) -> Cell | None:
        return None

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        return -errno.EINVAL

    def _read(self, key: bytes) -> bytes | int:
        cell = super().lookup(key)
        return -errno.ENOENT if cell is None else bytes(cell)

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        """The words behind the slot are the kernel's to fill in."""
        return -errno.EINVAL if any(value[4:]) else super().update(key, value, flags)
