"""The three spellings of an instruction: every row of the table in each of them, and tables of what people write."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.asm.codec import decode, encode
from ebpfkit.asm.insn import (
    R0,
    R1,
    R2,
    R10,
    Instruction,
    KfuncRef,
    Label,
    MapRef,
    MapValueRef,
    Register,
)
from ebpfkit.asm.isa import OPCODES, Kind, Opcode
from ebpfkit.asm.llvm_spelling import NOT_IN_LLVM, format_llvm
from ebpfkit.asm.mnemonics import NO_MNEMONIC, format_mnemonic, mnemonics
from ebpfkit.asm.parser import parse
from ebpfkit.errors import AsmError
from ebpfkit.testing.strategies import instructions_of
from tests.conftest import require_tool

I = Instruction  # noqa: E741
O = OPCODES  # noqa: E741

MNEMONICS = [
    ("mov32 %r0, 1", I(O["MOV32_IMM"], imm=1)),
    ("mov %r0, %r1", I(O["MOV64_REG"], R0, R1)),
    ("mov r0, r1", I(O["MOV64_REG"], R0, R1)),
    ("add64 r1, 0x5", I(O["ADD64_IMM"], R1, imm=5)),
    ("mov %r0, 0xffffffff", I(O["MOV64_IMM"], imm=-1)),
    ("and %r0, 0xfffffffffffffff8", I(O["AND64_IMM"], imm=-8)),
    ("neg32 %r1", I(O["NEG32"], R1)),
    ("sdiv %r0, -3", I(O["SDIV64_IMM"], imm=-3)),
    ("smod32 %r0, %r1", I(O["SMOD32_REG"], R0, R1)),
    ("movsx832 %r0, %r1", I(O["MOVSX32_8"], R0, R1)),
    ("movsx3264 %r0, %r1", I(O["MOVSX64_32"], R0, R1)),
    ("le16 %r0", I(O["TO_LE16"])),
    ("be64 %r0", I(O["TO_BE64"])),
    ("bswap32 %r0", I(O["BSWAP32"])),
    ("swap16 %r0", I(O["BSWAP16"])),
    ("lddw %r1, 0x1122334455667788", I(O["LDDW"], R1, imm=0x1122334455667788)),
    ("lddw %r1, map[hits]", I(O["LDDW_MAP_FD"], R1, ref=MapRef("hits"))),
    ("ldxw %r1, [%r2+4]", I(O["LDXW"], R1, R2, 4)),
    ("ldxdw %r1, [%r10-8]", I(O["LDXDW"], R1, R10, -8)),
    ("ldxb %r1, [%r2]", I(O["LDXB"], R1, R2)),
    ("ldxsh %r1, [%r2+0x10]", I(O["LDXSH"], R1, R2, 16)),
    ("ldxwsx %r1, [%r2]", I(O["LDXSW"], R1, R2)),
    ("stw [%r10-8], 5", I(O["STW"], R10, off=-8, imm=5)),
    ("stxdw [%r10-8], %r1", I(O["STXDW"], R10, R1, -8)),
    ("ldabsh 12", I(O["LD_ABS_H"], imm=12)),
    ("ldindb %r2, 14", I(O["LD_IND_B"], src=R2, imm=14)),
    ("ja +3", I(O["JA"], off=3)),
    ("ja 5", I(O["JA"], off=5)),
    ("jne r3,0x8,37", I(O["JNE64_IMM"], Register(3), off=37, imm=8)),
    ("neg64 r2", I(O["NEG64"], R2)),
    ("mov r0,1;", I(O["MOV64_IMM"], imm=1)),
    ("ldxw %r1, [ %r2 + 4 ]", I(O["LDXW"], R1, R2, 4)),
    ("stdw [%r1+2], 0xffffffff", I(O["STDW"], R1, off=2, imm=-1)),
    ("lddw %r0, -1", I(O["LDDW"], imm=2**64 - 1)),
    ("lock xadd32 [%r1], %r2", I(O["ATOMIC32_ADD"], R1, R2)),
    ("lock fetch_add32 [r1-8], r2", I(O["ATOMIC32_FETCH_ADD"], R1, R2, -8)),
    ("ja32 -2", I(O["JA32"], off=-2)),
    ("jsgt32 %r1, 5, +1", I(O["JSGT32_IMM"], R1, off=1, imm=5)),
    ("jeq %r1, %r2, -1", I(O["JEQ64_REG"], R1, R2, -1)),
    ("call 1", I(O["CALL"], imm=1)),
    ("call helper 1", I(O["CALL"], imm=1)),
    ("call local +5", I(O["CALL_LOCAL"], imm=5)),
    ("call runtime 7", I(O["CALL_KFUNC"], imm=7)),
    ("callx %r3", I(O["CALLX"], Register(3))),
    ("call %r2", I(O["CALLX"], R2)),
    ("0: 8d 00 00 00 03 00 00 00 callx r3", I(O["CALLX"], imm=3)),
    ("lock add [%r10-8], %r1", I(O["ATOMIC64_ADD"], R10, R1, -8)),
    ("lock xadd [%r10-8], %r1", I(O["ATOMIC64_ADD"], R10, R1, -8)),
    ("lock fetch or32 [%r1+4], %r2", I(O["ATOMIC32_FETCH_OR"], R1, R2, 4)),
    ("lock fetch_xor [%r1], %r2", I(O["ATOMIC64_FETCH_XOR"], R1, R2)),
    ("lock xchg32 [%r10-8], %r1", I(O["ATOMIC32_XCHG"], R10, R1, -8)),
    ("lock cmpxchg [%r10-8], %r1", I(O["ATOMIC64_CMPXCHG"], R10, R1, -8)),
    ("lock and [%r1], %r2 # comment", I(O["ATOMIC64_AND"], R1, R2)),
    ("exit", I(O["EXIT"])),
    ("0: 95 10 00 00 05 00 00 00 exit", I(O["EXIT"], src=R1, imm=5)),
]

LLVM = [
    ("r5 = xchg_64(r3 + 0, r5)", I(O["ATOMIC64_XCHG"], Register(3), Register(5))),
    ("w5 = xchg32_32(r3 - 4, w5)", I(O["ATOMIC32_XCHG"], Register(3), Register(5), -4)),
    ("r0 = cmpxchg_64(r3 + 0, r0, r5)", I(O["ATOMIC64_CMPXCHG"], Register(3), Register(5))),
    ("w0 = cmpxchg32_32(r3 + 8, w0, w7)", I(O["ATOMIC32_CMPXCHG"], Register(3), Register(7), 8)),
    ("w7 = atomic_fetch_and((u32 *)(r3 + 0), w7)", I(O["ATOMIC32_FETCH_AND"], Register(3), Register(7))),
    ("w0 = *(u32 *)(r1 + 8)", I(O["LDXW"], R0, R1, 8)),
    ("if w4 s> -4 goto +2", I(O["JSGT32_IMM"], Register(4), off=2, imm=-4)),
    ("r1 = 8589934590 ll", I(O["LDDW"], R1, imm=8589934590)),
    ("if r0 == 0 goto +12 <LBB1_2>", I(O["JEQ64_IMM"], off=12)),
    ("goto +9 <prog+0x30>", I(O["JA"], off=9)),
    ("call 3 <sub>", I(O["CALL_LOCAL"], imm=3)),
    ("call -1", I(O["CALL_LOCAL"], imm=-1)),
    ("r1 = counts ll", I(O["LDDW_MAP_FD"], R1, ref=MapRef("counts"))),
]


@pytest.mark.parametrize(("text", "insn"), MNEMONICS + LLVM, ids=[text for text, _ in MNEMONICS + LLVM])
def test_one_line(text: str, insn: Instruction) -> None:
    assert parse(text) == [insn]


@pytest.mark.parametrize("op", OPCODES.values(), ids=repr)
def test_every_row_is_read_in_every_spelling_that_has_it(op: Opcode) -> None:
    @settings(max_examples=6, derandomize=True, deadline=None, database=None)
    @given(instructions_of(op))
    def law(insn: Instruction) -> None:
        if op.name in NO_MNEMONIC:
            assert op not in {row for rows in mnemonics().values() for row in rows.values()}
        else:
            assert parse(format_mnemonic(insn)) == [insn]
        if op.name in NOT_IN_LLVM or (op.kind is Kind.CALL and (insn.imm < 0) != (op.name == "CALL_LOCAL")):
            return  # LLVM writes helpers and local calls alike: what is not below zero reads as a helper
        assert parse(format_llvm(insn)) == [insn]

    law()


def test_labels_in_mnemonics() -> None:
    program = parse(
        "mov %r0, 0\nlddw %r1, 5\njne %r0, %r1, exit\ncall local f\nja32 out\nout:\nexit\nf: mov32 r0, 1\nexit"
    )
    assert [insn.off for insn in program if insn.op.kind in (Kind.JUMP, Kind.GOTO)] == [2, 0]
    assert next(insn.imm for insn in program if insn.op.name == "CALL_LOCAL") == 2
    assert program[2].ref == Label("exit") and program[5].labels == ("out", "exit")


def test_semicolons_separate_mnemonics() -> None:
    program = parse("a: mov %r0, 1; add %r0, 2 ; ja a;exit # c; mov %r0, 3\nneg %r0;;")
    assert [insn.op.name for insn in program] == ["MOV64_IMM", "ADD64_IMM", "JA", "EXIT", "NEG64"]
    assert [insn.span.column for insn in program if insn.span] == [4, 16, 29, 34, 1]


def test_spellings_mix() -> None:
    text = "mov32 %r0, 1\nr0 += 1\nif r0 > 5 goto end\njgt %r0, 5, end\nend: exit"
    assert [insn.op.name for insn in parse(text)] == ["MOV32_IMM", "ADD64_IMM", "JGT64_IMM", "JGT64_IMM", "EXIT"]


LLVM_FILE = """\
	.text
	.file	"t.c"
	.globl	gsub                            # -- Begin function gsub
	.type	gsub,@function
