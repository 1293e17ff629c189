"""BTF on the wire: what is encoded is decoded, in both byte orders; broken bytes are an ObjectError."""

from __future__ import annotations

import pickle
import random
import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.btf import Btf, BtfExt, types
from ebpfkit.btf.types import (
    Array,
    BtfType,
    Const,
    Datasec,
    DeclTag,
    Enum,
    Enum64,
    Enumerator,
    Float,
    Func,
    FuncProto,
    Fwd,
    Int,
    Member,
    Param,
    Ptr,
    Restrict,
    Struct,
    Typedef,
    TypeTag,
    Union,
    Var,
    VarSecinfo,
    Volatile,
)  # fmt: skip
from ebpfkit.elf.reader import read_elf
from ebpfkit.errors import ObjectError
from tests.elf.objects import compile_c

SOURCES = ["maps", "globals", "calls", "nested", "problems", "core"]

COUNT = 24  # ids that the generated types may mention
ids = st.integers(0, COUNT)
names = st.text("abcdefgh_", max_size=8)
u32 = st.integers(0, (1 << 32) - 1)
s32 = st.integers(-(1 << 31), (1 << 31) - 1)


@st.composite
def enums(draw: st.DrawFn) -> BtfType:
    wide, signed = draw(st.booleans()), draw(st.booleans())
    bits = 64 if wide else 32
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    values = draw(st.lists(st.builds(Enumerator, names, st.integers(low, high)), max_size=4))
    return (Enum64 if wide else Enum)(draw(names), draw(st.sampled_from([1, 2, 4, 8])), tuple(values), signed)


@st.composite
def structs(draw: st.DrawFn) -> BtfType:
    flag = draw(st.booleans())
    member = st.builds(
        Member, names, ids, st.integers(0, (1 << 24) - 1 if flag else (1 << 32) - 1), st.integers(0, 255 if flag else 0)
    )
    members = draw(st.lists(member, max_size=4))
    flag = flag or any(m.bitfield_size for m in members)
    return draw(st.sampled_from([Struct, Union]))(draw(names), draw(u32), tuple(members), flag)


KINDS: list[st.SearchStrategy[BtfType]] = [
    st.builds(lambda n, s, e: Int(n, s, e, s * 8), names, st.sampled_from([1, 2, 4, 8, 16]), st.integers(0, 7)),
    st.builds(Ptr, st.just(""), ids),
    st.builds(Array, st.just(""), ids, ids, u32),
    structs(),
    enums(),
    st.builds(Fwd, names, st.booleans()),
    *(st.builds(kind, names, ids) for kind in (Typedef, Volatile, Const, Restrict)),
    st.builds(Func, names, ids, st.integers(0, 2)),
    st.builds(FuncProto, st.just(""), ids, st.lists(st.builds(Param, names, ids), max_size=4).map(tuple)),
    st.builds(Var, names, ids, st.integers(0, 2)),
    st.builds(Datasec, names, u32, st.lists(st.builds(VarSecinfo, ids, u32, u32), max_size=4).map(tuple)),
    st.builds(Float, names, st.sampled_from([2, 4, 8, 16])),
    st.builds(DeclTag, names, ids, st.integers(-1, 5), st.booleans()),
    st.builds(TypeTag, names, ids, st.booleans()),
]


def test_every_kind_is_generated() -> None:
    kinds = {cls.kind for cls in vars(types).values() if isinstance(cls, type) and issubclass(cls, BtfType)}
    assert kinds == set(range(20)) == set(types.KIND_NAMES)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.one_of(KINDS), min_size=COUNT, max_size=COUNT), st.booleans())
def test_encode_then_decode(generated: list[BtfType], big_endian: bool) -> None:
    data = Btf([types.VOID, *generated], big_endian=big_endian).to_bytes()
    for lazy in (False, True):
        again = Btf.from_bytes(data, lazy=lazy)
        assert list(again.types) == [types.VOID, *generated]
        assert again.big_endian == big_endian
        assert again.to_bytes() == data
    assert Btf(list(again.types), again.strings, big_endian=big_endian).to_bytes() == data
    assert pickle.loads(pickle.dumps(again)) == again


def btf_of(name: str) -> tuple[bytes, bytes]:
    elf = read_elf(compile_c(name))
    section, ext = elf.section(".BTF"), elf.section(".BTF.ext")
    assert section is not None and ext is not None
    return elf.contents(section), elf.contents(ext)


@pytest.mark.parametrize("name", SOURCES)
def test_what_clang_writes_is_written_again(name: str) -> None:
    """Types decoded and encoded give the same bytes; the string table keeps every offset."""
    data, _ = btf_of(name)
    btf = Btf.from_bytes(data)
    again = Btf(list(btf.types), btf.strings, big_endian=btf.big_endian).to_bytes()
    assert again == data


