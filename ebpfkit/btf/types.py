"""The nineteen kinds of BTF as frozen dataclasses, and `Btf`, a set of types with its strings.

Names are plain `str` ("" for anonymous); type references are ids, with 0 for void. What the bytes look like is in
`wire`; making new BTF is in `build`; C text is in `cformat`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

from ebpfkit.errors import ObjectError

__all__ = [
    "Array", "Btf", "BtfType", "Const", "Datasec", "DeclTag", "Enum", "Enum64", "Enumerator", "Float", "Func",
    "FuncProto", "Fwd", "Int", "Linkage", "Member", "Param", "Ptr", "Restrict", "Struct", "TypeTag", "Typedef", "Union",
    "Var", "VarSecinfo", "Void", "Volatile",
]  # fmt: skip

POINTER_SIZE = 8
# How far a chain of typedefs, modifiers and arrays is followed before it counts as a cycle (the kernel allows 32).
MAX_LOOKED_UP = 10_000
MAX_DEPTH = 64


class Linkage:
    """Linkage of a FUNC or VAR."""

    STATIC, GLOBAL, EXTERN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class BtfType:
    """The base of all kinds. `kind` is the kernel's number, `name` is "" for anonymous types."""

    kind: ClassVar[int] = 0
    name: str = ""


class Void(BtfType):
    """Type id 0."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Int(BtfType):
    """An integer of `size` bytes; `bits` of them count, from bit `bit_offset`."""

    SIGNED: ClassVar[int] = 1
    CHAR: ClassVar[int] = 2
    BOOL: ClassVar[int] = 4

    kind: ClassVar[int] = 1
    size: int = 4
    encoding: int = 0
    bits: int = 32
    bit_offset: int = 0

    @property
    def is_signed(self) -> bool:
        return bool(self.encoding & self.SIGNED)

    @property
    def is_bool(self) -> bool:
        return bool(self.encoding & self.BOOL)


@dataclass(frozen=True, slots=True)
class _Reference(BtfType):
    type: int = 0


# Kinds without fields of their own are plain subclasses: making a dataclass takes half a millisecond each at import.


class Ptr(_Reference):
    """A pointer to `type` (8 bytes in a BPF program)."""

    __slots__ = ()
    kind: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class Array(BtfType):
    """`nelems` elements of `type`; 0 is a flexible array."""

    kind: ClassVar[int] = 3
    type: int = 0
    index_type: int = 0
    nelems: int = 0


class Member(NamedTuple):
    """A member at `bit_offset` bits; `bitfield_size` is its width in bits, 0 when it is no bit-field."""

    name: str
    type: int
    bit_offset: int
    bitfield_size: int = 0

    @property
    def offset(self) -> int:
        """The offset in bytes (of the byte that holds the first bit)."""
        return self.bit_offset // 8


@dataclass(frozen=True, slots=True)
class Struct(BtfType):
    """A structure of `size` bytes. `kind_flag`: members are encoded with bit-field sizes."""

    kind: ClassVar[int] = 4
    size: int = 0
    members: tuple[Member, ...] = ()
    kind_flag: bool = False

    def member(self, name: str) -> Member | None:
        """The member of that name, or None."""
        return next((m for m in self.members if m.name == name), None)


class Union(Struct):
    """A union of `size` bytes."""

    __slots__ = ()
    kind: ClassVar[int] = 5


class Enumerator(NamedTuple):
    """One constant of an enumeration."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Enum(BtfType):
    """An enumeration of 32-bit constants, `size` bytes wide. Without enumerators it is a forward declaration."""

    kind: ClassVar[int] = 6
    size: int = 4
    values: tuple[Enumerator, ...] = ()
    signed: bool = False

    def value(self, name: str) -> int | None:
        """The value of the enumerator of that name, or None."""
        return next((v.value for v in self.values if v.name == name), None)


class Enum64(Enum):
    """An enumeration of 64-bit constants."""

    __slots__ = ()
    kind: ClassVar[int] = 19


