"""Forward by the kernel's routes to the interfaces of a map: samples/bpf/xdp_fwd_kern.c."""

import ebpfkit as bpf
from ebpfkit import Packet, helpers
from ebpfkit.net import (
    AF_INET,
    AF_INET6,
    ETH_P_IP,
    ETH_P_IPV6,
    FIB_LOOKUP_SUCCESS,
    Ethernet,
    FibLookup4,
    FibLookup6,
    IPv4,
    IPv6,
    decrement_ttl,
)

LICENSE = "GPL"

xdp_tx_ports = bpf.DevMap(max_entries=64)


@bpf.xdp(short=bpf.XDP_DROP)
def fwd(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type == ETH_P_IP:
        ip = pkt.read(IPv4)
        if ip.ttl <= 1:
            return bpf.XDP_PASS
        route = FibLookup4.zero()
        route.family, route.tos, route.l4_protocol = AF_INET, ip.tos, ip.protocol
        route.total_length = ip.total_length.to_host()
        route.src, route.dst = ip.src, ip.dst
        route.ifindex = pkt.ingress_ifindex
        if helpers.fib_lookup(pkt, route, bpf.sizeof(FibLookup4), 0) != FIB_LOOKUP_SUCCESS:
            return bpf.XDP_PASS
        verdict = xdp_tx_ports.redirect(route.ifindex, otherwise=bpf.XDP_PASS)
        if verdict == bpf.XDP_REDIRECT:
            decrement_ttl(ip)
            eth.dst, eth.src = route.dmac, route.smac
        return verdict
    if eth.type == ETH_P_IPV6:
        ip6 = pkt.read(IPv6)
        if ip6.hop_limit <= 1:
            return bpf.XDP_PASS
        route6 = FibLookup6.zero()
        route6.family, route6.l4_protocol = AF_INET6, ip6.next_header
        route6.flow = ip6.traffic_class << 20 | ip6.flow_label
        route6.total_length = ip6.payload_length.to_host()
        route6.src, route6.dst = ip6.src, ip6.dst
        route6.ifindex = pkt.ingress_ifindex
        if helpers.fib_lookup(pkt, route6, bpf.sizeof(FibLookup6), 0) != FIB_LOOKUP_SUCCESS:
            return bpf.XDP_PASS
        verdict = xdp_tx_ports.redirect(route6.ifindex, otherwise=bpf.XDP_PASS)
        if verdict == bpf.XDP_REDIRECT:
            ip6.hop_limit -= 1
            eth.dst, eth.src = route6.dmac, route6.smac
        return verdict
    return bpf.XDP_PASS
