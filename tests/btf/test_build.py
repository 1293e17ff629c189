"""Building types in Python, sizes, C text, and split BTF."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ebpfkit.btf import Btf, BtfBuilder
from ebpfkit.btf.cformat import format_declaration, format_definition, format_type
from ebpfkit.btf.types import (
    KIND_NAMES,
    Const,
    Datasec,
    Enum64,
    Func,
    Linkage,
    Member,
    Restrict,
    Struct,
    TypeTag,
    Union,
    Volatile,
)
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.elf.reader import read_elf
from ebpfkit.errors import ObjectError
from tests.conftest import require_tool
from tests.elf.objects import compile_c


def sample() -> tuple[BtfBuilder, dict[str, int]]:
    b = BtfBuilder()
    u8, u32, u64 = b.integer("unsigned char", 1), b.integer("unsigned int", 4), b.integer("unsigned long long", 8)
    s32 = b.integer("int", 4, signed=True)
    address = b.array(u8, 6)
    hits = b.struct("hits", 24, [("packets", u64, 0), ("bytes", u64, 8), ("from", address, 16)])
    pointer = b.pointer(hits)
    proto = b.func_proto(s32, [("key", u32), ("hit", pointer)])
    found = {
        "u32": u32, "hits": hits, "pointer": pointer, "array": b.array(u32, 4), "pointers": b.array(pointer, 3),
        "alias": b.typedef("hits_t", hits), "proto": proto, "callback": b.pointer(proto),
        "to_array": b.pointer(b.array(u32, 2)), "const": b.pointer(b.add(Const(type=u8))),
        "const_pointer": b.add(Const(type=pointer)), "restrict": b.add(Restrict(type=b.pointer(0))),
        "volatile": b.add(Volatile(type=u32)), "tagged": b.pointer(b.add(TypeTag("user", u32))),
        "either": b.struct("either", 8, [("a", u32, 0), ("b", u64, 0)], union=True),
        "verdict": b.enum("verdict", [("DROP", 1), ("PASS", 2)]),
        "wide": b.enum("wide", [("BIG", 1 << 40)], size=8),
        "function": b.func("handle", proto, Linkage.STATIC),
    }  # fmt: skip
    variable = b.var("counter", u64)
    found["section"] = b.datasec(".bss", 8, [(variable, 0, 8)])
    return b, found


def test_equal_types_share_an_id() -> None:
    builder, found = sample()
    assert builder.integer("unsigned int", 4) == found["u32"]
    assert builder.pointer(found["hits"]) == found["pointer"]
    again = BtfBuilder(builder.build())
    assert again.pointer(found["hits"]) == found["pointer"]
    assert len(again.build()) == len(builder.build())


def test_sizes() -> None:
    builder, ids = sample()
    btf = Btf.from_bytes(builder.build().to_bytes())
    sizes = {
        "u32": 4, "hits": 24, "pointer": 8, "array": 16, "pointers": 24, "alias": 24, "either": 8, "wide": 8,
        "section": 8,
    }  # fmt: skip
    assert {name: btf.size_of(ids[name]) for name in sizes} == sizes
    for name in ("proto", "function"):
        with pytest.raises(ObjectError, match="has no size"):
            btf.size_of(ids[name])
    with pytest.raises(ObjectError, match="has no size"):
        btf.size_of(0)
    with pytest.raises(ObjectError, match="is not within"):
        btf.size_of(1000)


def test_finding() -> None:
    builder, ids = sample()
    btf = builder.build()
    assert btf.find_id("hits", Struct) == ids["hits"]
    assert btf.find("either", Struct) is None
    assert btf.find("either", Union) is not None
    assert btf.find_id("handle", Func) == ids["function"]
    assert btf.name(ids["alias"]) == "hits_t"
    hits = btf.resolve(ids["alias"])
    assert isinstance(hits, Struct)
    member = hits.member("bytes")
    assert member is not None and member.offset == 8
    wide = btf.find("wide", Enum64)
    assert wide is not None and wide.value("BIG") == 1 << 40


DECLARATIONS = [
    ("u32", "unsigned int", "unsigned int x"),
    ("pointer", "struct hits *", "struct hits *x"),
    ("array", "unsigned int[4]", "unsigned int x[4]"),
    ("pointers", "struct hits *[3]", "struct hits *x[3]"),
    ("alias", "hits_t", "hits_t x"),
    ("callback", "int (*)(unsigned int key, struct hits *hit)", "int (*x)(unsigned int key, struct hits *hit)"),
    ("to_array", "unsigned int (*)[2]", "unsigned int (*x)[2]"),
    ("const", "const unsigned char *", "const unsigned char *x"),
    ("const_pointer", "struct hits *const", "struct hits *const x"),
    ("restrict", "void *restrict", "void *restrict x"),
    ("volatile", "volatile unsigned int", "volatile unsigned int x"),
    ("tagged", "unsigned int *", "unsigned int *x"),
    ("verdict", "enum verdict", "enum verdict x"),
    ("function", "int handle(unsigned int key, struct hits *hit)", "int x(unsigned int key, struct hits *hit)"),
]


@pytest.mark.parametrize(("name", "bare", "declared"), DECLARATIONS, ids=[row[0] for row in DECLARATIONS])
def test_c_text(name: str, bare: str, declared: str) -> None:
    builder, ids = sample()
    btf = builder.build()
    assert format_type(btf, ids[name]) == bare
    assert format_declaration(btf, ids[name], "x") == declared


def test_c_definitions() -> None:
    builder, ids = sample()
    btf = builder.build()
    assert format_definition(btf, ids["hits"]).splitlines() == [
        "struct hits {",
        "    unsigned long long packets;  /* 0 */",
        "    unsigned long long bytes;  /* 8 */",
        "    unsigned char from[6];  /* 16 */",
        "};  /* size 24 */",
    ]
    assert format_definition(btf, ids["verdict"]).splitlines() == [
        "enum verdict {",
        "    DROP = 1,",
        "    PASS = 2,",
        "};",
    ]


def test_split_btf() -> None:
    """A module's BTF continues the kernel's ids and strings."""
    builder, ids = sample()
    base = Btf.from_bytes(builder.build().to_bytes())
    extra = Struct("extra", 8, (Member("hit", ids["pointer"], 0),))
    split = Btf([*base.types, extra], b"", base=base)
    again = Btf.from_bytes(split.to_bytes(), base=base, lazy=True)
    assert again.find("extra", Struct) == extra
    assert again.find_id("hits", Struct) == ids["hits"]
    assert again.find_id("extra", Struct) == len(base)
    assert format_definition(again, len(base)).splitlines()[1] == "    struct hits *hit;  /* 0 */"


@pytest.mark.parametrize("name", ["maps", "globals", "calls", "nested", "problems"])
def test_bpftool_reads_the_same(name: str, tmp_path: Path) -> None:
    """Kind, name and size of every type, as bpftool dumps them."""
    path = tmp_path / "x.o"
    path.write_bytes(compile_c(name))
    dumped = subprocess.run(
        [require_tool("bpftool"), "-j", "btf", "dump", "file", str(path)], capture_output=True, check=True
    )
    elf = read_elf(path.read_bytes())
    section = elf.section(".BTF")
    assert section is not None
    btf = Btf.from_bytes(elf.contents(section))
    rows = json.loads(dumped.stdout)["types"]
    assert len(rows) == len(btf) - 1
    for row in rows:
        type_ = btf.types[row["id"]]
        assert KIND_NAMES[type_.kind] == row["kind"]
        assert type_.name == row["name"].replace("(anon)", "")
        if isinstance(type_, Struct):
            assert type_.size == row["size"]
            assert [(m.name or "(anon)", m.type, m.bit_offset) for m in type_.members] == [
                (m["name"], m["type_id"], m["bits_offset"]) for m in row["members"]
            ]
        if isinstance(type_, Datasec):
            assert [v.type for v in type_.vars] == [v["type_id"] for v in row["vars"]]


def test_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ObjectError, match=r"/nowhere: cannot read BTF: No such file"):
        read_btf_file("/nowhere")
    builder, ids = sample()
    path = tmp_path / "btf"
    path.write_bytes(builder.build().to_bytes())
    assert read_btf_file(path).find_id("hits", Struct) == ids["hits"]
