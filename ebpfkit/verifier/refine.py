"""What a comparison teaches: which side is taken, and what each side may assume of both operands.

Works on scalars only; pointers against null and packet pointers against the packet's end are `transfer/jumps.py`'s.
"""

from __future__ import annotations

from ebpfkit._bits import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32_MAX, U64_MAX
from ebpfkit.verifier.domain import tnum
from ebpfkit.verifier.domain.older import ScalarBefore6_8, decide_older, refine_older
from ebpfkit.verifier.domain.scalar import Bounds, Scalar, sign32, sign64

__all__ = ["FLIPPED", "NEGATED", "decide", "refine"]

FLIPPED = {
    "jeq": "jeq", "jne": "jne", "jset": "jset", "jgt": "jlt", "jge": "jle", "jlt": "jgt", "jle": "jge",
    "jsgt": "jslt", "jsge": "jsle", "jslt": "jsgt", "jsle": "jsge",
}  # fmt: skip
NEGATED = {
    "jeq": "jne", "jne": "jeq", "jset": "jnset", "jgt": "jle", "jge": "jlt", "jlt": "jge", "jle": "jgt",
    "jsgt": "jsle", "jsge": "jslt", "jslt": "jsge", "jsle": "jsgt",
}  # fmt: skip


def _disjoint(a: Scalar, b: Scalar, width: int) -> bool:
    """Whether no number can be both."""
    half = a.u32_min > b.u32_max or a.u32_max < b.u32_min or a.s32_min > b.s32_max or a.s32_max < b.s32_min
    if width == 32:
        return half or (a.bits_decide and not tnum.overlap(tnum.low32(a.tnum), tnum.low32(b.tnum)))
    return (
        half
        or (a.bits_decide and not tnum.overlap(a.tnum, b.tnum))
        or a.umin > b.umax
        or a.umax < b.umin
        or a.smin > b.smax
        or a.smax < b.smin
    )


def _decide_set(a: Scalar, b: Scalar, width: int) -> bool | None:
    limit = U64_MAX if width == 64 else U32_MAX
    if b.mask & limit:
        a, b = b, a
    if b.mask & limit:
        return None
    bits = b.value & limit
    if a.value & bits:
        return True
    return None if (a.value | a.mask) & bits else False


def decide(operation: str, width: int, a: Scalar, b: Scalar) -> bool | None:
    """Whether the jump `if a operation b` is always or never taken; None when both may happen."""
    if isinstance(a, ScalarBefore6_8):
        return decide_older(operation, width, a, b)
    if operation in ("jeq", "jne"):
        limit = U64_MAX if width == 64 else U32_MAX
        if not (a.mask | b.mask) & limit:
            equal = a.value & limit == b.value & limit
            return equal == (operation == "jeq")
        return operation == "jne" if _disjoint(a, b, width) else None
    if operation == "jset":
        return _decide_set(a, b, width)
    if operation in ("jge", "jgt", "jsge", "jsgt"):
        return decide(FLIPPED[operation], width, b, a)
    if operation in ("jlt", "jle"):
        low_a, high_a, low_b, high_b = (
            (a.umin, a.umax, b.umin, b.umax) if width == 64 else (a.u32_min, a.u32_max, b.u32_min, b.u32_max)
        )
    else:
        low_a, high_a, low_b, high_b = (
            (a.smin, a.smax, b.smin, b.smax) if width == 64 else (a.s32_min, a.s32_max, b.s32_min, b.s32_max)
        )
    if operation in ("jlt", "jslt"):
        return True if high_a < low_b else False if low_a >= high_b else None
    return True if high_a <= low_b else False if low_a > high_b else None


def _equal(a: Bounds, b: Bounds, width: int) -> None:
    a.u32_min = b.u32_min = max(a.u32_min, b.u32_min)
    a.u32_max = b.u32_max = min(a.u32_max, b.u32_max)
    a.s32_min = b.s32_min = max(a.s32_min, b.s32_min)
    a.s32_max = b.s32_max = min(a.s32_max, b.s32_max)
    if width == 32:
        low = tnum.intersect(tnum.low32((a.value, a.mask)), tnum.low32((b.value, b.mask)))
        a.set_tnum(tnum.with_low32((a.value, a.mask), low))
        b.set_tnum(tnum.with_low32((b.value, b.mask), low))
        return
    a.umin = b.umin = max(a.umin, b.umin)
    a.umax = b.umax = min(a.umax, b.umax)
    a.smin = b.smin = max(a.smin, b.smin)
    a.smax = b.smax = min(a.smax, b.smax)
    bits = tnum.intersect((a.value, a.mask), (b.value, b.mask))
    a.set_tnum(bits)
    b.set_tnum(bits)


