"""Running a program as plain Python: the function itself on a bytearray, under pdb and coverage if one likes.

The function is called with its own code object. Only its global names are looked up through `LanguageGlobals`, so that
`len(pkt)` gives the u32 that it is in the kernel, and functions that it calls take and give their annotated types.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any

from ebpfkit.dsl.builtins import BUILTINS
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.running import RUN, Run, ShortExit
from ebpfkit.dsl.types import Integer, NetworkInteger
from ebpfkit.dsl.verdicts import XdpAction
from ebpfkit.errors import CompileError
from ebpfkit.maps.store import MapStore
from ebpfkit.span import Span

if TYPE_CHECKING:
    from ebpfkit.dsl.program import Frame, Program

__all__ = ["PythonRun", "run_python"]


@dataclass(frozen=True, slots=True)
class PythonRun:
    """What a run did: the verdict, the packet afterwards, whether it left by the short exit (why, or ""), redirects."""

    action: XdpAction
    data: bytes
    short: str = ""
    redirect: tuple[str, int] | None = None  # map name and key, or "" and interface index


def run_python(
    program: Program,
    frame: Frame,
    *,
    cpu: int = 0,
    clock: Callable[[], int] | None = None,
    random: Callable[[], int] | None = None,
    ingress_ifindex: int = 0,
    rx_queue: int = 0,
    maps: Mapping[MapFacade, MapStore] | None = None,
) -> PythonRun:
    """Run `program` on one packet.

    `clock` gives nanoseconds (default: the monotonic clock) and `random` numbers of 32 bits (default: a fixed
    sequence); `maps` puts other stores in the place of the maps' own. Raises CompileError for what the language
    refuses, at the author's line.
    """
    packet = Packet(bytearray(bytes(frame)), ingress_ifindex=ingress_ifindex, rx_queue_index=rx_queue)
    run = Run(packet, program.license, cpu, clock or time.monotonic_ns, random or _Sequence(), maps or {})
    program.name_maps()
    function = in_language(program.function)
    token = RUN.set(run)
    short = ""
    try:
        returned: object = function(packet)
    except ShortExit as leaving:
        returned = program.short
        short = str(leaving)
    finally:
        RUN.reset(token)
    if run.reserved:
        name = run.reserved[0].name
        raise CompileError(
            f"{program.name}() ends with a record of '{name}' that was neither submitted nor discarded",
            code="record-leak",
            hint="call .submit() or .discard() on every path",
        )
    return PythonRun(_verdict(program, returned), bytes(packet._region.data), short, run.redirect)


def _verdict(program: Program, returned: object) -> XdpAction:
    """The verdict that a program returned. Raises CompileError when it is none."""
    if isinstance(returned, Integer | NetworkInteger) and (returned.__ebpf_type__.signed or not _fits_u32(returned)):
        raise CompileError(
            f"{program.name}() returned a {returned.__ebpf_type__.name}, and a verdict is unsigned with 32 bits",
            code="narrowing",
            hint="write the cast u32(...)",
        )
    if isinstance(returned, int) and not isinstance(returned, bool) and returned in XdpAction._value2member_map_:
        return XdpAction(int(returned))
    raise CompileError(
        f"{program.name}() returned {returned!r}, which is no verdict of XDP",
        code="bad-verdict",
        hint="return XDP_PASS or another XdpAction",
    )


def _fits_u32(value: Integer | NetworkInteger) -> bool:
    return not value.__ebpf_type__.network and value.__ebpf_type__.bits <= 32


class _Sequence:
    """A repeatable stand-in for random numbers: the generator of Knuth's MMIX, its high 32 bits."""

    def __init__(self) -> None:
        self.state = 1

    def __call__(self) -> int:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & 0xFFFF_FFFF_FFFF_FFFF
        return self.state >> 32


class LanguageGlobals(dict[str, Any]):
    """The global names of a function as the language sees them. Empty: every look-up goes to the real globals."""

    def __init__(self, real: dict[str, Any]) -> None:
        super().__init__()
        self.real = real
        dict.__setitem__(self, "__builtins__", real.get("__builtins__", __builtins__))
        dict.__setitem__(self, "__name__", real.get("__name__", ""))

    def __missing__(self, name: str) -> Any:
        if name in self.real:
            return _seen_from_inside(self.real[name])
        if name in BUILTINS:
            return BUILTINS[name]
        raise KeyError(name)


def _is_users(value: object) -> bool:
    """Whether it is a function of the language (not of this package's own machinery)."""
    return isinstance(value, FunctionType) and not (value.__module__ or "").startswith("ebpfkit.dsl")


def _seen_from_inside(value: Any) -> Any:
    return _callee(value) if _is_users(value) else value


def in_language(function: FunctionType) -> FunctionType:
    """The same code, with global names as the language has them."""
    closure = tuple(CellType(_seen_from_inside(cell.cell_contents)) for cell in function.__closure__ or ())
    made = FunctionType(
        function.__code__,
        LanguageGlobals(function.__globals__),
        function.__name__,
        function.__defaults__,
        closure or None,
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def _callee(function: FunctionType) -> Callable[..., Any]:
    """A function that a program calls: arguments and result widen to their annotated types, as in the kernel."""
    known: Callable[..., Any] | None = function.__dict__.get(_CALLEE)
    if known is not None:
        return known
    inside = in_language(function)
    signature = inspect.signature(function)
    types = _annotated_types(function)
    result = types.pop("return", None)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, kind in types.items():
            if name in bound.arguments:
                bound.arguments[name] = _widen(kind, bound.arguments[name])
        value = inside(*bound.args, **bound.kwargs)
        return value if result is None else _widen(result, value)

    function.__dict__[_CALLEE] = call
    return call


_CALLEE = "__ebpf_callee__"


def _annotated_types(function: FunctionType) -> dict[str, Any]:
    """The integer types among the annotations of a function."""
    try:
        annotations = inspect.get_annotations(function, eval_str=True)
    except NameError as error:
        span = Span(function.__code__.co_filename, function.__code__.co_firstlineno, function=function.__name__)
        message = f"{function.__name__}(): the annotation names something unknown: {error}"
        raise CompileError(message, span=span, code="unknown-name") from error
    numbers = (Integer, NetworkInteger)
    return {name: kind for name, kind in annotations.items() if isinstance(kind, type) and issubclass(kind, numbers)}


def _widen(kind: Any, value: Any) -> Any:
    return value if type(value) is kind else kind(kind.accept(value))
