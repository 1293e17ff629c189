"""Drop every packet: the shortest program there is."""

import ebpfkit as bpf
from ebpfkit import Packet

LICENSE = "Dual MIT/GPL"


@bpf.xdp
def drop_all(pkt: Packet) -> bpf.XdpAction:
    return bpf.XDP_DROP
