"""Answer pings, with the checksum updated rather than computed anew."""

import ebpfkit as bpf
from ebpfkit import Packet, be16
from ebpfkit.net import (
    ETH_P_IP,
    ICMP,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    IPPROTO_ICMP,
    Ethernet,
    IPv4,
    csum_replace2,
)

LICENSE = "Dual MIT/GPL"


@bpf.xdp(short=bpf.XDP_PASS)
def echo(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_ICMP:
        return bpf.XDP_PASS
    icmp = pkt.read(ICMP)
    if icmp.type != ICMP_ECHO:
        return bpf.XDP_PASS
    icmp.type = ICMP_ECHOREPLY
    icmp.checksum = csum_replace2(icmp.checksum, be16(ICMP_ECHO << 8), be16(ICMP_ECHOREPLY << 8))
    eth.dst, eth.src = eth.src, eth.dst
    ip.dst, ip.src = ip.src, ip.dst
    return bpf.XDP_TX
