"""Network order: the value is the number on the wire, and only `.to_host()` opens it to arithmetic."""

from __future__ import annotations

import ipaddress
import operator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.dsl.addresses import MAC, IPv4Addr, IPv6Addr
from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.types import be16, be32, be64, bool_, s16, u8, u16, u32, u64
from ebpfkit.errors import CompileError

LAW = settings(derandomize=True, max_examples=200, deadline=None)


@LAW
@given(st.sampled_from([(be16, u16), (be32, u32), (be64, u64)]), st.integers(0, 2**64 - 1))
def test_bytes_are_big_endian_and_the_value_is_the_number(kinds, number):
    network, host = kinds
    number &= (1 << network.__ebpf_type__.bits) - 1
    value = network(number)
    assert bytes(value) == number.to_bytes(network.__ebpf_type__.size, "big")
    assert value == number
    assert value.to_host() == host(number)
    assert type(value.to_host()) is host
    assert hash(value) == hash(number)
    region = Region(bytearray(8))
    network.__ebpf_store__(region, 0, value)
    assert network.__ebpf_load__(region, 0) == value


def test_comparing_takes_integers_of_any_unsigned_kind():
    assert be16(0x800) == 0x800
    assert u16(0x800) == be16(0x800)
    assert u8(8) != be16(0x800)
    assert be16(80) < 1024 <= be16(1024)
    assert be16(80) in (80, 443)
    match be16(0x86DD):
        case 0x800:
            raise AssertionError
        case 0x86DD:
            pass
        case _:
            raise AssertionError


BINARY = [operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.and_, operator.or_,
          operator.xor, operator.lshift, operator.rshift]  # fmt: skip


@pytest.mark.parametrize("apply", BINARY)
def test_arithmetic_is_refused_with_the_hint(apply):
    for left, right in ((be16(4), 2), (2, be16(4)), (be16(4), be16(2)), (be16(4), u16(2))):
        with pytest.raises(CompileError, match=r"to_host") as caught:
            apply(left, right)
        assert caught.value.code == "network-order"


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (lambda: be16(70000), "does-not-fit"),
        (lambda: be16(-1), "does-not-fit"),
        (lambda: be16(u32(1)), "narrowing"),
        (lambda: be16(s16(1)), "narrowing"),
        (lambda: be16(True), "bad-type"),
        (lambda: be16(be32(1)), "bad-type"),
        (lambda: be16(1) == be32(1), "mixed-types"),
        (lambda: be16(1) == s16(1), "mixed-signedness"),
        (lambda: be16(1) < None, "bad-type"),
        (lambda: IPv4Addr("192.0.2.1") == "192.0.2.1", "bad-type"),
        (lambda: IPv4Addr("192.0.2.256"), "bad-address"),
        (lambda: IPv4Addr(b"123"), "bad-address"),
        (lambda: IPv6Addr("192.0.2.1"), "bad-address"),
        (lambda: MAC("02:00"), "bad-address"),
        (lambda: MAC("02:00:00:00:00:0g"), "bad-address"),
        (lambda: MAC("02:00:00:00:00:01") == "02:00:00:00:00:01", "bad-type"),
        (lambda: MAC()[6], "array-index"),
    ],
)
def test_what_is_refused(action, code):
    with pytest.raises(CompileError) as caught:
        action()
    assert caught.value.code == code


@LAW
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**128 - 1), st.binary(min_size=6, max_size=6))
def test_addresses_read_what_they_print(four, six, mac):
    assert str(IPv4Addr(four)) == str(ipaddress.IPv4Address(four))
    assert IPv4Addr(str(IPv4Addr(four))) == four
    assert IPv4Addr(ipaddress.IPv4Address(four)).to_host() == four
    assert str(IPv6Addr(ipaddress.IPv6Address(six))) == str(ipaddress.IPv6Address(six))
    assert bytes(IPv6Addr(str(IPv6Addr(six.to_bytes(16, "big"))))) == six.to_bytes(16, "big")
    assert bytes(MAC(str(MAC(mac)))) == mac
    assert [int(MAC(mac)[i]) for i in range(6)] == list(mac)


def test_addresses_are_values():
    assert MAC("ff:ff:ff:ff:ff:ff") == MAC(b"\xff" * 6)
    assert {MAC(): 1, IPv6Addr("::1"): 2}[IPv6Addr("::1")] == 2
    assert not MAC()
    assert repr(IPv4Addr("10.0.0.1")) == "IPv4Addr('10.0.0.1')"
    assert f"{IPv4Addr('10.0.0.1'):>10}" == "  10.0.0.1"


def test_bool_is_python_s_own():
    region = Region(bytearray(1))
    bool_.__ebpf_store__(region, 0, u8(3) > 2)
    assert bool_.__ebpf_load__(region, 0) is True
    with pytest.raises(CompileError, match="compare it"):
        bool_.__ebpf_store__(region, 0, u8(3))
