"""What each computing instruction means: one Python expression a row, over unsigned numbers.

`a` is the destination's value and `b` the operand (a register, or the sign-extended immediate); both are at most `BITS`
wide, and the result is cut to `BITS`. In a comparison the expression is the condition. `SIGN` is the sign bit, and
`(x ^ SIGN) - SIGN` reads x as two's complement. RFC 9669 sections 4.1 to 4.3. Control flow and memory are in
`interpreter`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from ebpfkit._bits import U32_MAX, U64_MAX, swap_bytes
from ebpfkit.asm.isa import Kind, Opcode
from ebpfkit.maps.base import ORDER, ByteOrder

__all__ = ["COMPUTE", "CONDITIONS", "condition_maker", "step_maker"]

Step = Callable[[list[int]], int]

COMPUTE: Final = MappingProxyType(
    {
        "add": "a + b",
        "sub": "a - b",
        "mul": "a * b",
        "or": "a | b",
        "and": "a & b",
        "xor": "a ^ b",
        "lsh": "a << (b & (BITS - 1))",
        "rsh": "a >> (b & (BITS - 1))",
        "arsh": "((a ^ SIGN) - SIGN) >> (b & (BITS - 1))",
        "neg": "-a",
        "div": "a // b if b else 0",
        "mod": "a % b if b else a",
        "sdiv": "divide((a ^ SIGN) - SIGN, (b ^ SIGN) - SIGN) if b else 0",
        "smod": "remainder((a ^ SIGN) - SIGN, (b ^ SIGN) - SIGN) if b else a",
        "mov": "b",
        "movsx": "((b & PART) ^ PART_SIGN) - PART_SIGN",
        "to_le": "keep_or_swap_le(a, SIZE)",
        "to_be": "keep_or_swap_be(a, SIZE)",
        "bswap": "swap(a, SIZE)",
    }
)
"""The new value of the destination, by operation."""

CONDITIONS: Final = MappingProxyType(
    {
        "jeq": "a == b",
        "jne": "a != b",
        "jgt": "a > b",
        "jge": "a >= b",
        "jlt": "a < b",
        "jle": "a <= b",
        "jset": "a & b",
        "jsgt": "(a ^ SIGN) > (b ^ SIGN)",
        "jsge": "(a ^ SIGN) >= (b ^ SIGN)",
        "jslt": "(a ^ SIGN) < (b ^ SIGN)",
        "jsle": "(a ^ SIGN) <= (b ^ SIGN)",
    }
)
"""When a jump is taken, by operation (flipping the sign bit turns the signed order into the unsigned one)."""

# Where the low bits of the result depend on the low bits of the operands alone, the operands need not be cut first.
_CUT_AFTERWARDS = frozenset({"add", "sub", "mul", "or", "and", "xor", "lsh", "neg", "mov", "movsx"})

_NEVER_WIDER = frozenset({"or", "and", "xor", "rsh", "div", "mod", "mov"})


def _divide(a: int, b: int) -> int:
    """Signed division that rounds towards zero. The most negative number by -1 wraps to itself when it is cut."""
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _remainder(a: int, b: int) -> int:
    """The remainder of `_divide`: it has the sign of the dividend."""
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


def _keep(value: int, size: int) -> int:
    return value & ((1 << size * 8) - 1)


def _constants(order: ByteOrder) -> dict[str, Any]:
    little = order == "little"
    return {
        "divide": _divide,
        "remainder": _remainder,
        "swap": swap_bytes,
        "keep_or_swap_le": _keep if little else swap_bytes,
        "keep_or_swap_be": swap_bytes if little else _keep,
    }


def _expression(op: Opcode, text: str) -> str:
    """`text` over the register list `r`, with the numbers of this opcode's width written in."""
    bits = 64 if op.kind is Kind.SWAP else op.width
    cut = bits == 32 and op.operation not in _CUT_AFTERWARDS
    mask = hex(U64_MAX if bits == 64 else U32_MAX)
    words = {
        "a": f"(r[d] & {mask})" if cut else "r[d]",
        "b": f"(r[s] & {mask})" if cut else "r[s]",
        "BITS": str(bits),
        "MASK": mask,
        "SIGN": hex(1 << (bits - 1)),
        "PART": hex((1 << op.size * 8) - 1),
        "PART_SIGN": hex(1 << max(op.size * 8 - 1, 0)),
        "SIZE": str(op.size),
    }
    return _replace_words(text, words).replace(f"({bits} - 1)", str(bits - 1))


def _replace_words(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\w+", lambda match: words.get(match[0], match[0]), text)


@cache
def step_maker(op: Opcode, order: ByteOrder = ORDER) -> Callable[[int, int, int], Step]:
    """A function of (dst, operand, next slot) that makes the step of this instruction; both index the register list.

    `order` is the program's byte order, which only byte swaps ask for.
    """
    text = COMPUTE[op.operation]
    if op.kind is not Kind.SWAP and not (op.width == 64 and op.operation in _NEVER_WIDER):
        text = f"({text}) & MASK"
    value = _expression(op, text)
    maker: Callable[[int, int, int], Step] = _build(f"r[d] = {value}\n        return following", "following", op, order)
    return maker


@cache
def condition_maker(op: Opcode) -> Callable[[int, int, int, int], Step]:
    """A function of (dst, operand, target, next slot) that makes the step of this conditional jump."""
    maker: Callable[[int, int, int, int], Step] = _build(
        f"return target if {_expression(op, CONDITIONS[op.operation])} else following", "target, following", op
    )
    return maker


def _build(body: str, parameters: str, op: Opcode, order: ByteOrder = ORDER) -> Any:
    """Compile one step. The text comes from this module alone; nothing of a program gets into it."""
    source = f"def make(d, s, {parameters}):\n    def step(r):\n        {body}\n    return step\n"
    namespace = _constants(order)
    exec(compile(source, f"<{op.name}>", "exec"), namespace)
    return namespace["make"]
