"""uBPF's spelling: a mnemonic, then operands with commas, registers as `%r1` or `r1`, memory as `[%r2+4]`.

Also read are the words of its relatives (rbpf, the conformance suite's assembler): `mov64`, `swap16`, `movsx832`,
`call helper 1`, `lock fetch add`, `ldabsw`. The table is made from the rows of `isa`. Immediates of 64-bit operations
may be written as the 32 bits that they are (`0xffffffff` is -1), which this spelling alone allows.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Final

from ebpfkit._bits import S32_MIN, U32_MAX, U64_MAX, to_signed
from ebpfkit.asm.insn import Instruction, Label, Register
from ebpfkit.asm.isa import OPCODES, Kind, Opcode

if TYPE_CHECKING:
    from ebpfkit.asm.statement import Statement

__all__ = [
    "CALL_REGISTER",
    "NO_MNEMONIC",
    "format_mnemonic",
    "is_mnemonic",
    "mnemonics",
    "read_mnemonic",
    "read_register",
]

NO_MNEMONIC: Final = {
    "INVALID": "written as .8byte",
    "ADDR_SPACE_CAST": "no mnemonic exists",
    "JA_INDIRECT": "no mnemonic exists",
    "MAY_GOTO": "no mnemonic exists",
    **{f"{stem}_{size}": "no mnemonic exists" for stem in ("LOAD_ACQ", "STORE_REL") for size in ("B", "H", "W", "DW")},
    **{name: "written as lddw with map[...], subprog[...] or var[...]" for name in OPCODES if name.startswith("LDDW_")},
}
"""Rows that uBPF's spelling has no word of its own for, and why."""

_LETTERS = {1: "b", 2: "h", 4: "w", 8: "dw"}
_PERCENT_REGISTER = re.compile(r"%?r([0-9]{1,2})\b", re.ASCII)
CALL_REGISTER: Final = re.compile(r"%?r(?:[0-9]|1[0-5])\b", re.ASCII)
"""What makes `call` one through a register, as the conformance suite writes it."""
_TARGET = re.compile(r"[A-Za-z_.$][\w.$]*", re.ASCII)
_LOCKED = re.compile(r"(?:(fetch)[ \t_]+)?(x?add|or|and|xor|xchg|cmpxchg)(32|64)?\b", re.ASCII)
_OTHER_WORDS = re.compile(r"(?:stx)?x(fetch)?add", re.ASCII)
_CALL_KIND = re.compile(r"(helper|local|runtime)\b", re.ASCII)


def _rows() -> Iterator[tuple[str, Opcode]]:
    """Every mnemonic and a row it may mean; register and immediate forms share one."""
    for op in OPCODES.values():
        suffix = "32" if op.width == 32 else ""
        if op.name in NO_MNEMONIC or op.kind in (Kind.ATOMIC, Kind.CALL, Kind.CALL_INDIRECT):
            continue
        if op.kind in (Kind.ALU, Kind.MOV, Kind.JUMP):
            yield f"{op.operation}{suffix}", op
            if op.width == 64:
                yield f"{op.operation}64", op
        elif op.kind is Kind.MOVSX:
            yield f"movsx{op.size * 8}{op.width}", op
        elif op.kind is Kind.SWAP:
            bits = op.size * 8
            yield {"to_le": f"le{bits}", "to_be": f"be{bits}", "bswap": f"bswap{bits}"}[op.operation], op
            if op.operation == "bswap":
                yield f"swap{bits}", op
        elif op.kind is Kind.LOAD:
            yield f"ldx{_LETTERS[op.size]}", op
        elif op.kind is Kind.LOADSX:
            yield f"ldxs{_LETTERS[op.size]}", op
            yield f"ldx{_LETTERS[op.size]}sx", op
        elif op.kind is Kind.STORE:
            yield f"{'stx' if op.source == 'reg' else 'st'}{_LETTERS[op.size]}", op
        elif op.kind is Kind.PACKET:
            yield f"ld{op.operation}{_LETTERS[op.size]}", op
        else:
            yield {"WIDE": "lddw", "EXIT": "exit"}.get(op.kind.name, "ja32" if op.name == "JA32" else "ja"), op


@cache
def mnemonics() -> dict[str, dict[str, Opcode]]:
    """The rows by mnemonic and source ("reg", "imm" or "")."""
    table: dict[str, dict[str, Opcode]] = {}
    for word, op in _rows():
        table.setdefault(word, {})[op.source] = op
    return table


def is_mnemonic(word: str) -> bool:
    """Whether a word begins an instruction in this spelling and in no other."""
    return word in mnemonics() and word != "exit"


def near_mnemonic(word: str) -> str | None:
    """The mnemonic that was probably meant: the same letters, a longer or a similar word."""
    word = word.lower()
    if found := _OTHER_WORDS.match(word):
        return f"lock {found[1] or ''}add"
    table = mnemonics()
    for known in table:
        if known == word or sorted(known) == sorted(word) or (len(word) > 1 and known.rstrip("0123456789") == word):
            return known
    close = difflib.get_close_matches(word, table, 1, 0.7)
    return close[0] if close else None


