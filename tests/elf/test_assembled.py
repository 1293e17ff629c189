"""A compiler's `.s` becomes the object that the compiler's own assembler makes: contents, relocations, symbols."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.asm.unit import assemble
from ebpfkit.elf import open_object
from ebpfkit.elf.assembled import object_from_unit
from ebpfkit.elf.reader import STB_WEAK, STT_SECTION, ElfFile, read_elf
from ebpfkit.errors import AsmError
from tests.conftest import require_tool
from tests.elf.objects import SOURCES, require_zig

MADE_BY_THE_WRITER = (".symtab", ".strtab", ".shstrtab", ".rel")
LEFT_OUT = (".debug", ".llvm", ".eh_frame")


def parts(elf: ElfFile) -> dict[str, tuple[object, ...]]:
    """Every section that counts: contents, attributes, relocations, and the symbols in it."""
    found: dict[str, tuple[object, ...]] = {}
    for section in elf.sections[1:]:
        if section.name.startswith((*MADE_BY_THE_WRITER, *LEFT_OUT)):
            continue
        relocations = [
            (place.offset, place.type, place.symbol.name or elf.name_of(place.symbol.section))
            for place in elf.relocations(section)
        ]
        symbols = sorted(
            (symbol.name, symbol.value, symbol.size, symbol.type, symbol.bind, symbol.visibility)
            for symbol in elf.symbols_of(section)
            if symbol.type != STT_SECTION
        )
        attributes = (section.type, section.flags, section.alignment, section.entry_size)
        found[section.name] = (elf.contents(section), attributes, relocations, symbols)
    found["undefined"] = tuple(sorted((s.name, s.bind) for s in elf.symbols if s.is_undefined and s.name))
    return found


def by_both(command: list[str], name: str, tmp_path: Path, *, big_endian: bool) -> tuple[ElfFile, ElfFile]:
    """The object of our assembler and the compiler's, from the same text."""
    text, target = tmp_path / f"{name}.s", tmp_path / f"{name}.o"
    subprocess.run([*command, "-O2", "-g", "-S", SOURCES / f"{name}.c", "-o", text], check=True)
    subprocess.run([*command, "-c", text, "-o", target], check=True, stderr=subprocess.DEVNULL)
    ours = object_from_unit(assemble(text.read_text(), file=text.name, big_endian=big_endian))
    return read_elf(ours), read_elf(target.read_bytes())


@pytest.mark.parametrize("order", ["bpfel", "bpfeb"])
@pytest.mark.parametrize("name", ["calls", "core", "externs", "globals", "kfunc", "legacy", "maps", "struct_ops"])
def test_clang(name: str, order: str, tmp_path: Path) -> None:
    command = [require_tool("clang"), "-target", order, "-mcpu=v3"]
    ours, theirs = by_both(command, name, tmp_path, big_endian=order == "bpfeb")
    assert parts(ours) == parts(theirs)


@pytest.mark.parametrize("order", ["bpfel", "bpfeb"])
@pytest.mark.parametrize("name", ["globals", "nested"])
def test_clang_22(name: str, order: str, tmp_path: Path) -> None:
    command = [*require_zig(), "-target", f"{order}-freestanding", "-mcpu=v4"]
    ours, theirs = by_both(command, name, tmp_path, big_endian=order == "bpfeb")
    assert parts(ours) == parts(theirs)


BY_HAND = """\
.section xdp,"ax"
.globl prog
prog:
    r1 = limit+4 ll
    w0 = *(u32 *)(r1 + 0)
    call twice
    exit
.text
twice: r0 = r1; r0 += r1; exit
.section .rodata,"a"
.globl limit
limit:
    .long 7, 0x2          # two of them
    .ascii "a\\"\\\\\\n\\101\\x42", "c"
    .p2align 3
    .byte end-limit, -1
    .short end-.
end:
.lcomm zeroes, 24, 8
.section license,"aw"
.asciz "GPL"
"""


