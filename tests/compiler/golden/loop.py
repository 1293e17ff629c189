"""Adds up eight bytes and changes one."""

import ebpfkit as bpf
from ebpfkit import Packet, array, u8, u16
from ebpfkit.dsl.structs import Header


class Body(Header):
    data: array[u8, 8]
    total: u16


@bpf.xdp
def loop(pkt: Packet) -> bpf.XdpAction:
    body = pkt.read(Body)
    total = u16(0)
    for i in range(8):
        if i == 3:
            continue
        total += u16(body.data[i])
    body.total = total
    return bpf.XDP_TX if total > 100 else bpf.XDP_DROP
