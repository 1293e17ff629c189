"""Random programs: plain Python, the virtual machine and the kernel agree on verdict, bytes and maps.

A long run is `python -m tests.compiler.test_random FIRST LAST`; what it finds becomes a case of the tables.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfkit.errors import CompileError, EbpfError
from tests.compiler.random_programs import MAPS, random_body
from tests.compiler.support import check, packets, program

FOLDED = {"division-by-zero"}
"""Refusals that a random program may well deserve: constants that meet."""


def agree_on(seed: int, folder: Path) -> bool:
    """Whether the random program of this number compiled; raises when executors differ."""
    prog = program(random_body(seed), folder, MAPS)
    try:
        check(prog, packets(3, seed=seed), kernel=True)
    except CompileError as error:
        if error.code not in FOLDED:
            raise
        return False
    finally:
        Path(prog.function.__code__.co_filename).unlink()
    return True


@pytest.mark.kernel
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 1 << 32))
def test_random_programs_mean_the_same_everywhere(seed: int):
    with tempfile.TemporaryDirectory() as folder:
        agree_on(seed, Path(folder))


def main() -> None:
    first, last = int(sys.argv[1]), int(sys.argv[2])
    compiled = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, last):
            try:
                compiled += agree_on(seed, Path(folder))
            except (AssertionError, EbpfError) as error:
                failed += 1
                print(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}", flush=True)
    print(f"{last - first} programs, {compiled} compiled and ran, {failed} failed")


if __name__ == "__main__":
    main()
