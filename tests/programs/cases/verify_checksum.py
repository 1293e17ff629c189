"""Drop IPv4 packets whose header checksum is wrong, options included."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, u8, u32, u64
from ebpfkit.net import ETH_P_IP, Ethernet, csum_fold

LICENSE = "GPL"
bad = bpf.PerCpuArray[u64](max_entries=1)


@bpf.xdp(short=bpf.XDP_DROP)
def verify_checksum(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    first = pkt.peek(u8)
    if first is None or first >> 4 != 4:
        return bpf.XDP_DROP
    words = (first & 15) * 2
    if words < 10:
        return bpf.XDP_DROP
    total = u32(0)
    for _ in range(words):
        total += u32(pkt.read(be16).to_host())
    if csum_fold(total) != 0:
        bad[0] += 1
        return bpf.XDP_DROP
    return bpf.XDP_PASS
