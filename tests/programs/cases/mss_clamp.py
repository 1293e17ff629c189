"""Lower the MSS of TCP SYNs to 1400, with the checksum kept right."""

import ebpfkit as bpf
from ebpfkit import HeaderLength, Packet, be16, u8, u16
from ebpfkit.net import ETH_P_IP, IPPROTO_TCP, TCP, Ethernet, IPv4, csum_replace2

LICENSE = "GPL"
MSS = 1400


class Mss(bpf.Header, header_length=HeaderLength("size", 1, 40)):
    kind: u8
    size: u8
    value: be16


@bpf.xdp(short=bpf.XDP_PASS)
def mss_clamp(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_TCP or ip.fragment_offset:
        return bpf.XDP_PASS
    tcp = pkt.peek(TCP)
    if tcp is None:
        return bpf.XDP_PASS
    if not tcp.syn:
        return bpf.XDP_PASS
    pkt.skip(bpf.sizeof(TCP))
    words = tcp.data_offset
    odd = False
    left = (words - 5) * 4 if words > 5 else words - words
    for _ in range(12):
        if left < 4:
            break
        mss = pkt.peek(Mss)
        if mss is None:
            break
        if mss.kind == 0:
            break
        if mss.kind == 1:
            pkt.read(u8)
            left -= 1
            odd = not odd
            continue
        if mss.kind == 2 and mss.size == 4:
            if mss.value > MSS and not odd:
                tcp.checksum = csum_replace2(tcp.checksum, mss.value, be16(MSS))
                mss.value = MSS
            return bpf.XDP_PASS
        if mss.size < 2 or mss.size > left:
            break
        option = pkt.read(Mss)  # and behind its `size` bytes
        odd = odd != (option.size & 1 != 0)
        left -= u16(option.size)
    return bpf.XDP_PASS
