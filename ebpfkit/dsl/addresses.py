"""Addresses: `MAC`, `IPv4Addr`, `IPv6Addr`. They are values, copied as integers are, and constants when made from text.

`IPv4Addr` is a `be32` that also reads and prints the dotted form; the other two are arrays of bytes with a name.
Prefixes of longest-prefix-match maps are text or `ipaddress` networks; how they become keys is here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.typeinfo import ArrayType, IntType
from ebpfkit.dsl.types import be32, type_name, u8

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

__all__ = ["MAC", "IPv4Addr", "IPv6Addr"]


class IPv4Addr(be32):
    """An IPv4 address, in network order in memory.

    >>> IPv4Addr("192.0.2.1") == 0xC0000201
    True
    """

    __slots__ = ()
    __ebpf_type__: ClassVar[IntType] = IntType("IPv4Addr", 32, network=True)

    def __init__(self, value: int | str | bytes | be32 | IPv4Address = 0, /) -> None:
        self._value = type(self).accept(value) if isinstance(value, int | be32) else _parse(value, 4)

    def __repr__(self) -> str:
        return f"IPv4Addr('{self}')"

    def __str__(self) -> str:
        return ".".join(str(byte) for byte in bytes(self))

    def __format__(self, spec: str, /) -> str:
        return format(str(self), spec) if not spec or spec[-1] in "s<>^0123456789" else format(self._value, spec)

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: Any = None, /) -> IPv4Addr: ...

        def __set__(self, instance: object, value: IPv4Addr | be32 | int, /) -> None: ...


def _parse(value: object, size: int) -> int:
    """The number of an address given as text, bytes or an `ipaddress` object."""
    import ipaddress

    name = "IPv4Addr" if size == 4 else "IPv6Addr"
    if isinstance(value, bytes):
        if len(value) != size:
            refuse("bad-address", f"an {name} has {size} bytes, not {len(value)}")
        return int.from_bytes(value, "big")
    kind = ipaddress.IPv4Address if size == 4 else ipaddress.IPv6Address
    if isinstance(value, str):
        try:
            return int(kind(value))
        except ValueError as error:
            refuse("bad-address", f"{value!r} is not an {name}: {error}")
    if not isinstance(value, kind):
        refuse("bad-address", f"a {type(value).__name__} is not an {name}")
    return int(value)


class _ByteAddress:
    """An address that is a row of bytes, read and stored as one value."""

    __slots__ = ("_bytes",)
    __ebpf_type__: ClassVar[ArrayType]
    _bytes: bytes

    @classmethod
    def __ebpf_load__(cls, region: Region, offset: int) -> Self:
        value = cls.__new__(cls)
        value._bytes = region.read(offset, cls.__ebpf_type__.size)
        return value

    @classmethod
    def __ebpf_store__(cls, region: Region, offset: int, value: object) -> None:
        if not isinstance(value, cls):
            refuse("bad-type", f"a {type_name(value)} is not a {cls.__name__}", f"write {cls.__name__}(...)")
        region.write(offset, value._bytes)

    def __getitem__(self, index: int, /) -> u8:
        """One byte, the first on the wire at 0."""
        if not 0 <= index < len(self._bytes):
            refuse("array-index", f"a {type(self).__name__} has the bytes 0 to {len(self._bytes) - 1}, not {index}")
        return u8(self._bytes[index])

    def __eq__(self, other: object, /) -> bool:
        if isinstance(other, str | bytes):
            name = type(self).__name__
            refuse("bad-type", f"a {name} is never equal to {type(other).__name__}", f"write {name}({other!r})")
        return isinstance(other, type(self)) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __bool__(self) -> bool:
        return any(self._bytes)

    def __bytes__(self) -> bytes:
        return self._bytes

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self}')"

    if TYPE_CHECKING:

        def __get__(self, instance: object, owner: Any = None, /) -> Self: ...


class MAC(_ByteAddress):
    """An Ethernet address of six bytes.

    >>> MAC("02:00:00:00:00:01")[5]
    u8(1)
    """

    __slots__ = ()
    __ebpf_type__: ClassVar[ArrayType] = ArrayType(u8.__ebpf_type__, 6, name="MAC")

    def __init__(self, value: str | bytes = bytes(6), /) -> None:
        if isinstance(value, str):
            parts = value.replace("-", ":").split(":")
            if len(parts) != 6 or not all(0 < len(p) < 3 and set(p) <= _HEX for p in parts):
                refuse("bad-address", f"{value!r} is not a MAC address", "write six bytes: 02:00:00:00:00:01")
            value = bytes(int(part, 16) for part in parts)
        if len(value) != 6:
            refuse("bad-address", f"a MAC address has 6 bytes, not {len(value)}")
        self._bytes = bytes(value)

    def __str__(self) -> str:
        return self._bytes.hex(":")

    if TYPE_CHECKING:

        def __set__(self, instance: object, value: MAC, /) -> None: ...


_HEX = frozenset("0123456789abcdefABCDEF")


class IPv6Addr(_ByteAddress):
    """An IPv6 address of sixteen bytes.

    >>> str(IPv6Addr("2001:db8::1"))
    '2001:db8::1'
    """

    __slots__ = ()
    __ebpf_type__: ClassVar[ArrayType] = ArrayType(u8.__ebpf_type__, 16, name="IPv6Addr")

    def __init__(self, value: str | bytes | IPv6Address = bytes(16), /) -> None:
        self._bytes = _parse(value, 16).to_bytes(16, "big")

    def __str__(self) -> str:
        import ipaddress

        return str(ipaddress.IPv6Address(self._bytes))

    if TYPE_CHECKING:

        def __set__(self, instance: object, value: IPv6Addr, /) -> None: ...


def prefix_of(value: object, kind: type[IPv4Addr] | type[IPv6Addr]) -> tuple[int, bytes]:
    """The length in bits and the address bytes of a prefix: text, an `ipaddress` network, or a whole address."""
    import ipaddress

    size = kind.__ebpf_type__.size
    if isinstance(value, kind):
        return size * 8, bytes(value)
    if isinstance(value, str):
        try:
            value = ipaddress.ip_network(value)
        except ValueError as error:
            refuse("bad-address", f"{value!r} is not a prefix: {error}", 'write "192.0.2.0/24"')
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        value = ipaddress.ip_network(value)
    if not isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        refuse("bad-type", f"a {type_name(value)} is not a prefix of {kind.__name__}", 'write "192.0.2.0/24"')
    if len(value.network_address.packed) != size:
        refuse("bad-address", f"{value} is not a prefix of {kind.__name__}")
    return value.prefixlen, value.network_address.packed


def network_of(length: int, address: bytes) -> IPv4Network | IPv6Network:
    """The `ipaddress` network of a prefix."""
    import ipaddress

    number = int.from_bytes(address, "big")
    if len(address) == 4:
        return ipaddress.IPv4Network((number, length))
    return ipaddress.IPv6Network((number, length))
