"""Bytes of the packet by number: `pkt.read_into(target, n)` and `pkt.write_from(source, n)`.

Belongs here: copies whose length is known only when the program runs, and copies that cross the buffers of a packet in
several of them. Views of fixed size are `packet.py`.
"""

from __future__ import annotations

import ast

from ebpfkit.compiler.ir import Arg, Imm, Operand
from ebpfkit.compiler.packet import Packets
from ebpfkit.compiler.values import Const, Scalar, Space, Value, View, Void, describe, type_text
from ebpfkit.dsl.skbuff import SkBuff
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType

__all__ = ["PacketBytes"]

_IN_PLACE = 64  # bytes up to which a copy of known length is made here, without a helper
_U8 = IntType("u8", 8)


class PacketBytes(Packets):
    """Copies between the packet and memory."""

    def arguments(
        self, name: str, args: list[Value], kwargs: dict[str, Value], wanted: tuple[str, ...], node: ast.AST
    ) -> None:
        """Refuse a call whose positional arguments are not exactly the wanted ones."""
        if len(args) != len(wanted) or kwargs:
            raise self.error(node, "bad-call", f"{name}() takes ({', '.join(wanted)})")

    def packet_copy(self, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`read_into(target, size)` and `write_from(source, size)`; without a size all of it."""
        into = name == "read_into"
        given = kwargs.pop("size", args[1] if len(args) == 2 else None)
        self.arguments(name, args[:1], kwargs, ("target" if into else "source",), node)
        if len(args) > 2:
            raise self.error(node, "bad-call", f"{name}() takes ({'target' if into else 'source'}, size)")
        memory = self._memory_of(args[0], name, node.args[0])
        whole = memory.type.size
        where = node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords), node)
        size = self._size(given if given is not None else Const(whole), memory, name, where)
        if into and size.lo < whole:
            self.clear(memory)
        self.packet_end()  # refuses a function that has not the packet
        if size.hi == 0:
            return Void(f"{name}()")
        if isinstance(size.op, Imm) and size.op.value <= _IN_PLACE and not self.frags and self.kind.access:
            self._copy_here(memory, size.op.value, into, name, node)
        elif into or self.kind.context is not SkBuff:
            self._copy_by_helper(memory, size, into, name, node)
        else:
            message = f"a {self.kind.decorator} program writes at most {_IN_PLACE} bytes at once, and of a known number"
            raise self.error(where, "bad-size", message, "write pieces, or use helpers.skb_store_bytes()")
        return Void(f"{name}()")

    def _memory_of(self, value: Value, name: str, node: ast.AST) -> View:
        if not isinstance(value, View) or not isinstance(value.type, (StructType, ArrayType)):
            raise self.wrong_kind(value, node, "an array or a structure")
        if value.space not in (Space.STACK, Space.MAP, Space.RECORD):
            message = f"{name}() with what lies in {value.space.value}"
            raise self.error(node, "bad-type", message, "use a local structure, a map value or a record")
        if isinstance(value.type, StructType) and value.type.opaque:
            raise self.error(node, "read-only", f"only the kernel looks into a {type_text(value.type)}")
        self.check_alive(value, node)
        return value

    def _size(self, value: Value, memory: View, name: str, node: ast.AST) -> Scalar:
        size = self.scalar_of(value, node, "a number of bytes")
        if size.type.network or size.type.is_bool or size.type.enum:
            raise self.error(node, "bad-type", f"{name}() takes a number of bytes, not a {size.type.name}")
        if size.lo < 0 or size.hi > memory.type.size:
            kind = describe(memory)
            hint = f"test it first: if n <= {memory.type.size}, or write min(n, {size.type.name}({memory.type.size}))"
            message = f"{size.lo} to {size.hi} bytes, and {kind} has {memory.type.size}"
            raise self.error(node, "bad-size", message, hint)
        return size

    def clear(self, view: View) -> None:
        """Zero memory that a helper may fill only in part."""
        if view.space is Space.STACK and view.type.size % 8 == 0 and view.align >= 8:
            self.builder.memset(view.pointer, view.type.size, 8)
        else:
            self.store_bytes(view, bytes(view.type.size))

    def _copy_here(self, memory: View, size: int, into: bool, name: str, node: ast.Call) -> None:
        """A copy of known length from or to the packet's first buffer."""
        start = self._position()
        end = self.builder.gep(start, size)
        self.short_exit(self.builder.compare("ugt", end, self.packet_end()), node, f"{name}()")
        packet = View(start, ArrayType(_U8, size), None, Space.PACKET, 8, self.live.epoch)
        target, source = (memory, packet) if into else (packet, memory)
        self.copy(target, source, ArrayType(_U8, size))
        self.builder.store(end, self.cursor, 8)

    def _copy_by_helper(self, memory: View, size: Scalar, into: bool, name: str, node: ast.Call) -> None:
        """A copy by the kernel's helper, which takes at least one byte."""
        start = self._position()
        step = self.builder.convert("sext" if size.type.signed else "zext", size.op, "i64")
        onward = self.builder.label("copied")
        if not isinstance(size.op, Imm):
            some = self.builder.label("some")
            step = self.builder.opaque(step)
            self.builder.condbr(self.builder.compare("eq", step, Imm(0, "i64")), onward, some)
            self.builder.start(some)
        result = self._call_copy(memory, self._offset(start), self._bounded_size(step, memory, size), into)
        self.short_exit(self.builder.compare("ne", result, Imm(0, "i64")), node, f"{name}()")
        self.builder.store(self.builder.gep(start, step), self.cursor, 8)
        if not isinstance(size.op, Imm):
            self.builder.br(onward)
            self.builder.start(onward)

    def _bounded_size(self, step: Operand, memory: View, size: Scalar) -> Operand:
        """A size of 1 to the memory's, in a way that the verifier sees where it is used."""
        if isinstance(size.op, Imm):
            return step
        most = memory.type.size
        less = self.builder.opaque(self.builder.binary("sub", step, Imm(1, "i64")))
        if most & (most - 1) == 0:
            less = self.builder.binary("and", less, Imm(most - 1, "i64"))
        else:
            inside = self.builder.compare("ult", less, Imm(most, "i64"))
            less = self.builder.opaque(self.builder.select(inside, less, Imm(0, "i64")))
        return self.builder.binary("add", less, Imm(1, "i64"))

    def _offset(self, position: Operand) -> Operand:
        if not self.kind.access:
            return self.builder.convert("ptrtoint", position, "i64")
        start = self.builder.load("ptr", self.data_start, 8)
        return self.builder.convert("zext", self.builder.packet_length(start, position), "i64")

    def _call_copy(self, memory: View, offset: Operand, size: Operand, into: bool) -> Operand:
        name = "xdp_load_bytes" if into else "xdp_store_bytes"
        name = "skb_load_bytes" if self.kind.context is SkBuff else name
        return self.call(name, "i64", Arg(), offset, memory.pointer, size)
