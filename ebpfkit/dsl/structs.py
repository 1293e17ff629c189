"""Structures: classes whose annotations are their fields, laid out as C does.

A structure is a view of bytes: its own, the packet's or a map's. Reading a scalar field copies it, reading a structure
or an array gives a view of it, assigning copies. A class with `packed=True` (every `Header`) has no padding. Padding is
always zero. `header_length` says that a protocol header is longer than its structure; the packet reader uses it.

    class Hits(Struct):
        packets: u64
        bytes: u64

    Hits.zero()                     # every field zero
    Hits(packets=1, bytes=60)       # every field by name, but those with a default
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any, ClassVar, Self, cast, dataclass_transform, overload

from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import NoSuchField, refuse
from ebpfkit.dsl.struct_layout import BitsBody, lay_out
from ebpfkit.dsl.typeinfo import ArrayType, BitsType, Field, HeaderLength, StructType, TypeInfo
from ebpfkit.dsl.types import UNSIGNED, Integer, info_of, type_name

__all__ = ["Header", "Struct", "bits", "offsetof", "sizeof"]


@overload
def bits(width: int, /) -> Any: ...
@overload
def bits(width: int, /, *, default: int) -> Any: ...
def bits(width: int, /, *, default: int | None = None) -> Any:
    """A bit field: `version: u8 = bits(4)`. The annotation is the unit; its bits are handed out from the highest.

    The unit is in network order, as in the packet formats of the RFCs. Neighbours of the same unit share it until it is
    full; fields must fill their unit.
    """
    return BitsBody(width, default)


class FieldView:
    """The descriptor of one field: where it is, and how its bytes become a value."""

    __slots__ = ("field", "type_class")

    def __init__(self, field: Field, type_class: Any) -> None:
        self.field = field
        self.type_class = type_class

    @property
    def offset(self) -> int:
        return self.field.offset

    def __get__(self, instance: Struct | None, owner: Any = None, /) -> Any:
        if instance is None:
            return self
        place = instance._offset + self.field.offset
        layout = self.field.type
        if isinstance(layout, BitsType):
            unit = int.from_bytes(instance._region.read(place, layout.unit), "big")
            return UNSIGNED[layout.unit * 8](unit >> layout.shift & (1 << layout.width) - 1)
        return self.type_class.__ebpf_load__(instance._region, place)

    def __set__(self, instance: Struct, value: object, /) -> None:
        place = instance._offset + self.field.offset
        layout = self.field.type
        if isinstance(layout, BitsType):
            self._set_bits(instance._region, place, layout, value)
        else:
            self.type_class.__ebpf_store__(instance._region, place, value)

    def _set_bits(self, region: Region, place: int, layout: BitsType, value: object) -> None:
        number = UNSIGNED[layout.unit * 8].accept(value)
        mask = (1 << layout.width) - 1
        if number > mask and not isinstance(value, Integer):
            refuse("does-not-fit", f"{number} does not fit the {layout.width} bits of '{self.field.name}'")
        unit = int.from_bytes(region.read(place, layout.unit), "big")
        unit = unit & ~(mask << layout.shift) | (number & mask) << layout.shift
        region.write(place, unit.to_bytes(layout.unit, "big"))


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(bits,))
class Struct:
    """The base of structures.

    Class keywords: `packed` (no padding), `header_length`, and `padding=True` for a structure whose padding is meant.

    Raises CompileError for a field that has no type of the language, or a name that a structure needs for itself.
    """

    __slots__ = ("_offset", "_record", "_region")
    __ebpf_type__: ClassVar[StructType] = StructType("Struct", (), 0, 1)
    _packed: ClassVar[bool] = False
    _union: ClassVar[bool] = False
    _padding_is_meant: ClassVar[bool] = False
    _region: Region
    _offset: int
    _record: Any

    def __init_subclass__(
        cls, *, packed: bool | None = None, header_length: HeaderLength | None = None, padding: bool | None = None
    ) -> None:
        if packed is not None:
            cls._packed = packed
        if padding is not None:
            cls._padding_is_meant = padding
        definer = sys._getframe(1)
        try:
            annotations = inspect.get_annotations(
                cls, globals=definer.f_globals, locals=definer.f_locals, eval_str=True
            )
        except NameError as error:
            refuse("unknown-name", f"{cls.__name__}: {error}")
        finally:
            del definer
        fields = {name: kind for name, kind in annotations.items() if "ClassVar" not in str(kind)}
        inherited = cls.__ebpf_type__
        header = header_length or inherited.header_length
        bodies = {name: (kind, cls.__dict__.get(name)) for name, kind in fields.items()}
        cls.__ebpf_type__ = lay_out(cls.__name__, inherited, bodies, cls._packed, header, union=cls._union)
        for name, kind in fields.items():
            if name.startswith("_") or hasattr(Struct, name):
                refuse("bad-name", f"{cls.__name__}: a structure needs the name '{name}' for itself")
            field = cls.__ebpf_type__.field(name)
            assert field is not None
            setattr(cls, name, FieldView(field, kind))

    def __init__(self, **values: Any) -> None:
        info = self.__ebpf_type__
        self._region = Region(bytearray(info.size))
        self._offset = 0
        self._record = None
        for name in values:
            if info.field(name) is None:
                refuse("no-such-field", f"{info.name} has no field '{name}'", _fields_hint(info))
        missing = [f.name for f in info.fields if f.name not in values and f.default is None]
        if missing and not info.union:
            listed = ", ".join(f"'{name}'" for name in missing)
            refuse("missing-field", f"{info.name}(...) lacks {listed}", f"name it, or start from {info.name}.zero()")
        for field in info.fields:
            if (isinstance(field.type, StructType) and field.type.opaque) or (info.union and field.name not in values):
                continue
            if field.name in values:
                setattr(self, field.name, values[field.name])
            elif isinstance(field.default, bytes):
                self._region.write(field.offset, field.default)
            else:
                setattr(self, field.name, field.default)

    @classmethod
    def zero(cls) -> Self:
        """A new structure of zeros."""
        return cls.__ebpf_load__(Region(bytearray(cls.__ebpf_type__.size)), 0)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A new structure from its bytes in memory order."""
        if len(data) != cls.__ebpf_type__.size:
            refuse("bad-size", f"{cls.__name__} has {cls.__ebpf_type__.size} bytes, not {len(data)}")
        return cls.__ebpf_load__(Region(bytearray(data)), 0)

    @classmethod
    def __ebpf_load__(cls, region: Region, offset: int) -> Self:
        view = cls.__new__(cls)
        view._region = region
        view._offset = offset
        view._record = None
        return view

    @classmethod
    def __ebpf_store__(cls, region: Region, offset: int, value: object) -> None:
        if cls.__ebpf_type__.opaque:
            refuse("read-only", f"a {cls.__name__} cannot be assigned")
        if not isinstance(value, Struct) or value.__ebpf_type__ != cls.__ebpf_type__:
            refuse("bad-type", f"a {type_name(value)} is not a {cls.__name__}")
        region.write(offset, value._without_padding())

    def _without_padding(self) -> bytes:
        """The bytes with every byte of padding zero, as a key must have them."""
        info = self.__ebpf_type__
        data = self._region.read(self._offset, info.size)
        if info.packed:
            return data
        clean = bytearray(info.size)
        for offset, size in _occupied(info):
            clean[offset : offset + size] = data[offset : offset + size]
        return bytes(clean)

    def copy(self) -> Self:
        """The same fields in storage of their own."""
        return type(self).from_bytes(self._without_padding())

    def submit(self) -> None:
        """Hand a record that `RingBuf.reserve` gave to the reader; the view dies."""
        self._finish(discard=False)

    def discard(self) -> None:
        """Give a record that `RingBuf.reserve` gave back unread; the view dies."""
        self._finish(discard=True)

    def _finish(self, *, discard: bool) -> None:
        word = "discard" if discard else "submit"
        if self._record is None or self._region.kind is not RegionKind.RECORD:
            refuse("no-record", f"{word}() of a {type(self).__name__} that no RingBuf.reserve() gave")
        if self._region.dead:
            refuse("dead-view", f"{word}(): this record is gone: {self._region.dead}")
        self._record.finish(discard)
        self._region.dead = f"its record was given to {word}()"

    def __bytes__(self) -> bytes:
        return self._region.read(self._offset, self.__ebpf_type__.size)

    def __eq__(self, other: object, /) -> bool:
        if not isinstance(other, Struct):
            return NotImplemented
        same_type = self.__ebpf_type__ == other.__ebpf_type__
        return same_type and self._without_padding() == other._without_padding()

    def __hash__(self) -> int:
        """The hash of the fields as they are now, for copies only: a view would change behind a dictionary's back."""
        if self._region.kind not in (RegionKind.OWN, RegionKind.SNAPSHOT):
            name = type(self).__name__
            raise TypeError(f"a {name} that is a view of {self._region.kind.value} is unhashable: hash its .copy()")
        return hash(self._without_padding())

    def __setattr__(self, name: str, value: object) -> None:
        if name[0] != "_" and self.__ebpf_type__.field(name) is None:
            refuse("no-such-field", f"{type(self).__name__} has no field '{name}'", _fields_hint(self.__ebpf_type__))
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        message = f"{type(self).__name__} has no field '{name}'"
        refuse("no-such-field", message, _fields_hint(self.__ebpf_type__), NoSuchField)

    def __repr__(self) -> str:
        shown = ", ".join(f"{f.name}={_show(getattr(self, f.name))}" for f in self.__ebpf_type__.fields)
        return f"{type(self).__name__}({shown})"


