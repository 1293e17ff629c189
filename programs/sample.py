"""Report one packet in some to user space, through a ring buffer."""

import ebpfkit as bpf
from ebpfkit import Packet, helpers, u16, u32, u64
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, IPv4Addr

LICENSE = "Dual MIT/GPL"
ONE_IN = 4


class Sample(bpf.Struct):
    time: u64
    src: IPv4Addr
    dst: IPv4Addr
    length: u32
    protocol: u16


samples = bpf.RingBuf[Sample](max_entries=65_536)
packets = bpf.Array[u32](max_entries=1)


@bpf.xdp(short=bpf.XDP_PASS)
def sample(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if packets[0].atomic_add(1) % ONE_IN != 0:
        return bpf.XDP_PASS
    record = samples.reserve()
    if record is None:
        return bpf.XDP_PASS
    record.time = helpers.ktime_get_ns()
    record.src = ip.src
    record.dst = ip.dst
    record.length = u32(len(pkt))
    record.protocol = ip.protocol
    record.submit()
    return bpf.XDP_PASS
