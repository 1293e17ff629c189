"""Drop packets with source routing among their IPv4 options, and count every option seen."""

import ebpfkit as bpf
from ebpfkit import HeaderLength, Packet, u8, u16, u32
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4

LICENSE = "GPL"
END, NOP, LSRR, SSRR = 0, 1, 131, 137


class Option(bpf.Header, header_length=HeaderLength("size", 1, 40)):
    kind: u8
    size: u8


options = bpf.PerCpuArray[u32](max_entries=256)


@bpf.xdp(short=bpf.XDP_DROP)
def source_route(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.peek(IPv4)
    if ip is None or ip.version != 4 or ip.ihl < 5:
        return bpf.XDP_DROP
    pkt.skip(bpf.sizeof(IPv4))
    left = (u16(ip.ihl) - 5) * 4
    for _ in range(12):
        if left == 0:
            break
        kind = pkt.peek(u8)
        if kind is None:
            return bpf.XDP_DROP
        options[kind] += 1
        if kind in (LSRR, SSRR):
            return bpf.XDP_DROP
        if kind == END:
            break
        if kind == NOP:
            pkt.read(u8)
            left -= 1
            continue
        option = pkt.read(Option)  # and behind its `size` bytes
        if option.size < 2 or option.size > left:
            return bpf.XDP_ABORTED
        left -= u16(option.size)
    return bpf.XDP_PASS
