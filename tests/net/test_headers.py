"""Headers: sizes, names, and what a program reads of them; the numbers are those of the standard library."""

from __future__ import annotations

import socket

import pytest

from ebpfkit import net
from ebpfkit.dsl.structs import Header, sizeof
from ebpfkit.dsl.typeinfo import HeaderLength


@pytest.mark.parametrize(
    ("header", "size"),
    [(net.Ethernet, 14), (net.VLAN, 4), (net.ARP, 28), (net.IPv4, 20), (net.IPv6, 40), (net.TCP, 20), (net.UDP, 8),
     (net.ICMP, 8), (net.ICMPv6, 8)],
)  # fmt: skip
def test_sizes(header, size):
    assert sizeof(header) == size
    assert header.__ebpf_type__.packed
    assert header.__ebpf_type__.align == 1
    assert issubclass(header, Header)


def test_only_ip_and_tcp_say_their_length():
    assert net.IPv4.__ebpf_type__.header_length == HeaderLength("ihl", 4, 60)
    assert net.TCP.__ebpf_type__.header_length == HeaderLength("data_offset", 4, 60)
    others = [net.Ethernet, net.VLAN, net.ARP, net.IPv6, net.UDP, net.ICMP, net.ICMPv6]
    assert all(other.__ebpf_type__.header_length is None for other in others)


def test_numbers():
    for name in dir(socket):
        if name.startswith("IPPROTO_") and hasattr(net, name):
            assert getattr(net, name) == int(getattr(socket, name)), name
    assert (net.ETH_P_IP, net.ETH_P_IPV6, net.ETH_P_ARP, net.ETH_P_8021Q) == (0x800, 0x86DD, 0x806, 0x8100)


def test_everything_named_is_there():
    for name in net.__all__:
        assert getattr(net, name) is not None


def test_defaults_make_plausible_packets():
    ip = net.IPv4()
    assert (ip.version, ip.ihl, ip.ttl, ip.total_length) == (4, 5, 64, 20)
    assert net.TCP().data_offset == 5
    assert net.IPv6().version == 6
    assert net.Ethernet(type=net.ETH_P_ARP).type == 0x806
