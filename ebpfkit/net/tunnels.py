"""Headers that carry other packets: GRE, VXLAN, Geneve and MPLS labels. IPIP has none of its own: read IPv4 twice."""

from __future__ import annotations

from typing import Final

from ebpfkit.dsl.structs import Header, bits
from ebpfkit.dsl.typeinfo import HeaderLength
from ebpfkit.dsl.types import be16, be32, u8, u16, u32

__all__ = ["GENEVE_PORT", "GRE", "MPLS", "VXLAN", "VXLAN_PORT", "Geneve", "GeneveOption", "GREField"]

VXLAN_PORT: Final = 4789
GENEVE_PORT: Final = 6081


class GRE(Header, header_length=HeaderLength("has_checksum has_key has_sequence", 4, 16, base=4)):
    """The GRE header (RFC 2784, 2890), 4 bytes; reading goes on behind the checksum, key and sequence number it has.

    To read those as well, `peek` it, skip 4 bytes, and read a GREField for each that is there, in this order.
    """

    has_checksum: u16 = bits(1, default=0)
    reserved0: u16 = bits(1, default=0)
    has_key: u16 = bits(1, default=0)
    has_sequence: u16 = bits(1, default=0)
    reserved: u16 = bits(9, default=0)
    version: u16 = bits(3, default=0)
    protocol: be16 = be16(0x0800)


class GREField(Header):
    """An optional field of GRE, 4 bytes: a key, a sequence number, or a checksum in the upper 16 bits."""

    value: be32 = be32(0)


class VXLAN(Header):
    """The VXLAN header (RFC 7348), 8 bytes, with an Ethernet frame behind it; `valid` says that `vni` is one."""

    reserved0: u8 = bits(4, default=0)
    valid: u8 = bits(1, default=1)
    reserved1: u8 = bits(3, default=0)
    reserved2: u8 = u8(0)
    reserved3: be16 = be16(0)
    vni: u32 = bits(24, default=0)
    reserved4: u32 = bits(8, default=0)


class Geneve(Header, header_length=HeaderLength("option_length", 4, 260, base=8)):
    """The Geneve header (RFC 8926), 8 bytes; reading goes on behind its options, of `option_length` times 4 bytes."""

    version: u8 = bits(2, default=0)
    option_length: u8 = bits(6, default=0)
    control: u8 = bits(1, default=0)
    critical: u8 = bits(1, default=0)
    reserved: u8 = bits(6, default=0)
    protocol: be16 = be16(0x6558)
    vni: u32 = bits(24, default=0)
    reserved2: u32 = bits(8, default=0)


class GeneveOption(Header, header_length=HeaderLength("length", 4, 128, base=4)):
    """An option of Geneve, 4 bytes; reading goes on behind its data, of `length` times 4 bytes."""

    option_class: be16 = be16(0)
    type: u8 = u8(0)
    reserved: u8 = bits(3, default=0)
    length: u8 = bits(5, default=0)


class MPLS(Header):
    """An entry of the MPLS label stack (RFC 3032), 4 bytes; `bottom` is set in the last."""

    label: u32 = bits(20, default=0)
    traffic_class: u32 = bits(3, default=0)
    bottom: u32 = bits(1, default=1)
    ttl: u32 = bits(8, default=64)
