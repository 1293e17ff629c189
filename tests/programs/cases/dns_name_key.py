"""Count DNS questions by name: the bytes of the name, as they came, are the key."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, u8, u32
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4

LICENSE = "GPL"


class Name(bpf.Struct):
    text: array[u8, Literal[32]]


class Skip(bpf.Header):
    rest: array[u8, Literal[12]]


names = bpf.LruHash[Name, u32](max_entries=4096)


@bpf.xdp(short=bpf.XDP_PASS)
def dns_name_key(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP or pkt.read(IPv4).protocol != IPPROTO_UDP:
        return bpf.XDP_PASS
    if pkt.read(UDP).dest != 53:
        return bpf.XDP_PASS
    pkt.read(Skip)
    name = Name.zero()
    i = u32(0)
    while i < 32:
        c = pkt.read(u8)
        if c == 0:
            break
        name.text[i] = c
        i += 1
    count = names.get(name)
    if count is None:
        names[name] = 1
    else:
        count.atomic_add(1)
    return bpf.XDP_PASS
