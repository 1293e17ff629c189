"""Pass SYNs of a source while it finishes its handshakes; drop them when too many are open."""

import ebpfkit as bpf
from ebpfkit import Packet, s32, u32
from ebpfkit.net import ETH_P_IP, IPPROTO_TCP, TCP, Ethernet, IPv4, IPv4Addr

LICENSE = "GPL"
MOST = 8


class Source(bpf.Struct):
    balance: s32
    dropped: u32


sources = bpf.LruHash[IPv4Addr, Source](max_entries=16384)


@bpf.xdp(short=bpf.XDP_DROP)
def syn_flood(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_TCP:
        return bpf.XDP_PASS
    tcp = pkt.read(TCP)
    source = sources.get(ip.src)
    if source is None:
        if tcp.syn and not tcp.ack:
            sources[ip.src] = Source(balance=1, dropped=0)
        return bpf.XDP_PASS
    if tcp.syn and not tcp.ack:
        if source.balance >= MOST:
            source.dropped += 1
            return bpf.XDP_DROP
        source.balance += 1
    elif tcp.ack or tcp.rst:
        source.balance = max(source.balance - 1, s32(-4))
    return bpf.XDP_PASS
