"""Whole modules of tests run a second time with native code, where the machine stands for any executor."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ebpfkit.vm.jit import Unit
from ebpfkit.vm.machine import Machine

TWICE = {"test_contexts", "test_clang_programs", "test_helpers", "test_machine"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__.rpartition(".")[2] in TWICE:
        metafunc.fixturenames.append("executor")
        metafunc.parametrize("executor", ["interpreter", "safe"], indirect=True)


@pytest.fixture
def executor(request: pytest.FixtureRequest) -> Iterator[None]:
    """What `Machine` uses when a test does not say."""
    defaults = Machine.__init__.__kwdefaults__
    assert defaults is not None
    if request.param == "interpreter":
        yield
        return
    defaults["jit"], Unit.speed = request.param, 0
    try:
        yield
    finally:
        defaults["jit"], Unit.speed = None, 2
