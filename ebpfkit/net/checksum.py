"""The internet checksum (RFC 1071) and its incremental update (RFC 1624), written in the language itself.

These functions are inlined into the programs that call them, and run as plain Python too. Names with a `csum_` are the
kernel's. A checksum field holds the complement of the sum.
"""

from __future__ import annotations

from ebpfkit.dsl.addresses import IPv4Addr
from ebpfkit.dsl.types import be16, be32, u8, u16, u32
from ebpfkit.net.ip import IPv4

__all__ = ["csum_fold", "csum_replace2", "csum_replace4", "decrement_ttl", "ipv4_checksum", "ipv4_pseudo_sum"]


def csum_fold(total: u32) -> u16:
    """The checksum of a sum of 16-bit words (at most 65536 of them): its carries folded in, complemented."""
    once = (total & 0xFFFF) + (total >> 16)
    twice = (once & 0xFFFF) + (once >> 16)
    return ~u16(twice)


def csum_replace2(checksum: be16, old: be16, new: be16) -> be16:
    """The checksum after a 16-bit word that it covers changed from `old` to `new`."""
    total = u32(~checksum.raw()) + u32(~old.raw()) + u32(new.raw())
    return be16.from_raw(csum_fold(total))


def csum_replace4(checksum: be16, old: be32, new: be32) -> be16:
    """The checksum after a 32-bit word that it covers (an IPv4 address) changed from `old` to `new`."""
    before = ~old.raw()
    after = new.raw()
    total = u32(~checksum.raw()) + (before >> 16) + (before & 0xFFFF) + (after >> 16) + (after & 0xFFFF)
    return be16.from_raw(csum_fold(total))


def ipv4_checksum(ip: IPv4) -> be16:
    """The checksum that a header without options should have; its checksum field counts as zero."""
    source = ip.src.raw()
    target = ip.dst.raw()
    total = (u32(ip.version) << 4 | u32(ip.ihl)) + (u32(ip.tos) << 8)
    total += u32(ip.total_length.raw()) + u32(ip.id.raw())
    total += u32(be16(ip.flags << 13 | ip.fragment_offset).raw())
    total += u32(ip.ttl) + (u32(ip.protocol) << 8)
    total += (source >> 16) + (source & 0xFFFF) + (target >> 16) + (target & 0xFFFF)
    return be16.from_raw(csum_fold(total))


def ipv4_pseudo_sum(src: IPv4Addr, dst: IPv4Addr, protocol: u8, length: u16) -> u32:
    """The sum of the pseudo header that UDP and TCP checksums over IPv4 begin with."""
    source = src.to_host()
    target = dst.to_host()
    words = (source >> 16) + (source & 0xFFFF) + (target >> 16) + (target & 0xFFFF)
    return words + u32(protocol) + u32(length)


def decrement_ttl(ip: IPv4) -> None:
    """Take one from a time to live that is not 0, and keep the header's checksum right."""
    total = u32(ip.checksum.raw()) + 1  # 0x0100 in network order
    if total >= 0xFFFF:
        total += 1
    ip.checksum = be16.from_raw(u16(total))
    ip.ttl -= 1