@dataclass(frozen=True, slots=True)
class Fwd(BtfType):
    """A forward declaration of a struct or union."""

    kind: ClassVar[int] = 7
    is_union: bool = False


class _Alias(_Reference):
    __slots__ = ()


class Typedef(_Alias):
    """Another name for `type`."""

    __slots__ = ()
    kind: ClassVar[int] = 8


class Volatile(_Alias):
    """`volatile`."""

    __slots__ = ()
    kind: ClassVar[int] = 9


class Const(_Alias):
    """`const`."""

    __slots__ = ()
    kind: ClassVar[int] = 10


class Restrict(_Alias):
    """`restrict`."""

    __slots__ = ()
    kind: ClassVar[int] = 11


@dataclass(frozen=True, slots=True)
class _Linked(BtfType):
    type: int = 0
    linkage: int = Linkage.GLOBAL


class Func(_Linked):
    """A function; `type` is its FUNC_PROTO."""

    __slots__ = ()
    kind: ClassVar[int] = 12


class Param(NamedTuple):
    """A parameter. A last one without name and type means `...`."""

    name: str
    type: int


@dataclass(frozen=True, slots=True)
class FuncProto(BtfType):
    """A function's signature; `ret` is the type it returns."""

    kind: ClassVar[int] = 13
    ret: int = 0
    params: tuple[Param, ...] = ()


class Var(_Linked):
    """A variable."""

    __slots__ = ()
    kind: ClassVar[int] = 14


