"""An L4 load balancer: a backend by consistent hashing, the destination rewritten, checksums updated."""

import ebpfkit as bpf
from ebpfkit import MAC, Packet, be16, u16, u32
from ebpfkit.net import (
    ETH_P_IP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    TCP,
    UDP,
    Ethernet,
    IPv4,
    IPv4Addr,
    csum_replace2,
    csum_replace4,
    decrement_ttl,
)

LICENSE = "GPL"
TABLE = 64


class Vip(bpf.Struct):
    address: IPv4Addr
    port: be16
    protocol: u16


class Backend(bpf.Struct):
    address: IPv4Addr
    port: be16
    mac: MAC


vips = bpf.Hash[Vip, u32](max_entries=64)  # the first slot of its ring
ring = bpf.Array[u32](max_entries=1024)
backends = bpf.Array[Backend](max_entries=64)
vips[Vip(address=IPv4Addr("10.0.0.100"), port=80, protocol=6)] = 0
vips[Vip(address=IPv4Addr("10.0.0.100"), port=53, protocol=17)] = 64
for _i in range(128):
    ring[_i] = _i % 3
for _i in range(3):
    backends[_i] = Backend(address=IPv4Addr(f"10.1.0.{_i + 1}"), port=8080 + _i, mac=MAC(f"02:00:00:00:01:0{_i}"))


def mix(a: u32, b: u32, c: u32) -> u32:
    h = a * 0x9E3779B1 ^ b
    h = (h << 13 | h >> 19) * 5 + 0xE6546B64
    h ^= c
    h = (h ^ h >> 16) * 0x85EBCA6B
    return h ^ h >> 13


@bpf.xdp(short=bpf.XDP_DROP)
def l4lb(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.fragment_offset or ip.flags & 1:
        return bpf.XDP_DROP
    if ip.protocol not in (IPPROTO_TCP, IPPROTO_UDP):
        return bpf.XDP_PASS
    tcp = pkt.peek(TCP)
    udp = pkt.peek(UDP)
    if udp is None or (tcp is None and ip.protocol == IPPROTO_TCP):
        return bpf.XDP_DROP
    source, dest = udp.source, udp.dest  # TCP has its ports at the same place
    first = vips.get(Vip(address=ip.dst, port=dest, protocol=ip.protocol))
    if first is None:
        return bpf.XDP_PASS
    ports = u32(source.to_host()) << 16 | u32(dest.to_host())
    slot = ring.get(first + mix(ip.src.to_host(), ports, u32(ip.protocol)) % TABLE)
    if slot is None:
        return bpf.XDP_DROP
    backend = backends.get(slot)
    if backend is None or backend.port == 0:
        return bpf.XDP_DROP
    ip.checksum = csum_replace4(ip.checksum, ip.dst, backend.address)
    if tcp is not None and ip.protocol == IPPROTO_TCP:
        tcp.checksum = csum_replace2(csum_replace4(tcp.checksum, ip.dst, backend.address), tcp.dest, backend.port)
        tcp.dest = backend.port
    else:
        if udp.checksum != 0:
            udp.checksum = csum_replace2(csum_replace4(udp.checksum, ip.dst, backend.address), udp.dest, backend.port)
        udp.dest = backend.port
    ip.dst = backend.address
    decrement_ttl(ip)
    eth.src, eth.dst = eth.dst, backend.mac
    return bpf.XDP_TX
