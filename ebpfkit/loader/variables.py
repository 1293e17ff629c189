"""A global variable of a loaded object: its bytes in the memory that programs and user space share."""

from __future__ import annotations

import mmap

from ebpfkit.abi.uapi import BPF_F_MMAPABLE
from ebpfkit.elf.model import VarSpec
from ebpfkit.errors import KernelError, NotSupported, UsageError
from ebpfkit.kernel.shared import SharedMemory
from ebpfkit.loader.maps import Map

__all__ = ["ArenaVariable", "Variable"]


class Variable:
    """One variable. Reading and writing are single copies of its bytes, which programs may be changing meanwhile."""

    def __init__(self, live: Map, spec: VarSpec) -> None:
        self.map = live
        self.spec = spec

    def read(self) -> bytes:
        """Its bytes now."""
        data = self.map.get(bytes(4))
        assert data is not None  # an array has its only slot
        return data[self.spec.offset : self.spec.offset + self.spec.size]

    def write(self, data: bytes) -> None:
        """Change its bytes, and no other variable's. Raises UsageError for a constant or another size."""
        if len(data) != self.spec.size:
            raise UsageError(f"variable {self.spec.name!r} has {self.spec.size} bytes, not {len(data)}")
        if self.spec.constant:
            raise UsageError(f"variable {self.spec.name!r} is constant once it is loaded: give its value to load()")
        info = self.map.info
        if not info.flags & BPF_F_MMAPABLE:
            raise NotSupported("writing a variable of a loaded program", since="5.5")
        try:
            with mmap.mmap(self.map.fileno(), info.value_size) as shared:
                shared[self.spec.offset : self.spec.offset + self.spec.size] = data
        except OSError as error:
            raise KernelError(
                f"cannot map variable {self.spec.name!r}: {error.strerror}", errno=error.errno or 0
            ) from error


class ArenaVariable(Variable):
    """A variable that lives in an arena, whose memory is mapped already."""

    def __init__(self, live: Map, spec: VarSpec, memory: SharedMemory) -> None:
        super().__init__(live, spec)
        self._memory = memory

    def read(self) -> bytes:
        """Its bytes now."""
        return self._memory.read(self.spec.offset, self.spec.size)

    def write(self, data: bytes) -> None:
        """Change its bytes, and no other variable's. Raises UsageError for another size."""
        if len(data) != self.spec.size:
            raise UsageError(f"variable {self.spec.name!r} has {self.spec.size} bytes, not {len(data)}")
        self._memory.write(self.spec.offset, data)
