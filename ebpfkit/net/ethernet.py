"""Layer 2: Ethernet, VLAN tags and ARP, with the numbers of their fields."""

from __future__ import annotations

from typing import Final

from ebpfkit.dsl.addresses import MAC, IPv4Addr
from ebpfkit.dsl.structs import Header
from ebpfkit.dsl.types import be16, u8, u16

__all__ = [
    "ARP",
    "ARP_REPLY",
    "ARP_REQUEST",
    "ETH_P_8021AD",
    "ETH_P_8021Q",
    "ETH_P_ARP",
    "ETH_P_IP",
    "ETH_P_IPV6",
    "ETH_P_MPLS_MC",
    "ETH_P_MPLS_UC",
    "ETH_P_TEB",
    "VLAN",
    "Ethernet",
]

ETH_P_IP: Final = 0x0800
ETH_P_ARP: Final = 0x0806
ETH_P_8021Q: Final = 0x8100
ETH_P_IPV6: Final = 0x86DD
ETH_P_TEB: Final = 0x6558
ETH_P_MPLS_UC: Final = 0x8847
ETH_P_MPLS_MC: Final = 0x8848
ETH_P_8021AD: Final = 0x88A8

ARP_REQUEST: Final = 1
ARP_REPLY: Final = 2


class Ethernet(Header):
    """The Ethernet II header (IEEE 802.3), 14 bytes. `type` says what follows: ETH_P_IP and its like."""

    dst: MAC = MAC()
    src: MAC = MAC()
    type: be16 = be16(ETH_P_IP)


class VLAN(Header):
    """An IEEE 802.1Q tag as it stands behind the Ethernet header: `tci` and the type of what follows, 4 bytes.

    `tci` is priority (3 bits), drop eligible (1 bit) and VLAN id (12 bits): `tag.vlan_id` and `tag.priority` read them.
    """

    tci: be16 = be16(0)
    type: be16 = be16(ETH_P_IP)

    @property
    def vlan_id(self) -> u16:
        """The VLAN's number, 12 bits."""
        return self.tci.to_host() & 0xFFF

    @property
    def priority(self) -> u16:
        """The priority code point, 3 bits."""
        return self.tci.to_host() >> 13


class ARP(Header):
    """An ARP packet for IPv4 over Ethernet (RFC 826), 28 bytes."""

    hardware_type: be16 = be16(1)
    protocol_type: be16 = be16(ETH_P_IP)
    hardware_size: u8 = u8(6)
    protocol_size: u8 = u8(4)
    operation: be16 = be16(ARP_REQUEST)
    sender_mac: MAC = MAC()
    sender_ip: IPv4Addr = IPv4Addr()
    target_mac: MAC = MAC()
    target_ip: IPv4Addr = IPv4Addr()
