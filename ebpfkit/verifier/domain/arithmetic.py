"""Arithmetic on scalars: from two operands to the bounds of the result, with the kernel's precision.

`compute(operation, width, a, b)` is the one entry; the table `OPERATIONS` names what is modelled. Moves, sign extension
and byte swaps have their own entries. Pointers never get here.
"""

from __future__ import annotations

from collections.abc import Callable

from ebpfkit._bits import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32_MAX, U64_MAX
from ebpfkit.verifier.domain import tnum
from ebpfkit.verifier.domain.scalar import Bounds, Scalar, sign32, sign64

__all__ = ["OPERATIONS", "add_loosely", "byte_swap", "compute", "compute_exactly", "move32", "move_sign_extended"]

Range = tuple[int, int]


def _add_unsigned(a: Range, b: Range, top: int) -> Range:
    low, high = a[0] + b[0], a[1] + b[1]
    # Both ends wrap, or neither: the range stays in one piece.
    if low > top and high > top:
        return low - top - 1, high - top - 1
    return (low, high) if high <= top else (0, top)


def _sub_unsigned(a: Range, b: Range, top: int) -> Range:
    low, high = a[0] - b[1], a[1] - b[0]
    if low < 0 and high < 0:
        return low + top + 1, high + top + 1
    return (low, high) if low >= 0 else (0, top)


def _within_signed(low: int, high: int, bottom: int, top: int) -> Range:
    return (low, high) if bottom <= low and high <= top else (bottom, top)


def _add(d: Bounds, s: Scalar) -> None:
    d.u32_min, d.u32_max = _add_unsigned((d.u32_min, d.u32_max), (s.u32_min, s.u32_max), U32_MAX)
    d.s32_min, d.s32_max = _within_signed(d.s32_min + s.s32_min, d.s32_max + s.s32_max, S32_MIN, S32_MAX)
    d.umin, d.umax = _add_unsigned((d.umin, d.umax), (s.umin, s.umax), U64_MAX)
    d.smin, d.smax = _within_signed(d.smin + s.smin, d.smax + s.smax, S64_MIN, S64_MAX)
    d.set_tnum(tnum.add((d.value, d.mask), (s.value, s.mask)))


def _sub(d: Bounds, s: Scalar) -> None:
    d.u32_min, d.u32_max = _sub_unsigned((d.u32_min, d.u32_max), (s.u32_min, s.u32_max), U32_MAX)
    d.s32_min, d.s32_max = _within_signed(d.s32_min - s.s32_max, d.s32_max - s.s32_min, S32_MIN, S32_MAX)
    d.umin, d.umax = _sub_unsigned((d.umin, d.umax), (s.umin, s.umax), U64_MAX)
    d.smin, d.smax = _within_signed(d.smin - s.smax, d.smax - s.smin, S64_MIN, S64_MAX)
    d.set_tnum(tnum.sub((d.value, d.mask), (s.value, s.mask)))


def _mul_unsigned(a: Range, b: Range, top: int) -> Range:
    return (a[0] * b[0], a[1] * b[1]) if a[1] * b[1] <= top else (0, top)


def _mul_signed(a: Range, b: Range, bottom: int, top: int) -> Range:
    products = [x * y for x in a for y in b]
    low, high = min(products), max(products)
    return (low, high) if bottom <= low and high <= top else (bottom, top)


def _mul(d: Bounds, s: Scalar) -> None:
    d.set_tnum(tnum.mul((d.value, d.mask), (s.value, s.mask)))
    d.u32_min, d.u32_max = _mul_unsigned((d.u32_min, d.u32_max), (s.u32_min, s.u32_max), U32_MAX)
    d.s32_min, d.s32_max = _mul_signed((d.s32_min, d.s32_max), (s.s32_min, s.s32_max), S32_MIN, S32_MAX)
    d.umin, d.umax = _mul_unsigned((d.umin, d.umax), (s.umin, s.umax), U64_MAX)
    d.smin, d.smax = _mul_signed((d.smin, d.smax), (s.smin, s.smax), S64_MIN, S64_MAX)


