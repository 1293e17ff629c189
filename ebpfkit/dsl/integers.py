"""The integers of a width, `u8` to `s64`: they wrap, as the machine's do, and refuse what would mix meanings.

What they refuse (mixing types, `//` on signed values) the compiler refuses too, so that one function means one thing
everywhere. The rules of arithmetic:

- `T op T` and `T op literal` give `T`; a literal (any plain integer, so also a constant of the module) must fit `T`.
  Anything else is refused, with the cast to write. Comparisons widen within one signedness.
- `//` and `%` want unsigned operands. A divisor of 0 known beforehand is an error; one found at run time gives 0 for
  `//` and the dividend for `%`, as RFC 9669 section 4.1 says.
- A constant shift amount must be below the width. Any other is taken modulo the width (RFC 9669 section 4.1, which
  says so for 32 and 64 bits; here it holds at every width).
- `T(x)` casts: it keeps the low bits.
- Truth of `V | None` for a scalar V (`if m.get(k):`) is refused by the compiler alone: here the value is already there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Self, cast

from ebpfkit._bits import to_signed, to_unsigned
from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.typeinfo import IntType

__all__ = ["NOT_ATOMIC", "UNSIGNED", "Integer", "s8", "s16", "s32", "s64", "type_name", "u8", "u16", "u32", "u64"]


def type_name(value: object) -> str:
    """How a message calls the type of a value: the language's name where it has one."""
    info = getattr(value, "__ebpf_type__", None)
    return cast(str, getattr(info, "name", "") or type(value).__name__)


def is_network(value: object) -> bool:
    """Whether a value is a number in network order (those are `types`')."""
    return bool(getattr(getattr(value, "__ebpf_type__", None), "network", False))


NOT_ATOMIC: Final = {
    "atomic_add": "write +=",
    "atomic_sub": "write -=",
    "atomic_and": "write &=",
    "atomic_or": "write |=",
    "atomic_xor": "write ^=",
    "atomic_exchange": "write =",
    "atomic_compare_exchange": "write an if",
}
"""What to write where an atomic method has no meaning."""


