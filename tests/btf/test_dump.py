"""Types as C: compiled back by clang, every size and offset is that of the BTF, and of bpftool's dump."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from ebpfkit.btf import Btf
from ebpfkit.btf import types as t
from ebpfkit.btf.dump import dump_c
from ebpfkit.btf.vmlinux import KERNEL_BTF, read_btf_file
from ebpfkit.elf import open_object
from ebpfkit.errors import ObjectError
from tests.conftest import require_tool, skip_or_fail
from tests.elf.objects import compile_c


def assertions(btf: Btf) -> list[str]:
    """One static assertion for each size and each member's offset that C can speak of, types of unique names only."""
    tags = Counter(type_.name for type_ in btf.types if isinstance(type_, t.Struct | t.Enum))
    structs = [(i, type_) for i, type_ in enumerate(btf.types) if isinstance(type_, t.Struct) and type_.name]
    enums = [type_ for type_ in btf.types if isinstance(type_, t.Enum) and type_.name]
    lines = []
    for _, struct_ in structs:
        if tags[struct_.name] > 1:
            continue
        tag = f"{'union' if isinstance(struct_, t.Union) else 'struct'} {struct_.name}"
        lines.append(f'_Static_assert(sizeof({tag}) == {struct_.size}, "{tag}");')
        for path, bits in members(btf, struct_, 0, 0):
            lines.append(f'_Static_assert(__builtin_offsetof({tag}, {path}) == {bits // 8}, "{tag}.{path}");')
    lines += [
        f'_Static_assert(sizeof(enum {e.name}) == {e.size}, "enum {e.name}");' for e in enums if tags[e.name] == 1
    ]
    return lines


def members(btf: Btf, struct_: t.Struct, base: int, depth: int) -> list[tuple[str, int]]:
    """(name, bits) of members that have an address, through anonymous structures."""
    found = []
    for member in struct_.members:
        if member.bitfield_size:
            continue
        inner = btf.resolve(member.type)
        if member.name:
            found.append((member.name, base + member.bit_offset))
        elif isinstance(inner, t.Struct) and depth < 8:
            found += members(btf, inner, base + member.bit_offset, depth + 1)
    return found


