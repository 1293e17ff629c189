"""Instructions to bytes and back (RFC 9669 section 3), and labels to distances.

What shares an opcode byte is told apart here and nowhere else. Text belongs to `printer` and `parser`; whether a
program is safe is not asked.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ebpfkit._bits import S32_MAX, S32_MIN, U64_MAX, to_signed
from ebpfkit.asm.insn import Instruction, Label, Register
from ebpfkit.asm.isa import OPCODES, Kind, Opcode
from ebpfkit.errors import AsmError

__all__ = ["SLOT_SIZE", "decode", "encode", "label_slots", "resolve_labels", "slot_starts"]

SLOT_SIZE = 8
"""Bytes of one instruction slot; a wide load takes two slots."""

_INVALID = OPCODES["INVALID"]
_JA32 = OPCODES["JA32"]
_IMM_TARGETS = {"CALL_LOCAL", "LDDW_FUNC"}
_REGISTERS = tuple(Register(number) for number in range(16))


class _Family(NamedTuple):
    """The rows of one opcode byte, and the field whose value tells them apart ("" when there is one row)."""

    field: str
    rows: Mapping[int, Opcode]


def _families() -> dict[int, _Family]:
    by_code: dict[int, list[Opcode]] = {}
    for op in OPCODES.values():
        if op.kind is not Kind.INVALID:
            by_code.setdefault(op.code, []).append(op)
    families = {}
    for code, rows in by_code.items():
        fixed = {_fixed_field(op) for op in rows}
        if len(fixed) != 1 or (len(rows) > 1 and fixed == {("")}):
            raise AssertionError(f"opcode byte {code:#04x} is ambiguous: {rows}")
        field = fixed.pop()
        families[code] = _Family(field, {_fixed_value(op): op for op in rows})
    return families


def _fixed_field(op: Opcode) -> str:
    for name, value in (("off", op.off_code), ("imm", op.imm_code), ("src", op.src_code)):
        if value is not None:
            return name
    return ""


def _fixed_value(op: Opcode) -> int:
    return next((value for value in (op.off_code, op.imm_code, op.src_code) if value is not None), 0)


_FAMILIES = _families()


def slot_starts(insns: Sequence[Instruction]) -> list[int]:
    """The slot number of each instruction."""
    starts = []
    slot = 0
    for insn in insns:
        starts.append(slot)
        slot += insn.op.slots
    return starts


def label_slots(insns: Sequence[Instruction]) -> dict[str, int]:
    """The slot each label stands for. Raises AsmError for a label that is set twice."""
    slots: dict[str, int] = {}
    slot = 0
    for insn in insns:
        for name in insn.labels:
            if name in slots:
                raise AsmError(f"label {name!r} is set twice: at slots {slots[name]} and {slot}", span=insn.span)
            slots[name] = slot
        slot += insn.op.slots
    return slots


def resolve_labels(insns: Sequence[Instruction]) -> list[Instruction]:
    """The same instructions with the distance to each `Label` in `off` (jumps) or `imm` (calls, function addresses).

    The reference stays, so that a program can be changed and resolved again. Raises AsmError for a label that is not
    set, and for a distance that does not fit.
    """
    if not any(type(insn.ref) is Label for insn in insns):
        return list(insns)
    slots = label_slots(insns)
    resolved = []
    slot = 0
    for insn in insns:
        if type(insn.ref) is Label:
            resolved.append(_resolve(insn, insn.ref, slot, slots))
        else:
            resolved.append(insn)
        slot += insn.op.slots
    return resolved


def _resolve(insn: Instruction, label: Label, slot: int, slots: Mapping[str, int]) -> Instruction:
    target = slots.get(label.name)
    if target is None:
        raise _error(f"label {label.name!r} is not set in this program", slot, insn)
    distance = target - slot - 1
    op = insn.op
    if op.name in _IMM_TARGETS:
        return insn.replace(imm=distance if op.kind is Kind.CALL else distance & 0xFFFF_FFFF)
    if op.kind not in (Kind.JUMP, Kind.GOTO, Kind.MAY_GOTO):
        raise _error(f"{op.name} does not take a label", slot, insn)
    if op is not _JA32 and not -0x8000 <= distance <= 0x7FFF:
        raise _error(
            f"label {label.name!r} is {distance} slots away, a jump reaches 16 bits; use gotol (CPU v4)", slot, insn
        )
    return insn.replace(off=distance)


def _error(message: str, slot: int, insn: Instruction | None = None) -> AsmError:
    return AsmError(f"slot {slot} (byte {slot * SLOT_SIZE:#x}): {message}", span=insn.span if insn else None)


def encode(insns: Sequence[Instruction], *, big_endian: bool = False) -> bytes:
    """The bytes of a program. Labels are resolved; other references are encoded through the numbers beside them.

    Raises AsmError for a number that does not fit its field. Reserved fields are written as they stand, so that a
    program the kernel refuses can be made on purpose.
    """
    pack = struct.Struct(">BBhi" if big_endian else "<BBhi").pack
    slot_pack = struct.Struct(">Q" if big_endian else "<Q").pack
    out = bytearray()
    for insn in resolve_labels(insns):
        op = insn.op
        slot = len(out) // SLOT_SIZE
        if op is _INVALID:
            _check_range("the slot's 64 bits", insn.imm, 0, U64_MAX, slot, insn)
            out += slot_pack(insn.imm)
            continue
        dst, src, off, imm = int(insn.dst), int(insn.src), insn.off, insn.imm
        if op.off_code is not None:
            off = _fixed("off", off, op.off_code, slot, insn)
        elif op.imm_code is not None:
            imm = _fixed("imm", imm, op.imm_code, slot, insn)
        elif op.src_code is not None:
            src = _fixed("src", src, op.src_code, slot, insn)
        if op is _JA32:
            off, imm = imm, off
        second = b""
        if op.slots == 2:
            _check_range("imm", imm, 0, U64_MAX, slot, insn)
            second = pack(0, 0, 0, to_signed(imm >> 32, 32))
            imm = to_signed(imm, 32)
        if not -0x8000 <= off <= 0x7FFF or not S32_MIN <= imm <= S32_MAX:
            _check_range("imm" if op is _JA32 else "off", off, -0x8000, 0x7FFF, slot, insn)
            _check_range("off" if op is _JA32 else "imm", imm, S32_MIN, S32_MAX, slot, insn)
        out += pack(op.code, dst << 4 | src if big_endian else src << 4 | dst, off, imm) + second
    return bytes(out)


def _fixed(field: str, value: int, code: int, slot: int, insn: Instruction) -> int:
    if value not in (0, code):
        raise _error(f"{insn.op.name} fixes {field} at {code}, so {value} cannot be encoded there", slot, insn)
    return code


def _check_range(field: str, value: int, low: int, high: int, slot: int, insn: Instruction) -> None:
    if not low <= value <= high:
        raise _error(f"{field} = {value} of {insn.op.name} is not within {low}..{high}", slot, insn)


def decode(data: bytes | bytearray | memoryview, *, big_endian: bool = False, strict: bool = True) -> list[Instruction]:
    """The instructions in `data`.

    With `strict`, anything that is not defined (an unknown opcode, a register above r10, a reserved field that is set,
    half a wide load) is an AsmError that names slot and byte. Without it, slots that are no instruction become
    `INVALID` with the slot's 64 bits in `imm`, and reserved fields that are set are kept. A length that is no multiple
    of 8 is an error always.
    """
    if len(data) % SLOT_SIZE:
        whole, rest = divmod(len(data), SLOT_SIZE)
        raise AsmError(f"slot {whole} (byte {whole * SLOT_SIZE:#x}): only {rest} bytes are left, a slot has 8")
    fields = list(struct.iter_unpack(">BBhi" if big_endian else "<BBhi", data))
    insns = []
    slot, count = 0, len(fields)
    while slot < count:
        code, regs, off, imm = fields[slot]
        dst, src = (regs >> 4, regs & 15) if big_endian else (regs & 15, regs >> 4)
        second = fields[slot + 1] if slot + 1 < count else None
        insn = _decode_slot(code, dst, src, off, imm, second, slot, strict)
        if insn is None:
            bits = data[slot * SLOT_SIZE : (slot + 1) * SLOT_SIZE]
            insn = Instruction(_INVALID, imm=int.from_bytes(bits, "big" if big_endian else "little"))
        insns.append(insn)
        slot += insn.op.slots
    return insns


def _decode_slot(
    code: int, dst: int, src: int, off: int, imm: int, second: tuple[int, ...] | None, slot: int, strict: bool
) -> Instruction | None:
    family = _FAMILIES.get(code)
    if family is None:
        return _not_an_instruction(f"opcode {code:#04x} is no instruction", slot, strict)
    field, rows = family
    if field == "":
        op = rows[0]
    else:
        value = off if field == "off" else imm if field == "imm" else src
        found = rows.get(value)
        if found is None:
            return _not_an_instruction(f"opcode {code:#04x} with {field} = {value} is no instruction", slot, strict)
        op = found
        if field == "off":
            off = 0
        elif field == "imm":
            imm = 0
        else:
            src = 0
    if op.slots == 2:
        if second is None:
            return _not_an_instruction("a wide load lacks its second slot", slot, strict)
        if second[0] or second[1] or second[2]:
            return _not_an_instruction("the second slot of a wide load has reserved fields set", slot, strict)
        imm = imm & 0xFFFF_FFFF | (second[3] & 0xFFFF_FFFF) << 32
    elif op is _JA32:
        off, imm = imm, off
    insn = Instruction(op, _REGISTERS[dst], _REGISTERS[src], off, imm)
    if strict:
        _check_reserved(insn, slot)
    return insn


def _not_an_instruction(message: str, slot: int, strict: bool) -> Instruction | None:
    if strict:
        raise _error(message, slot)
    return None


def _check_reserved(insn: Instruction, slot: int) -> None:
    for register in (insn.dst, insn.src):
        if register > 10:
            raise _error(f"r{int(register)} is no register of {insn.op.name}; there are r0 to r10", slot)
    operands = insn.op.operands
    for name, value in (("dst", insn.dst), ("src", insn.src), ("off", insn.off), ("imm", insn.imm)):
        if value and name not in operands:
            raise _error(f"{insn.op.name} leaves {name} reserved, but it is {int(value)}", slot)
