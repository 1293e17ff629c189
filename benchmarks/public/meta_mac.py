"""Copy the destination address in front of the packet: tools/testing/selftests/bpf/progs/test_xdp_meta.c."""

import ebpfkit as bpf
from ebpfkit import MAC, Packet, u16

LICENSE = "GPL"


class Meta(bpf.Struct):
    mac: MAC
    pad: u16


@bpf.xdp(short=bpf.XDP_DROP)
def meta_mac(pkt: Packet) -> bpf.XdpAction:
    meta = pkt.push_meta(Meta)
    meta.mac = pkt.read(MAC)
    return bpf.XDP_PASS
