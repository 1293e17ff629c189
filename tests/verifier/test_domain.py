"""Laws of the abstract values: what goes in concretely comes out inside, for every operation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit._bits import S64_MAX, U32_MAX, U64_MAX, swap_bytes, to_signed, to_unsigned
from ebpfkit.verifier.domain import arithmetic, tnum
from ebpfkit.verifier.domain.scalar import Bounds, Scalar
from ebpfkit.verifier.refine import NEGATED, decide, refine

# --- tnum, exhaustively at four bits ------------------------------------------------------------------------------

BITS = 4
TOP = (1 << BITS) - 1
TNUMS = [(value, mask) for mask in range(TOP + 1) for value in range(TOP + 1) if not value & mask]


def members(a: tnum.Tnum) -> list[int]:
    return [x for x in range(TOP + 1) if tnum.contains(a, x)]


TNUM_OPERATIONS: dict[str, tuple[Callable[..., tnum.Tnum], Callable[[int, int], int]]] = {
    "add": (lambda a, b: tnum.add(a, b, BITS), lambda x, y: x + y),
    "sub": (lambda a, b: tnum.sub(a, b, BITS), lambda x, y: x - y),
    "mul": (lambda a, b: tnum.mul(a, b, BITS), lambda x, y: x * y),
    "and": (tnum.and_, lambda x, y: x & y),
    "or": (tnum.or_, lambda x, y: x | y),
    "xor": (tnum.xor, lambda x, y: x ^ y),
}


@pytest.mark.parametrize("name", TNUM_OPERATIONS)
def test_tnum_operations_are_sound(name: str) -> None:
    abstract, concrete = TNUM_OPERATIONS[name]
    for a, b in product(TNUMS, TNUMS):
        result = abstract(a, b)
        assert not result[0] & result[1]
        for x in members(a):
            for y in members(b):
                assert tnum.contains(result, concrete(x, y) & TOP), (a, b, x, y, result)


@pytest.mark.parametrize("name", ["add", "sub", "and", "or", "xor"])
def test_tnum_operations_are_exact(name: str) -> None:
    """These give the smallest tnum that is sound."""
    abstract, concrete = TNUM_OPERATIONS[name]
    for a, b in product(TNUMS, TNUMS):
        values = [concrete(x, y) & TOP for x in members(a) for y in members(b)]
        best: tnum.Tnum = (values[0], 0)
        for value in values[1:]:
            best = tnum.union(best, (value, 0))
        assert abstract(a, b) == best


def test_tnum_shifts_negation_and_ranges() -> None:
    for a in TNUMS:
        for x in members(a):
            assert tnum.contains(tnum.neg(a, BITS), -x & TOP)
            for shift in range(BITS):
                assert tnum.contains(tnum.lshift(a, shift, BITS), x << shift & TOP)
                assert tnum.contains(tnum.rshift(a, shift), x >> shift)
                assert tnum.contains(tnum.arshift(a, shift, BITS), to_signed(x, BITS) >> shift & TOP)
    for low, high in product(range(TOP + 1), repeat=2):
        if low <= high:
            for x in range(low, high + 1):
                assert tnum.contains(tnum.from_range(low, high, BITS), x)


def test_tnum_members_in_order() -> None:
    for a in TNUMS:
        for low in range(TOP + 1):
            expected = next((x for x in members(a) if x >= low), None)
            assert tnum.first_from(a, low) == expected


def test_tnum_sets() -> None:
    for a, b in product(TNUMS, TNUMS):
        mine, other = set(members(a)), set(members(b))
        assert tnum.is_subset(a, b) == (other <= mine)
        assert tnum.overlap(a, b) == bool(mine & other)
        if mine & other:
            assert set(members(tnum.intersect(a, b))) == mine & other
        assert mine | other <= set(members(tnum.union(a, b)))


# --- scalars ------------------------------------------------------------------------------------------------------

EDGES = [0, 1, 2, 7, 15, 16, 31, 32, 63, 64, 255, 256, 0x7FFF, 0x8000, 0xFFFF]
EDGES += [
    1 << 31,
    (1 << 31) - 1,
    U32_MAX,
    1 << 32,
    (1 << 32) + 1,
    1 << 63,
    S64_MAX,
    U64_MAX,
    U64_MAX - 1,
    U64_MAX ^ U32_MAX,
]
NUMBERS = st.one_of(st.sampled_from(EDGES), st.integers(0, U64_MAX), st.integers(0, 300), st.integers(-300, -1)).map(
    lambda n: n & U64_MAX
)


@st.composite
def scalars(draw: st.DrawFn) -> tuple[Scalar, int]:
    """An abstract number and a concrete one inside: narrowed by masks, ranges and comparisons that hold of it."""
    number = draw(NUMBERS)
    d = Bounds.unknown()
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.integers(0, 5))
        other = draw(NUMBERS)
        if kind == 0:
            mask = other
            known = tnum.intersect((d.value, d.mask), (number & ~mask & U64_MAX, mask))
            d.set_tnum(known)
        elif kind == 1:
            d.umin, d.umax = max(d.umin, min(number, other)), min(d.umax, max(number, other))
        elif kind == 2:
            low, high = sorted((to_signed(number, 64), to_signed(other, 64)))
            d.smin, d.smax = max(d.smin, low), min(d.smax, high)
        elif kind == 3:
            low, high = sorted((number & U32_MAX, other & U32_MAX))
            d.u32_min, d.u32_max = max(d.u32_min, low), min(d.u32_max, high)
        elif kind == 4:
            low, high = sorted((to_signed(number, 32), to_signed(other, 32)))
            d.s32_min, d.s32_max = max(d.s32_min, low), min(d.s32_max, high)
        else:
            d = Bounds.constant(number)
        d.sync()
    result = Scalar(d.key)
    assert result.contains(number), (result.key, number)
    return result, number


def concrete(operation: str, width: int, x: int, y: int) -> int | None:
    """RFC 9669 semantics; None where the instruction would not be walked."""
    top = (1 << width) - 1
    x, y = x & top, y & top
    signed_x, signed_y = to_signed(x, width), to_signed(y, width)
    match operation:
        case "add":
            result = x + y
        case "sub":
            result = x - y
        case "mul":
            result = x * y
        case "and":
            result = x & y
        case "or":
            result = x | y
        case "xor":
            result = x ^ y
        case "neg":
            result = -x
        case "lsh":
            result = x << (y % width)
        case "rsh":
            result = x >> (y % width)
        case "arsh":
            result = signed_x >> (y % width)
        case "div":
            result = x // y if y else 0
        case "mod":
            result = x % y if y else x
        case "sdiv":
            result = int(abs(signed_x) // abs(signed_y)) * (1 if (signed_x < 0) == (signed_y < 0) else -1) if y else 0
        case _:
            result = (abs(signed_x) % abs(signed_y)) * (-1 if signed_x < 0 else 1) if y else x
    return result & top


SETTINGS = settings(max_examples=80, derandomize=True, deadline=None)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("operation", sorted(arithmetic.OPERATIONS))
def test_arithmetic_is_sound(operation: str, width: int) -> None:
    @SETTINGS
    @given(scalars(), scalars())
    def law(left: tuple[Scalar, int], right: tuple[Scalar, int]) -> None:
        a, x = left
        b, y = left if operation == "neg" else right
        result = Scalar(arithmetic.compute(operation, width, a, b).key)
        assert result.contains(concrete(operation, width, x, y) or 0), (a.key, b.key, x, y, result.key)

    law()


@SETTINGS
@given(scalars(), st.sampled_from([1, 2, 4]), st.sampled_from([32, 64]))
def test_moves_and_widths_are_sound(pair: tuple[Scalar, int], size: int, width: int) -> None:
    a, x = pair
    assert Scalar(arithmetic.move32(a).key).contains(x & U32_MAX)
    assert Scalar(Bounds(a.key).truncate(size).key).contains(x & ((1 << 8 * size) - 1))
    extended = to_signed(x, 8 * size)
    assert Scalar(Bounds(a.key).sign_extend(size).sync().key).contains(to_unsigned(extended, 64))
    if size < 4 or width == 64:
        result = Scalar(arithmetic.move_sign_extended(a, size, width).key)
        assert result.contains(to_unsigned(extended, width))


@SETTINGS
@given(scalars(), st.sampled_from([2, 4, 8]), st.booleans())
def test_byte_swaps_are_sound(pair: tuple[Scalar, int], size: int, swap: bool) -> None:
    a, x = pair
    expected = swap_bytes(x, size) if swap else x & ((1 << 8 * size) - 1)
    assert Scalar(arithmetic.byte_swap(a, size, swap).key).contains(expected)


COMPARISONS: dict[str, Callable[[int, int, int], bool]] = {
    "jeq": lambda x, y, w: x == y,
    "jne": lambda x, y, w: x != y,
    "jset": lambda x, y, w: bool(x & y),
    "jgt": lambda x, y, w: x > y,
    "jge": lambda x, y, w: x >= y,
    "jlt": lambda x, y, w: x < y,
    "jle": lambda x, y, w: x <= y,
    "jsgt": lambda x, y, w: to_signed(x, w) > to_signed(y, w),
    "jsge": lambda x, y, w: to_signed(x, w) >= to_signed(y, w),
    "jslt": lambda x, y, w: to_signed(x, w) < to_signed(y, w),
    "jsle": lambda x, y, w: to_signed(x, w) <= to_signed(y, w),
}


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("operation", COMPARISONS)
def test_branches_are_sound(operation: str, width: int) -> None:
    @SETTINGS
    @given(scalars(), scalars())
    def law(left: tuple[Scalar, int], right: tuple[Scalar, int]) -> None:
        (a, x), (b, y) = left, right
        top = (1 << width) - 1
        truth = COMPARISONS[operation](x & top, y & top, width)
        decided = decide(operation, width, a, b)
        if decided is not None:
            assert decided == truth, (a.key, b.key, x, y)
            return
        what = operation if truth else NEGATED[operation]
        new_a, new_b = refine(what, width, a, b)
        assert Scalar(new_a.key).contains(x), (a.key, b.key, x, y, new_a.key)
        assert Scalar(new_b.key).contains(y), (a.key, b.key, x, y, new_b.key)

    law()


@SETTINGS
@given(scalars())
def test_sync_is_sound_and_only_narrows(pair: tuple[Scalar, int]) -> None:
    a, x = pair
    again = Scalar(Bounds(a.key).sync().key)
    assert again.contains(x)
    assert again.umin >= a.umin and again.umax <= a.umax and again.smin >= a.smin and again.smax <= a.smax


def test_what_a_number_is_in_words() -> None:
    assert Scalar(Bounds.constant(7).key).describe() == "7"
    assert Scalar(Bounds.unknown().truncate(1).key).describe() == "0..255"
    assert Scalar(Bounds.unknown().key).describe() == "any number"
