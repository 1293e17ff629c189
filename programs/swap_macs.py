"""Send every packet back where it came from."""

import ebpfkit as bpf
from ebpfkit import Packet
from ebpfkit.net import Ethernet

LICENSE = "Dual MIT/GPL"


@bpf.xdp(short=bpf.XDP_DROP)
def swap_macs(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    eth.dst, eth.src = eth.src, eth.dst  # addresses are values: no third variable needed
    return bpf.XDP_TX
