"""What the compiler, the codecs and plain Python execution all know about a DSL type.

Every type class of the language (`u64`, `be16`, `IPv4Addr`, a `Struct`) has one of these in `__ebpf_type__`. Behaviour
of values lives with the classes; this is layout and meaning only.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ArrayType", "BitsType", "Field", "HeaderLength", "IntType", "StructType", "TypeInfo"]


@dataclass(frozen=True, slots=True)
class IntType:
    """An integer of 8, 16, 32 or 64 bits.

    `network`: kept in network order in memory; its value is the number on the wire.
    `enum`: members by name, for enumerations. `is_bool`: one byte, 0 or 1.
    """

    name: str  # the DSL's name: "u64", "be16", "IPv4Addr", "XdpAction"
    bits: int
    signed: bool = False
    network: bool = False
    is_bool: bool = False
    enum: tuple[tuple[str, int], ...] = ()

    @property
    def size(self) -> int:
        return self.bits // 8

    @property
    def align(self) -> int:
        return self.bits // 8


@dataclass(frozen=True, slots=True)
class BitsType:
    """`width` bits of a big-endian unit of `unit` bytes; `shift` counts from the unit's least significant bit."""

    width: int
    shift: int
    unit: int

    @property
    def size(self) -> int:
        return self.unit

    @property
    def align(self) -> int:
        return self.unit


@dataclass(frozen=True, slots=True)
class ArrayType:
    """`length` elements in a row; MAC and IPv6 addresses are arrays of u8 with a name.

    An array with a name is a value (read by copy, as an integer is); one without is read as a view, as a structure is.
    """

    element: TypeInfo
    length: int
    name: str = ""

    @property
    def size(self) -> int:
        return self.element.size * self.length

    @property
    def align(self) -> int:
        return self.element.align


@dataclass(frozen=True, slots=True)
class Field:
    """A member: `offset` bytes from the start of its structure.

    `default` is the value that a constructor gives it when it is not named, as bytes in memory order (for bit fields as
    a number); None: it must be named.
    """

    name: str
    type: TypeInfo
    offset: int
    default: bytes | int | None = None


@dataclass(frozen=True, slots=True)
class HeaderLength:
    """A protocol header whose real length is `base + field * scale` bytes, at most `maximum`.

    `field` may be several names in a row, "has_key has_sequence": their values are added up.
    """

    field: str
    scale: int
    maximum: int
    base: int = 0

    @property
    def fields(self) -> list[str]:
        """The names of the fields that say the length."""
        return self.field.split()


@dataclass(frozen=True, slots=True)
class StructType:
    """A structure with C's layout (`packed`: none of the padding, alignment 1, as protocol headers are).

    `opaque`: bytes that only helpers of the kernel touch, such as a spin lock. `union`: every field begins at 0.
    """

    name: str
    fields: tuple[Field, ...]
    size: int
    align: int
    packed: bool = False
    header_length: HeaderLength | None = None
    opaque: bool = False
    union: bool = False

    def field(self, name: str) -> Field | None:
        return next((f for f in self.fields if f.name == name), None)


TypeInfo = IntType | BitsType | ArrayType | StructType
