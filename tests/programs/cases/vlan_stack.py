"""Count traffic by VLAN stack: up to three tags, the outer and the inner id as the key."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, u8, u16, u32, u64
from ebpfkit.net import ETH_P_8021AD, ETH_P_8021Q, VLAN, Ethernet

LICENSE = "GPL"


class Stack(bpf.Struct, padding=True):
    ids: array[u16, Literal[3]]
    depth: u8


class Traffic(bpf.Struct):
    packets: u64
    bytes: u64


stacks = bpf.Hash[Stack, Traffic](max_entries=1024)
too_deep = bpf.Array[u32](max_entries=1)


@bpf.xdp(short=bpf.XDP_DROP)
def vlan_stack(pkt: Packet) -> bpf.XdpAction:
    key = Stack.zero()
    kind = pkt.read(Ethernet).type
    for i in range(3):
        if kind != ETH_P_8021Q and kind != ETH_P_8021AD:
            break
        tag = pkt.read(VLAN)
        key.ids[i] = tag.tci.to_host() & 0xFFF
        key.depth += 1
        kind = tag.type
    else:
        if kind in (ETH_P_8021Q, ETH_P_8021AD):
            too_deep[0] += 1
            return bpf.XDP_ABORTED
    traffic = stacks.get(key)
    if traffic is None:
        stacks[key] = Traffic(packets=1, bytes=len(pkt))
        return bpf.XDP_PASS
    traffic.packets += 1
    traffic.bytes += u64(len(pkt))
    return bpf.XDP_PASS