class VarSecinfo(NamedTuple):
    """Where a VAR (or an extern FUNC) lies in its section: bytes."""

    type: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Datasec(BtfType):
    """The variables of one ELF section, `size` bytes in all."""

    kind: ClassVar[int] = 15
    size: int = 0
    vars: tuple[VarSecinfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Float(BtfType):
    """A floating point type of `size` bytes."""

    kind: ClassVar[int] = 16
    size: int = 8


@dataclass(frozen=True, slots=True)
class DeclTag(BtfType):
    """`btf_decl_tag(name)` on `type`; `component` is a member's or parameter's index, -1 for the type itself.

    `attribute`: the tag is a general attribute (kind flag, Linux 6.15).
    """

    kind: ClassVar[int] = 17
    type: int = 0
    component: int = -1
    attribute: bool = False


@dataclass(frozen=True, slots=True)
class TypeTag(_Alias):
    """`btf_type_tag(name)` on `type`. `attribute`: a general attribute (kind flag, Linux 6.15)."""

    kind: ClassVar[int] = 18
    attribute: bool = False


KIND_NAMES: Mapping[int, str] = {
    0: "VOID", 1: "INT", 2: "PTR", 3: "ARRAY", 4: "STRUCT", 5: "UNION", 6: "ENUM", 7: "FWD", 8: "TYPEDEF",
    9: "VOLATILE", 10: "CONST", 11: "RESTRICT", 12: "FUNC", 13: "FUNC_PROTO", 14: "VAR", 15: "DATASEC", 16: "FLOAT",
    17: "DECL_TAG", 18: "TYPE_TAG", 19: "ENUM64",
}  # fmt: skip
"""The kernel's name of each kind."""

VOID = Void()
T = TypeVar("T", bound=BtfType)


class Btf:
    """Types by id, with their string table: an object's BTF, or (decoded as used) a kernel's.

    `types[0]` is void. `data` is the encoded form; string offsets of `.BTF.ext` and of line info are into `strings`.
    A Btf never changes: `with_types` makes another one.
    """

    __slots__ = ("_by_name", "_data", "_looked_up", "base", "big_endian", "strings", "types")

    def __init__(
        self,
        types: Sequence[BtfType],
        strings: bytes = b"\0",
        *,
        big_endian: bool = False,
        data: bytes | None = None,
        base: Btf | None = None,
    ) -> None:
        self.types = types
        self.strings = strings
        self.big_endian = big_endian
        self.base = base
        self._data = data
        self._by_name: dict[str, list[int]] | None = None
        self._looked_up: dict[str, list[int]] = {}

    @classmethod
    def from_bytes(cls, data: bytes, *, base: Btf | None = None, lazy: bool = False) -> Btf:
        """Read a `.BTF` section. Every size and reference is checked; `lazy` leaves that to each type's first use.

        `base` is the BTF that a split BTF (of a kernel module) extends. Raises ObjectError with the place.
        """
        from ebpfkit.btf import wire

        return wire.decode(data, base=base, lazy=lazy)

    def to_bytes(self) -> bytes:
        """The `.BTF` section: the very bytes it was read from, where it was."""
        if self._data is None:
            from ebpfkit.btf import wire

            self._data, self.strings = wire.encode(self)
        return self._data

    def with_types(self, changes: Mapping[int, BtfType], added: Iterable[BtfType] = ()) -> Btf:
        """A copy in which some ids have other types and some are added; strings that exist keep their offsets."""
        types = [*self.types, *added]
        for type_id, changed in changes.items():
            types[type_id] = changed
        return Btf(types, self.strings, big_endian=self.big_endian, base=self.base)

    def __len__(self) -> int:
        return len(self.types)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Btf) and self.to_bytes() == other.to_bytes()

    def __hash__(self) -> int:
        return hash(self.to_bytes())

    def __repr__(self) -> str:
        return f"<Btf of {len(self.types)} types>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self.to_bytes(), self.base)

    def get(self, type_id: int) -> BtfType:
        """The type with that id. Raises ObjectError when there is none."""
        if type_id >= 0:
            try:
                return self.types[type_id]
            except IndexError:
                pass
        raise ObjectError(f"type id {type_id} is not within 0..{len(self.types) - 1}", place=".BTF")

    def name(self, type_: BtfType | int) -> str:
        """The name of a type, given as itself or by id."""
        return (self.get(type_) if isinstance(type_, int) else type_).name

    def string(self, offset: int, *, limit: int = 1 << 24) -> str:
        """The string at an offset of the string table (undecodable bytes become U+FFFD). Raises ObjectError.

        No more than `limit` bytes of it are looked at.
        """
        if self.base is not None:
            if offset < len(self.base.strings):
                return self.base.string(offset, limit=limit)
            offset -= len(self.base.strings)
        if not 0 <= offset < len(self.strings):
            raise ObjectError(
                f"string offset {offset} is outside the {len(self.strings)} bytes of strings", place=".BTF strings"
            )
        end = self.strings.find(b"\0", offset, offset + limit)
        return self.strings[offset : end if end >= 0 else offset + limit].decode(errors="replace")

    def string_offset(self, text: str) -> int | None:
        """The offset of a whole string in the string table, or None when it is not there."""
        from ebpfkit.btf import wire

        return wire.string_offset(self, text)

    def ids(self, name: str) -> list[int]:
        """The ids of every type of that name, in order."""
        if self._by_name is None:
            finder = getattr(self.types, "ids_of_name", None)
            if finder is not None:
                # A look-up goes through megabytes of strings: answers are kept, in bounds.
                found = self._looked_up.get(name)
                if found is None:
                    if len(self._looked_up) >= MAX_LOOKED_UP:
                        self._looked_up.clear()
                    found = self._looked_up[name] = finder(name)
                return found
            index: dict[str, list[int]] = {}
            for type_id, type_ in enumerate(self.types):
                if type_.name:
                    index.setdefault(type_.name, []).append(type_id)
            self._by_name = index
        return self._by_name.get(name, [])

    def find_id(self, name: str, kind: type[BtfType] | int | None = None) -> int:
        """The id of the first type of that name (and kind, a class or the kernel's number); 0 when there is none."""
        number = kind if isinstance(kind, int) or kind is None else kind.kind
        return next((i for i in self.ids(name) if number is None or self.types[i].kind == number), 0)

    def find(self, name: str, kind: type[T]) -> T | None:
        """The first type of that name and kind, or None: `btf.find("xdp_md", Struct)`."""
        type_id = self.find_id(name, kind)
        found = self.types[type_id] if type_id else None
        return found if isinstance(found, kind) else None

    def strip(self, type_id: int) -> int:
        """The id behind typedefs, const, volatile, restrict and type tags. Raises ObjectError on a cycle."""
        for _ in range(MAX_DEPTH):
            type_ = self.get(type_id)
            if not isinstance(type_, _Alias):
                return type_id
            type_id = type_.type
        raise ObjectError(f"types refer to each other in a circle at id {type_id}", place=".BTF")

    def resolve(self, type_id: int) -> BtfType:
        """The type behind typedefs, const, volatile, restrict and type tags."""
        return self.get(self.strip(type_id))

    def size_of(self, type_id: int) -> int:
        """The size of a type in bytes. Raises ObjectError for void, functions, forwards and cycles."""
        count = 1
        for _ in range(MAX_DEPTH):
            type_id = self.strip(type_id)
            type_ = self.get(type_id)
            if isinstance(type_, Array):
                count *= type_.nelems
                type_id = type_.type
            elif isinstance(type_, Var):
                type_id = type_.type
            elif isinstance(type_, Int | Struct | Enum | Float | Datasec):
                return count * type_.size
            elif isinstance(type_, Ptr):
                return count * POINTER_SIZE
            else:
                kind = KIND_NAMES[type_.kind].lower()
                raise ObjectError(f"{kind} {type_.name or type_id} has no size", place=f".BTF type {type_id}")
        raise ObjectError(f"arrays nest too deeply or in a circle at id {type_id}", place=".BTF")

    def iter_kind(self, kind: type[T]) -> Iterator[tuple[int, T]]:
        """(id, type) of every type of one kind."""
        for type_id, type_ in enumerate(self.types):
            if type(type_) is kind:
                yield type_id, type_