def read_mnemonic(line: Statement, word: str) -> Instruction:
    """The operands of an instruction whose mnemonic has been read."""
    rows = mnemonics()[word]
    op = next(iter(rows.values()))
    form = _FORMS[op.kind].format(word=word)
    kind = op.kind
    if kind is Kind.GOTO:
        off, ref = _target(line, form, 32 if op.name == "JA32" else 16)
        return Instruction(op, off=off, ref=ref)
    if kind is Kind.PACKET:
        src = Register(0)
        if op.operation == "ind":
            src = read_register(line, form)
            _comma(line, form)
        return Instruction(op, src=src, imm=_immediate(line, form))
    if kind is Kind.STORE:
        base, off = _memory(line, form)
        _comma(line, form)
        if op.source == "reg":
            return Instruction(op, base, read_register(line, form), off)
        return Instruction(op, base, off=off, imm=_immediate(line, form))
    dst = read_register(line, form)
    if kind is Kind.SWAP or (kind is Kind.ALU and op.operation == "neg"):
        if op.operation == "neg" and line.take(","):  # an immediate that has no meaning, as some assemblers want it
            _immediate(line, form)
        return Instruction(op, dst)
    _comma(line, form)
    if kind is Kind.WIDE:
        return _wide(line, dst, form)
    if kind in (Kind.LOAD, Kind.LOADSX):
        base, off = _memory(line, form)
        return Instruction(op, dst, base, off)
    src, imm = Register(0), 0
    if kind is Kind.MOVSX or _PERCENT_REGISTER.match(line.text, line.skip()):
        op, src = rows["reg"], read_register(line, form)
    else:
        op, imm = rows["imm"], _immediate(line, form)
    if kind is not Kind.JUMP:
        return Instruction(op, dst, src, imm=imm)
    _comma(line, form)
    off, ref = _target(line, form)
    return Instruction(op, dst, src, off, imm, ref)


_FORMS = {
    Kind.ALU: "`{word} %r1, %r2` or `{word} %r1, 5`",
    Kind.MOV: "`{word} %r1, %r2` or `{word} %r1, 5`",
    Kind.MOVSX: "`{word} %r1, %r2`",
    Kind.SWAP: "`{word} %r1`",
    Kind.LOAD: "`{word} %r1, [%r2+4]`",
    Kind.LOADSX: "`{word} %r1, [%r2+4]`",
    Kind.STORE: "`{word} [%r1+4], ...` with a register for stx, a number for st",
    Kind.JUMP: "`{word} %r1, 5, +3` or `{word} %r1, %r2, label`",
    Kind.GOTO: "`{word} +3` or `{word} label`",
    Kind.WIDE: "`{word} %r1, 0x1122334455667788`",
    Kind.PACKET: "`ldabsw 14` or `ldindw %r1, 14`",
    Kind.EXIT: "`exit`",
}
_LOCK_FORM = "`lock add [%r1+0], %r2`, `lock fetch add [%r1+0], %r2` or `lock cmpxchg32 [%r1+0], %r2`"
_CALL_FORM = "`call 1`, `call helper 1`, `call local label` or `call runtime 1234`"


def read_locked(line: Statement) -> Instruction | None:
    """`lock` has been read: an atomic operation in this spelling, or None for another's."""
    found = line.accept(_LOCKED)
    if not found:
        return None
    fetch, operation, width = found[1], found[2].removeprefix("x") if found[2] == "xadd" else found[2], found[3]
    if fetch and operation in ("xchg", "cmpxchg"):
        raise line.form_error(f"{operation} always fetches: leave `fetch` out", _LOCK_FORM, found.start())
    stem = f"FETCH_{operation.upper()}" if fetch else operation.upper()
    base, off = _memory(line, _LOCK_FORM)
    _comma(line, _LOCK_FORM)
    return Instruction(OPCODES[f"ATOMIC{width or 64}_{stem}"], base, read_register(line, _LOCK_FORM), off)


def read_kind_of_call(line: Statement) -> Instruction | None:
    """`call` has been read: `helper 1`, `local label` or `runtime 5`, or None for another spelling."""
    found = line.accept(_CALL_KIND)
    if not found:
        return None
    if found[1] == "local":
        label = line.accept(_TARGET)
        if label:
            return Instruction(OPCODES["CALL_LOCAL"], ref=Label(label[0]))
        return Instruction(OPCODES["CALL_LOCAL"], imm=_immediate(line, _CALL_FORM))
    op = OPCODES["CALL" if found[1] == "helper" else "CALL_KFUNC"]
    return Instruction(op, imm=_immediate(line, _CALL_FORM))


