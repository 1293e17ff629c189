"""Our verdict against the running kernel's on random programs, mutants and broken bytes: a short campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cases import program
from differential import Outcome, compare_bytes, compare_program, mutants_of
from generator import generate

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

pytestmark = pytest.mark.kernel


def _assert_agreement(outcomes: list[Outcome]) -> None:
    unsound = [o for o in outcomes if o.ours == "accept" and o.kernel == "reject"]
    assert not unsound, unsound[0]
    wrong = [o for o in outcomes if o.ours == "reject" and o.kernel == "accept"]
    assert not wrong, wrong[0]
    accepted = [o for o in outcomes if o.ours == o.kernel == "accept"]
    assert len(accepted) > len(outcomes) // 20
    assert sum(o.walked for o in accepted) == pytest.approx(sum(o.kernel_walked for o in accepted), rel=0.02)


def test_well_formed_programs(oracle: KernelOracle) -> None:
    outcomes = [
        o for seed in range(150) if (o := compare_program(program(generate(seed)[0]), oracle, seed)) is not None
    ]
    _assert_agreement(outcomes)
    accepted = sum(o.kernel == "accept" for o in outcomes)
    assert 0.3 < accepted / len(outcomes) < 0.95


def test_mutants(oracle: KernelOracle) -> None:
    outcomes = []
    for seed in range(150, 300):
        for spec in mutants_of(program(generate(seed)[0]), seed, 1):
            outcome = compare_program(spec, oracle, seed)
            if outcome is not None:
                outcomes.append(outcome)
    _assert_agreement(outcomes)


def test_broken_bytes(oracle: KernelOracle) -> None:
    _assert_agreement([o for seed in range(200) if (o := compare_bytes(seed, oracle)) is not None])
