"""Source NAT for UDP: each inside flow gets an outside port from a pool, and replies find their way back."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, u16, u32
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4, IPv4Addr, csum_replace2, csum_replace4

LICENSE = "GPL"
OUTSIDE = IPv4Addr("203.0.113.1")
FIRST_PORT = 20_000
PORTS = 1_000


class Endpoint(bpf.Struct):
    address: IPv4Addr
    port: be16
    reserved: u16 = u16(0)


inside = bpf.LruHash[Endpoint, be16](max_entries=PORTS)
outside = bpf.LruHash[be16, Endpoint](max_entries=PORTS)
next_port = bpf.Array[u32](max_entries=1)


def fixed(checksum: be16, old: IPv4Addr, new: IPv4Addr, old_port: be16, new_port: be16) -> be16:
    return csum_replace2(csum_replace4(checksum, old, new), old_port, new_port)


def is_private(address: IPv4Addr) -> bool:
    number = address.to_host()
    return number >> 24 == 10 or number >> 20 == 0xAC1 or number >> 16 == 0xC0A8


@bpf.xdp(short=bpf.XDP_DROP)
def snat(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_UDP or ip.fragment_offset != 0:
        return bpf.XDP_PASS
    udp = pkt.read(UDP)
    if ip.dst == OUTSIDE:
        back = outside.get(udp.dest)
        if back is None:
            return bpf.XDP_DROP
        if udp.checksum != 0:
            udp.checksum = fixed(udp.checksum, ip.dst, back.address, udp.dest, back.port)
        ip.checksum = csum_replace4(ip.checksum, ip.dst, back.address)
        ip.dst, udp.dest = back.address, back.port
        return bpf.XDP_PASS
    if not is_private(ip.src):
        return bpf.XDP_PASS
    me = Endpoint(address=ip.src, port=udp.source)
    port = inside.get(me)
    if port is None:
        number = next_port[0]
        next_port[0] = (number + 1) % PORTS
        chosen = be16(u16(number) + FIRST_PORT)
        inside[me] = chosen
        outside[chosen] = me
    else:
        chosen = port
    if udp.checksum != 0:
        udp.checksum = fixed(udp.checksum, ip.src, OUTSIDE, udp.source, chosen)
    ip.checksum = csum_replace4(ip.checksum, ip.src, OUTSIDE)
    ip.src = OUTSIDE
    udp.source = chosen
    return bpf.XDP_TX
