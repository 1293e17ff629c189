"""Layer 3: IPv4 and IPv6, and the numbers of the protocols they carry."""

from __future__ import annotations

from typing import Final

from ebpfkit.dsl.addresses import IPv4Addr, IPv6Addr
from ebpfkit.dsl.structs import Header, bits
from ebpfkit.dsl.typeinfo import HeaderLength
from ebpfkit.dsl.types import be16, be32, u8, u16, u32

__all__ = [
    "IPPROTO_AH",
    "IPPROTO_DSTOPTS",
    "IPPROTO_ESP",
    "IPPROTO_FRAGMENT",
    "IPPROTO_GRE",
    "IPPROTO_HOPOPTS",
    "IPPROTO_ICMP",
    "IPPROTO_ICMPV6",
    "IPPROTO_IGMP",
    "IPPROTO_IPIP",
    "IPPROTO_IPV6",
    "IPPROTO_NONE",
    "IPPROTO_ROUTING",
    "IPPROTO_SCTP",
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "IPv4",
    "IPv4Option",
    "IPv6",
    "IPv6Auth",
    "IPv6Extension",
    "IPv6Fragment",
    "IPv6Routing",
]

IPPROTO_HOPOPTS: Final = 0
IPPROTO_ICMP: Final = 1
IPPROTO_IGMP: Final = 2
IPPROTO_IPIP: Final = 4
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_IPV6: Final = 41
IPPROTO_ROUTING: Final = 43
IPPROTO_FRAGMENT: Final = 44
IPPROTO_GRE: Final = 47
IPPROTO_ESP: Final = 50
IPPROTO_AH: Final = 51
IPPROTO_ICMPV6: Final = 58
IPPROTO_NONE: Final = 59
IPPROTO_DSTOPTS: Final = 60
IPPROTO_SCTP: Final = 132


class IPv4(Header, header_length=HeaderLength("ihl", 4, 60)):
    """The IPv4 header without options (RFC 791), 20 bytes; reading goes on behind the options.

    `flags` are reserved, don't fragment, more fragments, from the highest bit; `fragment_offset` counts 8 bytes.
    """

    version: u8 = bits(4, default=4)
    ihl: u8 = bits(4, default=5)
    tos: u8 = u8(0)
    total_length: be16 = be16(20)
    id: be16 = be16(0)
    flags: u16 = bits(3, default=0)
    fragment_offset: u16 = bits(13, default=0)
    ttl: u8 = u8(64)
    protocol: u8 = u8(0)
    checksum: be16 = be16(0)
    src: IPv4Addr = IPv4Addr()
    dst: IPv4Addr = IPv4Addr()


class IPv4Option(Header, header_length=HeaderLength("size", 1, 40)):
    """An IPv4 option of more than one byte (RFC 791), 2 bytes; reading goes on behind its `size` bytes.

    Kinds 0 (end) and 1 (no operation) are single bytes. `peek` IPv4 and skip its 20 bytes to get to the options.
    """

    kind: u8 = u8(0)
    size: u8 = u8(2)


class IPv6(Header):
    """The IPv6 header (RFC 8200), 40 bytes. Extension headers are not skipped."""

    version: u32 = bits(4, default=6)
    traffic_class: u32 = bits(8, default=0)
    flow_label: u32 = bits(20, default=0)
    payload_length: be16 = be16(0)
    next_header: u8 = u8(IPPROTO_NONE)
    hop_limit: u8 = u8(64)
    src: IPv6Addr = IPv6Addr()
    dst: IPv6Addr = IPv6Addr()


class IPv6Extension(Header, header_length=HeaderLength("length", 8, 2048, base=8)):
    """What hop-by-hop options, destination options and routing headers begin with (RFC 8200), 2 bytes.

    `length` counts 8 bytes behind the first 8; reading goes on behind all of it.
    """

    next_header: u8 = u8(IPPROTO_NONE)
    length: u8 = u8(0)


class IPv6Routing(Header, header_length=HeaderLength("length", 8, 2048, base=8)):
    """An IPv6 routing header (RFC 8200), 4 bytes; reading goes on behind all of it."""

    next_header: u8 = u8(IPPROTO_NONE)
    length: u8 = u8(0)
    type: u8 = u8(0)
    segments_left: u8 = u8(0)


class IPv6Fragment(Header):
    """The IPv6 fragment header (RFC 8200), 8 bytes; `offset` counts 8 bytes, `more` is set in all but the last."""

    next_header: u8 = u8(IPPROTO_NONE)
    reserved: u8 = u8(0)
    offset: u16 = bits(13, default=0)
    reserved2: u16 = bits(2, default=0)
    more: u16 = bits(1, default=0)
    id: be32 = be32(0)


class IPv6Auth(Header, header_length=HeaderLength("length", 4, 1028, base=8)):
    """The authentication header (RFC 4302), 12 bytes; `length` counts 4 bytes behind the first 8."""

    next_header: u8 = u8(IPPROTO_NONE)
    length: u8 = u8(4)
    reserved: be16 = be16(0)
    spi: be32 = be32(0)
    sequence: be32 = be32(0)
