"""Expressions: names, attributes, subscripts, and everything that chooses between values.

Belongs here: evaluation order and control flow inside expressions. What operators mean is in `operators.py`, what tests
show in `conditions.py`, calls are in `calls.py`.
"""

from __future__ import annotations

import ast
import inspect
import types
from dataclasses import replace
from typing import Any

from ebpfkit.compiler.conditions import Conditions
from ebpfkit.compiler.ir import Imm, Operand
from ebpfkit.compiler.operators import SYMBOLS
from ebpfkit.compiler.state import Conflict, State
from ebpfkit.compiler.values import (
    Bytes,
    Const,
    ContextValue,
    OptionalScalar,
    OptionalView,
    Scalar,
    Space,
    Tuple,
    Value,
    View,
    chunks,
    describe,
    ir_type,
    limits,
    scalar,
)
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType
from ebpfkit.dsl.variables import Var
from ebpfkit.errors import EbpfError

__all__ = ["Expressions"]

_NO_EXPRESSION = {
    "List": ("a list has no size the machine knows", "use an array in a Struct, or a tuple"),
    "Dict": ("a dict has no meaning in a program", "declare a Hash map in the module"),
    "Set": ("a set has no meaning in a program", "write a tuple, or declare a Hash map in the module"),
    "ListComp": ("a comprehension builds a list", "write a for loop"),
    "SetComp": ("a comprehension builds a set", "write a for loop"),
    "DictComp": ("a comprehension builds a dict", "write a for loop"),
    "GeneratorExp": ("a generator has no meaning in a program", "write a for loop"),
    "Lambda": ("a lambda cannot be compiled", "write a def in the module"),
    "Await": ("a program cannot wait", "remove await"),
    "Yield": ("a program is no generator", "use a RingBuf to hand values out"),
    "YieldFrom": ("a program is no generator", "use a RingBuf to hand values out"),
    "JoinedStr": ("text has no meaning in a program", 'write trace(f"..."), or use a RingBuf'),
    "FormattedValue": ("text has no meaning in a program", "hand the values out through a RingBuf"),
    "TemplateStr": ("text has no meaning in a program", "hand the values out through a RingBuf"),
    "Interpolation": ("text has no meaning in a program", "hand the values out through a RingBuf"),
    "Starred": ("* needs a length that is known here", "name the elements"),
    "Slice": ("a slice makes a copy of unknown length", "name the elements, or read a Struct"),
}


