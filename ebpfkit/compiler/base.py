"""What every part of lowering stands on: the frame, the state, names, places in the source, and reading constants.

Belongs here: no syntax of its own; the parts (`memory`, `operators`, `expressions`, `maps`, `calls`, `statements`)
build on it and are put together in `lower.py`.
"""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import types
from dataclasses import dataclass, field, replace
from typing import Any

from ebpfkit.compiler.ir import Builder, GlobalRef, Imm, Null, Operand, Place, Scope, Temp
from ebpfkit.compiler.source import FunctionSource
from ebpfkit.compiler.state import Binding, Conflict, Known, Record, State, constant_type, join
from ebpfkit.compiler.values import (
    BOOL,
    Bytes,
    Const,
    Location,
    OptionalScalar,
    OptionalView,
    Scalar,
    Space,
    Tuple,
    Value,
    View,
    Void,
    chunks,
    describe,
    ir_type,
    scalar,
    shape_of,
)
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.variables import Config, Var
from ebpfkit.errors import CompileError, EbpfError
from ebpfkit.span import Span

__all__ = ["MOST_BITS", "MOST_INLINED", "Base", "Frame", "Loop", "assigned_names"]

_MISSING = object()
MOST_BITS = 4096
"""The largest number that a constant expression may have on its way to one that fits."""
MOST_INLINED = 5000
"""How many calls may be inlined into one program: functions that call one another twice double with each level."""
_LARGEST = 60_000
"""Instructions of typed IR after which a program is refused as too large (the kernel's own limit is a million)."""


@dataclass(slots=True)
class Loop:
    """A loop being lowered: where `break` and `continue` go, and what was known there."""

    break_label: str
    continue_label: str
    breaks: list[State] = field(default_factory=list)
    continues: list[State] = field(default_factory=list)
    unrolled: bool = False


@dataclass(slots=True)
class Frame:
    """One function being lowered: the program, or a function inlined into it."""

    number: int
    function: types.FunctionType
    source: FunctionSource
    scope: Scope
    locals: frozenset[str]
    exit_label: str = ""
    exits: list[State] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    parent: Frame | None = None


def assigned_names(nodes: list[ast.stmt]) -> set[str]:
    """Every name that these statements bind, nested functions apart."""
    return set().union(*map(_names_of, nodes))


def _names_of(statement: ast.stmt) -> frozenset[str]:
    """Every name that a statement binds, which it keeps: trees outlive a compilation."""
    known: frozenset[str] | None = getattr(statement, "_ebpf_names", None)
    if known is not None:
        return known
    names: set[str] = set()
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.add(node.id)
        elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
            names.add(node.name)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        elif isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            continue
        todo.extend(ast.iter_child_nodes(node))
    statement._ebpf_names = frozenset(names)  # type: ignore[attr-defined]
    return statement._ebpf_names  # type: ignore[attr-defined,no-any-return]


class _At:
    """Instructions emitted inside of a `with` block of this belong to a place."""

    __slots__ = ("before", "builder", "place")

    def __init__(self, builder: Builder, place: Place | None) -> None:
        self.builder, self.place, self.before = builder, place, builder.place

    def __enter__(self) -> None:
        if self.place is not None:
            self.builder.place = self.place

    def __exit__(self, *_: object) -> None:
        self.builder.place = self.before


