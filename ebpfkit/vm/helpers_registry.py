"""The table of helpers that work in the machine: what registers a function under the name of its row in `abi`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import MappingProxyType
from typing import Final, TypeVar

__all__ = ["IMPLEMENTED", "arity", "implements"]

_Function = TypeVar("_Function", bound=Callable[..., int])
_registry: dict[str, Callable[..., int]] = {}
IMPLEMENTED: Final = MappingProxyType(_registry)
"""The function of each helper that works here, by name without `bpf_`."""


def implements(name: str) -> Callable[[_Function], _Function]:
    """Register a function as the helper of this name; its parameters behind the machine are the helper's arguments."""

    def register(function: _Function) -> _Function:
        _registry[name] = function
        return function

    return register


def arity(function: Callable[..., int]) -> int:
    """How many argument registers a helper reads."""
    return len(inspect.signature(function).parameters) - 1
