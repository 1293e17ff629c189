"""Walk IPv6 extension headers to the transport protocol; drop routing headers of type 0 and endless chains."""

import ebpfkit as bpf
from ebpfkit import Packet, be32, u8, u16, u64
from ebpfkit.net import (
    ETH_P_IPV6,
    IPPROTO_DSTOPTS,
    IPPROTO_FRAGMENT,
    IPPROTO_HOPOPTS,
    IPPROTO_NONE,
    IPPROTO_ROUTING,
    Ethernet,
    IPv6,
)

LICENSE = "GPL"


class Extension(bpf.Header):
    next_header: u8
    length: u8
    kind: u8
    rest: u8


class Fragment(bpf.Header):
    next_header: u8
    reserved: u8
    offset: u16 = bpf.bits(13)
    flags: u16 = bpf.bits(3)
    id: be32


protocols = bpf.PerCpuArray[u64](max_entries=256)


@bpf.xdp(short=bpf.XDP_DROP)
def ext_headers(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IPV6:
        return bpf.XDP_PASS
    kind = pkt.read(IPv6).next_header
    for _ in range(6):
        if kind == IPPROTO_FRAGMENT:
            fragment = pkt.read(Fragment)
            if fragment.offset > 0:
                return bpf.XDP_PASS
            kind = fragment.next_header
        elif kind in (IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS):
            extension = pkt.peek(Extension)
            if extension is None:
                return bpf.XDP_DROP
            if kind == IPPROTO_ROUTING and extension.kind == 0:
                return bpf.XDP_DROP
            kind = extension.next_header
            pkt.skip(u16(extension.length) * 8 + 8 & 0xFFF)
        else:
            break
    else:
        return bpf.XDP_DROP
    protocols[kind] += 1
    return bpf.XDP_PASS if kind != IPPROTO_NONE else bpf.XDP_DROP
