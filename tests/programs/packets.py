"""Packets for the cases: of every kind (`GENERAL`), and those that a case is about (`FOR_CASE`)."""

from __future__ import annotations

import random

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import ARP, GRE, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")


def ip(**fields: object) -> Packet:
    return ETHER / IP(**{"src": "10.0.0.1", "dst": "10.9.9.9", **fields})


def syn(**fields: object) -> Packet:
    return TCP(**{"sport": 40000, "dport": 80, "flags": "S", **fields})


def esp(number: int) -> Packet:
    return ip(proto=50) / Raw(bytes.fromhex("00000007") + number.to_bytes(4, "big") + b"secret")


def sctp(*chunks: bytes) -> Packet:
    return ip(proto=132) / Raw(bytes(12) + b"".join(chunks))


def chunk(kind: int, data: bytes) -> bytes:
    return bytes((kind, 0)) + (len(data) + 4).to_bytes(2, "big") + data + bytes(-len(data) % 4)


def vxlan(vni: int, flags: int = 8) -> Packet:
    head = bytes((flags, 0, 0, 0)) + vni.to_bytes(3, "big") + b"\0"
    return ip() / UDP(sport=1, dport=4789) / Raw(head + bytes(ETHER / IP(src="172.16.0.9") / UDP()))


def quic(data: str) -> Packet:
    return ip() / UDP(sport=999, dport=443) / Raw(bytes.fromhex(data))


def dhcp(kind: str, mac: str, server: str) -> Packet:
    made = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / IP(src=server, dst="255.255.255.255") / UDP(sport=67, dport=68)
    return made / BOOTP(op=2) / DHCP(options=[("lease_time", 60), ("message-type", kind), "end"])


def dns(name: str) -> Packet:
    return ip() / UDP(sport=5353, dport=53) / DNS(rd=1, qd=DNSQR(qname=name))


