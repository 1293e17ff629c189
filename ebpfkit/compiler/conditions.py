"""Conditions: comparisons, `and`, `or`, `not` and `in` as branches, and what a test shows about the names in it.

Belongs here: control flow of truth values, optional names that a test has found, numbers that one has bounded.
"""

from __future__ import annotations

import ast
from dataclasses import replace

from ebpfkit.compiler.conversions import is_plain_int
from ebpfkit.compiler.ir import Imm
from ebpfkit.compiler.operators import SYMBOLS
from ebpfkit.compiler.pins import Pins
from ebpfkit.compiler.state import Binding, Known, State, join
from ebpfkit.compiler.values import (
    Const,
    OptionalScalar,
    OptionalView,
    Scalar,
    Tuple,
    Value,
    describe,
)
from ebpfkit.dsl.maps import MapFacade

__all__ = ["Conditions"]

_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
    ast.NotEq: ast.NotEq,
}
"""The comparison that says the same with its sides exchanged."""


class Conditions(Pins):
    """Evaluation of conditions."""

    def test(self, value: Const | Scalar, yes: str, no: str) -> tuple[State | None, State | None]:
        """Branch on a truth value; the states on both sides."""
        state = self.live
        self.state = None
        if isinstance(value, Const):
            self.builder.br(yes if value.value else no)
            return (state, None) if value.value else (None, state)
        self.builder.condbr(value.op, yes, no)
        return state, state.copy()

    def branch(self, node: ast.expr, yes: str, no: str) -> tuple[State | None, State | None]:
        """Evaluate a condition and branch; returns what is known on the yes side and on the no side."""
        with self.at(node):
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
                false, true = self.branch(node.operand, no, yes)
                return true, false
            if isinstance(node, ast.BoolOp):
                return self._branch_bool(node, yes, no)
            if isinstance(node, ast.Compare):
                return self._branch_compare(node, yes, no)
            value = self.expr(node)
            true, false = self.test(self.truth(value, node), yes, no)
            if isinstance(value, OptionalView):
                name = self.name_of(node)
                self.know(true, name, Known.PRESENT)
                self.know(false, name, Known.ABSENT)
            return true, false

    def name_of(self, node: ast.expr) -> str | None:
        """The local name that a test is about."""
        if isinstance(node, ast.NamedExpr) and isinstance(node.target, ast.Name):
            return node.target.id
        return node.id if isinstance(node, ast.Name) and node.id in self.frame.locals else None

    def _branch_bool(self, node: ast.BoolOp, yes: str, no: str) -> tuple[State | None, State | None]:
        is_and = isinstance(node.op, ast.And)
        left: list[State] = []
        for operand in node.values[:-1]:
            onward = self.builder.label("and" if is_and else "or")
            if is_and:
                on, off = self.branch(operand, onward, no)
            else:
                off, on = self.branch(operand, yes, onward)
            if off is not None:
                left.append(off)
            self.enter(onward, [on])
            if self.state is None:
                return (None, join(left)) if is_and else (join(left), None)
        true, false = self.branch(node.values[-1], yes, no)
        side = false if is_and else true
        both = join(left + ([side] if side is not None else []))
        return (true, both) if is_and else (both, false)

    def _branch_compare(self, node: ast.Compare, yes: str, no: str) -> tuple[State | None, State | None]:
        falses: list[State] = []
        left_node, left = node.left, self.expr(node.left)
        for number, (op, right_node) in enumerate(zip(node.ops, node.comparators, strict=True)):
            last = number == len(node.ops) - 1
            target = yes if last else self.builder.label("chain")
            result, right = self._one_comparison(op, left_node, left, right_node, node)
            true, false = self.test(result, target, no)
            self._learn(op, left_node, left, right_node, right, true, false)
            if false is not None:
                falses.append(false)
            if last:
                return true, join(falses)
            self.enter(target, [true])
            if self.state is None:
                return None, join(falses)
            left_node, left = right_node, right
        raise AssertionError("a comparison without operators")

    def _one_comparison(
        self, op: ast.cmpop, left_node: ast.expr, left: Value, right_node: ast.expr, node: ast.Compare
    ) -> tuple[Const | Scalar, Value]:
        """One link of a comparison: its truth, and the right operand's value for the next link."""
        if isinstance(op, (ast.Is, ast.IsNot)):
            right = self.expr(right_node)
            return self._identity(isinstance(op, ast.Is), left, right, node), right
        if isinstance(op, (ast.In, ast.NotIn)):
            truth, right = self.contains(left, right_node, node)
            if isinstance(op, ast.NotIn):
                if isinstance(truth, Const):
                    truth = Const(not truth.value)
                else:
                    truth = self.boolean(self.builder.binary("xor", truth.op, Imm(1, "i1")))
            return truth, right
        right = self.expr(right_node)
        result = self.compare(SYMBOLS[type(op)], left, right, node)
        return self.truth(result, node), right

    def _identity(self, is_: bool, left: Value, right: Value, node: ast.Compare) -> Const | Scalar:
        if left == Const(None):
            left, right = right, left
        if right != Const(None):
            if isinstance(left, Const) and isinstance(right, Const):
                return Const((left.value is right.value) == is_)
            raise self.error(
                node, "identity", "is compares objects, and there are none here", "write ==, or compare with None"
            )
        match left:
            case OptionalView(view=view):
                pointer = view.pointer
            case OptionalScalar(pointer=pointer):
                pass
            case Const(value=None):
                return Const(is_)
            case _:
                return Const(not is_)
        return self.boolean(self.builder.compare("eq" if is_ else "ne", pointer, self.null()))

    def _learn(
        self,
        op: ast.cmpop,
        left_node: ast.expr,
        left: Value,
        right_node: ast.expr,
        right: Value,
        true: State | None,
        false: State | None,
    ) -> None:
        """Note what a comparison has shown: an optional name is there, a number is below a constant."""
        if isinstance(op, (ast.Is, ast.IsNot)):
            if isinstance(op, ast.Is):
                true, false = false, true
            node = left_node if right == Const(None) else right_node
            self.know(true, self.name_of(node), Known.PRESENT)
            self.know(false, self.name_of(node), Known.ABSENT)
            return
        if isinstance(left, Const) and not isinstance(right, Const) and type(op) in _FLIPPED:
            op, left_node, left, right = _FLIPPED[type(op)](), right_node, right, left
        name = self.name_of(left_node)
        if name is None or not isinstance(right, Const) or not is_plain_int(right.value):
            return
        number = int(right.value)
        ranges: dict[type[ast.cmpop], tuple[tuple[int | None, int | None], tuple[int | None, int | None]]] = {
            ast.Lt: ((None, number - 1), (number, None)),
            ast.LtE: ((None, number), (number + 1, None)),
            ast.Gt: ((number + 1, None), (None, number)),
            ast.GtE: ((number, None), (None, number - 1)),
            ast.Eq: ((number, number), (None, None)),
            ast.NotEq: ((None, None), (number, number)),
        }
        if type(op) in ranges:
            for state, (low, high) in zip((true, false), ranges[type(op)], strict=True):
                self._clamp(state, name, low, high)

    def _clamp(self, state: State | None, name: str, low: int | None, high: int | None) -> None:
        key = (self.frame.number, name)
        binding = state.names.get(key) if state is not None else None
        if state is None or not isinstance(binding, Binding) or not isinstance(binding.shape, Scalar):
            return
        shape = binding.shape
        lo = max(shape.lo, low) if low is not None else shape.lo
        hi = min(shape.hi, high) if high is not None else shape.hi
        if lo <= hi and (lo, hi) != (shape.lo, shape.hi) and not shape.type.network:
            state.names[key] = replace(binding, shape=replace(shape, lo=lo, hi=hi, tested=True))

    def contains(self, item: Value, node: ast.expr, whole: ast.Compare) -> tuple[Const | Scalar, Value]:
        """`item in node`: a tuple, element by element, or a map."""
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            elements: list[Value] = [self.expr(e) for e in node.elts]
            container: Value = Tuple(tuple(elements))
        else:
            container = self.expr(node)
            facade = self.map_of(container)
            if facade is not None:
                return self.map_contains(facade, item, node), container
            if isinstance(container, Tuple):
                elements = list(container.items)
            elif isinstance(container, Const) and isinstance(container.value, (tuple, list, set, frozenset, range)):
                if len(container.value) > 1024:
                    is_range = isinstance(container.value, range)
                    kind, what = type(container.value).__name__, "numbers" if is_range else "elements"
                    hint = "compare with < and >=" if is_range else "put them into a map"
                    raise self.error(node, "too-large", f"this {kind} has more than 1024 {what}", hint)
                elements = [Const(element) for element in container.value]
                if isinstance(container.value, (set, frozenset)):
                    elements.sort(key=lambda c: repr(c.value) if isinstance(c, Const) else "")
            else:
                raise self.error(node, "bad-container", f"{describe(container)} holds nothing that in could find",
                          "write a tuple or a map")  # fmt: skip
        total: Scalar | None = None
        for element in elements:
            result = self.truth(self.compare("==", item, element, whole), whole)
            if isinstance(result, Const):
                if result.value:
                    return Const(True), container
                continue
            total = result if total is None else self.boolean(self.builder.binary("or", total.op, result.op))
        return (total if total is not None else Const(False)), container

    # What other parts provide

    def expr(self, node: ast.expr) -> Value:
        """The value of an expression; `expressions` knows how."""
        raise NotImplementedError

    def map_contains(self, facade: MapFacade, item: Value, node: ast.expr) -> Const | Scalar:
        raise NotImplementedError