def _bitwise(d: Bounds, s: Scalar, bits: tnum.Tnum, low: Range, wide: Range) -> None:
    """Ranges of and, or, xor: the signed ones follow the unsigned when those do not cross the sign."""
    known32 = not (d.mask | s.mask) & U32_MAX
    known64 = not d.mask and not s.mask
    d.set_tnum(bits)
    if known32:
        value = bits[0] & U32_MAX
        d.u32_min = d.u32_max = value
        d.s32_min = d.s32_max = sign32(value)
    else:
        d.u32_min, d.u32_max = low
        if sign32(low[0]) <= sign32(low[1]):
            d.s32_min, d.s32_max = sign32(low[0]), sign32(low[1])
        else:
            d.s32_min, d.s32_max = S32_MIN, S32_MAX
    if known64:
        d.umin = d.umax = bits[0]
        d.smin = d.smax = sign64(bits[0])
    else:
        d.umin, d.umax = wide
        if sign64(wide[0]) <= sign64(wide[1]):
            d.smin, d.smax = sign64(wide[0]), sign64(wide[1])
        else:
            d.smin, d.smax = S64_MIN, S64_MAX


def _and(d: Bounds, s: Scalar) -> None:
    bits = tnum.and_((d.value, d.mask), (s.value, s.mask))
    low = bits[0] & U32_MAX, min(d.u32_max, s.u32_max)
    _bitwise(d, s, bits, low, (bits[0], min(d.umax, s.umax)))


def _or(d: Bounds, s: Scalar) -> None:
    bits = tnum.or_((d.value, d.mask), (s.value, s.mask))
    top = bits[0] | bits[1]
    _bitwise(d, s, bits, (max(d.u32_min, s.u32_min), top & U32_MAX), (max(d.umin, s.umin), top))


def _xor(d: Bounds, s: Scalar) -> None:
    bits = tnum.xor((d.value, d.mask), (s.value, s.mask))
    top = bits[0] | bits[1]
    _bitwise(d, s, bits, (bits[0] & U32_MAX, top & U32_MAX), (bits[0], top))


def _neg(d: Bounds, _: Scalar) -> None:
    operand = Scalar(d.key)
    zero = Bounds.constant(0)
    _sub(zero, operand)
    for name in Bounds.__slots__:
        setattr(d, name, getattr(zero, name))


def _lsh32(d: Bounds, shift: int) -> None:
    d.s32_min, d.s32_max = S32_MIN, S32_MAX
    if d.u32_max > 1 << (31 - shift):
        d.u32_min, d.u32_max = 0, U32_MAX
    else:
        d.u32_min, d.u32_max = d.u32_min << shift & U32_MAX, d.u32_max << shift & U32_MAX


def _lsh(d: Bounds, s: Scalar, width: int) -> None:
    shift = s.umin
    if width == 32:
        _lsh32(d, shift)
        d.set_tnum(tnum.lshift(tnum.low32((d.value, d.mask)), shift, 32))
        d.forget64()
        d.learn32_from_bits()
        return
    if shift == 32:  # the first half of a sign extension of the low half
        d.smin, d.smax = d.s32_min << 32, d.s32_max << 32
    else:
        d.smin, d.smax = S64_MIN, S64_MAX
    if d.umax > 1 << (63 - shift):
        d.umin, d.umax = 0, U64_MAX
    else:
        d.umin, d.umax = d.umin << shift & U64_MAX, d.umax << shift & U64_MAX
    if shift > 31:
        d.forget32()
    else:
        _lsh32(d, shift)
    d.set_tnum(tnum.lshift((d.value, d.mask), shift))
    d.learn_from_bits()


def _rsh(d: Bounds, s: Scalar, width: int) -> None:
    shift = s.umin
    if width == 32:
        d.s32_min, d.s32_max = S32_MIN, S32_MAX
        d.set_tnum(tnum.rshift(tnum.low32((d.value, d.mask)), shift))
        d.u32_min >>= shift
        d.u32_max >>= shift
        d.forget64()
        d.learn32_from_bits()
        return
    d.smin, d.smax = S64_MIN, S64_MAX
    d.set_tnum(tnum.rshift((d.value, d.mask), shift))
    d.umin >>= shift
    d.umax >>= shift
    d.forget32()
    d.learn_from_bits()


