"""What a program does with maps: look-ups, updates, redirects, ring buffer records.

Belongs here: keys and values on the stack, and the helper calls behind each operation.
"""

from __future__ import annotations

import ast
from typing import Any

from ebpfkit.compiler.conversions import is_plain_int
from ebpfkit.compiler.ir import GlobalRef, Imm, Operand, Scope
from ebpfkit.compiler.memory import merged, occupied
from ebpfkit.compiler.packet import U32, Packets
from ebpfkit.compiler.state import Binding, Conflict, Record
from ebpfkit.compiler.values import (
    HOLE,
    Bytes,
    Const,
    OptionalView,
    Scalar,
    Space,
    Value,
    View,
    Void,
    describe,
    limits,
    scalar,
    type_text,
)
from ebpfkit.dsl.integers import NOT_ATOMIC
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.queues import BloomFilter, Queue
from ebpfkit.dsl.special_maps import RedirectMap
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType, TypeInfo
from ebpfkit.dsl.verdicts import XdpAction
from ebpfkit.errors import EbpfError
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST
from ebpfkit.span import Span

__all__ = ["Maps"]

S64 = IntType("s64", 64, signed=True)
ATOMICS = {
    "atomic_add": "add",
    "atomic_sub": "add",
    "atomic_and": "and",
    "atomic_or": "or",
    "atomic_xor": "xor",
    "atomic_exchange": "xchg",
    "atomic_compare_exchange": "cmpxchg",
}
"""Methods of map values, and the atomic operation behind each."""


