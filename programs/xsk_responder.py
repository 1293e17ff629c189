"""Be a host that is not there: answer ARP requests and pings for an address, from user space, in native code.

sudo python programs/xsk_responder.py DEV 10.0.0.99
"""

import sys
import time

import ebpfkit as bpf
from ebpfkit import Packet, be16
from ebpfkit.net import (
    ARP,
    ARP_REPLY,
    ARP_REQUEST,
    ETH_P_ARP,
    ETH_P_IP,
    ICMP,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    IPPROTO_ICMP,
    MAC,
    Ethernet,
    IPv4,
    IPv4Addr,
    csum_replace2,
)
from ebpfkit.xsk import XskGroup

LICENSE = "Dual MIT/GPL"
OURS = MAC("02:00:00:00:00:63")

sockets = bpf.XskMap(max_entries=64)  # by queue
address = bpf.Array[IPv4Addr](max_entries=1)


@bpf.xdp(short=bpf.XDP_PASS)
def steer(pkt: Packet) -> bpf.XdpAction:
    kind = pkt.read(Ethernet).type
    if kind == ETH_P_ARP:
        return sockets.redirect(pkt.rx_queue_index, otherwise=bpf.XDP_PASS)
    if kind != ETH_P_IP:
        return bpf.XDP_PASS
    if pkt.read(IPv4).protocol != IPPROTO_ICMP:
        return bpf.XDP_PASS
    return sockets.redirect(pkt.rx_queue_index, otherwise=bpf.XDP_PASS)


@bpf.xdp(short=bpf.XDP_DROP)
def answer(pkt: Packet) -> bpf.XdpAction:
    """Turn the request into its answer, where it lies; what is not for us is dropped."""
    eth = pkt.read(Ethernet)
    mine = address[0]
    if eth.type == ETH_P_ARP:
        arp = pkt.read(ARP)
        if arp.operation != ARP_REQUEST or arp.target_ip != mine:
            return bpf.XDP_DROP
        arp.operation = ARP_REPLY
        arp.target_mac, arp.target_ip = arp.sender_mac, arp.sender_ip
        arp.sender_mac, arp.sender_ip = OURS, mine
        eth.dst, eth.src = eth.src, OURS
        return bpf.XDP_TX
    ip = pkt.read(IPv4)
    icmp = pkt.read(ICMP)
    if ip.dst != mine or icmp.type != ICMP_ECHO:
        return bpf.XDP_DROP
    icmp.type = ICMP_ECHOREPLY
    icmp.checksum = csum_replace2(icmp.checksum, be16(ICMP_ECHO << 8), be16(ICMP_ECHOREPLY << 8))
    eth.dst, eth.src = eth.src, OURS
    ip.dst, ip.src = ip.src, mine
    return bpf.XDP_TX


def main(device: str, wanted: str) -> None:
    address[0] = IPv4Addr(wanted)
    with XskGroup(device, program=steer) as group, group.run(answer) as running:
        print(f"being {wanted} on {device}; Ctrl-C ends", flush=True)
        try:
            time.sleep(1e9)
        except KeyboardInterrupt:
            print(f"{running.counters.sent} answered")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
