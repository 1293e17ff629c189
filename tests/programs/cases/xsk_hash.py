"""Spread UDP flows over eight AF_XDP sockets by a hash of their addresses; ICMP to the last one."""

import ebpfkit as bpf
from ebpfkit import Packet, u32
from ebpfkit.net import ETH_P_IP, IPPROTO_ICMP, IPPROTO_UDP, Ethernet, IPv4

LICENSE = "GPL"
sockets = bpf.XskMap(max_entries=16)
chosen = bpf.PerCpuArray[u32](max_entries=9)


@bpf.xdp(short=bpf.XDP_DROP)
def xsk_hash(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    match ip.protocol:
        case 1:
            index = u32(8)
        case 17:
            folded = ip.src.to_host() ^ ip.dst.to_host()
            folded ^= folded >> 16
            index = (folded ^ folded >> 8) & 7
        case _:
            return bpf.XDP_PASS
    chosen[index] += 1
    return sockets.redirect(index, otherwise=bpf.XDP_DROP)


assert (IPPROTO_ICMP, IPPROTO_UDP) == (1, 17)