def _arsh(d: Bounds, s: Scalar, width: int) -> None:
    shift = s.umin
    if width == 32:
        d.s32_min >>= shift
        d.s32_max >>= shift
        d.set_tnum(tnum.arshift(tnum.low32((d.value, d.mask)), shift, 32))
        d.u32_min, d.u32_max = 0, U32_MAX
        d.forget64()
        d.learn32_from_bits()
        return
    d.smin >>= shift
    d.smax >>= shift
    d.set_tnum(tnum.arshift((d.value, d.mask), shift))
    d.umin, d.umax = 0, U64_MAX
    d.forget32()
    d.learn_from_bits()


_PLAIN: dict[str, Callable[[Bounds, Scalar], None]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "and": _and,
    "or": _or,
    "xor": _xor,
    "neg": _neg,
}
_SHIFTS: dict[str, Callable[[Bounds, Scalar, int], None]] = {"lsh": _lsh, "rsh": _rsh, "arsh": _arsh}
_OPAQUE = frozenset({"div", "mod", "sdiv", "smod"})  # the result is any number, even of two constants

OPERATIONS = frozenset(_PLAIN) | frozenset(_SHIFTS) | _OPAQUE


def _is_known(s: Scalar, width: int) -> bool:
    if width == 64:
        return s.const is not None
    return not s.mask & U32_MAX and s.u32_min == s.u32_max and s.s32_min == s.s32_max


def compute(operation: str, width: int, a: Scalar, b: Scalar) -> Bounds:
    """The bounds of `a operation b` in `width` bits, zero-extended to 64.

    >>> compute("add", 64, Scalar(Bounds.constant(2).key), Scalar(Bounds.constant(3).key)).value
    5
    """
    d = a.bounds()
    if operation in d.unknown_operations or (operation in d.needs_known and not _is_known(b, width)):
        return Bounds.unknown()
    plain = d.operations.get(operation) or _PLAIN.get(operation)
    if plain is not None:
        plain(d, b)
    else:
        shift = _SHIFTS.get(operation)
        if shift is None or not _is_known(b, width) or b.umax >= width:
            return Bounds.unknown()  # nothing is kept, not even that the upper half of a 32-bit result is zero
        shift(d, b, width)
    if width == 32:
        d.zero_extend32()
    return d.sync()


def add_loosely(a: Scalar, b: Scalar) -> Bounds:
    """`a + b` as kernels before 6.18 put it into linked numbers: the views do not learn from each other."""
    d = a.bounds()
    (d.operations.get("add") or _add)(d, b)
    return d


_EXACT: dict[str, Callable[[int, int], int]] = {
    "add": int.__add__,
    "sub": int.__sub__,
    "mul": int.__mul__,
    "and": int.__and__,
    "or": int.__or__,
    "xor": int.__xor__,
}


def compute_exactly(operation: str, width: int, a: int, b: int) -> int | None:
    """The number that `compute` gives for two constants, None where it has to be asked.

    >>> compute_exactly("sub", 32, 1, 2)
    4294967295
    """
    if operation == "lsh" and b < width:
        number = a << b
    elif operation == "rsh" and b < width:
        number = (a if width == 64 else a & U32_MAX) >> b
    else:
        exact = _EXACT.get(operation)
        if exact is None:
            return None
        number = exact(a, b)
    return number & (U64_MAX if width == 64 else U32_MAX)


def move32(a: Scalar) -> Bounds:
    """The low half, zero-extended."""
    d = a.bounds()
    d.zero_extend32()
    return d.sync()


def move_sign_extended(a: Scalar, size: int, width: int) -> Bounds:
    """The low `size` bytes sign-extended to `width` bits; a 32-bit result is then zero-extended."""
    d = a.bounds()
    if width == 64:
        return d.sign_extend(size).sync()
    d.sign_extend32(size)
    d.zero_extend32()
    return d.sync()


def byte_swap(a: Scalar, size: int, swap: bool) -> Bounds:
    """The low `size` bytes, in the opposite order if `swap`: then only known bits survive, and ranges from them."""
    d = a.bounds()
    if not d.follows_swaps:
        return Bounds.unknown()
    if not swap:
        return a.bounds() if size == 8 else a.bounds().truncate(size)
    d = Bounds.unknown()
    d.set_tnum(tnum.byte_swap((a.value, a.mask), size))
    return d.sync()
