"""The packet: its cursor, views of its bytes, its length, and the calls that move its ends.

Belongs here: bounds checks and what they give, optional results, and the end of every view when the packet's bounds
move. Maps are `maps.py`.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

from ebpfkit.abi.helpers import HELPERS_BY_NAME
from ebpfkit.compiler.contexts import Contexts
from ebpfkit.compiler.ir import Arg, Imm, Operand, Temp
from ebpfkit.compiler.memory import merged, occupied
from ebpfkit.compiler.state import Binding, Conflict
from ebpfkit.compiler.values import (
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
    type_text,
)
from ebpfkit.dsl.kinds import Kind
from ebpfkit.dsl.packet import LARGEST_META, MOST_RESIZED, MOST_SKIPPED, Packet
from ebpfkit.dsl.skbuff import SkBuff
from ebpfkit.dsl.typeinfo import ArrayType, HeaderLength, IntType, StructType, TypeInfo
from ebpfkit.errors import CompileError

__all__ = ["Packets", "packet_methods"]

U32 = IntType("u32", 32)
RESIZERS = {
    "push_head": ("xdp_adjust_head", -1),
    "pop_head": ("xdp_adjust_head", 1),
    "trim": ("xdp_adjust_tail", -1),
    "extend": ("xdp_adjust_tail", 1),
}
"""Methods of the packet that move its ends: the helper behind each and the sign of its argument."""


def packet_methods(kind: Kind) -> tuple[str, ...]:
    """The methods that the packet of a type of program has."""
    if kind.context is Packet:
        return ("read", "peek", "skip", "write", "read_into", "write_from", *RESIZERS, "push_meta", "meta")
    if not kind.has_packet:
        return ()
    if kind.access == "write":
        return ("read", "peek", "skip", "write", "read_into", "write_from", "pull", "meta")
    return ("read", "peek", "skip", "read_into")


class Packets(Contexts):
    """Operations on the packet."""

    cursor: Temp
    data_start: Temp
    data_end: Temp
    frags: bool
    epochs: int = 0

    def packet_end(self) -> Operand:
        if not self.has_packet:
            name = self.frame.function.__name__
            message = f"{name}() does not know where the packet ends"
            raise CompileError(
                message, span=self.builder.place.span, code="no-packet", hint=f"give {name}() the packet as well"
            )
        return self.builder.load("ptr", self.data_end, 8)

    has_packet: bool = True

    def packet_slots(self) -> None:
        """Room for the packet's bounds and the cursor in this function."""
        self.cursor = self.builder.slot("ptr", "$cursor")
        self.data_end = self.builder.slot("ptr", "$end")
        self.data_start = self.builder.slot("ptr", "$start")

    def type_argument(self, value: Value, node: ast.AST) -> tuple[TypeInfo, Any]:
        """The layout and class that a type argument names."""
        cls = value.value if isinstance(value, Const) else None
        info = getattr(cls, "__ebpf_type__", None)
        if not isinstance(cls, type) or info is None:
            raise self.error(
                node, "not-a-type", f"{describe(value)} is not a type of the language", "write u16 or a Struct"
            )
        return info, cls

    def _position(self) -> Operand:
        """The cursor. In a loop LLVM must not see it advance, or it counts rounds by subtracting from the packet's end.

        The verifier refuses that subtraction, and does not see that the count bounds what is read.
        """
        start = self.builder.load("ptr", self.cursor, 8)
        if self.repeats:
            start = self.builder.opaque(start)
            self.builder.store(start, self.cursor, 8)
        return start

    def packet_read(self, args: list[Value], node: ast.Call) -> Value:
        """`pkt.read(T)`: check, advance, or leave by the short exit."""
        info, cls = self.type_argument(args[0], node.args[0])
        start = self._position()
        end = self.builder.gep(start, info.size)
        if self.kind.access:
            self.short_exit(self.builder.compare("ugt", end, self.packet_end()), node, "read()")
            view = View(start, info, cls, Space.PACKET, 8, self.live.epoch)  # type: ignore[arg-type]
        else:
            failed, view = self.copy_packet(start, info, cls)
            self.short_exit(self.builder.compare("ne", failed, Imm(0, "i64")), node, "read()")
        if isinstance(info, StructType) and info.header_length is not None:
            end = self._header_end(start, view, info, info.header_length, node)
        self.builder.store(end, self.cursor, 8)
        return self.load_place(view, 0, info, cls, node) if not isinstance(info, StructType) else view

    def _header_end(
        self, start: Operand, view: View, info: StructType, header: HeaderLength, node: ast.Call
    ) -> Operand:
        """Where a header ends that says its own length; the next read checks."""
        total: Operand | None = None
        for name in header.fields:
            field = info.field(name)
            assert field is not None
            length = self.load_place(view, field.offset, field.type, None, node)
            assert isinstance(length, Scalar)
            wide = self.builder.convert("zext", length.op, "i64")
            total = wide if total is None else self.builder.binary("add", total, wide)
        assert total is not None
        step: Operand = self.builder.binary("mul", total, Imm(header.scale, "i64"))
        if header.base:
            step = self.builder.binary("add", step, Imm(header.base, "i64"))
        return self.builder.gep(start, step)

    def packet_skip(self, args: list[Value], node: ast.Call) -> Value:
        """`pkt.skip(n)`: advance; the next read checks."""
        size = self.scalar_of(args[0], node.args[0])
        if size.type.network or size.type.is_bool or size.type.enum:
            raise self.error(node.args[0], "bad-type", f"skip() takes a number of bytes, not a {size.type.name}")
        if size.lo < 0:
            message = "skip() of a signed number may go back"
            raise self.error(node.args[0], "bad-size", message, "write the cast u16(...)")
        if size.hi > MOST_SKIPPED:
            hint = f"write & {MOST_SKIPPED:#x}, or test it first"
            raise self.error(node.args[0], "bad-size", f"skip() of up to {size.hi} bytes", hint)
        known = self.pinned(size)
        step = self.builder.convert("zext", known or size.op, "i64")
        if known is None:  # the verifier may not have followed a test or a division to here
            mask = Imm((1 << size.hi.bit_length()) - 1, "i64")
            step = self.builder.binary("and", self.builder.opaque(step), mask)
        self.builder.store(self.builder.gep(self._position(), step), self.cursor, 8)
        return Void("skip()")

    def packet_write(self, args: list[Value], node: ast.Call) -> Value:
        """`pkt.write(value)`: the structure's bytes at the cursor, which moves behind them, and a view of them."""
        value = args[0]
        if not isinstance(value, View) or not isinstance(value.type, StructType):
            raise self.wrong_kind(value, node.args[0], "a structure")
        self.check_alive(value, node.args[0])
        start = self._position()
        end = self.builder.gep(start, value.type.size)
        self.short_exit(self.builder.compare("ugt", end, self.packet_end()), node, "write()")
        view = View(start, value.type, value.cls, Space.PACKET, 8, self.live.epoch)
        if merged(occupied(value.type)) != [(0, value.type.size)]:
            self.builder.memset(start, value.type.size, 8)  # padding is zero
        self.copy(view, value, value.type)
        self.builder.store(end, self.cursor, 8)
        return view

    def packet_peek(self, args: list[Value], node: ast.Call) -> Value:
        """`pkt.peek(T)`: the next bytes or None."""
        info, cls = self.type_argument(args[0], node.args[0])
        start = self._position()
        if not self.kind.access:
            failed, copy = self.copy_packet(start, info, cls)
            missing = self.builder.compare("ne", failed, Imm(0, "i64"))
            found = self.builder.select(missing, self.null(), copy.pointer)
            return self.optional(replace(copy, pointer=found), info, cls, "peek()", node)
        end = self.builder.gep(start, info.size)
        outside = self.builder.compare("ugt", end, self.packet_end())
        self.builder.present(start)
        pointer = self.builder.select(outside, self.null(), start)
        view = View(pointer, info, cls, Space.PACKET, 8, self.live.epoch)  # type: ignore[arg-type]
        return self.optional(view, info, cls, "peek()", node)

    def packet_length(self) -> Scalar:
        """`len(pkt)`, a u32."""
        if self.kind.context is SkBuff:
            return self.skb_length()
        if self.frags:
            result = self.call("xdp_get_buff_len", "i64", Arg())
            return scalar(self.builder.convert("trunc", result, "i32"), U32)
        start = self.builder.load("ptr", self.data_start, 8)
        return scalar(self.builder.packet_length(start, self.packet_end()), U32)

    def call(self, name: str, type: str, *args: Operand) -> Temp:
        """Call a helper by its kernel name; while a spin lock is held none may be called but the one that frees it."""
        if self.live.lock is not None and name != "spin_unlock":
            what = f"{name}() is called while the lock of line {self.live.lock[1].line} is held"
            raise CompileError(
                what, span=self.builder.place.span, code="in-lock", hint="do it before or after the with"
            )
        return self.builder.helper(HELPERS_BY_NAME[name].id, name, type, args)

    # Moving the packet's ends

    def packet_pull(self, args: list[Value], node: ast.Call) -> Value:
        """`skb.pull(n)`: the first `n` bytes in one piece, or the short exit."""
        size = self.scalar_of(args[0], node.args[0])
        if size.type.network or size.type.is_bool or size.type.enum or size.lo < 0:
            raise self.error(node.args[0], "bad-type", f"pull() takes a number of bytes, not a {size.type.name}")
        self._move_bounds("skb_pull_data", self.builder.convert("zext", size.op, "i64"), "pull()", node)
        return Void("pull()")

    def packet_resize(self, name: str, args: list[Value], node: ast.Call) -> Value:
        """`pkt.push_head(n)` and its siblings: the packet's end moves by `n`, or the short exit."""
        helper, sign = RESIZERS[name]
        size = self.scalar_of(args[0], node.args[0])
        if size.type.network or size.type.is_bool or size.type.enum:
            raise self.error(node.args[0], "bad-type", f"{name}() takes a number of bytes, not a {size.type.name}")
        if size.lo < 0:
            message = f"{name}() of a signed number may go the other way"
            raise self.error(node.args[0], "bad-size", message, "write the cast u16(...)")
        if size.hi > MOST_RESIZED:
            hint = f"write & {MOST_RESIZED:#x}, or test it first"
            raise self.error(node.args[0], "bad-size", f"{name}() of up to {size.hi} bytes", hint)
        delta: Operand
        if isinstance(size.op, Imm):
            delta = Imm(sign * size.op.value, "i64")
        else:
            delta = self.builder.convert("zext", size.op, "i64")
            if sign < 0:
                delta = self.builder.binary("sub", Imm(0, "i64"), delta)
        self._move_bounds(helper, delta, f"{name}()", node)
        return Void(f"{name}()")

    def packet_push_meta(self, args: list[Value], node: ast.Call) -> Value:
        """`pkt.push_meta(T)`: room for a T in front of the packet, a view of it, or the short exit."""
        info, cls = self.type_argument(args[0], node.args[0])
        if not isinstance(info, StructType) or info.size % 4 or info.size > LARGEST_META:
            message = f"metadata is a structure of 4 to {LARGEST_META} bytes, a multiple of 4"
            raise self.error(node.args[0], "bad-size", message, f"{type_text(info)} has {info.size}")
        self._move_bounds("xdp_adjust_meta", Imm(-info.size, "i64"), "push_meta()", node)
        view = self._metadata(info, cls)
        end = self.builder.gep(view.pointer, info.size)
        start = self.builder.load("ptr", self.data_start, 8)
        self.short_exit(self.builder.compare("ugt", end, start), node, "push_meta()")
        self.builder.memset(view.pointer, info.size, 4)
        return view

    def packet_meta(self, args: list[Value], node: ast.Call) -> Value:
        """`pkt.meta(T)`: a view of the metadata in front of the packet, or None when there is less."""
        info, cls = self.type_argument(args[0], node.args[0])
        if not isinstance(info, StructType):
            raise self.error(node.args[0], "bad-type", "metadata is a structure", "write a Struct of it")
        view = self._metadata(info, cls)
        end = self.builder.gep(view.pointer, info.size)
        outside = self.builder.compare("ugt", end, self.builder.load("ptr", self.data_start, 8))
        pointer = self.builder.select(outside, self.null(), view.pointer)
        return OptionalView(replace(view, pointer=pointer), "meta()")

    def _metadata(self, info: StructType, cls: Any) -> View:
        return View(self.builder.packet_bound("packet_meta"), info, cls, Space.PACKET, 4, self.live.epoch)

    def _move_bounds(self, helper: str, delta: Operand, what: str, node: ast.Call) -> None:
        """Call a helper that moves the packet's bounds: every view dies, and the cursor is at the packet's start."""
        result = self.call(helper, "i64", Arg(), delta)
        self.short_exit(self.builder.compare("ne", result, Imm(0, "i64")), node, what)
        self.packet_moved(what, node)

    def packet_moved(self, what: str, node: ast.AST) -> None:
        """The packet's bounds are others now: every view is dead, and the cursor is at the packet's start."""
        if self.has_packet:
            self.read_bounds()
        self.moved()
        self.epochs += 1
        self.live.epoch, self.live.epoch_span = self.epochs, self.span(node)
        line = self.span(node).line
        for key, binding in self.live.names.items():
            if isinstance(binding, Binding) and _sees_packet(binding.shape):
                message = f"{key[1]} died in line {line}, where {what} moved the packet's bounds"
                self.live.names[key] = Conflict("dead-view", message, "read the header again")

    def moved(self) -> None:
        """Note for the callers of the function being lowered that it moves the packet's bounds."""

    def read_bounds(self) -> None:
        """Fetch the packet's bounds from the context; the cursor is at its first byte."""
        if not self.kind.access:  # it counts from null
            self.builder.store(self.null(), self.cursor, 8)
            return
        start = self.builder.packet_bound("packet_data")
        self.builder.store(start, self.cursor, 8)
        self.builder.store(start, self.data_start, 8)
        self.builder.store(self.builder.packet_bound("packet_end"), self.data_end, 8)

    # Optional results

    def optional(self, view: View, info: TypeInfo, cls: Any, source: str, node: ast.AST) -> Value:
        """What a pointer that may be null gives: a view, or a scalar that is copied when it is there."""
        if isinstance(info, StructType) or (isinstance(info, ArrayType) and not info.name):
            return OptionalView(view, source)
        there, onward = self.builder.label("there"), self.builder.label("fetched")
        kinds = [ir_type(info)] if isinstance(info, IntType) else [f"i{n * 8}" for _, n in chunks(info.size)]
        slots = [self.builder.slot(kind, "$fetched") for kind in kinds]
        for slot, kind in zip(slots, kinds, strict=True):
            self.builder.store(Imm(0, kind), slot, 8)
        self.builder.condbr(self.builder.compare("ne", view.pointer, self.null()), there, onward)
        self.builder.start(there)
        held = self.load_place(view, 0, info, cls, node)
        assert isinstance(held, (Scalar, Bytes))
        ops: tuple[Operand, ...] = held.ops if isinstance(held, Bytes) else (held.op,)
        for op, slot in zip(ops, slots, strict=True):
            self.builder.store(op, slot, 8)
        self.builder.br(onward)
        self.builder.start(onward)
        loaded = tuple(self.builder.load(kind, slot, 8) for slot, kind in zip(slots, kinds, strict=True))
        if isinstance(held, Bytes):
            return OptionalScalar(view.pointer, replace(held, ops=loaded), source)
        place = Location(view.pointer, view.space) if held.place is not None else None
        return OptionalScalar(view.pointer, replace(held, op=loaded[0], place=place), source)


def _sees_packet(shape: Value) -> bool:
    """Whether a name's value is, or may be, a view of the packet."""
    match shape:
        case View(space=Space.PACKET) | OptionalView(view=View(space=Space.PACKET)):
            return True
        case Tuple(items=items):
            return any(_sees_packet(item) for item in items)
        case _:
            return False
