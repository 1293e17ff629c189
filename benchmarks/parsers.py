"""Programs for `benchmarks/verifier.py`: parsers and loops of the kind that network programs have, one job each.

Not examples of style: each is here because verifying it takes a walk of some thousand instructions.
"""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, be16, be32, u8, u16, u32, u64
from ebpfkit.net import (
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_IP,
    ETH_P_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    TCP,
    UDP,
    VLAN,
    Ethernet,
    IPv4,
    IPv6,
    csum_fold,
)

LICENSE = "GPL"


class Block(bpf.Header):
    bytes: array[u8, Literal[64]]


class Words(bpf.Header):
    words: array[be16, Literal[30]]


class Extension(bpf.Header):
    next_header: u8
    length: u8


class Label(bpf.Header):
    word: be32


class Flow(bpf.Struct):
    packets: u64
    bytes: u64


class Question(bpf.Struct):
    length: u32
    name: array[u8, Literal[64]]


flows = bpf.Hash[u32, Flow](max_entries=4096)
hits = bpf.PerCpuArray[u64](max_entries=256)
names = bpf.RingBuf[Question](max_entries=65536)
ports = bpf.Hash[be16, u32](max_entries=256)
backends = bpf.Array[u32](max_entries=64)


@bpf.xdp(short=bpf.XDP_PASS)
def tcp_options(pkt: Packet) -> bpf.XdpAction:
    """Look for the maximum segment size among the options."""
    if pkt.read(Ethernet).type != ETH_P_IP or pkt.read(IPv4).protocol != IPPROTO_TCP:
        return bpf.XDP_PASS
    tcp = pkt.peek(TCP)
    if tcp is None or not tcp.syn or tcp.data_offset < 5:
        return bpf.XDP_PASS
    pkt.skip(bpf.sizeof(TCP))
    left = (tcp.data_offset - 5) * 4
    for _ in range(12):
        if left < 4:
            break
        kind = pkt.read(u8)
        left -= 1
        if kind == 0:
            break
        if kind == 1:
            continue
        size = pkt.read(u8)
        if size < 2 or u16(size) > left + 1:
            break
        if kind == 2:
            pkt.read(be16)
            return bpf.XDP_TX
        pkt.skip(size - 2)
        left -= u16(size) - 1
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_PASS)
def payload_hash(pkt: Packet) -> bpf.XdpAction:
    """FNV-1a over 64 bytes of payload."""
    if pkt.read(Ethernet).type != ETH_P_IP or pkt.read(IPv4).protocol != IPPROTO_UDP:
        return bpf.XDP_PASS
    pkt.read(UDP)
    block = pkt.read(Block)
    digest = u32(2166136261)
    for byte in block.bytes:
        digest = (digest ^ u32(byte)) * 16777619
    hits[digest & 255] += 1
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_PASS)
def first_zero(pkt: Packet) -> bpf.XdpAction:
    """The place of the first zero byte."""
    block = pkt.read(Block)
    for i in range(64):
        if block.bytes[i] == 0:
            hits[u32(i)] += 1
            return bpf.XDP_DROP
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_PASS)
def count_letters(pkt: Packet) -> bpf.XdpAction:
    """Bytes by kind: every byte forks the path a few times."""
    block = pkt.read(Block)
    letters = u32(0)
    digits = u32(0)
    for i in range(9):
        byte = block.bytes[i]
        if 97 <= byte <= 122:
            letters += 1
        elif 48 <= byte <= 57:
            digits += 1
    hits[letters & 255] += 1
    if digits > 3:
        return bpf.XDP_DROP
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_PASS)
def byte_reader(pkt: Packet) -> bpf.XdpAction:
    """A bounds check for each of 200 bytes."""
    total = u64(0)
    for _ in range(200):
        byte = pkt.read(u8)
        if byte == 10:
            break
        total += u64(byte)
    hits[u32(total) & 255] += 1
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_PASS)
def ipv6_extensions(pkt: Packet) -> bpf.XdpAction:
    """Walk the extension headers to the transport header."""
    if pkt.read(Ethernet).type != ETH_P_IPV6:
        return bpf.XDP_PASS
    kind = pkt.read(IPv6).next_header
    for _ in range(10):
        if kind in (0, 43, 60, 135):
            header = pkt.read(Extension)
            kind = header.next_header
            pkt.skip((u16(header.length) * 8 + 6) & 0xFFF)
        elif kind == 44:
            header = pkt.read(Extension)
            kind = header.next_header
            pkt.skip(6)
        elif kind == 51:
            header = pkt.read(Extension)
            kind = header.next_header
            pkt.skip((u16(header.length) * 4 + 6) & 0xFFF)
        else:
            break
    if kind == IPPROTO_UDP:
        hits[1] += 1
        return bpf.XDP_DROP if pkt.read(UDP).dest in ports else bpf.XDP_PASS
    hits[2] += 1
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_PASS)
def dns_name(pkt: Packet) -> bpf.XdpAction:
    """Copy a domain name into a record."""
    if pkt.read(Ethernet).type != ETH_P_IP or pkt.read(IPv4).protocol != IPPROTO_UDP:
        return bpf.XDP_PASS
    if pkt.read(UDP).dest != 53:
        return bpf.XDP_PASS
    pkt.skip(12)
    record = Question.zero()
    for i in range(64):
        byte = pkt.read(u8)
        if byte == 0:
            break
        if 65 <= byte <= 90:
            byte += 32
        record.name[i] = byte
        record.length += 1
    names.output(record)
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_DROP)
def tagged(pkt: Packet) -> bpf.XdpAction:
    """Tags and labels in front of IP, then a policy by port."""
    kind = pkt.read(Ethernet).type
    for _ in range(8):
        if kind not in (ETH_P_8021Q, ETH_P_8021AD):
            break
        kind = pkt.read(VLAN).type
    if kind == 0x8847:
        for _ in range(16):
            label = pkt.read(Label)
            if label.word.to_host() >> 8 & 1:
                break
    if kind == ETH_P_IP or kind == 0x8847:
        ip = pkt.read(IPv4)
        protocol = ip.protocol
    elif kind == ETH_P_IPV6:
        protocol = pkt.read(IPv6).next_header
    else:
        return bpf.XDP_PASS
    port = be16(0)
    if protocol == IPPROTO_TCP:
        port = pkt.read(TCP).dest
    elif protocol == IPPROTO_UDP:
        port = pkt.read(UDP).dest
    slot = ports.get(port)
    if slot is None:
        return bpf.XDP_DROP
    hits[slot & 255] += 1
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_PASS)
def ip_checksum(pkt: Packet) -> bpf.XdpAction:
    """Sum 60 bytes word by word."""
    pkt.read(Ethernet)
    words = pkt.read(Words)
    total = u32(0)
    for word in words.words:
        total += u32(word.to_host())
    if csum_fold(total) == 0:
        return bpf.XDP_PASS
    hits[0] += 1
    return bpf.XDP_DROP


