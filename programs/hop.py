"""Do what a router does to a header: take one from the time to live, and drop what has lived long enough."""

import ebpfkit as bpf
from ebpfkit import Packet
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, decrement_ttl

LICENSE = "Dual MIT/GPL"


@bpf.xdp(short=bpf.XDP_DROP)
def hop(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.ttl <= 1:
        return bpf.XDP_DROP
    decrement_ttl(ip)
    return bpf.XDP_TX
