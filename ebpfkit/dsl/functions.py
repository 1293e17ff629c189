"""Functions that stay functions in the kernel: `@noinline` and `@global_func`.

Without either a function is compiled where it is called. What they mean in plain Python is here and in `execute`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import BoundArguments
from types import FunctionType
from typing import Any, TypeVar, overload

from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import ShortExit, current_run

__all__ = ["Subprogram", "global_func", "noinline", "subprogram_of"]

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__ebpf_subprogram__"


@dataclass(frozen=True, slots=True)
class Subprogram:
    """How a function is compiled: `linkage` is "static" or "global".

    `short` is what a global one returns where the packet is too short or a key is missing.
    """

    linkage: str
    short: int = 0

    def run(self, inside: Callable[..., Any], bound: BoundArguments) -> Any:
        """Call it as plain Python; a global function looks at the packet from its beginning, with its own exit."""
        if self.linkage == "static":
            return inside(*bound.args, **bound.kwargs)
        run = current_run()
        packet = run.packet if run is not None else None
        before = (packet._region, packet._cursor) if packet is not None else None
        if packet is not None:
            packet._cursor = 0
        try:
            return inside(*bound.args, **bound.kwargs)
        except ShortExit:
            return self.short
        finally:
            if packet is not None and before is not None and packet._region is before[0]:
                packet._cursor = before[1]


def subprogram_of(function: object) -> Subprogram | None:
    """What the decorators noted about a function; None for one that is inlined."""
    return getattr(function, _MARK, None)


def _mark(function: F, noted: Subprogram, decorator: str) -> F:
    given: object = function
    if not isinstance(given, FunctionType):
        refuse("not-a-function", f"@{decorator} decorates a function, not a {type(given).__name__}")
    setattr(function, _MARK, noted)
    return function


def noinline(function: F, /) -> F:
    """Compile a function once, and call it: a static subprogram, with up to five arguments.

    The verifier walks it at each call, with what is known there. Its parameters need annotations where they are
    numbers, and its result needs one. A structure is passed by its address; the packet goes along with its cursor.
    """
    return _mark(function, Subprogram("static"), "noinline")


@overload
def global_func(function: F, /) -> F: ...
@overload
def global_func(*, short: int = 0) -> Callable[[F], F]: ...
def global_func(function: F | None = None, /, *, short: int = 0) -> F | Callable[[F], F]:
    """A global subprogram: verified once and apart, whatever its callers know, and replaceable by an ext program.

    Parameters and result are annotated: the packet, numbers, and structures, which go by their address. The packet's
    cursor begins at its first byte and the caller's stays; where the packet is too short the result is `short`.
    """
    if function is not None:
        return _mark(function, Subprogram("global"), "global_func")
    return lambda wrapped: _mark(wrapped, Subprogram("global", short), "global_func")
