"""Count packets and bytes by protocol, one counter for each CPU."""

import ebpfkit as bpf
from ebpfkit import Packet, u64
from ebpfkit.net import ETH_P_IP, ETH_P_IPV6, Ethernet, IPv4, IPv6

LICENSE = "Dual MIT/GPL"


class Traffic(bpf.Struct):
    packets: u64
    bytes: u64


by_protocol = bpf.PerCpuArray[Traffic](max_entries=256)
other = bpf.PerCpuArray[Traffic](max_entries=1)


@bpf.xdp(short=bpf.XDP_PASS)
def counters(pkt: Packet) -> bpf.XdpAction:
    match pkt.read(Ethernet).type.to_host():
        case 0x0800:
            traffic = by_protocol[pkt.read(IPv4).protocol]
        case 0x86DD:
            traffic = by_protocol[pkt.read(IPv6).next_header]
        case _:
            traffic = other[0]
    traffic.packets += 1
    traffic.bytes += u64(len(pkt))
    return bpf.XDP_PASS


assert (ETH_P_IP, ETH_P_IPV6) == (0x0800, 0x86DD)  # a bare name in a case would be a new variable
