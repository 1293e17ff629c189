"""Count SCTP chunk types; drop packets with more than eight chunks."""

import ebpfkit as bpf
from ebpfkit import Packet, be16, be32, u8, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_SCTP, Ethernet, IPv4

LICENSE = "GPL"


class SCTP(bpf.Header):
    source: be16
    dest: be16
    tag: be32
    checksum: be32


class Chunk(bpf.Header):
    type: u8
    flags: u8
    length: be16


chunks = bpf.Array[u64](max_entries=256)


@bpf.xdp(short=bpf.XDP_DROP)
def sctp_chunks(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP or pkt.read(IPv4).protocol != IPPROTO_SCTP:
        return bpf.XDP_PASS
    pkt.read(SCTP)
    for _ in range(8):
        chunk = pkt.peek(Chunk)
        if chunk is None:
            return bpf.XDP_PASS
        chunks[chunk.type] += 1
        size = chunk.length.to_host()
        if size < 4 or size > 1500:
            return bpf.XDP_DROP
        pkt.skip(size + 3 & 0x7FC)  # padded to four bytes
    return bpf.XDP_DROP
