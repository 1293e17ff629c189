"""Every operation on abstract numbers, exhaustively on small sets at the places where numbers wrap and change sign.

A set is a few neighbours around 0, 2**31, 2**32, 2**63 and the top, or all values of a few unknown bits there. Its
abstract number is the smallest that holds it in every domain at once; every member must come out inside.
"""

from __future__ import annotations

from itertools import product

import pytest
from test_domain import COMPARISONS, concrete

from ebpfkit._bits import U32_MAX, U64_MAX, swap_bytes, to_signed, to_unsigned
from ebpfkit.verifier.domain import arithmetic, tnum
from ebpfkit.verifier.domain.scalar import Bounds, Scalar
from ebpfkit.verifier.refine import NEGATED, decide, refine

Members = tuple[int, ...]


def _abstract(members: Members) -> Scalar:
    """The smallest number that holds them in each domain."""
    d = Bounds.unknown()
    known: tnum.Tnum = (members[0], 0)
    for member in members[1:]:
        known = tnum.union(known, (member, 0))
    d.set_tnum(known)
    d.umin, d.umax = min(members), max(members)
    signed = [to_signed(member, 64) for member in members]
    d.smin, d.smax = min(signed), max(signed)
    low = [member & U32_MAX for member in members]
    d.u32_min, d.u32_max = min(low), max(low)
    low = [to_signed(member, 32) for member in members]
    d.s32_min, d.s32_max = min(low), max(low)
    found = Scalar(d.sync().key)
    assert all(found.contains(member) for member in members), (members, found.key)
    return found


def _sets() -> list[Members]:
    found: dict[Members, None] = {}
    for anchor in (0, 1 << 31, 1 << 32, 1 << 63):
        for start, length in product((-2, -1, 0, 1), (1, 2, 4)):
            found[tuple((anchor + start + step) & U64_MAX for step in range(length))] = None
    for bits, base in product(((0, 31), (31, 32), (62, 63), (0, 63)), (0, U64_MAX, 5)):
        masks = [sum(1 << bit for bit in chosen) for chosen in ((), bits[:1], bits[1:], bits)]
        found[tuple(base ^ mask for mask in masks)] = None
    return list(found)


SETS = [(members, _abstract(members)) for members in _sets()]


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("operation", sorted(arithmetic.OPERATIONS))
def test_arithmetic_on_small_sets(operation: str, width: int) -> None:
    for (left, a), (right, b) in product(SETS, SETS):
        if operation == "neg":
            right, b = left, a
        result = Scalar(arithmetic.compute(operation, width, a, b).key)
        for x, y in product(left, right):
            expected = concrete(operation, width, x, y)
            assert result.contains(expected or 0), (left, right, x, y, result.key)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("operation", COMPARISONS)
def test_branches_on_small_sets(operation: str, width: int) -> None:
    top, holds = (1 << width) - 1, COMPARISONS[operation]
    for (left, a), (right, b) in product(SETS, SETS):
        pairs = [(x, y, holds(x & top, y & top, width)) for x, y in product(left, right)]
        decided = decide(operation, width, a, b)
        if decided is not None:
            assert all(truth == decided for _, _, truth in pairs), (left, right)
            continue
        for outcome in {truth for _, _, truth in pairs}:
            new_a, new_b = (Scalar(d.key) for d in refine(operation if outcome else NEGATED[operation], width, a, b))
            for x, y, truth in pairs:
                assert truth != outcome or (new_a.contains(x) and new_b.contains(y)), (left, right, x, y)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_moves_on_small_sets(size: int) -> None:
    for members, a in SETS:
        bits = 8 * size
        cut, extended = Scalar(Bounds(a.key).truncate(size).key), Scalar(Bounds(a.key).sign_extend(size).sync().key)
        low = Scalar(arithmetic.move32(a).key)
        for x in members:
            assert cut.contains(x & ((1 << bits) - 1)) and low.contains(x & U32_MAX)
            assert extended.contains(to_unsigned(to_signed(x, bits), 64)), (members, x)
        for width in (32, 64):
            if bits < width:
                moved = Scalar(arithmetic.move_sign_extended(a, size, width).key)
                assert all(moved.contains(to_unsigned(to_signed(x, bits), width)) for x in members), (members, width)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_byte_swaps_on_small_sets(size: int) -> None:
    top = (1 << 8 * size) - 1
    for members, a in SETS:
        swapped = Scalar(arithmetic.byte_swap(a, size, True).key)
        kept = Scalar(arithmetic.byte_swap(a, size, False).key)
        assert all(swapped.contains(swap_bytes(x, size)) and kept.contains(x & top) for x in members), members


@pytest.mark.parametrize("size", [2, 4, 8])
def test_known_bits_swap_with_their_bytes(size: int) -> None:
    places = (0, 7, 8, 8 * size - 1)
    for unknown, ones in product(range(16), repeat=2):
        mask = sum(1 << bit for at, bit in enumerate(places) if unknown >> at & 1)
        value = sum(1 << bit for at, bit in enumerate(places) if ones >> at & 1) & ~mask
        swapped = tnum.byte_swap((value, mask), size)
        assert swapped == (swap_bytes(value, size), swap_bytes(mask, size))


def test_halves_of_known_bits() -> None:
    words = [(value << shift & ~mask, mask) for value, shift, mask in product((0, 1, 5), (0, 31, 32), (0, 1, 1 << 32))]
    for a, low in product(words, words):
        joined = tnum.with_low32(a, low)
        for x, y in product(_members(a), _members(low)):
            assert tnum.contains(joined, x & ~U32_MAX | y & U32_MAX)
            assert tnum.contains(tnum.low32(a), x & U32_MAX)
            for size in (1, 2, 4):
                assert tnum.contains(tnum.cast(a, size), x & ((1 << 8 * size) - 1))


def _members(a: tnum.Tnum) -> list[int]:
    value, mask = a
    return [value] if not mask else [value, value | mask]
