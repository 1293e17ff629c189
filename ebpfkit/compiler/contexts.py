"""The context argument of programs: its fields by the rows of `ebpfkit.abi`, and packets that are read by copies.

Belongs here: what differs between types of programs in what they are called with. Direct access to the packet is
`packet.py`; which arguments a tracing program has is `dsl.parameters`.
"""

from __future__ import annotations

import ast
from typing import Any

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.model import ContextField
from ebpfkit.compiler.expressions import Expressions
from ebpfkit.compiler.ir import Arg, Imm, Operand
from ebpfkit.compiler.values import ContextValue, Scalar, Space, Value, View, scalar
from ebpfkit.dsl.kinds import Kind
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.parameters import context_fields
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.skbuff import FIELDS, SkBuff
from ebpfkit.dsl.trace_context import TraceEvent
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType, TypeInfo
from ebpfkit.errors import CompileError

__all__ = ["Contexts"]

U32, U64 = IntType("u32", 32), IntType("u64", 64)
_WHOLE = StructType("context", (), 0, 8)


def is_record(value: Value) -> bool:
    """Whether a value is a tracepoint's record as a whole: the context."""
    return isinstance(value, View) and value.space is Space.CONTEXT and not value.nested and _is_event(value.cls)


def _is_event(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, TraceEvent)


class Contexts(Expressions):
    """Fields of the context, and packets without direct access."""

    program: Program
    kind: Kind

    def _row(self, name: str) -> ContextField | None:
        """The row of a field that this program's type and place may read."""
        for row in CONTEXTS[self.kind.layout].fields:
            if row.name == name and (row.attach_types is None or f"xdp_{self.program.at}" in row.attach_types):
                return row
        return None

    def _readable(self) -> list[str]:
        if self.kind.context is Packet:
            rows = CONTEXTS[self.kind.layout].fields
            return [row.name for row in rows if row.name in Packet.__dict__ and self._row(row.name)]
        return [name for name in FIELDS if self._row(name)]

    def context_field(self, owner: ContextValue, name: str, node: ast.Attribute) -> Value:
        if self.kind.context not in (Packet, SkBuff):
            return self._register(name, node)
        info = U32 if self.kind.context is Packet else getattr(FIELDS.get(name), "__ebpf_type__", None)
        readable = self._readable()
        if name in readable and info is not None:
            row = self._row(name)
            assert row is not None
            return self.load_place(self._whole(), row.offset, info, FIELDS.get(name), node)
        if name == "egress_ifindex" and self.kind.context is Packet:
            raise self.error(
                node,
                "context-field",
                "egress_ifindex is only known to programs in a devmap",
                'write @xdp(at="devmap"), or use ingress_ifindex',
            )
        if name in FIELDS and self.kind.context is SkBuff:
            hint = f"it can read {', '.join(readable[:6])}, ..."
            raise self.error(node, "context-field", f"a {self.kind.decorator} program cannot read {name}", hint)
        if hasattr(owner.cls, name):
            raise self.error(node, "bad-type", f"{name} is a method", f"call it: {name}(...)")
        raise self.error(node, "no-such-field", f"the packet has no field {name}", f"it has {', '.join(readable)}")

    def _whole(self) -> View:
        return View(Arg(), _WHOLE, None, Space.CONTEXT, 8)

    def _register(self, name: str, node: ast.AST) -> Value:
        fields = context_fields(self.program)
        if name not in fields:
            has = f"it has {', '.join(fields)}" if fields else f"name the arguments of {self.program.at} instead"
            raise self.error(node, "context-field", f"the context of a {self.kind.decorator} has no {name}", has)
        return scalar(self.builder.ctx_load(fields[name], 8, name), U64)

    def store_context(self, name: str, value: Value, target: ast.Attribute, node: ast.AST) -> None:
        """`skb.mark = value`, for the fields that the program's type may write."""
        row = self._row(name) if self.kind.context is SkBuff and name in FIELDS else None
        if row is None or not row.writable or row.count > 1:
            what = "the context of an XDP program is read-only"
            if self.kind.context is not Packet:
                what = f"a {self.kind.decorator} program cannot assign {name}"
            rows = CONTEXTS[self.kind.layout].fields if self.kind.layout else ()
            writable = [r.name for r in rows if r.writable and r.name in FIELDS and r.count == 1]
            hint = f"it can assign {', '.join(writable)}" if writable else "keep the value in a variable"
            raise self.error(target, "read-only", what, hint)
        info = FIELDS[name].__ebpf_type__
        op = self.coerce(value, info, node, name)
        self.builder.store(op, self.builder.gep(Arg(), row.offset), min(4, info.size) if info.size < 8 else 8)

    def check_writable(self, view: View, node: ast.AST) -> None:
        if view.space is Space.COPY or (view.space is Space.PACKET and self.kind.access != "write"):
            what = f"a {self.kind.decorator} program cannot change the packet"
            raise self.error(node, "read-only", what, "change a .copy() of it")
        if view.space is Space.CONTEXT and self.kind.context is not SkBuff:
            raise self.error(node, "read-only", "a record of the kernel's cannot be changed", "change a .copy() of it")

    def load_place(self, view: View, offset: int, info: TypeInfo, cls: Any, node: ast.AST) -> Value:
        if is_record(view) and offset < CONTEXTS[self.kind.layout].start:
            name = getattr(node, "attr", "that")
            hint = "they are the same for every event; get_current_pid_tgid() has the process"
            raise self.error(node, "context-field", f"no program may read the field {name} of a record", hint)
        return super().load_place(view, offset, info, cls, node)

    def copy(self, target: View, source: View, info: TypeInfo) -> None:
        if is_record(source):
            what = "a record as a whole cannot be copied, since no program may read its common fields"
            raise CompileError(
                what, span=self.builder.place.span, code="context-field", hint="copy the fields that you need"
            )
        super().copy(target, source, info)

    def variable_place(self, owner: View, index: Scalar, size: int, node: ast.AST) -> View:
        if owner.space is Space.CONTEXT:
            what = "an index into the context is a number known here"
            raise self.error(node, "array-index", what, "write .copy() first, or a loop over range(n) with constants")
        return super().variable_place(owner, index, size, node)

    # Packets that are read by copies

    def copy_packet(self, start: Operand, info: TypeInfo, cls: Any) -> tuple[Operand, View]:
        """Copy what is at an offset into the packet (a pointer that began at null): the helper's answer, and a view."""
        size = -(-info.size // 8) * 8
        pointer = self.block_on_stack(size, getattr(info, "name", "") or "bytes")
        offset = self.builder.convert("ptrtoint", start, "i64")
        result = self.call("skb_load_bytes", "i64", Arg(), offset, pointer, Imm(info.size, "i64"))
        assert isinstance(info, (StructType, ArrayType, IntType))
        return result, View(pointer, info, cls, Space.COPY, 8)  # type: ignore[arg-type]  # scalars are fetched at once

    def skb_length(self) -> Scalar:
        """`len(skb)`, a u32."""
        row = self._row("len")
        assert row is not None
        return scalar(self.builder.ctx_load(row.offset, 4, "len"), U32)

    def call(self, name: str, type: str, *args: Operand) -> Operand:
        raise NotImplementedError
