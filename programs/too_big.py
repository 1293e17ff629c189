"""Answer IPv4 packets above the MTU that must not be fragmented: ICMP "fragmentation needed" with the MTU to use."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, be16, be32, helpers, u8, u16, u32
from ebpfkit.net import (
    ETH_P_IP,
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    IPPROTO_ICMP,
    Ethernet,
    ICMPError,
    IPv4,
    IPv4Addr,
    csum_fold,
    ipv4_checksum,
)

LICENSE = "Dual MIT/GPL"
MTU = bpf.config(u32, 1400)
ME = IPv4Addr("10.0.0.254")
QUOTED = bpf.sizeof(IPv4) + 8  # of the packet in question
KEPT = bpf.sizeof(Ethernet) + QUOTED


class Answer(bpf.Header):
    icmp: ICMPError
    quoted: array[u8, Literal[28]]


@bpf.xdp(short=bpf.XDP_PASS)
def too_big(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if u32(ip.total_length.to_host()) <= MTU or not ip.flags & 2:
        return bpf.XDP_PASS
    if len(pkt) < KEPT:
        return bpf.XDP_DROP
    to, sender, target = eth.src, eth.dst, ip.src
    pkt.trim(u16(len(pkt)) - KEPT)
    pkt.push_head(bpf.sizeof(IPv4) + bpf.sizeof(ICMPError))
    pkt.write(Ethernet(dst=to, src=sender, type=ETH_P_IP))
    size = u16(bpf.sizeof(IPv4) + bpf.sizeof(Answer))
    outer = pkt.write(IPv4(total_length=size, protocol=IPPROTO_ICMP, src=ME, dst=target))
    outer.checksum = ipv4_checksum(outer)
    answer = pkt.read(Answer)
    answer.icmp = ICMPError(type=ICMP_DEST_UNREACH, code=ICMP_FRAG_NEEDED, mtu=be32(MTU))
    answer.icmp.checksum = be16.from_raw(csum_fold(u32(helpers.csum_diff(None, 0, answer, bpf.sizeof(Answer), 0))))
    return bpf.XDP_TX
