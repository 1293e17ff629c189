"""Layer 4: UDP, TCP, ICMP and ICMPv6."""

from __future__ import annotations

from typing import Final

from ebpfkit.dsl.addresses import IPv6Addr
from ebpfkit.dsl.structs import Header, bits
from ebpfkit.dsl.typeinfo import HeaderLength
from ebpfkit.dsl.types import be16, be32, u8, u16, u32

__all__ = [
    "ICMP",
    "ICMPV6_DEST_UNREACH",
    "ICMPV6_ECHO_REPLY",
    "ICMPV6_ECHO_REQUEST",
    "ICMPV6_NEIGHBOR_ADVERT",
    "ICMPV6_NEIGHBOR_SOLICIT",
    "ICMPV6_PACKET_TOO_BIG",
    "ICMPV6_TIME_EXCEEDED",
    "ICMP_DEST_UNREACH",
    "ICMP_ECHO",
    "ICMP_ECHOREPLY",
    "ICMP_FRAG_NEEDED",
    "ICMP_TIME_EXCEEDED",
    "TCP",
    "TCPOPT_EOL",
    "TCPOPT_MSS",
    "TCPOPT_NOP",
    "TCPOPT_SACK",
    "TCPOPT_SACK_PERMITTED",
    "TCPOPT_TIMESTAMP",
    "TCPOPT_WINDOW",
    "UDP",
    "ICMPError",
    "ICMPv6",
    "NeighborMessage",
    "TCPMss",
    "TCPOption",
    "TCPTimestamp",
    "TCPWindow",
]

ICMP_ECHOREPLY: Final = 0
ICMP_DEST_UNREACH: Final = 3
ICMP_FRAG_NEEDED: Final = 4  # a code of ICMP_DEST_UNREACH
ICMP_ECHO: Final = 8
ICMP_TIME_EXCEEDED: Final = 11
ICMPV6_DEST_UNREACH: Final = 1
ICMPV6_PACKET_TOO_BIG: Final = 2
ICMPV6_TIME_EXCEEDED: Final = 3
ICMPV6_ECHO_REQUEST: Final = 128
ICMPV6_ECHO_REPLY: Final = 129
ICMPV6_NEIGHBOR_SOLICIT: Final = 135
ICMPV6_NEIGHBOR_ADVERT: Final = 136

TCPOPT_EOL: Final = 0
TCPOPT_NOP: Final = 1
TCPOPT_MSS: Final = 2
TCPOPT_WINDOW: Final = 3
TCPOPT_SACK_PERMITTED: Final = 4
TCPOPT_SACK: Final = 5
TCPOPT_TIMESTAMP: Final = 8


class UDP(Header):
    """The UDP header (RFC 768), 8 bytes."""

    source: be16 = be16(0)
    dest: be16 = be16(0)
    length: be16 = be16(8)
    checksum: be16 = be16(0)


class TCP(Header, header_length=HeaderLength("data_offset", 4, 60)):
    """The TCP header without options (RFC 9293), 20 bytes; reading goes on behind the options."""

    source: be16 = be16(0)
    dest: be16 = be16(0)
    seq: be32 = be32(0)
    ack_seq: be32 = be32(0)
    data_offset: u16 = bits(4, default=5)
    reserved: u16 = bits(4, default=0)
    cwr: u16 = bits(1, default=0)
    ece: u16 = bits(1, default=0)
    urg: u16 = bits(1, default=0)
    ack: u16 = bits(1, default=0)
    psh: u16 = bits(1, default=0)
    rst: u16 = bits(1, default=0)
    syn: u16 = bits(1, default=0)
    fin: u16 = bits(1, default=0)
    window: be16 = be16(0)
    checksum: be16 = be16(0)
    urgent: be16 = be16(0)


class TCPOption(Header, header_length=HeaderLength("size", 1, 40)):
    """A TCP option of more than one byte (RFC 9293), 2 bytes; reading goes on behind its `size` bytes.

    Kinds TCPOPT_EOL and TCPOPT_NOP are single bytes. `peek` TCP and skip its 20 bytes to get to the options.
    """

    kind: u8 = u8(0)
    size: u8 = u8(2)


class TCPMss(Header):
    """The option of the largest segment (RFC 9293), 4 bytes."""

    kind: u8 = u8(TCPOPT_MSS)
    size: u8 = u8(4)
    mss: be16 = be16(1460)


class TCPWindow(Header):
    """The option of window scaling (RFC 7323), 3 bytes."""

    kind: u8 = u8(TCPOPT_WINDOW)
    size: u8 = u8(3)
    shift: u8 = u8(0)


class TCPTimestamp(Header):
    """The option of timestamps (RFC 7323), 10 bytes."""

    kind: u8 = u8(TCPOPT_TIMESTAMP)
    size: u8 = u8(10)
    value: be32 = be32(0)
    echo: be32 = be32(0)


class ICMP(Header):
    """The ICMP header (RFC 792), 8 bytes, with the fields of echo messages."""

    type: u8 = u8(0)
    code: u8 = u8(0)
    checksum: be16 = be16(0)
    id: be16 = be16(0)
    sequence: be16 = be16(0)


class ICMPv6(Header):
    """The ICMPv6 header (RFC 4443), 8 bytes, with the fields of echo messages."""

    type: u8 = u8(0)
    code: u8 = u8(0)
    checksum: be16 = be16(0)
    id: be16 = be16(0)
    sequence: be16 = be16(0)


class ICMPError(Header):
    """An error message of ICMP or ICMPv6, 8 bytes, behind which the packet in question begins.

    `mtu` is that of ICMP_FRAG_NEEDED (RFC 1191), in its lower 16 bits, and of ICMPV6_PACKET_TOO_BIG.
    """

    type: u8 = u8(0)
    code: u8 = u8(0)
    checksum: be16 = be16(0)
    mtu: be32 = be32(0)


class NeighborMessage(Header):
    """A neighbour solicitation or advertisement (RFC 4861) without its options, 24 bytes."""

    type: u8 = u8(ICMPV6_NEIGHBOR_SOLICIT)
    code: u8 = u8(0)
    checksum: be16 = be16(0)
    router: u32 = bits(1, default=0)
    solicited: u32 = bits(1, default=0)
    override: u32 = bits(1, default=0)
    reserved: u32 = bits(29, default=0)
    target: IPv6Addr = IPv6Addr()
