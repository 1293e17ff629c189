"""What a program does with maps and the packet: look-ups, updates, redirects, ring buffer records, reads.

Belongs here: keys and values on the stack, the helper calls behind each operation, and the packet's cursor.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

from ebpfkit.abi.helpers import HELPERS_BY_NAME
from ebpfkit.compiler.conversions import is_plain_int
from ebpfkit.compiler.expressions import Expressions
from ebpfkit.compiler.ir import Arg, Imm, MapRef, Operand, Temp
from ebpfkit.compiler.memory import merged, occupied
from ebpfkit.compiler.state import Record
from ebpfkit.compiler.values import (
    HOLE,
    Bytes,
    Const,
    ContextValue,
    Location,
    OptionalScalar,
    OptionalView,
    Scalar,
    Space,
    Value,
    View,
    Void,
    chunks,
    describe,
    ir_type,
    limits,
    scalar,
    type_text,
)
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.packet import MOST_SKIPPED
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType, TypeInfo
from ebpfkit.dsl.types import XdpAction
from ebpfkit.errors import EbpfError

__all__ = ["Maps"]

XDP_FIELDS = {"ingress_ifindex": 12, "rx_queue_index": 16}
"""Fields of struct xdp_md that every XDP program may read, by offset."""
U32 = IntType("u32", 32)
S64 = IntType("s64", 64, signed=True)


class Maps(Expressions):
    """Operations on maps and on the packet."""

    cursor: Temp
    data_start: Temp
    data_end: Temp
    frags: bool

    # The packet

    def packet_end(self) -> Operand:
        return self.builder.load("ptr", self.data_end, 8)

    def context_field(self, owner: ContextValue, name: str, node: ast.Attribute) -> Value:
        if name in XDP_FIELDS:
            return scalar(self.builder.ctx_load(XDP_FIELDS[name], 4, name), U32)
        if name == "egress_ifindex":
            raise self.error(
                node,
                "context-field",
                "egress_ifindex is only known to programs in a devmap",
                "use ingress_ifindex, or redirect",
            )
        if hasattr(owner.cls, name):
            raise self.error(node, "bad-type", f"{name} is a method", f"call it: {name}(...)")
        raise self.error(node, "no-such-field", f"the packet has no field {name}", f"it has {', '.join(XDP_FIELDS)}")

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
        self.short_exit(self.builder.compare("ugt", end, self.packet_end()), node, "read()")
        view = View(start, info, cls, Space.PACKET, 8, self.live.epoch)  # type: ignore[arg-type]
        header = info.header_length if isinstance(info, StructType) else None
        if header is not None:
            field = info.field(header.field) if isinstance(info, StructType) else None
            assert field is not None
            length = self.load_place(view, field.offset, field.type, None, node)
            assert isinstance(length, Scalar)
            step = self.builder.binary("mul", self.builder.convert("zext", length.op, "i64"), Imm(header.scale, "i64"))
            end = self.builder.gep(start, step)
        self.builder.store(end, self.cursor, 8)
        return self.load_place(view, 0, info, cls, node) if not isinstance(info, StructType) else view

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
        step = self.builder.convert("zext", size.op, "i64")
        if size.tested:  # the verifier may not have followed the test to here
            mask = Imm((1 << size.hi.bit_length()) - 1, "i64")
            step = self.builder.binary("and", self.builder.opaque(step), mask)
        self.builder.store(self.builder.gep(self._position(), step), self.cursor, 8)
        return Void("skip()")

    def packet_peek(self, args: list[Value], node: ast.Call) -> Value:
        """`pkt.peek(T)`: the next bytes or None."""
        info, cls = self.type_argument(args[0], node.args[0])
        start = self._position()
        end = self.builder.gep(start, info.size)
        outside = self.builder.compare("ugt", end, self.packet_end())
        pointer = self.builder.select(outside, self.null(), start)
        view = View(pointer, info, cls, Space.PACKET, 8, self.live.epoch)  # type: ignore[arg-type]
        return self.optional(view, info, cls, "peek()", node)

    def packet_length(self) -> Scalar:
        """`len(pkt)`, a u32."""
        if self.frags:
            result = self.builder.helper(188, "xdp_get_buff_len", "i64", (Arg(),))
            return scalar(self.builder.convert("trunc", result, "i32"), U32)
        start = self.builder.load("ptr", self.data_start, 8)
        return scalar(self.builder.packet_length(start, self.packet_end()), U32)

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

    # Keys and values on the stack

    def map_ref(self, facade: MapFacade, node: ast.AST) -> MapRef:
        """The address of a map, which from now on belongs to the object."""
        try:
            facade.adopt_name(node.id if isinstance(node, ast.Name) else "")
            name = facade.name
        except EbpfError as error:
            raise self.error(node, "bad-map-name", error.message) from None
        known = self.maps.get(name)
        if known is not None and known is not facade:
            raise self.error(
                node, "bad-map-name", f"two maps of this object have the name {name}", 'give one name="..."'
            )
        self.maps[name] = facade
        return MapRef(name)

    maps: dict[str, MapFacade]

    def key_pointer(self, facade: MapFacade, key: Value, node: ast.AST) -> Operand:
        """The key in memory, padding zeroed; for a prefix map, the prefix of all its bits."""
        info = facade.key_type.__ebpf_type__
        if facade.map_type == "lpm_trie":
            is_address = isinstance(key, (Bytes, Scalar)) and key.type == info
            is_constant = isinstance(key, Const) and isinstance(key.value, facade.key_type)
            if not is_address and not is_constant:
                raise self.wrong_kind(key, node, f"an {type_text(info)}")
            view = self.buffer("key", 4 + info.size, info)
            self.builder.store(Imm(info.size * 8, "i32"), view.pointer, 8)
            self.store_place(view, 4, info, facade.key_type, key, node)
            return view.pointer
        return self.in_memory("key", key, info, facade.key_type, node)

    def in_memory(self, what: str, value: Value, info: TypeInfo, cls: Any, node: ast.AST) -> Operand:
        """A value of a type in memory, for a helper: a local structure as it is, anything else copied."""
        if isinstance(value, View) and value.type == info and value.space is Space.STACK and value.align % 8 == 0:
            return value.pointer
        view = self.buffer(what, info.size, info)
        if isinstance(info, (StructType, ArrayType)) and merged(occupied(info)) != [(0, info.size)]:
            self.builder.memset(view.pointer, -(-info.size // 8) * 8, 8)
        self.store_place(view, 0, info, cls, value, node)
        return view.pointer

    def buffer(self, what: str, size: int, info: TypeInfo) -> View:
        """Stack memory that lives up to the next helper call; calls share it."""
        key = (-1, what, size, "")
        if key not in self.slots:
            self.slots[key] = self.builder.alloca(-(-size // 8) * 8, f"{what} of {size} bytes")
        return View(self.slots[key], info, None, Space.STACK, 8)  # type: ignore[arg-type]

    # Maps

    def call(self, name: str, type: str, *args: Operand) -> Temp:
        """Call a helper by its kernel name."""
        return self.builder.helper(HELPERS_BY_NAME[name].id, name, type, args)

    def lookup(self, facade: MapFacade, key: Value, node: ast.AST, map_node: ast.AST) -> View:
        """The look-up itself: a view whose pointer may be null."""
        self.with_values(facade, map_node)
        reference = self.map_ref(facade, map_node)
        pointer = self.call("map_lookup_elem", "ptr", reference, self.key_pointer(facade, key, node))
        info = facade.value_type.__ebpf_type__
        return View(pointer, info, facade.value_type, Space.MAP, 8)

    def with_values(self, facade: MapFacade, node: ast.AST) -> None:
        """Refuse a map whose entries a program cannot reach."""
        if not hasattr(type(facade), "get"):
            kind = type(facade).__name__
            raise self.error(node, "bad-map-operation", f"a program cannot reach the entries of this {kind}")

    def map_item(self, facade: MapFacade, node: ast.Subscript) -> Value:
        """`m[k]` for reading: a missing key takes the short exit."""
        view = self.require(facade, self.expr(node.slice), node)
        info: TypeInfo = view.type
        if isinstance(info, StructType) or (isinstance(info, ArrayType) and not info.name):
            return view
        return self.load_place(view, 0, info, facade.value_type, node)

    def require(self, facade: MapFacade, key: Value, node: ast.Subscript) -> View:
        view = self.lookup(facade, key, node.slice, node.value)
        missing = self.builder.compare("eq", view.pointer, self.null())
        self.short_exit(missing, node, "[] of a missing key")
        return view

    def map_contains(self, facade: MapFacade, item: Value, node: ast.expr) -> Const | Scalar:
        view = self.lookup(facade, item, node, node)
        return self.boolean(self.builder.compare("ne", view.pointer, self.null()))

    def map_store(self, facade: MapFacade, key: Value, value: Value, node: ast.Subscript, value_node: ast.AST) -> None:
        """`m[k] = v`, without a result, as the helper has none that a full map would change."""
        self.with_values(facade, node.value)
        reference = self.map_ref(facade, node.value)
        info = facade.value_type.__ebpf_type__
        pointer = self.in_memory("value", value, info, facade.value_type, value_node)
        key_pointer = self.key_pointer(facade, key, node.slice)
        self.call("map_update_elem", "i64", reference, key_pointer, pointer, Imm(0, "i64"))

    def map_delete(self, facade: MapFacade, key: Value, node: ast.Subscript) -> None:
        """`del m[k]`; a missing key stays missing."""
        if not hasattr(type(facade), "__delitem__") or not hasattr(type(facade), "get"):
            raise self.error(
                node,
                "bad-map-operation",
                f"a program cannot delete entries of this {type(facade).__name__}",
                "store a zero",
            )
        self.call("map_delete_elem", "i64", self.map_ref(facade, node.value), self.key_pointer(facade, key, node.slice))

    def map_method(
        self, facade: MapFacade, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        """`m.name(...)`."""
        assert isinstance(node.func, ast.Attribute)
        map_node = node.func.value
        if name == "get" and hasattr(type(facade), "get"):
            self.arguments(name, args, kwargs, ("key",), node)
            view = self.lookup(facade, args[0], node.args[0], map_node)
            return self.optional(view, view.type, facade.value_type, f"{facade.name}.get()", node)
        if name == "redirect" and facade.map_type == "xskmap":
            return self._redirect(facade, args, kwargs, node)
        if facade.map_type == "ringbuf" and name in ("output", "reserve"):
            return self._ring(facade, name, args, kwargs, node)
        near = "get, [], in, del" if hasattr(type(facade), "get") else "redirect" if name != "redirect" else ""
        if facade.map_type == "ringbuf":
            near = "output, reserve"
        code = "user-space-only" if hasattr(type(facade), name) else "no-such-attribute"
        raise self.error(
            node,
            code,
            f"a program cannot call {name}() of this {type(facade).__name__}",
            f"it has {near}" if near else "",
        )

    def arguments(
        self, name: str, args: list[Value], kwargs: dict[str, Value], wanted: tuple[str, ...], node: ast.AST
    ) -> None:
        """Refuse a call whose positional arguments are not exactly the wanted ones."""
        if len(args) != len(wanted) or kwargs:
            raise self.error(node, "bad-call", f"{name}() takes ({', '.join(wanted)})")

    def _redirect(self, facade: MapFacade, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        otherwise = kwargs.pop("otherwise", args[1] if len(args) > 1 else Const(XdpAction.XDP_ABORTED))
        self.arguments("redirect", args[:1], kwargs, ("key",), node)
        if not isinstance(otherwise, Const) or not isinstance(otherwise.value, XdpAction) or otherwise.value > 3:
            raise self.error(node, "bad-verdict", "otherwise= is one of XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX")
        map_node = node.func.value if isinstance(node.func, ast.Attribute) else node
        key = self.builder.convert("zext", self.coerce(args[0], U32, node.args[0], "the key"), "i64")
        reference = self.map_ref(facade, map_node)
        result = self.call("redirect_map", "i64", reference, key, Imm(int(otherwise.value), "i64"))
        return scalar(self.builder.convert("trunc", result, "i32"), XdpAction.__ebpf_type__)  # type: ignore[attr-defined]

    def _ring(self, facade: MapFacade, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        info = facade.value_type.__ebpf_type__
        map_node = node.func.value if isinstance(node.func, ast.Attribute) else node
        reference = self.map_ref(facade, map_node)
        if name == "output":
            self.arguments(name, args, kwargs, ("record",), node)
            pointer = self.in_memory("record", args[0], info, facade.value_type, node.args[0])
            result = self.call("ringbuf_output", "i64", reference, pointer, Imm(info.size, "i64"), Imm(0, "i64"))
            return scalar(result, S64)
        self.arguments(name, args, kwargs, (), node)
        if not issubclass(facade.value_type, Struct):
            raise self.error(node, "bad-type", f"reserve() of {facade.name} wants a structure", "write output(value)")
        for status, span in self.live.records.values():
            if status in (Record.MAYBE, Record.OPEN, Record.TORN) and span == self.span(node):
                raise self.error(node, "record-leak", "the record of the loop's last round is still open here")
        pointer = self.call("ringbuf_reserve", "ptr", reference, Imm(info.size, "i64"), Imm(0, "i64"))
        self._clear(pointer, info.size)
        self.records += 1
        self.live.records[self.records] = (Record.MAYBE, self.span(node))
        view = View(pointer, info, facade.value_type, Space.RECORD, 8, owner=self.records)
        return OptionalView(view, f"{facade.name}.reserve()")

    records: int = 0

    def _clear(self, pointer: Operand, size: int) -> None:
        """Zero a record where there is one: what it held before is not for readers."""
        there, onward = self.builder.label("there"), self.builder.label("reserved")
        self.builder.condbr(self.builder.compare("ne", pointer, self.null()), there, onward)
        self.builder.start(there)
        view = View(pointer, HOLE, None, Space.RECORD, 8)  # type: ignore[arg-type]
        if size <= 256:
            self.builder.memset(pointer, size, 8)
        else:
            self.store_bytes(view, bytes(size))
        self.builder.br(onward)
        self.builder.start(onward)

    def finish_record(self, view: View, name: str, node: ast.Call) -> Value:
        """`record.submit()` and `record.discard()`."""
        if view.space is not Space.RECORD or view.nested:
            raise self.error(node, "no-record", f"{name}() of a {describe(view)} that no RingBuf.reserve() gave")
        self.check_alive(view, node)
        self.call(f"ringbuf_{name}", "void", view.pointer, Imm(0, "i64"))
        self.live.records[view.owner] = (Record.CLOSED, self.live.records[view.owner][1])
        return Void(f"{name}()")

    # Atomics

    def atomic_add(self, receiver: Scalar, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`place.atomic_add(n)`: the value before. Whether the result is used decides the ordering."""
        self.arguments("atomic_add", args, kwargs, ("value",), node)
        type = receiver.type
        if type.bits < 32 or type.is_bool:
            raise self.error(
                node, "atomic-width", f"no atomic operation has {type.bits} bits", "make the field a u32 or u64"
            )
        if type.network or type.enum:
            raise self.error(node, "no-such-attribute", f"a {type.name} has no atomic_add")
        place = receiver.place
        if place is None or place.space not in (Space.MAP, Space.RECORD):
            where = place.space.value if place else "a value without a place"
            raise self.error(node, "atomic-place", f"atomic_add works on a map value, not on {where}", "write +=")
        used = node is not self.unused
        if used and self.cpu in ("v1", "v2"):
            raise self.error(
                node,
                "atomic-result",
                f"CPU {self.cpu} has no atomic operation with a result",
                "do not use the result, or build for v3 (kernel 5.12)",
            )
        value = self.coerce(args[0], type, node.args[0], "the amount")
        return scalar(self.builder.atomic("add", place.pointer, value, used=used), type, *limits(type))

    unused: ast.AST | None = None
    cpu: str = "v3"

    def constant_index(self, value: Value) -> int | None:
        return int(value.value) if isinstance(value, Const) and is_plain_int(value.value) else None