class Base:
    """State and services of one program's lowering."""

    builder: Builder
    frame: Frame
    state: State | None
    short_label: str
    short_used: bool
    no_short: str = ""
    """Why what is being lowered cannot end by the short exit; "" when it can."""

    def __init__(self) -> None:
        self.state = State()
        self.frames = 0
        self.slots: dict[tuple[int, str, int, str], Temp] = {}
        self.map_names: list[str] = []
        self._annotations: dict[types.FunctionType, dict[str, Any]] = {}
        self.guarded = {}
        self.inner_maps = {}
        self.patterns = {}

    # Places and errors

    def span(self, node: ast.AST) -> Span:
        return self.frame.source.span(node)

    def error(self, node: ast.AST, code: str, message: str, hint: str = "") -> CompileError:
        """The refusal of the program at a node, to be raised."""
        return CompileError(message, span=self.span(node), code=code, hint=hint)

    def at(self, node: ast.AST) -> _At:
        """Instructions emitted inside belong to this node."""
        return _At(self.builder, Place(self.span(node), self.frame.scope) if hasattr(node, "lineno") else None)

    @property
    def live(self) -> State:
        """The state, where there is one: lowering never goes on in unreachable code."""
        assert self.state is not None
        return self.state

    def go(self, label: str) -> None:
        """Leave for a block; the state there is the caller's to keep."""
        self.builder.br(label)
        self.state = None

    def enter(self, label: str, states: list[State | None]) -> None:
        """Begin a block where these paths meet. With none, what follows is unreachable."""
        self.state = join([s for s in states if s is not None])
        if self.state is not None:
            self.builder.start(label)
            if len(self.builder.function.blocks) > _LARGEST // 4:
                raise CompileError(
                    "the program is too large", span=self.builder.place.span, code="too-large", hint="shorten its loops"
                )

    # Names

    def bind(self, name: str, value: Value, node: ast.AST) -> None:
        """Give a name of this frame a value."""
        if isinstance(value, Void):
            raise self.error(node, "no-value", f"{value.what} has no result", "write it as a statement of its own")
        key = (self.frame.number, name)
        operands = self._operands(value)
        slots: tuple[Temp, ...] = ()
        if operands:
            slots = tuple(self._slot(name, at, operand.type) for at, operand in enumerate(operands))
            for operand, slot in zip(operands, slots, strict=True):
                self.builder.store(operand, slot, 8)
        self.live.names[key] = Binding(shape_of(value), slots, span=self.span(node))

    def _slot(self, name: str, position: int, type: str) -> Temp:
        """The stack slot of a part of a name's value: one for each type, so that paths which agree share it."""
        key = (self.frame.number, name, position, type)
        if key not in self.slots:
            self.slots[key] = self.builder.slot(type, name)
        return self.slots[key]

    def _operands(self, value: Value) -> tuple[Operand, ...]:
        """What of a value has to be kept in slots."""
        match value:
            case Const(value=constant):
                type = constant_type(constant)
                if type is None:
                    return ()
                return (Imm(int(constant), ir_type(type)),)
            case Scalar(op=op, place=place):
                shape = shape_of(value)
                assert isinstance(shape, Scalar)
                return (op,) if place is None or shape.place is None else (op, place.pointer)
            case Bytes(ops=ops):
                return ops
            case View(pointer=pointer):
                return (pointer,)
            case OptionalView(view=view):
                return (view.pointer,)
            case OptionalScalar(pointer=pointer, scalar=inner):
                return (pointer, *(inner.ops if isinstance(inner, Bytes) else (inner.op,)))
            case _:
                return ()

    def read(self, name: str, node: ast.AST) -> Value:
        """The value of a local name here. Refuses one that has none, or not one alone."""
        binding = self.live.names.get((self.frame.number, name))
        if binding is None:
            raise self.error(node, "unbound", f"{name} has no value yet", "give it one before this line")
        if isinstance(binding, Conflict):
            raise self.error(node, binding.code, binding.message, binding.hint)
        return self._restore(binding)

    def _restore(self, binding: Binding) -> Value:
        shape, slots = binding.shape, binding.slots
        load = self.builder.load
        match shape:
            case Scalar(place=None):
                return replace(shape, op=load(ir_type(shape.type), slots[0], 8))
            case Scalar(place=place):
                assert place is not None
                at = replace(place, pointer=load("ptr", slots[1], 8)) if len(slots) > 1 else None
                return replace(shape, op=load(ir_type(shape.type), slots[0], 8), place=at)
            case Bytes(type=type):
                sizes = chunks(type.size)
                return replace(
                    shape, ops=tuple(load(f"i{n * 8}", s, 8) for (_, n), s in zip(sizes, slots, strict=True))
                )
            case View():
                return replace(shape, pointer=load("ptr", slots[0], 8))
            case OptionalView(view=view):
                if binding.known is Known.ABSENT:
                    return Const(None)
                held = replace(view, pointer=load("ptr", slots[0], 8))
                return held if binding.known is Known.PRESENT else replace(shape, view=held)
            case OptionalScalar():
                return self._restore_optional(shape, binding)
            case _:
                return shape

    def _restore_optional(self, shape: OptionalScalar, binding: Binding) -> Value:
        if binding.known is Known.ABSENT:
            return Const(None)
        pointer: Operand = self.builder.load("ptr", binding.slots[0], 8)
        inner: Scalar | Bytes
        if isinstance(shape.scalar, Bytes):
            sizes = chunks(shape.scalar.type.size)
            ops = tuple(
                self.builder.load(f"i{n * 8}", s, 8) for (_, n), s in zip(sizes, binding.slots[1:], strict=True)
            )
            inner = replace(shape.scalar, ops=ops)
        else:
            op = self.builder.load(ir_type(shape.scalar.type), binding.slots[1], 8)
            place = replace(shape.scalar.place, pointer=pointer) if shape.scalar.place else None
            inner = replace(shape.scalar, op=op, place=place)
        return inner if binding.known is Known.PRESENT else replace(shape, pointer=pointer, scalar=inner)

    def know(self, state: State | None, name: str | None, known: Known) -> None:
        """Note what a test has shown about an optional name."""
        if state is None or name is None:
            return
        key = (self.frame.number, name)
        binding = state.names.get(key)
        if isinstance(binding, Binding) and isinstance(binding.shape, (OptionalView, OptionalScalar)):
            state.names[key] = replace(binding, known=known)
            if isinstance(binding.shape, OptionalView):
                self.know_record(state, binding.shape.view.owner, known)

    def know_record(self, state: State, owner: int, known: Known) -> None:
        """Note that a reservation has, or has not, succeeded."""
        if owner in state.records and state.records[owner][0] in (Record.MAYBE, Record.OPEN, Record.ABSENT):
            status = Record.OPEN if known is Known.PRESENT else Record.ABSENT
            state.records[owner] = (status, state.records[owner][1])

    # Names outside the function

    def outer(self, node: ast.Name) -> Value:
        """The constant or variable that a name means outside the function: closure, module global or builtin."""
        function, name = self.frame.function, node.id
        if name in function.__code__.co_freevars and function.__closure__ is not None:
            cell = function.__closure__[function.__code__.co_freevars.index(name)]
            try:
                return Const(cell.cell_contents)
            except ValueError:
                raise self.error(node, "unknown-name", f"{name} has no value yet in the enclosing function") from None
        found = function.__globals__.get(name, _MISSING)
        if found is _MISSING:
            found = getattr(builtins, name, _MISSING)
        if found is _MISSING:
            raise self.error(node, "unknown-name", f"there is no name {name} here", self._similar(name))
        return self.settled(found, node)

    def settled(self, found: Any, node: ast.AST) -> Value:
        """An object of the module: what `config()` gave is only known at the load, anything else is a constant."""
        noted = getattr(found, "_config", None)
        if not isinstance(noted, Config):
            return self.constant(found, node)
        held = self._fetch(self.variable(noted, node), node)
        assert isinstance(held, Scalar)
        return replace(held, place=None)

    def constant(self, found: Any, node: ast.AST) -> Const:
        """A constant of the author's, unless it is a number that nothing could hold or print."""
        if isinstance(found, int) and found.bit_length() > MOST_BITS:
            raise self.error(node, "too-large", f"this constant has more than {MOST_BITS} bits")
        return Const(found)

    def _fetch(self, view: View, node: ast.AST) -> Value:
        """The value at a view's place; `memory` knows how."""
        raise NotImplementedError

    def _similar(self, name: str) -> str:
        import difflib

        known = [*self.frame.locals, *self.frame.function.__globals__]
        near = difflib.get_close_matches(name, known, 1)
        return f"write {near[0]}" if near else ""

    def attribute_of(self, owner: Any, name: str, node: ast.AST) -> Any:
        """An attribute of a compile-time object, without running a property of the user's."""
        if not isinstance(owner, (types.ModuleType, type)) and isinstance(
            inspect.getattr_static(type(owner), name, None), property
        ):
            raise self.error(
                node, "no-such-attribute", f"{name} of {describe(Const(owner))} is not known at compile time"
            )
        try:
            return getattr(owner, name)
        except AttributeError:
            kind = f"module {owner.__name__}" if isinstance(owner, types.ModuleType) else describe(Const(owner))
            raise self.error(node, "no-such-attribute", f"{kind} has no {name}") from None
        except EbpfError as error:
            raise self.error(node, getattr(error, "code", "") or "no-such-attribute", error.message) from None

    # Global variables

    variables: dict[str, Config | Var[Any]]

    def variable(self, noted: Config | Var[Any], node: ast.AST) -> View:
        """The place of a global variable, which from now on belongs to the object."""
        try:
            name = noted.name
        except EbpfError as error:
            raise self.error(node, "bad-variable", error.message) from None
        known = self.variables.setdefault(name, noted)
        if known is not noted:
            raise self.error(node, "bad-variable", f"two variables of this object have the name {name}")
        info = noted.kind.__ebpf_type__
        return View(GlobalRef(name), info, noted.kind, Space.MAP, 8)

    # Small conveniences over the builder

    @property
    def repeats(self) -> bool:
        """Whether the code lowered now stands in a loop of the machine's."""
        frame: Frame | None = self.frame
        while frame is not None:
            if any(not loop.unrolled for loop in frame.loops):
                return True
            frame = frame.parent
        return False

    def null(self) -> Operand:
        return Null()

    def short_exit(self, failed: Operand, node: ast.AST, why: str) -> None:
        """Leave by the shared short exit when `failed` holds, else go on."""
        if self.no_short:
            raise self.error(
                node, "no-short-exit", f"{why} may end the program, and {self.no_short}", "use get() or peek()"
            )
        self.may_leave(node, why)
        self.short_used = True
        onward = self.builder.label("go")
        leaving = self.builder.label("leave") if self.guarded else self.short_label
        self.builder.condbr(failed, leaving, onward, likely=False)
        if leaving != self.short_label:
            self.builder.start(leaving)
            self.discard_guarded()
            self.builder.br(self.short_label)
        self.builder.start(onward, only_from_here=leaving == self.short_label)

    def leave_short(self, node: ast.AST, why: str) -> None:
        """Leave by the shared short exit, whatever happens."""
        self.may_leave(node, why)
        self.short_used = True
        self.discard_guarded()
        self.go(self.short_label)

    guarded: dict[int, Temp]
    """Records that `with` blocks hold, and where their pointers stand."""

    def discard_guarded(self) -> None:
        """On the way to the short exit: discard the records that `with` blocks hold."""
        raise NotImplementedError

    def may_leave(self, node: ast.AST, why: str) -> None:
        """Refuse the short exit where something is held that nobody would give back."""
        for number, (status, span) in self.live.records.items():
            if status in (Record.MAYBE, Record.OPEN, Record.TORN) and number not in self.guarded:
                raise self.error(
                    node,
                    "record-leak",
                    f"{why} may end the program while the record reserved in line {span.line} is neither submitted "
                    "nor discarded",
                    "do this before reserve(), or use get() or peek()",
                )
        if self.live.lock is not None:
            raise self.error(
                node,
                "in-lock",
                f"{why} may end the program while the lock of line {self.live.lock[1].line} is held",
                "do it before the with",
            )

    def map_of(self, value: Value) -> MapFacade | None:
        """The map that a value is: one of the module, or one in a map of maps; None for anything else."""
        if isinstance(value, Const) and isinstance(value.value, MapFacade):
            return value.value
        if isinstance(value, View) and isinstance(value.cls, MapFacade):
            seen = copy.copy(value.cls)
            self.inner_maps[seen] = value.pointer
            return seen
        return None

    inner_maps: dict[MapFacade, Operand]
    """Maps in maps of maps, as the program sees them, and the pointer that a look-up gave."""
    patterns: dict[MapFacade, MapFacade]
    """What is in a map of maps, by that map: one for all look-ups, so that paths agree."""

    def place_of(self, value: Value) -> Location | None:
        return value.place if isinstance(value, Scalar) else None

    def boolean(self, op: Operand) -> Scalar:
        return scalar(op, BOOL)

    def wrong_kind(self, value: Value, node: ast.AST, wanted: str) -> CompileError:
        """The refusal of a value of the wrong kind, with the reason that fits it best."""
        if isinstance(value, (OptionalView, OptionalScalar)):
            name = node.id if isinstance(node, ast.Name) else "x"
            return self.error(
                node,
                "untested-optional",
                f"this is {describe(value)}: {value.source} may have found nothing",
                f"test it first: if {name} is not None",
            )
        if isinstance(value, Void):
            return self.error(node, "no-value", f"{value.what} has no result", "write it as a statement of its own")
        if isinstance(value, Const) and value.value is None:
            return self.error(node, "none-value", f"this is None where {wanted} is wanted")
        if isinstance(value, Tuple):
            return self.error(node, "tuple-value", f"a tuple stands where {wanted} is wanted", "take it apart")
        hint = "write .value" if isinstance(value, Const) and isinstance(value.value, Var) else ""
        return self.error(node, "bad-type", f"this is {describe(value)} where {wanted} is wanted", hint)
