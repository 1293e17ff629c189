"""Layer 4: UDP, TCP, ICMP and ICMPv6."""

from __future__ import annotations

from typing import Final

from ebpfkit.dsl.structs import Header, bits
from ebpfkit.dsl.typeinfo import HeaderLength
from ebpfkit.dsl.types import be16, be32, u8, u16

__all__ = [
    "ICMP",
    "ICMPV6_ECHO_REPLY",
    "ICMPV6_ECHO_REQUEST",
    "ICMP_ECHO",
    "ICMP_ECHOREPLY",
    "TCP",
    "UDP",
    "ICMPv6",
]

ICMP_ECHOREPLY: Final = 0
ICMP_ECHO: Final = 8
ICMPV6_ECHO_REQUEST: Final = 128
ICMPV6_ECHO_REPLY: Final = 129


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
