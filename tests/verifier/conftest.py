"""The kernel as an oracle, for tests with the `kernel` marker."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2] / "tools")]

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle


@pytest.fixture(scope="session")
def oracle() -> Iterator[KernelOracle]:
    from verifier_kernel import KernelOracle

    found = KernelOracle()
    yield found
    found.close()
