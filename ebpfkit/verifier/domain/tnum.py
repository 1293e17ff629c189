"""Tristate numbers: a 64-bit number of which some bits are known.

A tnum is a pair `(value, mask)`: a bit set in `mask` is unknown (and 0 in `value`), every other bit is that of `value`.
It stands for all x with `x & ~mask == value`. Only operations on pairs live here; ranges are in `scalar`. The algebra
is that of Vishwanathan et al., "Sound, Precise, and Fast Abstract Interpretation with Tristate Numbers" (CGO 2022).
Every operation takes the width in bits where it matters, so that the laws can be tested exhaustively at small widths.
"""

from __future__ import annotations

from ebpfkit._bits import U32_MAX, U64_MAX, swap_bytes

__all__ = [
    "Tnum",
    "UNKNOWN",
    "add",
    "and_",
    "arshift",
    "byte_swap",
    "cast",
    "const",
    "contains",
    "first_from",
    "from_range",
    "intersect",
    "is_subset",
    "low32",
    "lshift",
    "mul",
    "neg",
    "or_",
    "overlap",
    "rshift",
    "sub",
    "union",
    "with_low32",
    "xor",
]

Tnum = tuple[int, int]

UNKNOWN: Tnum = (0, U64_MAX)


def const(value: int, bits: int = 64) -> Tnum:
    """The tnum that is exactly `value`."""
    return value & ((1 << bits) - 1), 0


def from_range(low: int, high: int, bits: int = 64) -> Tnum:
    """The smallest tnum that contains every unsigned number of [low, high].

    >>> from_range(4, 7)
    (4, 3)
    """
    low &= (1 << bits) - 1
    high &= (1 << bits) - 1
    unknown = (1 << (low ^ high).bit_length()) - 1
    return low & ~unknown, unknown


def contains(a: Tnum, number: int) -> bool:
    """Whether the unsigned `number` is one of those that `a` stands for."""
    return number & ~a[1] == a[0]


def is_subset(outer: Tnum, inner: Tnum) -> bool:
    """Whether every number of `inner` is in `outer`."""
    return not inner[1] & ~outer[1] and inner[0] & ~outer[1] == outer[0]


def overlap(a: Tnum, b: Tnum) -> bool:
    """Whether the bits known in both agree, so that some number may be in both."""
    return not (a[0] ^ b[0]) & ~(a[1] | b[1])


def intersect(a: Tnum, b: Tnum) -> Tnum:
    """What is known when a number is in both (of two tnums that contradict each other: some tnum)."""
    unknown = a[1] & b[1]
    return (a[0] | b[0]) & ~unknown, unknown


def union(a: Tnum, b: Tnum) -> Tnum:
    """The smallest tnum that contains both."""
    unknown = a[1] | b[1] | (a[0] ^ b[0])
    return a[0] & b[0] & ~unknown, unknown


def add(a: Tnum, b: Tnum, bits: int = 64) -> Tnum:
    """All sums."""
    limit = (1 << bits) - 1
    base = a[0] + b[0]
    # Bits that differ between the smallest and the largest sum have an uncertain carry into them.
    unknown = ((base + a[1] + b[1]) ^ base) | a[1] | b[1]
    return base & ~unknown & limit, unknown & limit


def sub(a: Tnum, b: Tnum, bits: int = 64) -> Tnum:
    """All differences."""
    limit = (1 << bits) - 1
    base = a[0] - b[0]
    unknown = ((base + a[1]) ^ (base - b[1])) | a[1] | b[1]
    return base & ~unknown & limit, unknown & limit


def neg(a: Tnum, bits: int = 64) -> Tnum:
    """All negations."""
    return sub((0, 0), a, bits)


def and_(a: Tnum, b: Tnum) -> Tnum:
    """All bitwise conjunctions."""
    possible = (a[0] | a[1]) & (b[0] | b[1])
    certain = a[0] & b[0]
    return certain, possible & ~certain


def or_(a: Tnum, b: Tnum) -> Tnum:
    """All bitwise disjunctions."""
    certain = a[0] | b[0]
    return certain, (a[1] | b[1]) & ~certain


def xor(a: Tnum, b: Tnum) -> Tnum:
    """All exclusive disjunctions."""
    unknown = a[1] | b[1]
    return (a[0] ^ b[0]) & ~unknown, unknown


def lshift(a: Tnum, shift: int, bits: int = 64) -> Tnum:
    """All numbers shifted left by a known distance."""
    limit = (1 << bits) - 1
    return a[0] << shift & limit, a[1] << shift & limit


def rshift(a: Tnum, shift: int) -> Tnum:
    """All numbers shifted right by a known distance, zeros coming in."""
    return a[0] >> shift, a[1] >> shift


def arshift(a: Tnum, shift: int, bits: int = 64) -> Tnum:
    """All numbers of `bits` bits shifted right by a known distance, the sign coming in."""
    limit = (1 << bits) - 1
    sign = 1 << (bits - 1)
    value = ((a[0] & limit ^ sign) - sign >> shift) & limit
    unknown = ((a[1] & limit ^ sign) - sign >> shift) & limit
    return value & ~unknown, unknown


def mul(a: Tnum, b: Tnum, bits: int = 64) -> Tnum:
    """All products: long multiplication, joining both outcomes where a bit of `a` is unknown."""
    total: Tnum = (0, 0)
    while a[0] or a[1]:
        if a[0] & 1:
            total = add(total, b, bits)
        elif a[1] & 1:
            total = union(total, add(total, b, bits))
        a = rshift(a, 1)
        b = lshift(b, 1, bits)
    return total


def cast(a: Tnum, size: int) -> Tnum:
    """The low `size` bytes, zero-extended."""
    limit = (1 << 8 * size) - 1
    return a[0] & limit, a[1] & limit


def first_from(a: Tnum, low: int) -> int | None:
    """The smallest number of `a` that is not below `low`, None if there is none.

    >>> first_from((2, 4), 3)
    6
    """
    conflict = (low ^ a[0]) & ~a[1]
    if not conflict:
        return low
    place = conflict.bit_length() - 1
    if a[0] >> place & 1:
        below = (2 << place) - 1
        return low & ~below | a[0] & below
    # A known 0 where `low` has a 1: the next number has a 1 in an unknown bit further up.
    free = a[1] & ~low & ~((2 << place) - 1)
    if not free:
        return None
    bit = free & -free
    return low & ~(2 * bit - 1) | bit | a[0] & (bit - 1)


def byte_swap(a: Tnum, size: int) -> Tnum:
    """The low `size` bytes in the opposite order, zero-extended."""
    return swap_bytes(a[0], size), swap_bytes(a[1], size)


def low32(a: Tnum) -> Tnum:
    """The low half, zero-extended."""
    return a[0] & U32_MAX, a[1] & U32_MAX


def with_low32(a: Tnum, low: Tnum) -> Tnum:
    """`a` with its low half replaced."""
    return a[0] & ~U32_MAX | low[0] & U32_MAX, a[1] & ~U32_MAX | low[1] & U32_MAX
