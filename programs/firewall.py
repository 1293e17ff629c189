"""Drop packets from blocked prefixes, and count."""

import sys

import ebpfkit as bpf
from ebpfkit import Packet, u64
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, IPv4Addr

LICENSE = "Dual MIT/GPL"


class Hits(bpf.Struct):
    packets: u64
    bytes: u64


blocked = bpf.LpmTrie[IPv4Addr, Hits](max_entries=10_000)
seen = bpf.PerCpuArray[u64](max_entries=256)


@bpf.xdp(short=bpf.XDP_DROP)  # the verdict for a packet too short to read
def firewall(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:  # one bounds check, one shared short exit
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    seen[ip.protocol] += 1
    hit = blocked.get(ip.src)  # Hits | None: a view of the value in the map
    if hit is not None:
        hit.packets.atomic_add(1)
        hit.bytes.atomic_add(len(pkt))
        return bpf.XDP_DROP
    return bpf.XDP_PASS


if __name__ == "__main__":
    blocked["192.0.2.0/24"] = Hits.zero()  # the same object, from user space
    with firewall.attach(sys.argv[1]):
        input("attached; Enter detaches")
    print(seen.sum(6), blocked["192.0.2.0/24"].packets)
