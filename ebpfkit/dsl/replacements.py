"""`@freplace`: a program that takes the place of a global function of a loaded one (kernel 5.6)."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, NoReturn

from ebpfkit.dsl.functions import subprogram_of
from ebpfkit.dsl.kinds import KINDS
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.refusal import refuse
from ebpfkit.elf.run_config import RunConfig
from ebpfkit.errors import UsageError

__all__ = ["Replacement", "freplace"]


class Replacement(Program[Any]):
    """A function in the place of another: `target` is the name of the global function that it replaces."""

    def __init__(self, function: Callable[..., Any], target: str, *, of: str, short: int, name: str) -> None:
        kind = KINDS.get(of)
        if kind is None or not kind.has_packet:
            raise UsageError(f"of= names the type of the program whose function is replaced, such as 'xdp', not {of!r}")
        if not isinstance(function, FunctionType):
            refuse("not-a-function", f"@freplace decorates a function, not a {type(function).__name__}")
        self.__doc__ = function.__doc__
        self.function, self.kind, self.target = function, kind, target
        self.name = name or function.__name__
        self.short, self.frags, self.at, self._named = short, False, "", False
        self.run_config = RunConfig()

    @property
    def prog_type(self) -> str:
        return "ext"

    @property
    def section(self) -> str:
        return f"freplace/{self.target}"

    def __repr__(self) -> str:
        return f"<replacement {self.name} of {self.target}>"

    def __call__(self, *arguments: Any) -> NoReturn:
        """Not in plain Python: there is nobody whose function it could replace."""
        raise UsageError(f"{self.name} replaces {self.target}() of a loaded program: attach it to that")


def freplace(
    target: str | Callable[..., Any], /, *, of: str = "xdp", short: int = 0, name: str = ""
) -> Callable[[Callable[..., Any]], Replacement]:
    """Make a program of a function that takes the place of a global one in every call of it, while it is attached.

        @bpf.freplace(count)                              # or its name, "count"
        def count_twice(seen: Seen, length: u32) -> bool: ...

        with functions.load() as loaded, count_twice.attach(loaded.programs["functions"]):

    Parameters and result are annotated as the function's that it replaces. `of` is the type of the program that has it.
    """
    if not isinstance(target, str):
        noted = subprogram_of(target)
        if noted is None or noted.linkage != "global":
            what = getattr(target, "__name__", type(target).__name__)
            refuse(
                "not-replaceable", f"{what} is no global function, and only those can be replaced", "@bpf.global_func"
            )
        target = target.__name__
    named = target
    return lambda function: Replacement(function, named, of=of, short=short, name=name)
