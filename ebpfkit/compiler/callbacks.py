"""Functions that the kernel calls back: `loop(n, step, state)` and `m.for_each(visit, state)`.

Belongs here: what such a function is called with, and the helper calls that hand it over. It is lowered as a static
subprogram; timers build on it in `timers.py`.
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ebpfkit.abi.helpers import HELPERS_BY_NAME
from ebpfkit.abi.limits import MAX_LOOP_ITERATIONS
from ebpfkit.compiler.ir import Arg, GlobalRef, Imm, Null, Operand, Param
from ebpfkit.compiler.maps import S64
from ebpfkit.compiler.packet import U32
from ebpfkit.compiler.subprograms import Formal, Subprograms
from ebpfkit.compiler.tail_calls import TailCalls
from ebpfkit.compiler.values import BOOL, Const, Space, Value, View, describe, ir_type, scalar
from ebpfkit.dsl.callbacks import loop
from ebpfkit.dsl.functions import Subprogram
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.typeinfo import IntType, StructType

__all__ = ["Callbacks", "Role"]

S32 = IntType("s32", 32, signed=True)
U64 = IntType("u64", 64)
Special = Callable[[list[Value], dict[str, Value], ast.Call], Value]


@dataclass(frozen=True, slots=True)
class Role:
    """What the kernel passes at one place of a callback: what messages call it, and how the function sees it.

    A role without a `formal` is an argument that the function does not name.
    """

    what: str
    formal: Formal | None


class Callbacks(TailCalls):
    """Calls that take a function."""

    def call_loop(self, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`loop(count, step, state)`."""
        self.arguments("loop", args, kwargs, ("count", "step", "state"), node)
        count = self.coerce(args[0], U32, node.args[0], "the number of rounds")
        if isinstance(count, Imm) and count.value > MAX_LOOP_ITERATIONS:
            message = f"loop() of {count.value} rounds: the kernel runs at most {MAX_LOOP_ITERATIONS}"
            raise self.error(node.args[0], "too-large", message, "go in two loops")
        function = self.function_argument("loop", args[1], node.args[1])
        state, pointer = self._state("loop", args[2], node.args[2])
        wide = self._wants_u64(function, node.args[1])
        index = Formal("", lambda low, op: _narrowed(low, op, U64 if wide else U32), Param(Arg("index", "i64"), U64))
        step = self.callback(function, [Role("the index", index), state], node.args[1], stops=True)
        count = self.builder.convert("zext", count, "i64")
        ran = self.call("loop", "i64", count, step, pointer, Imm(0, "i64"))
        # The kernel puts its own code in the helper's place, which sets the low half of an error alone.
        return scalar(self.builder.convert("trunc", ran, "i32"), S32)

    def call_for_each(self, facade: MapFacade, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`m.for_each(visit, state)`."""
        self.arguments("for_each", args, kwargs, ("visit", "state"), node)
        iterated = HELPERS_BY_NAME["for_each_map_elem"].map_types or frozenset()
        if facade.map_type not in iterated:
            kind = type(facade).__name__
            raise self.error(node, "bad-map-operation", f"a program cannot call for_each() of this {kind}")
        function = self.function_argument("for_each", args[0], node.args[0])
        state, pointer = self._state("for_each", args[1], node.args[1])
        roles = [*self.entry_roles(facade), state]
        visit = self.callback(function, roles, node.args[0], stops=True)
        assert isinstance(node.func, ast.Attribute)
        reference = self.map_ref(facade, node.func.value)
        return scalar(self.call("for_each_map_elem", "i64", reference, visit, pointer, Imm(0, "i64")), S64)

    def function_argument(self, what: str, value: Value, node: ast.expr) -> types.FunctionType:
        """The function that is to be called back."""
        function = value.value if isinstance(value, Const) else None
        if not isinstance(function, types.FunctionType) or function.__name__ == "<lambda>":
            raise self.error(node, "not-a-function", f"{what}() takes a function of the module", "write a def")
        return function

    def _wants_u64(self, function: types.FunctionType, node: ast.expr) -> bool:
        annotations = self.annotations(function, node)
        first = next(iter(inspect.signature(function).parameters), "")
        return getattr(annotations.get(first), "__ebpf_type__", None) == U64

    def _state(self, what: str, value: Value, node: ast.expr) -> tuple[Role, Operand]:
        """The last argument: a structure on the stack, or None."""
        if value == Const(None):
            none = Formal("", lambda _, __: Const(None), Param(Arg("state"), U64, pointee=True))
            return Role("the state", none), Null()
        if not isinstance(value, View) or value.space is not Space.STACK or not isinstance(value.type, StructType):
            place = f" in {value.space.value}" if isinstance(value, View) and value.space is not Space.STACK else ""
            message = f"the state of {what}() is a local structure, or None, not {describe(value)}{place}"
            raise self.error(node, "bad-type", message, "make one here: state = State.zero()")
        shape = replace(value, pointer=Null(), epoch=0, owner=0, nested=True)
        param = Param(Arg("state"), value.type, pointee=True)
        return Role("the state", Formal("", lambda _, op: replace(shape, pointer=op), param, shape)), value.pointer

    def entry_roles(self, facade: MapFacade) -> list[Role]:
        """The map, which nobody names, a key as a copy, and a value in place."""
        key, key_type = facade.key_type.__ebpf_type__, facade.key_type
        value, value_type = facade.value_type.__ebpf_type__, facade.value_type

        def inside_key(low: Subprograms, op: Operand) -> Value:
            view = View(op, key, key_type, Space.MAP, 8)
            if not isinstance(key, StructType):
                return low.load_place(view, 0, key, key_type, low.frame.source.node)
            copy = low.new_local(key, key_type, "the key", zeroed=False)
            low.copy(copy, view, key)
            return copy

        def inside_value(low: Subprograms, op: Operand) -> Value:
            view = View(op, value, value_type, Space.MAP, 8, facade=facade)
            if isinstance(value, StructType):
                return view
            return low.load_place(view, 0, value, value_type, low.frame.source.node)

        return [
            Role("the map", None),
            Role("the key", Formal("", inside_key, Param(Arg("key"), key, pointee=True), key_type)),
            Role("the value", Formal("", inside_value, Param(Arg("value"), value, pointee=True), facade)),
        ]

    def callback(
        self, function: types.FunctionType, roles: Sequence[Role], node: ast.expr, *, stops: bool
    ) -> GlobalRef:
        """The address of a function lowered for what the kernel calls it with; `stops`: True ends it."""
        name = function.__name__
        named = [role for role in roles if role.formal is not None]
        names = list(inspect.signature(function).parameters)
        if len(names) != len(named):
            wanted = ", ".join(role.what for role in named)
            message = f"{name}() is called with {len(named)} arguments ({wanted}), and takes {len(names)}"
            raise self.error(node, "bad-call", message)
        annotations = self.annotations(function, node)
        result = self._result_of(function, annotations, node)
        if result is not None and (result != BOOL or not stops):
            wanted = "-> bool, where True ends it, or -> None" if stops else "-> None"
            message = f"{name}() returns {result.name}, which the kernel would not understand"
            raise self.error(node, "bad-annotation", message, f"write {wanted}")
        formals = []
        waiting = iter(names)
        for role in roles:
            if role.formal is None:
                nobody = Param(Arg(f"${role.what}"), U64, pointee=True)
                formals.append(Formal("", lambda _, __: Const(None), nobody))
                continue
            parameter = next(waiting)
            self._check_annotation(function, parameter, role, annotations, node)
            formals.append(replace(role.formal, name=parameter))
        key = (function, "callback", self.kind.decorator, self.cpu, tuple((f.param, f.key) for f in formals))
        why = f"{name}() is called by the kernel"
        compiled = self.lowered(function, key, Subprogram("static"), formals, result, node, no_short=why)
        return GlobalRef(compiled.function.name)

    def _check_annotation(
        self, function: types.FunctionType, name: str, role: Role, annotations: dict[str, Any], node: ast.expr
    ) -> None:
        """A parameter's annotation, where there is one, must be what the kernel passes."""
        info = getattr(annotations.get(name), "__ebpf_type__", None)
        assert role.formal is not None and role.formal.param is not None
        given = role.formal.param.info
        if info is None or info == given or (role.what == "the index" and info in (U32, U64)):
            return
        its = annotations[name].__name__
        what = getattr(given, "name", "") or "an array"
        message = f"{name} of {function.__name__}() is {role.what}, a {what}, and its annotation says {its}"
        raise self.error(node, "annotation", message, f"write {name}: {what}")

    # Where these calls come from

    def special(self, callee: object) -> Special | None:
        """How a call of something of the language's own is lowered; None for anything else."""
        return self.call_loop if callee is loop else None

    def map_method(
        self, facade: MapFacade, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        if name == "for_each":
            return self.call_for_each(facade, args, kwargs, node)
        return super().map_method(facade, name, args, kwargs, node)


def _narrowed(low: Subprograms, op: Operand, info: IntType) -> Value:
    """A number in the type that a callback sees it in."""
    return scalar(low.builder.convert("trunc", op, ir_type(info)), info)
