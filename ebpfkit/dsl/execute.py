"""Running a program as plain Python: the function itself on a bytearray, under pdb and coverage if one likes.

The function is called with its own code object. Only its global names are looked up through `LanguageGlobals`, so that
`len(pkt)` gives the u32 that it is in the kernel, and functions that it calls take and give their annotated types.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any

from ebpfkit.dsl.builtins import BUILTINS
from ebpfkit.dsl.functions import subprogram_of
from ebpfkit.dsl.kfuncs import is_kfunc, of_kernel
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.packet import Packet, Reader
from ebpfkit.dsl.parameters import context_fields, given_values
from ebpfkit.dsl.prog_arrays import TailCall
from ebpfkit.dsl.running import RUN, Run, ShortExit
from ebpfkit.dsl.skbuff import SkBuff
from ebpfkit.dsl.types import Integer, NetworkInteger
from ebpfkit.errors import CompileError, UsageError
from ebpfkit.maps.store import MapStore
from ebpfkit.span import Span

if TYPE_CHECKING:
    from ebpfkit.dsl.program import Frame, Program

__all__ = ["PythonRun", "run_python", "run_tracing"]


@dataclass(frozen=True, slots=True)
class PythonRun:
    """What a run did: the verdict, the packet afterwards, whether it left by the short exit (why, or ""), and more."""

    action: int
    data: bytes
    short: str = ""
    redirect: tuple[str, int] | None = None  # map name and key, or "" and interface index
    traced: tuple[str, ...] = ()  # the lines of `trace`


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
    context: Mapping[str, int] | None = None,
) -> PythonRun:
    """Run `program` on one packet.

    `clock` gives nanoseconds (default: the monotonic clock) and `random` numbers of 32 bits (default: a fixed
    sequence); `maps` puts other stores in the place of the maps' own; `context` gives fields of a `SkBuff` by name.
    Raises CompileError for what the language refuses, at the author's line.
    """
    data = bytes(frame)
    packet: Packet | SkBuff
    if program.kind.context is Packet:
        egress = (context or {}).get("egress_ifindex", 0) if program.at == "devmap" else None
        packet = Packet(
            bytearray(data), ingress_ifindex=ingress_ifindex, rx_queue_index=rx_queue, egress_ifindex=egress
        )
    else:
        around = {"ifindex": ingress_ifindex, "ingress_ifindex": ingress_ifindex, "queue_mapping": rx_queue}
        packet = SkBuff(data, program.kind, {**around, **(context or {})})
    run = Run(packet, program.license, cpu, clock or time.monotonic_ns, random or _Sequence(), maps or {})
    action, short = _run(program, run, [packet])
    after = bytes(packet._region.data) if isinstance(packet, Packet) else packet.frame
    return PythonRun(action, after, short, run.redirect, tuple(run.traced))


def run_tracing(
    program: Program,
    arguments: Sequence[Any],
    *,
    cpu: int = 0,
    clock: Callable[[], int] | None = None,
    random: Callable[[], int] | None = None,
    context: Mapping[str, int] | None = None,
    maps: Mapping[MapFacade, MapStore] | None = None,
) -> PythonRun:
    """Run a tracing program on its arguments or its record; `context` gives the fields of its `Context`."""
    given = context or {}
    values = given_values(program, arguments, {name: given.get(name, 0) for name in context_fields(program)})
    run = Run(Reader(), program.license, cpu, clock or time.monotonic_ns, random or _Sequence(), maps or {})
    action, short = _run(program, run, values)
    return PythonRun(action, b"", short, run.redirect, tuple(run.traced))


def _run(program: Program, run: Run, values: Sequence[object]) -> tuple[int, str]:
    """Call the function as the language sees it: what it returned, and why it was cut short."""
    program.name_maps()
    run.kind = program.kind
    function = in_language(program.function)
    token = RUN.set(run)
    short = ""
    try:
        returned: object = function(*values)
    except TailCall as jump:
        run.packet._cursor = 0
        run.license = jump.program.license
        return _run(jump.program, run, values)
    except ShortExit as leaving:
        if not program.kind.has_packet:
            what = f"{leaving}; a {program.kind.decorator} program has no verdict for that"
            raise CompileError(what, code="no-short-exit", hint="use get() or peek()") from None
        returned = program.short
        short = str(leaving)
    except AssertionError as failed:  # the author's `assert`; one of this package's own is a bug
        if _is_raised_here(failed):
            raise
        returned = program.short
        short = f"assert: {failed}"
    finally:
        RUN.reset(token)
    if run.allocated:
        what = f"{program.name}() ends with an object that was neither dropped nor put into a map's value"
        raise CompileError(what, code="object-leak", hint="call bpf.drop(x), or value.field.swap(x), on every path")
    if run.reserved:
        name = run.reserved[0].name
        raise CompileError(
            f"{program.name}() ends with a record of '{name}' that was neither submitted nor discarded",
            code="record-leak",
            hint="call .submit() or .discard() on every path",
        )
    return _verdict(program, returned), short


def _is_raised_here(error: AssertionError) -> bool:
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return last is not None and last.tb_frame.f_globals.get("__name__", "").startswith("ebpfkit.")


def _verdict(program: Program, returned: object) -> int:
    """The verdict that a program returned. Raises CompileError when it is none."""
    kind = program.kind
    if returned is None and not kind.has_packet:
        return 0
    if kind.verdict is None:
        return _number(program, returned)
    if isinstance(returned, Integer | NetworkInteger) and (returned.__ebpf_type__.signed or not _fits_u32(returned)):
        raise CompileError(
            f"{program.name}() returned a {returned.__ebpf_type__.name}, and a verdict is unsigned with 32 bits",
            code="narrowing",
            hint="write the cast u32(...)",
        )
    if isinstance(returned, int) and not isinstance(returned, bool) and returned in kind.verdict._value2member_map_:
        return kind.verdict(int(returned))
    raise CompileError(
        f"{program.name}() returned {returned!r}, which is no verdict of {_WORDS.get(kind.decorator, 'its type')}",
        code="bad-verdict",
        hint=f"return {kind.answer}",
    )


_WORDS = {"xdp": "XDP", "tc": "traffic control", "cgroup_skb": "a control group"}


def _number(program: Program, returned: object) -> int:
    """The number that a program returned, of a type that answers with one."""
    kind = program.kind
    if isinstance(returned, bool) or not isinstance(returned, int) or not kind.lowest <= returned <= kind.highest:
        raise CompileError(f"{program.name}() returned {returned!r}", code="bad-verdict", hint=f"return {kind.answer}")
    return int(returned)


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
    if not __debug__:
        _refuse_lost_asserts(function)
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


def _refuse_lost_asserts(function: FunctionType) -> None:
    """Python without asserts (-O) would run another function than the one that is compiled."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        return
    lost = next((node for node in ast.walk(tree) if isinstance(node, ast.Assert)), None)
    if lost is not None:
        raise UsageError(f"python -O has removed the asserts of {function.__name__}(): run it without -O")


def _callee(function: FunctionType) -> Callable[..., Any]:
    """A function that a program calls: arguments and result widen to their annotated types, as in the kernel."""
    known: Callable[..., Any] | None = function.__dict__.get(_CALLEE)
    if known is not None:
        return known
    inside: Callable[..., Any] = in_language(function)
    if is_kfunc(function):
        inside = of_kernel(function, inside)
    signature = inspect.signature(function)
    types = _annotated_types(function)
    result = types.pop("return", None)
    noted = subprogram_of(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        for name, kind in types.items():
            if name in bound.arguments:
                bound.arguments[name] = _widen(kind, bound.arguments[name])
        value = inside(*bound.args, **bound.kwargs) if noted is None else noted.run(inside, bound)
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
