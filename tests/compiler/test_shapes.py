"""Whole programs of the kinds people write: they load, and do in the kernel what they do in plain Python."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from tests.compiler.support import PRELUDE, check, load_module, packets, program
from tests.compiler.test_objects import check_lines

ETH = bytes.fromhex("020000000001 020000000002".replace(" ", ""))


def ethernet(kind: int, payload: bytes, *tags: tuple[int, int]) -> bytes:
    """A frame of `kind`, behind VLAN tags of (tag protocol, tci)."""
    out = ETH
    for protocol, tci in tags:
        out += struct.pack("!HH", protocol, tci)
    return out + struct.pack("!H", kind) + payload


def ipv4(protocol: int, payload: bytes, *, options: bytes = b"", ttl: int = 64, src: str = "10.0.0.1") -> bytes:
    words = 5 + len(options) // 4
    source = bytes(int(part) for part in src.split("."))
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x40 | words, 0, words * 4 + len(payload), 1, 0, ttl, protocol, 0, source, b"\x0a\0\0\2"
    )
    total = sum(struct.unpack(f"!{words * 2}H", head + options))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return head[:10] + struct.pack("!H", total ^ 0xFFFF) + head[12:] + options + payload


def udp(source: int, target: int, payload: bytes = b"payload!") -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload


def tcp(source: int, target: int, flags: int, options: bytes = b"") -> bytes:
    return struct.pack("!HHIIBBHHH", source, target, 1000, 0, (5 + len(options) // 4) << 4, flags, 512, 0, 0) + options


def frames() -> list[bytes]:
    """Real packets, and the same cut at every border."""
    whole = [
        ethernet(0x0800, ipv4(17, udp(1234, 53))),
        ethernet(0x0800, ipv4(17, udp(1234, 80), options=bytes(8))),
        ethernet(0x0800, ipv4(17, udp(5, 4789), options=b"\x01" * 40)),
        ethernet(0x0800, ipv4(6, tcp(4000, 443, 2, b"\x02\x04\x05\xb4" + b"\x01" * 4), ttl=1)),
        ethernet(0x0800, ipv4(6, tcp(4000, 22, 0x12))),
        ethernet(0x0800, ipv4(1, b"\x08\x00\x12\x34\0\1\0\2" + bytes(32), src="10.0.0.9")),
        ethernet(0x0800, ipv4(17, udp(1, 53)), (0x8100, 5)),
        ethernet(0x0800, ipv4(17, udp(1, 53)), (0x88A8, 7), (0x8100, 6)),
        ethernet(
            0x86DD, b"\x60\0\0\0" + struct.pack("!HBB", 16, 17, 64) + bytes(15) + b"\1" + bytes(15) + b"\2" + udp(1, 53)
        ),
        ethernet(0x0806, struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + ETH[6:] + b"\x0a\0\0\1" + bytes(6) + b"\x0a\0\0\2"),
        ethernet(0x1234, bytes(50)),
        ETH[:6] + ETH[6:] + b"\x08\0" + b"\x4f" + bytes(80),
        ETH + b"\x08\0" + b"\x41" + bytes(80),
    ]
    cuts = [
        frame[:n]
        for frame in whole
        for n in (14, 15, 18, 22, 33, 34, 35, 38, 41, 42, 46, 53, 54, 57, 62)
        if n < len(frame)
    ]
    rng = random.Random(5)
    noise = [bytes(rng.randbytes(n)) for n in (14, 60, 200)]
    return [frame for frame in whole + cuts + noise if len(frame) >= 14]


PROGRAMS = {
    "vlan stack": """
@bpf.xdp(short=XDP_DROP)
def prog(pkt: Packet) -> XdpAction:
    kind = pkt.read(Ethernet).type
    depth = u64(0)
    for _ in range(3):
        if kind not in (ETH_P_8021Q, ETH_P_8021AD):
            break
        kind = pkt.read(VLAN).type
        depth += 1
    depths[depth] = u64(kind.to_host())
    return XDP_PASS if kind == ETH_P_IP else XDP_TX
depths = bpf.Hash[u64, u64](max_entries=16)
""",
    "five tuple": """
class Flow(Struct, padding=True):
    src: IPv4Addr
    dst: IPv4Addr
    sport: be16
    dport: be16
    protocol: u8
class Stat(Struct):
    packets: u64
    bytes: u64
    last: u32
