"""Calls: types as casts and constructors, builtins, helpers by their rows, methods, and functions inlined.

Belongs here: what may be called and with what. A function without a decorator is compiled where it is called; its
arguments and its result widen to their annotated integer types, as they do in plain Python.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ebpfkit.abi.model import HelperSpec
from ebpfkit.compiler.base import MOST_BITS, MOST_INLINED, Frame, assigned_names
from ebpfkit.compiler.conversions import is_plain_int
from ebpfkit.compiler.ir import Imm, Null, Scope
from ebpfkit.compiler.kptrs import Kptrs
from ebpfkit.compiler.maps import ATOMICS
from ebpfkit.compiler.packet import RESIZERS, packet_methods
from ebpfkit.compiler.source import find_source
from ebpfkit.compiler.state import Binding, Conflict, join
from ebpfkit.compiler.tracing import Tracing
from ebpfkit.compiler.user_rings import UserRings
from ebpfkit.compiler.values import (
    INT,
    Bytes,
    Const,
    ContextValue,
    Scalar,
    Space,
    Value,
    View,
    Void,
    describe,
    ir_type,
    limits,
    scalar,
)
from ebpfkit.dsl.functions import subprogram_of
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.structs import Struct, offsetof, sizeof
from ebpfkit.dsl.tracing import trace
from ebpfkit.dsl.typeinfo import ArrayType, BitsType, IntType, StructType
from ebpfkit.dsl.types import NetworkInteger
from ebpfkit.dsl.unions import Union
from ebpfkit.errors import CompileError, EbpfError

__all__ = ["Calls"]

_LISTED: frozenset[Callable[..., Any]] = frozenset({enumerate, zip, reversed, sorted, tuple})
"""What gives one constant after the other: a tuple here."""
_PURE: frozenset[Callable[..., Any]] = _LISTED | {
    len, min, max, abs, int, bool, ord, range, sizeof, offsetof, sum, any, all
}  # fmt: skip
_DEPTH = 32
_INSTEAD = {
    "enumerate": "it takes constants; else write for i in range(n)",
    "zip": "it takes constants; else write for i in range(n)",
    "sum": "add up in a for loop",
    "any": "compare in a for loop, or write x in (1, 2)",
    "all": "compare in a for loop",
    "from_bytes": "read a be16, be32 or be64",
    "str": "compare with IPv4Addr(...), or hand the value out through a RingBuf",
    "hex": "hand the value out through a RingBuf",
    "float": "scale it to an integer",
}
"""What to write for builtins that have no meaning in a program."""


class Calls(Tracing, UserRings, Kptrs):
    """Evaluation of calls."""

    def _expr_Call(self, node: ast.Call) -> Value:
        if isinstance(node.func, ast.Attribute):
            owner = self.expr(node.func.value)
            if not isinstance(owner, Const) or isinstance(owner.value, MapFacade):
                return self._method(owner, node.func.attr, node)
            if self._is_struct_instance(owner):
                raise self.error(node, "bad-type", f"{describe(owner)} is a structure of the module", "make one here")
            callee = self.attribute(owner, node.func)
        else:
            callee = self.expr(node.func)
        if not isinstance(callee, Const):
            raise self.error(node.func, "not-callable", f"{describe(callee)} cannot be called")
        if callee.value is trace:
            return self.trace(node)
        args, kwargs = self.evaluate(node)
        return self.call_constant(callee.value, args, kwargs, node)

    @staticmethod
    def _is_struct_instance(owner: Const) -> bool:
        return isinstance(owner.value, Struct)

    def evaluate(self, node: ast.Call) -> tuple[list[Value], dict[str, Value]]:
        """The arguments of a call, in order."""
        args: list[Value] = []
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise self.error(
                    argument, "unsupported-syntax", "* needs a length that is known here", "name the arguments"
                )
            args.append(self._argument(argument))
        kwargs: dict[str, Value] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self.error(keyword.value, "unsupported-syntax", "** needs names that are known here", "name them")
            kwargs[keyword.arg] = self._argument(keyword.value)
        return args, kwargs

    def _argument(self, node: ast.expr) -> Value:
        value = self.expr(node)
        if isinstance(value, Void):
            raise self.wrong_kind(value, node, "a value")
        return value

    def call_constant(self, callee: Any, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """Call something that is known at compile time."""
        spec = getattr(callee, "__ebpf_helper__", None)
        if isinstance(spec, HelperSpec):
            return self.call_helper(spec, args, kwargs, node)
        special = self.special(callee)
        if special is not None:
            made: Value = special(args, kwargs, node)
            return made
        if isinstance(callee, types.FunctionType) and callee not in _PURE:
            return self.inline(callee, args, kwargs, node, widen=True)
        if isinstance(callee, types.MethodType):
            return self._bound_method(callee, args, kwargs, node)
        if isinstance(callee, Program):
            raise self.error(
                node,
                "calls-program",
                f"{callee.name} is a program, and programs do not call each other",
                "move the common part into a function without @xdp",
            )
        if isinstance(callee, type) and getattr(callee, "__ebpf_type__", None) is not None:
            return self._construct(callee, args, kwargs, node)
        everything = [*args, *kwargs.values()]
        if callee is len and args and isinstance(args[0], ContextValue):
            return self.packet_length()
        if all(isinstance(value, Const) for value in everything) and (callee in _PURE or self._is_address(callee)):
            return self.evaluate_constant(callee, args, kwargs, node)
        return self._builtin(callee, args, kwargs, node)

    @staticmethod
    def _is_address(callee: object) -> bool:
        return getattr(callee, "__module__", "") == "ipaddress"

    def evaluate_constant(self, callee: Any, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Const:
        """Let Python compute a call whose arguments are all known."""
        plain = [value.value for value in args if isinstance(value, Const)]
        if callee in _LISTED or callee in (sum, any, all, min, max):
            for value in plain:
                if hasattr(value, "__iter__") and not 0 <= getattr(value, "__len__", lambda: -1)() <= MOST_BITS:
                    what = f"{callee.__name__}() goes through more than {MOST_BITS} elements"
                    raise self.error(node, "too-large", what, "compute it in the module")
        named = {name: value.value for name, value in kwargs.items() if isinstance(value, Const)}
        try:
            if callee in _LISTED:
                return Const(tuple(callee(*plain, **named)))
            return Const(callee(*plain, **named))
        except CompileError as error:
            raise self.error(node, error.code, error.message.removesuffix(f"; {error.hint}"), error.hint) from None
        except EbpfError as error:
            raise self.error(node, "bad-constant", error.message) from None
        except (TypeError, ValueError, OverflowError, ArithmeticError) as error:
            raise self.error(node, "bad-call", f"this call has no meaning: {error}") from None

    # Types

    def _construct(self, cls: Any, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        info = cls.__ebpf_type__
        if isinstance(info, StructType):
            return self._construct_struct(cls, info, args, kwargs, node)
        if isinstance(info, ArrayType) and not info.name:
            return self._construct_array(cls, info, args, kwargs, node)
        if all(isinstance(value, Const) for value in [*args, *kwargs.values()]):
            return self.evaluate_constant(cls, args, kwargs, node)
        self.arguments(cls.__name__, args, kwargs, ("value",), node)
        value = args[0]
        if isinstance(info, ArrayType):
            if isinstance(value, Bytes) and value.type == info:
                return value
            raise self.wrong_kind(value, node.args[0], f"a constant for {info.name}")
        if info.is_bool:
            return self.truth(value, node.args[0])
        if info.enum:
            raise self.error(
                node, "bad-cast", f"{info.name}(...) of a number may be no member", "compare and return a member"
            )
        if info.network:
            return scalar(self.coerce(value, info, node.args[0], info.name), info)
        return self.cast(info, value, node.args[0])

    def _construct_struct(
        self, cls: Any, info: StructType, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        if cls.__init__ not in (Struct.__init__, Union.__init__):
            raise self.error(
                node, "bad-type", f"{info.name} has an __init__ of its own", "use a function that returns one"
            )
        if args:
            raise self.error(
                node, "bad-call", f"{info.name}(...) takes its fields by name", f"write {info.fields[0].name}=..."
            )
        for name in kwargs:
            if info.field(name) is None:
                raise self.no_field(View(Null(), info, cls, Space.STACK, 8), name, node)
        if info.union and len(kwargs) != 1:
            names = ", ".join(f.name for f in info.fields)
            hint = f"one of {names}, or {info.name}.zero()"
            raise self.error(node, "bad-union", f"{info.name}(...) takes one of its members", hint)
        missing = [f.name for f in info.fields if f.name not in kwargs and f.default is None]
        if missing and not info.union:
            listed = ", ".join(missing)
            raise self.error(
                node,
                "missing-field",
                f"{info.name}(...) lacks {listed}",
                f"name it, or start from {info.name}.zero()",
            )
        has_bits = any(isinstance(f.type, BitsType) for f in info.fields)
        view = self.new_local(info, cls, info.name, zeroed=has_bits or info.union)
        keywords = {k.arg: k.value for k in node.keywords}
        for field in info.fields:
            cls_of = getattr(inspect.getattr_static(cls, field.name), "type_class", None)
            if field.name in kwargs:
                self.store_place(
                    view, field.offset, field.type, cls_of, kwargs[field.name], keywords.get(field.name, node)
                )
            elif info.union:
                continue
            elif isinstance(field.default, bytes):
                at = replace(view, pointer=self.builder.gep(view.pointer, field.offset))
                self.store_bytes(replace(at, align=8 if field.offset % 8 == 0 else field.offset & -field.offset),
                                 field.default)  # fmt: skip
            else:
                self.store_place(view, field.offset, field.type, cls_of, Const(field.default), node)
        return view

    def _construct_array(
        self, cls: Any, info: ArrayType, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        if kwargs or len(args) > 1:
            raise self.error(node, "bad-call", f"{cls.__name__}(...) takes its elements, or nothing")
        view = self.new_local(info, cls, "array", zeroed=True)
        if not args:
            return view
        value = args[0]
        if isinstance(value, Const) and isinstance(value.value, (bytes, tuple, list)):
            elements: list[Value] = [Const(element) for element in value.value]
        elif hasattr(value, "items"):
            elements = list(value.items)
        else:
            raise self.wrong_kind(value, node.args[0], "the elements as a tuple or bytes")
        if len(elements) not in (0, info.length):
            raise self.error(node, "bad-array", f"{cls.__name__} has {info.length} elements, not {len(elements)}")
        for index, element in enumerate(elements):
            self.store_place(
                view, index * info.element.size, info.element, getattr(cls, "element", None), element, node
            )
        return view

    def _bound_method(
        self, callee: types.MethodType, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        owner, function = callee.__self__, callee.__func__
        if isinstance(owner, type) and issubclass(owner, Struct):
            if function is Struct.zero.__func__:  # type: ignore[attr-defined]
                self.arguments("zero", args, kwargs, (), node)
                return self.new_local(owner.__ebpf_type__, owner, owner.__name__, zeroed=True)
            if function is Struct.from_bytes.__func__:  # type: ignore[attr-defined]
                self.arguments("from_bytes", args, kwargs, ("data",), node)
                value = args[0]
                if not isinstance(value, Const) or not isinstance(value.value, bytes):
                    raise self.wrong_kind(value, node, "constant bytes")
                if len(value.value) != owner.__ebpf_type__.size:
                    raise self.error(node, "bad-size", f"{owner.__name__} has {owner.__ebpf_type__.size} bytes")
                view = self.new_local(owner.__ebpf_type__, owner, owner.__name__, zeroed=False)
                self.store_bytes(view, value.value)
                return view
            if isinstance(function, types.FunctionType):
                return self.inline(function, [Const(owner), *args], kwargs, node)
        constant = all(isinstance(v, Const) for v in [*args, *kwargs.values()])
        if constant and isinstance(getattr(type(owner), "__ebpf_type__", None), IntType):
            return self.evaluate_constant(callee, args, kwargs, node)
        if isinstance(owner, type) and issubclass(owner, NetworkInteger) and function.__name__ == "from_raw":
            if constant:
                return self.evaluate_constant(callee, args, kwargs, node)
            self.arguments("from_raw", args, kwargs, ("raw",), node)
            info = owner.__ebpf_type__
            raw = self.coerce(args[0], IntType(f"u{info.bits}", info.bits), node.args[0], "the bytes")
            return scalar(self.builder.bswap(raw), info)
        raise self.error(
            node, "not-callable", f"{getattr(callee, '__qualname__', callee)} cannot be called in a program"
        )

    # Builtins

    def _builtin(self, callee: Any, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        name = getattr(callee, "__name__", type(callee).__name__)
        if callee is len:
            self.arguments(name, args, kwargs, ("value",), node)
            if isinstance(args[0], (View, Bytes)) and isinstance(args[0].type, ArrayType):
                return Const(args[0].type.length)
            raise self.wrong_kind(args[0], node.args[0], "the packet or an array")
        if callee in (min, max) and len(args) >= 2 and not kwargs:
            return self._extreme(name, args, node)
        if callee is abs and len(args) == 1 and not kwargs:
            return self._absolute(args[0], node)
        if callee is bool and len(args) == 1 and not kwargs:
            return self.truth(args[0], node.args[0])
        if callee is int:
            raise self.error(node, "no-width", "int(...) has no width", "write u64(...) or another type")
        if callee is print:
            hint = 'write bpf.trace(f"..."), or use a RingBuf'
            raise self.error(node, "not-callable", "a program cannot print", hint)
        if callee is range:
            raise self.error(
                node, "not-callable", "range() only has a meaning in a for loop", "write for i in range(...)"
            )
        hint = _INSTEAD.get(name, "write a function with def in the module")
        raise self.error(node, "not-callable", f"{name} cannot be called in a program", hint)

    def _extreme(self, name: str, args: list[Value], node: ast.Call) -> Value:
        """min and max: one type on all sides, since the result is one of them."""
        items = [self.scalar_of(value, item) for value, item in zip(args, node.args, strict=True)]
        for item, where in zip(items, node.args, strict=True):
            if item.type != items[0].type:
                hint = items[0].type if items[0].type != INT else item.type
                raise self.error(
                    where,
                    "mixed-types",
                    f"{name}() of {items[0].type.name} and {item.type.name} mixes types",
                    f"write {hint.name}(...)",
                )
        best = items[0]
        for item in items[1:]:
            # Python keeps the earlier one of equals, which only the place could tell apart.
            test = ("s" if best.type.signed else "u") + ("lt" if name == "min" else "gt")
            op = self.builder.select(self.builder.compare(test, item.op, best.op), item.op, best.op)
            pick = min if name == "min" else max
            tested = True  # like a test: the optimiser knows the bound, the verifier may not
            best = Scalar(op, best.type, pick(best.lo, item.lo), pick(best.hi, item.hi), tested=tested)
        return replace(best, place=None)

    def _absolute(self, value: Value, node: ast.Call) -> Value:
        one = self.scalar_of(value, node.args[0])
        if one.type.network or one.type.is_bool or one.type.enum:
            raise self.error(node, "bad-type", f"abs() of a {one.type.name}")
        if not one.type.signed or one.lo >= 0:
            return replace(one, place=None)
        if one.type != INT:
            raise self.error(
                node, "abs", f"abs() of {one.type.name} gives an int of no width", "write -x if x < 0 else x"
            )
        kind = ir_type(one.type)
        negative = self.builder.compare("slt", one.op, Imm(0, kind))
        turned = self.builder.binary("sub", Imm(0, kind), one.op)
        return Scalar(self.builder.select(negative, turned, one.op), INT, 0, max(abs(one.lo), abs(one.hi)))

    # Methods

    def _method(self, owner: Value, name: str, node: ast.Call) -> Value:
        match owner:
            case Const(value=facade):
                args, kwargs = self.evaluate(node)
                return self.map_method(facade, name, args, kwargs, node)
            case ContextValue():
                return self._packet_method(owner, name, node)
            case Scalar():
                return self._scalar_method(owner, name, node)
            case View(cls=MapFacade()):
                inner = self.map_of(owner)
                assert inner is not None
                args, kwargs = self.evaluate(node)
                return self.map_method(inner, name, args, kwargs, node)
            case View():
                return self._view_method(owner, name, node)
            case _:
                assert isinstance(node.func, ast.Attribute)
                raise self.wrong_kind(owner, node.func.value, f"something with .{name}()")

    def _packet_method(self, owner: ContextValue, name: str, node: ast.Call) -> Value:
        methods = packet_methods(self.kind)
        if name not in methods:
            if not self.kind.has_packet:
                raise self.error(node, "no-such-field", f"the context of a {self.kind.decorator} has no method {name}")
            message = f"the packet of a {self.kind.decorator} program has no method {name}"
            raise self.error(node, "no-such-field", message, f"it has {', '.join(methods)}")
        if name in ("read", "peek"):
            args, kwargs = self.evaluate(node)
            self.arguments(name, args, kwargs, ("type",), node)
            return self.packet_read(args, node) if name == "read" else self.packet_peek(args, node)
        if name == "pull":
            args, kwargs = self.evaluate(node)
            self.arguments(name, args, kwargs, ("size",), node)
            return self.packet_pull(args, node)
        if name == "skip":
            args, kwargs = self.evaluate(node)
            self.arguments(name, args, kwargs, ("size",), node)
            return self.packet_skip(args, node)
        if name == "write":
            args, kwargs = self.evaluate(node)
            self.arguments(name, args, kwargs, ("value",), node)
            return self.packet_write(args, node)
        if name in ("read_into", "write_from"):
            args, kwargs = self.evaluate(node)
            return self.packet_copy(name, args, kwargs, node)
        if name in RESIZERS:
            args, kwargs = self.evaluate(node)
            self.arguments(name, args, kwargs, ("size",), node)
            return self.packet_resize(name, args, node)
        args, kwargs = self.evaluate(node)
        self.arguments(name, args, kwargs, ("type",), node)
        return self.packet_push_meta(args, node) if name == "push_meta" else self.packet_meta(args, node)

    def _scalar_method(self, owner: Scalar, name: str, node: ast.Call) -> Value:
        args, kwargs = self.evaluate(node)
        if name in ATOMICS:
            return self.atomic(name, owner, args, kwargs, node)
        if name == "to_host" and owner.type.network:
            self.arguments(name, args, kwargs, (), node)
            type = IntType(f"u{owner.type.bits}", owner.type.bits)
            return scalar(owner.op, type, *limits(type))
        if name == "raw" and owner.type.network:
            self.arguments(name, args, kwargs, (), node)
            type = IntType(f"u{owner.type.bits}", owner.type.bits)
            return scalar(self.builder.bswap(owner.op), type, *limits(type))
        hint = "it is in host order already" if name in ("to_host", "raw") else ""
        raise self.error(node, "no-such-attribute", f"a {owner.type.name} has no method {name}", hint)

    def _view_method(self, owner: View, name: str, node: ast.Call) -> Value:
        member = inspect.getattr_static(owner.cls, name, None) if owner.cls is not None else None
        args, kwargs = self.evaluate(node)
        if self.is_kptr(owner):
            return self.kptr_method(owner, name, args, kwargs, node)
        if self.is_timer(owner):
            return self.timer_method(owner, name, args, kwargs, node)
        if name == "copy" and (member is inspect.getattr_static(Struct, "copy") or isinstance(owner.type, ArrayType)):
            self.arguments(name, args, kwargs, (), node)
            self.check_alive(owner, node)
            made = self.new_local(owner.type, owner.cls, f"copy of {describe(owner)}", zeroed=False)
            self.copy(made, owner, owner.type)
            return made
        if name in ("submit", "discard") and member is inspect.getattr_static(Struct, name):
            self.arguments(name, args, kwargs, (), node)
            return self.finish_record(owner, name, node)
        if isinstance(member, types.FunctionType) and not member.__module__.startswith("ebpfkit.dsl"):
            return self.inline(member, [owner, *args], kwargs, node)
        if isinstance(member, staticmethod) and isinstance(member.__func__, types.FunctionType):
            return self.inline(member.__func__, args, kwargs, node)
        if isinstance(member, classmethod):
            return self._bound_method(getattr(owner.cls, name), args, kwargs, node)
        if member is None:
            raise self.no_field(owner, name, node)
        raise self.error(node, "not-callable", f"{name} of a {describe(owner)} cannot be called in a program")

    # Inlining

    def inline(
        self,
        function: types.FunctionType,
        args: list[Value],
        kwargs: dict[str, Value],
        node: ast.AST,
        *,
        widen: bool = False,
    ) -> Value:
        """Compile a function where it is called. `widen`: annotated integer types apply, as for global functions."""
        if subprogram_of(function) is not None:
            return self.call_subprogram(function, args, kwargs, node)
        depth, outer = 0, self.frame
        walk: Frame | None = outer
        while walk is not None:
            depth += 1
            walk = walk.parent
        self.refuse_recursion(function, node)
        if depth > _DEPTH:
            raise self.error(node, "too-deep", f"calls are nested more than {_DEPTH} deep")
        annotations = self.annotations(function, node)
        bound = self._bind_arguments(function, args, kwargs, annotations if widen else {}, node)
        if function.__code__.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            raise self.error(
                node, "unsupported-syntax", f"{function.__name__} is a generator or async", "write a plain def"
            )
        source = find_source(function)
        scope = Scope(function.__name__, source.file, source.node.lineno, outer.scope, self.span(node))
        self.frames += 1
        if self.frames > MOST_INLINED:
            what = f"more than {MOST_INLINED} calls are inlined into this program"
            raise self.error(node, "too-large", what, "write @bpf.noinline before the functions that are called often")
        parameters = {a.arg for a in ast.walk(source.node.args) if isinstance(a, ast.arg)}
        names = frozenset(parameters | assigned_names(source.node.body))
        frame = Frame(self.frames, function, source, scope, names, self.builder.label("return"), parent=outer)
        where = self.builder.place
        self.frame = frame
        try:
            for name, value in bound.items():
                self.bind(name, value, source.node)
            self.body(source.node)
            if self.state is not None:
                self.finish_function(Const(None), source.node)
        finally:
            self.frame = outer
            self.builder.place = where
        return self._leave(frame, annotations.get("return") if widen else None, node)

    def _leave(self, frame: Frame, result_type: Any, node: ast.AST) -> Value:
        """Join the returns of an inlined function and give its value."""
        self.state = join(frame.exits)
        if self.state is None:
            raise self.error(node, "no-return", f"{frame.function.__name__} never returns")
        self.builder.start(frame.exit_label)
        key = (frame.number, "$return")
        binding = self.state.names.get(key)
        if isinstance(binding, Conflict):
            text = binding.message.replace("$return is ", "").replace("one path to here", "one path")
            raise self.error(
                node,
                "type-conflict",
                f"{frame.function.__name__} returns {text}",
                "return one type on all paths",
            )
        assert isinstance(binding, Binding)
        value = self._restore(binding)
        for known in [k for k in self.state.names if k[0] == frame.number]:
            del self.state.names[known]
        info = getattr(result_type, "__ebpf_type__", None)
        if isinstance(info, IntType) and not info.enum and not info.is_bool:
            if isinstance(value, Const) and is_plain_int(value.value):
                self.coerce(value, info, node, "result")
                return Const(result_type(value.value))
            return self._widened(value, info, node)
        return value

    def _widened(self, value: Value, info: IntType, node: ast.AST) -> Value:
        if isinstance(value, Scalar) and value.type == info:
            return value
        op = self.coerce(value, info, node, info.name)
        return scalar(op, info)

    def annotations(self, function: types.FunctionType, node: ast.AST) -> dict[str, Any]:
        known = self._annotations.get(function)
        if known is not None:
            return known
        try:
            return self._annotations.setdefault(function, inspect.get_annotations(function, eval_str=True))
        except NameError as error:
            raise self.error(
                node, "unknown-name", f"{function.__name__}(): an annotation names something unknown: {error}"
            ) from None
        except (TypeError, SyntaxError, AttributeError) as error:
            raise self.error(
                node, "bad-annotation", f"{function.__name__}(): an annotation has no meaning: {error}"
            ) from None

    def _bind_arguments(
        self,
        function: types.FunctionType,
        args: list[Value],
        kwargs: dict[str, Value],
        annotations: dict[str, Any],
        node: ast.AST,
    ) -> dict[str, Value]:
        signature = inspect.signature(function)
        kinds = {p.kind for p in signature.parameters.values()}
        if inspect.Parameter.VAR_POSITIONAL in kinds or inspect.Parameter.VAR_KEYWORD in kinds:
            raise self.error(node, "unsupported-syntax", f"{function.__name__} takes * or **", "name its parameters")
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise self.error(node, "bad-call", f"{function.__name__}(): {error}") from None
        values: dict[str, Value] = {}
        for name, parameter in signature.parameters.items():
            if name not in bound.arguments:
                values[name] = Const(parameter.default)
                continue
            value: Value = bound.arguments[name]
            info = getattr(annotations.get(name), "__ebpf_type__", None)
            if isinstance(info, IntType) and not info.enum and not info.is_bool:
                if isinstance(value, Const) and is_plain_int(value.value):
                    self.coerce(value, info, node, name)
                    value = Const(annotations[name](value.value))
                else:
                    value = self._widened(value, info, node)
            values[name] = value
        return values

    def body(self, node: ast.FunctionDef) -> None:
        raise NotImplementedError

    def finish_function(self, value: Value, node: ast.AST) -> None:
        raise NotImplementedError
