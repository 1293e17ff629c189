"""Codecs: Python values to the bytes of keys and values, and back.

A codec knows one layout. `codec_for` builds one from a description of a type (the language's types carry theirs as
`__ebpf_type__`); only the shape of the description matters, so that this room knows nothing of the language. What a
store does with the bytes is in the stores' modules.
"""

from __future__ import annotations

import ipaddress
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from ebpfkit._bits import round_up
from ebpfkit.errors import UsageError

__all__ = [
    "AddressCodec",
    "ArrayCodec",
    "BytesCodec",
    "Codec",
    "IntCodec",
    "LpmKeyCodec",
    "MacCodec",
    "PerCpuCodec",
    "StructCodec",
    "codec_for",
]

T = TypeVar("T")
ByteOrder = Literal["little", "big"]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@runtime_checkable
class Codec(Protocol[T]):
    """One layout of `size` bytes.

    `to_bytes` raises UsageError for a value that does not fit, `from_bytes` for a wrong length.
    """

    @property
    def size(self) -> int: ...

    def to_bytes(self, value: T) -> bytes: ...

    def from_bytes(self, data: bytes) -> T: ...


def _check_length(data: bytes, size: int, what: str) -> None:
    if len(data) != size:
        raise UsageError(f"{what} has {size} bytes, not {len(data)}")


@dataclass(frozen=True, slots=True)
class IntCodec:
    """An integer of `size` bytes. Values outside its range are refused, never truncated.

    >>> IntCodec(2, byteorder="big").to_bytes(0x0800).hex()
    '0800'
    """

    size: int
    signed: bool = False
    byteorder: ByteOrder = sys.byteorder
    is_bool: bool = False

    def to_bytes(self, value: int) -> bytes:
        try:
            number = operator.index(value)
        except TypeError as error:
            raise UsageError(f"{value!r} is no integer, but {self.name} is wanted") from error
        if self.is_bool and number not in (0, 1):
            raise UsageError(f"{number} is no truth value: write True or False")
        try:
            return number.to_bytes(self.size, self.byteorder, signed=self.signed)
        except OverflowError as error:
            raise UsageError(f"{number} does not fit into {self.name} ({self.minimum} to {self.maximum})") from error

    def from_bytes(self, data: bytes) -> int:
        _check_length(data, self.size, self.name)
        number = int.from_bytes(data, self.byteorder, signed=self.signed)
        return bool(number) if self.is_bool else number

    @property
    def name(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.size * 8}"

    @property
    def minimum(self) -> int:
        return -(1 << (self.size * 8 - 1)) if self.signed else 0

    @property
    def maximum(self) -> int:
        return (1 << (self.size * 8 - (1 if self.signed else 0))) - 1


@dataclass(frozen=True, slots=True)
class BytesCodec:
    """Exactly `size` bytes as they are. `pad`: shorter values are filled up with zeros (names, for example)."""

    size: int
    pad: bool = False

    def to_bytes(self, value: bytes) -> bytes:
        try:
            data = bytes(memoryview(value))
        except TypeError as error:
            raise UsageError(f"{value!r} is not bytes") from error
        if self.pad and len(data) < self.size:
            data = data.ljust(self.size, b"\0")
        _check_length(data, self.size, "the value")
        return data

    def from_bytes(self, data: bytes) -> bytes:
        _check_length(data, self.size, "the value")
        return bytes(data)


def _parse_address(value: object, size: int) -> bytes:
    """The bytes of an IPv4 (`size` 4) or IPv6 (16) address given as text, object, number on the wire or bytes."""
    version = "IPv4" if size == 4 else "IPv6"
    if isinstance(value, (bytes, bytearray, memoryview)):
        _check_length(bytes(value), size, f"an {version} address")
        return bytes(value)
    if isinstance(value, str) and "/" in value:
        raise UsageError(f"'{value}' is a network; an {version} address is wanted")
    kind = ipaddress.IPv4Address if size == 4 else ipaddress.IPv6Address
    if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        if not isinstance(value, kind):
            raise UsageError(f"{value} is no {version} address")
        return value.packed
    try:
        return kind(value if isinstance(value, str) else operator.index(value)).packed  # type: ignore[arg-type]
    except (ipaddress.AddressValueError, TypeError) as error:
        raise UsageError(f"{value!r} is no {version} address: {error}") from error


@dataclass(frozen=True, slots=True)
class AddressCodec:
    """An IPv4 (`size` 4) or IPv6 (16) address in network order. Takes text, ipaddress objects, numbers and bytes.

    >>> AddressCodec(4).to_bytes("192.0.2.1").hex()
    'c0000201'
    """

    size: int = 4

    def to_bytes(self, value: str | int | bytes | Address) -> bytes:
        return _parse_address(value, self.size)

    def from_bytes(self, data: bytes) -> Address:
        _check_length(data, self.size, "the address")
        return ipaddress.ip_address(bytes(data))


