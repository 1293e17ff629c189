"""Drop DNS queries for blocked names: the name in lower case, hashed label by label."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, u8, u16, u32, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4

LICENSE = "GPL"
FNV_OFFSET = 0xCBF29CE484222325
FNV_PRIME = 0x100000001B3
LONGEST = 96


class DNS(bpf.Header):
    id: be16
    response: u16 = bpf.bits(1)
    opcode: u16 = bpf.bits(4)
    flags: u16 = bpf.bits(7)
    rcode: u16 = bpf.bits(4)
    questions: be16
    answers: be16
    authorities: be16
    additional: be16


blocked = bpf.Hash[u64, u32](max_entries=1024)
types = bpf.Array[u64](max_entries=256)


def lower(c: u8) -> u8:
    return c + 32 if 65 <= c <= 90 else c


@bpf.xdp(short=bpf.XDP_DROP)
def dns_filter(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_UDP:
        return bpf.XDP_PASS
    if pkt.read(UDP).dest != 53:
        return bpf.XDP_PASS
    dns = pkt.read(DNS)
    if dns.response or dns.opcode != 0 or dns.questions == 0:
        return bpf.XDP_PASS
    digest = u64(FNV_OFFSET)
    left = u8(0)
    for _ in range(LONGEST):
        c = pkt.read(u8)
        if left == 0:
            if c == 0:
                break
            if c > 63:
                return bpf.XDP_DROP
            left = c
        else:
            c = lower(c)
            left -= 1
        digest = (digest ^ u64(c)) * FNV_PRIME
    else:
        return bpf.XDP_DROP
    qtype = pkt.read(be16)
    if qtype < 256:
        types[qtype.to_host()] += 1
    hit = blocked.get(digest)
    if hit is not None:
        hit.atomic_add(1)
        return bpf.XDP_DROP
    return bpf.XDP_PASS
