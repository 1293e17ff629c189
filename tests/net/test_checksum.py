"""The checksum functions against scapy's and against the definition, as plain Python."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.utils import checksum

from ebpfkit.dsl.types import be16, be32, be64, u8, u16, u32
from ebpfkit.net import (
    IPv4,
    IPv4Addr,
    csum_fold,
    csum_replace2,
    csum_replace4,
    decrement_ttl,
    ipv4_checksum,
    ipv4_pseudo_sum,
)

LAW = settings(derandomize=True, max_examples=300, deadline=None)


def header(data: bytes) -> IPv4:
    return IPv4.from_bytes(b"\x45" + data)


@LAW
@given(st.binary(min_size=19, max_size=19))
def test_the_checksum_of_a_header_is_scapy_s(data):
    ip = header(data)
    ip.checksum = 0
    assert ipv4_checksum(ip) == checksum(bytes(ip))


@LAW
@given(st.binary(min_size=19, max_size=19), st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF))
def test_an_update_is_what_computing_anew_gives(data, word, address):
    ip = header(data)
    ip.checksum = 0
    ip.checksum = checksum(bytes(ip))
    old_id, old_src = ip.id, ip.src
    ip.id = word
    ip.src = address
    updated = csum_replace4(csum_replace2(ip.checksum, old_id, be16(word)), old_src, be32(address))
    ip.checksum = 0
    assert updated == checksum(bytes(ip))


def test_time_to_live():
    packet = bytes(IP(ttl=64, src="10.0.0.1", dst="10.0.0.2", proto=17))
    ip = IPv4.from_bytes(packet)
    for ttl in range(63, 0, -1):
        decrement_ttl(ip)
        assert ip.ttl == ttl
        assert ip.checksum == IP(bytes(IP(ttl=ttl, src="10.0.0.1", dst="10.0.0.2", proto=17))).chksum


def test_folding_and_the_pseudo_header():
    assert csum_fold(u32(0)) == 0xFFFF
    assert csum_fold(u32(0xFFFF)) == 0
    assert csum_fold(u32(0x1FFFE)) == 0
    assert type(csum_fold(u32(5))) is u16
    total = ipv4_pseudo_sum(IPv4Addr("10.0.0.1"), IPv4Addr("10.0.0.2"), u8(17), u16(8))
    words = bytes([10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 8])
    assert csum_fold(total) == checksum(words)


@LAW
@given(st.binary(min_size=1, max_size=8).filter(lambda data: len(data) in (2, 4, 8)))
def test_raw_numbers_are_the_bytes_of_a_little_endian_machine(data):
    kind = {2: be16, 4: be32, 8: be64}[len(data)]
    value = kind(int.from_bytes(data, "big"))
    assert value.raw() == int.from_bytes(data, "little")
    assert kind.from_raw(value.raw()) == value