def read_all(data: bytes, ext: bytes) -> None:
    try:
        btf = Btf.from_bytes(data)
        for type_id in range(len(btf.types)):
            try:
                btf.size_of(type_id)
            except ObjectError:
                continue
        BtfExt.from_bytes(ext, btf)
        btf.with_types({}).to_bytes()
    except ObjectError as error:
        assert error.place.startswith(".BTF")


@pytest.mark.parametrize("name", SOURCES)
def test_broken_bytes(name: str) -> None:
    data, ext = btf_of(name)
    for length in range(0, len(data), 3):
        with pytest.raises(ObjectError):
            Btf.from_bytes(data[:length])
    for length in range(0, len(ext), 3):
        with pytest.raises(ObjectError):
            BtfExt.from_bytes(ext[:length], Btf.from_bytes(data))
    rng = random.Random(name)
    for _ in range(300):
        changed, changed_ext = bytearray(data), bytearray(ext)
        for buffer in (changed, changed_ext):
            where = rng.randrange(min(len(buffer), rng.choice((32, len(buffer)))))
            buffer[where] = rng.choice((0, 0x80, 0xFF, buffer[where] ^ 1 << rng.randrange(8)))
        read_all(bytes(changed), ext)
        read_all(data, bytes(changed_ext))


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.binary(max_size=200), st.sampled_from([b"\x9f\xeb\x01\x00\x18\x00\x00\x00", b"\xeb\x9f\x01\x00\x00\x00\x00\x18"])
)
def test_random_bytes(data: bytes, start: bytes) -> None:
    read_all(start + data, start + data)
    read_all(data, data)


def raw(type_words: list[int], strings: bytes = b"\0name\0") -> bytes:
    body = struct.pack(f"<{len(type_words)}I", *type_words)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


BROKEN = [
    ("magic", b"\0" * 24, "is not that of BTF"),
    ("kind", raw([0, 31 << 24, 0]), "kind 31 is not known"),
    ("info bits", raw([0, 2 << 24 | 1 << 16, 0]), "unknown bits"),
    ("cut type", raw([0, 2 << 24]), "cut off after 8 bytes"),
    ("cut members", raw([0, 4 << 24 | 5, 0]), "reaches behind the type section"),
    ("type id", raw([0, 2 << 24, 7]), "type id 7 is not within 0..1"),
    ("name", raw([99, 8 << 24, 0]), "name offset 99 is outside"),
    ("elements", raw([1, 8 << 24 | 2, 0]), "TYPEDEF says it has 2 elements"),
    ("integer", raw([1, 1 << 24, 3, 32]), "integer 'name' of 3 bytes"),
    ("linkage", raw([1, 12 << 24 | 3, 0]), "linkage 3 of function 'name'"),
    ("kind flag", raw([1, 8 << 24 | 1 << 31, 0]), "kind flag"),
    ("strings' end", raw([], b"\0x"), "begin and end with a zero byte"),
    ("no strings", raw([], b""), "string section is empty"),
]


@pytest.mark.parametrize(("data", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_messages(data: bytes, message: str) -> None:
    with pytest.raises(ObjectError, match=re.escape(message)):
        Btf.from_bytes(data)


def test_circles_end() -> None:
    btf = Btf([types.VOID, Typedef("a", 2), Typedef("b", 1), Array("", 3, 0, 2)])
    for type_id in (1, 3):
        with pytest.raises(ObjectError, match="circle"):
            btf.size_of(type_id)


def test_a_bomb_of_names_is_refused() -> None:
    """Names that share one long string would cost gigabytes."""
    strings = b"\0" + b"a" * 4000 + b"\0"
    members = [word for i in range(60000) for word in (1 + i % 3900, 0, 0)]
    data = raw([0, 4 << 24 | 60000, 0, *members], strings)
    read_all(data, b"")  # each name is decoded once, so this is affordable
    strings = b"\0" + b"a" * 60000 + b"\0"
    with pytest.raises(ObjectError, match="longer than"):
        Btf.from_bytes(raw([1, 8 << 24, 0], strings))


@pytest.mark.kernel
def test_the_kernels_own() -> None:
    """The running kernel's BTF: whole and lazy decoding agree, and encoding gives the same bytes."""
    path = Path("/sys/kernel/btf/vmlinux")
    if not path.exists():
        pytest.fail("this kernel has no BTF (CONFIG_DEBUG_INFO_BTF)")
    data = path.read_bytes()
    lazy, whole = Btf.from_bytes(data, lazy=True), Btf.from_bytes(data)
    for name in ("xdp_md", "xdp_buff", "sk_buff", "task_struct"):
        assert lazy.find(name, Struct) == whole.find(name, Struct)
        assert lazy.ids(name) == whole.ids(name)
    assert lazy.find("no_such_type_at_all", Struct) is None
    assert Btf(list(whole.types), whole.strings).to_bytes() == data
