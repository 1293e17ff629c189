"""The table of instructions: its conformance groups, and that everyone who handles instructions knows every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

import ebpfkit
from ebpfkit.asm import printer
from ebpfkit.asm.builder import Builder
from ebpfkit.asm.codec import decode, encode
from ebpfkit.asm.insn import R0, R1, R2
from ebpfkit.asm.isa import OPCODES, Group, Kind, Opcode
from ebpfkit.asm.parser import parse
from ebpfkit.errors import MachineFault, NotSupported, UsageError
from ebpfkit.vm.machine import Machine

ROWS = [op for op in OPCODES.values() if op.kind is not Kind.INVALID]


def test_the_groups_of_the_rfc_have_as_many_instructions_as_its_sections_declare() -> None:
    assert Counter(op.group for op in ROWS) == {
        Group.BASE32: 66, Group.BASE64: 58, Group.DIVMUL32: 10, Group.DIVMUL64: 10, Group.ATOMIC32: 10,
        Group.ATOMIC64: 10, Group.PACKET: 6, Group.LINUX: 11, Group.CALLX: 1,
    }  # fmt: skip


GROUPS = {
    "w1 += w2": Group.BASE32,
    "r1 += r2": Group.BASE64,
    "r1 = be32 r1": Group.BASE32,
    "r1 = be64 r1": Group.BASE64,
    "r1 = bswap64 r1": Group.BASE64,
    "r1 = (s8)r2": Group.BASE64,
    "w1 = (s8)w2": Group.BASE32,
    "r1 = *(u32 *)(r2 +0)": Group.BASE32,
    "r1 = *(u64 *)(r2 +0)": Group.BASE64,
    "*(u8 *)(r2 +0) = 1": Group.BASE32,
    "*(u64 *)(r2 +0) = 1": Group.BASE64,
    "if r1 == r2 goto pc+0": Group.BASE64,
    "if w1 == w2 goto pc+0": Group.BASE32,
    "goto pc+0": Group.BASE32,
    "gotol pc+0": Group.BASE32,
    "call 1": Group.BASE32,
    "exit": Group.BASE32,
    "r1 = 5 ll": Group.BASE64,
    "r1 *= 3": Group.DIVMUL64,
    "w1 s%= 3": Group.DIVMUL32,
    "lock *(u32 *)(r1 +0) += r2": Group.ATOMIC32,
    "r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)": Group.ATOMIC64,
    "r0 = *(u8 *)skb[14]": Group.PACKET,
    "may_goto pc+0": Group.LINUX,
    "callx r1": Group.CALLX,
}


@pytest.mark.parametrize("text", GROUPS)
def test_an_instruction_is_in_its_group(text: str) -> None:
    assert parse(text)[0].op.group is GROUPS[text]


def build(op: Opcode) -> Builder:
    """The one instruction of a row, by the builder's method for it."""
    builder, operand = Builder(), R2 if op.source == "reg" else 7
    match op.kind:
        case Kind.ALU | Kind.MOV:
            return builder.alu(op.operation, R1, operand, width=op.width)
        case Kind.MOVSX:
            return builder.sign_extend(R1, R2, op.size * 8, width=op.width)
        case Kind.SWAP:
            return builder.swap(op.operation, R1, op.size * 8)
        case Kind.ADDR_SPACE:
            return builder.addr_space_cast(R1, R2, 0, 1)
        case Kind.LOAD | Kind.LOADSX:
            return builder.load(op.size, R1, R2, 4, signed=op.kind is Kind.LOADSX)
        case Kind.LOAD_ACQUIRE:
            return builder.load_acquire(op.size, R1, R2, 4)
        case Kind.STORE_RELEASE:
            return builder.store_release(op.size, R1, 4, R2)
        case Kind.STORE:
            return builder.store(op.size, R1, 4, operand)
        case Kind.ATOMIC:
            return builder.atomic(op.operation, op.size, R1, 4, R2)
        case Kind.JUMP:
            return builder.jump(op.operation, R1, operand, 3, width=op.width)
        case Kind.PACKET:
            return builder.load_packet(op.size, 14, R2 if op.operation == "ind" else None)
    methods: dict[str, Callable[[], Builder]] = {
        "JA": lambda: builder.goto(3),
        "JA32": lambda: builder.goto(3, long=True),
        "JA_INDIRECT": lambda: builder.goto_indirect(R1),
        "MAY_GOTO": lambda: builder.may_goto(3),
        "CALL": lambda: builder.call(1),
        "CALL_LOCAL": lambda: builder.label("f").call_local("f"),
        "CALL_KFUNC": lambda: builder.call_kfunc("f", 9),
        "CALLX": lambda: builder.call_indirect(R1),
        "EXIT": builder.exit,
        "LDDW": lambda: builder.load_imm64(R1, -1),
        "LDDW_MAP_FD": lambda: builder.load_map(R1, 5),
        "LDDW_MAP_VALUE": lambda: builder.load_map_value(R1, 5, 8),
        "LDDW_VAR": lambda: builder.load_variable(R1, "jiffies", 9),
        "LDDW_FUNC": lambda: builder.label("f").load_function(R0, "f"),
        "LDDW_MAP_IDX": lambda: builder.load_map(R1, 5, by_index=True),
        "LDDW_MAP_IDX_VALUE": lambda: builder.load_map_value(R1, 5, 8, by_index=True),
    }
    return methods[op.name]()


@pytest.mark.parametrize("op", ROWS, ids=repr)
def test_builder_codec_printer_and_parser_have_the_row(op: Opcode) -> None:
    (insn,) = build(op).build()
    assert insn.op is op
    plain = insn.replace(ref=None, labels=())
    for big_endian in (False, True):
        assert decode(encode([insn], big_endian=big_endian), big_endian=big_endian) == [plain]
    assert parse(printer.format_instruction(plain)) == [plain]


@pytest.mark.parametrize("op", ROWS, ids=repr)
def test_verifier_and_executors_know_the_row(op: Opcode) -> None:
    """A verdict, and a result or a fault, for a program that holds it: nothing of it is overlooked."""
    program = [*build(op).build(), *parse("r0 = 0\nr0 = 0\nr0 = 0\nr0 = 0\nexit")]
    report = ebpfkit.verify(program, prog_type="socket_filter", kernel="7.1").programs[0]
    assert report.verdict in ("accept", "reject") or op.name in ("JA_INDIRECT", "LDDW_FUNC", "CALL_KFUNC", "LDDW_VAR")
    for jit in (None, "safe"):
        try:
            Machine(program, prog_type=None, jit=jit).run(bytes(32))
        except (MachineFault, NotSupported, UsageError):
            continue
