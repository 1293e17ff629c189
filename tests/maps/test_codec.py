"""Codecs: tables of values and bytes, refusals, and the round-trip law."""

from __future__ import annotations

import ipaddress
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.dsl.typeinfo import ArrayType, BitsType, Field, IntType, StructType
from ebpfkit.errors import UsageError
from ebpfkit.maps.codec import (
    AddressCodec,
    ArrayCodec,
    BytesCodec,
    Codec,
    IntCodec,
    LpmKeyCodec,
    MacCodec,
    PerCpuCodec,
    codec_for,
)

U8, U16, U32, S64 = IntType("u8", 8), IntType("u16", 16), IntType("u32", 32), IntType("s64", 64, signed=True)
BE16 = IntType("be16", 16, network=True)
IPV4 = IntType("IPv4Addr", 32, network=True)
HEADER = StructType(
    "Header",
    (
        Field("version", BitsType(4, 4, 1), 0),
        Field("ihl", BitsType(4, 0, 1), 0),
        Field("kind", U8, 1),
        Field("port", BE16, 2),
        Field("total", S64, 8),
        Field("address", IPV4, 16),
        Field("pair", ArrayType(U16, 2), 20),
    ),
    24,
    8,
)
HEADER_VALUE = {
    "version": 4, "ihl": 5, "kind": 7, "port": 80, "total": -1, "address": ipaddress.ip_address("192.0.2.1"),
    "pair": [1, 2],
}  # fmt: skip
HEADER_BYTES = bytes.fromhex("45070050 00000000 ffffffffffffffff c0000201 01000200".replace(" ", ""))

TABLE: list[tuple[Codec[Any], Any, str]] = [
    (IntCodec(4, byteorder="little"), 0x01020304, "04030201"),
    (IntCodec(4, byteorder="big"), 0x01020304, "01020304"),
    (IntCodec(1, signed=True), -1, "ff"),
    (IntCodec(1, is_bool=True), True, "01"),
    (BytesCodec(3), b"abc", "616263"),
    (AddressCodec(4), ipaddress.ip_address("192.0.2.1"), "c0000201"),
    (AddressCodec(16), ipaddress.ip_address("2001:db8::1"), "20010db8" + "0" * 23 + "1"),
    (MacCodec(), "02:00:00:00:00:2a", "02000000002a"),
    (ArrayCodec(IntCodec(2, byteorder="big"), 2), [1, 2], "00010002"),
    (LpmKeyCodec(AddressCodec(4)), ipaddress.ip_network("192.0.2.0/24"), "18000000c0000200"),
    (LpmKeyCodec(AddressCodec(16)), ipaddress.ip_network("2001:db8::/32"), "2000000020010db8" + "0" * 24),
    (LpmKeyCodec(IntCodec(2, byteorder="big")), (0x1200, 8), "080000001200"),
    (PerCpuCodec(IntCodec(4, byteorder="little"), 2), [1, 2], "01000000000000000200000000000000"),
    (codec_for(HEADER), HEADER_VALUE, HEADER_BYTES.hex()),
    (codec_for(ArrayType(U8, 4)), b"abcd", "61626364"),
    (codec_for(ArrayType(U8, 6, "MAC")), "00:00:00:00:00:01", "000000000001"),
    (codec_for(SimpleNamespace(__ebpf_type__=U32)), 5, "05000000"),
]  # fmt: skip


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is written for little-endian machines")
@pytest.mark.parametrize(("codec", "value", "data"), TABLE)
def test_table(codec: Codec[Any], value: Any, data: str) -> None:
    assert isinstance(codec, Codec)
    assert codec.size == len(data) // 2
    assert codec.to_bytes(value).hex() == data
    assert codec.from_bytes(bytes.fromhex(data)) == value
    with pytest.raises(UsageError, match="bytes, not"):
        codec.from_bytes(bytes(codec.size + 1))


LPM4 = LpmKeyCodec(AddressCodec(4))


