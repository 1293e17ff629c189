"""Forward by longest prefix to a next hop: addresses rewritten, time to live lowered, out by its interface."""

import ebpfkit as bpf
from ebpfkit import MAC, Packet, helpers, u32, u64
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, IPv4Addr, decrement_ttl

LICENSE = "GPL"


class Hop(bpf.Struct):
    ifindex: u32
    source: MAC
    target: MAC


routes = bpf.LpmTrie[IPv4Addr, Hop](max_entries=1000)
routes["10.0.0.0/8"] = Hop(ifindex=1, source=MAC("02:00:00:00:00:0a"), target=MAC("02:00:00:00:00:0b"))
routes["10.1.0.0/16"] = Hop(ifindex=0, source=MAC(), target=MAC())
sent = bpf.PerCpuHash[u32, u64](max_entries=64)


@bpf.xdp(short=bpf.XDP_PASS)
def router(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.ttl <= 1:
        return bpf.XDP_PASS
    hop = routes.get(ip.dst)
    if hop is None:
        return bpf.XDP_PASS
    if hop.ifindex == 0:
        return bpf.XDP_DROP
    decrement_ttl(ip)
    eth.src, eth.dst = hop.source, hop.target
    count = sent.get(hop.ifindex)
    if count is None:
        sent[hop.ifindex] = 1
    else:
        count.atomic_add(1)
    return helpers.redirect(hop.ifindex, 0)
