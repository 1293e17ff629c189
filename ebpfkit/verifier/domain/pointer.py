"""Pointers as the verifier knows them: what they point into, and where.

A pointer is a kind, a target within that kind (the map, the frame, the size of the memory, the name of an object), a
fixed offset, a variable part (a `Scalar`) and, for packet pointers, the number of bytes proved to be there.
Identities (ids, references) live in the state beside the value. Interned: within one verification, equal pointers are
one object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.verifier.domain.scalar import Scalar

if TYPE_CHECKING:
    from ebpfkit.elf.model import MapSpec

__all__ = [
    "AT_END",
    "BEYOND_END",
    "CONST_DYNPTR",
    "CTX",
    "FUNC",
    "KIND_NAMES",
    "MAP_KEY",
    "MAP_PTR",
    "MAP_VALUE",
    "MEM",
    "OPAQUE",
    "PACKET",
    "PACKET_END",
    "PACKET_META",
    "SCALAR",
    "STACK",
    "MapTarget",
    "Pointer",
]

# Kinds; 0 is the scalar's.
SCALAR, CTX, STACK, PACKET, PACKET_META, PACKET_END, MAP_PTR, MAP_VALUE, MEM, OPAQUE, FUNC, MAP_KEY, CONST_DYNPTR = (
    range(13)
)

KIND_NAMES = {
    SCALAR: "scalar",
    CTX: "ctx",
    STACK: "fp",
    PACKET: "pkt",
    PACKET_META: "pkt_meta",
    PACKET_END: "pkt_end",
    MAP_PTR: "map_ptr",
    MAP_VALUE: "map_value",
    MEM: "mem",
    OPAQUE: "ptr",
    FUNC: "func",
    CONST_DYNPTR: "dynptr_ptr",
    MAP_KEY: "map_key",
}

_OF_MAPS = {MAP_PTR: "map", MAP_VALUE: "a value of map", MAP_KEY: "a key of map"}

OBJECTS = 32
"""Kinds from here on are those of `objects`: their targets have names of their own."""

_OBJECT_TYPES = {34: "flow_keys", 35: "rdonly_untrusted_mem", 36: "arena"}
_OBJECT_WORDS = {34: "the flow keys", 35: "memory of the kernel, not vouched for", 36: "the arena"}

# Values of `range` of a packet pointer known to stand at the end, or behind it.
AT_END, BEYOND_END = -1, -2


class MapTarget:
    """A map of the program, compared by identity."""

    __slots__ = ("index", "spec")

    def __init__(self, index: int, spec: MapSpec) -> None:
        self.index = index
        self.spec = spec

    def __repr__(self) -> str:
        return f"MapTarget({self.spec.name})"


def _object_type(p: Pointer) -> str:
    named = _OBJECT_TYPES.get(p.kind)
    if named is None:
        return str(p.target.type_name(p.nullable))
    return f"{named}{'_or_null' if p.nullable else ''}"


class Pointer:
    """An address: `kind` plus `target` (MapTarget, frame number, or memory size in bytes), `off` and `var`.

    `range`: bytes from the packet's start of the fixed part on that are proved readable, or AT_END or BEYOND_END.
    `nullable`: may still be zero. `readonly`: stores are refused. `record`: a ring buffer record (for release).
    `fits` and `misfits`: a memo of comparisons, as in `Scalar`.
    """

    __slots__ = ("fits", "key", "kind", "misfits", "nullable", "off", "range", "readonly", "record", "target", "var")

    is_scalar = False
    const = None

    def __init__(
        self,
        kind: int,
        target: Any,
        off: int,
        var: Scalar,
        range_: int = 0,
        nullable: bool = False,
        readonly: bool = False,
        record: bool = False,
    ) -> None:
        self.kind = kind
        self.target = target
        self.off = off
        self.var = var
        self.range = range_
        self.nullable = nullable
        self.readonly = readonly
        self.record = record
        self.key = (kind, target, off, var, range_, nullable, readonly, record)
        self.fits: set[Any] | None = None
        self.misfits: set[Any] | None = None

    def __repr__(self) -> str:
        return f"Pointer({self.describe()})"

    def type_name(self) -> str:
        """The kernel's word for the type: `map_value_or_null`, `pkt`, `fp`."""
        if self.kind >= OBJECTS:
            return _object_type(self)
        name = "ringbuf_mem" if self.record else KIND_NAMES[self.kind]
        if self.kind == OPAQUE:
            name = str(self.target)
        prefix = "rdonly_" if self.readonly and self.kind == MEM else ""
        return f"{prefix}{name}{'_or_null' if self.nullable else ''}"

    def describe(self) -> str:
        """The state in words: `map value of counters + 8, may be null`."""
        place = {
            CTX: "the context",
            STACK: f"the stack of frame {self.target}",
            PACKET: "the packet",
            PACKET_META: "the packet's metadata",
            PACKET_END: "the end of the packet",
            OPAQUE: f"a {self.target} of the kernel",
            MEM: f"{'a ring buffer record' if self.record else 'memory'} of {self.target} bytes",
        }.get(self.kind, "")
        if self.kind >= OBJECTS:
            place = _OBJECT_WORDS.get(self.kind) or self.target.describe()
        if self.kind in _OF_MAPS:
            place = f"{_OF_MAPS[self.kind]} {self.target.spec.name}"
        if self.kind == FUNC:
            place = f"function {self.target.name or self.target.number}"
        if self.off:
            place += f" {'-' if self.off < 0 else '+'} {abs(self.off)}"
        if self.var.const != 0:
            place += f" + ({self.var.describe()})"
        if self.kind in (PACKET, PACKET_META):
            place += f", {self.range} bytes proved" if self.range >= 0 else ", at or behind the end"
        return place + (", may be null" if self.nullable else "")
