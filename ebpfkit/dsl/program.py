"""`Program`: what `@xdp` and its siblings make of a function. It runs as plain Python here; the rest is the pipeline's.

The methods `build`, `verify`, `run`, `load` and `attach` import `ebpfkit.pipeline` when they are called: the one edge
that leads up.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Generic, SupportsBytes

from ebpfkit.dsl.kfuncs import is_kfunc
from ebpfkit.dsl.kinds import KINDS, Kind
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.prog_arrays import ProgArray
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.variables import Var
from ebpfkit.elf.run_config import RunConfig
from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from ebpfkit.elf.model import ObjectFile
    from ebpfkit.pipeline import Link, Loaded, Report, Result

    V = TypeVar("V", bound=int, covariant=True, default=Any)
else:
    from typing import TypeVar

    V = TypeVar("V")

__all__ = ["Frame", "Program", "TracingProgram"]

Frame = bytes | bytearray | memoryview | SupportsBytes


class Program(Generic[V]):
    """A function of the language that is a program of the kernel's: of XDP, unless its decorator says otherwise.

    `function` is the function itself, `kind` the row of its type, `section` its ELF section, `short` the verdict for
    packets too short to read, `license` what its module says in `LICENSE`. Calling it with a frame runs it as plain
    Python; its verdict is a `V`.
    """

    def __init__(
        self,
        function: Callable[..., int | None],
        *,
        kind: Kind = KINDS["xdp"],
        short: int | None = None,
        frags: bool = False,
        at: str = "",
        name: str = "",
        run_config: RunConfig | None = None,
    ) -> None:
        if not isinstance(function, FunctionType):
            refuse("not-a-function", f"@{kind.decorator} decorates a function, not a {type(function).__name__}")
        if name and not name.isidentifier():
            raise UsageError(f"the program name '{name}' is no identifier")
        if kind.has_packet and len(inspect.signature(function).parameters) != 1:
            refuse("bad-signature", f"the program {function.__name__}() takes the packet and nothing else")
        functools.update_wrapper(self, function)
        self.function: FunctionType = function
        self.kind = kind
        self.name: str = name or function.__name__
        self.short = _short_verdict(kind, short)
        self.frags = frags
        self.at = at
        self.run_config = run_config or RunConfig()
        self._named = False

    @property
    def prog_type(self) -> str:
        """The type of the program, in bpftool's words."""
        return self.kind.prog_type

    @property
    def section(self) -> str:
        """The ELF section, in libbpf's words."""
        base = f"{self.kind.section}.frags" if self.frags else self.kind.section
        return f"{base}/{self.at}" if self.at else base

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
        return f"<{self.kind.decorator} program {self.name}>"

    def __call__(self, frame: Frame, /) -> V:
        """Run as plain Python on one packet; its verdict. Maps keep what the run did to them."""
        from ebpfkit.dsl.execute import run_python

        self._refuse_inside()
        action: Any = run_python(self, frame).action
        verdict: V = action
        return verdict

    def _refuse_inside(self) -> None:
        if current_run() is not None:
            refuse(
                "calls-program",
                f"{self.name} is a program, and programs do not call each other",
                f"move the common part into a function without @{self.kind.decorator}",
            )

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

    def attach(self, place: Any = None, mode: str | None = None, **options: Any) -> Link:
        """Load and attach to a place that suits the program's type.

        XDP: a device; `mode` is "native", "skb" or "hw" (None: the kernel chooses). Traffic control: a device, and
        "ingress" or "egress". Control groups: the path of one. Socket filters: a socket. Probes and tracepoints know
        their place themselves. Perf events: `pid=`, `cpu=`, `hz=`.
        """
        from ebpfkit import pipeline

        return pipeline.attach(self, place, mode, **options)


class TracingProgram(Program[int]):
    """A program that the kernel calls with arguments or a record, not with a packet. `parameters` are its own names."""

    def __init__(self, function: Callable[..., int | None], *, kind: Kind, target: str, name: str = "") -> None:
        super().__init__(function, kind=kind, at=target, name=name)
        if kind.needs_target and not target:
            raise UsageError(f"@{kind.decorator}(...) names {kind.needs_target}")
        self.target = target

    def __call__(self, *arguments: Any) -> int:
        """Run as plain Python on these arguments, in the order of its parameters (or on a record); what it returns."""
        from ebpfkit.dsl.execute import run_tracing

        self._refuse_inside()
        return run_tracing(self, arguments).action

    def run(self, *arguments: Any, on: str = "python", **options: Any) -> Result:
        """Run on these arguments, or on a record, in the executor `on`; see `Program.run`."""
        from ebpfkit import pipeline

        return pipeline.run_tracing(self, arguments, on=on, **options)


def _short_verdict(kind: Kind, short: int | None) -> int:
    """The verdict for a packet that is too short: what was said, or that which lets no packet pass."""
    if short is None:
        return next((member for member in kind.verdict or () if member.name in _DROPS), 0)
    if kind.verdict is not None and not isinstance(short, kind.verdict):
        refuse("bad-verdict", f"short= is a verdict such as {kind.answer.split()[0]}, not {short!r}")
    if isinstance(short, bool) or not kind.lowest <= short <= kind.highest:
        refuse("bad-verdict", f"short= is {kind.answer}, not {short!r}")
    return short


_DROPS = frozenset({"XDP_ABORTED", "TC_ACT_SHOT", "SK_DROP"})


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
                if isinstance(found, ProgArray):
                    for program in found.programs.values():
                        if id(program.function) not in seen:
                            yield from _globals_of(program.function, seen)
            elif isinstance(found, Var):
                seen.add(id(found))
                yield found
            elif isinstance(found, FunctionType) and not _is_foreign(found):
                yield from _globals_of(found, seen)


def _is_foreign(function: FunctionType) -> bool:
    """Whether a function is no part of the program: this package's own, or one of the kernel's."""
    return is_kfunc(function) or function.__module__.startswith("ebpfkit.")


def _names_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    yield from code.co_freevars
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_of(constant)
