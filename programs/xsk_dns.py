"""Answer DNS questions for addresses of known names in native code; what else is asked, Python answers: no such name.

sudo python programs/xsk_dns.py DEV NAME=ADDRESS...
"""

import sys
from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, be16, be32, u8, u16, u32
from ebpfkit.net import ETH_P_IP, IPPROTO_UDP, UDP, Ethernet, IPv4, IPv4Addr, ipv4_checksum
from ebpfkit.xsk import HandedFrame, XskGroup

LICENSE = "Dual MIT/GPL"
LONGEST = 48  # bytes of a name as it is on the wire


class Name(bpf.Struct):
    text: array[u8, Literal[48]]


class Dns(bpf.Header):
    id: be16
    flags: be16
    questions: be16
    answers: be16
    authorities: be16
    additional: be16


class Question(bpf.Header):
    type: be16
    kind: be16


class Answer(bpf.Header):
    name: be16  # a pointer to the question's
    type: be16
    kind: be16
    seconds: be32
    size: be16
    address: IPv4Addr


sockets = bpf.XskMap(max_entries=64)  # by queue
names = bpf.Hash[Name, IPv4Addr](max_entries=4096)


@bpf.xdp(short=bpf.XDP_PASS)
def steer(pkt: Packet) -> bpf.XdpAction:
    """In the kernel: questions go to the sockets."""
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_UDP or ip.fragment_offset != 0 or ip.ihl != 5:
        return bpf.XDP_PASS
    if pkt.read(UDP).dest != 53:
        return bpf.XDP_PASS
    return sockets.redirect(pkt.rx_queue_index, otherwise=bpf.XDP_PASS)


@bpf.xdp(short=bpf.XDP_DROP)
def answer(pkt: Packet) -> bpf.XdpAction:
    """At the sockets: the answer behind the question, in the packet that asked."""
    pkt.read(Ethernet)
    pkt.read(IPv4)
    pkt.read(UDP)
    dns = pkt.read(Dns)
    if dns.flags.to_host() & 0xF800 != 0 or dns.questions != 1:  # a query, and of one question
        return bpf.XDP_PASS
    name = Name.zero()
    size = u32(0)
    while size < 48:
        letter = pkt.read(u8)
        if letter == 0:
            break
        if 65 <= letter and letter <= 90:
            letter += 32
        name.text[size] = letter
        size += 1
    question = pkt.read(Question)
    if question.type != 1 or question.kind != 1:  # A, of the internet
        return bpf.XDP_PASS
    address = names.get(name)
    if address is None:
        return bpf.XDP_PASS
    before = u32(len(pkt))
    after = u32(14 + 20 + 8 + 12 + 5 + 16) + size
    if before < after:
        pkt.extend((after - before) & 0xFF)
    elif before > after:
        pkt.trim((before - after) & 0x3FF)
    eth = pkt.read(Ethernet)
    ip = pkt.read(IPv4)
    udp = pkt.read(UDP)
    reply = pkt.read(Dns)
    pkt.skip((size + 5) & 0x3F)
    record = pkt.read(Answer)
    record.name, record.type, record.kind = 0xC00C, 1, 1
    record.seconds, record.size, record.address = 60, 4, address
    reply.flags = (reply.flags.to_host() & 0x0100) | 0x8400  # a response, authoritative
    reply.answers, reply.authorities, reply.additional = 1, 0, 0
    udp.source, udp.dest = udp.dest, udp.source
    udp.length = u16(after - 34)
    udp.checksum = 0
    ip.src, ip.dst = ip.dst, ip.src
    ip.total_length = u16(after - 14)
    ip.checksum = 0
    ip.checksum = ipv4_checksum(ip)
    eth.src, eth.dst = eth.dst, eth.src
    return bpf.XDP_TX


def wire_name(name: str) -> Name:
    """A name as it is asked for: each part with its length in front."""
    data = b"".join(bytes([len(part)]) + part.encode() for part in name.lower().rstrip(".").split("."))
    made = Name.zero()
    for place, byte in enumerate(data):
        made.text[place] = byte
    return made


def refuse(frame: HandedFrame) -> None:
    """There is no such name: the question goes back as it is, with that code."""
    data = frame.data
    data[0:6], data[6:12] = bytes(data[6:12]), bytes(data[0:6])
    data[26:30], data[30:34] = bytes(data[30:34]), bytes(data[26:30])
    data[34:36], data[36:38] = bytes(data[36:38]), bytes(data[34:36])
    data[40:42] = b"\0\0"  # no UDP checksum
    data[44:46] = bytes([0x84 | data[44] & 1, 3])
    frame.send()


def main(device: str, known: list[str]) -> None:
    for pair in known:
        name, _, address = pair.partition("=")
        names[wire_name(name)] = IPv4Addr(address)
    refused = 0
    with XskGroup(device, program=steer, frame_size=2048) as group, group.run(answer) as running:
        print(f"answering for {len(known)} names on {device}; Ctrl-C ends", flush=True)
        try:
            while True:
                for frame in running.receive():
                    refuse(frame)
                    refused += 1
        except KeyboardInterrupt:
            print(f"{running.counters.sent - refused} answered, {refused} refused")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
