"""An LRU table of flows of both families, keyed by the five-tuple."""

import ebpfkit as bpf
from ebpfkit import IPv6Addr, Packet, be16, helpers, u8, u64
from ebpfkit.net import (
    ETH_P_IP,
    ETH_P_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    TCP,
    UDP,
    Ethernet,
    IPv4,
    IPv4Addr,
    IPv6,
)

LICENSE = "GPL"


class Flow4(bpf.Struct, padding=True):
    src: IPv4Addr
    dst: IPv4Addr
    sport: be16
    dport: be16
    protocol: u8


class Flow6(bpf.Struct, padding=True):
    src: IPv6Addr
    dst: IPv6Addr
    sport: be16
    dport: be16
    protocol: u8


class Stats(bpf.Struct):
    packets: u64
    bytes: u64
    first: u64
    last: u64
    flags: u8


flows4 = bpf.LruHash[Flow4, Stats](max_entries=65536)
flows6 = bpf.LruHash[Flow6, Stats](max_entries=65536)


def account(stats: Stats, size: u64, now: u64, flags: u8) -> None:
    stats.packets += 1
    stats.bytes += size
    stats.last = now
    stats.flags |= flags


class Transport(bpf.Struct):
    sport: be16
    dport: be16
    flags: u8


def transport_of(pkt: Packet, protocol: u8) -> Transport:
    found = Transport.zero()
    if protocol == IPPROTO_TCP:
        tcp = pkt.read(TCP)
        found.sport, found.dport = tcp.source, tcp.dest
        found.flags = u8(tcp.fin | tcp.syn << 1 | tcp.rst << 2 | tcp.psh << 3 | tcp.ack << 4 | tcp.urg << 5)
    elif protocol == IPPROTO_UDP:
        udp = pkt.read(UDP)
        found.sport, found.dport = udp.source, udp.dest
    return found


@bpf.xdp(short=bpf.XDP_PASS)
def flows(pkt: Packet) -> bpf.XdpAction:
    kind = pkt.read(Ethernet).type
    now = helpers.ktime_get_ns()
    size = u64(len(pkt))
    if kind == ETH_P_IP:
        ip4 = pkt.read(IPv4)
        ends = transport_of(pkt, ip4.protocol)
        key4 = Flow4(src=ip4.src, dst=ip4.dst, sport=ends.sport, dport=ends.dport, protocol=ip4.protocol)
        stats = flows4.get(key4)
        if stats is None:
            flows4[key4] = Stats(packets=1, bytes=size, first=now, last=now, flags=ends.flags)
        else:
            account(stats, size, now, ends.flags)
    elif kind == ETH_P_IPV6:
        ip6 = pkt.read(IPv6)
        ends = transport_of(pkt, ip6.next_header)
        key6 = Flow6(src=ip6.src, dst=ip6.dst, sport=ends.sport, dport=ends.dport, protocol=ip6.next_header)
        stats = flows6.get(key6)
        if stats is None:
            flows6[key6] = Stats(packets=1, bytes=size, first=now, last=now, flags=ends.flags)
        else:
            account(stats, size, now, ends.flags)
    return bpf.XDP_PASS
