"""How older kernels deduce ranges and compute with them: fewer rounds, fewer cases, the same values.

A `Scalar` hands out the working copy of its own kernel's kind (`bounds`), so arithmetic and refinement follow without
asking. Which kernel has which is `scalar_type`'s; comparisons before 6.8 are `refine_older`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar

from ebpfkit._bits import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32_MAX, U64_MAX
from ebpfkit.abi.versions import is_in_force
from ebpfkit.verifier.domain import tnum
from ebpfkit.verifier.domain.scalar import Bounds, Scalar, sign32, sign64

__all__ = ["BoundsBefore6_8", "BoundsBefore6_17", "ScalarBefore6_8", "decide_older", "refine_older", "scalar_type"]

Range = tuple[int, int]
Operation = Callable[[Bounds, Scalar], None]


def _sum_unsigned(a: Range, b: Range, top: int) -> Range:
    return (a[0] + b[0], a[1] + b[1]) if a[1] + b[1] <= top else (0, top)


def _within(low: int, high: int, bottom: int, top: int) -> Range:
    return (low, high) if bottom <= low and high <= top else (bottom, top)


def _difference_unsigned(a: Range, b: Range, top: int) -> Range:
    return (a[0] - b[1], a[1] - b[0]) if a[0] >= b[1] else (0, top)


def _add(d: Bounds, s: Scalar) -> None:
    d.u32_min, d.u32_max = _sum_unsigned((d.u32_min, d.u32_max), (s.u32_min, s.u32_max), U32_MAX)
    d.s32_min, d.s32_max = _within(d.s32_min + s.s32_min, d.s32_max + s.s32_max, S32_MIN, S32_MAX)
    d.umin, d.umax = _sum_unsigned((d.umin, d.umax), (s.umin, s.umax), U64_MAX)
    d.smin, d.smax = _within(d.smin + s.smin, d.smax + s.smax, S64_MIN, S64_MAX)
    d.set_tnum(tnum.add((d.value, d.mask), (s.value, s.mask)))


def _sub(d: Bounds, s: Scalar) -> None:
    d.u32_min, d.u32_max = _difference_unsigned((d.u32_min, d.u32_max), (s.u32_min, s.u32_max), U32_MAX)
    d.s32_min, d.s32_max = _within(d.s32_min - s.s32_max, d.s32_max - s.s32_min, S32_MIN, S32_MAX)
    d.umin, d.umax = _difference_unsigned((d.umin, d.umax), (s.umin, s.umax), U64_MAX)
    d.smin, d.smax = _within(d.smin - s.smax, d.smax - s.smin, S64_MIN, S64_MAX)
    d.set_tnum(tnum.sub((d.value, d.mask), (s.value, s.mask)))


def _mul(d: Bounds, s: Scalar) -> None:
    d.set_tnum(tnum.mul((d.value, d.mask), (s.value, s.mask)))
    if s.s32_min < 0 or d.s32_min < 0 or s.u32_max > 0xFFFF or d.u32_max > 0xFFFF:
        d.forget32()
    else:
        d.u32_min, d.u32_max = d.u32_min * s.u32_min, d.u32_max * s.u32_max
        fits = d.u32_max <= S32_MAX
        d.s32_min, d.s32_max = (d.u32_min, d.u32_max) if fits else (S32_MIN, S32_MAX)
    if s.smin < 0 or d.smin < 0 or s.umax > U32_MAX or d.umax > U32_MAX:
        d.forget64()
    else:
        d.umin, d.umax = d.umin * s.umin, d.umax * s.umax
        d.smin, d.smax = (d.umin, d.umax) if d.umax <= S64_MAX else (S64_MIN, S64_MAX)


def _bitwise(d: Bounds, s: Scalar, bits: tnum.Tnum, low: Range, wide: Range) -> None:
    """Ranges of and, or, xor: signed ones only of numbers that are not negative."""
    known32 = not (d.mask | s.mask) & U32_MAX
    known64 = not d.mask and not s.mask
    positive32, positive = d.s32_min >= 0 and s.s32_min >= 0, d.smin >= 0 and s.smin >= 0
    d.set_tnum(bits)
    d.u32_min, d.u32_max = low
    d.s32_min, d.s32_max = low if positive32 else (S32_MIN, S32_MAX)
    d.umin, d.umax = wide
    d.smin, d.smax = wide if positive else (S64_MIN, S64_MAX)
    if known32:
        d.u32_min = d.u32_max = bits[0] & U32_MAX
        d.s32_min = d.s32_max = sign32(bits[0])
    if known64:
        d.umin = d.umax = bits[0]
        d.smin = d.smax = sign64(bits[0])


def _and(d: Bounds, s: Scalar) -> None:
    bits = tnum.and_((d.value, d.mask), (s.value, s.mask))
    _bitwise(d, s, bits, (bits[0] & U32_MAX, min(d.u32_max, s.u32_max)), (bits[0], min(d.umax, s.umax)))


def _or(d: Bounds, s: Scalar) -> None:
    bits = tnum.or_((d.value, d.mask), (s.value, s.mask))
    top = bits[0] | bits[1]
    _bitwise(d, s, bits, (max(d.u32_min, s.u32_min), top & U32_MAX), (max(d.umin, s.umin), top))


def _xor(d: Bounds, s: Scalar) -> None:
    bits = tnum.xor((d.value, d.mask), (s.value, s.mask))
    top = bits[0] | bits[1]
    _bitwise(d, s, bits, (bits[0] & U32_MAX, top & U32_MAX), (bits[0], top))


class BoundsBefore6_17(Bounds):
    """As 6.12 has it: 32-bit ranges that cross the sign at one end are left alone, sums and products are simpler."""

    __slots__ = ()
    operations: ClassVar[Mapping[str, Operation]] = MappingProxyType({"add": _add, "sub": _sub, "mul": _mul})
    unknown_operations = frozenset({"neg"})
    follows_swaps = False

    def learn_from_bits(self) -> None:
        self.learn32_from_bits()
        self.learn64_from_bits()

    def learn64_from_bits(self) -> None:
        value, mask = self.value, self.mask
        self.smin = max(self.smin, sign64(value | mask & (1 << 63)))
        self.smax = min(self.smax, sign64(value | mask & S64_MAX))
        self.umin = max(self.umin, value)
        self.umax = min(self.umax, value | mask)

    def _meet_signs(self) -> None:
        if sign32(self.u32_min) <= sign32(self.u32_max):
            self.s32_min = max(self.s32_min, sign32(self.u32_min))
            self.s32_max = min(self.s32_max, sign32(self.u32_max))
        if self.s32_min & U32_MAX <= self.s32_max & U32_MAX:
            self.u32_min = max(self.u32_min, self.s32_min & U32_MAX)
            self.u32_max = min(self.u32_max, self.s32_max & U32_MAX)

    def sync(self) -> Bounds:
        self.learn_from_bits()
        for _ in range(3):
            self._deduce32()
            self._deduce64()
            self._deduce_mixed()
        self._learn_bits()
        self.learn_from_bits()
        return self


class BoundsBefore6_8(BoundsBefore6_17):
    """One round, each width apart: signed and unsigned inform each other where neither crosses the sign."""

    __slots__ = ()
    operations: ClassVar[Mapping[str, Operation]] = MappingProxyType(
        {"add": _add, "sub": _sub, "mul": _mul, "and": _and, "or": _or, "xor": _xor}
    )
    needs_known = frozenset({"mul", "or", "xor"})

    def _deduce32(self) -> None:
        if self.s32_min >= 0 or self.s32_max < 0:
            self.u32_min = max(self.s32_min & U32_MAX, self.u32_min)
            self.u32_max = min(self.s32_max & U32_MAX, self.u32_max)
            self.s32_min, self.s32_max = sign32(self.u32_min), sign32(self.u32_max)
        elif sign32(self.u32_max) >= 0:
            self.s32_min = sign32(self.u32_min)
            self.u32_max = min(self.s32_max & U32_MAX, self.u32_max)
            self.s32_max = sign32(self.u32_max)
        elif sign32(self.u32_min) < 0:
            self.u32_min = max(self.s32_min & U32_MAX, self.u32_min)
            self.s32_min = sign32(self.u32_min)
            self.s32_max = sign32(self.u32_max)

    def _deduce64(self) -> None:
        if self.smin >= 0 or self.smax < 0:
            self.umin = max(self.smin & U64_MAX, self.umin)
            self.umax = min(self.smax & U64_MAX, self.umax)
            self.smin, self.smax = sign64(self.umin), sign64(self.umax)
        elif sign64(self.umax) >= 0:
            self.smin = sign64(self.umin)
            self.umax = min(self.smax & U64_MAX, self.umax)
            self.smax = sign64(self.umax)
        elif sign64(self.umin) < 0:
            self.umin = max(self.smin & U64_MAX, self.umin)
            self.smin = sign64(self.umin)
            self.smax = sign64(self.umax)

    def sync(self) -> Bounds:
        self.learn_from_bits()
        self._deduce32()
        self._deduce64()
        self._learn_bits()
        self.learn_from_bits()
        return self

    def truncate(self, size: int) -> Bounds:
        limit = (1 << 8 * size) - 1
        self.set_tnum(tnum.cast((self.value, self.mask), size))
        if self.umin & ~limit == self.umax & ~limit:
            self.umin &= limit
            self.umax &= limit
        else:
            self.umin, self.umax = 0, limit
        self.smin, self.smax = sign64(self.umin), sign64(self.umax)
        return self if size >= 4 else self.narrow()

    def narrow(self) -> Bounds:
        """The low half learns anew from the whole, after a 64-bit change."""
        self.forget32()
        if all(S32_MIN <= end <= S32_MAX for end in (self.smin, self.smax)):
            self.s32_min, self.s32_max = self.smin, self.smax
        if self.umin <= U32_MAX and self.umax <= U32_MAX:
            self.u32_min, self.u32_max = self.umin, self.umax
        return self.sync()

    def widen(self) -> Bounds:
        """The whole learns anew from the low half, after a 32-bit change."""
        if (self.value | self.mask) >> 32:
            self.umin, self.umax, self.smin, self.smax = 0, U64_MAX, S64_MIN, S64_MAX
        else:
            self.umin, self.umax = self.u32_min, self.u32_max
            fits = self.s32_min >= 0 and self.s32_max >= 0
            self.smin, self.smax = (self.s32_min, self.s32_max) if fits else (0, U32_MAX)
        return self.sync()


class ScalarBefore6_17(Scalar):
    """A number before 6.17."""

    __slots__ = ()
    bits_decide = False

    def bounds(self) -> Bounds:
        return BoundsBefore6_17(self.key)


class ScalarBefore6_8(Scalar):
    """A number before 6.8."""

    __slots__ = ()

    def bounds(self) -> Bounds:
        return BoundsBefore6_8(self.key)


def scalar_type(kernel: str) -> type[Scalar]:
    """The kind of number that this kernel's verifier works with."""
    if is_in_force("ranges-meet-at-ends", kernel):
        return Scalar
    return ScalarBefore6_17 if is_in_force("register-comparison", kernel) else ScalarBefore6_8


