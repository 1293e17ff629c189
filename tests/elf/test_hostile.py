"""Broken and hostile objects: an ObjectError with a place, in bounded time, or a result; never anything else."""

from __future__ import annotations

import glob
import random
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.asm.codec import encode
from ebpfkit.btf import Btf
from ebpfkit.elf import open_object
from ebpfkit.elf.reader import read_elf
from ebpfkit.errors import ObjectError
from tests.elf.objects import compile_c

# Generous: what takes milliseconds must not take this long, on the slowest machine.
PATIENCE = 20.0


def read_all(data: bytes, target: Btf | None = None) -> None:
    """Everything a user may do with what is read."""
    try:
        obj = open_object(data, name="hostile.o", target_btf=target)
    except ObjectError as error:
        assert error.place
        assert "\n" not in str(error)
        return
    for spec in obj.programs.values():
        encode(spec.instructions, big_endian=obj.big_endian)
        str([insn.span for insn in spec.instructions])
        repr(spec)
    if obj.btf is not None:
        obj.btf.to_bytes()


@pytest.mark.parametrize("name", ["maps", "calls", "nested"])
def test_truncations(name: str) -> None:
    data = compile_c(name)
    for length in [*range(200), *range(200, len(data), 37)]:
        with pytest.raises(ObjectError):
            open_object(data[:length])


@pytest.mark.parametrize("name", ["maps", "globals", "calls", "nested", "legacy", "problems", "core"])
def test_random_flips(name: str) -> None:
    """Bytes changed anywhere, and in the tables that matter most."""
    data = compile_c(name)
    elf = read_elf(data)
    target = open_object(data).btf
    table = struct.unpack_from("<Q", data, 40)[0]
    aims = [(0, len(data)), (0, 64), (table, table + 64 * len(elf.sections))]
    for section in elf.sections:
        if section.name in (".symtab", ".BTF", ".BTF.ext", ".rel.maps", ".relxdp", ".rel.BTF", "xdp", ".maps", "maps"):
            aims.append((section.offset, section.offset + section.size))
    rng = random.Random(name)
    begin = time.perf_counter()
    for _ in range(400):
        changed = bytearray(data)
        start, end = rng.choice(aims)
        for _ in range(rng.choice((1, 1, 2, 8))):
            where = rng.randrange(start, end)
            changed[where] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, changed[where] ^ 1 << rng.randrange(8)))
        read_all(bytes(changed), target)
    assert time.perf_counter() - begin < PATIENCE * 4


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    read_all(data)
    read_all(b"\x7fELF\x02\x01\x01" + data)


def header(sections: int, table: int, names: int = 0, machine: int = 247, kind: int = 1) -> bytes:
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    return ident + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 0, table, 0, 64, 0, 0, 64, sections, names)


def section_header(
    name: int, kind: int, flags: int, offset: int, size: int, link: int = 0, info: int = 0, entry: int = 0
) -> bytes:
    return struct.pack("<IIQQQQIIQQ", name, kind, flags, 0, offset, size, link, info, 8, entry)


def build(sections: list[tuple[str, int, int, bytes, int, int]]) -> bytes:
    """An object of (name, type, flags, contents, link, info); section 1 is the names."""
    names = b"\0"
    rows = []
    body = b""
    for name, kind, flags, contents, link, info in [(".strtab", 3, 0, b"", 0, 0), *sections]:
        rows.append((len(names), kind, flags, contents, link, info))
        names += name.encode() + b"\0"
    rows[0] = (*rows[0][:3], names, 0, 0)
    headers = bytes(64)
    at = 64 + 64 * (len(rows) + 1)
    for name_off, kind, flags, contents, link, info in rows:
        headers += section_header(name_off, kind, flags, at + len(body), len(contents), link, info)
        body += contents
    return header(len(rows) + 1, 64, 1) + headers + body


def symbol(name: int, value: int, size: int, section: int, info: int = 0x12) -> bytes:
    return struct.pack("<IBBHQQ", name, info, 0, section, value, size)


EXIT = b"\x95" + bytes(7)


def test_the_builder_of_these_tests_builds_a_program() -> None:
    """Otherwise the cases below would prove nothing."""
    strings = b"\0prog\0"
    obj = open_object(
        build([("xdp", 1, 6, EXIT, 0, 0), (".str", 3, 0, strings, 0, 0), (".sym", 2, 0, symbol(1, 0, 8, 2), 3, 0)])
    )
    assert set(obj.programs) == {"prog"}


