"""Follow a stack of MPLS labels to its bottom, and count by the last label."""

import ebpfkit as bpf
from ebpfkit import Packet, u32, u64
from ebpfkit.net import Ethernet

LICENSE = "GPL"
ETH_P_MPLS = 0x8847


class Label(bpf.Header):
    label: u32 = bpf.bits(20)
    traffic_class: u32 = bpf.bits(3)
    bottom: u32 = bpf.bits(1)
    ttl: u32 = bpf.bits(8)


labels = bpf.Hash[u32, u64](max_entries=1 << 10)


@bpf.xdp(short=bpf.XDP_DROP)
def mpls(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_MPLS:
        return bpf.XDP_PASS
    depth = 0
    while depth < 8:
        entry = pkt.read(Label)
        if entry.ttl == 0:
            return bpf.XDP_DROP
        entry.ttl -= 1
        if entry.bottom:
            if entry.label in labels:
                labels[entry.label] += 1
            else:
                labels[entry.label] = 1
            return bpf.XDP_TX
        depth += 1
    return bpf.XDP_ABORTED
