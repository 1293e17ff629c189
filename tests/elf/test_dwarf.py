"""Lines from DWARF, where `.BTF.ext` has none: the same lines, and nothing but an ObjectError for hostile tables."""

from __future__ import annotations

import random
import re
import sys

import pytest

from ebpfkit.elf import ObjectFile, open_object
from ebpfkit.elf.dwarf import read_lines
from ebpfkit.elf.reader import read_elf
from ebpfkit.errors import ObjectError
from tests.elf.objects import compile_c


def without_btf_lines(data: bytes) -> bytes:
    """The object with `.BTF.ext` called something else."""
    return data.replace(b".BTF.ext\0", b".XTF.ext\0")


def places_within(obj: ObjectFile) -> dict[str, list[tuple[str, int, int] | None]]:
    """Places with a column: where a function begins (column 0), BTF and DWARF may name different lines of its head."""
    return {name: [place for place in rows if place is None or place[2]] for name, rows in places(obj).items()}


def places(obj: ObjectFile) -> dict[str, list[tuple[str, int, int] | None]]:
    return {
        name: [
            (i.span.file.rsplit("/", 1)[-1], i.span.line, i.span.column) if i.span else None for i in spec.instructions
        ]
        for name, spec in obj.programs.items()
    }


@pytest.mark.parametrize(
    "flags", [(), ("-gdwarf-4",), ("-gdwarf-5",), ("--target=bpfeb",)], ids=lambda f: "".join(f) or "5"
)
@pytest.mark.parametrize("name", ["calls", "globals", "nested"])
def test_the_same_lines(name: str, flags: tuple[str, ...]) -> None:
    data = compile_c(name, *flags)
    with_btf = places_within(open_object(data))
    from_dwarf = open_object(without_btf_lines(data))
    assert places_within(from_dwarf) == with_btf
    assert all(None not in rows and rows for rows in places(from_dwarf).values())
    assert not from_dwarf.warnings
    for spec in from_dwarf.programs.values():
        assert spec.btf is not None and spec.line_infos[0].slot == 0
        for info in spec.line_infos:
            path, text = spec.btf.string(info.file_name_off), spec.btf.string(info.line_off)
            assert path.endswith(f"{name}.c") and text == f"{name}.c:{info.line}"


def test_btf_goes_first() -> None:
    """An object with lines in BTF does not pay for DWARF."""
    sys.modules.pop("ebpfkit.elf.dwarf", None)
    open_object(compile_c("calls"))
    assert "ebpfkit.elf.dwarf" not in sys.modules


def test_broken_tables_are_told_and_harm_no_program() -> None:
    data = without_btf_lines(compile_c("calls"))
    section = read_elf(data).section(".debug_line")
    assert section is not None
    broken = data[: section.offset + 4] + b"\x09\x00" + data[section.offset + 6 :]
    obj = open_object(broken)
    assert set(obj.programs) == set(open_object(data).programs)
    assert obj.warnings == (".debug_line+0x4: DWARF version 9 is not known (2 to 5 are)",)
    assert all(insn.span is None for spec in obj.programs.values() for insn in spec.instructions)


@pytest.mark.parametrize("flags", [(), ("-gdwarf-4",)], ids=["5", "4"])
def test_hostile_tables(flags: tuple[str, ...]) -> None:
    data = compile_c("calls", *flags)
    elf = read_elf(data)
    aims = [s for s in elf.sections if s.name in (".debug_line", ".rel.debug_line", ".debug_line_str")]
    rng = random.Random(7)
    outcomes = set()
    for _ in range(500):
        changed = bytearray(data)
        section = rng.choice(aims)
        for _ in range(rng.choice((1, 1, 2, 6))):
            where = section.offset + rng.randrange(min(section.size, rng.choice((40, 1 << 20))))
            changed[where] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        try:
            read_lines(read_elf(bytes(changed)))
            outcomes.add("read")
        except ObjectError as error:
            assert error.place
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.kernel
@pytest.mark.parametrize("types", [True, False], ids=["with-types", "without-types"])
def test_the_kernel_s_log_names_lines(types: bool) -> None:
    """Records are made of DWARF, with types where the object has none; the kernel takes them and shows them."""
    from ebpfkit.loader import Collection

    data = without_btf_lines(compile_c("text_lines"))
    obj = open_object(data if types else data.replace(b".BTF\0", b".XTF\0"))
    with Collection.load(obj, log_level=2) as collection:
        program = collection.programs["sums"]
        expected = {i.span.line for i in obj.programs["sums"].instructions if i.span and i.span.line}
        shown = set(map(int, re.findall(r"; text_lines\.c:(\d+)", program.log)))
        assert len(shown) > 3 and shown <= expected
        assert program.info.btf_id and program.test_run(bytes(64)).retval == 64
