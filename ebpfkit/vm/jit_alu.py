"""Computing instructions and conditions as LLVM IR: the same meaning as the rows of `semantics`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from ebpfkit._bits import U32_MAX, U64_MAX
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.maps.base import ORDER, ByteOrder
from ebpfkit.vm.jit_text import Text

__all__ = ["compute", "condition"]

_PLAIN: Final = MappingProxyType({"add": "add", "sub": "sub", "mul": "mul", "or": "or", "and": "and", "xor": "xor"})
_SHIFTS: Final = MappingProxyType({"lsh": "shl", "rsh": "lshr", "arsh": "ashr"})
_DIVISIONS: Final = MappingProxyType({"div": "udiv", "mod": "urem", "sdiv": "sdiv", "smod": "srem"})
_COMPARISONS: Final = MappingProxyType(
    {
        "jeq": "eq", "jne": "ne", "jgt": "ugt", "jge": "uge", "jlt": "ult", "jle": "ule",
        "jsgt": "sgt", "jsge": "sge", "jslt": "slt", "jsle": "sle",
    }
)  # fmt: skip


def _operand(text: Text, insn: Instruction, width: int) -> str:
    if insn.op.source == "reg":
        return _narrow(text, text.get(insn.src), width)
    return str(insn.imm & (U64_MAX if width == 64 else U32_MAX))


def _narrow(text: Text, value: str, width: int) -> str:
    return value if width == 64 else text.op(f"trunc i64 {value} to i32")


def compute(text: Text, insn: Instruction, order: ByteOrder = ORDER) -> None:
    """dst = dst OP operand; `order` is the program's byte order."""
    op, width = insn.op, insn.op.width
    if op.kind is Kind.SWAP:
        text.set(insn.dst, _swap(text, text.get(insn.dst), op.operation, op.size, order))
        return
    if op.kind is Kind.MOVSX:
        part = text.op(f"trunc i64 {text.get(insn.src)} to i{op.size * 8}")
        value = text.op(f"sext i{op.size * 8} {part} to i{width}")
    elif op.kind is Kind.MOV:
        value = _operand(text, insn, width)
    else:
        value = _arithmetic(text, insn, width)
    text.set(insn.dst, value if width == 64 else text.op(f"zext i32 {value} to i64"))


def _arithmetic(text: Text, insn: Instruction, width: int) -> str:
    operation, kind = insn.op.operation, f"i{width}"
    a = _narrow(text, text.get(insn.dst), width)
    if operation == "neg":
        return text.op(f"sub {kind} 0, {a}")
    b = _operand(text, insn, width)
    if operation in _PLAIN:
        return text.op(f"{_PLAIN[operation]} {kind} {a}, {b}")
    if operation in _SHIFTS:
        places = text.op(f"and {kind} {b}, {width - 1}")
        return text.op(f"{_SHIFTS[operation]} {kind} {a}, {places}")
    return _divide(text, operation, kind, a, b, width)


def _divide(text: Text, operation: str, kind: str, a: str, b: str, width: int) -> str:
    """Division by zero gives 0, its remainder the dividend; the most negative number by -1 wraps."""
    by_zero = text.op(f"icmp eq {kind} {b}, 0")
    trap, instead = by_zero, "0" if operation in ("div", "sdiv") else a
    if operation in ("sdiv", "smod"):
        by_minus_one = text.op(f"icmp eq {kind} {b}, {(1 << width) - 1}")
        trap = text.op(f"or i1 {by_zero}, {by_minus_one}")
    divisor = text.op(f"select i1 {trap}, {kind} 1, {kind} {b}")
    result = text.op(f"{_DIVISIONS[operation]} {kind} {a}, {divisor}")
    if operation == "sdiv":
        negative = text.op(f"sub {kind} 0, {a}")
        result = text.op(f"select i1 {by_minus_one}, {kind} {negative}, {kind} {result}")
    return text.op(f"select i1 {by_zero}, {kind} {instead}, {kind} {result}")


def _swap(text: Text, value: str, operation: str, size: int, order: ByteOrder) -> str:
    bits = size * 8
    part = text.cut(value, size)
    keeps = operation == ("to_le" if order == "little" else "to_be")
    if not keeps:
        part = text.op(f"call i{bits} @llvm.bswap.i{bits}(i{bits} {part})")
    return text.widen(part, size)


def condition(text: Text, insn: Instruction) -> str:
    """Whether a conditional jump is taken, as an i1."""
    width = insn.op.width
    a = _narrow(text, text.get(insn.dst), width)
    b = _operand(text, insn, width)
    if insn.op.operation == "jset":
        return text.op(f"icmp ne i{width} {text.op(f'and i{width} {a}, {b}')}, 0")
    return text.op(f"icmp {_COMPARISONS[insn.op.operation]} i{width} {a}, {b}")