def _show(value: object) -> str:
    return str(value) if isinstance(value, int) else repr(value)


def _fields_hint(info: StructType) -> str:
    return f"it has {', '.join(f.name for f in info.fields)}" if info.fields else ""


def _occupied(info: StructType, base: int = 0) -> Iterator[tuple[int, int]]:
    """The byte ranges that fields fill."""
    if info.opaque:
        return
    for field in info.fields:
        yield from _occupied_by(field.type, base + field.offset)


def _occupied_by(info: TypeInfo, base: int) -> Iterator[tuple[int, int]]:
    if isinstance(info, StructType):
        yield from _occupied(info, base)
    elif isinstance(info, ArrayType) and isinstance(info.element, StructType):
        for index in range(info.length):
            yield from _occupied(info.element, base + index * info.element.size)
    else:
        yield base, info.size


def sizeof(type_class: type[Any], /) -> int:
    """The size of a type in bytes, as C's sizeof."""
    return info_of(type_class).size


def offsetof(type_class: type[Struct], field: str, /) -> int:
    """How many bytes a field is from the start of its structure, as C's offsetof."""
    info = info_of(type_class)
    found = info.field(field) if isinstance(info, StructType) else None
    if found is None:
        refuse("no-such-field", f"{type_class.__name__} has no field '{field}'", _fields_hint(cast(StructType, info)))
    return found.offset


class Header(Struct, packed=True):
    """The base of protocol headers: a structure without padding, that may stand at any address."""
