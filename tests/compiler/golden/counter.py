"""Counts UDP packets by port."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4

LICENSE = "GPL"
ports = bpf.Hash[be16, u64](max_entries=1024)


def is_udp(pkt: Packet) -> bool:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return False
    return pkt.read(IPv4).protocol == IPPROTO_UDP


@bpf.xdp(short=bpf.XDP_PASS)
def counter(pkt: Packet) -> bpf.XdpAction:
    if is_udp(pkt):
        port = pkt.read(UDP).dest
        count = ports.get(port)
        if count is not None:
            count.atomic_add(1)
        else:
            ports[port] = 1
    return bpf.XDP_PASS