gsub:                                   # @gsub
.Lfunc_begin0:
	.cfi_startproc
# %bb.0:
	#DEBUG_VALUE: gsub:x <- $r1
	r3 = tbl+4 ll
	call sub
.Ltmp1:
	exit
.Lfunc_end0:
	.size	gsub, .Lfunc_end0-gsub
sub:
	if r1 == 0 goto LBB1_2 ; r0 = 1
LBB1_2:
	r1 = zero ll
	r1 = sub ll
	exit
	.section	xdp,"ax",@progbits
	.globals	prog
prog:
	r1 = counts ll
	call 1
	call bpf_kfunc_foo
	exit
	.section	.rodata,"a",@progbits
cfg:
	.long	3                               # 0x3
	.asciz	"a # b;"
	.p2align	3
tbl:
	.quad	1
	.section	.maps,"aw",@progbits
counts:
	.zero	32
	.comm	zero,8,8
	.addrsig
"""


def test_a_file_of_llvm() -> None:
    program = parse(LLVM_FILE)
    assert [insn.ref for insn in program if insn.ref is not None] == [
        MapValueRef(".rodata", 20),
        Label("sub"),
        Label("LBB1_2"),
        MapValueRef(".bss", 0),
        Label("sub"),
        MapRef("counts"),
        KfuncRef("bpf_kfunc_foo"),
    ]
    assert {name for insn in program for name in insn.labels} == {"gsub", "sub", "LBB1_2", "prog"}
    assert [insn.op.name for insn in program].count("MOV64_IMM") == 1
    assert decode(encode(program)) == [insn.replace(ref=None, labels=()) for insn in program]


FILES_WITH_ERRORS = [
    (".text\nr1 = 5\n.foo 3", 3, 1, "directive .foo is not known"),
    (".text\nr1 = 5\n.long 3", 3, 1, "puts data between instructions"),
    (".data\nr1 = 5", 2, 1, "holds data"),
    (".text\nr1 = f+8 ll\nf: exit", 2, 1, "'f' is a function"),
    (".text\n.popsection", 2, 1, "no section to go back to"),
]

ERRORS = [
    ("mov %r1 5", 1, 9, "expected a comma"),
    ("mov32 5, 5", 1, 7, "expected a register"),
    ("add %r1, [%r2]", 1, 10, "expected a register or a number"),
    ("add %r1, 0x1ffffffff", 1, 10, "load it with `lddw`"),
    ("ldxw %r1, %r2", 1, 11, "expected memory in brackets"),
    ("ldxw %r1, [%r2+40000]", 1, 15, "does not fit 16 bits"),
    ("jeq %r1, 5", 1, 11, "expected a comma"),
    ("jeq %r1, 5, +x", 1, 14, "expected an offset"),
    ("ja ,", 1, 4, "expected a label or a distance"),
    ("ja 40000", 1, 4, "expected a label or a distance"),
    ("mov r1, #5", 1, 9, "found 'a comment'"),
    ("MOV %r0, 1", 1, 1, "did you mean 'mov'?"),
    ("xadd [r1], r2", 1, 1, "did you mean 'lock add'?"),
    ("be %r0", 1, 1, "did you mean 'be16'?"),
    ("ldsxb %r0, [%r1]", 1, 1, "did you mean 'ldxsb'?"),
    ("mov %r1, 5; mov %r2", 1, 20, "expected a comma"),
    ("lock fetch xchg [%r1], %r2", 1, 6, "always fetches"),
    ("mov %r12, 1", 1, 5, "no register"),
    ("jeqq %r1, 5, +1", 1, 1, "did you mean 'jeq'?"),
    ("lddw %r1, mapp[x]", 1, 11, "nothing a wide load can refer to"),
    ("callx 3", 1, 7, "write `callx %r1`"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), ERRORS + FILES_WITH_ERRORS)
def test_errors(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(AsmError) as caught:
        parse(text, file="prog.s")
    assert message in caught.value.message
    span = caught.value.span
    assert span is not None and (span.line, span.column) == (line, column)


C_SOURCE = Path(__file__).parent / "data" / "spelling.c"


@pytest.mark.parametrize("cpu", ["v1", "v2", "v3"])
def test_what_clang_writes_is_what_clang_assembles(cpu: str, tmp_path: Path) -> None:
    clang, objdump = require_tool("clang"), require_tool("llvm-objdump")
    text = tmp_path / "t.s"
    subprocess.run([clang, "-target", "bpf", "-O2", "-g", f"-mcpu={cpu}", "-S", C_SOURCE, "-o", text], check=True)
    target = tmp_path / "t.o"
    subprocess.run([clang, "-target", "bpf", "-O2", "-g", f"-mcpu={cpu}", "-c", C_SOURCE, "-o", target], check=True)
    ours = parse(text.read_text())
    dump = subprocess.run([objdump, "-dr", f"--mcpu={cpu}", target], capture_output=True, text=True, check=True).stdout
    theirs = parse(dump)
    assert [insn.op.kind for insn in ours] == [insn.op.kind for insn in theirs]
    plain = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.op.kind not in (Kind.CALL, Kind.WIDE)]
    assert len(plain) > 40
    assert [a.replace(ref=None, labels=()) for a, _ in plain] == [b.replace(ref=None, labels=()) for _, b in plain]


@pytest.mark.parametrize("options", [[], ["-S"], ["-r"], ["-l"], ["--symbolize-operands"], ["--no-show-raw-insn"]])
def test_what_objdump_prints_is_the_code_of_the_object(options: list[str], tmp_path: Path) -> None:
    clang, objdump, objcopy = require_tool("clang"), require_tool("llvm-objdump"), require_tool("llvm-objcopy")
    target, code = tmp_path / "t.o", tmp_path / "code"
    subprocess.run([clang, "-target", "bpf", "-O2", "-g", "-mcpu=v3", "-c", C_SOURCE, "-o", target], check=True)
    parts = []
    for section in (".text", "xdp"):
        subprocess.run([objcopy, "-O", "binary", f"--only-section={section}", target, code], check=True)
        parts.append(code.read_bytes())
    run = subprocess.run([objdump, "-d", "--mcpu=v3", *options, target], capture_output=True, text=True, check=True)
    program = parse(run.stdout)
    if "-r" in options or "--no-show-raw-insn" in options:  # names of relocations; calls that look like helpers
        expected = decode(b"".join(parts))
        assert [insn.op.kind for insn in program] == [insn.op.kind for insn in expected]
    else:
        assert encode(program) == b"".join(parts)


def test_clang_assembles_our_llvm_spelling(tmp_path: Path) -> None:
    clang, objcopy = require_tool("clang"), require_tool("llvm-objcopy")
    program = []
    for op in OPCODES.values():
        if op.name in NOT_IN_LLVM or op.cpu > 3 or op.name in ("CALL_LOCAL", "MAY_GOTO"):
            continue
        if op.operation in ("xchg", "cmpxchg", "mod", "jset") or op.operation.startswith("fetch_"):
            continue  # clang 14 does not read what it writes
        if op.name.startswith(("LD_ABS", "LD_IND", "LOAD_ACQ", "STORE_REL", "ADDR_SPACE", "JA_INDIRECT", "CALLX")):
            continue
        if op.kind is Kind.STORE and op.source == "imm":
            continue  # CPU v4 only in LLVM
        registers = (R1 if "dst" in op.operands else R0, R2 if "src" in op.operands else R0)
        off = 4 if "off" in op.operands else 0
        program.append(Instruction(op, *registers, off, 7 if "imm" in op.operands else 0))
    assert len(program) > 100
    source, target, code = tmp_path / "a.s", tmp_path / "a.o", tmp_path / "code"
    source.write_text(".text\n" + "\n".join(map(format_llvm, program)) + "\n")
    subprocess.run([clang, "-target", "bpf", "-mcpu=v3", "-c", source, "-o", target], check=True)
    subprocess.run([objcopy, "-O", "binary", "--only-section=.text", target, code], check=True)
    assert decode(code.read_bytes()) == program


LONG = [
    "a " * 100_000,
    ".text\n" + '"\\' * 50_000,
    ".text\n" + "; " * 100_000,
    ".data\n.ascii " + '"\\' * 50_000,
    ".text\n" + "a:" * 50_000,
    "int " + "x " * 50_000 + "():",
    "0: " + "bf 16 00 00 00 00 00 00 " * 10_000,
    "r1 = " + "-" * 100_000,
    "lock " * 20_000,
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", LONG, ids=[text[:12].strip() for text in LONG])
def test_long_lines_are_refused_in_time(text: str) -> None:
    with pytest.raises(AsmError):
        parse(text + "\n?")


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.sampled_from([LLVM_FILE, *(text for text, _ in MNEMONICS)]), st.data())
def test_mutated_text_parses_or_is_an_asm_error(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    inserted = data.draw(st.text(alphabet='%r01[]+-,;:# "\\.xlf\n', max_size=4))
    changed = text[:at] + inserted + text[at + data.draw(st.integers(0, 4)) :]
    try:
        encode(parse(changed))
    except AsmError:
        return
