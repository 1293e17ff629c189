"""Packets to virtual addresses go through tunnels of their own family: samples/bpf/xdp_tx_iptunnel_kern.c."""

import ebpfkit as bpf
from ebpfkit import MAC, IPv6Addr, Packet, be16, u8, u16, u64
from ebpfkit.net import (
    AF_INET,
    AF_INET6,
    ETH_P_IP,
    ETH_P_IPV6,
    IPPROTO_IPIP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    TCP,
    UDP,
    Ethernet,
    IPv4,
    IPv4Addr,
    IPv6,
    ipv4_checksum,
)

LICENSE = "GPL"


class Address(bpf.Union):
    v6: IPv6Addr
    v4: IPv4Addr


class Vip(bpf.Struct, padding=True):
    daddr: Address
    dport: be16
    family: u16
    protocol: u8


class Tunnel(bpf.Struct):
    saddr: Address
    daddr: Address
    family: u16
    dmac: MAC


rxcnt = bpf.PerCpuArray[u64](max_entries=256)
vip2tnl = bpf.Hash[Vip, Tunnel](max_entries=256)


def port_of(pkt: Packet, protocol: u8) -> be16:
    if protocol == IPPROTO_TCP:
        return pkt.read(TCP).dest
    if protocol == IPPROTO_UDP:
        return pkt.read(UDP).dest
    return be16(0)


@bpf.xdp(short=bpf.XDP_DROP)
def iptunnel(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    sender, kind = eth.dst, eth.type
    vip = Vip.zero()
    if kind == ETH_P_IP:
        ip = pkt.peek(IPv4)
        if ip is None:
            return bpf.XDP_DROP
        pkt.skip(bpf.sizeof(IPv4))
        vip.protocol, vip.family, vip.daddr.v4 = ip.protocol, AF_INET, ip.dst
        size = ip.total_length.to_host()
    elif kind == ETH_P_IPV6:
        ip6 = pkt.read(IPv6)
        vip.protocol, vip.family, vip.daddr.v6 = ip6.next_header, AF_INET6, ip6.dst
        size = ip6.payload_length.to_host()
    else:
        return bpf.XDP_PASS
    vip.dport = port_of(pkt, vip.protocol)
    tunnel = vip2tnl.get(vip)
    if tunnel is None or tunnel.family != vip.family:
        return bpf.XDP_PASS
    if kind == ETH_P_IP:
        pkt.push_head(bpf.sizeof(IPv4))
        pkt.write(Ethernet(dst=tunnel.dmac, src=sender, type=ETH_P_IP))
        size += bpf.sizeof(IPv4)
        outer = pkt.write(
            IPv4(total_length=size, ttl=8, protocol=IPPROTO_IPIP, src=tunnel.saddr.v4, dst=tunnel.daddr.v4)
        )
        outer.checksum = ipv4_checksum(outer)
    else:
        pkt.push_head(bpf.sizeof(IPv6))
        pkt.write(Ethernet(dst=tunnel.dmac, src=sender, type=ETH_P_IPV6))
        size += bpf.sizeof(IPv6)
        pkt.write(
            IPv6(
                payload_length=size,
                next_header=IPPROTO_IPV6,
                hop_limit=8,
                src=tunnel.saddr.v6,
                dst=tunnel.daddr.v6,
            )
        )
    rxcnt[vip.protocol] += 1
    return bpf.XDP_TX