def _unpickle(data: bytes, base: Btf | None) -> Btf:
    return Btf.from_bytes(data, base=base, lazy=True)


def referenced_ids(type_: BtfType) -> Iterable[int]:
    """The ids that a type mentions, in wire order."""
    if isinstance(type_, _Reference | _Linked | DeclTag):
        return (type_.type,)
    if isinstance(type_, Array):
        return (type_.type, type_.index_type)
    if isinstance(type_, Struct):
        return [m.type for m in type_.members]
    if isinstance(type_, FuncProto):
        return [type_.ret, *(p.type for p in type_.params)]
    if isinstance(type_, Datasec):
        return [v.type for v in type_.vars]
    return ()


def with_ids(type_: BtfType, new_id: Callable[[int], int]) -> BtfType:
    """The type with every id that it mentions replaced; they are asked for in the order of `referenced_ids`."""
    match type_:
        case Typedef() | Volatile() | Const() | Restrict() | Ptr():
            return type(type_)(type_.name, new_id(type_.type))
        case TypeTag():
            return TypeTag(type_.name, new_id(type_.type), type_.attribute)
        case DeclTag():
            return DeclTag(type_.name, new_id(type_.type), type_.component, type_.attribute)
        case Func() | Var():
            return type(type_)(type_.name, new_id(type_.type), type_.linkage)
        case Array():
            return Array(type_.name, new_id(type_.type), new_id(type_.index_type), type_.nelems)
        case Struct():
            members = tuple(Member(m.name, new_id(m.type), m.bit_offset, m.bitfield_size) for m in type_.members)
            return type(type_)(type_.name, type_.size, members, type_.kind_flag)
        case FuncProto():
            ret = new_id(type_.ret)
            return FuncProto(type_.name, ret, tuple(Param(p.name, new_id(p.type)) for p in type_.params))
        case Datasec():
            rows = tuple(VarSecinfo(new_id(v.type), v.offset, v.size) for v in type_.vars)
            return Datasec(type_.name, type_.size, rows)
    return type_
