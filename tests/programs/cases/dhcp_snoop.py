"""Drop DHCP offers and acks that come from servers nobody knows."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import MAC, Packet, array, be32, u8
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4, IPv4Addr

LICENSE = "GPL"
OFFER, ACK = 2, 5
COOKIE = 0x63825363


class Bootp(bpf.Header):
    op: u8
    htype: u8
    hlen: u8
    hops: u8
    xid: be32
    skip: array[u8, Literal[20]]
    chaddr: array[u8, Literal[16]]
    names: array[u8, Literal[192]]
    cookie: be32


servers = bpf.Hash[MAC, IPv4Addr](max_entries=16)
servers[MAC("02:00:00:00:00:01")] = IPv4Addr("192.0.2.1")
rogue = bpf.Hash[MAC, u8](max_entries=1024)


@bpf.xdp(short=bpf.XDP_PASS)
def dhcp_snoop(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_UDP or pkt.read(UDP).source != 67:
        return bpf.XDP_PASS
    bootp = pkt.read(Bootp)
    if bootp.op != 2 or bootp.cookie != COOKIE:
        return bpf.XDP_DROP
    kind = u8(0)
    for _ in range(16):
        code = pkt.read(u8)
        if code == 0:
            continue
        if code == 255:
            break
        size = pkt.read(u8)
        if code == 53 and size == 1:
            kind = pkt.read(u8)
            break
        pkt.skip(size)
    if kind not in (OFFER, ACK):
        return bpf.XDP_PASS
    known = servers.get(eth.src)
    if known is not None and known == ip.src:
        return bpf.XDP_PASS
    rogue[eth.src] = kind
    return bpf.XDP_DROP
