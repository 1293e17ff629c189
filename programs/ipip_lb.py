"""An L4 load balancer that encapsulates: the packet goes to a backend in an IPv4 header of its own (IPIP)."""

import ebpfkit as bpf
from ebpfkit import MAC, Packet, be16, u16, u32, u64
from ebpfkit.net import (
    ETH_P_IP,
    IPPROTO_IPIP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    UDP,
    Ethernet,
    IPv4,
    IPv4Addr,
    ipv4_checksum,
)

LICENSE = "Dual MIT/GPL"
RING = 256


class Service(bpf.Struct):
    address: IPv4Addr
    port: be16
    protocol: u16


class Backend(bpf.Struct):
    address: IPv4Addr
    source: IPv4Addr  # of the outer header
    mac: MAC
    packets: u64


services = bpf.Hash[Service, u32](max_entries=64)  # the first slot of its ring
ring = bpf.Array[u32](max_entries=16 * RING)
backends = bpf.Array[Backend](max_entries=256)


def mix(value: u32) -> u32:
    value = (value ^ value >> 16) * 0x7FEB352D
    value = (value ^ value >> 15) * 0x846CA68B
    return value ^ value >> 16


@bpf.xdp(short=bpf.XDP_DROP)
def ipip_lb(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol not in (IPPROTO_TCP, IPPROTO_UDP) or ip.fragment_offset:
        return bpf.XDP_PASS
    ports = pkt.read(UDP)  # TCP has its ports at the same place
    first = services.get(Service(address=ip.dst, port=ports.dest, protocol=ip.protocol))
    if first is None:
        return bpf.XDP_PASS
    digest = mix(ip.src.to_host() ^ u32(ports.source.to_host()))
    backend = backends[ring[first + digest % RING]]
    backend.packets.atomic_add(1)
    size = ip.total_length.to_host() + bpf.sizeof(IPv4)
    sender = eth.dst
    pkt.push_head(bpf.sizeof(IPv4))
    eth = pkt.read(Ethernet)
    eth.dst, eth.src, eth.type = backend.mac, sender, ETH_P_IP
    outer = IPv4(total_length=be16(size), protocol=IPPROTO_IPIP, src=backend.source, dst=backend.address)
    outer.checksum = ipv4_checksum(outer)
    pkt.write(outer)
    return bpf.XDP_TX
