"""Heavy hitters by a count-min sketch of four rows; sources above the limit are dropped and reported once."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, u32
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, IPv4Addr

LICENSE = "GPL"
LIMIT = 20
COLUMNS = 256
SEEDS = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F)


class Row(bpf.Struct):
    cells: array[u32, Literal[256]]


sketch = bpf.Array[Row](max_entries=4)
heavy = bpf.RingBuf[IPv4Addr](max_entries=4096)


def column(value: u32, seed: u32) -> u32:
    value = (value ^ value >> 16) * seed
    return (value ^ value >> 15) % COLUMNS


@bpf.xdp(short=bpf.XDP_PASS)
def count_min(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    src = pkt.read(IPv4).src
    least = u32(0xFFFF_FFFF)
    for row, seed in ((0, SEEDS[0]), (1, SEEDS[1]), (2, SEEDS[2]), (3, SEEDS[3])):
        cells = sketch[row].cells
        at = column(src.to_host(), seed)
        cells[at] += 1
        least = min(least, cells[at])
    if least <= LIMIT:
        return bpf.XDP_PASS
    if least == LIMIT + 1:
        heavy.output(src)
    return bpf.XDP_DROP