@pytest.mark.parametrize(
    ("value", "same_as"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        (ipaddress.ip_address("192.0.2.7"), "192.0.2.7/32"),
        (b"\xc0\x00\x02\x07", "192.0.2.7/32"),
        (0xC0000207, "192.0.2.7/32"),
        (("192.0.2.0", 24), "192.0.2.0/24"),
        ("0.0.0.0/0", ipaddress.ip_network("0.0.0.0/0")),
    ],
)
def test_prefix_spellings(value: object, same_as: object) -> None:
    assert LPM4.to_bytes(value) == LPM4.to_bytes(same_as)


@pytest.mark.parametrize(
    ("codec", "value", "words"),
    [
        (IntCodec(1), 256, "256 does not fit into u8 (0 to 255)"),
        (IntCodec(1), -1, "does not fit"),
        (IntCodec(1, signed=True), 128, "-128 to 127"),
        (IntCodec(4), "5", "no integer"),
        (IntCodec(4), 1.5, "no integer"),
        (IntCodec(1, is_bool=True), 2, "True or False"),
        (BytesCodec(3), b"ab", "3 bytes, not 2"),
        (BytesCodec(3), 7, "not bytes"),
        (AddressCodec(4), "192.0.2", "no IPv4 address"),
        (AddressCodec(4), "192.0.2.0/24", "a network"),
        (AddressCodec(4), "::1", "no IPv4 address"),
        (AddressCodec(16), ipaddress.ip_address("192.0.2.1"), "no IPv6 address"),
        (MacCodec(), "02:00:00:00:00", "no Ethernet address"),
        (MacCodec(), "02:00:00:00:00:zz", "no Ethernet address"),
        (LPM4, "192.0.2.1/24", "write 192.0.2.0/24"),
        (LPM4, "192.0.2.0/33", "from 0 to 32"),
        (LPM4, "192.0.2.0/", "from 0 to 32"),
        (LPM4, "2001:db8::/32", "no IPv4 address"),
        (LPM4, (1, 2, 3), "(value, prefix length)"),
        (ArrayCodec(IntCodec(1), 2), [1, 2, 3], "2 elements, not 3"),
        (ArrayCodec(IntCodec(1), 2), 5, "no sequence"),
        (PerCpuCodec(IntCodec(4), 2), [1], "one for each CPU"),
        (codec_for(HEADER), {**HEADER_VALUE, "ihl": 16}, "Header.ihl: 16 does not fit into 4 bits"),
        (codec_for(HEADER), {**HEADER_VALUE, "port": 70_000}, "Header.port: 70000 does not fit"),
        (codec_for(HEADER), {"version": 4}, "no field 'ihl'"),
        (codec_for(HEADER), {**HEADER_VALUE, "tos": 1}, "no field 'tos'"),
    ],
)
def test_refusals(codec: Codec[Any], value: object, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        codec.to_bytes(value)
    assert words in caught.value.message


def test_what_describes_no_type_is_refused() -> None:
    with pytest.raises(UsageError, match="no type"):
        codec_for("u32")


def test_structures_take_objects_and_make_what_is_wanted() -> None:
    codec = codec_for(HEADER, make=SimpleNamespace)
    value = codec.from_bytes(HEADER_BYTES)
    assert value.port == 80
    assert codec.to_bytes(value) == HEADER_BYTES
    assert codec.to_bytes(HEADER_BYTES) == HEADER_BYTES


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.sampled_from([codec for codec, _, _ in TABLE if not isinstance(codec, LpmKeyCodec)]), st.data())
def test_bytes_come_back(codec: Codec[Any], data: st.DataObject) -> None:
    """Whatever is in memory reads, and reading writes the same bytes (padding and truth values apart)."""
    raw = data.draw(st.binary(min_size=codec.size, max_size=codec.size))
    value = codec.from_bytes(raw)
    again = codec.to_bytes(value)
    assert codec.from_bytes(again) == value
