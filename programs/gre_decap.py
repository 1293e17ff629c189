"""Take GRE off packets of known tunnels: the inner IPv4 or IPv6 packet goes on in an Ethernet header of its own."""

import ebpfkit as bpf
from ebpfkit import Packet, u16, u64
from ebpfkit.net import ETH_P_IP, ETH_P_IPV6, GRE, IPPROTO_GRE, Ethernet, IPv4, IPv4Addr

LICENSE = "Dual MIT/GPL"

tunnels = bpf.Hash[IPv4Addr, u64](max_entries=1024)  # far end -> packets


@bpf.xdp(short=bpf.XDP_DROP)
def gre_decap(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet).copy()
    if eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_GRE:
        return bpf.XDP_PASS
    packets = tunnels.get(ip.src)
    if packets is None:
        return bpf.XDP_PASS
    gre = pkt.read(GRE)
    if gre.version != 0 or gre.protocol not in (ETH_P_IP, ETH_P_IPV6):
        return bpf.XDP_DROP
    packets.atomic_add(1)
    eth.type = gre.protocol
    fields = gre.has_checksum + gre.has_key + gre.has_sequence
    pkt.pop_head(u16(ip.ihl) * 4 + fields * 4 + bpf.sizeof(GRE))
    pkt.write(eth)
    return bpf.XDP_PASS