def test_text_written_by_hand() -> None:
    data = object_from_unit(assemble(BY_HAND))
    obj = open_object(data, name="hand.o")
    assert not obj.problems and obj.license == "GPL"
    assert [insn.op.name for insn in obj.programs["prog"].instructions][:3] == ["LDDW_MAP_VALUE", "LDXW", "CALL_LOCAL"]
    assert obj.maps[".rodata"].data == b"\7\0\0\0\2\0\0\0" + b'a"\\\nABc' + b"\0" + b"\x14\xff\x02\0"
    assert obj.variables["limit"].size == 20
    assert obj.maps[".bss"].value_size == 24


def test_addresses_in_data() -> None:
    text = '.data\n.quad f, 8+x-3\nx: .long g\n.text\n.globl f\nexit\nf: exit\n.section .tab,"a"\n.long g-1'
    elf = read_elf(object_from_unit(assemble(text + "\n.weak g", big_endian=True)))
    data, table = elf.section(".data"), elf.section(".tab")
    assert data is not None and table is not None
    assert elf.contents(data).hex(" ", -8) == "0000000000000000 0000000000000015 00000000"
    assert elf.contents(table).hex() == "ffffffff"
    places = [(r.offset, r.type, r.symbol.name or elf.name_of(r.symbol.section)) for r in elf.relocations(data)]
    assert places == [(0, 2, "f"), (8, 2, ".data"), (16, 3, "g")]
    assert next(s.bind for s in elf.symbols if s.name == "g") == STB_WEAK


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(st.data())
def test_mutated_text_is_an_object_or_an_asm_error(data: st.DataObject) -> None:
    lines = BY_HAND.split("\n")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        pieces = [
            ".bss",
            ".set a, limit+4",
            ".previous",
            "x: .long x-limit",
            ".weak limit",
            '.section s,"ax"',
            "call prog",
        ]
        change = data.draw(st.sampled_from(["drop", "double", "cut", *pieces]))
        if change == "drop" and len(lines) > 1:
            del lines[at]
        elif change == "cut":
            lines[at] = lines[at][: data.draw(st.integers(0, len(lines[at])))]
        else:
            lines.insert(at, lines[at] if change == "double" else change)
    try:
        read_elf(object_from_unit(assemble("\n".join(lines), big_endian=data.draw(st.booleans()))))
    except AsmError:
        return


REFUSED = [
    ("r0 = 0\nexit", "names no section"),
    ('.section a,"ax"\np: goto q\n.text\nq: exit', "a jump stays within its section"),
    ('.section a,"a"\n.byte x', "does not fit 1 byte"),
    ('.section a,"a"\n.byte 256', "256 does not fit 1 byte"),
    ('.section a,"a"\n.long b-c', "known only within one section"),
    ('.section a,"a"\nx: .long x+y', "the sum of two addresses"),
    ('.section a,"a"\n.long 5 6', "is no number and no sum"),
    ('.section a,"a"\n.ascii 5', "expected a string in quotes"),
    ('.section a,"a"\n.ascii "\\q"', "is no escape"),
    ('.section a,"a"\n.ascii "abc', "no closing quote"),
    ('.section a,"a"\n.zero 0xffffffff', "bytes of data"),
    ('.section a,"aw",@nobits\n.long 5', "holds zeroes only"),
    ('.section a,"a"\n.zero x', "expected a size, a number"),
    ('.section a,"a"\n.p2align 40', "is more than 16"),
    ('.section a,"a"\nx:\nx: .long 1', "'x' is set twice"),
    (".type f", "as in `.type prog,@function`"),
    ('.section a,"a"\n.set x, y', "another name of a place"),
    ('.section a,"a"\n.uleb128 x', "plain numbers"),
    (".text\n.comm x", "a name, a size and an alignment"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused_with_the_place(text: str, message: str) -> None:
    with pytest.raises(AsmError, match=message):
        assemble(text, file="x.s")
