"""Hand UDP packets of chosen ports to AF_XDP sockets."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, u32
from ebpfkit.net import ETH_P_IP, ETH_P_IPV6, IPPROTO_UDP, UDP, Ethernet, IPv4, IPv6

LICENSE = "Dual MIT/GPL"

sockets = bpf.XskMap(max_entries=64)
ports = bpf.Hash[be16, u32](max_entries=256)  # UDP port -> index in sockets


@bpf.xdp(short=bpf.XDP_PASS)
def steer(pkt: Packet) -> bpf.XdpAction:
    kind = pkt.read(Ethernet).type
    if kind == ETH_P_IP:
        ip = pkt.read(IPv4)
        if ip.protocol != IPPROTO_UDP or ip.fragment_offset != 0:
            return bpf.XDP_PASS
    elif kind == ETH_P_IPV6:
        if pkt.read(IPv6).next_header != IPPROTO_UDP:
            return bpf.XDP_PASS
    else:
        return bpf.XDP_PASS
    slot = ports.get(pkt.read(UDP).dest)
    if slot is None:
        return bpf.XDP_PASS
    return sockets.redirect(slot, otherwise=bpf.XDP_PASS)
