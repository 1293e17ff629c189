"""Numbers as the verifier knows them: a tnum and four intervals (unsigned, signed, 64 and 32 bits), kept in step.

`Scalar` is the immutable value that states share; `Bounds` the working copy on which an operation computes before the
result is interned. The arithmetic follows the kernel's precision on purpose: neither better nor worse, since both
change the verdict. Refinement by comparisons lives in `verifier/refine.py`, ids and precision marks
outside values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from ebpfkit._bits import S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32_MAX, U64_MAX
from ebpfkit.verifier.domain import tnum

__all__ = ["Bounds", "Scalar", "ScalarKey", "sign32", "sign64"]

ScalarKey = tuple[int, int, int, int, int, int, int, int, int, int]

_HIGH = U64_MAX ^ U32_MAX
_SIGN32 = 1 << 31
_SIGN64 = 1 << 63


def sign32(value: int) -> int:
    """The low 32 bits as a signed number."""
    return ((value & U32_MAX) ^ _SIGN32) - _SIGN32


def sign64(value: int) -> int:
    """The low 64 bits as a signed number."""
    return ((value & U64_MAX) ^ _SIGN64) - _SIGN64


class Scalar:
    """A number of which bits and ranges are known. Interned: within one verification, equal values are one object.

    `const` is the unsigned 64-bit value when all bits are known, else None. `width` is the number of bits that the
    unsigned maximum needs. `null_ok` serves pointers and is false here. `fits` and `misfits` are a memo of comparisons:
    values known to be covered by this one, and known not to be.
    """

    __slots__ = (
        "const",
        "fits",
        "key",
        "mask",
        "misfits",
        "s32_max",
        "s32_min",
        "smax",
        "smin",
        "u32_max",
        "u32_min",
        "umax",
        "umin",
        "value",
        "width",
    )

    is_scalar = True
    nullable = False
    kind = 0
    bits_decide = True  # known bits that differ decide an equality

    def __init__(self, key: ScalarKey) -> None:
        self.key = key
        (
            self.value,
            self.mask,
            self.umin,
            self.umax,
            self.smin,
            self.smax,
            self.u32_min,
            self.u32_max,
            self.s32_min,
            self.s32_max,
        ) = key
        self.const: int | None = None if self.mask else self.value
        self.width = self.umax.bit_length()
        self.fits: set[Any] | None = None
        self.misfits: set[Any] | None = None

    @property
    def tnum(self) -> tnum.Tnum:
        return self.value, self.mask

    def bounds(self) -> Bounds:
        """A working copy; for an older kernel's number one that deduces as that kernel did (`domain/older.py`)."""
        return Bounds(self.key)

    def const32(self) -> int | None:
        """The low half when all its bits are known."""
        return None if self.mask & U32_MAX else self.value & U32_MAX

    def contains(self, number: int) -> bool:
        """Whether the unsigned 64-bit `number` may be this value."""
        low = number & U32_MAX
        return (
            number & ~self.mask == self.value
            and self.umin <= number <= self.umax
            and self.smin <= sign64(number) <= self.smax
            and self.u32_min <= low <= self.u32_max
            and self.s32_min <= sign32(low) <= self.s32_max
        )

    def __repr__(self) -> str:
        return f"Scalar({self.describe()})"

    def describe(self) -> str:
        """The state in words: `7`, `0..255`, `any number`."""
        if self.const is not None:
            return str(sign64(self.const))
        parts = []
        if self.umin or self.umax != U64_MAX:
            parts.append(f"{self.umin}..{self.umax}")
        if self.smin < 0 and (self.smin != S64_MIN or self.smax != S64_MAX):
            parts.append(f"signed {self.smin}..{self.smax}")
        if not parts and (self.u32_min or self.u32_max != U32_MAX):
            parts.append(f"low half {self.u32_min}..{self.u32_max}")
        if not parts and self.mask != U64_MAX:
            parts.append(f"bits {self.value:#x} known, {self.mask:#x} unknown")
        return ", ".join(parts) or "any number"


