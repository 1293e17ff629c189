"""Headers: sizes, names, and what a program reads of them; the numbers are those of the standard library."""

from __future__ import annotations

import socket

import pytest
from scapy.contrib.geneve import GENEVE, GeneveOptions
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, TCP, IPOption
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6PacketTooBig,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import GRE, Dot1Q
from scapy.layers.vxlan import VXLAN

from ebpfkit import net
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.structs import Header, offsetof, sizeof
from ebpfkit.dsl.typeinfo import HeaderLength
from ebpfkit.dsl.types import u8


@pytest.mark.parametrize(
    ("header", "size"),
    [(net.Ethernet, 14), (net.VLAN, 4), (net.ARP, 28), (net.IPv4, 20), (net.IPv6, 40), (net.TCP, 20), (net.UDP, 8),
     (net.ICMP, 8), (net.ICMPv6, 8), (net.ICMPError, 8), (net.NeighborMessage, 24), (net.IPv4Option, 2),
     (net.IPv6Extension, 2), (net.IPv6Routing, 4), (net.IPv6Fragment, 8), (net.IPv6Auth, 12), (net.TCPOption, 2),
     (net.TCPMss, 4), (net.TCPWindow, 3), (net.TCPTimestamp, 10), (net.GRE, 4), (net.GREField, 4), (net.VXLAN, 8),
     (net.Geneve, 8), (net.GeneveOption, 4), (net.MPLS, 4)],
)  # fmt: skip
def test_sizes(header, size):
    assert sizeof(header) == size
    assert header.__ebpf_type__.packed
    assert header.__ebpf_type__.align == 1
    assert issubclass(header, Header)


def test_headers_of_one_length_say_none():
    assert net.IPv4.__ebpf_type__.header_length == HeaderLength("ihl", 4, 60)
    assert net.TCP.__ebpf_type__.header_length == HeaderLength("data_offset", 4, 60)
    others = [net.Ethernet, net.VLAN, net.ARP, net.IPv6, net.UDP, net.ICMP, net.ICMPv6, net.VXLAN, net.MPLS]
    assert all(other.__ebpf_type__.header_length is None for other in others)


OPTIONS = [("MSS", 1400), ("WScale", 7), ("Timestamp", (1, 2))]
FIELDS = {
    "vlan": (Dot1Q(prio=5, vlan=300, type=0x86DD), net.VLAN, 4, {"vlan_id": 300, "priority": 5, "type": 0x86DD}),
    "ipv4 option": (IPOption(b"\x94\4\0\0"), net.IPv4Option, 4, {"kind": 0x94, "size": 4}),
    "hop by hop": (
        IPv6ExtHdrHopByHop(nh=17, options=[PadN(optdata=bytes(10))]), net.IPv6Extension, 16,
        {"next_header": 17, "length": 1},
    ),
    "routing": (
        IPv6ExtHdrRouting(nh=6, type=4, segleft=1, addresses=["2001:db8::1"]), net.IPv6Routing, 24,
        {"next_header": 6, "length": 2, "type": 4, "segments_left": 1},
    ),
    "fragment": (
        IPv6ExtHdrFragment(nh=17, offset=9, m=1, id=7), net.IPv6Fragment, 8,
        {"next_header": 17, "offset": 9, "more": 1, "id": 7},
    ),
    "ah": (
        AH(nh=6, payloadlen=4, spi=7, seq=8, icv=bytes(12)), net.IPv6Auth, 24,
        {"next_header": 6, "spi": 7, "sequence": 8},
    ),
    "tcp": (TCP(flags="SA", options=OPTIONS), net.TCP, 40, {"data_offset": 10, "syn": 1, "ack": 1, "fin": 0}),
    "gre": (GRE(proto=0x6558), net.GRE, 4, {"protocol": 0x6558, "has_key": 0, "version": 0}),
    "gre with everything": (
        GRE(chksum_present=1, key_present=1, seqnum_present=1, key=5), net.GRE, 16,
        {"has_checksum": 1, "has_key": 1, "has_sequence": 1},
    ),
    "vxlan": (VXLAN(vni=0xABCDEF, flags=8), net.VXLAN, 8, {"valid": 1, "vni": 0xABCDEF}),
    "geneve": (
        GENEVE(vni=0x123456, proto=0x6558, options=[GeneveOptions(classid=0x102, type=3, data=b"12345678")]),
        net.Geneve, 20, {"vni": 0x123456, "protocol": 0x6558, "option_length": 3, "critical": 0},
    ),
    "geneve option": (
        GeneveOptions(classid=0x102, type=3, data=b"12345678"), net.GeneveOption, 12,
        {"option_class": 0x102, "type": 3, "length": 2},
    ),
    "mpls": (
        MPLS(label=70000, cos=5, s=1, ttl=9), net.MPLS, 4,
        {"label": 70000, "traffic_class": 5, "bottom": 1, "ttl": 9},
    ),
    "icmp error": (ICMP(type=3, code=4, nexthopmtu=1400), net.ICMPError, 8, {"type": 3, "code": 4, "mtu": 1400}),
    "packet too big": (ICMPv6PacketTooBig(mtu=1280), net.ICMPError, 8, {"type": 2, "mtu": 1280}),
    "neighbour": (
        ICMPv6ND_NA(R=0, S=1, O=1, tgt="2001:db8::7"), net.NeighborMessage, 24,
        {"type": 136, "router": 0, "solicited": 1, "override": 1, "target": net.IPv6Addr("2001:db8::7")},
    ),
}  # fmt: skip
"""scapy's header, ours, how far a read goes, and the fields that both have."""