class Expressions(Conditions):
    """Evaluation of expressions."""

    def expr(self, node: ast.expr) -> Value:
        """The value of an expression; emits what computes it."""
        handler = getattr(self, f"_expr_{type(node).__name__}", None)
        if handler is None:
            name = type(node).__name__
            message, hint = _NO_EXPRESSION.get(name, (f"{name} has no meaning in a program", ""))
            raise self.error(node, "unsupported-syntax", message, hint)
        with self.at(node):
            value: Value = handler(node)
            return value

    def _expr_Constant(self, node: ast.Constant) -> Value:
        if isinstance(node.value, complex):
            raise self.error(node, "float", "the machine has no complex numbers")
        return self.constant(node.value, node)

    def _expr_Name(self, node: ast.Name) -> Value:
        if node.id in self.frame.locals:
            return self.read(node.id, node)
        return self.outer(node)

    def _expr_Tuple(self, node: ast.Tuple) -> Value:
        items = tuple(self.settle(self.expr(item), item) for item in node.elts)
        if all(isinstance(item, Const) for item in items):
            return Const(tuple(item.value for item in items if isinstance(item, Const)))
        return Tuple(items)

    def settle(self, value: Value, node: ast.AST) -> Value:
        """A value that later stores cannot change: scalars are copies already, and a view stays a view."""
        return value

    def _expr_BinOp(self, node: ast.BinOp) -> Value:
        left = self.expr(node.left)
        right = self.expr(node.right)
        return self.binary(SYMBOLS[type(node.op)], left, right, node)

    def _expr_UnaryOp(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            truth = self.condition_value(node.operand)
            if isinstance(truth, Const):
                return Const(not truth.value)
            return self.boolean(self.builder.binary("xor", truth.op, Imm(1, "i1")))
        symbol = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}[type(node.op)]
        return self.unary(symbol, self.expr(node.operand), node)

    def _expr_NamedExpr(self, node: ast.NamedExpr) -> Value:
        assert isinstance(node.target, ast.Name)
        value = self.expr(node.value)
        self.no_alias(node.value, value)
        self.bind(node.target.id, value, node.target)
        return value

    def no_alias(self, node: ast.expr, value: Value) -> None:
        """Refuse `a = b` between structures: in C it copies, in Python it does not."""
        if not isinstance(value, View):
            return
        if isinstance(node, ast.Name):
            raise self.error(
                node,
                "struct-alias",
                f"{node.id} is a {describe(value)}, and = would give it a second name",
                f"use {node.id} itself" if self.map_of(value) else f"write {node.id}.copy(), or use {node.id} itself",
            )
        if isinstance(node, ast.IfExp):
            self.no_alias(node.body, value)
            self.no_alias(node.orelse, value)

    # Values that conditions choose

    def _expr_Compare(self, node: ast.Compare) -> Value:
        if len(node.ops) == 1:
            return self._one_comparison(node.ops[0], node.left, self.expr(node.left), node.comparators[0], node)[0]
        return self.condition_value(node)

    def condition_value(self, node: ast.expr) -> Const | Scalar:
        """The truth of a condition as a value."""
        if not isinstance(node, (ast.BoolOp, ast.Compare)) or (isinstance(node, ast.Compare) and len(node.ops) == 1):
            return self.truth(self.expr(node), node)
        yes, no, end = self.builder.label("true"), self.builder.label("false"), self.builder.label("cond")
        true, false = self.branch(node, yes, no)
        ends: list[State | None] = []
        name = self.builder.label("$c")
        for label, state, answer in ((yes, true, True), (no, false, False)):
            self.enter(label, [state])
            if self.state is not None:
                self.bind(name, Const(answer), node)
                ends.append(self.state)
                self.go(end)
        self.enter(end, ends)
        return self.truth(self.take(name, node, "condition"), node)

    def take(self, name: str, node: ast.AST, what: str) -> Value:
        """Read and forget a name of lowering's own; a conflict there is about the two sides of `what`."""
        key = (self.frame.number, name)
        binding = self.live.names.get(key)
        if isinstance(binding, Conflict):
            text = binding.message.replace(f"{name} is ", "").replace("one path to here", "one side")
            text = text.replace("another", "the other")
            hint = "cast both to one type"
            if text.endswith("None on the other") or text.startswith("None "):
                hint = "write it as if and else, each side with what it does"
            raise self.error(node, "type-conflict", f"the sides of this {what} differ: {text}", hint)
        value = self.read(name, node)
        del self.live.names[key]
        return value

    def _expr_IfExp(self, node: ast.IfExp) -> Value:
        yes, no, end = self.builder.label("then"), self.builder.label("else"), self.builder.label("chosen")
        true, false = self.branch(node.test, yes, no)
        name = self.builder.label("$i")
        ends: list[State | None] = []
        for label, state, side in ((yes, true, node.body), (no, false, node.orelse)):
            self.enter(label, [state])
            if self.state is not None:
                self.bind(name, self.expr(side), side)
                ends.append(self.state)
                self.go(end)
        self.enter(end, ends)
        return self.take(name, node, "conditional expression")

    def _expr_BoolOp(self, node: ast.BoolOp) -> Value:
        is_and = isinstance(node.op, ast.And)
        name, end = self.builder.label("$b"), self.builder.label("bool")
        ends: list[State | None] = []
        for operand in node.values[:-1]:
            onward, leave = self.builder.label("more"), self.builder.label("stop")
            held: Value | None = None
            if isinstance(operand, (ast.Compare, ast.BoolOp, ast.UnaryOp)) and self._is_truth(operand):
                true, false = self.branch(operand, onward if is_and else leave, leave if is_and else onward)
                held = Const(not is_and)
            else:
                held = self.expr(operand)
                if isinstance(held, (OptionalView, OptionalScalar)):
                    raise self.wrong_kind(held, operand, "a value")
                yes, no = (onward, leave) if is_and else (leave, onward)
                true, false = self.test(self.truth(held, operand), yes, no)
            on, off = (true, false) if is_and else (false, true)
            self.enter(leave, [off])
            if self.state is not None:
                self.bind(name, held, operand)
                ends.append(self.state)
                self.go(end)
            self.enter(onward, [on])
            if self.state is None:
                break
        if self.state is not None:
            self.bind(name, self.expr(node.values[-1]), node.values[-1])
            ends.append(self.state)
            self.go(end)
        self.enter(end, ends)
        return self.take(name, node, "and" if is_and else "or")

    def _is_truth(self, node: ast.expr) -> bool:
        """Whether an expression can only be a truth value."""
        if isinstance(node, ast.BoolOp):
            return all(self._is_truth(v) for v in node.values)
        return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))

    # Attributes and subscripts

    def _expr_Attribute(self, node: ast.Attribute) -> Value:
        return self.attribute(self.expr(node.value), node)

    def attribute(self, owner: Value, node: ast.Attribute) -> Value:
        """`owner.name` for reading."""
        name = node.attr
        match owner:
            case Const(value=constant):
                if constant is None:
                    raise self.wrong_kind(owner, node, f"something with .{name}")
                if isinstance(constant, MapFacade):
                    raise self.error(node, "user-space-only", f"{name} of a map is only known outside a program")
                if isinstance(constant, Var):
                    return self._fetch(self.place_of_variable(constant, node), node)
                return self.settled(self.attribute_of(constant, name, node), node)
            case View():
                return self._view_attribute(owner, name, node)
            case ContextValue():
                return self.context_field(owner, name, node)
            case Scalar() | Bytes():
                raise self.error(node, "no-such-attribute", f"{describe(owner)} has no field {name}")
            case _:
                raise self.wrong_kind(owner, node.value, f"something with .{name}")

    def place_of_variable(self, variable: Var[Any], node: ast.Attribute) -> View:
        """The place that `variable.value` names."""
        if node.attr != "value":
            raise self.error(node, "no-such-attribute", f"a global variable has no {node.attr}", "write .value")
        return self.variable(variable, node.value)

    def _view_attribute(self, owner: View, name: str, node: ast.Attribute) -> Value:
        if isinstance(owner.type, StructType) and owner.type.opaque:
            raise self.error(node, "read-only", f"only the kernel looks into a {owner.type.name}")
        found = self.field(owner, name, node)
        if found is not None:
            field, cls = found
            return self.load_place(owner, field.offset, field.type, cls, node)
        member = inspect.getattr_static(owner.cls, name, None) if owner.cls is not None else None
        if isinstance(member, property) and isinstance(member.fget, types.FunctionType):
            return self.inline(member.fget, [owner], {}, node)
        if member is not None and not callable(member) and not isinstance(member, (staticmethod, classmethod)):
            return Const(getattr(owner.cls, name))
        if member is not None:
            raise self.error(node, "bad-type", f"{name} is a method", f"call it: {name}()")
        raise self.no_field(owner, name, node)

    def _expr_Subscript(self, node: ast.Subscript) -> Value:
        owner = self.expr(node.value)
        facade = self.map_of(owner)
        if facade is not None:
            return self.map_item(facade, node)
        if isinstance(node.slice, ast.Slice):
            message, hint = _NO_EXPRESSION["Slice"]
            raise self.error(node.slice, "unsupported-syntax", message, hint)
        index = self.expr(node.slice)
        match owner:
            case View(type=ArrayType()):
                view, offset = self.element(owner, index, node)
                assert isinstance(owner.type, ArrayType)
                return self.load_place(view, offset, owner.type.element, getattr(owner.cls, "element", None), node)
            case Bytes():
                return self._byte_of(owner, index, node)
            case Tuple(items=items):
                at = index.value if isinstance(index, Const) else None
                if isinstance(at, int) and -len(items) <= at < len(items):
                    return items[at]
                raise self.error(node, "array-index", "a tuple's index is a number known here")
            case Const(value=constant):
                return self._constant_item(constant, index, node)
            case _:
                raise self.wrong_kind(owner, node.value, "an array or a map")

    def _constant_item(self, constant: Any, index: Value, node: ast.Subscript) -> Value:
        if not isinstance(index, Const):
            if isinstance(constant, (tuple, list, dict, bytes, str)):
                raise self.error(
                    node, "constant-index", "a constant can only be indexed by a constant", "put it into an Array"
                )
            raise self.error(node, "bad-type", f"{describe(Const(constant))} cannot be indexed")
        try:
            return Const(constant[index.value])
        except EbpfError as error:
            raise self.error(node, getattr(error, "code", "") or "bad-type", error.message) from None
        except (TypeError, KeyError, IndexError, ValueError) as error:
            raise self.error(node, "bad-type", f"this index has no meaning: {error}") from None

    def element(self, owner: View, index: Value, node: ast.Subscript) -> tuple[View, int]:
        """Where an element of an array is: a view and a constant offset."""
        assert isinstance(owner.type, ArrayType)
        size, length = owner.type.element.size, owner.type.length
        if isinstance(index, Const) and isinstance(index.value, int):
            number = int(index.value)
            if not 0 <= number < length:
                raise self.error(node, "array-index", f"index {number} is outside of 0 to {length - 1}")
            return owner, number * size
        number_ = self.scalar_of(index, node.slice, "an index")
        if number_.type.network or number_.type.is_bool:
            raise self.error(node.slice, "bad-type", f"an index is an integer, not a {number_.type.name}")
        if number_.lo < 0 or number_.hi >= length:
            mask = f"& {length - 1}" if length & (length - 1) == 0 else f"% {length}"
            raise self.error(
                node.slice,
                "array-index",
                f"this index is between {number_.lo} and {number_.hi}, the array's are 0 to {length - 1}",
                f"test it first: if i < {length}, or write i {mask}",
            )
        return self.variable_place(owner, number_, size, node), 0

    def variable_place(self, owner: View, index: Scalar, size: int, node: ast.AST) -> View:
        """The view that begins at element `index`. In a packet the bounds are tested again, for the verifier."""
        self.check_alive(owner, node)
        place, align = (owner.pointer, index.op, size), min(owner.align, size & -size)
        if place in self.builder.places:
            return replace(owner, pointer=self.builder.places[place], align=align)
        known = self.pinned(index)
        step = self.builder.convert("sext" if index.type.signed else "zext", known or index.op, "i64")
        if known is None:
            step = self._bounded(step, owner)
        if size > 1:
            step = self.builder.binary("mul", step, Imm(size, "i64"))
        if owner.space is Space.STACK:
            # Stack slots are aligned, so LLVM would write `|` for `+` on them, which the verifier refuses on pointers.
            step = self.builder.opaque(step)
        pointer = self.builder.gep(owner.pointer, step)
        if owner.space is Space.PACKET:
            end = self.builder.gep(pointer, size)
            outside = self.builder.compare("ugt", end, self.packet_end())
            self.short_exit(outside, node, "this element")
        self.builder.places[place] = pointer
        return replace(owner, pointer=pointer, align=align)

    def _bounded(self, step: Operand, owner: View) -> Operand:
        """An index that a test or a division has bounded, bounded once more where it is used, for the verifier."""
        assert isinstance(owner.type, ArrayType)
        length = owner.type.length
        step = self.builder.opaque(step)
        if length & (length - 1) == 0:
            return self.builder.binary("and", step, Imm(length - 1, "i64"))
        inside = self.builder.compare("ult", step, Imm(length, "i64"))
        # Behind another barrier, or the optimiser would multiply first and select then, past what the test has shown.
        return self.builder.opaque(self.builder.select(inside, step, Imm(0, "i64")))

    def packet_end(self) -> Any:
        """The pointer behind the packet's last byte."""
        raise NotImplementedError

    def _byte_of(self, owner: Bytes, index: Value, node: ast.Subscript) -> Value:
        u8 = owner.type.element
        assert isinstance(u8, IntType)
        length = owner.type.length
        if isinstance(index, Const) and isinstance(index.value, int) and 0 <= index.value < length:
            number = int(index.value)
            for (at, size), op in zip(chunks(length), owner.ops, strict=True):
                if at <= number < at + size:
                    if number > at:
                        op = self.builder.binary("lshr", op, Imm(8 * (number - at), op.type))
                    return scalar(self.builder.convert("trunc", op, ir_type(u8)), u8, *limits(u8))
        if isinstance(index, Const):
            raise self.error(node, "array-index", f"the bytes of a {owner.type.name} are 0 to {length - 1}")
        raise self.error(node, "array-index", f"the index into a {owner.type.name} is a number known here")

    # What other parts provide

    def context_field(self, owner: ContextValue, name: str, node: ast.Attribute) -> Value:
        raise NotImplementedError

    def inline(self, function: types.FunctionType, args: list[Value], kwargs: dict[str, Value], node: ast.AST) -> Value:
        raise NotImplementedError

    def map_item(self, facade: MapFacade, node: ast.Subscript) -> Value:
        raise NotImplementedError
