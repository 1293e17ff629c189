"""Cut packets at the end: tools/testing/selftests/bpf/progs/test_xdp_adjust_tail_shrink.c."""

import ebpfkit as bpf
from ebpfkit import Packet, u8, u16

LICENSE = "GPL"


@bpf.xdp(short=bpf.XDP_DROP)
def tail_shrink(pkt: Packet) -> bpf.XdpAction:
    size = u16(20)
    match len(pkt):
        case 54:
            size = u16(256)
        case 9000:
            match pkt.read(u8):
                case 0:
                    size = u16(10)
                case 1:
                    size = u16(4100)
                case 2:
                    size = u16(8200)
                case _:
                    return bpf.XDP_DROP
        case _:
            pass
    pkt.trim(size)
    return bpf.XDP_TX