BROKEN = [
    ("no sections", header(0, 64), "sections are not within"),
    ("headers outside", header(5, 1 << 60), "reach behind the file's end"),
    ("names outside", header(1, 64, names=9) + bytes(64), "section 9 of names"),
    ("another machine", header(1, 64, machine=62) + bytes(64), "compile with -target bpf"),
    ("an executable", header(1, 64, kind=2) + bytes(64), "not a relocatable object"),
    ("32 bit", b"\x7fELF\x01\x01\x01" + bytes(57), "BPF objects are 64-bit"),
    ("names that are none", header(2, 64, names=1) + bytes(64) + section_header(0, 1, 0, 0, 8), "no string table"),
    ("a section outside", build([("xdp", 1, 6, EXIT, 0, 0)])[:-4], "reach behind the file's end"),
    ("half a slot", build([("xdp", 1, 6, EXIT[:7], 0, 0)]), "no whole number of 8-byte slots"),
    ("symbols linked to themselves", build([(".sym", 2, 0, symbol(0, 0, 0, 0), 2, 0)]), "is no string table"),
    ("symbols linked nowhere", build([(".sym", 2, 0, symbol(0, 0, 0, 0), 77, 0)]), "does not exist"),
    ("a lost symbol", build([(".s", 3, 0, b"\0", 0, 0), (".sym", 2, 0, symbol(0, 0, 0, 99), 2, 0)]), "section 99"),
    (
        "a function outside",
        build([("xdp", 1, 6, EXIT, 0, 0), (".s", 3, 0, b"\0p\0", 0, 0), (".sym", 2, 0, symbol(1, 8, 8, 2), 3, 0)]),
        "does not fit the section",
    ),
    (
        "functions that overlap",
        build([
            ("xdp", 1, 6, EXIT * 4, 0, 0), (".s", 3, 0, b"\0p\0q\0", 0, 0),
            (".sym", 2, 0, symbol(1, 0, 24, 2) + symbol(3, 8, 24, 2), 3, 0),
        ]),
        "overlaps",
    ),
    (
        "a relocation of no symbol",
        build([("xdp", 1, 6, EXIT, 0, 0), (".rel", 9, 0, struct.pack("<QQ", 0, 5 << 32 | 1), 0, 2)]),
        "symbol 5 is not within",
    ),
    ("relocations with addends", build([("xdp", 1, 6, EXIT, 0, 0), (".rela", 4, 0, bytes(24), 0, 2)]), "RELA"),
    ("a licence that is none", build([("license", 1, 3, b"\xff\xfe\0", 0, 0)]), "no licence"),
    ("types that are none", build([(".BTF", 1, 0, b"\x9f\xeb\x01\0", 0, 0)]), "too few for a header"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken(data: bytes, message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        open_object(data)


def grow(kind: str) -> bytes:
    """Objects of a few hundred kilobytes that would cost a careless reader quadratic time or gigabytes."""
    count = 4000
    if kind == "names that overlap":
        strings = b"\0" + b"a" * 4000 + b"\0"
        symbols = b"".join(symbol(1 + i % 4000, 0, 0, 0) for i in range(count * 4))
        return build([(".s", 3, 0, strings, 0, 0), (".sym", 2, 0, symbols, 2, 0)])
    if kind == "functions that share their code":
        strings = b"\0" + b"".join(b"%06d\0" % i for i in range(count))
        symbols = b"".join(symbol(1 + 7 * i, 0, 8 * count, 2) for i in range(count))
        return build([("xdp", 1, 6, EXIT * count, 0, 0), (".s", 3, 0, strings, 0, 0), (".sym", 2, 0, symbols, 3, 0)])
    if kind == "many odd sections":
        sections = [(f"odd{i}", 1, 6, EXIT, 0, 0) for i in range(count)]
        strings = b"\0" + b"".join(b"%06d\0" % i for i in range(count))
        symbols = b"".join(symbol(1 + 7 * i, 0, 8, 2 + i) for i in range(count))
        return build([*sections, (".s", 3, 0, strings, 0, 0), (".sym", 2, 0, symbols, 2 + count, 0)])
    if kind == "sections that share their contents":
        data = bytearray(build([(f".data.{i}", 1, 3, b"", 0, 0) for i in range(count)]))
        for i in range(2, count + 2):
            struct.pack_into("<QQ", data, 64 + 64 * i + 24, 0, len(data))
        return bytes(data)
    assert kind == "zeros without end"
    data = bytearray(build([(f".bss.{i}", 8, 3, b"", 0, 0) for i in range(count)]))
    for i in range(2, count + 2):
        struct.pack_into("<Q", data, 64 + 64 * i + 32, 1 << 30)
    return bytes(data)


@pytest.mark.parametrize(
    "kind",
    [
        "names that overlap",
        "functions that share their code",
        "many odd sections",
        "sections that share their contents",
        "zeros without end",
    ],
)
def test_bombs(kind: str) -> None:
    data = grow(kind)
    begin = time.perf_counter()
    read_all(data)
    assert time.perf_counter() - begin < PATIENCE


def test_too_much_code() -> None:
    code = EXIT * 2_000_001
    with pytest.raises(ObjectError, match="more than 2000000 slots"):
        open_object(build([("xdp", 1, 6, code, 0, 0)]))
    with pytest.raises(ObjectError, match="larger than 64 MiB"):
        open_object(bytes((64 << 20) + 1))


DEBIAN = sorted(glob.glob("/usr/lib/*/bpf/*.o"))


@pytest.mark.parametrize("path", DEBIAN, ids=[path.rsplit("/", 1)[1] for path in DEBIAN])
def test_packaged_objects(path: str) -> None:
    """Whatever objects the system ships are read, and every program is linked or has its reason."""
    obj = open_object(path)
    assert obj.programs or obj.problems
    for spec in obj.programs.values():
        assert all(insn.span for insn in spec.instructions)


def test_names_that_would_break_a_message() -> None:
    """Found by the guided campaign: a line feed in a section's name."""
    data = compile_c("calls").replace(b".rel.text\0", b".re\n.text\0")
    with pytest.raises(ObjectError, match=r"the name '\.re\\n\.text' has characters that cannot be shown") as caught:
        open_object(data, name="hostile.o")
    assert "\n" not in str(caught.value)