def refine_older(operation: str, width: int, a: Scalar, b: Scalar) -> tuple[Bounds, Bounds]:
    """What holds where `a operation b` is true, before 6.8: only a comparison with a constant teaches, or equality."""
    left, right = a.bounds(), b.bounds()
    if not isinstance(left, BoundsBefore6_8) or not isinstance(right, BoundsBefore6_8):
        raise TypeError("numbers of a newer kernel")
    if _is_known(b, width):
        _assume(operation, width, left, b.value)
    elif _is_known(a, width):
        _assume(_FLIPPED.get(operation, operation), width, right, a.value)
    elif operation == "jeq" and width == 64:
        _combine(left, right)
    return left, right


_FLIPPED = {
    "jgt": "jlt", "jge": "jle", "jlt": "jgt", "jle": "jge", "jsgt": "jslt", "jsge": "jsle", "jslt": "jsgt",
    "jsle": "jsge",
}  # fmt: skip


def decide_older(operation: str, width: int, a: Scalar, b: Scalar) -> bool | None:
    """Whether the jump is taken, before 6.8: only where the second operand is a constant."""
    if not _is_known(b, width):
        return None
    limit = U64_MAX if width == 64 else U32_MAX
    value = b.value & limit
    if operation in ("jeq", "jne"):
        return None if a.mask & limit else (a.value & limit == value) == (operation == "jeq")
    if operation == "jset":
        if a.value & limit & value:
            return True
        return None if (a.value | a.mask) & value else False
    if operation.startswith("js"):
        number = sign64(value) if width == 64 else sign32(value)
        low, high = (a.smin, a.smax) if width == 64 else (a.s32_min, a.s32_max)
    else:
        number = value
        low, high = (a.umin, a.umax) if width == 64 else (a.u32_min, a.u32_max)
    match operation[-2:]:
        case "gt":
            return True if low > number else False if high <= number else None
        case "ge":
            return True if low >= number else False if high < number else None
        case "lt":
            return True if high < number else False if low >= number else None
        case _:
            return True if high <= number else False if low > number else None