@pytest.mark.parametrize("name", FIELDS)
def test_fields_and_length_are_those_of_scapy(name):
    packet, header, length, fields = FIELDS[name]
    data = bytes(packet) + bytes(40)
    reader = Packet(bytearray(data))
    view = reader.read(header)
    assert {field: getattr(view, field) for field in fields} == fields
    assert reader.peek(u8) == data[length]
    reader.skip(len(data) - length - 1)
    assert reader.peek(u8) is not None
    reader.skip(1)
    assert reader.peek(u8) is None


@pytest.mark.parametrize(
    ("option", "data"),
    [(net.TCPMss(mss=1400), b"\2\4\5\x78"), (net.TCPWindow(shift=7), b"\3\3\7"),
     (net.TCPTimestamp(value=1, echo=2), b"\x08\x0a" + (1).to_bytes(4, "big") + (2).to_bytes(4, "big"))],
)  # fmt: skip
def test_tcp_options(option, data):
    assert bytes(option) == data
    assert data in bytes(TCP(options=OPTIONS))


def test_fib_parameters_are_the_kernels():
    assert sizeof(net.FibLookup4) == sizeof(net.FibLookup6) == 64
    for kind, places in ((net.FibLookup4, (16, 32)), (net.FibLookup6, (16, 32))):
        assert (offsetof(kind, "src"), offsetof(kind, "dst")) == places
        assert (offsetof(kind, "ifindex"), offsetof(kind, "smac"), offsetof(kind, "dmac")) == (8, 52, 58)


def test_numbers():
    for name in dir(socket):
        if name.startswith("IPPROTO_") and hasattr(net, name):
            assert getattr(net, name) == int(getattr(socket, name)), name
    assert (net.ETH_P_IP, net.ETH_P_IPV6, net.ETH_P_ARP, net.ETH_P_8021Q) == (0x800, 0x86DD, 0x806, 0x8100)


def test_everything_named_is_there():
    for name in net.__all__:
        assert getattr(net, name) is not None


def test_defaults_make_plausible_packets():
    ip = net.IPv4()
    assert (ip.version, ip.ihl, ip.ttl, ip.total_length) == (4, 5, 64, 20)
    assert net.TCP().data_offset == 5
    assert net.IPv6().version == 6
    assert net.Ethernet(type=net.ETH_P_ARP).type == 0x806
