"""The codec: known bytes, the round-trip law over every opcode, refusals that name the place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.asm.codec import decode, encode, label_slots, resolve_labels, slot_starts
from ebpfkit.asm.insn import R0, R1, R2, R3, R10, FuncRef, Instruction, Label, MapRef, Register
from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.errors import AsmError
from ebpfkit.testing.strategies import instructions, instructions_of

I = Instruction  # noqa: E741
O = OPCODES  # noqa: E741

# Bytes as GNU as and LLVM write them for little-endian BPF.
KNOWN = [
    (I(O["MOV64_IMM"], R0, imm=2), "b700000002000000"),
    (I(O["MOV64_REG"], R1, R2), "bf21000000000000"),
    (I(O["MOVSX64_8"], R1, R2), "bf21080000000000"),
    (I(O["MOVSX32_16"], R1, R2), "bc21100000000000"),
    (I(O["ADD32_IMM"], R3, imm=-1), "04030000ffffffff"),
    (I(O["SDIV64_REG"], R1, R2), "3f21010000000000"),
    (I(O["NEG64"], R1), "8701000000000000"),
    (I(O["TO_BE16"], R1), "dc01000010000000"),
    (I(O["BSWAP64"], R1), "d701000040000000"),
    (I(O["LDXW"], R2, R1, 4), "6112040000000000"),
    (I(O["LDXSB"], R2, R1, -1), "9112ffff00000000"),
    (I(O["STXDW"], R10, R1, -8), "7b1af8ff00000000"),
    (I(O["STB"], R10, off=-1, imm=7), "720affff07000000"),
    (I(O["ATOMIC64_ADD"], R1, R2), "db21000000000000"),
    (I(O["ATOMIC32_FETCH_ADD"], R1, R2), "c321000001000000"),
    (I(O["ATOMIC64_CMPXCHG"], R1, R2), "db210000f1000000"),
    (I(O["LOAD_ACQ_W"], R2, R1), "c312000000010000"),
    (I(O["STORE_REL_DW"], R1, R2), "db21000010010000"),
    (I(O["JSGT64_IMM"], R1, off=3, imm=5), "6501030005000000"),
    (I(O["JA"], off=-2), "0500feff00000000"),
    (I(O["JA32"], off=-2), "06000000feffffff"),
    (I(O["CALL"], imm=1), "8500000001000000"),
    (I(O["CALL_LOCAL"], imm=5), "8510000005000000"),
    (I(O["CALL_KFUNC"], off=1, imm=77), "852001004d000000"),
    (I(O["EXIT"]), "9500000000000000"),
    (I(O["LDDW"], R1, imm=0x1122334455667788), "1801000088776655" + "0000000044332211"),
    (I(O["LDDW_MAP_VALUE"], R1, imm=5 | 8 << 32), "1821000005000000" + "0000000008000000"),
    (I(O["LD_IND_H"], src=R2, imm=14), "482000000e000000"),
]


@pytest.mark.parametrize(("insn", "data"), KNOWN, ids=lambda value: value if isinstance(value, str) else value.op.name)
def test_known_bytes(insn: Instruction, data: str) -> None:
    assert encode([insn]).hex() == data
    assert decode(bytes.fromhex(data)) == [insn]


def test_big_endian_swaps_fields_and_register_nibbles() -> None:
    assert encode([I(O["LDXW"], R2, R1, 4)], big_endian=True).hex() == "6121000400000000"
    assert (
        encode([I(O["LDDW"], R1, imm=0x1122334455667788)], big_endian=True).hex()
        == "1810000055667788" + "0" * 8 + "11223344"
    )


@pytest.mark.parametrize("op", [op for op in OPCODES.values() if op.kind is not Kind.INVALID], ids=repr)
def test_decode_undoes_encode_for_every_opcode(op) -> None:  # type: ignore[no-untyped-def]
    @settings(max_examples=8, derandomize=True, deadline=None, database=None)
    @given(instructions_of(op), st.booleans())
    def law(insn: Instruction, big_endian: bool) -> None:
        assert decode(encode([insn], big_endian=big_endian), big_endian=big_endian) == [insn]

    law()


@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(st.lists(instructions().filter(lambda insn: insn.op.kind is not Kind.INVALID), max_size=12))
def test_decode_undoes_encode_for_programs(program: list[Instruction]) -> None:
    assert decode(encode(program)) == program
    assert slot_starts(program) == [len(encode(program[:index])) // 8 for index in range(len(program))]


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(st.binary(max_size=64), st.booleans())
def test_any_bytes_decode_or_are_an_asm_error(data: bytes, big_endian: bool) -> None:
    try:
        insns = decode(data, big_endian=big_endian)
    except AsmError as error:
        assert "slot" in str(error) and "byte" in str(error)
    else:
        assert encode(insns, big_endian=big_endian) == data
    whole = data[: len(data) // 8 * 8]
    assert encode(decode(whole, big_endian=big_endian, strict=False), big_endian=big_endian) == whole


REFUSED = [
    ("b7000000", "slot 0 (byte 0x0): only 4 bytes are left"),
    ("9500000000000000" + "ff00000000000000", "slot 1 (byte 0x8): opcode 0xff is no instruction"),
    ("bf21070000000000", "opcode 0xbf with off = 7 is no instruction"),
    ("db21000002000000", "opcode 0xdb with imm = 2 is no instruction"),
    ("1871000000000000" + "0" * 16, "opcode 0x18 with src = 7 is no instruction"),
    ("1801000000000000", "lacks its second slot"),
    ("1801000000000000" + "0100000000000000", "second slot of a wide load has reserved fields set"),
    ("9500000001000000", "EXIT leaves imm reserved, but it is 1"),
    ("b70b000001000000", "r11 is no register"),
    ("0700010001000000", "ADD64_IMM leaves off reserved, but it is 1"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED)
def test_strict_refuses_with_the_place_and_lax_keeps_the_bytes(data: str, message: str) -> None:
    raw = bytes.fromhex(data)
    with pytest.raises(AsmError) as caught:
        decode(raw)
    assert message in str(caught.value)
    if len(raw) % 8 == 0:
        assert encode(decode(raw, strict=False)) == raw


def test_lax_names_what_is_no_instruction_and_keeps_reserved_fields() -> None:
    assert decode(bytes.fromhex("ff00000000000001"), strict=False) == [I(O["INVALID"], imm=0x01000000000000FF)]
    assert decode(bytes.fromhex("9500000001000000"), strict=False) == [I(O["EXIT"], imm=1)]
    assert decode(bytes.fromhex("b70b000001000000"), strict=False) == [I(O["MOV64_IMM"], Register(11), imm=1)]
    assert decode(bytes.fromhex("0600030005000000"), strict=False) == [I(O["JA32"], off=5, imm=3)]


OUT_OF_RANGE = [
    (I(O["MOV64_IMM"], imm=1 << 31), "imm = 2147483648 of MOV64_IMM is not within"),
    (I(O["LDXW"], off=0x8000), "off = 32768 of LDXW is not within"),
    (I(O["JA32"], off=1 << 31), "off = 2147483648 of JA32 is not within"),
    (I(O["LDDW"], imm=-1), "imm = -1 of LDDW is not within"),
    (I(O["SDIV64_REG"], off=3), "SDIV64_REG fixes off at 1, so 3 cannot be encoded there"),
]


@pytest.mark.parametrize(("insn", "message"), OUT_OF_RANGE, ids=lambda value: value if isinstance(value, str) else "")
def test_encode_refuses_numbers_that_do_not_fit(insn: Instruction, message: str) -> None:
    with pytest.raises(AsmError) as caught:
        encode([I(O["EXIT"]), insn])
    assert message in str(caught.value) and "slot 1 (byte 0x8)" in str(caught.value)


def test_labels_become_distances_in_the_field_that_holds_them() -> None:
    program = [
        I(O["JA"], ref=Label("end")),
        I(O["LDDW"], R1, imm=1, labels=("wide",)),
        I(O["JEQ64_IMM"], R1, ref=Label("wide")),
        I(O["JA32"], ref=Label("wide")),
        I(O["MAY_GOTO"], ref=Label("end")),
        I(O["CALL_LOCAL"], ref=Label("fn")),
        I(O["LDDW_FUNC"], R2, ref=Label("wide")),
        I(O["EXIT"], labels=("end",)),
        I(O["EXIT"], labels=("fn", "alias")),
    ]
    assert label_slots(program) == {"wide": 1, "end": 9, "fn": 10, "alias": 10}
    resolved = resolve_labels(program)
    assert [insn.off for insn in resolved] == [8, 0, -3, -4, 3, 0, 0, 0, 0]
    assert resolved[5].imm == 3 and resolved[6].imm == 0xFFFF_FFF9
    assert resolved[0].ref == Label("end")
    assert encode(program) == encode(resolved)


LABEL_ERRORS = [
    ([I(O["JA"], ref=Label("nowhere"))], "label 'nowhere' is not set"),
    ([I(O["EXIT"], labels=("a",)), I(O["EXIT"], labels=("a",)), I(O["JA"], ref=Label("a"))], "'a' is set twice"),
    ([I(O["EXIT"], ref=Label("a"), labels=("a",))], "EXIT does not take a label"),
    ([I(O["JA"], ref=Label("far")), *[I(O["EXIT"])] * 0x8000, I(O["EXIT"], labels=("far",))], "use gotol"),
]


@pytest.mark.parametrize(
    ("program", "message"), LABEL_ERRORS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_label_errors(program: list[Instruction], message: str) -> None:
    with pytest.raises(AsmError, match=message):
        encode(program)


def test_other_references_are_encoded_through_their_numbers() -> None:
    assert encode([I(O["LDDW_MAP_FD"], R1, imm=7, ref=MapRef("m"))]) == encode([I(O["LDDW_MAP_FD"], R1, imm=7)])
    assert encode([I(O["CALL_LOCAL"], imm=-3, ref=FuncRef("f"))]) == encode([I(O["CALL_LOCAL"], imm=-3)])


def test_repr_reads_back() -> None:
    insn = I(O["JEQ64_IMM"], R1, R0, 3, -1, Label("x"), labels=("a", "b"))
    names = {name: globals()[name] for name in ("Instruction", "Label", "R1")} | dict(OPCODES)
    assert eval(repr(insn), names) == insn
