"""Loops that the kernel counts: `for i in iter_num(start, stop)`, an open-coded iterator.

Belongs here: beginning, asking for the next number, and ending on every way out. Other loops are `loops.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import ModuleType

from ebpfkit.compiler.base import Loop, assigned_names
from ebpfkit.compiler.blocks import Blocks, Guard
from ebpfkit.compiler.ir import Arg, Extern, Operand, Param
from ebpfkit.compiler.state import State
from ebpfkit.compiler.values import INT, Const, Scalar, Value
from ebpfkit.dsl.iterators import iter_num
from ebpfkit.dsl.typeinfo import ArrayType, Field, IntType, StructType

__all__ = ["Iterators"]

S32 = IntType("s32", 32, signed=True)
_STATE = StructType("bpf_iter_num", (Field("__opaque", ArrayType(IntType("u64", 64), 1), 0),), 8, 8)
_IT = Param(Arg("it"), _STATE, pointee=True)
_NEW = Extern(
    "bpf_iter_num_new",
    (_IT, Param(Arg("start", "i32"), S32), Param(Arg("end", "i32"), S32)),
    Param(Arg("r", "i32"), S32),
)
_NEXT = Extern("bpf_iter_num_next", (_IT,), Param(Arg("r"), S32, pointee=True))
_DESTROY = Extern("bpf_iter_num_destroy", (_IT,))


class Iterators(Blocks):
    """Execution of loops over open-coded iterators."""

    def iterator_loop(self, node: ast.For) -> bool:
        """Lower a loop over `iter_num(...)`; False for any other loop."""
        call = node.iter
        if not isinstance(call, ast.Call) or not isinstance(call.func, (ast.Name, ast.Attribute)):
            return False
        if isinstance(call.func, ast.Attribute):
            owner = self.expr(call.func.value) if isinstance(call.func.value, ast.Name) else None
            if not isinstance(owner, Const) or not isinstance(owner.value, ModuleType):
                return False
        if self.expr(call.func) != Const(iter_num):
            return False
        self._for_numbers(node, call)
        return True

    def _for_numbers(self, node: ast.For, call: ast.Call) -> None:
        if self.live.lock is not None:
            message = f"iter_num() is called while the lock of line {self.live.lock[1].line} is held"
            raise self.error(call, "in-lock", message, "write range()")
        args, kwargs = self.evaluate(call)
        self.arguments("iter_num", args, kwargs, ("start", "stop"), call)
        bounds = [self.scalar_of(value, where) for value, where in zip(args, call.args, strict=True)]
        ends = [self.coerce(value, S32, where, "an end") for value, where in zip(args, call.args, strict=True)]
        place = self.builder.alloca(_STATE.size, "the iterator")
        self._kernel_call(_NEW, place, *ends)
        guard = Guard(self.frame, len(self.frame.loops), iterator=place)
        key = -1 - len(self.guards)
        self.guards.append(guard)
        self.guarded[key] = place
        try:
            self._rounds(node, place, bounds[0].lo, bounds[1].hi - 1)
        finally:
            self.guards.pop()
            del self.guarded[key]
        if self.state is not None:
            self.end_iterator(place)

    def _rounds(self, node: ast.For, place: Operand, low: int, high: int) -> None:
        head, body, done, end = (self.builder.label(n) for n in ("for", "do", "exhausted", "endfor"))

        def emit(loop: Loop) -> tuple[State | None, list[State]]:
            found = self._kernel_call(_NEXT, place)
            more = self.builder.compare("ne", found, self.null())
            true, false = self.test(self.boolean(more), body, done)
            self.enter(body, [true])
            number = self.builder.convert("sext", self.builder.load("i32", found, 4), "i64")
            # What the ends say of it is not what the verifier knows, so it is bounded again where it is an index.
            self.assign(node.target, Scalar(number, INT, low, max(low, high), tested=True), node.iter)
            self.block(node.body)
            back = list(loop.continues)
            if self.state is not None:
                back.append(self.live)
                self.go(head)
            return false, back

        self.finish_loop(*self.loop(assigned_names([node]), head, emit, end), done, end, node.orelse)

    def _kernel_call(self, extern: Extern, *operands: Operand) -> Operand:
        self.builder.function.externs[extern.name] = extern
        kind = "void" if extern.result is None else extern.result.arg.type
        return self.builder.call(extern.name, kind, operands)

    def end_iterator(self, place: Operand) -> None:
        """Give the iterator back."""
        self._kernel_call(_DESTROY, place)

    def packet_read(self, args: list[Value], node: ast.Call) -> Value:
        self._still_cursor("read()", node)
        return super().packet_read(args, node)

    def packet_skip(self, args: list[Value], node: ast.Call) -> Value:
        self._still_cursor("skip()", node)
        return super().packet_skip(args, node)

    def _still_cursor(self, what: str, node: ast.AST) -> None:
        """The verifier takes the rounds of an iterator for one where nothing but numbers changes."""
        if any(guard.iterator is not None for guard in self.guards):
            message = f"{what} moves the cursor in a loop over iter_num(), of which the verifier sees no end"
            raise self.error(node, "moving-cursor", message, "write for i in range(n), or peek() without moving")

    # What `loops` gives

    def loop(
        self, names: set[str], head: str, emit: Callable[[Loop], tuple[State | None, list[State]]], end: str
    ) -> tuple[State | None, Loop]:
        raise NotImplementedError

    def finish_loop(self, exhausted: State | None, loop: Loop, done: str, end: str, orelse: list[ast.stmt]) -> None:
        raise NotImplementedError

    def assign(self, target: ast.expr, value: Value, node: ast.expr) -> None:
        raise NotImplementedError