flows = bpf.LruHash[Flow, Stat](max_entries=1000)
@bpf.xdp(short=XDP_PASS)
def prog(pkt: Packet) -> XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol == IPPROTO_UDP:
        udp = pkt.read(UDP)
        key = Flow(src=ip.src, dst=ip.dst, sport=udp.source, dport=udp.dest, protocol=ip.protocol)
    elif ip.protocol == IPPROTO_TCP:
        tcp = pkt.read(TCP)
        key = Flow(src=ip.src, dst=ip.dst, sport=tcp.source, dport=tcp.dest, protocol=ip.protocol)
    else:
        return XDP_TX
    stat = flows.get(key)
    if stat is None:
        flows[key] = Stat(packets=1, bytes=len(pkt), last=1)
        return XDP_PASS
    stat.packets += 1
    stat.bytes += u64(len(pkt))
    stat.last ^= 3
    return XDP_PASS
""",
    "echo responder": """
class Icmp(Header):
    type: u8
    code: u8
    checksum: be16
@bpf.xdp
def prog(pkt: Packet) -> XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_ICMP:
        return XDP_PASS
    icmp = pkt.read(Icmp)
    if icmp.type != 8:
        return XDP_PASS
    icmp.type = 0
    icmp.checksum = csum_replace2(icmp.checksum, be16(0x0800), be16(0))
    eth.src, eth.dst = eth.dst, eth.src
    ip.src, ip.dst = ip.dst, ip.src
    decrement_ttl(ip)
    return XDP_TX
""",
    "arp responder": """
MINE = MAC("02:aa:00:00:00:01")
ADDRESS = IPv4Addr("10.0.0.2")
@bpf.xdp(short=XDP_PASS)
def prog(pkt: Packet) -> XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_ARP:
        return XDP_PASS
    arp = pkt.read(ARP)
    if arp.operation != ARP_REQUEST or arp.target_ip != ADDRESS:
        return XDP_DROP
    arp.operation = ARP_REPLY
    arp.target_mac, arp.target_ip = arp.sender_mac, arp.sender_ip
    arp.sender_mac, arp.sender_ip = MINE, ADDRESS
    eth.dst, eth.src = eth.src, MINE
    return XDP_TX
""",
    "protocol match": """
hits = bpf.PerCpuArray[u64](max_entries=8)
@bpf.xdp(short=XDP_ABORTED)
def prog(pkt: Packet) -> XdpAction:
    match pkt.read(Ethernet).type:
        case 0x0800:
            proto = pkt.read(IPv4).protocol
        case 0x86DD:
            proto = pkt.read(IPv6).next_header
        case _:
            return XDP_PASS
    match proto:
        case 6:
            port = pkt.read(TCP).dest
        case 17:
            port = pkt.read(UDP).dest
        case _:
            hits[7] += 1
            return XDP_DROP
    slot = u32(0)
    if port == 53:
        slot = u32(1)
    elif port in PORTS:
        slot = u32(2)
    elif port >= 1024:
        slot = u32(3)
    hits[slot] += 1
    return XDP_TX if slot == 1 else XDP_PASS
""",
    "options walk": """
sizes = bpf.Hash[u8, u32](max_entries=64)
@bpf.xdp(short=XDP_PASS)
def prog(pkt: Packet) -> XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return XDP_PASS
    if pkt.read(IPv4).protocol != IPPROTO_UDP:
        return XDP_PASS
    pkt.read(UDP)
    seen = u32(0)
    while seen < 8:
        kind = pkt.peek(u8)
        if kind is None:
            break
        pkt.read(u8)
        if kind == 0:
            break
        sizes[kind] = seen
        seen += 1
    else:
        return XDP_TX
    return XDP_DROP if seen > 4 else XDP_PASS
""",
    "count-min": """
class Row(Struct):
    cells: array[u32, 64]
rows = bpf.Array[Row](max_entries=3)
SEEDS = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35)
def mix(value: u32, seed: u32) -> u32:
    value = (value ^ seed) * 0x9E3779B1
    value ^= value >> 15
    return value * 0x85EBCA6B
@bpf.xdp(short=XDP_PASS)
def prog(pkt: Packet) -> XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return XDP_PASS
    source = pkt.read(IPv4).src.to_host()
    least = u32(0xFFFFFFFF)
    index = u32(0)
    for seed in SEEDS:
        row = rows.get(index)
        if row is not None:
            cell = mix(source, seed) & 63
            row.cells[cell] += 1
            least = min(least, row.cells[cell])
        index += 1
    return XDP_DROP if least > 5 else XDP_PASS
""",
    "dns names": """
lengths = bpf.Hash[u32, u64](max_entries=64)
@bpf.xdp(short=XDP_DROP)
def prog(pkt: Packet) -> XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return XDP_PASS
    if pkt.read(IPv4).protocol != IPPROTO_UDP or pkt.read(UDP).dest != 53:
        return XDP_PASS
    total = u32(0)
    digest = u64(5381)
    for _ in range(16):
        byte = pkt.read(u8)
        if byte == 0x21:
            break
        digest = digest * 33 + u64(byte)
        total += 1
    else:
        return XDP_ABORTED
    lengths[total] = digest
    return XDP_TX
