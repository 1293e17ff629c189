"""The option that rewrites golden files."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/compiler/golden/*")


@pytest.fixture(autouse=True)
def no_kept_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test compiles: what an earlier run kept says nothing about this one."""
    monkeypatch.setenv("EBPFKIT_CACHE", "")
