"""Contexts: what a program sees behind r1.

A context is no memory. A load names a field of the row in `abi.contexts`, and the value comes from the run: packet
pointers are computed, everything else is a number that the caller may give. Contexts of program types that are not
listed here are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.model import ContextField, ContextSpec, FieldResult
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.errors import NotSupported, UsageError
from ebpfkit.maps.base import ORDER
from ebpfkit.vm.frame import Frame
from ebpfkit.vm.memory import AddressSpace, MemoryFault

__all__ = ["CONTEXT_TYPES", "Context", "context_for"]

CONTEXT_TYPES: Final = MappingProxyType({"xdp_md": "XDP", "__sk_buff": "packet filters and classifiers"})
"""Context structures that the machine builds."""

_PLACES: Final = MappingProxyType(
    {FieldResult.PACKET: "data", FieldResult.PACKET_END: "data_end", FieldResult.PACKET_META: "data_meta"}
)


class Context:
    """The context of one program type over one frame: `values` are the fields that are plain numbers."""

    def __init__(self, spec: ContextSpec, frame: Frame, memory: AddressSpace) -> None:
        self.spec = spec
        self.frame = frame
        self.values: dict[str, int] = {}
        self._fields = {field.name: field for field in spec.fields}
        self._found: dict[tuple[int, int], tuple[ContextField, int]] = {}
        self.region = memory.add(f"context ({spec.name})", bytearray(), fields=self)

    def start(self, values: Mapping[str, int]) -> None:
        """Give the fields their values for a run; those not named are 0."""
        for name in values:
            field = self._fields.get(name)
            if field is None or field.result in _PLACES:
                known = ", ".join(sorted(f.name for f in self._fields.values() if f.result not in _PLACES))
                raise UsageError(f"{self.spec.name} has no field '{name}' to set; there are {known}")
        self.values = dict(values)

    def load(self, offset: int, size: int) -> int:
        """What a load of `size` bytes at `offset` gives. Raises MemoryFault where there is no such field."""
        field, shift = self._find(offset, size, "read")
        if not field.readable:
            raise MemoryFault(f"read of the write-only field '{field.name}' of {self.spec.name}", self.region.name)
        place = _PLACES.get(field.result)
        if place is not None:
            return self.frame.region.base + int(getattr(self.frame, place))
        if field.result is not FieldResult.SCALAR:
            raise NotSupported(f"the field '{field.name}' of {self.spec.name} in the virtual machine")
        return self._value(field) >> shift & ((1 << size * 8) - 1)

    def store(self, offset: int, size: int, value: int) -> None:
        """A store to a writable field. Raises MemoryFault for any other."""
        field, shift = self._find(offset, size, "write")
        if not field.writable:
            message = f"write of the field '{field.name}' of {self.spec.name}: it is read-only"
            raise MemoryFault(message, self.region.name)
        mask = ((1 << size * 8) - 1) << shift
        self.values[field.name] = self._value(field) & ~mask | value << shift & mask

    def _value(self, field: ContextField) -> int:
        """The number in a field; an array is one long number."""
        if field.name in self.values:
            return self.values[field.name]
        return len(self.frame) if field.name in ("len", "wire_len") else 0

    def _find(self, offset: int, size: int, action: str) -> tuple[ContextField, int]:
        """The field of an access, and how many bits of it are below what is accessed."""
        found = self._found.get((offset, size))
        if found is None:
            found = self._found[offset, size] = self._search(offset, size, action)
        return found

    def _search(self, offset: int, size: int, action: str) -> tuple[ContextField, int]:
        for field in self.spec.fields:
            whole = field.size * field.count
            within = offset - field.offset
            if not 0 <= within <= whole - size or offset % min(size, 4):
                continue
            if size == field.size or (size < field.size and field.narrow) or (size > field.size and field.count > 1):
                return field, (within if ORDER == "little" else whole - within - size) * 8
        message = f"{action} of {size} bytes at offset {offset} of {self.spec.name}: no such field"
        raise MemoryFault(message, self.region.name)


def context_for(prog_type: str, frame: Frame, memory: AddressSpace) -> Context:
    """The context of a program type. Raises NotSupported for one that the machine cannot build."""
    row = PROG_TYPES.get(prog_type)
    name = row.context if row is not None else None
    if name is None or name not in CONTEXT_TYPES or name not in CONTEXTS:
        known = sorted(t for t, spec in PROG_TYPES.items() if spec.context in CONTEXT_TYPES)
        raise NotSupported(
            f"program type '{prog_type}' in the virtual machine",
            why=f"it runs {', '.join(known)}, and plain memory with prog_type=None",
        )
    return Context(CONTEXTS[name], frame, memory)
