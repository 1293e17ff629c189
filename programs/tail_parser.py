"""A parser in pieces: the program for each kind of header is in a table, and tail calls lead there."""

import ebpfkit as bpf
from ebpfkit import Packet, u64
from ebpfkit.net import (
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_IP,
    ETH_P_IPV6,
    IPPROTO_NONE,
    VLAN,
    Ethernet,
    IPv4,
    IPv6,
)

LICENSE = "Dual MIT/GPL"
PARSE_IPV4, PARSE_IPV6, PARSE_VLAN = range(3)

parsers = bpf.ProgArray(max_entries=8)
protocols = bpf.PerCpuArray[u64](max_entries=256)
tagged = bpf.PerCpuArray[u64](max_entries=1)


def parse(pkt: Packet, kind: bpf.be16) -> bpf.XdpAction:
    if kind == ETH_P_IP:
        parsers.tail_call(pkt, PARSE_IPV4)
    elif kind == ETH_P_IPV6:
        parsers.tail_call(pkt, PARSE_IPV6)
    elif kind in (ETH_P_8021Q, ETH_P_8021AD):
        parsers.tail_call(pkt, PARSE_VLAN)
    return bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_DROP)
def tail_parser(pkt: Packet) -> bpf.XdpAction:
    return parse(pkt, pkt.read(Ethernet).type)


@bpf.xdp(short=bpf.XDP_DROP)
def untag(pkt: Packet) -> bpf.XdpAction:
    """Take the tag off, so that the next program finds its header where it always is."""
    eth = pkt.read(Ethernet).copy()
    eth.type = pkt.read(VLAN).type
    tagged[0] += 1
    pkt.pop_head(bpf.sizeof(VLAN))
    pkt.write(eth)
    return parse(pkt, eth.type)


@bpf.xdp(short=bpf.XDP_DROP)
def ipv4(pkt: Packet) -> bpf.XdpAction:
    pkt.skip(bpf.sizeof(Ethernet))
    ip = pkt.read(IPv4)
    protocols[ip.protocol] += 1
    return bpf.XDP_PASS if ip.version == 4 and ip.ttl else bpf.XDP_DROP


@bpf.xdp(short=bpf.XDP_DROP)
def ipv6(pkt: Packet) -> bpf.XdpAction:
    pkt.skip(bpf.sizeof(Ethernet))
    ip = pkt.read(IPv6)
    protocols[ip.next_header] += 1
    return bpf.XDP_PASS if ip.next_header != IPPROTO_NONE and ip.hop_limit else bpf.XDP_DROP


parsers[PARSE_IPV4] = ipv4
parsers[PARSE_IPV6] = ipv6
parsers[PARSE_VLAN] = untag
