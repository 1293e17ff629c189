"""A histogram of packet sizes by powers of two, and one of IPv4 times to live."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, u32, u64
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4

LICENSE = "GPL"


class Histogram(bpf.Struct):
    buckets: array[u64, Literal[16]]
    total: u64


sizes = bpf.PerCpuArray[Histogram](max_entries=1)
hops = bpf.PerCpuArray[Histogram](max_entries=1)


def log2(value: u32) -> u32:
    result = u32(0)
    for shift in (16, 8, 4, 2, 1):
        if value >> shift:
            value >>= shift
            result += shift
    return result


def note(histogram: Histogram, value: u32) -> None:
    bucket = log2(value)
    histogram.buckets[min(bucket, u32(15))] += 1
    histogram.total += u64(value)


@bpf.xdp(short=bpf.XDP_PASS)
def histogram(pkt: Packet) -> bpf.XdpAction:
    note(sizes[0], len(pkt))
    if pkt.read(Ethernet).type == ETH_P_IP:
        note(hops[0], u32(pkt.read(IPv4).ttl))
    return bpf.XDP_PASS