""",
    "token bucket": """
class Bucket(Struct):
    tokens: u64
    drops: u64
buckets = bpf.Hash[IPv4Addr, Bucket](max_entries=64)
RATE, BURST = 3, 10
@bpf.xdp
def prog(pkt: Packet) -> XdpAction:
    eth = pkt.peek(Ethernet)
    if eth is None or eth.type != ETH_P_IP:
        return XDP_PASS
    pkt.read(Ethernet)
    ip = pkt.peek(IPv4)
    if ip is None:
        return XDP_DROP
    bucket = buckets.get(ip.src)
    if bucket is None:
        buckets[ip.src] = Bucket(tokens=BURST - 1, drops=0)
        return XDP_PASS
    fresh = bucket.tokens + u64(len(pkt)) % RATE
    bucket.tokens = min(fresh, u64(BURST))
    if bucket.tokens < 2:
        bucket.drops += 1
        return XDP_DROP
    bucket.tokens -= 2
    return XDP_PASS
""",
    "load balancer": """
class Backend(Struct):
    address: IPv4Addr
    mac: MAC
    weight: u16
backends = bpf.Array[Backend](max_entries=4)
backends[0] = Backend(address=IPv4Addr("10.1.0.1"), mac=MAC("02:00:00:00:01:01"), weight=1)
backends[1] = Backend(address=IPv4Addr("10.1.0.2"), mac=MAC("02:00:00:00:01:02"), weight=1)
backends[3] = Backend(address=IPv4Addr("10.1.0.4"), mac=MAC("02:00:00:00:01:04"), weight=1)
sticky = bpf.Hash[u32, u32](max_entries=256)
@bpf.xdp(short=XDP_DROP)
def prog(pkt: Packet) -> XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol not in (IPPROTO_TCP, IPPROTO_UDP):
        return XDP_PASS
    ports = pkt.read(Ports)
    key = ip.src.to_host() ^ (u32(ports.source.to_host()) << 16) ^ u32(ports.dest.to_host())
    choice = sticky.get(key)
    if choice is None:
        index = (key * 0x9E3779B1) >> 30
        sticky[key] = index
    else:
        index = choice
    backend = backends.get(index)
    if backend is None or backend.weight == 0:
        return XDP_DROP
    ip.checksum = csum_replace4(ip.checksum, ip.dst, backend.address)
    ip.dst = backend.address
    eth.dst = backend.mac
    return XDP_TX
class Ports(Header):
    source: be16
    dest: be16
""",
    "string match": """
class Body(Header):
    text: array[u8, 8]
@bpf.xdp(short=XDP_PASS)
def prog(pkt: Packet) -> XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP or pkt.read(IPv4).protocol != IPPROTO_UDP:
        return XDP_PASS
    pkt.read(UDP)
    body = pkt.read(Body)
    if body.text == b"payload!":
        for i in range(8):
            body.text[i] ^= 0x20
        body.text[(body.text[0] & 7)] = 0
        return XDP_TX
    return XDP_DROP
""",
}


@pytest.mark.kernel
@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_a_whole_program(text: str, tmp_path: Path):
    prog = load_module(PRELUDE + text, tmp_path).prog
    compiled = check(prog, frames(), kernel=True)
    assert check_lines(compiled) > 10


INDEXED = {
    "if": "if C:\n    A[i] += 1\n    d.r0 = u64(A[i])\n",
    "early return": "if not (C):\n    return XDP_DROP\nA[i] = d.y8\nd.t8 = A[i]\n",
    "while": "while C:\n    A[i] = 3\n    i += 1\n",
    "loop inside": "n = u32(0)\nif C:\n    for _ in range(3):\n        n += u32(A[i])\n        A[i] = 9\nd.x32 = n\n",
}


@pytest.mark.kernel
@pytest.mark.parametrize("field", ["d.x8", "d.x32", "d.x64", "d.p32"])
@pytest.mark.parametrize("array", ["d.arr", "local", "held[1]", "held3[1]"])
@pytest.mark.parametrize("shape", INDEXED.values(), ids=INDEXED)
def test_the_verifier_sees_what_bounds_an_index(shape: str, array: str, field: str, tmp_path: Path):
    length = 3 if array == "held3[1]" else 8
    condition = f"0 <= i < {length}" if field == "d.p32" else f"i < {length}"
    body = shape.replace("C", condition).replace("A", array)
    body = f"d = pkt.read(Data)\nlocal = array[u8, 8](b'12345678')\ni = {field}\n{body}d.arr = local\nreturn XDP_PASS\n"
    before = "held = bpf.Array[array[u8, 8]](max_entries=2)\nheld3 = bpf.Array[array[u8, 3]](max_entries=2)\n"
    check(program(body, tmp_path, before), packets(3), kernel=True)
