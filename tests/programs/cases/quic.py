"""Steer QUIC by the first bytes of the destination connection id; count versions of long headers."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, be32, be64, u8, u32, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4

LICENSE = "GPL"


class Long(bpf.Header):
    form: u8 = bpf.bits(1)
    fixed: u8 = bpf.bits(1)
    kind: u8 = bpf.bits(2)
    low: u8 = bpf.bits(4)
    version: be32
    dcid_length: u8


class ConnectionId(bpf.Struct):
    length: u8
    data: array[u8, Literal[20]]


versions = bpf.Hash[be32, u64](max_entries=16)
connections = bpf.LruHash[ConnectionId, u32](max_entries=1024)


@bpf.xdp(short=bpf.XDP_PASS)
def quic(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP or pkt.read(IPv4).protocol != IPPROTO_UDP:
        return bpf.XDP_PASS
    if pkt.read(UDP).dest != 443:
        return bpf.XDP_PASS
    first = pkt.peek(u8)
    if first is None or first & 0x40 == 0:
        return bpf.XDP_DROP
    if not first & 0x80:
        pkt.read(u8)
        return bpf.XDP_TX if pkt.read(be64).to_host() >> 56 == 7 else bpf.XDP_PASS
    header = pkt.read(Long)
    if header.dcid_length > 20:
        return bpf.XDP_DROP
    count = versions.get(header.version)
    if count is None:
        versions[header.version] = 1
    else:
        count.atomic_add(1)
    cid = ConnectionId.zero()
    cid.length = header.dcid_length
    for i in range(20):
        if i >= header.dcid_length:
            break
        cid.data[i] = pkt.read(u8)
    if cid in connections:
        return bpf.XDP_PASS
    connections[cid] = u32(header.kind)
    return bpf.XDP_PASS
