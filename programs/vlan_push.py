"""Put a VLAN tag on every packet that has none: push_head makes room, the addresses move to the front."""

import ebpfkit as bpf
from ebpfkit import Packet, u16
from ebpfkit.net import ETH_P_8021AD, ETH_P_8021Q, VLAN, Ethernet

LICENSE = "Dual MIT/GPL"
TAG = bpf.config(u16, 100)


@bpf.xdp(short=bpf.XDP_DROP)
def vlan_push(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet).copy()
    if eth.type in (ETH_P_8021Q, ETH_P_8021AD):
        return bpf.XDP_PASS
    pkt.push_head(bpf.sizeof(VLAN))
    pkt.write(Ethernet(dst=eth.dst, src=eth.src, type=ETH_P_8021Q))
    pkt.write(VLAN(tci=TAG, type=eth.type))
    return bpf.XDP_PASS