@bpf.xdp(short=bpf.XDP_PASS)
def balance(pkt: Packet) -> bpf.XdpAction:
    """Hash a flow, try several slots, count it."""
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    digest = ip.src.to_host() ^ ip.dst.to_host()
    for i in range(8):
        digest = digest << 5 | digest >> 27
        digest += u32(i) * 0x9E3779B1
        weight = backends[digest & 63]
        if weight > 10:
            flow = flows.get(digest)
            if flow is not None:
                flow.packets.atomic_add(1)
                flow.bytes.atomic_add(u64(len(pkt)))
                return bpf.XDP_TX
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_PASS)
def signature(pkt: Packet) -> bpf.XdpAction:
    """Look for a pattern of four bytes anywhere in 64."""
    block = pkt.read(Block)
    state = u32(0)
    for i in range(64):
        byte = block.bytes[i]
        if byte == 0x47:
            state = u32(1)
        elif byte == 0x45 and state == 1:
            state = u32(2)
        elif byte == 0x54 and state == 2:
            state = u32(3)
        elif byte == 0x20 and state == 3:
            hits[u32(i)] += 1
            return bpf.XDP_DROP
        else:
            state = u32(0)
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_PASS)
def bucket_scan(pkt: Packet) -> bpf.XdpAction:
    """Look into some entries of a map, whatever the packet."""
    best = u32(0xFFFFFFFF)
    chosen = u32(0)
    for i in range(9):
        load = backends[u32(i)]
        if load < best:
            best = load
            chosen = u32(i)
    hits[chosen & 255] += 1
    return bpf.XDP_PASS if best < 100 else bpf.XDP_DROP


@bpf.xdp(short=bpf.XDP_PASS)
def long_sum(pkt: Packet) -> bpf.XdpAction:
    """A counted loop over nothing but numbers."""
    a = u64(len(pkt))
    b = u64(1)
    for i in range(2000):
        a = (a ^ b) * 31 + u64(i)
        b = b << 3 | a >> 7
    return bpf.XDP_PASS if a & 1 else bpf.XDP_DROP


@bpf.xdp(short=bpf.XDP_PASS)
def varints(pkt: Packet) -> bpf.XdpAction:
    """Decode up to eight numbers of variable length."""
    total = u64(0)
    for _ in range(8):
        number = u64(0)
        shift = u64(0)
        for _ in range(5):
            byte = pkt.read(u8)
            number |= u64(byte & 127) << (shift & 63)
            shift += 7
            if byte < 128:
                break
        total += number
    hits[u32(total) & 255] += 1
    return bpf.XDP_PASS
