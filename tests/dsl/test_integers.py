"""Integers of a width: wrapping, the rule for results, what is refused and which cast the message names."""

from __future__ import annotations

import ctypes
import operator
import pickle
from enum import IntEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.dsl.types import be16, s8, s16, s32, s64, u8, u16, u32, u64
from ebpfkit.dsl.verdicts import XDP_PASS
from ebpfkit.errors import CompileError

C_TYPES = {
    u8: ctypes.c_uint8, u16: ctypes.c_uint16, u32: ctypes.c_uint32, u64: ctypes.c_uint64,
    s8: ctypes.c_int8, s16: ctypes.c_int16, s32: ctypes.c_int32, s64: ctypes.c_int64,
}  # fmt: skip
KINDS = list(C_TYPES)
SYMBOLS = {"+": operator.add, "-": operator.sub, "*": operator.mul,
           "&": operator.and_, "|": operator.or_, "^": operator.xor}  # fmt: skip
LAW = settings(derandomize=True, max_examples=300, deadline=None)


@LAW
@given(st.sampled_from(KINDS), st.sampled_from(sorted(SYMBOLS)), st.integers(), st.integers())
def test_arithmetic_is_that_of_c(kind, symbol, a, b):
    left, right = kind(a), kind(b)
    assert int(left) == C_TYPES[kind](a).value
    result = SYMBOLS[symbol](left, right)
    assert type(result) is kind
    assert int(result) == C_TYPES[kind](SYMBOLS[symbol](int(left), int(right))).value


@LAW
@given(st.sampled_from(KINDS), st.integers())
def test_unary_operators_wrap(kind, a):
    value = kind(a)
    for result, expected in ((-value, -int(value)), (~value, ~int(value)), (+value, int(value))):
        assert type(result) is kind
        assert int(result) == C_TYPES[kind](expected).value


