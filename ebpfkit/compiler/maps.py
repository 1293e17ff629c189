"""What a program does with the entries of maps: look-ups, updates, deletions, atomics.

Belongs here: keys and values on the stack, and the helper calls behind each operation. Methods of maps are
`map_methods.py`.
"""

from __future__ import annotations

import ast
import copy
from typing import Any

from ebpfkit.compiler.conversions import is_plain_int
from ebpfkit.compiler.ir import GlobalRef, Imm, Operand
from ebpfkit.compiler.memory import merged, occupied
from ebpfkit.compiler.packet_bytes import PacketBytes
from ebpfkit.compiler.values import (
    Bytes,
    Const,
    Scalar,
    Space,
    Value,
    View,
    limits,
    scalar,
    type_text,
)
from ebpfkit.dsl.integers import NOT_ATOMIC
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.maps_of_maps import MapOfMaps
from ebpfkit.dsl.queues import BloomFilter
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType, TypeInfo
from ebpfkit.errors import EbpfError

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


class Maps(PacketBytes):
    """Operations on maps."""

    # Keys and values on the stack

    def map_ref(self, facade: MapFacade, node: ast.AST) -> Operand:
        """The address of a map, which from now on belongs to the object; of one in a map of maps what was found."""
        if facade in self.inner_maps:
            return self.inner_maps[facade]
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
            self.slots[key] = self.block_on_stack(-(-size // 8) * 8, f"the {what}")
        return View(self.slots[key], info, None, Space.STACK, 8)  # type: ignore[arg-type]

    # Maps

    def lookup(self, facade: MapFacade, key: Value, node: ast.AST, map_node: ast.AST) -> View:
        """The look-up itself: a view whose pointer may be null."""
        self.with_values(facade, map_node)
        reference = self.map_ref(facade, map_node)
        pointer = self.call("map_lookup_elem", "ptr", reference, self.key_pointer(facade, key, node))
        if isinstance(facade, MapOfMaps):
            inner = self.patterns.get(facade)
            if inner is None:
                inner = self.patterns[facade] = copy.copy(facade.inner)
                inner._name = f"{facade.name}[...]"
            return View(pointer, StructType(type(inner).__name__, (), 0, 8, opaque=True), inner, Space.MAP, 8)
        info = facade.value_type.__ebpf_type__
        return View(pointer, info, facade.value_type, Space.MAP, 8, facade=facade)

    def with_values(self, facade: MapFacade, node: ast.AST) -> None:
        """Refuse a map whose entries a program cannot reach."""
        if "[]" not in facade.in_program:
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
            reference, value = self.keyless(facade, item, node, node)
            result = self.call("map_peek_elem", "i64", reference, value)
            return self.boolean(self.builder.compare("eq", result, Imm(0, "i64")))
        view = self.lookup(facade, item, node, node)
        return self.boolean(self.builder.compare("ne", view.pointer, self.null()))

    def map_store(self, facade: MapFacade, key: Value, value: Value, node: ast.Subscript, value_node: ast.AST) -> None:
        """`m[k] = v`, without a result, as the helper has none that a full map would change."""
        self.with_values(facade, node.value)
        if isinstance(facade, MapOfMaps):
            raise self.error(node, "bad-map-operation", "only user space puts maps into a map", "exchange it there")
        reference = self.map_ref(facade, node.value)
        info = facade.value_type.__ebpf_type__
        pointer = self.in_memory("value", value, info, facade.value_type, value_node)
        key_pointer = self.key_pointer(facade, key, node.slice)
        self.call("map_update_elem", "i64", reference, key_pointer, pointer, Imm(0, "i64"))

    def map_delete(self, facade: MapFacade, key: Value, node: ast.Subscript) -> None:
        """`del m[k]`; a missing key stays missing."""
        can_delete = hasattr(type(facade), "__delitem__") and hasattr(type(facade), "get")
        if not can_delete or isinstance(facade, MapOfMaps):
            raise self.error(
                node,
                "bad-map-operation",
                f"a program cannot delete entries of this {type(facade).__name__}",
                "store a zero",
            )
        self.call("map_delete_elem", "i64", self.map_ref(facade, node.value), self.key_pointer(facade, key, node.slice))

    def keyless(self, facade: MapFacade, value: Value, map_node: ast.AST, node: ast.AST) -> tuple[Operand, Operand]:
        """A map without keys, and a value of its type in memory."""
        info = facade.value_type.__ebpf_type__
        return self.map_ref(facade, map_node), self.in_memory("value", value, info, facade.value_type, node)

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
