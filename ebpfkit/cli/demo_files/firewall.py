"""The firewall of `ebpfkit demo`. Edit a rule and run the demo again: what it shows changes."""

import ebpfkit as bpf
from ebpfkit import Packet, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4, IPv4Addr

LICENSE = "Dual MIT/GPL"

ECHO_PORT = 7007  # UDP to this port goes to the AF_XDP socket, when one is there


class Hits(bpf.Struct):
    packets: u64
    bytes: u64


blocked = bpf.LpmTrie[IPv4Addr, Hits](max_entries=1024)
seen = bpf.PerCpuArray[u64](max_entries=256)  # packets by IP protocol
sockets = bpf.XskMap(max_entries=64)  # AF_XDP sockets by queue


@bpf.xdp(short=bpf.XDP_DROP)
def firewall(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    seen[ip.protocol] += 1
    hit = blocked.get(ip.src)
    if hit is not None:
        hit.packets.atomic_add(1)
        hit.bytes.atomic_add(len(pkt))
        return bpf.XDP_DROP
    if ip.protocol == IPPROTO_UDP and pkt.read(UDP).dest == ECHO_PORT:
        return sockets.redirect(pkt.rx_queue_index, otherwise=bpf.XDP_PASS)
    return bpf.XDP_PASS


# The rules: what is put into a map before the load is in it from the first packet on.
blocked["192.0.2.0/24"] = Hits.zero()
blocked["198.51.100.7"] = Hits.zero()
