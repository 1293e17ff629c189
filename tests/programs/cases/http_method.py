"""Count HTTP methods at the start of TCP payloads; drop those of a web server nobody should delete from."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, be32, u8, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_TCP, TCP, Ethernet, IPv4

LICENSE = "GPL"
GET = int.from_bytes(b"GET ", "big")
POST = int.from_bytes(b"POST", "big")
DELE = int.from_bytes(b"DELE", "big")


class Word(bpf.Header):
    text: array[u8, Literal[4]]


methods = bpf.PerCpuArray[u64](max_entries=4)


@bpf.xdp(short=bpf.XDP_PASS)
def http_method(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP or pkt.read(IPv4).protocol != IPPROTO_TCP:
        return bpf.XDP_PASS
    tcp = pkt.read(TCP)
    if tcp.dest not in (80, 8080):
        return bpf.XDP_PASS
    word = pkt.peek(Word)
    if word is not None and word.text == b"PUT ":
        methods[3] += 1
        return bpf.XDP_PASS
    start = pkt.read(be32)
    if start == GET:
        methods[0] += 1
    elif start == POST:
        methods[1] += 1
    elif start == DELE:
        methods[2] += 1
        return bpf.XDP_DROP
    return bpf.XDP_PASS
