"""Let only allowed VLANs pass, behind up to two tags."""

import ebpfkit as bpf
from ebpfkit import Packet, u8, u16
from ebpfkit.net import ETH_P_8021AD, ETH_P_8021Q, VLAN, Ethernet

LICENSE = "Dual MIT/GPL"
MAX_TAGS = 2

allowed = bpf.Hash[u16, u8](max_entries=4096)


@bpf.xdp(short=bpf.XDP_DROP)
def vlan(pkt: Packet) -> bpf.XdpAction:
    kind = pkt.read(Ethernet).type
    for _ in range(MAX_TAGS):
        if kind not in (ETH_P_8021Q, ETH_P_8021AD):
            break
        tag = pkt.read(VLAN)
        if tag.vlan_id not in allowed:
            return bpf.XDP_DROP
        kind = tag.type
    return bpf.XDP_PASS
