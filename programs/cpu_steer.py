"""Spread flows over CPUs (cpumap): packets of one pair of addresses stay together."""

import ebpfkit as bpf
from ebpfkit import Packet, u32, u64
from ebpfkit.net import ETH_P_IP, ETH_P_IPV6, Ethernet, IPv4, IPv6

LICENSE = "Dual MIT/GPL"
MOST_CPUS = 64

cpus = bpf.CpuMap(max_entries=MOST_CPUS)
used = bpf.config(u32, 2)  # how many CPUs take part
steered = bpf.PerCpuArray[u64](max_entries=MOST_CPUS)


def mix(value: u32) -> u32:
    value ^= value >> 16
    value *= 0x7FEB352D
    return value ^ value >> 15


@bpf.xdp(short=bpf.XDP_PASS)
def cpu_steer(pkt: Packet) -> bpf.XdpAction:
    kind = pkt.read(Ethernet).type
    if kind == ETH_P_IP:
        ip = pkt.read(IPv4)
        digest = ip.src.to_host() + ip.dst.to_host()
    elif kind == ETH_P_IPV6:
        digest = pkt.read(IPv6).flow_label
    else:
        return bpf.XDP_PASS
    cpu = mix(digest) % used
    steered[cpu] += 1
    return cpus.redirect(cpu, otherwise=bpf.XDP_PASS)
