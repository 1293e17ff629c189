"""Every example in a docstring of the language runs and gives what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import ebpfkit.dsl
import ebpfkit.net

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (ebpfkit.dsl, ebpfkit.net)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_public_names_exist_and_have_a_docstring():
    for name in MODULES:
        module = importlib.import_module(name)
        for public in module.__all__:
            value = getattr(module, public)
            if isinstance(value, type) or callable(value):
                assert value.__doc__, f"{name}.{public}"
