"""Layer 3: IPv4 and IPv6, and the numbers of the protocols they carry."""

from __future__ import annotations

from typing import Final

from ebpfkit.dsl.addresses import IPv4Addr, IPv6Addr
from ebpfkit.dsl.structs import Header, bits
from ebpfkit.dsl.typeinfo import HeaderLength
from ebpfkit.dsl.types import be16, u8, u16, u32

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
    "IPv6",
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
