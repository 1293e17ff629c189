"""`Program`: what `@xdp` makes of a function. It runs as plain Python here; everything else is the pipeline's.

The methods `build`, `verify`, `run`, `load` and `attach` import `ebpfkit.pipeline` when they are called: the one edge
that leads up.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, SupportsBytes

from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.variables import Var
from ebpfkit.dsl.verdicts import XDP_ABORTED, XdpAction
from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.elf.model import ObjectFile
    from ebpfkit.pipeline import Link, Loaded, Report, Result

__all__ = ["Frame", "Program"]

Frame = bytes | bytearray | memoryview | SupportsBytes


class Program:
    """A function of the language that is an XDP program.

    `function` is the function itself, `section` its ELF section, `short` the verdict for packets too short to read,
    `license` what its module says in `LICENSE`. Calling it with a frame runs it as plain Python.
    """

    prog_type = "xdp"

    def __init__(
        self,
        function: Callable[[Packet], int],
        *,
        short: XdpAction = XDP_ABORTED,
        frags: bool = False,
        name: str = "",
    ) -> None:
        if not isinstance(function, FunctionType):
            refuse("not-a-function", f"@xdp decorates a function, not a {type(function).__name__}")
        if not isinstance(short, XdpAction):
            refuse("bad-verdict", f"short= is a verdict such as XDP_DROP, not {short!r}")
        if name and not name.isidentifier():
            raise UsageError(f"the program name '{name}' is no identifier")
        if len(inspect.signature(function).parameters) != 1:
            refuse("bad-signature", f"the program {function.__name__}() takes the packet and nothing else")
        functools.update_wrapper(self, function)
        self.function: FunctionType = function
        self.name: str = name or function.__name__
        self.short = short
        self.frags = frags
        self._named = False

    @property
    def section(self) -> str:
        """The ELF section, in libbpf's words."""
        return "xdp.frags" if self.frags else "xdp"

    @property
    def license(self) -> str:
        """The module's own `LICENSE`, or an empty string."""
        found = self.function.__globals__.get("LICENSE", "")
        if not isinstance(found, str):
            raise UsageError(f"LICENSE is a string such as 'GPL', not {found!r}")
        return found

    @property
    def maps(self) -> tuple[MapFacade, ...]:
        """The maps that the function and the functions it calls mention, in the order of mention."""
        return tuple(found for found in _globals_of(self.function, set()) if isinstance(found, MapFacade))

    @property
    def variables(self) -> tuple[Var[Any], ...]:
        """The global variables that the function and the functions it calls mention, in the order of mention."""
        return tuple(found for found in _globals_of(self.function, set()) if isinstance(found, Var))

    def name_maps(self) -> None:
        """Give maps of closures their names, and refuse bad names before anything runs; once is enough."""
        if not self._named:
            for facade in self.maps:
                _ = facade.name
            self._named = True

    def __repr__(self) -> str:
        return f"<xdp program {self.name}>"

    def __call__(self, frame: Frame, /) -> XdpAction:
        """Run as plain Python on one packet; its verdict. Maps keep what the run did to them."""
        from ebpfkit.dsl.execute import run_python

        if current_run() is not None:
            refuse(
                "calls-program",
                f"{self.name} is a program, and programs do not call each other",
                "move the common part into a function without @xdp",
            )
        return run_python(self, frame).action

    def run(self, frame: Frame, on: str = "python", **options: Any) -> Result:
        """Run on one packet in the executor `on`: "python", "interpreter", "jit", "kernel" or "native"."""
        from ebpfkit import pipeline

        return pipeline.run(self, bytes(frame), on=on, **options)

    def build(self, **options: Any) -> ObjectFile:
        """Compile to a linked object; `raw` holds the ELF bytes."""
        from ebpfkit import pipeline

        return pipeline.build(self, **options)

    def verify(self, **options: Any) -> Report:
        """Predict the verdict of a kernel's verifier (`kernel="6.6"`; without one 6.18)."""
        from ebpfkit import pipeline

        return pipeline.verify(self, **options)

    def load(self, **variables: Any) -> Loaded:
        """Load into the running kernel; the maps of the module are bound to the live maps."""
        from ebpfkit import pipeline

        return pipeline.load(self, **variables)

    def attach(self, dev: str, mode: str | None = None, **options: Any) -> Link:
        """Load and attach to a device; `mode` is "native", "skb" or "hw" (None: the kernel chooses)."""
        from ebpfkit import pipeline

        return pipeline.attach(self, dev, mode, **options)


def _globals_of(function: FunctionType, seen: set[int]) -> Iterator[MapFacade | Var[Any]]:
    """The map facades and variables that a function reaches by name, through its globals and closure."""
    seen.add(id(function))
    closure = dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in function.__closure__ or ())))
    for name in _names_of(function.__code__):
        value = closure.get(name, function.__globals__.get(name))
        owners = [value]
        if isinstance(value, ModuleType):  # module.map and module.function
            owners = [vars(value).get(inner) for inner in _names_of(function.__code__)]
        for found in owners:
            if id(found) in seen:
                continue
            if isinstance(found, MapFacade):
                seen.add(id(found))
                found.adopt_name(name)
                yield found
            elif isinstance(found, Var):
                seen.add(id(found))
                yield found
            elif isinstance(found, FunctionType) and not found.__module__.startswith("ebpfkit."):
                yield from _globals_of(found, seen)


def _names_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_of(constant)