class Maps(Packets):
    """Operations on maps."""

    # Keys and values on the stack

    def map_ref(self, facade: MapFacade, node: ast.AST) -> GlobalRef:
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
        return GlobalRef(name)

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
        if isinstance(facade, BloomFilter):
            reference, value = self._keyless(facade, item, node, node)
            result = self.call("map_peek_elem", "i64", reference, value)
            return self.boolean(self.builder.compare("eq", result, Imm(0, "i64")))
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
        if name == "redirect" and isinstance(facade, RedirectMap):
            return self._redirect(facade, args, kwargs, node)
        if isinstance(facade, Queue) and name in ("push", "pop", "peek"):
            return self._queue(facade, name, args, kwargs, node)
        if isinstance(facade, BloomFilter) and name == "add":
            self.arguments(name, args, kwargs, ("value",), node)
            reference, value = self._keyless(facade, args[0], map_node, node.args[0])
            self.call("map_push_elem", "i64", reference, value, Imm(BPF_ANY, "i64"))
            return Void("add()")
        if facade.map_type == "ringbuf" and name in ("output", "reserve", "record"):
            return self._ring(facade, name, args, kwargs, node)
        code = "user-space-only" if hasattr(type(facade), name) else "no-such-attribute"
        raise self.error(
            node,
            code,
            f"a program cannot call {name}() of this {type(facade).__name__}",
            f"it has {facade.in_program}",
        )

    def arguments(
        self, name: str, args: list[Value], kwargs: dict[str, Value], wanted: tuple[str, ...], node: ast.AST
    ) -> None:
        """Refuse a call whose positional arguments are not exactly the wanted ones."""
        if len(args) != len(wanted) or kwargs:
            raise self.error(node, "bad-call", f"{name}() takes ({', '.join(wanted)})")

    def _keyless(self, facade: MapFacade, value: Value, map_node: ast.AST, node: ast.AST) -> tuple[Operand, Operand]:
        """A map without keys, and a value of its type in memory."""
        info = facade.value_type.__ebpf_type__
        return self.map_ref(facade, map_node), self.in_memory("value", value, info, facade.value_type, node)

    def _queue(
        self, facade: MapFacade, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        """`push`, `pop` and `peek` of a queue or stack."""
        map_node = node.func.value if isinstance(node.func, ast.Attribute) else node
        if name == "push":
            replace_oldest = kwargs.pop("replace", Const(False))
            self.arguments(name, args, kwargs, ("value",), node)
            if not isinstance(replace_oldest, Const) or not isinstance(replace_oldest.value, bool):
                raise self.error(node, "bad-call", "replace= is True or False")
            reference, value = self._keyless(facade, args[0], map_node, node.args[0])
            flags = BPF_EXIST if replace_oldest.value else BPF_ANY
            return scalar(self.call("map_push_elem", "i64", reference, value, Imm(flags, "i64")), S64)
        self.arguments(name, args, kwargs, (), node)
        info = facade.value_type.__ebpf_type__
        place = self.builder.alloca(-(-info.size // 8) * 8, f"{name} of {facade.name}")
        result = self.call(f"map_{name}_elem", "i64", self.map_ref(facade, map_node), place)
        found = self.builder.compare("eq", result, Imm(0, "i64"))
        view = View(self.builder.select(found, place, self.null()), info, facade.value_type, Space.STACK, 8)
        return self.optional(view, info, facade.value_type, f"{facade.name}.{name}()", node)

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
        if name == "record":
            raise self.error(node, "unsupported-syntax", "record() is for a with block", "with ring.record() as event:")
        return self.ring_reserve(facade, name, args, kwargs, node)

    def ring_reserve(
        self, facade: MapFacade, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> OptionalView:
        """Room for a record of a ring buffer, zeroed, or nothing."""
        info = facade.value_type.__ebpf_type__
        assert isinstance(node.func, ast.Attribute)
        reference = self.map_ref(facade, node.func.value)
        self.arguments(name, args, kwargs, (), node)
        if not issubclass(facade.value_type, Struct):
            raise self.error(node, "bad-type", f"{name}() of {facade.name} wants a structure", "write output(value)")
        for status, span in self.live.records.values():
            if status in (Record.MAYBE, Record.OPEN, Record.TORN) and span == self.span(node):
                raise self.error(node, "record-leak", "the record of the loop's last round is still open here")
        pointer = self.call("ringbuf_reserve", "ptr", reference, Imm(info.size, "i64"), Imm(0, "i64"))
        self._clear(pointer, info.size)
        number = self._record_number(node)
        self.live.records[number] = (Record.MAYBE, self.span(node))
        view = View(pointer, info, facade.value_type, Space.RECORD, 8, owner=number)
        return OptionalView(view, f"{facade.name}.{name}()")

    def _record_number(self, node: ast.Call) -> int:
        """The number of the record reserved here: the same in every round of a loop. What saw the last one is dead."""
        number = self.reservations.setdefault((self.frame.scope, self.span(node)), len(self.reservations) + 1)
        for key, binding in self.live.names.items():
            shape = binding.shape if isinstance(binding, Binding) else None
            view = shape.view if isinstance(shape, OptionalView) else shape
            if isinstance(view, View) and view.owner == number:
                message = f"{key[1]} is the record of the loop's last round, which was submitted or discarded"
                self.live.names[key] = Conflict("dead-view", message)
        return number

    reservations: dict[tuple[Scope, Span], int]

    def __init__(self) -> None:
        super().__init__()
        self.reservations = {}

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
        if view.owner in self.guarded:  # its block has nothing left to do
            self.builder.store(self.null(), self.guarded[view.owner], 8)
        self.live.records[view.owner] = (Record.CLOSED, self.live.records[view.owner][1])
        return Void(f"{name}()")

    # Atomics

    def atomic(self, name: str, receiver: Scalar, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`place.atomic_add(n)` and its siblings: the value before. Whether the result is used decides the ordering."""
        operation = ATOMICS[name]
        wanted = ("expected", "value") if operation == "cmpxchg" else ("value",)
        self.arguments(name, args, kwargs, wanted, node)
        type = receiver.type
        if type.bits < 32 or type.is_bool:
            raise self.error(
                node, "atomic-width", f"no atomic operation has {type.bits} bits", "make the field a u32 or u64"
            )
        if type.network or type.enum:
            raise self.error(node, "no-such-attribute", f"a {type.name} has no {name}")
        place = receiver.place
        if place is None or place.space not in (Space.MAP, Space.RECORD):
            where = place.space.value if place else "a value without a place"
            raise self.error(node, "atomic-place", f"{name} works on a map value, not on {where}", NOT_ATOMIC[name])
        used = node is not self.unused or operation in ("xchg", "cmpxchg")
        if self.cpu in ("v1", "v2") and (used or name not in ("atomic_add", "atomic_sub")):
            what = "with a result" if name == "atomic_add" else f"like {name}"
            raise self.error(
                node,
                "atomic-result",
                f"CPU {self.cpu} has no atomic operation {what}",
                "do not use the result of an atomic_add, or build for v3 (kernel 5.12)",
            )
        operands = [self.coerce(value, type, where, "the amount") for value, where in zip(args, node.args, strict=True)]
        if name == "atomic_sub":
            operands = [self.builder.binary("sub", Imm(0, operands[0].type), operands[0])]
        return scalar(self.builder.atomic(operation, place.pointer, *operands, used=used), type, *limits(type))

    unused: ast.AST | None = None
    cpu: str = "v3"

    def constant_index(self, value: Value) -> int | None:
        return int(value.value) if isinstance(value, Const) and is_plain_int(value.value) else None
