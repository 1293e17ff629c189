"""Take VXLAN off packets of known networks: the inner frame goes on, its network's mark in front (metadata)."""

import ebpfkit as bpf
from ebpfkit import Packet, u32
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, VXLAN, VXLAN_PORT, Ethernet, IPv4

LICENSE = "Dual MIT/GPL"


class Network(bpf.Struct):
    mark: u32
    packets: u32


networks = bpf.Hash[u32, Network](max_entries=1024)  # by VXLAN network identifier


@bpf.xdp(short=bpf.XDP_DROP)
def vxlan_decap(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_UDP or pkt.read(UDP).dest != VXLAN_PORT:
        return bpf.XDP_PASS
    vxlan = pkt.read(VXLAN)
    if not vxlan.valid:
        return bpf.XDP_DROP
    network = networks.get(vxlan.vni)
    if network is None:
        return bpf.XDP_DROP
    network.packets.atomic_add(1)
    pkt.pop_head(u32(ip.ihl) * 4 + bpf.sizeof(Ethernet) + bpf.sizeof(UDP) + bpf.sizeof(VXLAN))
    pkt.push_meta(Network).mark = network.mark
    return bpf.XDP_PASS