def http(text: bytes) -> Packet:
    return ip() / TCP(dport=80, flags="PA", options=[("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]) / Raw(text)


def knock(port: int) -> Packet:
    return ip(src="192.0.2.9") / syn(dport=port)


def bad_sum() -> bytes:
    frame = bytearray(bytes(ip(options=IPOption(b"\x94\4\0\0")) / UDP()))
    frame[24] ^= 1
    return bytes(frame)


V6 = ETHER / IPv6(src="2001:db8::2", dst="2001:db8::1")
GENERAL = [
    bytes(frame)
    for frame in (
        ip() / syn(options=[("MSS", 1460)]) / b"xyz",
        ip(options=IPOption(b"\1\1\1\0"), ttl=1) / UDP(sport=9, dport=4789) / b"payload",
        V6 / UDP(dport=53) / b"query",
        ETHER / ARP(),
        ip() / ICMP() / b"ping",
        ETHER / Dot1AD(vlan=20) / Dot1Q(vlan=10) / IP() / UDP(),
        ETHER / Raw(bytes(60)),
    )
]
_FOR_CASE: dict[str, tuple[Packet | bytes, ...]] = {
    "vlan_stack": (
        ETHER / Dot1AD(vlan=7) / Dot1Q(vlan=8) / Dot1Q(vlan=9) / IP(),
        ETHER / Dot1Q(vlan=1) / Dot1Q(vlan=2) / Dot1Q(vlan=3) / Dot1Q(vlan=4) / IP(),
    ),
    "source_route": (
        ip(options=IPOption(b"\1\x83\7\4\1\2\3\4")) / UDP(),
        ip(options=IPOption(b"\x07\x0b\4\0\0\0\0\0\0\0\0\0")) / UDP(),
        ip(options=IPOption(b"\1\1\x94\4\0\0\x89\3\4\0\0\0")) / UDP(),
    ),
    "mss_clamp": (
        ip() / syn(options=[("MSS", 8960), ("WScale", 7)]) / b"x",
        ip() / syn(options=[("SAckOK", b""), ("MSS", 1460)]),
        ip() / syn(options=[("NOP", None), ("MSS", 9000), ("EOL", None)]),
        ip() / syn(options=[("Timestamp", (1, 2)), ("NOP", None), ("NOP", None), ("MSS", 1401)]),
    ),
    "tcp_flags": tuple(ip() / TCP(flags=flags) for flags in ("S", "SA", "SF", "F", "FA", "R", "PA", "FPU", "")),
    "dns_filter": (dns("www.Example.com"), dns("a.very.long.name.of.many.labels.indeed.example.org"), dns(".")),
    "dns_name_key": (dns("www.example.com"), dns("this.is.a.name.longer.than.its.key.example.org")),
    "token_bucket": tuple(ip() / UDP(dport=port) for port in (53, 53, 53, 443, 53, 53)),
    "port_knock": tuple(map(knock, (22, 7000, 8000, 22, 7000, 9000, 7000, 8000, 9000, 22, 22))),
    "l4lb": (
        ip(dst="10.0.0.100") / syn(),
        ip(dst="10.0.0.100", src="10.3.4.5") / syn(sport=777) / b"data",
        ip(dst="10.0.0.100", src="10.3.4.6") / UDP(sport=777, dport=53) / b"data",
        ip(dst="10.0.0.100", src="10.3.4.7", flags="MF") / UDP(sport=777, dport=53) / b"data",
    ),
    "snat": (
        ip() / UDP(sport=1000, dport=53) / b"one",
        ip(src="192.168.3.4") / UDP(sport=1001, dport=53) / b"two",
        ip(src="172.16.3.4") / UDP(sport=1001, dport=53, chksum=0) / b"three",
        ip(src="8.8.8.8", dst="203.0.113.1") / UDP(sport=53, dport=20000) / b"back",
        ip(src="8.8.8.8", dst="203.0.113.1") / UDP(sport=53, dport=20001, chksum=0) / b"back",
        ip(src="8.8.8.8", dst="203.0.113.1") / UDP(sport=53, dport=29999) / b"nobody",
    ),
    "ping6": (V6 / ICMPv6EchoRequest(id=1, seq=2, data=b"ping"),),
    "arp_reply": (ETHER / ARP(pdst="10.0.0.2", psrc="10.0.0.1", hwsrc=ETHER.src), ETHER / ARP(pdst="10.0.0.3")),
    "sample_payload": (ip(id=2) / UDP() / b"0123456789abcdefgh", ip(id=3) / UDP() / b"0123456789abcdefgh"),
    "flows": (V6 / TCP(sport=1, dport=2, flags="SA"), ip() / TCP(sport=1, dport=2, flags="FPA"), V6 / UDP(sport=5)),
    "xsk_hash": (ip() / UDP(), ip(src="9.8.7.6") / UDP(), ip() / ICMP()),
    "ext_headers": (
        V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt(options=[PadN(optdata=bytes(20))]) / UDP(),
        V6 / IPv6ExtHdrFragment(offset=0, m=1, nh=6) / TCP(),
        V6 / IPv6ExtHdrRouting(type=0, addresses=["2001:db8::9"]) / UDP(),
        V6 / IPv6ExtHdrRouting(type=4, addresses=["2001:db8::9"]) / IPv6ExtHdrFragment(offset=9) / b"12345678",
    ),
    "vxlan_inner": (vxlan(7), vxlan(0xABCDEF), vxlan(7, 0)),
    "count_min": tuple(ip(src="9.9.9.9") / UDP() for _ in range(12)),
    "syn_flood": (*(ip() / syn() for _ in range(4)), ip() / TCP(flags="A"), ip() / TCP(flags="R")),
    "prefix6": tuple(
        ETHER / IPv6(src=src) / UDP() for src in ("2001:db8::5", "2001:db8:bad::1", "2001:db8:bad::2", "2002::1")
    ),
    "acl": (ip() / syn(dport=443), ip() / UDP(dport=53), ip(src="11.0.0.1") / syn(dport=2000), ip() / syn(dport=444)),
    "amplification": (
        ip() / UDP(sport=53) / bytes(100),
        ip(src="192.0.2.5") / UDP(sport=53) / bytes(100),
        ip(src="192.0.2.200") / UDP(sport=11211) / bytes(100),
        ip() / UDP(sport=123) / bytes(20),
    ),
    "fragments": (
        ip(id=5, flags="MF") / UDP(dport=4000) / b"12345678",
        ip(id=5, flags="MF", frag=2, proto=17) / b"12345678",
        ip(id=5, frag=3, proto=17) / b"12345678",
        ip(id=6, frag=3, proto=17) / b"12345678",
        ip(id=7, flags="MF") / UDP(dport=400) / b"12345678",
    ),
    "quic": (
        quic("c000000001088394c8f03e5157080000449e"),
        quic("d06b3343cf1400112233445566778899aabbccddeeff0011223300"),
        quic("4000112233445566778899"),
        quic("4007112233445566778899"),
        quic("c000000001150102030405060708090a0b0c0d0e0f101112131415161718"),
    ),
    "dhcp_snoop": (
        dhcp("offer", "02:00:00:00:00:01", "192.0.2.1"),
        dhcp("ack", "02:00:00:00:00:66", "192.0.2.66"),
        dhcp("nak", "02:00:00:00:00:66", "192.0.2.66"),
    ),
    "histogram": (ip(ttl=255) / UDP() / bytes(900),),
    "ecn": tuple(ip(tos=tos, dst="10.0.0.7") / UDP() for tos in (1, 1, 2, 0, 3, 2)),
    "dscp": (ip(tos=46 << 2 | 1) / UDP(), V6 / UDP(), ETHER / IPv6(tc=40) / UDP(), ip(tos=1) / UDP()),
    "mac_learn": (ETHER / ARP(), Ether(src="02:00:00:00:00:77") / ARP(), Ether(src="03:00:00:00:00:77") / ARP()),
    "http_method": tuple(map(http, (b"GET / HTTP/1.1", b"POST /", b"DELETE /x", b"PUT /x", b"PAT"))),
    "verify_checksum": (ip() / UDP(), ip(options=IPOption(b"\x94\4\0\0")) / UDP(), bad_sum()),
    "udp_checksum": (
        ip() / UDP(sport=1, dport=2, chksum=0) / b"odd",
        ip() / UDP(sport=1, dport=2, chksum=0) / b"even",
        ip() / UDP(sport=1, dport=2, chksum=0) / bytes(range(100)),
        ip() / UDP(sport=1, dport=2, chksum=0) / bytes(150),
    ),
    "mpls": (
        Ether(type=0x8847) / Raw(bytes.fromhex("000064400012c13f") + bytes(20)),
        Ether(type=0x8847) / Raw(bytes.fromhex("00064040") * 9),
        Ether(type=0x8847) / Raw(bytes.fromhex("0001000000064140")),
    ),
    "router": (ip(ttl=9) / UDP(), ip(dst="10.1.2.3") / UDP(), ip(dst="11.1.2.3") / UDP(), ip(ttl=1) / UDP()),
    "replay": tuple(map(esp, (100, 100, 101, 99, 99, 30, 37, 165, 166, 102, 230, 400, 0xFFFFFFFF, 1))),
    "ewma": tuple(ip() / UDP() / bytes(size) for size in (10, 12, 90, 11, 10, 400, 10)),
    "llc": (
        Ether(dst="01:80:c2:00:00:00", type=38) / Raw(bytes.fromhex("424203") + bytes(40)),
        Ether(dst="01:80:c2:00:00:00", type=1500) / Raw(bytes.fromhex("424203") + bytes(40)),
        Ether(type=38) / Raw(bytes.fromhex("aaaa03") + bytes(40)),
    ),
    "counters": (ip() / UDP(), V6 / UDP(), ETHER / ARP(), ip() / syn()),
    "echo": (ip() / ICMP() / b"ping", ip(options=IPOption(b"\1\1\1\0")) / ICMP(id=7) / b"ping", ip() / ICMP(type=3)),
    "firewall": (ip(src="10.0.0.9") / UDP(), ip(src="10.0.1.9") / syn(), ETHER / ARP()),
    "hop": (ip(ttl=9) / UDP(), ip(ttl=1) / UDP(), ip(ttl=255, id=0xFFFF) / UDP()),
    "steer": (
        ip() / UDP(dport=4789),
        V6 / UDP(dport=53),
        ip() / UDP(dport=99),
        ip(options=IPOption(b"\1\1\1\0")) / UDP(),
    ),
    "vlan": (
        ETHER / Dot1Q(vlan=20) / IP(),
        ETHER / Dot1AD(vlan=20) / Dot1Q(vlan=20) / IP() / UDP(),
        ETHER / Dot1AD(vlan=20) / Dot1Q(vlan=21) / IP() / UDP(),
    ),
    "vlan_push": (ip() / UDP() / b"data", ETHER / Dot1Q(vlan=20) / IP()),
    "vlan_pop": (
        ETHER / Dot1Q(vlan=20, prio=3) / IP() / UDP() / b"data",
        ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / IP(),
    ),
    "ipip_lb": (
        ip(dst="10.0.0.100") / syn(),
        ip(dst="10.0.0.100", src="10.3.4.6") / UDP(sport=777, dport=53) / b"data",
        ip(dst="10.0.0.100", src="10.3.4.7", options=IPOption(b"\1\1\1\0")) / UDP(sport=778, dport=53) / b"data",
        ip(dst="10.0.0.100", src="10.3.4.7", frag=9) / UDP(sport=778, dport=53) / b"data",
    ),
    "bucket": tuple(ip(dst=dst) / UDP() / b"data" for dst in ("10.9.9.9", "10.9.9.8")),
    "cpu_steer": (ip() / UDP(), ip(src="10.0.0.77") / UDP(), V6 / UDP(), ETHER / IPv6(fl=0x12345) / UDP()),
    "gre_decap": (
        ip() / GRE() / IP() / UDP() / b"inner",
        ip() / GRE(key_present=1, seqnum_present=1, key=7, sequence_number=9) / IP() / UDP() / b"inner",
        ip() / GRE(chksum_present=1, proto=0x86DD) / IPv6() / UDP() / b"inner",
        ip(options=IPOption(b"\1\1\1\0")) / GRE(proto=0x6558) / ETHER,
    ),
    "vxlan_decap": (vxlan(7), vxlan(0xABCDEF), vxlan(7, 0)),
    "too_big": (
        ip(flags="DF", id=5) / UDP() / (bytes(range(256)) * 6),
        ip(flags="DF", len=1500) / UDP() / bytes(40),
        ip() / UDP() / bytes(1500),
    ),
    "syn_cookie": (
        ip() / syn(seq=1000, options=[("MSS", 1460), ("SAckOK", b"")]),
        ip() / TCP(sport=40000, dport=80, flags="A", ack=77, seq=1001) / b"data",
        ip() / syn(seq=0xFFFFFFFF, options=[("MSS", 536), ("Timestamp", (1, 2)), ("WScale", 7)]),
        ip() / TCP(flags="R") / b"12345",
    ),
    "fib_forward": (
        ip(dst="192.0.2.9", ttl=7) / UDP() / b"data",
        Ether() / IPv6(src="2001:db8:1::2", dst="2001:db8:2::9", hlim=9, tc=3, fl=5) / UDP() / b"data",
        ip(dst="203.0.113.5") / UDP(),
        ip(dst="192.0.2.9", ttl=1) / UDP(),
    ),
    "tail_too_big": (
        ip(id=7) / UDP() / (bytes(range(256)) * 3),
        ip() / syn() / bytes(600),
        ip() / UDP() / bytes(500),
        V6 / UDP() / bytes(900),
    ),
    "iptunnel": (
        ip(dst="10.0.0.100") / syn() / b"data",
        ip(dst="10.0.0.100") / UDP(dport=53) / b"data",
        ETHER / IPv6(src="2001:db8::2", dst="2001:db8::100") / syn() / b"data",
        ip(dst="10.0.0.100") / ICMP(),
    ),
    "xdping": (
        ip() / ICMP(type=8, id=3, seq=4) / bytes(range(56)),
        ip() / ICMP(type=0, id=3, seq=4) / bytes(range(56)),
        ip() / ICMP(type=0, id=3, seq=5) / bytes(range(56)),
        ip() / ICMP(type=8, id=3, seq=4) / bytes(55),
    ),
    "vlan4011": (
        ETHER / Dot1Q(vlan=4011, prio=3) / IP() / UDP() / b"data",
        ETHER / Dot1Q(vlan=5) / IP() / UDP() / b"data",
        ETHER / Dot1AD(vlan=4011) / Dot1Q(vlan=6) / IP(),
        ip() / UDP() / b"data",
    ),
    "fwd": (
        ip(dst="192.0.2.9", ttl=7) / UDP() / b"data",
        ETHER / IPv6(src="2001:db8:1::2", dst="2001:db8:2::9", hlim=9, tc=3, fl=5) / UDP() / b"data",
        ip(dst="203.0.113.5") / UDP(),
        ip(dst="192.0.2.9", ttl=1) / UDP(),
    ),
    "tail_parser": (
        ip() / UDP(),
        ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / IPv6() / UDP(),
        ETHER / Dot1Q(vlan=6) / IP(ttl=0) / UDP(),
        ETHER / IPv6(nh=59),
    ),
    "tail_shrink": (ip() / syn(), ip() / UDP() / b"some more data"),
    "sctp_chunks": (
        sctp(chunk(0, b"data"), chunk(3, b"sack!"), chunk(4, b"")),
        sctp(*(chunk(n, b"") for n in range(9))),
        sctp(chunk(0, bytes(61))),
    ),
}
FOR_CASE = {name: tuple(bytes(frame) for frame in frames) for name, frames in _FOR_CASE.items()}
BORDERS = (14, 15, 18, 22, 23, 26, 33, 34, 38, 41, 42, 46, 53, 54, 58, 61, 62, 74)


def frames_of(name: str) -> list[bytes]:
    """The packets of a case: its own ones at every length and with bytes at random, then everybody's cut at borders."""
    chance = random.Random(name)
    out = []
    for frame in FOR_CASE.get(name, ()):
        out += [frame, frame]
        out += [frame[:size] for size in range(14, min(len(frame), 120))]
        for _ in range(6):
            changed = bytearray(frame)
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(12, len(changed))] = chance.choice(
                    (0, 1, 2, 8, 64, 255, chance.randrange(256))
                )
            out.append(bytes(changed))
    for frame in GENERAL:
        out += [frame, *(frame[:size] for size in BORDERS if size < len(frame))]
    return out
