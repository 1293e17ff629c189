"""Mark ECN-capable IPv4 packets of busy flows as having met congestion."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, u16, u32
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, IPv4Addr, csum_replace2

LICENSE = "GPL"
NOT_ECT, ECT1, ECT0, CE = range(4)
seen = bpf.Hash[IPv4Addr, u32](max_entries=512)


def mark(ip: IPv4) -> None:
    head = u16(ip.version) << 12 | u16(ip.ihl) << 8
    before = head | u16(ip.tos)
    ip.tos |= CE
    ip.checksum = csum_replace2(ip.checksum, be16(before), be16(head | u16(ip.tos)))


@bpf.xdp
def ecn(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.peek(Ethernet)
    if eth is None or eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    pkt.read(Ethernet)
    ip = pkt.read(IPv4)
    if ip.dst not in seen:
        seen[ip.dst] = 0
    seen[ip.dst] += 1
    if seen[ip.dst] % 4 == 0 and ip.tos & 3 not in (NOT_ECT, CE):
        mark(ip)
    return bpf.XDP_PASS
