"""Learn which interface and queue each source address came by; report the ones that moved."""

import ebpfkit as bpf
from ebpfkit import MAC, Packet, helpers, u32, u64
from ebpfkit.net import Ethernet

LICENSE = "GPL"


class Port(bpf.Struct):
    ifindex: u32
    queue: u32
    packets: u64
    last: u64


class Move(bpf.Struct):
    mac: MAC
    before: u32
    after: u32


table = bpf.LruHash[MAC, Port](max_entries=1024)
moves = bpf.RingBuf[Move](max_entries=4096)


@bpf.xdp(short=bpf.XDP_DROP)
def mac_learn(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.src[0] & 1:
        return bpf.XDP_DROP
    here = Port(ifindex=pkt.ingress_ifindex, queue=pkt.rx_queue_index, packets=1, last=helpers.ktime_get_ns())
    known = table.get(eth.src)
    if known is None:
        table[eth.src] = here
        return bpf.XDP_PASS
    if known.ifindex != here.ifindex:
        moves.output(Move(mac=eth.src, before=known.ifindex, after=here.ifindex))
    here.packets += known.packets
    table[eth.src] = here
    return bpf.XDP_PASS