class Integer(int):
    """The base of `u8` to `s64`: an int that wraps at its width. Not a type of the language itself.

    >>> u8(250) + 10
    u8(4)
    """

    __ebpf_type__: ClassVar[IntType]
    _low: ClassVar[int]
    _high: ClassVar[int]
    _region: Region | None = None  # where it was read from, when that is memory that can change
    _offset: int = 0
    _config: Any = None  # what `config()` noted, on the number that it gave

    def __init_subclass__(cls, *, bits: int = 0, signed: bool = False) -> None:
        if bits:
            cls.__ebpf_type__ = IntType(cls.__name__, bits, signed)
            cls._low = -(1 << (bits - 1)) if signed else 0
            cls._high = (1 << (bits - signed)) - 1

    def __new__(cls, value: int = 0, /) -> Self:
        given: object = value
        if is_network(given):
            refuse(
                "network-order",
                f"{cls.__name__}(...) of a {type_name(value)} would reinterpret network order",
                "write .to_host() and cast that",
            )
        if not isinstance(given, int):
            refuse("bad-cast", f"{cls.__name__}(...) takes an integer, not a {type_name(given)}")
        return cls._wrap(int(given))

    @classmethod
    def _wrap(cls, value: int) -> Self:
        if not cls._low <= value <= cls._high:
            info = cls.__ebpf_type__
            value = to_signed(value, info.bits) if info.signed else to_unsigned(value, info.bits)
        return int.__new__(cls, value)

    @classmethod
    def __ebpf_load__(cls, region: Region, offset: int) -> Self:
        """The value at `offset`; it remembers its place, for `atomic_add`."""
        info = cls.__ebpf_type__
        data = region.read(offset, info.size)
        value = int.__new__(cls, int.from_bytes(data, sys.byteorder, signed=info.signed))
        value._region = region
        value._offset = offset
        return value

    @classmethod
    def __ebpf_store__(cls, region: Region, offset: int, value: object) -> None:
        """Store `value`, widened within its signedness; anything narrower is refused."""
        number = cls.accept(value)
        region.write(offset, number.to_bytes(cls.__ebpf_type__.size, sys.byteorder, signed=cls.__ebpf_type__.signed))

    @classmethod
    def accept(cls, value: object) -> int:
        """The number that assigning `value` to a place of this type stores: literals that fit, types that widen."""
        info = getattr(value, "__ebpf_type__", None)
        name = cls.__name__
        if isinstance(value, int) and (info is None or isinstance(value, IntEnum)):
            if not cls._low <= value <= cls._high:
                refuse("does-not-fit", f"{int(value)} does not fit {name}", f"write {name}({int(value)}) to wrap it")
            return int(value)
        if is_network(value):
            refuse("network-order", f"a {type_name(value)} is not a {name}", "write .to_host()")
        if not isinstance(value, int) or not isinstance(info, IntType):
            refuse("bad-type", f"a {type_name(value)} is not a {name}")
        if info.signed != cls.__ebpf_type__.signed or info.bits > cls.__ebpf_type__.bits:
            kind = "narrower" if info.signed == cls.__ebpf_type__.signed else "of the other signedness"
            refuse("narrowing", f"{name} is {kind} than {info.name}" if kind == "narrower" else
                   f"{name} and {info.name} differ in signedness", f"write the cast {name}(...)")  # fmt: skip
        return int(value)

    def _operand(self, other: object, symbol: str) -> int:
        if type(other) is int:
            if not self._low <= other <= self._high:
                self._refuse_literal(other, symbol)
            return other
        if type(other) is type(self):
            return int(other)
        name = self.__ebpf_type__.name
        if isinstance(other, bool):
            refuse("mixed-types", f"{name} {symbol} bool mixes types", f"write {name}(...) around the truth value")
        if is_network(other):
            refuse("network-order", f"{name} {symbol} {type_name(other)} mixes byte orders", "write .to_host()")
        if isinstance(other, Integer):
            wide = other if other.__ebpf_type__.bits > self.__ebpf_type__.bits else self
            refuse(
                "mixed-types",
                f"{name} {symbol} {type_name(other)} mixes types",
                f"write the cast {type_name(wide)}(...) around the other operand",
            )
        if not isinstance(other, IntEnum):
            refuse("bad-type", f"{name} {symbol} {type_name(other)} has no meaning")
        return self._operand(int(other), symbol)

    def _refuse_literal(self, literal: int, symbol: str) -> NoReturn:
        name = self.__ebpf_type__.name
        if literal < 0 and symbol in "+-":
            other = "-" if symbol == "+" else "+"
            refuse("does-not-fit", f"{literal} does not fit {name}", f"write {other} {-literal}")
        refuse("does-not-fit", f"{literal} does not fit {name}", f"write {name}({literal}) to wrap it")

    def __add__(self, other: int, /) -> Self:
        return self._wrap(int(self) + self._operand(other, "+"))

    def __radd__(self, other: int, /) -> Self:
        return self._wrap(self._operand(other, "+") + int(self))

    def __sub__(self, other: int, /) -> Self:
        return self._wrap(int(self) - self._operand(other, "-"))

    def __rsub__(self, other: int, /) -> Self:
        return self._wrap(self._operand(other, "-") - int(self))

    def __mul__(self, other: int, /) -> Self:
        return self._wrap(int(self) * self._operand(other, "*"))

    def __rmul__(self, other: int, /) -> Self:
        return self._wrap(self._operand(other, "*") * int(self))

    def __and__(self, other: int, /) -> Self:
        return self._wrap(int(self) & self._operand(other, "&"))

    def __rand__(self, other: int, /) -> Self:
        return self._wrap(self._operand(other, "&") & int(self))

    def __or__(self, other: int, /) -> Self:
        return self._wrap(int(self) | self._operand(other, "|"))

    def __ror__(self, other: int, /) -> Self:
        return self._wrap(self._operand(other, "|") | int(self))

    def __xor__(self, other: int, /) -> Self:
        return self._wrap(int(self) ^ self._operand(other, "^"))

    def __rxor__(self, other: int, /) -> Self:
        return self._wrap(self._operand(other, "^") ^ int(self))

    def _division(self, other: object, symbol: str) -> int:
        if self.__ebpf_type__.signed:
            refuse(
                "signed-division",
                f"{symbol} on {self.__ebpf_type__.name}: Python rounds down, the machine towards zero",
                f"cast to u{self.__ebpf_type__.bits} when the values cannot be negative",
            )
        number = self._operand(other, symbol)
        if number == 0 and not isinstance(other, Integer):
            refuse("division-by-zero", f"{symbol} by the constant 0")
        return number

    def __floordiv__(self, other: int, /) -> Self:
        divisor = self._division(other, "//")
        return self._wrap(int(self) // divisor if divisor else 0)

    def __rfloordiv__(self, other: int, /) -> Self:
        dividend = self._operand(other, "//")
        self._division(1, "//")
        return self._wrap(dividend // int(self) if self else 0)

    def __mod__(self, other: int, /) -> Self:
        divisor = self._division(other, "%")
        return self._wrap(int(self) % divisor if divisor else int(self))

    def __rmod__(self, other: int, /) -> Self:
        dividend = self._operand(other, "%")
        self._division(1, "%")
        return self._wrap(dividend % int(self) if self else dividend)

    def _shift(self, other: object, symbol: str) -> int:
        bits = self.__ebpf_type__.bits
        if isinstance(other, Integer):
            return self._operand(other, symbol) % bits
        if not isinstance(other, int) or not 0 <= other < bits:
            refuse("bad-shift", f"a {self.__ebpf_type__.name} is shifted by 0 to {bits - 1}, not by {other}")
        return int(other)

    def __lshift__(self, other: int, /) -> Self:
        return self._wrap(int(self) << self._shift(other, "<<"))

    def __rlshift__(self, other: int, /) -> Self:
        return self._wrap(self._operand(other, "<<") << self._shift(self, "<<"))

    def __rshift__(self, other: int, /) -> Self:
        return self._wrap(int(self) >> self._shift(other, ">>"))

    def __rrshift__(self, other: int, /) -> Self:
        return self._wrap(self._operand(other, ">>") >> self._shift(self, ">>"))

    def __neg__(self) -> Self:
        return self._wrap(-int(self))

    def __pos__(self) -> Self:
        return self

    def __invert__(self) -> Self:
        return self._wrap(~int(self))

    def __truediv__(self, other: int, /) -> NoReturn:
        refuse("float", "/ gives a fraction, and the machine has none", "write //")

    def __rtruediv__(self, other: int, /) -> NoReturn:
        refuse("float", "/ gives a fraction, and the machine has none", "write //")

    if not TYPE_CHECKING:  # int declares these with overloads that no subclass can narrow

        def __pow__(self, other, modulo=None, /):
            refuse("power", "** has no instruction", "multiply, or shift for powers of two")

        def __rpow__(self, other, modulo=None, /):
            refuse("power", "** has no instruction", "write 1 << n for powers of two")

        def __divmod__(self, other, /):
            refuse("divmod", "divmod gives two results", "write // and %")

        __rdivmod__ = __divmod__

    def _comparable(self, other: object, symbol: str) -> bool:
        if isinstance(other, Integer) and other.__ebpf_type__.signed != self.__ebpf_type__.signed:
            refuse(
                "mixed-signedness",
                f"{self.__ebpf_type__.name} {symbol} {other.__ebpf_type__.name} compares across signedness",
                f"cast one of them: {self.__ebpf_type__.name}(...)",
            )
        return isinstance(other, int)

    def __eq__(self, other: object, /) -> bool:
        if is_network(other):
            return NotImplemented
        return self._comparable(other, "==") and int(self) == other

    def __ne__(self, other: object, /) -> bool:
        if is_network(other):
            return NotImplemented
        return not self._comparable(other, "!=") or int(self) != other

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __lt__(self, other: int, /) -> bool:
        return int.__lt__(self, int(other)) if self._comparable(other, "<") else NotImplemented

    def __le__(self, other: int, /) -> bool:
        return int.__le__(self, int(other)) if self._comparable(other, "<=") else NotImplemented

    def __gt__(self, other: int, /) -> bool:
        return int.__gt__(self, int(other)) if self._comparable(other, ">") else NotImplemented

    def __ge__(self, other: int, /) -> bool:
        return int.__ge__(self, int(other)) if self._comparable(other, ">=") else NotImplemented

    def atomic_add(self, value: int, /) -> Self:
        """Add to the place this was read from, in one step that no other CPU can split; the value before.

        Only 32 and 64 bits, and only in a map value (a field of it, or a scalar value itself).
        """
        return self._atomically("atomic_add", lambda before, number: before + number, value)

    def atomic_sub(self, value: int, /) -> Self:
        """As `atomic_add`, but subtract."""
        return self._atomically("atomic_sub", lambda before, number: before - number, value)

    def atomic_and(self, value: int, /) -> Self:
        """As `atomic_add`, but keep the bits that `value` has too."""
        return self._atomically("atomic_and", lambda before, number: before & number, value)

    def atomic_or(self, value: int, /) -> Self:
        """As `atomic_add`, but set the bits that `value` has."""
        return self._atomically("atomic_or", lambda before, number: before | number, value)

    def atomic_xor(self, value: int, /) -> Self:
        """As `atomic_add`, but turn the bits over that `value` has."""
        return self._atomically("atomic_xor", lambda before, number: before ^ number, value)

    def atomic_exchange(self, value: int, /) -> Self:
        """As `atomic_add`, but store `value`."""
        return self._atomically("atomic_exchange", lambda before, number: number, value)

    def atomic_compare_exchange(self, expected: int, value: int, /) -> Self:
        """As `atomic_add`, but store `value` where `expected` was, and nothing else."""
        return self._atomically(
            "atomic_compare_exchange", lambda before, old, new: new if before == old else before, expected, value
        )

    def _atomically(self, name: str, compute: Callable[..., int], *given: int) -> Self:
        info = self.__ebpf_type__
        region = self._region
        if info.bits < 32:
            refuse("atomic-width", f"no atomic operation has {info.bits} bits", "make the field a u32 or u64")
        if region is None or region.kind in (RegionKind.OWN, RegionKind.PACKET):
            where = region.kind.value if region else "a value without a place"
            refuse("atomic-place", f"{name} works on a map value, not on {where}", NOT_ATOMIC[name])
        before = type(self).__ebpf_load__(region, self._offset)
        after = self._wrap(compute(int(before), *(int(type(self).accept(number)) for number in given)))
        region.write(self._offset, int(after).to_bytes(info.size, sys.byteorder, signed=info.signed))
        return self._wrap(int(before))

    def __repr__(self) -> str:
        return f"{self.__ebpf_type__.name}({int(self)})"

    def __str__(self) -> str:
        return int.__repr__(self)

    def __format__(self, spec: str, /) -> str:
        return int.__format__(int(self), spec)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (int(self),)

    if TYPE_CHECKING:  # a field of a structure: reading gives the type, assigning takes any int

        def __get__(self, instance: object, owner: Any = None, /) -> Self: ...

        def __set__(self, instance: object, value: int, /) -> None: ...


class u8(Integer, bits=8):
    """An unsigned integer of 8 bits."""


class u16(Integer, bits=16):
    """An unsigned integer of 16 bits."""


class u32(Integer, bits=32):
    """An unsigned integer of 32 bits."""


class u64(Integer, bits=64):
    """An unsigned integer of 64 bits."""


class s8(Integer, bits=8, signed=True):
    """A signed integer of 8 bits."""


class s16(Integer, bits=16, signed=True):
    """A signed integer of 16 bits."""


class s32(Integer, bits=32, signed=True):
    """A signed integer of 32 bits."""


class s64(Integer, bits=64, signed=True):
    """A signed integer of 64 bits."""


UNSIGNED: Final[dict[int, type[Integer]]] = {8: u8, 16: u16, 32: u32, 64: u64}
"""The unsigned type of each width in bits."""
