"""Leave a mark in front of the packet for a TC program: samples/bpf/xdp2skb_meta_kern.c."""

import ebpfkit as bpf
from ebpfkit import Packet, u32

LICENSE = ""


class Mark(bpf.Struct):
    mark: u32


@bpf.xdp
def meta_mark(pkt: Packet) -> bpf.XdpAction:
    pkt.push_meta(Mark).mark = 42
    return bpf.XDP_PASS
