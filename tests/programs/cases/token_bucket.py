"""A token bucket for each destination port, refilled by time, in thousandths of a token."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, helpers, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4

LICENSE = "GPL"
BURST = 5_000
PER_MS = 0  # thousandths of a token in a millisecond


class Bucket(bpf.Struct):
    level: u64
    stamp: u64


buckets = bpf.LruHash[be16, Bucket](max_entries=1024)


def refill(bucket: Bucket, now: u64) -> u64:
    passed = (now - bucket.stamp) // 1_000_000
    return min(bucket.level + passed * PER_MS, u64(BURST))


@bpf.xdp(short=bpf.XDP_DROP)
def token_bucket(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    if pkt.read(IPv4).protocol != IPPROTO_UDP:
        return bpf.XDP_PASS
    port = pkt.read(UDP).dest
    now = helpers.ktime_get_ns()
    if (bucket := buckets.get(port)) is None:
        buckets[port] = Bucket(level=BURST - 1000, stamp=now)
        return bpf.XDP_PASS
    level = refill(bucket, now)
    bucket.stamp = now
    if level < 1000:
        bucket.level = level
        return bpf.XDP_DROP
    bucket.level = level - 1000
    return bpf.XDP_PASS
