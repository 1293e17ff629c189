"""The table of values: one object for one value, constants computed at once, and a bound that changes no outcome."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.verifier.domain.arithmetic import OPERATIONS, compute, compute_exactly
from ebpfkit.verifier.domain.pointer import PACKET
from ebpfkit.verifier.domain.values import Values

_EDGES = [
    0,
    1,
    2,
    31,
    32,
    63,
    64,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
]
_NUMBERS = st.sampled_from(_EDGES) | st.integers(0, (1 << 64) - 1)


@settings(derandomize=True, max_examples=600, deadline=None)
@given(st.sampled_from(sorted(OPERATIONS - {"neg"})), st.sampled_from((32, 64)), _NUMBERS, _NUMBERS)
def test_constants_are_computed_as_the_bounds_say(operation: str, width: int, a: int, b: int) -> None:
    values = Values()
    exact = compute_exactly(operation, width, a, b)
    left, right = values.constant(a), values.constant(b)
    bounds = compute(operation, width, left, right)
    if exact is not None:
        assert (bounds.value, bounds.mask) == (exact, 0)
    assert values.compute(operation, width, left, right) is values.scalar(bounds)


def test_a_full_table_drops_only_what_nobody_holds() -> None:
    values = Values(limit=100)
    held = [values.constant(number) for number in range(40)]
    pointer = values.pointer(PACKET, None, 4, held[7])
    memo = values.new_memo()
    for number in range(1000, 5000):
        memo[values.constant(number)] = number
        values.pointer(PACKET, None, number)
    assert len(values) <= 400
    assert all(values.constant(number) is held[number] for number in range(40))
    assert values.pointer(PACKET, None, 4, held[7]) is pointer
    assert values.constant(0) is values.zero


def test_what_does_not_fit_is_remembered_until_the_table_is_full() -> None:
    values = Values(limit=100)
    one, two = values.constant(1), values.constant(2)
    one.misfits = {two}
    assert values.constant(1).misfits == {two}
    for number in range(1000, 3000):
        values.constant(number)
    assert one.misfits is None
