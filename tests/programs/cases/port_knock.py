"""Open port 22 to those who knocked at 7000, 8000 and 9000 in this order."""

import ebpfkit as bpf
from ebpfkit import Packet, u8
from ebpfkit.net import ETH_P_IP, IPPROTO_TCP, TCP, Ethernet, IPv4, IPv4Addr

LICENSE = "GPL"
KNOCKS = (7000, 8000, 9000)
OPEN = len(KNOCKS)

state = bpf.LruHash[IPv4Addr, u8](max_entries=8192)


@bpf.xdp(short=bpf.XDP_DROP)
def port_knock(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.protocol != IPPROTO_TCP:
        return bpf.XDP_PASS
    port = pkt.read(TCP).dest.to_host()
    step = state.get(ip.src)
    now = step if step is not None else u8(0)
    if port == 22:
        return bpf.XDP_PASS if now == OPEN else bpf.XDP_DROP
    for number, knock in ((0, 7000), (1, 8000), (2, 9000)):
        if now == number:
            if port == knock:
                state[ip.src] = now + 1
            elif port in KNOCKS:
                del state[ip.src]
            break
    return bpf.XDP_PASS
