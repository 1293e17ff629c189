"""Take the outer VLAN tag off, and leave its id to later readers in front of the packet (metadata)."""

import ebpfkit as bpf
from ebpfkit import Packet, u32
from ebpfkit.net import ETH_P_8021AD, ETH_P_8021Q, VLAN, Ethernet

LICENSE = "Dual MIT/GPL"


class Mark(bpf.Struct):
    vlan: u32


@bpf.xdp(short=bpf.XDP_DROP)
def vlan_pop(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet).copy()
    if eth.type not in (ETH_P_8021Q, ETH_P_8021AD):
        return bpf.XDP_PASS
    tag = pkt.read(VLAN).copy()
    pkt.pop_head(bpf.sizeof(VLAN))
    pkt.write(Ethernet(dst=eth.dst, src=eth.src, type=tag.type))
    pkt.push_meta(Mark).vlan = u32(tag.vlan_id)
    return bpf.XDP_PASS
