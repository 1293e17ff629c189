"""Ping from XDP, both sides of it: tools/testing/selftests/bpf/progs/xdping_kern.c."""

from typing import Literal

import ebpfkit as bpf
from ebpfkit import Packet, array, be16, helpers, u8, u16, u32, u64
from ebpfkit.net import (
    ETH_P_IP,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    IPPROTO_ICMP,
    Ethernet,
    IPv4,
    IPv4Addr,
    csum_fold,
)

LICENSE = "GPL"
MOST = 10


class Echo(bpf.Header):
    type: u8
    code: u8
    checksum: be16
    id: be16
    sequence: be16
    data: array[u8, Literal[56]]


class Ping(bpf.Header):
    eth: Ethernet
    ip: IPv4
    icmp: Echo

    def is_echo(self, kind: int) -> bool:
        return (
            self.eth.type == ETH_P_IP
            and self.ip.protocol == IPPROTO_ICMP
            and self.ip.total_length == bpf.sizeof(IPv4) + bpf.sizeof(Echo)
            and self.icmp.type == kind
        )

    def send_back(self, kind: int) -> None:
        self.eth.dst, self.eth.src = self.eth.src, self.eth.dst
        self.ip.src, self.ip.dst = self.ip.dst, self.ip.src
        self.icmp.type = kind
        self.icmp.checksum = 0
        total = helpers.csum_diff(None, 0, self.icmp, bpf.sizeof(Echo), 0)
        self.icmp.checksum = be16.from_raw(csum_fold(u32(total)))


class Info(bpf.Struct):
    start: u64
    seq: be16
    count: u16
    pad: u32
    times: array[u64, Literal[10]]


ping_map = bpf.Hash[IPv4Addr, Info](max_entries=256)


@bpf.xdp(short=bpf.XDP_PASS)
def xdping_client(pkt: Packet) -> bpf.XdpAction:
    ping = pkt.read(Ping)
    if not ping.is_echo(ICMP_ECHOREPLY):
        return bpf.XDP_PASS
    now = helpers.ktime_get_ns()
    info = ping_map.get(ping.ip.src)
    if info is None or info.seq != ping.icmp.sequence:
        return bpf.XDP_PASS
    if info.start:
        done = u16(MOST)
        for i in range(MOST):
            if info.times[i] == 0:
                info.times[i] = now - info.start
                info.start = 0
                done = u16(i + 1)
                break
        if done == info.count or done == MOST:
            return bpf.XDP_PASS
    ping.icmp.sequence = ping.icmp.sequence.to_host() + 1
    ping.send_back(ICMP_ECHO)
    info.seq = ping.icmp.sequence
    info.start = helpers.ktime_get_ns()
    return bpf.XDP_TX


@bpf.xdp(short=bpf.XDP_PASS)
def xdping_server(pkt: Packet) -> bpf.XdpAction:
    ping = pkt.read(Ping)
    if not ping.is_echo(ICMP_ECHO):
        return bpf.XDP_PASS
    ping.send_back(ICMP_ECHOREPLY)
    return bpf.XDP_TX
