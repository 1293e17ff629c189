"""Answer ICMPv6 echo requests to one address."""

import ebpfkit as bpf
from ebpfkit import Packet, be16
from ebpfkit.net import (
    ETH_P_IPV6,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    IPPROTO_ICMPV6,
    Ethernet,
    ICMPv6,
    IPv6,
    IPv6Addr,
    csum_replace2,
)

LICENSE = "GPL"
MINE = IPv6Addr("2001:db8::1")


@bpf.xdp(short=bpf.XDP_PASS)
def ping6(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IPV6:
        return bpf.XDP_PASS
    ip = pkt.read(IPv6)
    if ip.next_header != IPPROTO_ICMPV6 or ip.dst != MINE:
        return bpf.XDP_PASS
    icmp = pkt.read(ICMPv6)
    if icmp.type != ICMPV6_ECHO_REQUEST or icmp.code != 0:
        return bpf.XDP_PASS
    icmp.type = ICMPV6_ECHO_REPLY
    icmp.checksum = csum_replace2(icmp.checksum, be16(ICMPV6_ECHO_REQUEST << 8), be16(ICMPV6_ECHO_REPLY << 8))
    ip.src, ip.dst = ip.dst, ip.src
    eth.src, eth.dst = eth.dst, eth.src
    ip.hop_limit = 64
    return bpf.XDP_TX
