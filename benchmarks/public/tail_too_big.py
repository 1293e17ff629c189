"""Answer IPv4 packets above a size with ICMP "fragmentation needed": samples/bpf/xdp_adjust_tail_kern.c."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, be16, helpers, s64, u8, u16, u32, u64
from ebpfkit.net import (
    ETH_P_IP,
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    IPPROTO_ICMP,
    Ethernet,
    IPv4,
    csum_fold,
)

LICENSE = "GPL"
KEPT = 98
ADDED = 28

max_pcktsz = bpf.config(u32, 600)
icmpcnt = bpf.Array[u64](max_entries=1)


class Answer(bpf.Header):
    type: u8
    code: u8
    checksum: be16
    unused: be16
    mtu: be16
    quoted: array[u8, Literal[84]]


def finish(total: s64) -> be16:
    return be16.from_raw(csum_fold(u32(total)))


@bpf.xdp(short=bpf.XDP_DROP)
def tail_too_big(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet).copy()
    if eth.type != ETH_P_IP or len(pkt) <= max(max_pcktsz, u32(KEPT)):
        return bpf.XDP_PASS
    old = pkt.read(IPv4)
    src, dst = old.src, old.dst
    pkt.trim(u16(len(pkt)) - KEPT)
    pkt.push_head(ADDED)
    pkt.write(Ethernet(dst=eth.src, src=eth.dst, type=eth.type))
    ip = pkt.peek(IPv4)
    if ip is None:
        return bpf.XDP_DROP
    pkt.skip(bpf.sizeof(IPv4))
    answer = pkt.read(Answer)
    answer.type, answer.code = ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED
    answer.mtu = u16(max_pcktsz - bpf.sizeof(Ethernet))
    answer.checksum = 0
    answer.checksum = finish(helpers.csum_diff(None, 0, answer, bpf.sizeof(Answer), 0))
    ip.version, ip.ihl, ip.tos, ip.ttl, ip.protocol = 4, 5, 0, 64, IPPROTO_ICMP
    ip.total_length = KEPT + ADDED - bpf.sizeof(Ethernet)
    ip.src, ip.dst = dst, src
    ip.checksum = 0
    ip.checksum = finish(helpers.csum_diff(None, 0, ip, bpf.sizeof(IPv4), 0))
    icmpcnt[0] += 1
    return bpf.XDP_TX