def check(header: str, rows: list[str], folder: Path, compiler: list[str]) -> str:
    (folder / "types.h").write_text(header)
    (folder / "check.c").write_text('#include "types.h"\n' + "\n".join(rows) + "\n")
    command = [*compiler, "-x", "c", "-fsyntax-only", "-w", "-ferror-limit=0", str(folder / "check.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr


def clang() -> list[str]:
    return [require_tool("clang"), "--target=bpf", "-O2"]


def test_the_kernels_types(tmp_path: Path) -> None:
    if not Path(KERNEL_BTF).exists():
        skip_or_fail("this kernel has no BTF")
    btf = read_btf_file()
    rows = assertions(btf)
    assert len(rows) > 10_000
    assert check(dump_c(btf), rows, tmp_path, clang()) == ""
    # The same holds for bpftool's dump: its types have our sizes and offsets.
    command = [require_tool("bpftool"), "btf", "dump", "file", KERNEL_BTF, "format", "c"]
    theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # It writes enumerations of one byte as if they had four, and va_list as the compiler's own type.
    failed = set(
        re.findall(
            r"'(?:sizeof\(|__builtin_offsetof\()((?:struct|union|enum) \w+)", check(theirs, rows, tmp_path, clang())
        )
    )
    assert len(failed) < 100
    for tag in failed - {"struct warn_args"}:
        word, name = tag.split()
        kind = {"struct": t.Struct, "union": t.Union, "enum": t.Enum}[word]
        assert holds_small_enum(btf, btf.find_id(name, kind)), tag
    assert check(theirs, [rows[0].replace("==", "!=")], tmp_path, clang()) != ""


def holds_small_enum(btf: Btf, type_id: int) -> bool:
    type_ = btf.resolve(type_id)
    if isinstance(type_, t.Struct):
        return any(holds_small_enum(btf, member.type) for member in type_.members)
    if isinstance(type_, t.Array):
        return holds_small_enum(btf, type_.type)
    return isinstance(type_, t.Enum) and type_.size != 4


OBJECTS = ["maps", "globals", "calls", "nested", "core", "link_a", "struct_ops", "externs"]


@pytest.mark.parametrize("name", OBJECTS)
def test_objects(name: str, tmp_path: Path) -> None:
    btf = open_object(compile_c(name)).btf
    assert btf is not None
    assert check(dump_c(btf), assertions(btf), tmp_path, clang()) == ""


ODD = """
struct packed { char a; int b; short c; } __attribute__((packed));
struct packed_inside { char a; struct packed p; long l; };
struct bits { unsigned a : 3, : 5, b : 9; int : 0; unsigned c : 1; char d; long e : 40, f : 30; };
struct packed_bits { unsigned a : 3, b : 30; char c; unsigned d : 7; } __attribute__((packed));
struct aligned { int a; char b __attribute__((aligned(64))); int c; } __attribute__((aligned(128)));
union wide { char a; int b; } __attribute__((aligned(32)));
struct nameless { int a; struct { char b; union { long c; char d[3]; }; }; struct { int x, y; } at[2]; };
enum small { ONE = 1, MANY = 200 } __attribute__((packed));
enum large { FAR = 0x123456789abcdefULL, NEAR = 1 };
enum minus { LOW = -0x7fffffffffffffffLL - 1, HIGH = 5 };
typedef int (*callback)(const char *const names[], struct nameless *, ...);
typedef struct { callback *volatile handlers[3]; enum { INLINED = 4 } kind; } table;
struct tail { int n; char data[]; };
struct empty {};
struct holder { struct empty e; const table *const t; int (*(*f)(int (*)[3]))[4]; void (*plain)(void); };
struct self { struct self *next; struct other *other; };
struct other { struct self inside; };
__int128 big; _Bool yes; float f; double d; long double ld;
struct all {
    struct packed a; struct packed_inside b; struct bits c; struct packed_bits d; struct aligned e; union wide f;
    struct nameless g; enum small h; enum large i; enum minus j; callback k; table l; struct holder n; struct other o;
    __int128 p; _Bool q; float r; double s; struct tail t;
};
struct all everything;
"""


def odd_types(folder: Path, *flags: str) -> Btf:
    (folder / "odd.c").write_text(ODD)
    out = folder / "odd.o"
    command = [*clang(), "-g", "-w", "-Wno-error", *flags, "-c", str(folder / "odd.c"), "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    btf = open_object(out).btf
    assert btf is not None
    return btf


def test_odd_layouts(tmp_path: Path) -> None:
    btf = odd_types(tmp_path)
    rows = assertions(btf)
    assert len(rows) > 60
    header = dump_c(btf)
    assert check(header, rows, tmp_path, clang()) == ""
    # Compiled back, the types are the same type by type, bit-fields too.
    source = header.replace("#pragma clang attribute", "//") + "\nstruct all everything;\n"
    (tmp_path / "back.c").write_text(source)
    command = [*clang(), "-g", "-w", "-c", str(tmp_path / "back.c"), "-o", str(tmp_path / "back.o")]
    subprocess.run(command, check=True, capture_output=True)
    back = open_object(tmp_path / "back.o").btf
    assert back is not None
    for _, struct_ in [*btf.iter_kind(t.Struct), *btf.iter_kind(t.Union)]:
        if struct_.name:
            other = back.find(struct_.name, type(struct_))
            assert other is not None
            assert [(*m[0::2], m.bitfield_size) for m in other.members] == [
                (*m[0::2], m.bitfield_size) for m in struct_.members
            ]


def test_names_that_c_could_not_tell_apart() -> None:
    u32 = t.Int("u32", 4, 0, 32)
    btf = Btf([
        t.VOID, u32, t.Struct("s", 4, (t.Member("a", 1, 0),)), t.Struct("s", 8, (t.Member("b", 1, 32),)),
        t.Typedef("x", 2), t.Typedef("x", 3), t.Struct("Option<u32>", 4, (t.Member("int", 1, 0),)),
        t.Enum("e", 4, (t.Enumerator("A", 1),)), t.Enum("f", 4, (t.Enumerator("A", 2),)),
    ])  # fmt: skip
    text = dump_c(btf)
    for part in ("struct s {", "struct s___2 {", "typedef struct s x;", "typedef struct s___2 x___2;", "\tint : 32;",
                 "struct Option_u32_ {", "u32 _int;", "A = 1,", "A___2 = 2,", "typedef unsigned int u32;"):  # fmt: skip
        assert part in text


CIRCLES = [
    [t.VOID, t.Typedef("a", 2), t.Typedef("b", 1)],
    [t.VOID, t.Struct("s", 8, (t.Member("x", 2, 0),)), t.Array(type=1, index_type=1, nelems=1)],
    [t.VOID, t.Typedef("a", 2), t.Ptr(type=3), t.Const(type=2)],
    [t.VOID, t.Struct("s", 8, (t.Member("x", 2, 0),)), t.Func("f", 0)],
    [t.VOID, t.Struct("s", 1, (t.Member("x", 2, 0),)), t.Int("int", 4, 0, 32)],
]


@pytest.mark.parametrize("types", CIRCLES, ids=["typedefs", "structures", "pointers", "functions", "too small"])
def test_what_c_cannot_say_is_refused(types: list[t.BtfType]) -> None:
    with pytest.raises(ObjectError):
        dump_c(Btf(types))


def nested(count: int, kind: str) -> Btf:
    """Few types, each of which holds the one before twice."""
    types: list[t.BtfType] = [t.VOID, t.Int("int", 4, 0, 32)]
    for number in range(1, count):
        last = len(types) - 1
        if kind == "functions":
            types += [t.FuncProto(ret=1, params=(t.Param("a", last), t.Param("b", last))), t.Ptr(type=len(types))]
        else:
            size = 4 << number
            types.append(t.Struct("", size, (t.Member("a", last, 0), t.Member("b", last, size * 4))))
    return Btf([*types, t.Typedef("all", len(types) - 1)])


@pytest.mark.parametrize("kind", ["functions", "structures"])
def test_text_without_end_is_refused(kind: str) -> None:
    from ebpfkit.btf.cformat import format_type

    assert "all" in dump_c(nested(8, kind))
    btf = nested(30, kind)
    with pytest.raises(ObjectError, match="too deeply or too often"):
        dump_c(btf)
    if kind == "functions":
        with pytest.raises(ObjectError, match="too deeply"):
            format_type(btf, len(btf.types) - 2)
