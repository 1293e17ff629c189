"""CO-RE: our answers for the running kernel against libbpf's, and answers for kernels made up here."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ebpfkit.asm.codec import slot_starts
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.btf import Btf, BtfBuilder
from ebpfkit.btf.core import Question, answer
from ebpfkit.btf.ext import CoreRelo
from ebpfkit.btf.types import Int, Member, Struct
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.elf import open_object
from ebpfkit.elf.core import POISON, CorePatchError, patch
from ebpfkit.errors import ObjectError
from tests.conftest import require_tool
from tests.elf.objects import compile_c, open_c

PATCHED = re.compile(r"prog '(\w+)': relo #\d+: patched insn #(\d+) \(\S+\) (off|imm|imm64|mem_sz) \d+ -> (\d+)")
POISONED = re.compile(r"prog '(\w+)': relo #\d+: substituting insn #(\d+) w/ invalid insn")


@pytest.mark.kernel
def test_libbpf_patches_the_same(tmp_path: Path) -> None:
    """Every number that libbpf (through bpftool) puts into an instruction, ours puts there too."""
    path = tmp_path / "core.o"
    path.write_bytes(compile_c("core"))
    pin = Path(f"/sys/fs/bpf/elf_core_{os.getpid()}_{tmp_path.name}")
    done = subprocess.run(
        [require_tool("bpftool"), "-d", "prog", "loadall", str(path), str(pin)],
        capture_output=True,
        text=True,
        check=False,
    )
    if pin.exists():
        for entry in pin.iterdir():
            entry.unlink()
        pin.rmdir()
    obj = open_object(path, target_btf=read_btf_file())
    assert not obj.problems
    found = {name: dict(zip(slot_starts(spec.instructions), spec.instructions)) for name, spec in obj.programs.items()}
    patched = PATCHED.findall(done.stderr)
    for program, slot, field, value in patched:
        insn = found[program][int(slot)]
        actual = {"off": insn.off, "mem_sz": insn.op.size}.get(field, insn.imm)
        assert actual == int(value), (program, slot, insn)
    assert len(patched) > 30
    poisoned = POISONED.findall(done.stderr)
    for program, slot in poisoned:
        assert found[program][int(slot)].imm == POISON
    assert len(poisoned) == 3


def test_without_a_target() -> None:
    obj = open_c("core")
    assert set(obj.programs) == {"local_id"}
    assert obj.needs_target == set(obj.problems) == {"trace", "fields", "types", "poisoned"}
    assert "field byte offset of xdp_buff.rxq is a CO-RE relocation; give the BTF" in obj.problems["trace"]


def kernel(members: list[tuple[str, int, int]], *, size: int = 64, flavour: str = "") -> Btf:
    """A made-up kernel whose struct xdp_buff of `size` bytes has these members (name, bytes, offset)."""
    builder = BtfBuilder()
    rows = [(name, builder.integer(f"u{width * 8}", width), offset) for name, width, offset in members]
    builder.struct(f"xdp_buff{flavour}", size, rows)
    return builder.build()


LOCAL = kernel([("frame_sz", 4, 16), ("data", 8, 0)])
ROOT = LOCAL.find_id("xdp_buff", Struct)


def ask(question: Question, target: Btf, access: str = "0:0") -> int | None:
    return answer(LOCAL, CoreRelo(0, ROOT, access, question), target).value


TARGETS = [
    ("moved", kernel([("frame_sz", 4, 40)]), {"OFFSET": 40, "SIZE": 4, "EXISTS": 1}),
    ("narrower", kernel([("frame_sz", 2, 8)]), {"OFFSET": 8, "SIZE": 2, "EXISTS": 1}),
    ("gone", kernel([("other", 4, 8)]), {"OFFSET": None, "SIZE": None, "EXISTS": 0}),
    ("no such type", kernel([("frame_sz", 4, 8)], flavour="_old"), {"OFFSET": None, "SIZE": None, "EXISTS": 0}),
]


@pytest.mark.parametrize(("target", "expected"), [row[1:] for row in TARGETS], ids=[row[0] for row in TARGETS])
def test_fields(target: Btf, expected: dict[str, int | None]) -> None:
    assert ask(Question.FIELD_BYTE_OFFSET, target) == expected["OFFSET"]
    assert ask(Question.FIELD_BYTE_SIZE, target) == expected["SIZE"]
    assert ask(Question.FIELD_EXISTS, target) == expected["EXISTS"]


def test_types() -> None:
    target = kernel([("x", 4, 0)], size=128)
    assert ask(Question.TYPE_SIZE, target, "0") == 128
    assert ask(Question.TYPE_EXISTS, target, "0") == 1
    assert ask(Question.TYPE_ID_TARGET, target, "0") == target.find_id("xdp_buff", Struct)
    assert ask(Question.TYPE_ID_LOCAL, target, "0") == ROOT
    other = BtfBuilder().build()
    assert [ask(q, other, "0") for q in (Question.TYPE_SIZE, Question.TYPE_EXISTS, Question.TYPE_ID_TARGET)] == [
        0,
        0,
        0,
    ]


def test_types_that_disagree_are_an_error() -> None:
    builder = BtfBuilder(kernel([("frame_sz", 4, 40)]))
    builder.struct("xdp_buff", 8, [("frame_sz", builder.integer("u32", 4), 4)])
    with pytest.raises(ObjectError, match="differs between the target's types"):
        ask(Question.FIELD_BYTE_OFFSET, builder.build())


def test_big_endian_bit_fields() -> None:
    word = Int("unsigned int", 4, 0, 32)
    fields = (Member("a", 1, 0, 3), Member("b", 1, 3, 5))
    for big, left in ((False, 64 - 8), (True, 32 + 3)):
        btf = Btf([LOCAL.types[0], word, Struct("s", 4, fields, True)], big_endian=big)
        assert answer(btf, CoreRelo(0, 2, "0:1", Question.FIELD_LSHIFT_U64), btf).value == left
        assert answer(btf, CoreRelo(0, 2, "0:1", Question.FIELD_RSHIFT_U64), btf).value == 64 - 5


BAD_RECORDS = [
    (CoreRelo(0, ROOT, "0:9", 0), "does not fit"),
    (CoreRelo(0, ROOT, "0:x", 0), "no path of numbers"),
    (CoreRelo(0, ROOT, "", 0), "no path of numbers"),
    (CoreRelo(0, ROOT, "0:0:1", 0), "does not fit"),
    (CoreRelo(0, ROOT, "0", 99), "kind 99 is not known"),
    (CoreRelo(0, ROOT, "0", Question.ENUMVAL_VALUE), "is no constant"),
    (CoreRelo(0, 0, "0", Question.TYPE_SIZE), "no name"),
]


@pytest.mark.parametrize(("relo", "message"), BAD_RECORDS, ids=[f"{r.access}-{r.kind}" for r, _ in BAD_RECORDS])
def test_bad_records(relo: CoreRelo, message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        answer(LOCAL, relo, LOCAL)


def test_answers_that_do_not_fit() -> None:
    load = next(insn for insn in open_c("core").programs["local_id"].instructions if insn.op.kind is Kind.WIDE)
    good = answer(LOCAL, CoreRelo(0, ROOT, "0:0", 0), kernel([("frame_sz", 2, 1 << 16)], size=1 << 17))
    with pytest.raises(CorePatchError, match="offset 65536 does not fit"):
        patch(Instruction(OPCODES["LDXW"], off=16), good)
    with pytest.raises(CorePatchError, match="the object's own types say 16"):
        patch(Instruction(OPCODES["LDXW"], off=12), good)
    with pytest.raises(CorePatchError, match="no instruction that holds"):
        patch(Instruction(OPCODES["EXIT"]), good)
    narrower = answer(LOCAL, CoreRelo(0, ROOT, "0:0", 0), kernel([("frame_sz", 2, 8)]))
    assert patch(Instruction(OPCODES["LDXW"], off=16), narrower) == [Instruction(OPCODES["LDXH"], off=8)]
    assert [insn.imm for insn in patch(load, answer(LOCAL, CoreRelo(0, ROOT, "0:0", 0), Btf([LOCAL.types[0]])))] == [
        POISON
    ] * 2