class Bounds:
    """The mutable working copy of a Scalar."""

    # What kernels before this one compute otherwise: whole operations, those of which they know nothing at all, those
    # of which they know nothing unless the second operand is a constant, and whether bits survive a byte swap.
    operations: ClassVar[Mapping[str, Callable[[Bounds, Scalar], None]]] = MappingProxyType({})
    unknown_operations: ClassVar[frozenset[str]] = frozenset()
    needs_known: ClassVar[frozenset[str]] = frozenset()
    follows_swaps: ClassVar[bool] = True

    __slots__ = ("mask", "s32_max", "s32_min", "smax", "smin", "u32_max", "u32_min", "umax", "umin", "value")

    def __init__(self, key: ScalarKey) -> None:
        (
            self.value,
            self.mask,
            self.umin,
            self.umax,
            self.smin,
            self.smax,
            self.u32_min,
            self.u32_max,
            self.s32_min,
            self.s32_max,
        ) = key

    @staticmethod
    def unknown() -> Bounds:
        return Bounds((0, U64_MAX, 0, U64_MAX, S64_MIN, S64_MAX, 0, U32_MAX, S32_MIN, S32_MAX))

    @staticmethod
    def constant(value: int) -> Bounds:
        value &= U64_MAX
        low = value & U32_MAX
        signed, signed_low = sign64(value), sign32(low)
        return Bounds((value, 0, value, value, signed, signed, low, low, signed_low, signed_low))

    @property
    def key(self) -> ScalarKey:
        return (
            self.value,
            self.mask,
            self.umin,
            self.umax,
            self.smin,
            self.smax,
            self.u32_min,
            self.u32_max,
            self.s32_min,
            self.s32_max,
        )

    def copy(self) -> Bounds:
        return Bounds(self.key)

    def set_tnum(self, bits: tnum.Tnum) -> None:
        self.value, self.mask = bits

    def forget64(self) -> None:
        self.umin, self.umax, self.smin, self.smax = 0, U64_MAX, S64_MIN, S64_MAX

    def forget32(self) -> None:
        self.u32_min, self.u32_max, self.s32_min, self.s32_max = 0, U32_MAX, S32_MIN, S32_MAX

    def forget_ranges(self) -> None:
        self.forget64()
        self.forget32()

    # -- keeping the five views in step --------------------------------------------------------------------------

    # Comparisons are spelled out below: calls of min, max and sign32 took half of the time of a new number.

    def learn32_from_bits(self) -> None:
        value, mask = self.value & U32_MAX, self.mask & U32_MAX
        low = ((value | mask & _SIGN32) ^ _SIGN32) - _SIGN32
        high = ((value | mask & S32_MAX) ^ _SIGN32) - _SIGN32
        if low > self.s32_min:
            self.s32_min = low
        if high < self.s32_max:
            self.s32_max = high
        if value > self.u32_min:
            self.u32_min = value
        if value | mask < self.u32_max:
            self.u32_max = value | mask

    def learn_from_bits(self) -> None:
        """Narrow all ranges by the known bits."""
        self.learn32_from_bits()
        value, mask = self.value, self.mask
        low = ((value | mask & _SIGN64) ^ _SIGN64) - _SIGN64
        high = ((value | mask & S64_MAX) ^ _SIGN64) - _SIGN64
        if low > self.smin:
            self.smin = low
        if high < self.smax:
            self.smax = high
        if value > self.umin:
            self.umin = value
        if value | mask < self.umax:
            self.umax = value | mask
        if mask or self.umin != self.umax:
            self._learn_single()

    def _learn_single(self) -> None:
        """A range that holds only one of the numbers which the bits allow is that number.

        Where range and bits contradict each other (a side that cannot happen) the outcome is the kernel's.
        """
        bits = (self.value, self.mask)
        top = self.value | self.mask
        low = self.umin
        following = tnum.first_from(bits, low + 1) if low < top else top
        if low & ~self.mask == self.value:
            if following is None or following <= self.umax:
                return
            single = low
        elif following == top:
            single = top
        elif following is not None and following <= self.umax:
            second = tnum.first_from(bits, following + 1)
            if second is None or second <= self.umax:
                return
            single = following
        else:
            return
        known = Bounds.constant(single)
        for name in Bounds.__slots__:
            setattr(self, name, getattr(known, name))

    def _deduce32(self) -> None:
        umin, umax, smin, smax = self.umin, self.umax, self.smin, self.smax
        u_min, u_max, s_min, s_max = self.u32_min, self.u32_max, self.s32_min, self.s32_max
        ulow = ((umin & U32_MAX) ^ _SIGN32) - _SIGN32
        uhigh = ((umax & U32_MAX) ^ _SIGN32) - _SIGN32
        low = ((smin & U32_MAX) ^ _SIGN32) - _SIGN32
        high = ((smax & U32_MAX) ^ _SIGN32) - _SIGN32
        uhalf, shalf = (umax >> 32) - (umin >> 32), (smax >> 32) - (smin >> 32)
        if not uhalf:
            if umin & U32_MAX > u_min:
                u_min = umin & U32_MAX
            if umax & U32_MAX < u_max:
                u_max = umax & U32_MAX
            if ulow <= uhigh:
                s_min = ulow if ulow > s_min else s_min
                s_max = uhigh if uhigh < s_max else s_max
        if not shalf:
            if smin & U32_MAX <= smax & U32_MAX:
                if smin & U32_MAX > u_min:
                    u_min = smin & U32_MAX
                if smax & U32_MAX < u_max:
                    u_max = smax & U32_MAX
            if low <= high:
                s_min = low if low > s_min else s_min
                s_max = high if high < s_max else s_max
        # The upper half takes exactly two neighbouring values, and the lower goes from negative up to positive.
        if (umin >> 32) + 1 & U32_MAX == umax >> 32 and ulow < 0 <= uhigh:
            s_min = ulow if ulow > s_min else s_min
            s_max = uhigh if uhigh < s_max else s_max
        if (smin >> 32) + 1 & U32_MAX == smax >> 32 & U32_MAX and low < 0 <= high:
            s_min = low if low > s_min else s_min
            s_max = high if high < s_max else s_max
        self.u32_min, self.u32_max, self.s32_min, self.s32_max = u_min, u_max, s_min, s_max
        self._meet_signs()

    def _meet_signs(self) -> None:
        u_min, u_max, s_min, s_max = self.u32_min, self.u32_max, self.s32_min, self.s32_max
        low = ((u_min & U32_MAX) ^ _SIGN32) - _SIGN32
        high = ((u_max & U32_MAX) ^ _SIGN32) - _SIGN32
        if low <= high:
            s_min = low if low > s_min else s_min
            s_max = high if high < s_max else s_max
        start, end = s_min & U32_MAX, s_max & U32_MAX
        if start <= end:
            u_min = start if start > u_min else u_min
            u_max = end if end < u_max else u_max
        elif u_max < start:
            s_min = low
            u_max = end if end < u_max else u_max
        elif end < u_min:
            s_max = high
            u_min = start if start > u_min else u_min
        self.u32_min, self.u32_max, self.s32_min, self.s32_max = u_min, u_max, s_min, s_max

    def _deduce64(self) -> None:
        umin, umax, smin, smax = self.umin, self.umax, self.smin, self.smax
        low = ((umin & U64_MAX) ^ _SIGN64) - _SIGN64
        high = ((umax & U64_MAX) ^ _SIGN64) - _SIGN64
        if low <= high:
            smin = low if low > smin else smin
            smax = high if high < smax else smax
        start, end = smin & U64_MAX, smax & U64_MAX
        if start <= end:
            umin = start if start > umin else umin
            umax = end if end < umax else umax
        elif umax < start:
            # The signed range crosses zero; the unsigned one meets only its non-negative end.
            smin = low
            umax = end if end < umax else umax
        elif end < umin:
            smax = high
            umin = start if start > umin else umin
        self.umin, self.umax, self.smin, self.smax = umin, umax, smin, smax

    def _deduce_mixed(self) -> None:
        low = self.umin & _HIGH | self.u32_min
        high = self.umax & _HIGH | self.u32_max
        if low > self.umin:
            self.umin = low
        if high < self.umax:
            self.umax = high
        low = (((self.smin & _HIGH | self.u32_min) & U64_MAX) ^ _SIGN64) - _SIGN64
        high = (((self.smax & _HIGH | self.u32_max) & U64_MAX) ^ _SIGN64) - _SIGN64
        if low > self.smin:
            self.smin = low
        if high < self.smax:
            self.smax = high
        if self.s32_min >= 0 and self.smin >= S32_MIN and self.smax <= S32_MAX:
            self.smin = self.umin = self.s32_min
            self.smax = self.umax = self.s32_max
            self.set_tnum(tnum.intersect((self.value, self.mask), tnum.from_range(self.umin, self.umax)))

    def _learn_bits(self) -> None:
        wide = tnum.intersect((self.value, self.mask), tnum.from_range(self.umin, self.umax))
        low = tnum.intersect(tnum.low32(wide), tnum.from_range(self.u32_min, self.u32_max, 32))
        self.set_tnum(tnum.with_low32(wide, low))

    def sync(self) -> Bounds:
        """Let every view learn from the others, in the kernel's order and number of rounds."""
        self.learn_from_bits()
        before = self.key
        for _ in range(3):
            self._deduce32()
            self._deduce64()
            self._deduce_mixed()
            after = self.key
            if after == before:
                break  # another round would find nothing either
            before = after
        self._learn_bits()
        self.learn_from_bits()
        return self

    def is_consistent(self) -> bool:
        """Whether some number can satisfy every view, as far as comparing ends shows."""
        if self.umin > self.umax or self.smin > self.smax or self.u32_min > self.u32_max or self.s32_min > self.s32_max:
            return False
        if not self.mask and (
            self.umin != self.value
            or self.umax != self.value
            or self.smin != sign64(self.value)
            or self.smax != sign64(self.value)
        ):
            return False
        low = self.value & U32_MAX
        return bool(self.mask & U32_MAX) or (
            self.u32_min == low and self.u32_max == low and self.s32_min == sign32(low) and self.s32_max == sign32(low)
        )

    # -- changes of width ----------------------------------------------------------------------------------------

    def zero_extend32(self) -> None:
        """Clear the upper half: what follows every 32-bit operation. `sync` must follow."""
        self.value &= U32_MAX
        self.mask &= U32_MAX
        self.umin, self.umax = self.u32_min, self.u32_max
        if self.s32_min >= 0 and self.s32_max >= 0:
            self.smin, self.smax = self.s32_min, self.s32_max
        else:
            self.smin, self.smax = 0, U32_MAX

    def truncate(self, size: int) -> Bounds:
        """Keep the low `size` bytes, zero-extended (a narrow load)."""
        limit = (1 << 8 * size) - 1
        self.set_tnum(tnum.cast((self.value, self.mask), size))
        if self.umin & ~limit == self.umax & ~limit:
            self.umin &= limit
            self.umax &= limit
        else:
            self.umin, self.umax = 0, limit
        self.smin, self.smax = sign64(self.umin), sign64(self.umax)
        if size < 4:
            self.forget32()
        return self.sync()

    def sign_extend(self, size: int) -> Bounds:
        """Keep the low `size` bytes, sign-extended to 64 bits."""
        bits = 8 * size
        half = 1 << (bits - 1)
        if not self.mask:
            return Bounds.constant(((self.value & (2 * half - 1)) ^ half) - half)
        if size == 8:
            return self
        ends = [((end & (2 * half - 1)) ^ half) - half for end in (self.smin, self.smax)]
        low, high = min(ends), max(ends)
        if self.smin >> bits == self.smax >> bits and (low >= 0) == (high >= 0):
            self.smin, self.smax = low, high
            self.s32_min, self.s32_max = sign32(low), sign32(high)
            self.umin, self.umax = low & U64_MAX, high & U64_MAX
            self.u32_min, self.u32_max = low & U32_MAX, high & U32_MAX
            self.set_tnum(tnum.from_range(low, high))
            return self
        self.set_tnum(tnum.UNKNOWN)
        self.forget_ranges()
        self.smin, self.smax = -half, half - 1
        self.s32_min, self.s32_max = -half, half - 1
        return self

    def sign_extend32(self, size: int) -> Bounds:
        """Keep the low `size` bytes (1 or 2), sign-extended to 32 bits; the caller clears the upper half."""
        bits = 8 * size
        half = 1 << (bits - 1)
        if not self.mask & U32_MAX:
            low = sign32(((self.value & (2 * half - 1)) ^ half) - half)
            self.s32_min = self.s32_max = low
            self.u32_min = self.u32_max = low & U32_MAX
            self.set_tnum((low & U32_MAX, 0))
            return self
        ends = [((end & (2 * half - 1)) ^ half) - half for end in (self.s32_min, self.s32_max)]
        low, high = min(ends), max(ends)
        if self.s32_min >> bits == self.s32_max >> bits and (low >= 0) == (high >= 0):
            self.s32_min, self.s32_max = low, high
            self.u32_min, self.u32_max = low & U32_MAX, high & U32_MAX
            self.set_tnum(tnum.low32(tnum.from_range(low, high)))
            return self
        self.s32_min, self.s32_max = -half, half - 1
        self.u32_min, self.u32_max = 0, U32_MAX
        self.set_tnum((0, U32_MAX))
        return self
