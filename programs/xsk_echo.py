"""Answer pings and UDP echo (port 7) from user space: an XDP program steers them to AF_XDP sockets, the rest passes.

sudo python programs/xsk_echo.py DEV
"""

import sys

import ebpfkit as bpf
from ebpfkit import Packet
from ebpfkit.net import ETH_P_IP, ICMP, ICMP_ECHO, IPPROTO_ICMP, IPPROTO_UDP, UDP, Ethernet, IPv4
from ebpfkit.xsk import Frame, XskGroup

LICENSE = "Dual MIT/GPL"

sockets = bpf.XskMap(max_entries=64)  # by queue


@bpf.xdp(short=bpf.XDP_PASS)
def steer(pkt: Packet) -> bpf.XdpAction:
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


def swap(data: memoryview, one: int, other: int, size: int) -> None:
    kept = bytes(data[one : one + size])
    data[one : one + size] = data[other : other + size]
    data[other : other + size] = kept


def turn_around(frame: Frame) -> None:
    """Make the answer of the request, in the frame where it lies."""
    data = frame.data
    swap(data, 0, 6, 6)  # Ethernet addresses
    swap(data, 26, 30, 4)  # IP addresses; the checksum stays what it is
    inner = 14 + (data[14] & 15) * 4
    if data[23] == IPPROTO_ICMP:
        data[inner] = 0  # echo request to echo reply: 0x0800 less in the sum, so 0x0800 more in its complement
        total = int.from_bytes(data[inner + 2 : inner + 4], "big") + 0x0800
        data[inner + 2 : inner + 4] = (total % 0xFFFF or 0xFFFF).to_bytes(2, "big")
    else:
        swap(data, inner, inner + 2, 2)  # ports
        data[inner + 6 : inner + 8] = b"\0\0"  # no checksum: the sender may have left it to its network card


def main(device: str) -> None:
    with XskGroup(device, program=steer) as group:
        print(f"answering on {device}, queues {', '.join(str(sock.queue) for sock in group)}; Ctrl-C ends", flush=True)
        try:
            while True:
                for sock in group.wait():
                    for frame in sock.receive(0):
                        turn_around(frame)
                        frame.send()
        except KeyboardInterrupt:
            print(f"{sum(sock.counters.sent for sock in group)} answered, {group.statistics().lost} lost")


if __name__ == "__main__":
    main(sys.argv[1])