@dataclass(frozen=True, slots=True)
class MacCodec:
    """An Ethernet address: "02:00:00:00:00:01", also with dashes, or 6 bytes. Reads back as text with colons."""

    @property
    def size(self) -> int:
        return 6

    def to_bytes(self, value: str | bytes) -> bytes:
        if not isinstance(value, str):
            return BytesCodec(6).to_bytes(value)
        parts = value.replace("-", ":").split(":")
        try:
            if len(parts) == 6 and all(1 <= len(part) <= 2 and part.isalnum() for part in parts):
                return bytes(int(part, 16) for part in parts)
        except ValueError:
            pass  # the same refusal as for a wrong shape
        raise UsageError(f"'{value}' is no Ethernet address: write it as 02:00:00:00:00:01")

    def from_bytes(self, data: bytes) -> str:
        _check_length(data, 6, "an Ethernet address")
        return bytes(data).hex(":")


@dataclass(frozen=True, slots=True)
class ArrayCodec:
    """`length` elements in a row, a sequence on the Python side."""

    element: Codec[Any]
    length: int

    @property
    def size(self) -> int:
        return self.element.size * self.length

    def to_bytes(self, value: Sequence[Any]) -> bytes:
        if isinstance(value, (bytes, bytearray, memoryview)) and self.element.size != 1:
            _check_length(bytes(value), self.size, "the array")
            return bytes(value)
        try:
            items = list(value)
        except TypeError as error:
            raise UsageError(f"{value!r} is no sequence of {self.length} elements") from error
        if len(items) != self.length:
            raise UsageError(f"the array has {self.length} elements, not {len(items)}")
        return b"".join(self.element.to_bytes(item) for item in items)

    def from_bytes(self, data: bytes) -> list[Any]:
        _check_length(data, self.size, "the array")
        step = self.element.size
        return [self.element.from_bytes(data[i * step : (i + 1) * step]) for i in range(self.length)]


@dataclass(frozen=True, slots=True)
class _Bits:
    """A bit field: `width` bits at `shift` of a big-endian unit of `size` bytes."""

    size: int
    width: int
    shift: int

    def put(self, buffer: bytearray, offset: int, value: object, name: str) -> None:
        try:
            number = operator.index(value)  # type: ignore[arg-type]
        except TypeError as error:
            raise UsageError(f"{name}: {value!r} is no integer") from error
        if not 0 <= number < 1 << self.width:
            raise UsageError(f"{name}: {number} does not fit into {self.width} bits")
        unit = int.from_bytes(buffer[offset : offset + self.size], "big")
        unit = unit & ~(((1 << self.width) - 1) << self.shift) | number << self.shift
        buffer[offset : offset + self.size] = unit.to_bytes(self.size, "big")

    def take(self, data: bytes) -> int:
        return int.from_bytes(data, "big") >> self.shift & ((1 << self.width) - 1)


@dataclass(frozen=True, slots=True)
class StructCodec:
    """A structure: `members` are (name, offset, codec). Padding is zero.

    On the Python side a value is a mapping, any object with these attributes, or the bytes themselves; it comes back as
    `make(**fields)`, by default a dict.
    """

    name: str
    size: int
    members: tuple[tuple[str, int, Codec[Any] | _Bits], ...]
    make: Callable[..., Any] = dict

    def to_bytes(self, value: Any) -> bytes:
        if isinstance(value, (bytes, bytearray, memoryview)):
            _check_length(bytes(value), self.size, self.name)
            return bytes(value)
        buffer = bytearray(self.size)
        known = {name for name, _, _ in self.members}
        if isinstance(value, Mapping) and (extra := sorted(map(str, set(value) - known))):
            raise UsageError(f"{self.name} has no field '{extra[0]}' (it has {', '.join(sorted(known))})")
        for name, offset, codec in self.members:
            item = self._field(value, name)
            if isinstance(codec, _Bits):
                codec.put(buffer, offset, item, f"{self.name}.{name}")
                continue
            try:
                buffer[offset : offset + codec.size] = codec.to_bytes(item)
            except UsageError as error:
                raise UsageError(f"{self.name}.{name}: {error.message}") from error
        return bytes(buffer)

    def _field(self, value: Any, name: str) -> Any:
        try:
            return value[name] if isinstance(value, Mapping) else getattr(value, name)
        except (KeyError, AttributeError) as error:
            raise UsageError(f"{value!r} has no field '{name}', which {self.name} needs") from error

    def from_bytes(self, data: bytes) -> Any:
        _check_length(data, self.size, self.name)
        return self.make(**{name: self._take(data, offset, codec) for name, offset, codec in self.members})

    @staticmethod
    def _take(data: bytes, offset: int, codec: Codec[Any] | _Bits) -> Any:
        part = data[offset : offset + codec.size]
        return codec.take(part) if isinstance(codec, _Bits) else codec.from_bytes(part)


