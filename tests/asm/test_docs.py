"""docs/assembly.md is true: a row means the same in its spellings, every block assembles, every error is as shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ebpfkit
from ebpfkit.asm.codec import decode, encode
from ebpfkit.asm.isa import OPCODES, Group
from ebpfkit.asm.parser import parse
from ebpfkit.asm.printer import format_instruction
from ebpfkit.asm.unit import assemble
from ebpfkit.elf import open_object
from ebpfkit.elf.assembled import object_from_unit
from ebpfkit.errors import AsmError

PAGE = (Path(__file__).parent.parent.parent / "docs" / "assembly.md").read_text()
ROWS = re.findall(r"^\| `(.+?)` \| `(.+?)` \| `(.+?)` \|$", PAGE, re.MULTILINE)
BLOCKS = re.findall(r"^```asm\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ERRORS = re.findall(r"^```error\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_has_what_is_checked() -> None:
    assert len(ROWS) >= 25 and len(BLOCKS) >= 8 and len(ERRORS) >= 6


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_is_one_instruction(row: tuple[str, str, str]) -> None:
    kernel, llvm, ubpf = (parse(text) for text in row)
    assert len(kernel) == 1 and kernel == llvm == ubpf
    assert format_instruction(kernel[0]) == row[0]


@pytest.mark.parametrize("text", BLOCKS, ids=[text[:30].strip() for text in BLOCKS])
def test_a_block_assembles(text: str) -> None:
    program = parse(text)
    assert program
    assert [insn.op for insn in decode(encode(program), strict=False)] == [insn.op for insn in program]


def test_the_object_by_hand_is_accepted() -> None:
    (text,) = (block for block in BLOCKS if block.startswith(".section xdp"))
    obj = open_object(object_from_unit(assemble(text)), name="prog.o")
    assert not obj.problems
    assert ebpfkit.verify(obj.programs["prog"]).verdict == "accept"


def test_the_table_from_the_shell_is_as_shown() -> None:
    shown = re.search(r"^\$ ebpfkit disasm --isa --json .*\n((?:0x.*\n)+)", PAGE, re.MULTILINE)
    assert shown is not None
    rows = [f"{op.code:#04x}" for op in OPCODES.values() if op.group is Group.PACKET]
    assert [line.split(" ", 1)[0] for line in shown[1].splitlines()] == rows[:3]


@pytest.mark.parametrize("block", ERRORS)
def test_an_error_is_as_shown(block: str) -> None:
    *text, expected = block.strip().split("\n")
    with pytest.raises(AsmError) as caught:
        parse("\n".join(text), file="prog.s")
    assert str(caught.value) == expected