def _is_known(s: Scalar, width: int) -> bool:
    return s.const is not None or (width == 32 and not s.mask & U32_MAX)


def _combine(a: BoundsBefore6_8, b: BoundsBefore6_8) -> None:
    a.umin = b.umin = max(a.umin, b.umin)
    a.umax = b.umax = min(a.umax, b.umax)
    a.smin = b.smin = max(a.smin, b.smin)
    a.smax = b.smax = min(a.smax, b.smax)
    bits = tnum.intersect((a.value, a.mask), (b.value, b.mask))
    a.set_tnum(bits)
    b.set_tnum(bits)
    a.sync()
    b.sync()


def _assume(operation: str, width: int, d: BoundsBefore6_8, number: int) -> None:
    """`d operation number` is true; both sides of every comparison are deduced anew from the width compared."""
    if width == 32:
        _assume32(operation, d, number & U32_MAX)
        d.widen()
    else:
        _assume64(operation, d, number)
        d.narrow()


def _assume64(operation: str, d: BoundsBefore6_8, value: int) -> None:
    signed = sign64(value)
    match operation:
        case "jeq":
            d.set_tnum((value, 0))
            d.umin = d.umax = value
            d.smin = d.smax = signed
        case "jset":
            if value and not value & (value - 1):
                d.set_tnum(tnum.or_((d.value, d.mask), (value, 0)))
        case "jnset":
            d.forget_ranges()
            d.set_tnum(tnum.and_((d.value, d.mask), (value ^ U64_MAX, 0)))
        case "jgt" | "jge":
            d.umin = max(d.umin, value + (operation == "jgt") & U64_MAX)
        case "jlt" | "jle":
            d.umax = min(d.umax, value - (operation == "jlt") & U64_MAX)
        case "jsgt" | "jsge":
            d.smin = max(d.smin, sign64(signed + (operation == "jsgt")))
        case "jslt" | "jsle":
            d.smax = min(d.smax, sign64(signed - (operation == "jslt")))


def _assume32(operation: str, d: BoundsBefore6_8, value: int) -> None:
    signed = sign32(value)
    bits = d.value, d.mask
    match operation:
        case "jeq":
            d.set_tnum(tnum.with_low32(bits, (value, 0)))
            d.u32_min = d.u32_max = value
            d.s32_min = d.s32_max = signed
        case "jset":
            if value and not value & (value - 1):
                d.set_tnum(tnum.with_low32(bits, tnum.or_(tnum.low32(bits), (value, 0))))
        case "jnset":
            d.forget_ranges()
            d.set_tnum(tnum.with_low32(bits, tnum.and_(tnum.low32(bits), (value ^ U32_MAX, 0))))
        case "jgt" | "jge":
            d.u32_min = max(d.u32_min, value + (operation == "jgt") & U32_MAX)
        case "jlt" | "jle":
            d.u32_max = min(d.u32_max, value - (operation == "jlt") & U32_MAX)
        case "jsgt" | "jsge":
            d.s32_min = max(d.s32_min, sign32(signed + (operation == "jsgt")))
        case "jslt" | "jsle":
            d.s32_max = min(d.s32_max, sign32(signed - (operation == "jslt")))
