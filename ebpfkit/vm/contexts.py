"""Contexts: what a program sees behind r1.

A context is no memory. A load names a field of the row in `abi.contexts`, and the value comes from the run: packet
pointers are computed, everything else is a number that the caller may give. Contexts of program types that are not
listed here are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.model import ContextField, ContextSpec, FieldResult
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.errors import NotSupported, UsageError
from ebpfkit.vm.frame import Frame
from ebpfkit.vm.memory import AddressSpace, MemoryFault

__all__ = ["CONTEXT_TYPES", "MEMORY_TYPES", "REFUSED_TYPES", "Context", "Part", "context_for"]

CONTEXT_TYPES: Final = frozenset(name for name, spec in CONTEXTS.items() if spec.fields)
"""Context structures that the machine builds."""

MEMORY_TYPES: Final = MappingProxyType(
    {
        "kprobe": False,
        "tracepoint": False,
        "raw_tracepoint": False,
        "raw_tracepoint_writable": True,
        "lirc_mode2": False,
        "syscall": True,
    }
)
"""Program types whose context is plain memory, the bytes of the run; and whether they may write it."""

_BTF_ONLY: Final = "its arguments are typed kernel objects"
REFUSED_TYPES: Final = MappingProxyType(
    {
        "tracing": _BTF_ONLY,
        "lsm": _BTF_ONLY,
        "struct_ops": _BTF_ONLY,
        "netfilter": _BTF_ONLY,
        "ext": "it is a part of another program: give the machine that program",
        "unspec": "it is no program type",
    }
)
"""Program types that the machine does not run, and why."""

_PLACES: Final = MappingProxyType(
    {FieldResult.PACKET: "data", FieldResult.PACKET_END: "data_end", FieldResult.PACKET_META: "data_meta"}
)


@dataclass(frozen=True, slots=True)
class Part:
    """What one access touches: a field, the bits of it from `shift` on, or (`place`) an edge of the packet.

    A pointer to anything else `is_refused` where plain numbers are wanted.
    """

    name: str
    shift: int
    mask: int
    place: str
    is_refused: bool
    readable: bool
    writable: bool
    may_be_null: bool = False


class Context:
    """The context of one program type over one frame: `values` are the fields that are plain numbers."""

    def __init__(self, spec: ContextSpec, frame: Frame, memory: AddressSpace) -> None:
        self.spec = spec
        self.frame = frame
        self.order = memory.order
        self.values: dict[str, int] = {}
        self.pointers: dict[str, int] = {}  # fields that lead to sockets and flow keys: their addresses
        self.settable = frozenset(field.name for field in spec.fields if field.result is FieldResult.SCALAR)
        self._parts: dict[tuple[int, int], Part] = {}
        self.region = memory.add(f"context ({spec.name})", bytearray(), fields=self)

    def start(self, values: Mapping[str, int]) -> None:
        """Give the fields their values for a run; those not named are 0."""
        if not self.settable.issuperset(values):
            name = next(name for name in values if name not in self.settable)
            raise UsageError(
                f"{self.spec.name} has no field '{name}' to set; there are {', '.join(sorted(self.settable))}"
            )
        self.values = dict(values)
        self.pointers.clear()

    def load(self, offset: int, size: int) -> int:
        """What a load of `size` bytes at `offset` gives. Raises MemoryFault where there is no such field."""
        part = self._parts.get((offset, size)) or self.find(offset, size, "read")
        if part.place == "data":
            return self.frame.region.base + self.frame.data
        if part.place == "data_end":
            return self.frame.region.base + self.frame.data_end
        if part.place == "data_meta":
            return self.frame.region.base + self.frame.data_meta
        if part.is_refused:
            return self._pointer(part)
        if not part.readable:
            raise MemoryFault(f"read of the write-only field '{part.name}' of {self.spec.name}", self.region.name)
        return self._number(part.name) >> part.shift & part.mask

    def _pointer(self, part: Part) -> int:
        if part.name in self.pointers:
            return self.pointers[part.name]
        if part.may_be_null:
            return 0
        why = f"give the run a socket: run(packet, socket=Socket(...)); the '{part.name}' of this program is never null"
        raise NotSupported(f"the field '{part.name}' of {self.spec.name} in the virtual machine", why=why)

    def store(self, offset: int, size: int, value: int) -> None:
        """A store to a writable field. Raises MemoryFault for any other."""
        part = self._parts.get((offset, size)) or self.find(offset, size, "write")
        if not part.writable:
            message = f"write of the field '{part.name}' of {self.spec.name}: it is read-only"
            raise MemoryFault(message, self.region.name)
        mask = part.mask << part.shift
        self.values[part.name] = self._number(part.name) & ~mask | value << part.shift & mask

    def _number(self, name: str) -> int:
        """The number in a field; an array is one long number."""
        if name in self.values:
            return self.values[name]
        return len(self.frame) if name in ("len", "wire_len") else 0

    def value_of(self, part: Part) -> int:
        """What a part that is a plain number holds."""
        return self._number(part.name) >> part.shift & part.mask

    def find(self, offset: int, size: int, action: str) -> Part:
        """What an access touches, remembered."""
        for field in self.spec.fields:
            whole = field.size * field.count
            within = offset - field.offset
            if not 0 <= within <= whole - size or offset % min(size, 4):
                continue
            if size == field.size or (size < field.size and field.narrow) or (size > field.size and field.count > 1):
                below = within if self.order == "little" else whole - within - size
                part = self._parts[offset, size] = _part(field, below * 8, size)
                return part
        message = f"{action} of {size} bytes at offset {offset} of {self.spec.name}: no such field"
        raise MemoryFault(message, self.region.name)


def _part(field: ContextField, shift: int, size: int) -> Part:
    place = _PLACES.get(field.result, "")
    refused = not place and field.result is not FieldResult.SCALAR
    nullable = field.result in (FieldResult.SOCKET_OR_NULL, FieldResult.SOCK_COMMON_OR_NULL)
    return Part(field.name, shift, (1 << size * 8) - 1, place, refused, field.readable, field.writable, nullable)


def context_for(prog_type: str, frame: Frame, memory: AddressSpace) -> Context | None:
    """The context of a program type, None where it is plain memory. Raises NotSupported."""
    if prog_type in MEMORY_TYPES:
        return None
    row = PROG_TYPES.get(prog_type)
    name = row.context if row is not None else None
    if name is None or name not in CONTEXT_TYPES or prog_type in REFUSED_TYPES:
        why = REFUSED_TYPES.get(prog_type, "there is no such program type")
        raise NotSupported(f"program type '{prog_type}' in the virtual machine", why=why)
    return Context(CONTEXTS[name], frame, memory)
