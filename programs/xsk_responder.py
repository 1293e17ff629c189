"""Be a host that is not there: answer ARP requests and pings for an address, from user space.

sudo python programs/xsk_responder.py DEV 10.0.0.99
"""

import socket
import sys

import ebpfkit as bpf
from ebpfkit import Packet
from ebpfkit.net import ETH_P_ARP, ETH_P_IP, IPPROTO_ICMP, Ethernet, IPv4
from ebpfkit.xsk import XskGroup

LICENSE = "Dual MIT/GPL"
MAC = b"\x02\x00\x00\x00\x00\x63"

sockets = bpf.XskMap(max_entries=64)  # by queue


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


def answer(data: memoryview, address: bytes) -> bool:
    """Turn the request into its answer, where it lies; False when it is none of ours."""
    if bytes(data[12:14]) == b"\x08\x06":
        if bytes(data[20:22]) != b"\0\1" or bytes(data[38:42]) != address:  # a request, for our address
            return False
        asker = bytes(data[22:32])  # hardware and protocol address
        data[20:22] = b"\0\2"
        data[22:42] = MAC + address + asker
        data[0:6], data[6:12] = asker[:6], MAC
        return True
    inner = 14 + (data[14] & 15) * 4
    if bytes(data[30:34]) != address or data[inner] != 8:  # an echo request, to our address
        return False
    data[0:6], data[6:12] = bytes(data[6:12]), MAC
    data[26:30], data[30:34] = address, bytes(data[26:30])
    data[inner] = 0
    total = int.from_bytes(data[inner + 2 : inner + 4], "big") + 0x0800  # 8 less in the sum of the first byte
    data[inner + 2 : inner + 4] = (total % 0xFFFF or 0xFFFF).to_bytes(2, "big")
    return True


def main(device: str, address: str) -> None:
    mine = socket.inet_aton(address)
    answered = 0
    with XskGroup(device, program=steer) as group:
        print(f"being {address} on {device}; Ctrl-C ends", flush=True)
        try:
            while True:
                for sock in group.wait():
                    for frame in sock.receive(0):
                        if answer(frame.data, mine):
                            frame.send()
                            answered += 1
        except KeyboardInterrupt:
            print(f"{answered} answered")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
