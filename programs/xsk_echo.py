"""Answer pings and UDP echo (port 7) from user space: one function steers in the kernel, another answers natively.

sudo python programs/xsk_echo.py DEV
"""

import sys
import time

import ebpfkit as bpf
from ebpfkit import Packet, be16
from ebpfkit.net import (
    ETH_P_IP,
    ICMP,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    IPPROTO_ICMP,
    IPPROTO_UDP,
    UDP,
    Ethernet,
    IPv4,
    csum_replace2,
)
from ebpfkit.xsk import XskGroup

LICENSE = "Dual MIT/GPL"

sockets = bpf.XskMap(max_entries=64)  # by queue


@bpf.xdp(short=bpf.XDP_PASS)
def steer(pkt: Packet) -> bpf.XdpAction:
    """In the kernel: echo requests to the sockets, the rest up the stack."""
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    if ip.fragment_offset != 0:
        return bpf.XDP_PASS
    if ip.protocol == IPPROTO_ICMP:
        if pkt.read(ICMP).type != ICMP_ECHO:
            return bpf.XDP_PASS
    elif ip.protocol == IPPROTO_UDP:
        if pkt.read(UDP).dest != 7:
            return bpf.XDP_PASS
    else:
        return bpf.XDP_PASS
    return sockets.redirect(pkt.rx_queue_index, otherwise=bpf.XDP_PASS)


@bpf.xdp(short=bpf.XDP_DROP)
def answer(pkt: Packet) -> bpf.XdpAction:
    """At the sockets: the request becomes its answer, in the frame where it lies."""
    eth = pkt.read(Ethernet)
    ip = pkt.read(IPv4)
    if ip.protocol == IPPROTO_ICMP:
        icmp = pkt.read(ICMP)
        icmp.type = ICMP_ECHOREPLY
        icmp.checksum = csum_replace2(icmp.checksum, be16(ICMP_ECHO << 8), be16(ICMP_ECHOREPLY << 8))
    else:
        udp = pkt.read(UDP)
        udp.source, udp.dest = udp.dest, udp.source
        udp.checksum = 0  # none: the sender may have left it to its network card
    eth.dst, eth.src = eth.src, eth.dst
    ip.dst, ip.src = ip.src, ip.dst  # the checksum stays what it is
    return bpf.XDP_TX


def main(device: str) -> None:
    with XskGroup(device, program=steer) as group, group.run(answer) as running:
        print(f"answering on {device}, queues {', '.join(str(sock.queue) for sock in group)}; Ctrl-C ends", flush=True)
        try:
            time.sleep(1e9)
        except KeyboardInterrupt:
            print(f"{running.counters.sent} answered, {group.statistics().lost} lost")


if __name__ == "__main__":
    main(sys.argv[1])