@dataclass(frozen=True, slots=True)
class LpmKeyCodec:
    """The key of an LPM trie: a u32 prefix length in this machine's order, then the data of `data`.

    Over addresses a key is "192.0.2.0/24", a network object, or an address (all its bits count) and reads back as a
    network object; over anything else it is (value, prefix length).

    >>> LpmKeyCodec(AddressCodec(4)).to_bytes("192.0.2.0/24")[4:].hex()
    'c0000200'
    """

    data: Codec[Any]

    @property
    def size(self) -> int:
        return 4 + self.data.size

    @property
    def bits(self) -> int:
        return self.data.size * 8

    def to_bytes(self, value: Any) -> bytes:
        if isinstance(value, tuple):
            if len(value) != 2:
                raise UsageError(f"{value!r} is no prefix: write (value, prefix length)")
            return self._join(self.data.to_bytes(value[0]), value[1])
        if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
            return self._join(_parse_address(value.network_address, self.data.size), value.prefixlen)
        if isinstance(value, str) and "/" in value:
            return self._from_text(value)
        if isinstance(value, str):
            return self._join(_parse_address(value, self.data.size), self.bits)
        return self._join(self.data.to_bytes(value), self.bits)

    def _from_text(self, text: str) -> bytes:
        address, _, length = text.partition("/")
        packed = _parse_address(address, self.data.size)
        if not (length.isascii() and length.isdigit()) or int(length) > self.bits:
            raise UsageError(f"'{text}': the prefix length is a number from 0 to {self.bits}")
        number, host = int.from_bytes(packed, "big"), self.bits - int(length)
        if number & ((1 << host) - 1):
            network = ipaddress.ip_address((number >> host << host).to_bytes(self.data.size, "big"))
            raise UsageError(f"'{text}' has bits set behind the prefix: write {network}/{length}")
        return self._join(packed, int(length))

    def _join(self, data: bytes, length: object) -> bytes:
        number = IntCodec(4).to_bytes(length)  # type: ignore[arg-type]
        if int.from_bytes(number, sys.byteorder) > self.bits:
            raise UsageError(f"the prefix length is a number from 0 to {self.bits}, not {length}")
        return number + data

    def from_bytes(self, data: bytes) -> Any:
        _check_length(data, self.size, "the key of the LPM trie")
        length, rest = int.from_bytes(data[:4], sys.byteorder), bytes(data[4:])
        if isinstance(self.data, AddressCodec):
            return ipaddress.ip_network((rest, min(length, self.bits)), strict=False)
        return self.data.from_bytes(rest), length


@dataclass(frozen=True, slots=True)
class PerCpuCodec:
    """Every CPU's value, each padded to 8 bytes: a list on the Python side."""

    value: Codec[Any]
    cpus: int

    @property
    def size(self) -> int:
        return round_up(self.value.size, 8) * self.cpus

    def to_bytes(self, value: Sequence[Any]) -> bytes:
        items = list(value)
        if len(items) != self.cpus:
            raise UsageError(f"{self.cpus} values are wanted, one for each CPU, not {len(items)}")
        stride = round_up(self.value.size, 8)
        return b"".join(self.value.to_bytes(item).ljust(stride, b"\0") for item in items)

    def from_bytes(self, data: bytes) -> list[Any]:
        _check_length(data, self.size, "the per-CPU value")
        stride, size = round_up(self.value.size, 8), self.value.size
        return [self.value.from_bytes(data[i * stride : i * stride + size]) for i in range(self.cpus)]


def codec_for(kind: Any, *, make: Callable[..., Any] | None = None) -> Codec[Any]:
    """The codec of a type: a description (as in `__ebpf_type__`), or anything that carries one.

    `make` builds the Python value of a structure from its fields. Raises UsageError for what describes no type.
    """
    info = getattr(kind, "__ebpf_type__", kind)
    if hasattr(info, "fields"):
        members = tuple((f.name, f.offset, _member(f.type)) for f in info.fields)
        return StructCodec(info.name, info.size, members, make or dict)
    if hasattr(info, "element"):
        return _array(info)
    if hasattr(info, "bits"):
        order: ByteOrder = "big" if info.network else sys.byteorder
        if info.name == "IPv4Addr":
            return AddressCodec(4)
        return IntCodec(info.bits // 8, info.signed, order, getattr(info, "is_bool", False))
    raise UsageError(f"{kind!r} describes no type that has a layout")


def _member(info: Any) -> Codec[Any] | _Bits:
    if hasattr(info, "shift"):
        return _Bits(info.unit, info.width, info.shift)
    return codec_for(info)


def _array(info: Any) -> Codec[Any]:
    name = getattr(info, "name", "")
    if name == "IPv6Addr":
        return AddressCodec(16)
    if name in ("MacAddr", "MAC", "EthAddr"):
        return MacCodec()
    element = info.element
    if getattr(element, "bits", 0) == 8 and not element.signed and not element.is_bool:
        return BytesCodec(info.length)
    return ArrayCodec(codec_for(element), info.length)