def _not_equal(a: Bounds, value: int, width: int) -> None:
    if width == 32:
        low = value & U32_MAX
        a.u32_min += a.u32_min == low
        a.u32_max -= a.u32_max == low
        a.s32_min += a.s32_min == sign32(low)
        a.s32_max -= a.s32_max == sign32(low)
        return
    a.umin += a.umin == value
    a.umax -= a.umax == value
    a.smin += a.smin == sign64(value)
    a.smax -= a.smax == sign64(value)


def _bits_set(a: Bounds, bits: int, width: int) -> None:
    if bits & (bits - 1):
        return  # some bit of several: nothing to learn
    known = tnum.or_((a.value, a.mask), (bits, 0))
    a.set_tnum(tnum.with_low32((a.value, a.mask), tnum.low32(known)) if width == 32 else known)


def _bits_clear(a: Bounds, bits: int, width: int) -> None:
    # The ranges are forgotten first, so that a side that cannot happen does not contradict itself.
    a.forget_ranges()
    limit = U64_MAX if width == 64 else U64_MAX ^ U32_MAX | U32_MAX
    keep = (limit ^ bits) & U64_MAX
    a.set_tnum(tnum.and_((a.value, a.mask), (keep, 0)))


def _less(a: Bounds, b: Bounds, width: int, signed: bool, strict: int) -> None:
    """a <= b - strict, in the ranges of one width and sign."""
    if width == 64 and not signed:
        a.umax = min(a.umax, b.umax - strict)
        b.umin = max(a.umin + strict, b.umin)
    elif width == 64:
        a.smax = min(a.smax, b.smax - strict)
        b.smin = max(a.smin + strict, b.smin)
    elif not signed:
        a.u32_max = min(a.u32_max, b.u32_max - strict)
        b.u32_min = max(a.u32_min + strict, b.u32_min)
    else:
        a.s32_max = min(a.s32_max, b.s32_max - strict)
        b.s32_min = max(a.s32_min + strict, b.s32_min)


def _known(b: Bounds, width: int) -> bool:
    return not b.mask & (U64_MAX if width == 64 else U32_MAX)


def _assume(operation: str, width: int, a: Bounds, b: Bounds) -> None:
    limit = U64_MAX if width == 64 else U32_MAX
    if operation == "jeq":
        _equal(a, b, width)
    elif operation in ("jne", "jset", "jnset"):
        if not _known(b, width):
            a, b = b, a
        if not _known(b, width):
            return
        rule = {"jne": _not_equal, "jset": _bits_set, "jnset": _bits_clear}[operation]
        rule(a, b.value & limit, width)
    else:
        if operation in ("jge", "jgt", "jsge", "jsgt"):
            operation = FLIPPED[operation]
            a, b = b, a
        _less(a, b, width, operation.startswith("js"), 1 if operation.endswith("lt") else 0)


def _settle(d: Bounds) -> Bounds:
    d.umin, d.umax = d.umin & U64_MAX, d.umax & U64_MAX
    d.u32_min, d.u32_max = d.u32_min & U32_MAX, d.u32_max & U32_MAX
    d.smin, d.smax = _clip(d.smin, S64_MIN, S64_MAX, sign64), _clip(d.smax, S64_MIN, S64_MAX, sign64)
    d.s32_min, d.s32_max = _clip(d.s32_min, S32_MIN, S32_MAX, sign32), _clip(d.s32_max, S32_MIN, S32_MAX, sign32)
    d.sync()
    if not d.is_consistent():
        d.forget_ranges()  # a side that cannot happen: the kernel walks it with open ranges
    return d


def _clip(value: int, low: int, high: int, wrap: object) -> int:
    if low <= value <= high:
        return value
    assert callable(wrap)
    result = wrap(value)
    assert isinstance(result, int)
    return result


def refine(operation: str, width: int, a: Scalar, b: Scalar, same: bool = False) -> tuple[Bounds, Bounds]:
    """What holds of both operands where `a operation b` is true. `same`: both are one register."""
    if isinstance(a, ScalarBefore6_8):
        return refine_older(operation, width, a, b)
    left = a.bounds()
    right = left if same else b.bounds()
    _assume(operation, width, left, right)
    _settle(left)
    if right is not left:
        _settle(right)
    return left, right
