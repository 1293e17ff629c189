"""Closes what the probes opened."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.abi.loads import OPEN, inner_map, map_of


@pytest.fixture(scope="package", autouse=True)
def close_maps() -> Iterator[None]:
    yield
    while OPEN:
        os.close(OPEN.pop())
    map_of.cache_clear()
    inner_map.cache_clear()
