"""Printer and parser: one table in both directions, the round-trip law over every opcode, errors with their place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.asm.insn import (
    R0,
    R1,
    R2,
    R3,
    R6,
    R10,
    FuncRef,
    Instruction,
    KfuncRef,
    Label,
    MapRef,
    MapValueRef,
    Register,
    VarRef,
)  # fmt: skip
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.parser import parse
from ebpfkit.asm.printer import Resolver, format_instruction, format_program
from ebpfkit.errors import AsmError
from ebpfkit.span import Span
from ebpfkit.testing.strategies import instructions, instructions_of

I = Instruction  # noqa: E741
O = OPCODES  # noqa: E741

SPELLINGS = [
    ("r1 = 0", I(O["MOV64_IMM"], R1)),
    ("w1 += w2", I(O["ADD32_REG"], R1, R2)),
    ("r1 s>>= 3", I(O["ARSH64_IMM"], R1, imm=3)),
    ("r1 s/= r2", I(O["SDIV64_REG"], R1, R2)),
    ("w1 s%= 7", I(O["SMOD32_IMM"], R1, imm=7)),
    ("r1 = -r1", I(O["NEG64"], R1)),
    ("r0 = (s8)r1", I(O["MOVSX64_8"], R0, R1)),
    ("w0 = (s16)w1", I(O["MOVSX32_16"], R0, R1)),
    ("r0 = be16 r0", I(O["TO_BE16"])),
    ("r0 = le64 r0", I(O["TO_LE64"])),
    ("r0 = bswap32 r0", I(O["BSWAP32"])),
    ("r1 = addr_space_cast(r2, 0, 1)", I(O["ADDR_SPACE_CAST"], R1, R2, imm=1)),
    ("r2 = *(u32 *)(r1 +0)", I(O["LDXW"], R2, R1)),
    ("r2 = *(s8 *)(r1 -1)", I(O["LDXSB"], R2, R1, -1)),
    ("*(u64 *)(r10 -8) = r1", I(O["STXDW"], R10, R1, -8)),
    ("*(u32 *)(r10 -8) = 5", I(O["STW"], R10, off=-8, imm=5)),
    ("lock *(u64 *)(r1 +0) += r2", I(O["ATOMIC64_ADD"], R1, R2)),
    ("lock *(u32 *)(r1 +4) ^= r2", I(O["ATOMIC32_XOR"], R1, R2, 4)),
    ("r0 = atomic64_fetch_add((u64 *)(r1 +0), r0)", I(O["ATOMIC64_FETCH_ADD"], R1)),
    ("r2 = atomic_xchg((u32 *)(r1 +0), r2)", I(O["ATOMIC32_XCHG"], R1, R2)),
    ("r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)", I(O["ATOMIC64_CMPXCHG"], R1, R2)),
    ("r2 = load_acquire((u16 *)(r1 +0))", I(O["LOAD_ACQ_H"], R2, R1)),
    ("store_release((u8 *)(r1 +0), r2)", I(O["STORE_REL_B"], R1, R2)),
    ("if r1 s> 0x5 goto pc+3", I(O["JSGT64_IMM"], R1, off=3, imm=5)),
    ("if r1 == 0xffffffff goto pc-1", I(O["JEQ64_IMM"], R1, off=-1, imm=-1)),
    ("if w1 & w2 goto pc+0", I(O["JSET32_REG"], R1, R2)),
    ("goto pc+3", I(O["JA"], off=3)),
    ("gotol pc-70000", I(O["JA32"], off=-70000)),
    ("gotox r3", I(O["JA_INDIRECT"], R3)),
    ("may_goto pc+3", I(O["MAY_GOTO"], off=3)),
    ("call bpf_map_lookup_elem#1", I(O["CALL"], imm=1)),
    ("call unknown#-9", I(O["CALL"], imm=-9)),
    ("call pc+5", I(O["CALL_LOCAL"], imm=5)),
    ("call pc+5 {imm=1}", I(O["CALL_LOCAL"], off=5, imm=1)),
    ("call pc-7#count", I(O["CALL_LOCAL"], imm=-7, ref=FuncRef("count"))),
    ("call kernel-function#1234", I(O["CALL_KFUNC"], imm=1234)),
    (
        "call bpf_xdp_metadata_rx_hash#1234",
        I(O["CALL_KFUNC"], imm=1234, ref=KfuncRef("bpf_xdp_metadata_rx_hash", 1234)),
    ),
    ("call kernel-function#1234 {off=2}", I(O["CALL_KFUNC"], off=2, imm=1234)),
    ("exit", I(O["EXIT"])),
    ("exit {src=3 imm=7}", I(O["EXIT"], src=R3, imm=7)),
    ("r1 = 0x0 ll", I(O["LDDW"], R1)),
    ("r1 = 0xffffffffffffffff ll", I(O["LDDW"], R1, imm=(1 << 64) - 1)),
    ("r1 = map[fd:5] ll", I(O["LDDW_MAP_FD"], R1, imm=5)),
    ("r1 = map[blocked] ll", I(O["LDDW_MAP_FD"], R1, ref=MapRef("blocked"))),
    ("r1 = map[fd:5]#blocked ll", I(O["LDDW_MAP_FD"], R1, imm=5, ref=MapRef("blocked"))),
    ("r1 = map[fd:5] ll {high=0x1}", I(O["LDDW_MAP_FD"], R1, imm=5 | 1 << 32)),
    ("r1 = map[fd:5][0]+8 ll", I(O["LDDW_MAP_VALUE"], R1, imm=5 | 8 << 32)),
    ("r1 = map[.bss][0]+8 ll", I(O["LDDW_MAP_VALUE"], R1, imm=8 << 32, ref=MapValueRef(".bss", 8))),
    ("r1 = map[idx:5] ll", I(O["LDDW_MAP_IDX"], R1, imm=5)),
    ("r1 = map[idx:5]+8 ll", I(O["LDDW_MAP_IDX_VALUE"], R1, imm=5 | 8 << 32)),
    ("r1 = var[btf:5 fd:3] ll", I(O["LDDW_VAR"], R1, imm=5 | 3 << 32)),
    ("r1 = var[jiffies] ll", I(O["LDDW_VAR"], R1, ref=VarRef("jiffies"))),
    ("r1 = subprog[-5] ll", I(O["LDDW_FUNC"], R1, imm=0xFFFF_FFFB)),
    ("r0 = *(u8 *)skb[14]", I(O["LD_ABS_B"], imm=14)),
    ("r0 = *(u16 *)skb[r6 + 14]", I(O["LD_IND_H"], src=R6, imm=14)),
    (".8byte 0x00000000000000ff", I(O["INVALID"], imm=0xFF)),
    ("r3 = &(void __percpu *)(r11)", I(O["INVALID"], imm=0xFFFF_B3BF)),
    ("nospec", I(O["INVALID"], imm=0xC2)),
]


@pytest.mark.parametrize(("text", "insn"), SPELLINGS, ids=[text for text, _ in SPELLINGS])
def test_spelling_in_both_directions(text: str, insn: Instruction) -> None:
    assert format_instruction(insn) == text
    assert parse(text) == [insn]


@pytest.mark.parametrize("op", OPCODES.values(), ids=repr)
def test_parse_undoes_print_for_every_opcode(op) -> None:  # type: ignore[no-untyped-def]
    @settings(max_examples=8, derandomize=True, deadline=None, database=None)
    @given(instructions_of(op))
    def law(insn: Instruction) -> None:
        assert parse(format_instruction(insn)) == [insn]

    law()


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(st.lists(instructions(), max_size=12), st.booleans(), st.booleans())
def test_parse_undoes_print_for_programs(program: list[Instruction], slots: bool, opcodes: bool) -> None:
    assert parse(format_program(program, slots=slots, opcodes=opcodes)) == program


# What people and other tools write, beside the printer's own spelling.
ALSO_READ = [
    ("r1 = 0x10", I(O["MOV64_IMM"], R1, imm=16)),
    ("w1 = 0xffffffff", I(O["MOV32_IMM"], R1, imm=-1)),
    ("if r1 s> -5 goto +2", I(O["JSGT64_IMM"], R1, off=2, imm=-5)),
    ("r2 = *(u32 *)(r1 + 0x10)", I(O["LDXW"], R2, R1, 16)),
    ("w2 = *(u8*)(r1+1)", I(O["LDXB"], R2, R1, 1)),
    ("*(u32 *)(r10) = w1", I(O["STXW"], R10, R1)),
    ("w2 = atomic_fetch_add((u32 *)(r1 + 0), w2)", I(O["ATOMIC32_FETCH_ADD"], R1, R2)),
    ("r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)", I(O["ATOMIC64_FETCH_ADD"], R1, R2)),
    ("r1 = -1 ll", I(O["LDDW"], R1, imm=(1 << 64) - 1)),
    ("(18) r1 = 0x5", I(O["LDDW"], R1, imm=5)),
    ("(18) r1 = map[id:7]", I(O["LDDW_MAP_FD"], R1, imm=7)),
    ("call 1", I(O["CALL"], imm=1)),
    ("call bpf_map_lookup_elem", I(O["CALL"], imm=1)),
    ("  12: (b7) r0 = 0    ; R0_w=0", I(O["MOV64_IMM"])),
    ("r0 = 0 // the verdict", I(O["MOV64_IMM"])),
]


@pytest.mark.parametrize(("text", "insn"), ALSO_READ, ids=[text for text, _ in ALSO_READ])
def test_also_read(text: str, insn: Instruction) -> None:
    assert parse(text) == [insn]


PROGRAM = """\
; drop short packets
r2 = *(u32 *)(r1 +4)
r1 = *(u32 *)(r1 +0)
again:
r3 = r1
r3 += 14
if r3 > r2 goto short
call helper_of_mine
may_goto again
exit
short:
r0 = 1
exit
helper_of_mine:
r1 = subprog[short] ll
exit
"""


def test_labels_and_comments() -> None:
    program = parse(PROGRAM, file="prog.s")
    assert [insn.off for insn in program if insn.op.name in ("JGT64_REG", "MAY_GOTO")] == [3, -5]
    assert next(insn.imm for insn in program if insn.op.name == "CALL_LOCAL") == 4
    assert program[2].labels == ("again",) and program[4].ref == Label("short")
    assert program[4].span is not None and str(program[4].span) == "prog.s:7:1"
    assert format_program(program) == PROGRAM.removeprefix("; drop short packets\n")
    assert parse(format_program(program)) == program


ERRORS = [
    ("r1 = ", 1, 6, "expected a register or a number"),
    ("r12 = 1", 1, 1, "r12 is no register"),
    ("exit\n  if r1 = 5 goto x", 2, 9, "expected one of =="),
    ("goto 5x", 1, 6, "expected a label or pc+N"),
    ("goto exit", 1, 6, "expected a label or pc+N"),
    ("r1 = 0xffffffff", 1, 6, "load it with `rN = VALUE ll`"),
    ("call bpf_map_lookup", 1, 6, "did you mean 'bpf_map_lookup_elem'?"),
    ("call bpf_map_lookup_elem#2", 1, 6, "bpf_map_lookup_elem is helper 1, not 2"),
    ("call map_lookup_elem", 1, 1, "did you mean 'bpf_map_lookup_elem'?"),
    ("exit r0", 1, 6, "unexpected 'r0'"),
    ("lock *(u16 *)(r1 +0) += r2", 1, 7, "32 or 64 bits wide"),
    ("lock *(u64 *)(r1 +0) -= r2", 1, 22, "expected +=, |=, &= or ^="),
    ("r1 += w2", 1, 7, "another width"),
    ("r1 s+= 5", 1, 4, "is no operator"),
    ("r1 = be16 r2", 1, 6, "one r register on both sides"),
    ("r1 = *(s64 *)(r2 +0)", 1, 6, "s64 cannot be loaded"),
    ("r1 = *(u32 *)(r2 +40000)", 1, 18, "does not fit 16 bits"),
    ("r1 = *(u32 *)(r2 4)", 1, 18, "expected an offset with its sign"),
    ("r2 = atomic64_fetch_sub((u64 *)(r1 +0), r2)", 1, 6, "no atomic operation"),
    ("r3 = atomic64_fetch_add((u64 *)(r1 +0), r2)", 1, 6, "the register that had the operand"),
    ("r1 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)", 1, 6, "compares with r0"),
    ("x:", 1, 3, "stands behind the last instruction"),
    ("goto x", 1, 1, "set it with a line `x:`"),
    ("call foo\nfooo: exit", 1, 1, "did you mean 'fooo'?"),
    ("a: exit\na: exit", 2, 4, "'a' is set twice"),
    ("r1: exit", 1, 1, "cannot be a label"),
    ("r0 = 0; exit", 1, 7, "one instruction a line"),
    ("r0 = 0 ; exit", 1, 8, "one instruction a line"),
    ("r1 = mapp[x]", 1, 6, "did you mean 'map'?"),
    ("3: r0 = 1\n5: exit", 2, 4, "slot 5 is written here, but this is slot 4"),
    ("(b7) exit", 1, 10, "opcode byte b7 is written here"),
    ("12:", 1, 4, "an instruction is missing"),
    ("exit {dst=1 dst=2}", 1, 13, "a field that is not given yet"),
    ("r1 = 5 {imm=6}", 1, 9, "has its imm in the text already"),
    ("may_gotoo pc+1", 1, 1, "write `may_goto label`"),
    ("movv r1, 5", 1, 1, "did you mean 'mov'?"),
]


# Lines of people who think in C, or in another assembler's words, and what they are told to write.
MENDED = [
    ("r1 = r2 + 4", "`r1 = r2`, then `r1 += 4`"),
    ("r1 = r1 << 3", "`r1 <<= 3`"),
    ("w1 = w2 & w3", "`w1 = w2`, then `w1 &= w3`"),
    ("r1 == 5", "`r1 = 5`, or `if r1 == 5 goto label`"),
    ("r1++", "`r1 += 1`"),
    ("r1 = ~r2", "`r1 = r2`, then `r1 ^= -1`"),
    ("r1 = w2", "`w1 = w2`, which clears the upper half of r1"),
    ("r1 = (u16)r2", "`r1 = r2`, then `r1 &= 0xffff`"),
    ("r1 = s8 r2", "`r1 = (s8)r2`"),
    ("r1 = htons(r1)", "`r1 = be16 r1`"),
    ("r1 = &hits", "`r1 = map[hits] ll`"),
    ("r1 = 'a'", "`r1 = 97`"),
    ("r1 += *(u32 *)(r2 +8)", "`r0 = *(u32 *)(r2 +8)`, then `r1 += r0`"),
    ("*(u64 *)(r1 +0) += r2", "`lock *(u64 *)(r1 +0) += r2`"),
    ("*(u8 *)(r1 +0) += 1", "load, change and store"),
    ("r1 = *(int *)(r2 +0)", "here `u32`"),
    ("r1 = *(u32 *)(r2 + r3)", "`r2 += r3` first"),
    ("r1 = *(u32 *)r2", "`*(u32 *)(r2 +0)`"),
    ("*r1 = 5", "`*(u64 *)(r1 +0) = 5`"),
    ("if (r1 > 5) goto x", "`if r1 > 5 goto x`"),
    ("if r1 => 5 goto x", "`if r1 >= 5 goto x`"),
    ("if r1 & 5 != 0 goto x", "`if r1 & 5 goto x`"),
    ("call bpf_ktime_get_ns()", "`call bpf_ktime_get_ns`; arguments are in r1 to r5"),
    ("return 2", "`r0 = 2`, then `exit`"),
    ("exit r0", "`exit`: the result is in r0"),
    ("nop", "`goto pc+0`"),
    ("jmp +3", "`goto +3` or `ja +3`"),
    ("jz r1, out", "`jeq r1, 0, out`"),
    ("mov r1, [r2+4]", "`ldxdw r1, [r2+4]`"),
    ("stw [r1], r2", "`stxw [r1], r2`"),
    ("stxw r2, [r1+4]", "`stxw [r1+4], r2`"),
    ("add r1, r2, r3", "`mov r1, r2`, then `add r1, r3`"),
    (".long 5", "the data with `.data`"),
    ("-- asm", "the lines below `-- asm` alone"),
]


@pytest.mark.parametrize(("text", "mended"), MENDED, ids=[text for text, _ in MENDED])
def test_a_mistake_is_mended_in_its_own_words(text: str, mended: str) -> None:
    with pytest.raises(AsmError) as caught:
        parse(text)
    assert "; write " in caught.value.message and mended in caught.value.message


@pytest.mark.parametrize(("text", "line", "column", "message"), ERRORS, ids=[text for text, *_ in ERRORS])
def test_errors_name_line_column_and_a_legal_form(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(AsmError) as caught:
        parse(text, file="prog.s")
    error = caught.value
    assert message in error.message
    assert error.span is not None and (error.span.line, error.span.column) == (line, column)
    assert str(error).startswith(f"prog.s:{line}:{column}: ")
    assert "^" in error.render()


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(
    st.text(alphabet=st.sampled_from("rw0129 =+-*()[]{}<>s&|^:;#._x\nupcgotlifexmaj٣\u2028"), max_size=60)
    | st.text(max_size=40)
)
def test_any_text_parses_or_is_an_asm_error(text: str) -> None:
    try:
        parse(text)
    except AsmError as error:
        assert error.span is not None


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.sampled_from(SPELLINGS), st.data())
def test_a_mutated_line_parses_or_is_an_asm_error(case: tuple[str, Instruction], data: st.DataObject) -> None:
    text, _ = case
    at = data.draw(st.integers(0, len(text)))
    changed = (
        text[:at]
        + data.draw(st.text(alphabet="rw019 =+-*()[{}]:;#x99999999999999999999", max_size=3))
        + text[at + data.draw(st.integers(0, 3)) :]
    )
    try:
        (insn, *_) = parse(changed) or [I(O["EXIT"])]
    except AsmError:
        return
    assert (
        parse(format_instruction(insn.replace(ref=None, labels=()))) == [insn.replace(ref=None, labels=())] or insn.ref
    )


def test_source_lines_become_comments_and_resolvers_name_things() -> None:
    span = Span("prog.py", 7, text="    return XDP_PASS\n")
    program = [
        I(O["LDDW_MAP_FD"], R1, imm=4, span=span),
        I(O["CALL_KFUNC"], imm=9, span=span),
        I(O["CALL_LOCAL"], imm=0),
        I(O["EXIT"]),
    ]

    class Names(Resolver):
        def map_name(self, insn: Instruction) -> str | None:
            return f"id:{insn.imm + 100}"

        def kfunc_name(self, insn: Instruction) -> str | None:
            return "bpf_rdonly_cast"

        def function_name(self, slot: int) -> str | None:
            return {4: "sub"}.get(slot)

    assert format_program(program, resolver=Names(), source=True, slots=True, opcodes=True).splitlines() == [
        "; return XDP_PASS @ prog.py:7",
        "0: (18) r1 = map[id:104] ll",
        "2: (85) call bpf_rdonly_cast#9",
        "3: (85) call pc+0#sub",
        "4: (95) exit",
    ]


def test_registers_above_r10_print_as_they_are() -> None:
    assert format_instruction(I(O["MOV64_REG"], Register(12), R1)) == "r12 = r1"
