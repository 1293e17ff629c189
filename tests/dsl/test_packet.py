"""Reading packets: the cursor, short packets, header lengths, writes in place; against packets that scapy builds."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP as ScapyICMP
from scapy.layers.inet import IP
from scapy.layers.inet import TCP as ScapyTCP
from scapy.layers.inet import UDP as ScapyUDP
from scapy.layers.inet6 import IPv6 as ScapyIPv6
from scapy.layers.l2 import ARP as ScapyARP
from scapy.layers.l2 import Dot1Q, Ether

from ebpfkit.dsl.arrays import array
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.running import ShortExit
from ebpfkit.dsl.types import be16, u8, u16, u32
from ebpfkit.errors import CompileError
from ebpfkit.net import ARP, ICMP, TCP, UDP, VLAN, Ethernet, IPv4, IPv6

ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")


def packet(layers) -> Packet:
    return Packet(bytearray(bytes(layers)))


def test_tcp_behind_ip_options():
    pkt = packet(
        ETHER
        / IP(src="192.0.2.1", dst="198.51.100.7", tos=3, id=77, flags="DF", frag=5, ttl=9, options=b"\x01" * 8)
        / ScapyTCP(sport=1234, dport=443, seq=7, ack=8, flags="SA", window=512, options=[("MSS", 1460)])
        / b"payload"
    )
    eth = pkt.read(Ethernet)
    assert (str(eth.dst), str(eth.src), eth.type) == ("02:00:00:00:00:02", "02:00:00:00:00:01", 0x800)
    ip = pkt.read(IPv4)
    assert (ip.version, ip.ihl, ip.tos, ip.id, ip.flags, ip.fragment_offset, ip.ttl) == (4, 7, 3, 77, 2, 5, 9)
    assert (str(ip.src), str(ip.dst), ip.protocol) == ("192.0.2.1", "198.51.100.7", 6)
    assert ip.total_length == len(pkt) - 14
    tcp = pkt.read(TCP)
    assert (tcp.source, tcp.dest, tcp.seq, tcp.ack_seq, tcp.data_offset) == (1234, 443, 7, 8, 6)
    assert (tcp.syn, tcp.ack, tcp.fin, tcp.rst, tcp.psh, tcp.urg, tcp.window) == (1, 1, 0, 0, 0, 0, 512)
    assert bytes(pkt.read(array[u8, 7])) == b"payload"
    assert pkt.peek(u8) is None


def test_vlan_ipv6_udp():
    pkt = packet(ETHER / Dot1Q(vlan=100, prio=3) / ScapyIPv6(src="2001:db8::1", dst="::1", tc=5, fl=0x12345, hlim=3)
                 / ScapyUDP(sport=53, dport=4789) / b"xyz")  # fmt: skip
    assert pkt.read(Ethernet).type == 0x8100
    tag = pkt.read(VLAN)
    assert (tag.tci.to_host() & 0xFFF, tag.tci.to_host() >> 13, tag.type) == (100, 3, 0x86DD)
    ip = pkt.read(IPv6)
    assert (ip.version, ip.traffic_class, ip.flow_label, ip.hop_limit, ip.next_header) == (6, 5, 0x12345, 3, 17)
    assert (str(ip.src), str(ip.dst), ip.payload_length) == ("2001:db8::1", "::1", 11)
    udp = pkt.read(UDP)
    assert (udp.source, udp.dest, udp.length) == (53, 4789, 11)


def test_arp_and_icmp():
    pkt = packet(ETHER / ScapyARP(op=2, hwsrc="02:00:00:00:00:01", psrc="10.0.0.1", pdst="10.0.0.2"))
    pkt.read(Ethernet)
    arp = pkt.read(ARP)
    assert (arp.operation, str(arp.sender_mac), str(arp.sender_ip), str(arp.target_ip), arp.hardware_type) == (
        2, "02:00:00:00:00:01", "10.0.0.1", "10.0.0.2", 1)  # fmt: skip
    pkt = packet(ScapyICMP(type=8, id=5, seq=6))
    icmp = pkt.read(ICMP)
    assert (icmp.type, icmp.code, icmp.id, icmp.sequence) == (8, 0, 5, 6)


def test_headers_we_build_are_what_scapy_reads():
    built = bytes(Ethernet()) + bytes(IPv4(src=_ip("10.0.0.1"), dst=_ip("10.0.0.2"), protocol=17, total_length=28))
    parsed = Ether(built + bytes(UDP(source=5, dest=6)))
    assert (parsed[IP].src, parsed[IP].dst, parsed[ScapyUDP].dport, parsed[IP].ttl) == ("10.0.0.1", "10.0.0.2", 6, 64)


def _ip(text):
    from ebpfkit.net import IPv4Addr

    return IPv4Addr(text)


def test_every_truncation_leaves_by_the_short_exit():
    whole = bytes(ETHER / IP() / ScapyUDP())
    for size in range(len(whole)):
        pkt = Packet(bytearray(whole[:size]))
        with pytest.raises(ShortExit):
            pkt.read(Ethernet)
            pkt.read(IPv4)
            pkt.read(UDP)
    pkt = Packet(bytearray(whole))
    pkt.read(Ethernet), pkt.read(IPv4), pkt.read(UDP)


def test_a_header_length_is_taken_as_it_stands_and_checked_by_the_next_read():
    for ihl, expected in ((0, 0), (1, 4), (5, 20), (15, 60)):
        data = bytearray(range(256))
        data[0] = 0x40 | ihl
        pkt = Packet(data)
        pkt.read(IPv4)
        assert pkt.read(u8) == data[expected]
    pkt = Packet(bytearray(b"\x4f" + bytes(19)))
    pkt.read(IPv4)
    assert pkt.peek(u8) is None
    with pytest.raises(ShortExit, match="20 bytes are too short for u8 at 60"):
        pkt.read(u8)


def test_peek_stays_and_writes_reach_the_packet():
    data = bytearray(bytes(ETHER / b"12"))
    pkt = Packet(data)
    view = pkt.peek(Ethernet)
    assert view is not None
    view.type = 0x1234
    eth = pkt.read(Ethernet)
    assert eth.type == 0x1234
    eth.dst, eth.src = eth.src, eth.dst
    assert pkt._region.data[:6] == b"\x02\0\0\0\0\1"
    assert pkt.read(be16) == 0x3132
    assert len(pkt) == 16


def test_the_context_is_read_only():
    pkt = Packet(bytearray(4), rx_queue_index=3, ingress_ifindex=2)
    assert (pkt.rx_queue_index, pkt.ingress_ifindex) == (u32(3), 2)
    with pytest.raises(CompileError, match="only known to programs in a devmap"):
        pkt.egress_ifindex
    assert type(pkt.rx_queue_index) is u32
    with pytest.raises(CompileError, match="read-only"):
        pkt.rx_queue_index = u32(1)
    with pytest.raises(CompileError, match="atomic_add works on a map value, not on the packet"):
        pkt.read(u32).atomic_add(1)
    with pytest.raises(CompileError, match="not a type of the language"):
        pkt.read(int)
    assert pkt.peek(u16) is None
