"""What must hold before an instruction may run, as printable data: one instruction yields a few obligations.

Obligations say nothing about how they are proved (`check` does that) nor what the instruction does (`transfer`). They
depend on the instruction alone, never on the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind

__all__ = [
    "Access", "Allowed", "Argument", "FieldsClear", "HelperUsable", "NoReferences", "Obligation", "OperandFits",
    "Readable", "ReturnFits", "Writable", "of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FieldsClear:
    """Fields that the instruction does not use are zero. `message` is the complaint, empty when it holds."""

    message: str
    rule: str = "reserved-field"

    def __str__(self) -> str:
        return "unused fields are zero"


@dataclass(frozen=True, slots=True)
class OperandFits:
    """The constant operand makes sense (no division by 0, no shift by the width). `message` as above."""

    message: str

    def __str__(self) -> str:
        return "the constant operand makes sense"


@dataclass(frozen=True, slots=True)
class Readable:
    register: int

    def __str__(self) -> str:
        return f"R{self.register} was written before"


@dataclass(frozen=True, slots=True)
class Writable:
    register: int

    def __str__(self) -> str:
        return f"R{self.register} may be overwritten"


@dataclass(frozen=True, slots=True)
class Access:
    """`size` bytes at `register` + `offset` may be read or written. `atomic` demands alignment and excludes packets."""

    register: int
    offset: int
    size: int
    write: bool
    atomic: bool = False

    def __str__(self) -> str:
        sign = "-" if self.offset < 0 else "+"
        what = "updated" if self.atomic else "written" if self.write else "read"
        return f"{self.size} bytes at R{self.register} {sign} {abs(self.offset)} may be {what}"


@dataclass(frozen=True, slots=True)
class HelperUsable:
    """The helper exists in this kernel and may be called by this program."""

    number: int

    def __str__(self) -> str:
        return f"helper {self.number} may be called here"


@dataclass(frozen=True, slots=True)
class Argument:
    """The register fits one argument of the helper."""

    register: int
    kind: str

    def __str__(self) -> str:
        return f"R{self.register} fits a {self.kind} argument"


@dataclass(frozen=True, slots=True)
class NoReferences:
    """Nothing acquired is still held."""

    where: str

    def __str__(self) -> str:
        return f"every acquired reference is released before {self.where}"


@dataclass(frozen=True, slots=True)
class ReturnFits:
    """R0 is within what the program type allows."""

    def __str__(self) -> str:
        return "R0 is a value that this program type may return"


@dataclass(frozen=True, slots=True)
class Allowed:
    """The instruction is available in this kind of program."""

    what: str

    def __str__(self) -> str:
        return f"{self.what} is allowed here"


Obligation = (
    FieldsClear
    | OperandFits
    | Readable
    | Writable
    | Access
    | HelperUsable
    | Argument
    | NoReferences
    | ReturnFits
    | Allowed
)

_RESERVED = "uses reserved fields"
_CLEAR = FieldsClear("")
_readable = cache(Readable)
_writable = cache(Writable)


def _fields(insn: Instruction, used: str, name: str) -> list[Obligation]:
    """An obligation on the fields not named in `used` (of "dsoi": dst, src, off, imm)."""
    values = {"d": insn.dst, "s": insn.src, "o": insn.off, "i": insn.imm}
    clear = all(not value for letter, value in values.items() if letter not in used)
    return [_CLEAR if clear else FieldsClear(f"{name} {_RESERVED}")]


def _alu(insn: Instruction) -> list[Obligation]:
    op = insn.op
    if op.operation == "neg":
        return [*_fields(insn, "d", "BPF_NEG"), _readable(int(insn.dst)), _writable(int(insn.dst))]
    result: list[Obligation] = _fields(insn, "ds" if op.source == "reg" else "di", "BPF_ALU")
    if op.source == "reg":
        result.append(_readable(int(insn.src)))
    result.append(_readable(int(insn.dst)))
    if op.source == "imm":
        if op.operation in ("div", "mod", "sdiv", "smod") and not insn.imm:
            result.append(OperandFits("div by zero"))
        if op.operation in ("lsh", "rsh", "arsh") and not 0 <= insn.imm < op.width:
            result.append(OperandFits(f"invalid shift {insn.imm}"))
    return [*result, _writable(int(insn.dst))]


def _jump(insn: Instruction) -> list[Obligation]:
    if insn.op.source == "reg":
        return [*_fields(insn, "dso", "BPF_JMP/JMP32"), _readable(int(insn.src)), _readable(int(insn.dst))]
    return [*_fields(insn, "doi", "BPF_JMP/JMP32"), _readable(int(insn.dst))]


def _atomic(insn: Instruction) -> list[Obligation]:
    op = insn.op
    result = [*_fields(insn, "dso", "BPF_ATOMIC"), _readable(int(insn.src)), _readable(int(insn.dst))]
    if op.operation == "cmpxchg":
        result.append(_readable(0))
    elif op.operation.startswith("fetch") or op.operation == "xchg":
        result.append(_writable(int(insn.src)))
    access = Access(int(insn.dst), insn.off, op.size, False, True)
    return [*result, access, Access(int(insn.dst), insn.off, op.size, True, True)]


def of(insn: Instruction) -> list[Obligation]:
    """The obligations of one instruction, in the order in which they are proved. Calls are `transfer/calls`'s."""
    op = insn.op
    match op.kind:
        case Kind.ALU:
            return _alu(insn)
        case Kind.MOV:
            if op.source == "reg":
                return [*_fields(insn, "ds", "BPF_MOV"), _readable(int(insn.src)), _writable(int(insn.dst))]
            return [*_fields(insn, "di", "BPF_MOV"), _writable(int(insn.dst))]
        case Kind.MOVSX:
            return [*_fields(insn, "ds", "BPF_MOV"), _readable(int(insn.src)), _writable(int(insn.dst))]
        case Kind.SWAP:
            return [*_fields(insn, "d", "BPF_END"), _readable(int(insn.dst)), _writable(int(insn.dst))]
        case Kind.LOAD | Kind.LOADSX:
            access = Access(int(insn.src), insn.off, op.size, False)
            return [*_fields(insn, "dso", "BPF_LDX"), _readable(int(insn.src)), _writable(int(insn.dst)), access]
        case Kind.STORE if op.source == "reg":
            store = Access(int(insn.dst), insn.off, op.size, True)
            return [*_fields(insn, "dso", "BPF_STX"), _readable(int(insn.src)), _readable(int(insn.dst)), store]
        case Kind.STORE:
            return [
                *_fields(insn, "doi", "BPF_ST"),
                _readable(int(insn.dst)),
                Access(int(insn.dst), insn.off, op.size, True),
            ]
        case Kind.ATOMIC:
            return _atomic(insn)
        case Kind.LOAD_ACQUIRE:
            access = Access(int(insn.src), insn.off, op.size, False, True)
            return [*_fields(insn, "dso", "BPF_ATOMIC"), _readable(int(insn.src)), _writable(int(insn.dst)), access]
        case Kind.STORE_RELEASE:
            store = Access(int(insn.dst), insn.off, op.size, True, True)
            return [*_fields(insn, "dso", "BPF_ATOMIC"), _readable(int(insn.src)), _readable(int(insn.dst)), store]
        case Kind.ADDR_SPACE:
            return [_readable(int(insn.src)), _writable(int(insn.dst))]
        case Kind.JUMP:
            return _jump(insn)
        case Kind.GOTO | Kind.MAY_GOTO:
            name = "BPF_JA" if op.kind is Kind.GOTO else "may_goto"
            return _fields(insn, "o", name)
        case Kind.CALL:
            return _fields(insn, "i", "BPF_CALL")
        case Kind.EXIT:
            return _fields(insn, "o", "BPF_EXIT")  # the kernel does not look at the offset
        case Kind.WIDE:
            return [*_fields(insn, "dsi", "BPF_LD_IMM64"), _writable(int(insn.dst))]
        case Kind.PACKET:
            used = "i" if op.operation == "abs" else "si"
            reads: list[Obligation] = [_readable(int(insn.src))] if op.operation == "ind" else []
            fields = _fields(insn, used, "BPF_LD_[ABS|IND]")
            if op.size == 8:
                fields = [FieldsClear("BPF_LD_[ABS|IND] uses reserved fields")]
            return [Allowed("BPF_LD_[ABS|IND]"), *fields, _readable(6), NoReferences("BPF_LD_[ABS|IND]"), *reads]
    return []
