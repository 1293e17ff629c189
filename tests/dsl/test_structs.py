"""Structures: C's layout, views of bytes, what constructors want, and what is refused."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.dsl.addresses import MAC, IPv4Addr, IPv6Addr
from ebpfkit.dsl.arrays import array
from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.structs import Header, Struct, bits, offsetof, sizeof
from ebpfkit.dsl.typeinfo import BitsType
from ebpfkit.dsl.types import be16, be32, be64, bool_, s8, s16, s32, s64, u8, u16, u32, u64
from ebpfkit.dsl.verdicts import XdpAction
from ebpfkit.errors import CompileError
from tests.conftest import require_tool

LAW = settings(derandomize=True, max_examples=150, deadline=None)
C_NAMES = {u8: "unsigned char", u16: "unsigned short", u32: "unsigned", u64: "unsigned long long", s8: "signed char",
           s16: "short", s32: "int", s64: "long long", be16: "unsigned short", be32: "unsigned",
           be64: "unsigned long long", bool_: "_Bool"}  # fmt: skip
CTYPES = {u8: ctypes.c_uint8, u16: ctypes.c_uint16, u32: ctypes.c_uint32, u64: ctypes.c_uint64, s8: ctypes.c_int8,
          s16: ctypes.c_int16, s32: ctypes.c_int32, s64: ctypes.c_int64, be16: ctypes.c_uint16, be32: ctypes.c_uint32,
          be64: ctypes.c_uint64, bool_: ctypes.c_bool}  # fmt: skip


def make(kinds, packed=False):
    names = {f"f{i}": kind for i, kind in enumerate(kinds)}
    return type("Made", (Struct,), {"__annotations__": names}, packed=packed)


@LAW
@given(st.lists(st.sampled_from(list(CTYPES)), min_size=1, max_size=8), st.booleans())
def test_layout_is_that_of_ctypes(kinds, packed):
    made = make(kinds, packed)
    fields = {"_fields_": [(f"f{i}", CTYPES[kind]) for i, kind in enumerate(kinds)]}
    if packed:
        fields["_pack_"] = 1
    expected = type("Expected", (ctypes.Structure,), fields)
    assert sizeof(made) == ctypes.sizeof(expected)
    assert made.__ebpf_type__.align == ctypes.alignment(expected)
    for i in range(len(kinds)):
        assert offsetof(made, f"f{i}") == getattr(expected, f"f{i}").offset


class Inner(Struct):
    a: u8
    b: u16


class Outer(Struct):
    tag: u8
    inner: Inner
    many: array[Inner, Literal[3]]
    wide: u64
    mac: MAC
    six: IPv6Addr
    four: IPv4Addr
    tail: s8


def test_layout_of_nested_types_is_clang_s(tmp_path: Path):
    clang = require_tool("clang")
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stdio.h>\n#include <stddef.h>\n"
        "struct inner { unsigned char a; unsigned short b; };\n"
        "struct outer { unsigned char tag; struct inner inner; struct inner many[3]; unsigned long long wide;\n"
        "  unsigned char mac[6]; unsigned char six[16]; unsigned four; signed char tail; };\n"
        'int main(void) { printf("%zu", sizeof(struct outer));\n'
        + "".join(
            f'  printf(" %zu", offsetof(struct outer, {n}));\n'
            for n in ("inner", "many", "wide", "mac", "six", "four", "tail")
        )
        + "}\n"
    )
    subprocess.run([clang, "-o", tmp_path / "layout", source], check=True)
    numbers = subprocess.run([tmp_path / "layout"], check=True, capture_output=True, text=True).stdout.split()
    ours = [sizeof(Outer), *(f.offset for f in Outer.__ebpf_type__.fields[1:])]
    assert ours == [int(n) for n in numbers]


class Word(Header):
    first: u8 = bits(4)
    second: u8 = bits(4)
    flags: u16 = bits(3)
    rest: u16 = bits(13)
    version: u32 = bits(4)
    middle: u32 = bits(8)
    low: u32 = bits(20)


@LAW
@given(st.binary(min_size=7, max_size=7), st.data())
def test_bit_fields_stand_in_network_order_from_the_highest_bit(data, draw):
    word = Word.from_bytes(data)
    number = int.from_bytes(data, "big")
    at = 56
    for field in Word.__ebpf_type__.fields:
        assert isinstance(field.type, BitsType)
        at -= field.type.width
        value = getattr(word, field.name)
        assert value == number >> at & (1 << field.type.width) - 1
        assert type(value) is {1: u8, 2: u16, 4: u32}[field.type.unit]
        new = draw.draw(st.integers(0, (1 << field.type.width) - 1))
        number = number & ~((1 << field.type.width) - 1 << at) | new << at
        setattr(word, field.name, new)
    assert bytes(word) == number.to_bytes(7, "big")


def test_a_structure_is_a_view():
    memory = Region(bytearray(b"\xee" * 4 + bytes(sizeof(Outer))), RegionKind.PACKET)
    view = Outer.__ebpf_load__(memory, 4)
    view.inner.b = 0x1234
    view.many[2].a = 9
    view.wide += 1
    alias = view.inner
    alias.a = 7
    assert view.inner.a == 7
    assert memory.data[:4] == b"\xee" * 4
    copied = view.copy()
    copied.wide = 0
    assert view.wide == 1
    assert view.many[2].a == 9
    assert copied.many[2].a == 9
    view.mac, view.six = MAC("02:00:00:00:00:01"), IPv6Addr("::1")
    assert view.mac == MAC("02:00:00:00:00:01")
    view.inner = Inner(a=1, b=2)
    alias.b = 5
    assert view.inner == Inner(a=1, b=5)


def test_copies_have_no_garbage_in_their_padding():
    memory = Region(bytearray(b"\xff" * sizeof(Outer)))
    view = Outer.__ebpf_load__(memory, 0)
    clean = bytes(view.copy())
    assert clean[1] == 0
    assert clean[3] == 0
    assert clean[-3:] == bytes(3)
    assert view == view.copy()


class Settings(Struct):
    limit: u32 = u32(10)
    action: XdpAction = XdpAction.XDP_DROP
    on: bool_
    name: array[u8, Literal[4]] = array[u8, Literal[4]](b"abcd")


class Extended(Settings):
    extra: u64


def test_constructors_take_names_and_defaults():
    made = Settings(on=True)
    assert (made.limit, made.action, made.on, bytes(made.name)) == (10, XdpAction.XDP_DROP, True, b"abcd")
    made.action = XdpAction.XDP_TX
    assert made.action is XdpAction.XDP_TX
    assert Settings.zero().limit == 0
    assert bytes(Settings.zero()) == bytes(sizeof(Settings))
    longer = Extended(on=False, extra=5, limit=u16(3))
    assert (longer.limit, longer.extra) == (3, 5)
    assert offsetof(Extended, "extra") == 16
    assert repr(Inner(a=1, b=2)) == "Inner(a=1, b=2)"
    assert Inner(a=1, b=2) != Inner(a=1, b=3)
    assert {Inner(a=1, b=2): "x"}[Inner(a=1, b=2)] == "x"
    with pytest.raises(TypeError, match=r"a view of the packet is unhashable: hash its .copy\(\)"):
        hash(Inner.__ebpf_load__(Region(bytearray(4), RegionKind.PACKET), 0))
    assert not hasattr(made, "other")
    assert hasattr(made, "limit")


def test_arrays():
    row = array[u16, 3]([1, 2, 3])
    assert array[u16, 3] is array[u16, Literal[3]]
    row[1] += 5
    assert [int(x) for x in row] == [1, 7, 3]
    assert bytes(row) == b"\1\0\7\0\3\0"
    assert len(row) == 3
    assert row.copy() == row
    grid = array[array[u8, 2], 2]([])
    grid[1][0] = 4
    assert bytes(grid) == b"\0\0\4\0"


def assign(view, name, value):
    setattr(view, name, value)


@pytest.mark.parametrize(
    ("action", "code", "text"),
    [
        (lambda: Inner(a=1), "missing-field", "Inner(...) lacks 'b'; name it, or start from Inner.zero()"),
        (lambda: Inner(a=1, b=2, c=3), "no-such-field", "Inner has no field 'c'; it has a, b"),
        (lambda: Inner.zero().c, "no-such-field", "it has a, b"),
        (lambda: assign(Inner.zero(), "c", 1), "no-such-field", "Inner has no field 'c'"),
        (lambda: assign(Inner.zero(), "a", 256), "does-not-fit", "256 does not fit u8"),
        (lambda: assign(Inner.zero(), "a", u16(1)), "narrowing", "u8 is narrower than u16"),
        (lambda: assign(Inner.zero(), "a", be16(1)), "network-order", ".to_host()"),
        (lambda: assign(Outer.zero(), "inner", Outer.zero()), "bad-type", "a Outer is not a Inner"),
        (lambda: assign(Outer.zero(), "mac", b"123456"), "bad-type", "write MAC(...)"),
        (lambda: assign(Word.zero(), "first", 16), "does-not-fit", "16 does not fit the 4 bits"),
        (lambda: array[u8, 3]([1, 2]), "bad-array", "has 3 elements, not 2"),
        (lambda: array[u8, 3]([1, 2, 3])[3], "array-index", "index 3 is outside"),
        (lambda: array[u8, 0], "bad-array", "a positive number"),
        (lambda: array[int, 2], "not-a-type", "write u64"),
        (lambda: Inner.from_bytes(b"1"), "bad-size", "Inner has 4 bytes, not 1"),
        (lambda: Inner.zero().submit(), "no-record", "no RingBuf.reserve()"),
        (lambda: offsetof(Inner, "z"), "no-such-field", "it has a, b"),
        (lambda: sizeof(int), "not-a-type", "int is not a type of the language"),
        (lambda: make([int]), "not-a-type", "write u64 or another width"),
        (lambda: type("M", (Struct,), {"__annotations__": {"copy": u8}}), "bad-name", "needs the name 'copy'"),
        (lambda: type("M", (Struct,), {"__annotations__": {"a": "nowhere"}}), "unknown-name", "nowhere"),
        (
            lambda: type("M", (Struct,), {"__annotations__": {"a": u16, "b": u8}, "a": bits(3)}),
            "bad-bits",
            "the 16-bit unit of 'a' has 13 bits without a name; add reserved: u16 = bits(13)",
        ),
        (lambda: type("M", (Struct,), {"__annotations__": {"a": be16}, "a": bits(3)}), "bad-bits", "u8, u16, u32"),
        (lambda: type("M", (Struct,), {"__annotations__": {"a": u8}, "a": bits(9)}), "bad-bits", "9 bits in a u8"),
    ],
)  # fmt: skip
def test_what_is_refused(action, code, text):
    with pytest.raises(CompileError) as caught:
        action()
    assert caught.value.code == code
    assert text in caught.value.message
