"""Fill in the UDP checksum of short datagrams that came without one."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, u8, u16, u32
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4, csum_fold, ipv4_pseudo_sum

LICENSE = "GPL"
LONGEST = 128


@bpf.xdp(short=bpf.XDP_DROP)
def udp_checksum(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_UDP or ip.fragment_offset != 0:
        return bpf.XDP_PASS
    udp = pkt.read(UDP)
    size = udp.length.to_host()
    if udp.checksum != 0 or size < 8 or size > LONGEST:
        return bpf.XDP_PASS
    words = (size - 8) // 2
    total = ipv4_pseudo_sum(ip.src, ip.dst, ip.protocol, size)
    total += u32(udp.source.to_host()) + u32(udp.dest.to_host()) + u32(size)
    for i in range(LONGEST // 2):
        if i >= words:
            break
        total += u32(pkt.read(be16).to_host())
    if size & 1:
        total += u32(pkt.read(u8)) << 8
    checksum = csum_fold(total)
    udp.checksum = checksum if checksum else u16(0xFFFF)
    return bpf.XDP_TX