@LAW
@given(st.sampled_from([u8, u16, u32, u64]), st.integers(0), st.integers(0))
def test_division_is_python_s_and_by_a_run_time_zero_the_machine_s(kind, a, b):
    left, right = kind(a), kind(b)
    if right:
        assert (int(left // right), int(left % right)) == divmod(int(left), int(right))
    else:
        assert (int(left // right), int(left % right)) == (0, int(left))


@LAW
@given(st.sampled_from(KINDS), st.integers(), st.integers(0))
def test_a_run_time_shift_is_modulo_the_width(kind, a, amount):
    bits = kind.__ebpf_type__.bits
    value, by = kind(a), kind(amount % bits)
    assert int(value << by) == C_TYPES[kind](int(value) << amount % bits).value
    assert int(value >> by) == int(value) >> amount % bits
    assert u8(1) << u8(9) == 2
    assert u64(1) << u64(64) == 1


@LAW
@given(st.sampled_from(KINDS), st.data())
def test_a_literal_takes_the_type_of_the_other_operand(kind, data):
    info = kind.__ebpf_type__
    low = -(1 << info.bits - 1) if info.signed else 0
    literal = data.draw(st.integers(low, (1 << info.bits - info.signed) - 1))
    value = kind(7)
    for result in (value + literal, literal + value, value ^ literal, literal - value):
        assert type(result) is kind


class Color(IntEnum):
    RED = 3


def test_constants_of_an_enumeration_are_literals():
    assert u8(4) + Color.RED == 7
    assert u8(4) + XDP_PASS == 6
    assert Color.RED + u8(4) == 7


REFUSED = [
    (lambda: u32(1) + u64(1), "mixed-types", "u32 + u64 mixes types; write the cast u64(...)"),
    (lambda: u64(1) + u32(1), "mixed-types", "write the cast u64(...)"),
    (lambda: u32(1) - s32(1), "mixed-types", "u32 - s32 mixes types"),
    (lambda: u32(1) & True, "mixed-types", "u32 & bool"),
    (lambda: u8(1) + 256, "does-not-fit", "256 does not fit u8; write u8(256) to wrap it"),
    (lambda: u32(1) + -1, "does-not-fit", "-1 does not fit u32; write - 1"),
    (lambda: u32(1) - -3, "does-not-fit", "write + 3"),
    (lambda: s8(1) + 128, "does-not-fit", "128 does not fit s8"),
    (lambda: s32(-7) // 2, "signed-division", "cast to u32"),
    (lambda: s64(-7) % s64(2), "signed-division", "Python rounds down"),
    (lambda: 7 // s16(2), "signed-division", "cast to u16"),
    (lambda: u32(7) // 0, "division-by-zero", "// by the constant 0"),
    (lambda: u32(7) % 0, "division-by-zero", "% by the constant 0"),
    (lambda: u32(7) / 2, "float", "write //"),
    (lambda: 7 / u32(2), "float", "write //"),
    (lambda: u32(7) ** 2, "power", "multiply"),
    (lambda: 2 ** u32(7), "power", "write 1 << n"),
    (lambda: divmod(u32(7), 2), "divmod", "write // and %"),
    (lambda: u32(1) << 32, "bad-shift", "a u32 is shifted by 0 to 31, not by 32"),
    (lambda: u8(1) >> -1, "bad-shift", "not by -1"),
    (lambda: u32(1) << u8(1), "mixed-types", "u32 << u8"),
    (lambda: u32(1) + 1.5, "bad-type", "u32 + float has no meaning"),
    (lambda: u32(1) + be16(1), "network-order", "write .to_host()"),
    (lambda: u16(be16(1)), "network-order", "u16(...) of a be16 would reinterpret"),
    (lambda: u16("1"), "bad-cast", "u16(...) takes an integer, not a str"),
    (lambda: u32(1) < s32(1), "mixed-signedness", "cast one of them: u32(...)"),
    (lambda: s64(1) == u64(1), "mixed-signedness", "s64 == u64"),
    (lambda: u32.accept(u64(1)), "narrowing", "write the cast u32(...)"),
    (lambda: u32.accept(s32(1)), "narrowing", "differ in signedness"),
    (lambda: s64.accept(u32(1)), "narrowing", "differ in signedness"),
    (lambda: u8.accept(300), "does-not-fit", "300 does not fit u8"),
    (lambda: u8(1).atomic_add(1), "atomic-width", "make the field a u32 or u64"),
    (lambda: u32(1).atomic_add(1), "atomic-place", "write +="),
]


@pytest.mark.parametrize(("action", "code", "text"), REFUSED)
def test_what_the_language_refuses_names_the_cast_to_write(action, code, text):
    with pytest.raises(CompileError) as caught:
        action()
    assert caught.value.code == code
    assert text in caught.value.message
    span = caught.value.span
    assert span is not None
    assert span.file == __file__
    assert span.text is not None
    assert "lambda" in span.text


def test_a_refusal_points_at_the_operation():
    a, b = u32(1), u64(1)
    with pytest.raises(CompileError) as caught:
        _ = 1 + int(b) + (a + b)
    span = caught.value.span
    assert span is not None
    assert span.text is not None
    assert span.end_column is not None
    assert span.text[span.column - 1 : span.end_column - 1] == "a + b"
    assert "^^^^^" in caught.value.render()


def test_comparison_and_assignment_widen_within_one_signedness():
    assert u8(5) < u64(6)
    assert s8(-1) == s64(-1)
    assert u8(255) != 300
    assert u8(5) != -1
    assert u64.accept(u8(5)) == 5
    assert s64.accept(s8(-5)) == -5


def test_values_hash_print_and_pickle_as_numbers():
    assert {u32(5): "x"}[5] == "x"
    assert (repr(u32(5)), str(u32(5)), f"{u32(255):#x}") == ("u32(5)", "5", "0xff")
    assert pickle.loads(pickle.dumps(s8(-3))) == s8(-3)
    assert type(pickle.loads(pickle.dumps(s8(-3)))) is s8
