"""Tell Ethernet II from 802.3 with LLC, and drop spanning tree at the edge."""

import ebpfkit as bpf
from ebpfkit import MAC, Packet, u8, u64
from ebpfkit.net import Ethernet

LICENSE = "GPL"
BRIDGES = MAC("01:80:c2:00:00:00")


class LLC(bpf.Header):
    dsap: u8
    ssap: u8
    control: u8


kinds = bpf.PerCpuArray[u64](max_entries=3)


@bpf.xdp(short=bpf.XDP_ABORTED)
def llc(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type >= 0x600:
        kinds[0] += 1
        return bpf.XDP_PASS
    if eth.type.to_host() + 14 > len(pkt):
        kinds[2] += 1
        return bpf.XDP_DROP
    llc = pkt.read(LLC)
    kinds[1] += 1
    if llc.dsap == 0x42 and llc.ssap == 0x42 and eth.dst == BRIDGES:
        return bpf.XDP_DROP
    return bpf.XDP_PASS
