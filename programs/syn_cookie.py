"""Answer SYNs with the kernel's SYN cookies, and let ACKs through only with a cookie that is right."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, be32, helpers, u16, u32
from ebpfkit.net import (
    ETH_P_IP,
    IPPROTO_TCP,
    TCP,
    Ethernet,
    IPv4,
    TCPMss,
    csum_fold,
    ipv4_checksum,
    ipv4_pseudo_sum,
)

LICENSE = "GPL"


class Segment(bpf.Header):
    tcp: TCP
    option: TCPMss


SIZE = bpf.sizeof(Segment)


@bpf.xdp(short=bpf.XDP_DROP)
def syn_cookie(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.peek(IPv4)
    if ip is None or ip.protocol != IPPROTO_TCP or ip.ihl != 5:
        return bpf.XDP_PASS
    pkt.skip(bpf.sizeof(IPv4))
    segment = pkt.read(Segment)  # every SYN in use has an option
    tcp = segment.tcp
    if tcp.ack and not tcp.syn:
        return bpf.XDP_PASS if helpers.tcp_raw_check_syncookie_ipv4(ip, tcp) == 0 else bpf.XDP_DROP
    if not tcp.syn or tcp.ack or tcp.rst or tcp.fin:
        return bpf.XDP_DROP
    head = segment.copy()
    head.tcp.data_offset = SIZE // 4  # the first option is that of the segment size
    cookie = helpers.tcp_raw_gen_syncookie_ipv4(ip, head, SIZE)
    if cookie < 0:
        return bpf.XDP_DROP
    eth.dst, eth.src = eth.src, eth.dst
    ip.total_length = u16(bpf.sizeof(IPv4) + SIZE)
    ip.ttl, ip.tos, ip.id = 64, 0, 0
    ip.src, ip.dst = ip.dst, ip.src
    ip.checksum = ipv4_checksum(ip)
    segment.tcp = TCP(
        source=tcp.dest,
        dest=tcp.source,
        seq=u32(cookie),
        ack_seq=tcp.seq.to_host() + 1,
        data_offset=6,
        syn=1,
        ack=1,
        window=0xFFFF,
    )
    segment.option = TCPMss(mss=u16(cookie >> 32))
    pseudo = be32(ipv4_pseudo_sum(ip.src, ip.dst, ip.protocol, u16(SIZE)))
    tcp.checksum = be16.from_raw(csum_fold(u32(helpers.csum_diff(None, 0, segment, SIZE, pseudo.raw()))))
    pkt.trim(u16(len(pkt)) - bpf.sizeof(Ethernet) - bpf.sizeof(IPv4) - SIZE)
    return bpf.XDP_TX
