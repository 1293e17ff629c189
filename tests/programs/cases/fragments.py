"""Let later fragments follow their first one only: a table of the first fragments that passed."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, u8
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4, IPv4Addr

LICENSE = "GPL"


class Datagram(bpf.Struct):
    src: IPv4Addr
    dst: IPv4Addr
    id: be16
    protocol: u8
    pad: u8 = u8(0)


passed = bpf.LruHash[Datagram, u8](max_entries=4096)


@bpf.xdp(short=bpf.XDP_DROP)
def fragments(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    more = ip.flags & 1 != 0
    if not more and ip.fragment_offset == 0:
        return bpf.XDP_PASS
    key = Datagram(src=ip.src, dst=ip.dst, id=ip.id, protocol=ip.protocol)
    if ip.fragment_offset == 0:
        if ip.protocol == IPPROTO_UDP and pkt.read(UDP).dest < 1024:
            return bpf.XDP_DROP
        passed[key] = 1
        return bpf.XDP_PASS
    if key not in passed:
        return bpf.XDP_DROP
    if not more:
        del passed[key]
    return bpf.XDP_PASS
