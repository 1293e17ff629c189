"""Functions that stay functions: lowered once, apart from their callers, and called with at most five arguments.

Belongs here: signatures, what goes along with a call (the packet's cursor, whether it ended by the short exit), and
lowering with a builder of their own. Functions that are inlined are `calls.py`, those the kernel calls `callbacks.py`.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ebpfkit.compiler.base import Frame, assigned_names
from ebpfkit.compiler.helper_calls import HelperCalls
from ebpfkit.compiler.ir import Arg, Builder, Function, Imm, Null, Operand, Param, Place, Scope
from ebpfkit.compiler.source import find_source
from ebpfkit.compiler.state import State
from ebpfkit.compiler.values import (
    BOOL,
    INT,
    Bytes,
    Const,
    ContextValue,
    OptionalScalar,
    OptionalView,
    Scalar,
    Space,
    Value,
    View,
    Void,
    chunks,
    describe,
    ir_type,
    scalar,
)
from ebpfkit.dsl.functions import Subprogram, subprogram_of
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType, TypeInfo

__all__ = ["CompiledFunction", "Formal", "Subprograms"]

MOST_ARGUMENTS = 5
MOST_FRAMES = 8
_LINK = Arg("$call")
_LINK_SHORT = 8
_LINK_BYTES = 16
"""What a call that needs more than arguments shares with its function: the cursor, and from here the short exit."""
_FIRST_STORES = 2
"""Stores to the cursor with which every function begins: the packet's first byte, then the caller's cursor."""


@dataclass(slots=True)
class CompiledFunction:
    """A lowered subprogram. `result`: its type, None for none; `link`: whether it takes the shared block as well.

    `short` and `moves`: whether it may end by the short exit, and move the packet's bounds.
    """

    function: Function
    result: IntType | None
    link: bool = False
    short: bool = False
    moves: bool = False


@dataclass(frozen=True, slots=True)
class Formal:
    """A parameter: its name, what stands for it inside, given the operand, and how it is passed.

    Without `param` it is known at compile time, and `key` says what it is.
    """

    name: str
    inside: Callable[[Subprograms, Operand], Value]
    param: Param | None
    key: object = None


class Subprograms(HelperCalls):
    """Calls of subprograms, and their lowering."""

    subprograms: dict[object, CompiledFunction]
    in_progress: tuple[types.FunctionType, ...] = ()
    depth: int = 0
    subprogram: CompiledFunction | None = None
    guards: list[Any]
    taken: Operand | None = None
    """The caller's cursor, where the function may begin at it."""
    # Calling

    def call_subprogram(
        self, function: types.FunctionType, args: list[Value], kwargs: dict[str, Value], node: ast.AST
    ) -> Value:
        """A call of a function that is decorated with `@noinline` or `@global_func`."""
        noted = subprogram_of(function)
        assert noted is not None
        if self.live.lock is not None:
            line = self.live.lock[1].line
            message = f"{function.__name__}() is called while the lock of line {line} is held"
            raise self.error(node, "in-lock", message, "call it before or after the with, or without the decorator")
        annotations = self.annotations(function, node)
        formals, operands = self._arguments_of(function, noted, args, kwargs, annotations, node)
        result = self._result_of(function, annotations, node)
        compiled = self._compiled(function, noted, formals, result, node)
        if len(operands) + compiled.link > MOST_ARGUMENTS:
            extra = ", and one that it needs itself since it reads the packet or may take the short exit"
            raise self.error(
                node,
                "too-many-arguments",
                f"{function.__name__}() has {len(operands)} arguments{extra if compiled.link else ''}; a call has room "
                f"for {MOST_ARGUMENTS}",
                "put some of them into a structure, or remove the decorator",
            )
        return self._emit_call(function, compiled, operands, node)

    def _emit_call(
        self, function: types.FunctionType, compiled: CompiledFunction, operands: list[Operand], node: ast.AST
    ) -> Value:
        block: Operand | None = None
        if compiled.link:
            block = self._link_block()
            self.builder.store(Imm(0, "i64"), self.builder.gep(block, _LINK_SHORT), 8)
            cursor = self.builder.load("ptr", self.cursor, 8) if self.has_packet else Null()
            self.builder.store(cursor, block, 8)
            operands = [*operands, block]
        returned: Operand = self.builder.call(compiled.function.name, compiled.function.result, tuple(operands))
        what = f"{function.__name__}()"
        if compiled.moves:
            self.packet_moved(what, node)
        if block is not None and self.has_packet:
            self.builder.store(self.builder.load("ptr", block, 8), self.cursor, 8)
        if block is not None and compiled.short:
            flag = self.builder.load("i64", self.builder.gep(block, _LINK_SHORT), 8)
            self.short_exit(self.builder.compare("ne", flag, Imm(0, "i64")), node, what)
        if compiled.result is None:
            return Void(what)
        kind = ir_type(compiled.result)
        if compiled.result.is_bool:
            return self.boolean(self.builder.compare("ne", returned, Imm(0, returned.type)))
        return scalar(self.builder.convert("trunc", returned, kind), compiled.result)

    def moved(self) -> None:
        if self.subprogram is not None:
            self.subprogram.moves = True

    def _link_block(self) -> Operand:
        return self.builder.alloca(_LINK_BYTES, "$call")

    # Signatures

    def _arguments_of(
        self,
        function: types.FunctionType,
        noted: Subprogram,
        args: list[Value],
        kwargs: dict[str, Value],
        annotations: dict[str, Any],
        node: ast.AST,
    ) -> tuple[list[Formal], list[Operand]]:
        """The parameters as this call shapes them, and the operands to pass."""
        formals: list[Formal] = []
        operands: list[Operand] = []
        for name, value in self._bind_arguments(function, args, kwargs, {}, node).items():
            wanted = annotations.get(name)
            if noted.linkage == "global" and name not in annotations:
                hint = f"write {name}: u32 or another type"
                message = f"the parameter {name} of the global function {function.__name__}() has no annotation"
                raise self.error(node, "bad-annotation", message, hint)
            formal, operand = self._argument_of(name, value, wanted, noted, node)
            if formal.param is None and noted.linkage == "global":
                message = f"{name} of the global function {function.__name__}() is {describe(value)}"
                raise self.error(node, "bad-type", message, "pass numbers, structures and the packet")
            formals.append(formal)
            if operand is not None:
                operands.append(operand)
        return formals, operands

    def _argument_of(
        self, name: str, value: Value, wanted: Any, noted: Subprogram, node: ast.AST
    ) -> tuple[Formal, Operand | None]:
        info = BOOL if wanted is bool else getattr(wanted, "__ebpf_type__", None)
        if isinstance(value, ContextValue):
            return Formal(name, lambda _, __: value, Param(Arg())), Arg()
        if isinstance(info, IntType) or (info is None and self._is_numeric(value)):
            kind = info if isinstance(info, IntType) else self._own_type(name, value, node)
            operand = self.coerce(value, kind, node, name)
            arg = Arg(name, ir_type(kind))
            return Formal(name, lambda _, op: scalar(op, kind), Param(arg, kind)), operand
        if isinstance(value, (OptionalView, OptionalScalar)):
            raise self.wrong_kind(value, node, f"a value for {name}")
        if (isinstance(info, ArrayType) and info.name) or isinstance(value, Bytes):
            return self._address_argument(name, value, info, wanted, node)
        if isinstance(value, View) and (info is None or value.type == info):
            return self._view_argument(name, value, noted, node)
        if isinstance(value, Const) and info is None and value.value is not None:
            return Formal(name, lambda _, __: value, None, (name, id(value.value), value.value)), None
        raise self.wrong_kind(value, node, f"a {wanted.__name__}" if info is not None else f"a value for {name}")

    @staticmethod
    def _is_numeric(value: Value) -> bool:
        if isinstance(value, Const):
            info = getattr(value.value, "__ebpf_type__", None)
            return isinstance(value.value, int) or (isinstance(info, IntType) and not isinstance(value.value, type))
        return isinstance(value, Scalar)

    def _own_type(self, name: str, value: Value, node: ast.AST) -> IntType:
        """The type of a number whose parameter has no annotation."""
        kind = self.scalar_of(value, node).type
        if kind == INT:
            raise self.error(node, "no-width", f"{name} is given an int of no width", f"annotate it: {name}: u32")
        return kind

    def _address_argument(
        self, name: str, value: Value, info: TypeInfo | None, wanted: Any, node: ast.AST
    ) -> tuple[Formal, Operand]:
        """A MAC or IPv6 address: its bytes in memory, copied inside."""
        kind = value.type if isinstance(value, Bytes) and info is None else info
        assert isinstance(kind, ArrayType)
        cls = value.cls if isinstance(value, Bytes) else wanted
        ops = self.address(value, kind, node)
        place = self.new_local(kind, cls, name, zeroed=False)
        self.store_chunks(place, 0, ops, kind.size)

        def inside(low: Subprograms, op: Operand) -> Value:
            load = low.builder.load
            parts = tuple(load(f"i{n * 8}", low.builder.gep(op, at), n) for at, n in chunks(kind.size))
            return Bytes(parts, kind, cls)

        return Formal(name, inside, Param(Arg(name), kind, pointee=True)), place.pointer

    def _view_argument(self, name: str, value: View, noted: Subprogram, node: ast.AST) -> tuple[Formal, Operand]:
        """A structure or array by its address. A global function knows its size and nothing of where it lies."""
        self.check_alive(value, node)
        shape = replace(value, pointer=Null(), epoch=0, owner=0, nested=True, facade=None)
        if noted.linkage == "global":
            shape = replace(shape, space=Space.CALLER, align=8)
        opaque = isinstance(value.type, StructType) and value.type.opaque
        if opaque:
            assert isinstance(value.type, StructType)
            message = f"a {value.type.name} cannot be passed"
            raise self.error(node, "bad-type", message, "pass the structure that it is in")

        def inside(low: Subprograms, op: Operand) -> Value:
            if noted.linkage == "global":
                low.leave_without(op)
            return replace(shape, pointer=op)

        param = Param(Arg(name), value.type, pointee=True)
        return Formal(name, inside, param, (shape, value.cls)), value.pointer

    def leave_without(self, pointer: Operand) -> None:
        """Leave a global function whose memory is not there, which the verifier wants ruled out."""
        gone, there = self.builder.label("gone"), self.builder.label("there")
        self.builder.condbr(self.builder.compare("eq", pointer, Null()), gone, there, likely=False)
        self.builder.start(gone)
        assert self.subprogram is not None
        self.builder.ret(Imm(0, self.subprogram.function.result))
        self.builder.start(there)

    def _result_of(self, function: types.FunctionType, annotations: dict[str, Any], node: ast.AST) -> IntType | None:
        """The type of what a function returns, None when it returns nothing."""
        if "return" not in annotations:
            message = f"the result of {function.__name__}() has no annotation"
            raise self.error(node, "bad-annotation", message, "write -> None, -> u32 or another type")
        wanted = annotations["return"]
        info = BOOL if wanted is bool else getattr(wanted, "__ebpf_type__", None)
        if wanted is None or isinstance(info, IntType):
            return info
        message = f"{function.__name__}() returns {getattr(wanted, '__name__', wanted)}, and a result is one number"
        raise self.error(node, "bad-annotation", message, "fill a structure that the caller passes, or return u64")

    # Lowering

    def _compiled(
        self,
        function: types.FunctionType,
        noted: Subprogram,
        formals: list[Formal],
        result: IntType | None,
        node: ast.AST,
    ) -> CompiledFunction:
        """The function lowered for arguments of these shapes; each shape once in an object."""
        shapes: object = tuple((f.param, f.key) for f in formals) if noted.linkage == "static" else ()
        key = (function, noted.linkage, self.kind.decorator, self.frags, self.cpu, shapes)
        return self.lowered(function, key, noted, formals, result, node)

    def lowered(
        self,
        function: types.FunctionType,
        key: object,
        noted: Subprogram,
        formals: list[Formal],
        result: IntType | None,
        node: ast.AST,
        *,
        no_short: str = "",
    ) -> CompiledFunction:
        """The subprogram under this key, lowered when it is asked for first."""
        self.refuse_recursion(function, node)
        known = self.subprograms.get(key)
        if known is None:
            if self.depth + 1 >= MOST_FRAMES:
                message = f"calls are nested more than {MOST_FRAMES} deep, the most the kernel has frames for"
                raise self.error(node, "too-deep", message, "remove a @noinline")
            known = self._lower_function(function, noted, formals, result, node, no_short)
            self.subprograms[key] = known
        return known

    def refuse_recursion(self, function: types.FunctionType, node: ast.AST) -> None:
        """Refuse a function that is being lowered already, naming those on the way."""
        chain = [*self.in_progress, *self._inlined_chain()]
        for position, known in enumerate(chain):
            if known.__code__ is function.__code__:
                names = [one.__name__ for one in chain[position:]] + [function.__name__]
                message = f"{function.__name__} calls itself"
                if len(names) > 2:
                    message = ", which calls ".join([f"{names[0]} calls {names[1]}", *names[2:]])
                raise self.error(node, "recursion", f"{message}, and functions cannot call themselves", "write a loop")

    def _inlined_chain(self) -> list[types.FunctionType]:
        chain: list[types.FunctionType] = []
        frame: Frame | None = self.frame
        while frame is not None:
            chain.append(frame.function)
            frame = frame.parent
        return chain[::-1]

    def _free_name(self, name: str, linkage: str) -> str:
        """The function's name, with a number behind it where another shape of it has the name."""
        taken = {one.function.name for one in self.subprograms.values()}
        if linkage == "global" or name not in taken:
            return name
        return next(n for k in range(2, len(taken) + 3) if (n := f"{name}_{k}") not in taken)

    def _lower_function(
        self,
        function: types.FunctionType,
        noted: Subprogram,
        formals: list[Formal],
        result: IntType | None,
        node: ast.AST,
        no_short: str,
        *,
        name: str = "",
    ) -> CompiledFunction:
        source = find_source(function)
        own = name or self._free_name(function.__name__, noted.linkage)
        scope = Scope(own, source.file, source.node.lineno)
        place = Place(source.span(source.node), scope)
        out = Function(scope.name, "", scope, self.context_struct(), linkage=noted.linkage)
        out.params = tuple(f.param for f in formals if f.param is not None)
        out.result = "i64" if result is not None and result.bits == 64 else "i32"
        out.result_info = result
        compiled = CompiledFunction(out, result)
        parameters = {a.arg for a in ast.walk(source.node.args) if isinstance(a, ast.arg)}
        names = frozenset(parameters | assigned_names(source.node.body))
        with self._apart(compiled):
            self.builder = Builder(out, place)
            self.frames += 1
            self.frame = Frame(self.frames, function, source, scope, names)
            self.no_short = no_short
            self.has_packet = any(p.info is None for p in out.params)
            if self.has_packet:
                self.packet_slots()
                self.read_bounds()
                if noted.linkage == "static":
                    self._take_cursor()
            for formal in formals:
                if not formal.name:
                    continue  # an argument that the function does not name
                value = formal.inside(self, formal.param.arg if formal.param is not None else Null())
                self.bind(formal.name, value, source.node)
            self.body(source.node)
            if self.state is not None:
                self.return_from(Const(None), source.node)
            self._finish(compiled, noted, place)
        return compiled

    def _finish(self, compiled: CompiledFunction, noted: Subprogram, place: Place) -> None:
        """The short exit, and the shared block where there is need of it."""
        out = compiled.function
        self.builder.place = place
        compiled.short = self.short_used
        if noted.linkage == "static":
            compiled.link = compiled.short or self._uses_cursor(out)
        if compiled.link:
            out.params = (*out.params, Param(_LINK, IntType("u64", 64), pointee=True))
        elif self.taken is not None:  # nobody moves the cursor: it need not be handed over
            for block in out.blocks:
                block.instrs = [i for i in block.instrs if _LINK not in i.args and self.taken not in i.args]
        if compiled.short:
            self.builder.start(self.short_label)
            if compiled.link:
                self.builder.store(Imm(1, "i64"), self.builder.gep(_LINK, _LINK_SHORT), 8)
            self.builder.ret(Imm(noted.short, out.result))
        self.builder.drop_unused_slots()

    def _take_cursor(self) -> None:
        """Begin at the caller's cursor."""
        self.taken = self.builder.load("ptr", _LINK, 8)
        self.builder.store(self.taken, self.cursor, 8)

    def _hand_back_cursor(self) -> None:
        """Leave the caller's cursor where the function's is."""
        if self.taken is not None:
            self.builder.store(self.builder.load("ptr", self.cursor, 8), _LINK, 8)

    def _uses_cursor(self, out: Function) -> bool:
        """Whether anything but handing it over looks at the cursor or moves it."""
        if self.taken is None:
            return False
        instrs = [i for b in out.blocks for i in b.instrs]
        stores = [i for i in instrs if i.op == "store" and self.cursor in i.args]
        values = {self.taken} | {i.result for i in instrs if i.op == "load" and self.cursor in i.args}
        between = [i for i in instrs if not (i.op == "store" and (_LINK in i.args or self.cursor in i.args))]
        return len(stores) > _FIRST_STORES or any(argument in values for i in between for argument in i.args)

    @contextmanager
    def _apart(self, compiled: CompiledFunction) -> Iterator[None]:
        """Another function's builder, frame and state, and then again this one's."""
        kept = {name: self.__dict__[name] for name in _OF_ONE_FUNCTION if name in self.__dict__}
        self.in_progress = (*self.in_progress, *self._inlined_chain())
        self.depth += 1
        self.subprogram = compiled
        self.state = State()
        self.short_label, self.short_used = "short", False
        self.slots, self.guards, self.guarded, self.taken = {}, [], {}, None
        try:
            yield
        finally:
            for name in _OF_ONE_FUNCTION:
                self.__dict__.pop(name, None)
            self.__dict__.update(kept)

    def return_from(self, value: Value, node: ast.AST) -> None:
        """`return` in a subprogram: its value as the annotation says."""
        assert self.subprogram is not None
        for status, span in self.live.records.values():
            if status.is_open:
                message = f"the record reserved in line {span.line} {status.value} here"
                raise self.error(node, "record-leak", message, "call .submit() or .discard() on every path")
        where = node.value if isinstance(node, ast.Return) and node.value is not None else node
        out, result = self.subprogram.function, self.subprogram.result
        name = self.frame.function.__name__
        if result is None:
            if value != Const(None):
                message = f"{name}() returns {describe(value)}, and its annotation says None"
                raise self.error(where, "annotation", message, "annotate the result, or return nothing")
            self._hand_back_cursor()
            self.builder.ret(Imm(0, out.result))
        else:
            if value == Const(None):
                raise self.error(where, "no-return", f"{name}() can end without a result", "return a value at the end")
            op = self.coerce(value, result, where, f"the result of {name}()")
            signed = result.signed and not result.is_bool
            if isinstance(op, Imm):
                op = Imm(op.value, out.result)
            self._hand_back_cursor()
            self.builder.ret(self.builder.convert("sext" if signed else "zext", op, out.result))
        self.state = None

    # What other parts provide

    def context_struct(self) -> str:
        """The kernel's name for the structure that the program's context is."""
        return self.kind.struct

    def annotations(self, function: types.FunctionType, node: ast.AST) -> dict[str, Any]:
        raise NotImplementedError

    def _bind_arguments(
        self,
        function: types.FunctionType,
        args: list[Value],
        kwargs: dict[str, Value],
        annotations: dict[str, Any],
        node: ast.AST,
    ) -> dict[str, Value]:
        raise NotImplementedError

    def body(self, node: ast.FunctionDef) -> None:
        raise NotImplementedError


_OF_ONE_FUNCTION = (
    "builder", "cursor", "data_end", "data_start", "depth", "frame", "guarded", "guards", "has_packet", "in_progress",
    "no_short", "short_label", "short_used", "slots", "state", "subprogram", "taken", "unused",
)  # fmt: skip
"""What belongs to the function that is being lowered."""
