"""A token bucket for each source address; the oldest sources are forgotten."""

import ebpfkit as bpf
from ebpfkit import Packet, helpers, u64
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, IPv4Addr

LICENSE = "Dual MIT/GPL"

RATE = 1_000  # packets a second
BURST = 100  # packets at once
SECOND = 1_000_000_000


class Bucket(bpf.Struct):
    tokens: u64
    filled: u64  # when tokens were last added, in nanoseconds


buckets = bpf.LruHash[IPv4Addr, Bucket](max_entries=65_536)


@bpf.xdp(short=bpf.XDP_DROP)
def ratelimit(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    src = pkt.read(IPv4).src
    now = helpers.ktime_get_ns()
    bucket = buckets.get(src)
    if bucket is None:
        buckets[src] = Bucket(tokens=BURST - 1, filled=now)
        return bpf.XDP_PASS
    fresh = (now - bucket.filled) * RATE // SECOND
    if fresh > 0:
        bucket.filled = now
        tokens = bucket.tokens + fresh
        bucket.tokens = tokens if tokens < BURST else u64(BURST)
    if bucket.tokens == 0:
        return bpf.XDP_DROP
    bucket.tokens -= 1
    return bpf.XDP_PASS
