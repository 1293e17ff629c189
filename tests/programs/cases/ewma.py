"""A moving average of packet lengths for each source in fixed point, and the outliers dropped."""

import ebpfkit as bpf
from ebpfkit import Packet, s64
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, IPv4Addr

LICENSE = "GPL"
SHIFT = 3


class Average(bpf.Struct):
    mean: s64  # in 256ths of a byte
    deviation: s64

    def update(self, sample: s64) -> s64:
        error = (sample << 8) - self.mean
        self.mean += error >> SHIFT
        if error < 0:
            error = -error
        self.deviation += (error - self.deviation) >> SHIFT
        return error

    @property
    def limit(self) -> s64:
        return self.deviation * 4


averages = bpf.LruHash[IPv4Addr, Average](max_entries=1024)


@bpf.xdp(short=bpf.XDP_PASS)
def ewma(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    src = pkt.read(IPv4).src
    average = averages.get(src)
    if average is None:
        averages[src] = Average(mean=s64(len(pkt)) << 8, deviation=0)
        return bpf.XDP_PASS
    error = average.update(s64(len(pkt)))
    return bpf.XDP_DROP if error > average.limit and average.limit > 0 else bpf.XDP_PASS