def read_register(line: Statement, form: str) -> Register:
    """A register as this spelling writes it, `%r1` or `r1`; `form` is the text to suggest."""
    found = line.accept(_PERCENT_REGISTER)
    if not found:
        raise line.form_error(f"expected a register, found {line.rest_word()!r}", form)
    if int(found[1]) > 11:
        raise line.error(f"{found[0]} is no register; there are r0 to r10", None, found.start())
    return Register(int(found[1]))


def _comma(line: Statement, form: str) -> None:
    if not line.take(","):
        raise line.form_error(f"expected a comma, found {line.rest_word()!r}", form)


def _immediate(line: Statement, form: str) -> int:
    at = line.skip()
    found = line.number_or_none()
    if found is None:
        raise line.form_error(f"expected a register or a number, found {line.rest_word()!r}", form)
    value = found[0]
    if S32_MIN <= value <= U32_MAX or value >= U64_MAX - (1 << 31) + 1:
        if value > U64_MAX:
            raise line.error(f"{value} does not fit 64 bits", None, at)
        return to_signed(value, 32)
    raise line.error(f"{value} does not fit a 32-bit immediate; load it with `lddw`", None, at)


def _memory(line: Statement, form: str) -> tuple[Register, int]:
    if not line.take("["):
        raise line.form_error(f"expected memory in brackets, found {line.rest_word()!r}", form)
    base = read_register(line, form)
    off = 0
    if line.text.startswith(("+", "-"), line.skip()):
        off = line.offset("place")
    if not line.take("]"):
        raise line.form_error(f"expected `]`, found {line.rest_word()!r}", form)
    return base, off


def _target(line: Statement, form: str, bits: int = 16) -> tuple[int, Label | None]:
    if line.text.startswith(("+", "-"), line.skip()):
        return line.offset("target", bits), None
    found = line.accept(_TARGET)
    if not found:
        at, word = line.skip(), line.rest_word()
        distance = line.number_or_none()  # rbpf wants no sign
        if distance is None or distance[0] >= 1 << bits - 1:
            raise line.form_error(f"expected a label or a distance, found {word!r}", form, at)
        return distance[0], None
    return 0, Label(found[0])


def _wide(line: Statement, dst: Register, form: str) -> Instruction:
    at = line.skip()
    word = line.accept(_TARGET)
    if word:
        return line.read_reference(word[0], dst, at)
    found = line.number_or_none()
    if found is None:
        raise line.form_error(f"expected a number, found {line.rest_word()!r}", form)
    if not -(1 << 63) <= found[0] <= U64_MAX:
        raise line.error("the value does not fit 64 bits", None, at)
    return Instruction(OPCODES["LDDW"], dst, imm=found[0] & U64_MAX)


# --- printing ---------------------------------------------------------------------------------------------------------


@cache
def _words() -> dict[str, str]:
    words: dict[str, str] = {}
    for word, op in _rows():
        words.setdefault(op.name, word)
    return words


def format_mnemonic(insn: Instruction) -> str:
    """One instruction in uBPF's spelling. Raises KeyError for the rows of NO_MNEMONIC."""
    op, dst, src = insn.op, f"%r{int(insn.dst)}", f"%r{int(insn.src)}"
    target = insn.ref.name if isinstance(insn.ref, Label) else f"{insn.off:+d}"
    if op.kind is Kind.CALL:
        if op.operation == "local":
            return f"call local {insn.ref.name if isinstance(insn.ref, Label) else f'{insn.imm:+d}'}"
        if op.operation == "helper":
            return f"call {insn.imm}" if insn.imm >= 0 else f"call helper {insn.imm}"
        return f"call runtime {insn.imm}{f' {{off={insn.off}}}' if insn.off else ''}"
    if op.kind is Kind.CALL_INDIRECT:
        return f"callx {dst}"
    if op.kind is Kind.ATOMIC:
        fetch, name = ("fetch ", op.operation[6:]) if op.operation.startswith("fetch_") else ("", op.operation)
        return f"lock {fetch}{name}{'32' if op.size == 4 else ''} [{dst}{insn.off:+d}], {src}"
    word = _words()[op.name]
    if op.kind is Kind.EXIT:
        return word
    if op.kind is Kind.GOTO:
        return f"{word} {target}"
    if op.kind is Kind.STORE:
        return f"{word} [{dst}{insn.off:+d}], {src if op.source == 'reg' else insn.imm}"
    if op.kind in (Kind.LOAD, Kind.LOADSX):
        return f"{word} {dst}, [{src}{insn.off:+d}]"
    if op.kind is Kind.PACKET:
        return f"{word} {insn.imm}" if op.operation == "abs" else f"{word} {src}, {insn.imm}"
    if op.kind is Kind.WIDE:
        return f"{word} {dst}, {insn.imm:#x}"
    if op.kind is Kind.SWAP or op.operation == "neg":
        return f"{word} {dst}"
    operand = src if op.source == "reg" else str(insn.imm)
    return f"{word} {dst}, {operand}, {target}" if op.kind is Kind.JUMP else f"{word} {dst}, {operand}"
