"""The scalar types: integers of a width, integers in network order, and booleans.

`u8` to `s64` are `integers`'. `be16` to `be64` are numbers that stand in network order in memory: their value is the
number on the wire. Structures, arrays and addresses are elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from ebpfkit.dsl.integers import UNSIGNED, Integer, s8, s16, s32, s64, type_name, u8, u16, u32, u64
from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.typeinfo import IntType, TypeInfo

__all__ = [
    "UNSIGNED", "Integer", "NetworkInteger", "be16", "be32", "be64", "bool_", "encode", "info_of", "s8", "s16", "s32",
    "s64", "type_name", "u8", "u16", "u32", "u64",
]  # fmt: skip


class NetworkInteger:
    """The base of `be16` to `be64`: the number on the wire. Not a type of the language itself.

    Comparing with an integer and assigning one work as if there were no byte order; arithmetic wants `.to_host()`.
    """

    __slots__ = ("_value",)
    __ebpf_type__: ClassVar[IntType]

    def __init_subclass__(cls, *, bits: int = 0) -> None:
        if bits:
            cls.__ebpf_type__ = IntType(cls.__name__, bits, network=True)

    def __init__(self, value: int = 0, /) -> None:
        self._value = type(self).accept(value)

    @classmethod
    def __ebpf_load__(cls, region: Region, offset: int) -> Self:
        value = cls.__new__(cls)
        value._value = int.from_bytes(region.read(offset, cls.__ebpf_type__.size), "big")
        return value

    @classmethod
    def __ebpf_store__(cls, region: Region, offset: int, value: object) -> None:
        region.write(offset, cls.accept(value).to_bytes(cls.__ebpf_type__.size, "big"))

    @classmethod
    def accept(cls, value: object) -> int:
        """The number that assigning `value` stores: the same type, or an unsigned integer that fits."""
        info = cls.__ebpf_type__
        if isinstance(value, NetworkInteger):
            if value.__ebpf_type__.bits != info.bits:
                refuse("bad-type", f"a {type_name(value)} is not a {info.name}", f"write {info.name}(x.to_host())")
            return value._value
        if isinstance(value, Integer) and (value.__ebpf_type__.signed or value.__ebpf_type__.bits > info.bits):
            refuse("narrowing", f"a {type_name(value)} may not fit {info.name}", f"write the cast u{info.bits}(...)")
        if not isinstance(value, int) or isinstance(value, bool):
            refuse("bad-type", f"a {type_name(value)} is not a {info.name}")
        if not 0 <= value < 1 << info.bits:
            refuse("does-not-fit", f"{value} does not fit {info.name}")
        return int(value)

    @classmethod
    def _from_raw(cls, raw: object) -> Self:
        if isinstance(raw, NetworkInteger):
            refuse("network-order", f"a {type_name(raw)} is not a u{cls.__ebpf_type__.bits}", "write .raw()")
        return cls(int.from_bytes(cls.accept(raw).to_bytes(cls.__ebpf_type__.size, "big"), "little"))

    def _swapped(self) -> int:
        return int.from_bytes(self._value.to_bytes(self.__ebpf_type__.size, "big"), "little")

    def _number(self, other: object, symbol: str) -> int | None:
        """The number that `other` is for a comparison; None when it is none."""
        if isinstance(other, NetworkInteger):
            if other.__ebpf_type__.bits != self.__ebpf_type__.bits:
                refuse("mixed-types", f"{type_name(self)} {symbol} {type_name(other)} mixes widths")
            return other._value
        if isinstance(other, Integer) and other.__ebpf_type__.signed:
            refuse("mixed-signedness", f"{type_name(self)} {symbol} {type_name(other)} compares across signedness")
        if isinstance(other, str | bytes):
            refuse("bad-type", f"{type_name(self)} {symbol} {type(other).__name__} is never equal",
                   f"write {type_name(self)}({other!r})")  # fmt: skip
        return int(other) if isinstance(other, int) else None

    def __eq__(self, other: object, /) -> bool:
        return self._value == self._number(other, "==")

    def __ne__(self, other: object, /) -> bool:
        return self._value != self._number(other, "!=")

    def __hash__(self) -> int:
        return hash(self._value)

    def _ordered(self, other: object, symbol: str) -> int:
        number = self._number(other, symbol)
        if number is None:
            refuse("bad-type", f"{type_name(self)} {symbol} {type_name(other)} has no meaning")
        return number

    def __lt__(self, other: Self | int, /) -> bool:
        return self._value < self._ordered(other, "<")

    def __le__(self, other: Self | int, /) -> bool:
        return self._value <= self._ordered(other, "<=")

    def __gt__(self, other: Self | int, /) -> bool:
        return self._value > self._ordered(other, ">")

    def __ge__(self, other: Self | int, /) -> bool:
        return self._value >= self._ordered(other, ">=")

    def __bool__(self) -> bool:
        return self._value != 0

    def __int__(self) -> int:
        return self._value

    def __bytes__(self) -> bytes:
        return self._value.to_bytes(self.__ebpf_type__.size, "big")

    def __repr__(self) -> str:
        return f"{self.__ebpf_type__.name}({self._value})"

    def __str__(self) -> str:
        return str(self._value)

    def __format__(self, spec: str, /) -> str:
        return format(self._value, spec)

    if not TYPE_CHECKING:  # a checker reports these as missing, which is the right message

        def _refuse_arithmetic(self, *_others):
            refuse("network-order", f"arithmetic on a {type_name(self)}", "write .to_host() first")

        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse_arithmetic
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __truediv__ = __rtruediv__ = _refuse_arithmetic
        __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _refuse_arithmetic
        __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __pow__ = __rpow__ = _refuse_arithmetic
        __neg__ = __pos__ = __invert__ = _refuse_arithmetic

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: Any = None, /) -> Self: ...


class be16(NetworkInteger, bits=16):
    """A number of 16 bits in network order."""

    __slots__ = ()

    def to_host(self) -> u16:
        """The number as an integer of this machine, for arithmetic."""
        return u16(self._value)

    def raw(self) -> u16:
        """The bytes as a little-endian machine reads them: for sums that hold in either order (checksums), no swap."""
        return u16(self._swapped())

    @classmethod
    def from_raw(cls, raw: u16, /) -> be16:
        """The value whose bytes these are, as `raw` gave them."""
        return cls._from_raw(raw)

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: Any = None, /) -> be16: ...

        def __set__(self, instance: object, value: be16 | int, /) -> None: ...


class be32(NetworkInteger, bits=32):
    """A number of 32 bits in network order."""

    __slots__ = ()

    def to_host(self) -> u32:
        """The number as an integer of this machine, for arithmetic."""
        return u32(self._value)

    def raw(self) -> u32:
        """The bytes as a little-endian machine reads them: for sums that hold in either order (checksums), no swap."""
        return u32(self._swapped())

    @classmethod
    def from_raw(cls, raw: u32, /) -> be32:
        """The value whose bytes these are, as `raw` gave them."""
        return cls._from_raw(raw)

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: Any = None, /) -> be32: ...

        def __set__(self, instance: object, value: be32 | int, /) -> None: ...


class be64(NetworkInteger, bits=64):
    """A number of 64 bits in network order."""

    __slots__ = ()

    def to_host(self) -> u64:
        """The number as an integer of this machine, for arithmetic."""
        return u64(self._value)

    def raw(self) -> u64:
        """The bytes as a little-endian machine reads them: for sums that hold in either order (checksums), no swap."""
        return u64(self._swapped())

    @classmethod
    def from_raw(cls, raw: u64, /) -> be64:
        """The value whose bytes these are, as `raw` gave them."""
        return cls._from_raw(raw)

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: Any = None, /) -> be64: ...

        def __set__(self, instance: object, value: be64 | int, /) -> None: ...


class bool_:
    """A truth value of one byte in a structure or a map; reading one gives a Python bool."""

    __ebpf_type__: ClassVar[IntType] = IntType("bool_", 8, is_bool=True)

    def __new__(cls, value: bool = False, /) -> bool:  # type: ignore[misc]  # the value of this type is Python's own
        return bool(value)

    @classmethod
    def __ebpf_load__(cls, region: Region, offset: int) -> bool:
        return region.read(offset, 1) != b"\0"

    @classmethod
    def __ebpf_store__(cls, region: Region, offset: int, value: object) -> None:
        if not isinstance(value, bool) and value not in (0, 1):
            refuse("bad-type", f"a {type_name(value)} is not a truth value", "compare it: x != 0")
        region.write(offset, b"\1" if value else b"\0")

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: Any = None, /) -> bool: ...

        def __set__(self, instance: object, value: bool, /) -> None: ...


def info_of(type_class: Any) -> TypeInfo:
    """The layout of a type of the language. Refuses a class that is none."""
    info = getattr(type_class, "__ebpf_type__", None)
    if info is None:
        hint = {int: "write u64 or another width", bool: "write bool_", bytes: "write array[u8, n]"}.get(type_class, "")
        refuse("not-a-type", f"{getattr(type_class, '__name__', type_class)!s} is not a type of the language", hint)
    return cast(TypeInfo, info)


def encode(type_class: Any, value: object) -> bytes:
    """The bytes of `value` as a `type_class`, as they stand in memory."""
    region = Region(bytearray(info_of(type_class).size))
    type_class.__ebpf_store__(region, 0, value)
    return bytes(region.data)
