"""A token bucket for each destination, shared by all CPUs under a spin lock."""

import ebpfkit as bpf
from ebpfkit import Packet, helpers, u32, u64
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, IPv4Addr

LICENSE = "GPL"
RATE = bpf.config(u64, 1_000)  # bytes a millisecond
BURST = bpf.config(u64, 100_000)  # bytes at once


class Bucket(bpf.Struct):
    lock: bpf.SpinLock
    drops: u32
    tokens: u64
    stamp: u64  # when tokens were last added, in milliseconds


buckets = bpf.Hash[IPv4Addr, Bucket](max_entries=65_536)


@bpf.xdp(short=bpf.XDP_DROP)
def bucket(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    bucket = buckets.get(pkt.read(IPv4).dst)
    if bucket is None:
        return bpf.XDP_PASS
    now = helpers.ktime_get_ns() // 1_000_000
    size = u64(len(pkt))
    with bucket.lock:
        tokens = min(bucket.tokens + (now - bucket.stamp) * RATE, BURST)
        bucket.stamp = now
        if tokens < size:
            bucket.tokens = tokens
            bucket.drops += 1
            return bpf.XDP_DROP
        bucket.tokens = tokens - size
    return bpf.XDP_PASS
