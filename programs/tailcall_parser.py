"""A parser in pieces: each layer is a program of its own, and jumps to the next by a number from the packet."""

import ebpfkit as bpf
from ebpfkit import Packet, u8, u16, u64
from ebpfkit.net import ETH_P_IP, ETH_P_IPV6, IPPROTO_TCP, IPPROTO_UDP, TCP, UDP, Ethernet, IPv4, IPv6

LICENSE = "Dual MIT/GPL"

by_protocol = bpf.ProgArray(max_entries=256)  # by the protocol of an IP packet
by_version = bpf.ProgArray(max_entries=2)  # 0: IPv4, 1: IPv6
opened = bpf.PerCpuArray[u64](max_entries=1)  # connections that begin
blocked = bpf.Hash[u16, u8](max_entries=1024)  # UDP ports


@bpf.xdp(short=bpf.XDP_DROP)
def tailcall_parser(pkt: Packet) -> bpf.XdpAction:
    kind = pkt.read(Ethernet).type
    if kind == ETH_P_IP:
        by_version.tail_call(pkt, 0)
    elif kind == ETH_P_IPV6:
        by_version.tail_call(pkt, 1)
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_DROP)
def ipv4(pkt: Packet) -> bpf.XdpAction:
    pkt.read(Ethernet)
    by_protocol.tail_call(pkt, pkt.read(IPv4).protocol)
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_DROP)
def ipv6(pkt: Packet) -> bpf.XdpAction:
    pkt.read(Ethernet)
    by_protocol.tail_call(pkt, pkt.read(IPv6).next_header)
    return bpf.XDP_PASS


def skip_network(pkt: Packet) -> None:
    """The cursor begins again in each program."""
    if pkt.read(Ethernet).type == ETH_P_IP:
        pkt.read(IPv4)
    else:
        pkt.read(IPv6)


@bpf.xdp(short=bpf.XDP_DROP)
def tcp(pkt: Packet) -> bpf.XdpAction:
    skip_network(pkt)
    segment = pkt.read(TCP)
    if segment.syn and not segment.ack:
        opened[0] += 1
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_DROP)
def udp(pkt: Packet) -> bpf.XdpAction:
    skip_network(pkt)
    return bpf.XDP_DROP if pkt.read(UDP).dest.to_host() in blocked else bpf.XDP_PASS


by_version[0] = ipv4
by_version[1] = ipv6
by_protocol[IPPROTO_TCP] = tcp
by_protocol[IPPROTO_UDP] = udp
