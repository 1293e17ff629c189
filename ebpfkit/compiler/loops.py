"""Loops: what is known at a loop's head, and where leaving one goes.

Belongs here: `while`, `for`, `break` and `continue`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ebpfkit.compiler.base import Loop, assigned_names
from ebpfkit.compiler.ir import Imm, Operand
from ebpfkit.compiler.iterators import Iterators
from ebpfkit.compiler.state import Binding, Known, State, constant_type, join
from ebpfkit.compiler.values import (
    INT,
    Const,
    Scalar,
    Tuple,
    Value,
    View,
    describe,
    limits,
    scalar,
)
from ebpfkit.dsl.typeinfo import ArrayType

__all__ = ["Loops"]

_ROUNDS = 6
_UNROLLED = 32
"""Rounds up to which LLVM may unroll a loop whole; the counters of longer ones stay as they are written."""


class Loops(Iterators):
    """Execution of loops."""

    # Loops

    def _loosen(self, state: State, names: set[str], *, fully: bool) -> State:
        """What may be known at a loop's head: names that the loop changes are no constants there."""
        state = state.copy()
        for name in names:
            key = (self.frame.number, name)
            binding = state.names.get(key)
            if not isinstance(binding, Binding):
                continue
            shape: Value = binding.shape
            if isinstance(shape, Const) and binding.slots:
                type = constant_type(shape.value)
                assert type is not None
                number = int(shape.value)
                shape = scalar(self.null(), type, number, number)
            if isinstance(shape, Scalar) and (fully or shape.type != INT):
                low, high = limits(shape.type)
                shape = replace(shape, lo=low, hi=high)
            known = Known.UNTESTED
            state.names[key] = replace(binding, shape=shape, known=known)
        return state

    def loop(
        self, names: set[str], head: str, emit: Callable[[Loop], tuple[State | None, list[State]]], end: str
    ) -> tuple[State | None, Loop]:
        """Lower a loop's body until what is known at its head no longer changes.

        `emit` lowers one attempt from the head on; it returns the state when the loop is exhausted and the states that
        go back to the head.
        """
        entry = self.live
        known = self._loosen(entry, names, fully=False)
        self.go(head)
        mark, exits = self.builder.checkpoint(), len(self.frame.exits)
        for attempt in range(_ROUNDS):
            self.builder.start(head)
            self.state = known.copy()
            loop = Loop(end, head)
            self.frame.loops.append(loop)
            try:
                exhausted, back = emit(loop)
            finally:
                self.frame.loops.pop()
            again = join([known, *back])
            assert again is not None
            if again.same(known):
                return exhausted, loop
            self.builder.rollback(mark)
            del self.frame.exits[exits:]
            known = self._loosen(again, names, fully=attempt >= 1)
        raise AssertionError("what is known at a loop's head never settled")

    def _do_While(self, node: ast.While) -> None:
        head, body, done, end = (self.builder.label(n) for n in ("while", "do", "exhausted", "endwhile"))

        def emit(loop: Loop) -> tuple[State | None, list[State]]:
            true, false = self.branch(node.test, body, done)
            self.enter(body, [true])
            if self.state is not None:
                self.block(node.body)
            back = list(loop.continues)
            if self.state is not None:
                back.append(self.state)
                self.go(head)
            return false, back

        self.finish_loop(*self.loop(assigned_names([node]), head, emit, end), done, end, node.orelse)

    def finish_loop(self, exhausted: State | None, loop: Loop, done: str, end: str, orelse: list[ast.stmt]) -> None:
        self.enter(done, [exhausted])
        ends: list[State | None] = list(loop.breaks)
        if self.state is not None:
            self.block(orelse)
            if self.state is not None:
                ends.append(self.state)
                self.go(end)
        self.enter(end, ends)

    def _do_For(self, node: ast.For) -> None:
        if self.iterator_loop(node):
            return
        call = node.iter
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            callee = self.expr(call.func)
            if callee == Const(range):
                self._for_range(node, call)
                return
        value = self.expr(node.iter)
        if isinstance(value, Const) and isinstance(value.value, (tuple, list, range, bytes)):
            if len(value.value) > 256:
                raise self.error(
                    node.iter, "too-large", f"unrolling {len(value.value)} rounds", "write for i in range(...)"
                )
            self._unroll(node, [partial(Const, item) for item in value.value])
        elif isinstance(value, Tuple):
            self._unroll(node, [partial(replace, item) for item in value.items])
        elif isinstance(value, View) and isinstance(value.type, ArrayType) and value.type.length <= 256:
            element = value.type.element
            places = [index * element.size for index in range(value.type.length)]
            cls = getattr(value.cls, "element", None)
            self._unroll(node, [partial(self.load_place, value, at, element, cls, node.iter) for at in places])
        else:
            raise self.error(
                node.iter, "bad-iterable", f"{describe(value)} cannot be gone through", "write for i in range(n)"
            )

    def _unroll(self, node: ast.For, items: list[Callable[[], Value]]) -> None:
        """A loop over what is known at compile time: a copy of the body for each element, read when its turn comes."""
        end = self.builder.label("endfor")
        breaks: list[State | None] = []
        listed = isinstance(node.iter, ast.Tuple) and len(node.iter.elts) == len(items)
        places = node.iter.elts if listed and isinstance(node.iter, ast.Tuple) else [node.iter] * len(items)
        for item, where in zip(items, places, strict=True):
            if self.state is None:
                break
            onward = self.builder.label("round")
            loop = Loop(end, onward, unrolled=True)
            self.frame.loops.append(loop)
            try:
                self.assign(node.target, item(), where)
                self.block(node.body)
            finally:
                self.frame.loops.pop()
            states: list[State | None] = list(loop.continues)
            if self.state is not None:
                states.append(self.state)
                self.go(onward)
            breaks += loop.breaks
            self.enter(onward, states)
        if self.state is not None:
            self.block(node.orelse)
            if self.state is not None:
                breaks.append(self.state)
                self.go(end)
        self.enter(end, breaks)

    def _range_bounds(self, call: ast.Call) -> tuple[Scalar, Scalar, int]:
        """start, stop and step of a range as 64-bit numbers."""
        args, kwargs = self.evaluate(call)
        if kwargs or not 1 <= len(args) <= 3:
            raise self.error(call, "bad-call", "range() takes (stop), (start, stop) or (start, stop, step)")
        step = 1
        if len(args) == 3:
            value = args[2]
            if not isinstance(value, Const) or not isinstance(value.value, int) or not value.value:
                raise self.error(call.args[2], "bad-range", "the step of a range is a constant that is not 0")
            step = int(value.value)
        ends = [Const(0), args[0]] if len(args) == 1 else args[:2]
        nodes = [call, call.args[0]] if len(args) == 1 else call.args[:2]
        out = []
        for value, where in zip(ends, nodes, strict=True):
            one = self.scalar_of(value, where)
            if one.type.network or one.type.is_bool:
                raise self.error(where, "bad-type", f"a range ends at an integer, not a {one.type.name}")
            if one.lo < limits(INT)[0] + abs(step) or one.hi > limits(INT)[1] - abs(step):
                raise self.error(
                    where, "bad-range", f"a range over all of {one.type.name} is too long", "cast: u32(...)"
                )
            op = (
                Imm(one.op.value, "i64")
                if isinstance(one.op, Imm)
                else self.builder.convert("sext" if one.type.signed else "zext", one.op, "i64")
            )
            out.append(Scalar(op, INT, one.lo, one.hi))
        return out[0], out[1], step

    def _for_range(self, node: ast.For, call: ast.Call) -> None:
        start, stop, step = self._range_bounds(call)
        head, body, onward, done, end = (self.builder.label(n) for n in ("for", "do", "next", "exhausted", "endfor"))
        counter = self.builder.slot("i64", "$range")
        fixed = isinstance(start.op, Imm) and isinstance(stop.op, Imm)
        many = fixed and len(range(start.lo, stop.lo, step)) > _UNROLLED
        self.builder.store(start.op, counter, 8)
        low, high = (start.lo, stop.hi - 1) if step > 0 else (stop.lo + 1, start.hi)

        def emit(loop: Loop) -> tuple[State | None, list[State]]:
            loop.continue_label = onward
            now: Operand = self.builder.load("i64", counter, 8)
            # Hidden, or the optimiser counts by another bound that it knows better, and the verifier does not.
            shown = self.builder.opaque(now) if many else now
            more = self.builder.compare("slt" if step > 0 else "sgt", shown, stop.op)
            true, false = self.test(self.boolean(more), body, done)
            self.enter(body, [true])
            if low <= high:
                tested = not isinstance(start.op, Imm)
                self.assign(node.target, Scalar(now, INT, low, high, tested=tested), node.iter)
                self.block(node.body)
            states: list[State | None] = list(loop.continues)
            if self.state is not None:
                states.append(self.state)
                self.go(onward)
            self.enter(onward, states)
            if self.state is None:
                return false, []
            following = self.builder.binary("add", self.builder.load("i64", counter, 8), Imm(step, "i64"))
            self.builder.store(following, counter, 8)
            back = self.live
            self.go(head)
            return false, [back]

        if low > high:  # never entered, whatever the run-time ends are
            self.finish_loop(self.live, Loop(end, head), self._skip(done), end, node.orelse)
            return
        self.finish_loop(*self.loop(assigned_names([node]), head, emit, end), done, end, node.orelse)

    def _skip(self, done: str) -> str:
        self.builder.br(done)
        return done

    def _do_Break(self, node: ast.Break) -> None:
        self.leave_for_loop()
        loop = self.frame.loops[-1]
        loop.breaks.append(self.live)
        self.go(loop.break_label)

    def _do_Continue(self, node: ast.Continue) -> None:
        self.leave_for_loop()
        loop = self.frame.loops[-1]
        loop.continues.append(self.live)
        self.go(loop.continue_label)

    # What `statements` gives

    def block(self, statements: list[ast.stmt]) -> None:
        raise NotImplementedError

    def assign(self, target: ast.expr, value: Value, node: ast.expr) -> None:
        raise NotImplementedError
