"""The table of kernel functions that work in the machine: what registers a function under its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import MappingProxyType
from typing import Final, NamedTuple, TypeVar

__all__ = ["CALLBACK_KFUNCS", "KFUNCS", "Kfunc", "Thrown", "kfunc"]

_Function = TypeVar("_Function", bound=Callable[..., int])

CALLBACK_KFUNCS: Final = frozenset({"bpf_rbtree_add_impl", "bpf_throw"})
"""Those that run functions of the program, or end it."""


class Thrown(Exception):
    """The program threw an exception: the run ends, and `cookie` is what it returns."""

    def __init__(self, cookie: int) -> None:
        super().__init__(cookie)
        self.cookie = cookie


class Kfunc(NamedTuple):
    """A kernel function: what does it, how many registers it reads, and the mask of what it returns."""

    function: Callable[..., int]
    arity: int
    mask: int


_registry: dict[str, Kfunc] = {}
KFUNCS: Final = MappingProxyType(_registry)
"""The function of each kernel function that works here, by name."""


def kfunc(name: str, *, bits: int = 32) -> Callable[[_Function], _Function]:
    """Register a function as the kernel function of this name; it returns a number of `bits`, zero-extended."""

    def register(function: _Function) -> _Function:
        arity = len(inspect.signature(function).parameters) - 1
        _registry[name] = Kfunc(function, arity, (1 << bits) - 1)
        return function

    return register
