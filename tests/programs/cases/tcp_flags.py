"""Sort TCP packets by their flags; drop the combinations that nobody sends in earnest."""

import enum

import ebpfkit as bpf
from ebpfkit import Packet, u64
from ebpfkit.net import ETH_P_IP, ETH_P_IPV6, IPPROTO_TCP, TCP, Ethernet, IPv4, IPv6

LICENSE = "GPL"


class Kind(enum.IntEnum):
    SYN = 0
    SYNACK = 1
    FIN = 2
    RST = 3
    DATA = 4
    NULL = 5
    XMAS = 6
    BOGUS = 7


kinds = bpf.Array[u64](max_entries=8)


def classify(tcp: TCP) -> Kind:
    if tcp.syn and tcp.fin:
        return Kind.BOGUS
    if tcp.fin and tcp.psh and tcp.urg:
        return Kind.XMAS
    if tcp.rst:
        return Kind.RST
    if tcp.syn:
        return Kind.SYNACK if tcp.ack else Kind.SYN
    if tcp.fin:
        return Kind.FIN
    if not tcp.ack and not tcp.psh and not tcp.urg:
        return Kind.NULL
    return Kind.DATA


@bpf.xdp(short=bpf.XDP_PASS)
def tcp_flags(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type == ETH_P_IP:
        protocol = pkt.read(IPv4).protocol
    elif eth.type == ETH_P_IPV6:
        protocol = pkt.read(IPv6).next_header
    else:
        return bpf.XDP_PASS
    if protocol != IPPROTO_TCP:
        return bpf.XDP_PASS
    kind = classify(pkt.read(TCP))
    kinds[kind].atomic_add(1)
    return bpf.XDP_DROP if kind >= Kind.NULL else bpf.XDP_PASS
