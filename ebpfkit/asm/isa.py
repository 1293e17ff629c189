# ruff: noqa: E501 (rows of a table stay on one line)
"""The opcode table of RFC 9669, plus what Linux has added since: one row declares an instruction.

Everyone who handles instructions (codec, printer, parser, interpreter, verifier) is checked complete against `OPCODES`.
A row is identified by the opcode byte and, where the byte is shared, by the fixed value that one of the fields `off`,
`imm` or `src` must have. No behaviour lives here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

__all__ = ["OPCODES", "Group", "Kind", "Opcode"]


class Kind(Enum):
    """What an instruction does, as far as its operands are concerned."""

    __hash__ = object.__hash__  # members are singletons; the default hashes the name in Python each time

    ALU = "alu"  # dst = dst OP (imm | src); neg has no operand
    MOV = "mov"  # dst = imm | src
    MOVSX = "movsx"  # dst = sign-extended low `size` bytes of src
    SWAP = "swap"  # to_le, to_be, bswap of `size` bytes
    ADDR_SPACE = "addr_space"  # dst = addr_space_cast(src, imm >> 16, imm & 0xffff)
    LOAD = "load"  # dst = *(u `size`)(src + off)
    LOADSX = "loadsx"  # dst = *(s `size`)(src + off)
    STORE = "store"  # *(u `size`)(dst + off) = src | imm
    ATOMIC = "atomic"  # read-modify-write at dst + off with src
    LOAD_ACQUIRE = "load_acquire"
    STORE_RELEASE = "store_release"
    JUMP = "jump"  # conditional
    GOTO = "goto"  # unconditional, relative
    GOTO_INDIRECT = "goto_indirect"  # gotox rX
    MAY_GOTO = "may_goto"
    CALL = "call"  # helper, local function or kfunc: see `operation`
    CALL_INDIRECT = "call_indirect"  # callx rX
    EXIT = "exit"
    WIDE = "wide"  # 64-bit immediate, map, variable or code address: see `operation`
    PACKET = "packet"  # legacy absolute and indirect packet loads
    INVALID = "invalid"  # bytes that are no instruction; `imm` holds the slot's 64 bits


class Group(Enum):
    """Conformance groups of RFC 9669 section 2.4; LINUX marks what the kernel added since.

    CALLX is the call through a register: compilers write it, drafts of the RFC had it, no Linux takes it.
    """

    BASE32 = "base32"
    BASE64 = "base64"
    ATOMIC32 = "atomic32"
    ATOMIC64 = "atomic64"
    DIVMUL32 = "divmul32"
    DIVMUL64 = "divmul64"
    PACKET = "packet"
    LINUX = "linux"
    CALLX = "callx"


@dataclass(frozen=True, eq=False, slots=True)
class Opcode:
    """One instruction of the set.

    `width` is the width of the operation in bits (32 or 64), `size` that of a memory access or a partial operand in
    bytes, `source` "reg" or "imm" where there is a choice. `off_code`, `imm_code` and `src_code` are the fixed values
    that tell rows of one opcode byte apart. `cpu` is the LLVM CPU level, `since` the first Linux version ("": all have
    it; `in_linux` False: none). Rows are compared by identity and pickle by name.
    """

    name: str
    code: int
    kind: Kind
    operation: str
    width: int
    source: str = ""
    size: int = 0
    off_code: int | None = None
    imm_code: int | None = None
    src_code: int | None = None
    group: Group = Group.BASE64
    cpu: int = 1
    since: str = ""
    in_linux: bool = True

    @property
    def slots(self) -> int:
        return 2 if self.kind is Kind.WIDE else 1

    @property
    def operands(self) -> frozenset[str]:
        """Which of `dst`, `src`, `off`, `imm` the instruction uses; the others are reserved and must be zero."""
        by_source = _OPERANDS.get((self.kind, self.source))
        return by_source if by_source is not None else _OPERANDS_BY_NAME[self.name]

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (_by_name, (self.name,))


def _by_name(name: str) -> Opcode:
    return OPCODES[name]


def _fields(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OPERANDS = {
    (Kind.ALU, "imm"): _fields("dst imm"),
    (Kind.ALU, "reg"): _fields("dst src"),
    (Kind.ALU, ""): _fields("dst"),
    (Kind.MOV, "imm"): _fields("dst imm"),
    (Kind.MOV, "reg"): _fields("dst src"),
    (Kind.MOVSX, "reg"): _fields("dst src"),
    (Kind.SWAP, ""): _fields("dst"),
    (Kind.ADDR_SPACE, "reg"): _fields("dst src imm"),
    (Kind.LOAD, ""): _fields("dst src off"),
    (Kind.LOADSX, ""): _fields("dst src off"),
    (Kind.STORE, "imm"): _fields("dst off imm"),
    (Kind.STORE, "reg"): _fields("dst src off"),
    (Kind.ATOMIC, "reg"): _fields("dst src off"),
    (Kind.LOAD_ACQUIRE, ""): _fields("dst src off"),
    (Kind.STORE_RELEASE, "reg"): _fields("dst src off"),
    (Kind.JUMP, "imm"): _fields("dst off imm"),
    (Kind.JUMP, "reg"): _fields("dst src off"),
    (Kind.GOTO, ""): _fields("off"),
    (Kind.GOTO_INDIRECT, "reg"): _fields("dst"),
    (Kind.MAY_GOTO, ""): _fields("off"),
    (Kind.CALL_INDIRECT, "reg"): _fields("dst"),
    (Kind.EXIT, ""): _fields(""),
    (Kind.WIDE, ""): _fields("dst imm"),
    (Kind.INVALID, ""): _fields("imm"),
}
_OPERANDS_BY_NAME = {
    "CALL": _fields("imm"),
    "CALL_LOCAL": _fields("imm"),
    "CALL_KFUNC": _fields("imm off"),
    **{f"LD_ABS_{size}": _fields("imm") for size in "WHB"},
    **{f"LD_IND_{size}": _fields("src imm") for size in "WHB"},
}

# Classes and source bits of the opcode byte (RFC 9669 section 3).
_LD, _LDX, _ST, _STX, _ALU32, _JMP64, _JMP32, _ALU64 = range(8)
_SOURCES = (("IMM", "imm", 0x00), ("REG", "reg", 0x08))
_WIDTHS = ((64, _ALU64, Group.BASE64), (32, _ALU32, Group.BASE32))
_MODES = {"imm": 0x00, "abs": 0x20, "ind": 0x40, "mem": 0x60, "memsx": 0x80, "atomic": 0xC0}
_SIZES = ((4, "W", 0x00), (2, "H", 0x08), (1, "B", 0x10), (8, "DW", 0x18))

_ALU_CODES = (
    ("add", 0x00),
    ("sub", 0x10),
    ("or", 0x40),
    ("and", 0x50),
    ("lsh", 0x60),
    ("rsh", 0x70),
    ("xor", 0xA0),
    ("arsh", 0xC0),
)
_DIVMUL_CODES = (("mul", 0x20, 0), ("div", 0x30, 0), ("mod", 0x90, 0), ("sdiv", 0x30, 1), ("smod", 0x90, 1))
_JUMP_CODES = (
    ("jeq", 0x10), ("jgt", 0x20), ("jge", 0x30), ("jset", 0x40), ("jne", 0x50), ("jsgt", 0x60), ("jsge", 0x70),
    ("jlt", 0xA0), ("jle", 0xB0), ("jslt", 0xC0), ("jsle", 0xD0),
)  # fmt: skip
_CPU_V2_JUMPS = {"jlt", "jle", "jslt", "jsle"}
_ATOMIC_CODES = (("add", 0x00), ("or", 0x40), ("and", 0x50), ("xor", 0xA0))
_WIDE_SOURCES = (
    ("LDDW", "imm", ""), ("LDDW_MAP_FD", "map_fd", ""), ("LDDW_MAP_VALUE", "map_value", "5.2"), ("LDDW_VAR", "var", "5.10"),
    ("LDDW_FUNC", "func", "5.13"), ("LDDW_MAP_IDX", "map_idx", "5.14"), ("LDDW_MAP_IDX_VALUE", "map_idx_value", "5.14"),
)  # fmt: skip
_CALL_SOURCES = (
    ("CALL", "helper", Group.BASE32, ""), ("CALL_LOCAL", "local", Group.BASE32, "4.16"), ("CALL_KFUNC", "kfunc", Group.BASE32, "5.13"),
)  # fmt: skip


def _alu_rows() -> Iterator[Opcode]:
    for width, klass, base in _WIDTHS:
        divmul = Group.DIVMUL64 if width == 64 else Group.DIVMUL32
        for suffix, source, bit in _SOURCES:
            for name, code in _ALU_CODES:
                yield Opcode(
                    f"{name.upper()}{width}_{suffix}", code | bit | klass, Kind.ALU, name, width, source, group=base
                )
            for name, code, off in _DIVMUL_CODES:
                cpu, since = (4, "6.6") if off else (1, "")
                yield Opcode(
                    f"{name.upper()}{width}_{suffix}", code | bit | klass, Kind.ALU, name, width, source,
                    off_code=off, group=divmul, cpu=cpu, since=since,
                )  # fmt: skip
            yield Opcode(
                f"MOV{width}_{suffix}", 0xB0 | bit | klass, Kind.MOV, "mov", width, source, off_code=0, group=base
            )
        yield Opcode(f"NEG{width}", 0x80 | klass, Kind.ALU, "neg", width, group=base)
        for bits in (8, 16, 32) if width == 64 else (8, 16):
            yield Opcode(
                f"MOVSX{width}_{bits}", 0xB8 | klass, Kind.MOVSX, "movsx", width, "reg", size=bits // 8,
                off_code=bits, group=base, cpu=4, since="6.6",
            )  # fmt: skip
    for bits in (16, 32, 64):
        group = Group.BASE64 if bits == 64 else Group.BASE32
        yield Opcode(
            f"TO_LE{bits}", 0xD0 | _ALU32, Kind.SWAP, "to_le", bits, size=bits // 8, imm_code=bits, group=group
        )
        yield Opcode(
            f"TO_BE{bits}", 0xD8 | _ALU32, Kind.SWAP, "to_be", bits, size=bits // 8, imm_code=bits, group=group
        )
        yield Opcode(
            f"BSWAP{bits}",
            0xD0 | _ALU64,
            Kind.SWAP,
            "bswap",
            bits,
            size=bits // 8,
            imm_code=bits,
            group=group,
            cpu=4,
            since="6.6",
        )
    yield Opcode(
        "ADDR_SPACE_CAST",
        0xBF,
        Kind.ADDR_SPACE,
        "addr_space_cast",
        64,
        "reg",
        off_code=1,
        group=Group.LINUX,
        since="6.9",
    )


def _memory_rows() -> Iterator[Opcode]:
    for size, letter, bits in _SIZES:
        group = Group.BASE64 if size == 8 else Group.BASE32
        yield Opcode(f"LDX{letter}", _MODES["mem"] | bits | _LDX, Kind.LOAD, "load", 64, size=size, group=group)
        yield Opcode(f"ST{letter}", _MODES["mem"] | bits | _ST, Kind.STORE, "store", 64, "imm", size=size, group=group)
        yield Opcode(
            f"STX{letter}", _MODES["mem"] | bits | _STX, Kind.STORE, "store", 64, "reg", size=size, group=group
        )
        if size < 8:
            sx_group = Group.BASE64 if size == 4 else Group.BASE32
            yield Opcode(
                f"LDXS{letter}",
                _MODES["memsx"] | bits | _LDX,
                Kind.LOADSX,
                "loadsx",
                64,
                size=size,
                group=sx_group,
                cpu=4,
                since="6.6",
            )
            yield Opcode(
                f"LD_ABS_{letter}", _MODES["abs"] | bits | _LD, Kind.PACKET, "abs", 64, size=size, group=Group.PACKET
            )
            yield Opcode(
                f"LD_IND_{letter}", _MODES["ind"] | bits | _LD, Kind.PACKET, "ind", 64, size=size, group=Group.PACKET
            )
        code = _MODES["atomic"] | bits | _STX
        yield Opcode(
            f"LOAD_ACQ_{letter}",
            code,
            Kind.LOAD_ACQUIRE,
            "load_acquire",
            64,
            size=size,
            imm_code=0x100,
            group=Group.LINUX,
            cpu=4,
            since="6.15",
        )
        yield Opcode(
            f"STORE_REL_{letter}", code, Kind.STORE_RELEASE, "store_release", 64, "reg", size=size, imm_code=0x110,
            group=Group.LINUX, cpu=4, since="6.15",
        )  # fmt: skip
        if size >= 4:
            yield from _atomic_rows(code, size)


def _atomic_rows(code: int, size: int) -> Iterator[Opcode]:
    width = size * 8
    group = Group.ATOMIC64 if size == 8 else Group.ATOMIC32
    for name, imm in _ATOMIC_CODES:
        first_cpu, first = (1, "") if name == "add" else (3, "5.12")
        yield Opcode(
            f"ATOMIC{width}_{name.upper()}", code, Kind.ATOMIC, name, width, "reg", size=size, imm_code=imm,
            group=group, cpu=first_cpu, since=first,
        )  # fmt: skip
        yield Opcode(
            f"ATOMIC{width}_FETCH_{name.upper()}", code, Kind.ATOMIC, f"fetch_{name}", width, "reg", size=size,
            imm_code=imm | 1, group=group, cpu=3, since="5.12",
        )  # fmt: skip
    yield Opcode(
        f"ATOMIC{width}_XCHG",
        code,
        Kind.ATOMIC,
        "xchg",
        width,
        "reg",
        size=size,
        imm_code=0xE1,
        group=group,
        cpu=3,
        since="5.12",
    )
    yield Opcode(
        f"ATOMIC{width}_CMPXCHG",
        code,
        Kind.ATOMIC,
        "cmpxchg",
        width,
        "reg",
        size=size,
        imm_code=0xF1,
        group=group,
        cpu=3,
        since="5.12",
    )


def _jump_rows() -> Iterator[Opcode]:
    for width, klass, group, cpu, since in ((64, _JMP64, Group.BASE64, 1, ""), (32, _JMP32, Group.BASE32, 3, "5.1")):
        for suffix, source, bit in _SOURCES:
            for name, code in _JUMP_CODES:
                level, first = (2, "4.14") if width == 64 and name in _CPU_V2_JUMPS else (cpu, since)
                yield Opcode(
                    f"{name.upper()}{width}_{suffix}",
                    code | bit | klass,
                    Kind.JUMP,
                    name,
                    width,
                    source,
                    group=group,
                    cpu=level,
                    since=first,
                )
    yield Opcode("JA", 0x00 | _JMP64, Kind.GOTO, "ja", 64, group=Group.BASE32)
    yield Opcode("JA32", 0x00 | _JMP32, Kind.GOTO, "gotol", 32, group=Group.BASE32, cpu=4, since="6.6")
    yield Opcode(
        "JA_INDIRECT", 0x08 | _JMP64, Kind.GOTO_INDIRECT, "gotox", 64, "reg", group=Group.LINUX, cpu=4, since="6.19"
    )
    yield Opcode(
        "MAY_GOTO", 0xE0 | _JMP64, Kind.MAY_GOTO, "may_goto", 64, src_code=0, group=Group.LINUX, cpu=4, since="6.9"
    )
    for src, (name, operation, group, since) in enumerate(_CALL_SOURCES):
        yield Opcode(name, 0x80 | _JMP64, Kind.CALL, operation, 64, src_code=src, group=group, since=since)
    yield Opcode("CALLX", 0x88 | _JMP64, Kind.CALL_INDIRECT, "callx", 64, "reg", group=Group.CALLX, in_linux=False)
    yield Opcode("EXIT", 0x90 | _JMP64, Kind.EXIT, "exit", 64, group=Group.BASE32)
    for src, (name, operation, since) in enumerate(_WIDE_SOURCES):
        yield Opcode(name, 0x18, Kind.WIDE, operation, 64, src_code=src, since=since)


def _rows() -> Iterator[Opcode]:
    yield Opcode("INVALID", 0x00, Kind.INVALID, "invalid", 64)
    yield from _alu_rows()
    yield from _memory_rows()
    yield from _jump_rows()


OPCODES: MappingProxyType[str, Opcode] = MappingProxyType({row.name: row for row in _rows()})
"""Every opcode by name; the names are also attributes of this module: `isa.ADD64_IMM`."""

globals().update(OPCODES)

if TYPE_CHECKING:

    def __getattr__(name: str) -> Opcode: ...
