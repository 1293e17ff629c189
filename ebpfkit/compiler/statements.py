"""Statements: assignment in all its forms, branches, assert, return, and the refusal of everything else.

Belongs here: control flow between statements and the joining of what is known where paths meet. Loops are `loops.py`,
`with` is `blocks.py`, `match` is `matching.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from ebpfkit.compiler.conversions import is_plain_int
from ebpfkit.compiler.matching import Matching
from ebpfkit.compiler.operators import SYMBOLS
from ebpfkit.compiler.state import State
from ebpfkit.compiler.values import (
    Bytes,
    Const,
    ContextValue,
    Space,
    Tuple,
    Value,
    View,
    describe,
)
from ebpfkit.dsl.typeinfo import ArrayType
from ebpfkit.dsl.variables import Var

__all__ = ["Statements"]

_NO_STATEMENT = {
    "FunctionDef": ("a function inside a program", "move it out into the module"),
    "AsyncFunctionDef": ("a program cannot wait", "move it out of the program"),
    "ClassDef": ("a class inside a program", "move it out into the module"),
    "AsyncFor": ("a program cannot wait", "write for"),
    "AsyncWith": ("a program cannot wait", "remove async"),
    "Raise": ("a program cannot raise", "return a verdict"),
    "Try": ("nothing in a program raises", "test for None, or use get() and peek()"),
    "TryStar": ("nothing in a program raises", "test for None, or use get() and peek()"),
    "Import": ("an import inside a program", "move it to the top of the module"),
    "ImportFrom": ("an import inside a program", "move it to the top of the module"),
    "Global": ("a program cannot rebind names of the module", "keep the value in a map"),
    "Nonlocal": ("a program cannot rebind names of another function", "keep the value in a map"),
    "TypeAlias": ("a type statement inside a program", "move it out into the module"),
}


class Statements(Matching):
    """Execution of statements."""

    def block(self, statements: list[ast.stmt]) -> None:
        """Lower statements until one leaves; what stands behind is never executed."""
        for statement in statements:
            if self.state is None:
                return
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        """Lower one statement."""
        handler: Callable[[Any], None] | None = getattr(self, f"_do_{type(node).__name__}", None)
        if handler is None:
            name = type(node).__name__
            message, hint = _NO_STATEMENT.get(name, (f"{name} has no meaning in a program", ""))
            raise self.error(node, "unsupported-syntax", message, hint)
        with self.at(node):
            handler(node)

    def body(self, node: ast.FunctionDef) -> None:
        self.block(node.body)

    def _do_Pass(self, node: ast.Pass) -> None:
        """Nothing, as in Python."""

    def _do_Expr(self, node: ast.Expr) -> None:
        before, self.unused = self.unused, node.value
        value = self.expr(node.value)
        self.unused = before
        if isinstance(node.value, (ast.Call, ast.NamedExpr)) or isinstance(value, Const):
            return
        # A bare expression has no effect; evaluating it had whatever effect its calls have.

    # Assignment

    def _do_Assign(self, node: ast.Assign) -> None:
        value = self.expr(node.value)
        for target in node.targets:
            self.assign(target, value, node.value)

    def _do_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not isinstance(node.target, ast.Name):
            raise self.error(node.target, "unsupported-syntax", "only a name can be annotated", "remove the annotation")
        if node.value is None:
            return
        value = self.expr(node.value)
        wanted = self.expr(node.annotation)
        info = getattr(wanted.value, "__ebpf_type__", None) if isinstance(wanted, Const) else None
        if info is not None and isinstance(wanted, Const):
            held = value.value if isinstance(value, Const) else None
            if isinstance(value, Const) and is_plain_int(held) and type(held) is int:
                raise self.error(
                    node.value,
                    "annotation",
                    f"the annotation does not make {held} a {wanted.value.__name__}",
                    f"write {wanted.value.__name__}({held})",
                )
            mine = getattr(value, "type", None) or getattr(held, "__ebpf_type__", None)
            if mine != info:
                raise self.error(
                    node.value,
                    "annotation",
                    f"this is {describe(value)}, the annotation says {wanted.value.__name__}",
                    f"write {wanted.value.__name__}(...)",
                )
        self.assign(node.target, value, node.value)

    def assign(self, target: ast.expr, value: Value, node: ast.expr) -> None:
        """`target = value`."""
        with self.at(target):
            match target:
                case ast.Name():
                    self._assign_name(target, value, node)
                case ast.Tuple() | ast.List():
                    self._unpack(target, value, node)
                case ast.Attribute():
                    self._store_attribute(self.expr(target.value), target, value, node)
                case ast.Subscript():
                    self._store_subscript(self.expr(target.value), self._index(target), target, value, node)
                case _:
                    raise self.error(
                        target, "unsupported-syntax", "* in an assignment needs a list", "name every element"
                    )

    def _index(self, target: ast.Subscript) -> Value:
        if isinstance(target.slice, ast.Slice):
            raise self.error(
                target.slice, "unsupported-syntax", "a slice cannot be assigned", "assign element by element"
            )
        return self.expr(target.slice)

    def _assign_name(self, target: ast.Name, value: Value, node: ast.expr) -> None:
        self.no_alias(node, value)
        if isinstance(value, View) and value.nested and value.space is Space.STACK:
            raise self.error(
                node,
                "struct-alias",
                "a name for a part of a local structure",
                "use it in place, or write .copy()",
            )
        self.bind(target.id, value, target)

    def _unpack(self, target: ast.Tuple | ast.List, value: Value, node: ast.expr) -> None:
        if isinstance(value, Const) and isinstance(value.value, (tuple, list)):
            items: list[Value] = [Const(item) for item in value.value]
        elif isinstance(value, Tuple):
            items = list(value.items)
        else:
            raise self.error(node, "bad-type", f"{describe(value)} cannot be taken apart", "write a tuple")
        starred = next((e for e in target.elts if isinstance(e, ast.Starred)), None)
        if starred is not None:
            raise self.error(starred, "unsupported-syntax", "* in an assignment makes a list", "name every element")
        if len(items) != len(target.elts):
            raise self.error(target, "unpack", f"{len(items)} values for {len(target.elts)} names")
        listed = isinstance(node, (ast.Tuple, ast.List)) and len(node.elts) == len(items)
        sources = node.elts if listed and isinstance(node, (ast.Tuple, ast.List)) else [node] * len(items)
        for element, item, source in zip(target.elts, items, sources, strict=True):
            self.assign(element, item, source)

    def _store_attribute(self, owner: Value, target: ast.Attribute, value: Value, node: ast.expr) -> None:
        if isinstance(owner, Const) and isinstance(owner.value, Var):
            place = self.place_of_variable(owner.value, target)
            self.store_place(place, 0, place.type, place.cls, value, node)
            return
        if not isinstance(owner, View):
            if isinstance(owner, Const) and owner.value is not None:
                raise self.error(
                    target, "read-only", f"{target.attr} of {describe(owner)} cannot be assigned in a program"
                )
            if isinstance(owner, ContextValue):
                self.store_context(target.attr, value, target, node)
                return
            raise self.wrong_kind(owner, target.value, "a structure")
        found = self.field(owner, target.attr, target)
        if found is None:
            raise self.no_field(owner, target.attr, target)
        field, cls = found
        self.store_place(owner, field.offset, field.type, cls, value, node)

    def _store_subscript(self, owner: Value, index: Value, target: ast.Subscript, value: Value, node: ast.expr) -> None:
        facade = self.map_of(owner)
        if facade is not None:
            self.map_store(facade, index, value, target, node)
            return
        if isinstance(owner, View) and isinstance(owner.type, ArrayType):
            view, offset = self.element(owner, index, target)
            self.store_place(view, offset, owner.type.element, getattr(owner.cls, "element", None), value, node)
            return
        if isinstance(owner, Bytes):
            raise self.error(target, "read-only", f"a {owner.type.name} is a value", "assign a whole address")
        raise self.wrong_kind(owner, target.value, "an array or a map")

    def _do_AugAssign(self, node: ast.AugAssign) -> None:
        symbol, target = SYMBOLS[type(node.op)], node.target
        if isinstance(target, ast.Name):
            old = self._expr_Name(ast.copy_location(ast.Name(target.id, ast.Load()), target))
            if target.id not in self.frame.locals:
                raise self.error(target, "unbound", f"{target.id} is not a local name")
            self.bind(target.id, self.binary(symbol, old, self.expr(node.value), node), target)
        elif isinstance(target, ast.Attribute):
            owner = self.expr(target.value)
            old = self.attribute(owner, target)
            self._store_attribute(owner, target, self.binary(symbol, old, self.expr(node.value), node), node.value)
        else:
            self._augment_subscript(symbol, target, node)

    def _augment_subscript(self, symbol: str, target: ast.Subscript, node: ast.AugAssign) -> None:
        owner, index = self.expr(target.value), self._index(target)
        facade = self.map_of(owner)
        if facade is not None:
            view = self.require(facade, index, target)
            old = self.load_place(view, 0, view.type, facade.value_type, target)
            value = self.binary(symbol, old, self.expr(node.value), node)
            if facade.map_type == "lpm_trie":  # what was found may be a shorter prefix; storing is to this very one
                self.map_store(facade, index, value, target, node.value)
            else:
                self.store_place(view, 0, view.type, facade.value_type, value, node.value)
            return
        if isinstance(owner, View) and isinstance(owner.type, ArrayType):
            view, offset = self.element(owner, index, target)
            cls = getattr(owner.cls, "element", None)
            old = self.load_place(view, offset, owner.type.element, cls, target)
            value = self.binary(symbol, old, self.expr(node.value), node)
            self.store_place(view, offset, owner.type.element, cls, value, node.value)
            return
        self._store_subscript(owner, index, target, Const(0), node.value)

    def _do_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                owner = self.expr(target.value)
                facade = self.map_of(owner)
                if facade is not None:
                    self.map_delete(facade, self._index(target), target)
                    continue
            raise self.error(target, "unsupported-syntax", "del is for entries of maps", "write del m[key]")

    def _do_Assert(self, node: ast.Assert) -> None:
        """`assert test`: where it does not hold the program ends as `short=` says."""
        if node.msg is not None and not isinstance(node.msg, ast.Constant):
            raise self.error(
                node.msg, "unsupported-syntax", "the text of an assert is for readers", "write a plain string"
            )
        holds, fails = self.builder.label("holds"), self.builder.label("fails")
        true, false = self.branch(node.test, holds, fails)
        self.enter(fails, [false])
        if self.state is not None:
            self.leave_short(node, "this assert")
        self.enter(holds, [true])

    # Branches

    def _do_If(self, node: ast.If) -> None:
        yes, no, end = self.builder.label("then"), self.builder.label("else"), self.builder.label("endif")
        true, false = self.branch(node.test, yes, no)
        ends: list[State | None] = []
        for label, state, body in ((yes, true, node.body), (no, false, node.orelse)):
            self.enter(label, [state])
            if self.state is not None:
                self.block(body)
                if self.state is not None:
                    ends.append(self.state)
                    self.go(end)
        self.enter(end, ends)

    def _do_Return(self, node: ast.Return) -> None:
        value = self.expr(node.value) if node.value is not None else Const(None)
        self.leave_function()
        self.finish_function(value, node)
