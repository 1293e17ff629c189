"""Hand the first bytes of every packet whose hash is chosen to user space, with what was parsed of it."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import MAC, Packet, array, be16, u8, u16, u32
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, IPv4Addr

LICENSE = "GPL"


class Event(bpf.Struct):
    length: u32
    queue: u16
    kind: be16
    source: MAC
    target: MAC
    src: IPv4Addr
    head: array[u8, Literal[16]]


class Head(bpf.Header):
    data: array[u8, Literal[16]]


events = bpf.RingBuf[Event](max_entries=1 << 16)
lost = bpf.PerCpuArray[u32](max_entries=1)


@bpf.xdp(short=bpf.XDP_PASS)
def sample_payload(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    if eth.type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    head = pkt.peek(Head)
    event = events.reserve()
    if event is None:
        lost[0] += 1
        return bpf.XDP_PASS
    if head is not None:
        event.head = head.data
    event.length = len(pkt)
    event.queue = u16(pkt.rx_queue_index)
    event.kind = eth.type
    event.source = eth.src
    event.target = eth.dst
    event.src = ip.src
    if ip.id.to_host() & 1:
        event.discard()
    else:
        event.submit()
    return bpf.XDP_PASS
