"""Drop what was seen before: a window of 64 sequence numbers for each sender, as IPsec keeps it."""

import ebpfkit as bpf
from ebpfkit import Packet, be32, u32, u64
from ebpfkit.net import ETH_P_IP, IPPROTO_ESP, Ethernet, IPv4

LICENSE = "GPL"


class ESP(bpf.Header):
    spi: be32
    sequence: be32


class Window(bpf.Struct):
    bitmap: u64
    top: u32


windows = bpf.Hash[be32, Window](max_entries=256)


@bpf.xdp(short=bpf.XDP_DROP)
def replay(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP or pkt.read(IPv4).protocol != IPPROTO_ESP:
        return bpf.XDP_PASS
    esp = pkt.read(ESP)
    number = esp.sequence.to_host()
    window = windows.get(esp.spi)
    if window is None:
        windows[esp.spi] = Window(bitmap=1, top=number)
        return bpf.XDP_PASS
    if number > window.top:
        ahead = number - window.top
        window.bitmap = (window.bitmap << u64(ahead) if ahead < 64 else u64(0)) | 1
        window.top = number
        return bpf.XDP_PASS
    behind = window.top - number
    if behind >= 64:
        return bpf.XDP_DROP
    bit = u64(1) << u64(behind)
    if window.bitmap & bit:
        return bpf.XDP_DROP
    window.bitmap |= bit
    return bpf.XDP_PASS
