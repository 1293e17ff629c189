"""Methods of maps: `get`, `set`, queues, redirects, ring buffer records, events.

Belongs here: what may be called of which map, and the helper behind it. Keys and values in memory are `maps.py`.
"""

from __future__ import annotations

import ast

from ebpfkit.abi.uapi import BPF_F_BROADCAST, BPF_F_CURRENT_CPU, BPF_F_EXCLUDE_INGRESS
from ebpfkit.compiler.ir import Arg, Imm, Operand, Scope
from ebpfkit.compiler.maps import S64, Maps
from ebpfkit.compiler.packet import U32
from ebpfkit.compiler.state import Binding, Conflict, Record
from ebpfkit.compiler.values import (
    HOLE,
    Const,
    ContextValue,
    OptionalView,
    Space,
    Value,
    View,
    Void,
    describe,
    scalar,
)
from ebpfkit.dsl.event_arrays import MOST_PAYLOAD, PerfEventArray
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.queues import BloomFilter, Queue
from ebpfkit.dsl.special_maps import DevMap, RedirectMap
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.verdicts import XdpAction
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST, BPF_NOEXIST
from ebpfkit.span import Span

__all__ = ["MapMethods"]


class MapMethods(Maps):
    """Evaluation of calls of maps' methods."""

    reservations: dict[tuple[Scope, Span], int]

    def __init__(self) -> None:
        super().__init__()
        self.reservations = {}

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
        if name == "set" and hasattr(type(facade), "get") and hasattr(type(facade), "set"):
            return self._set(facade, args, kwargs, node)
        if name == "delete" and hasattr(type(facade), "get") and hasattr(type(facade), "delete"):
            self.arguments(name, args, kwargs, ("key",), node)
            deleted = self.map_ref(facade, map_node)
            pointer = self.key_pointer(facade, args[0], node.args[0])
            return scalar(self.call("map_delete_elem", "i64", deleted, pointer), S64)
        if name == "redirect" and isinstance(facade, RedirectMap):
            return self._redirect(facade, args, kwargs, node)
        if name == "broadcast" and isinstance(facade, DevMap):
            return self._broadcast(facade, args, kwargs, node)
        if isinstance(facade, Queue) and name in ("push", "pop", "peek"):
            return self._queue(facade, name, args, kwargs, node)
        if isinstance(facade, BloomFilter) and name == "add":
            self.arguments(name, args, kwargs, ("value",), node)
            reference, value = self.keyless(facade, args[0], map_node, node.args[0])
            self.call("map_push_elem", "i64", reference, value, Imm(BPF_ANY, "i64"))
            return Void("add()")
        if isinstance(facade, PerfEventArray) and name == "output":
            return self._output_event(facade, args, kwargs, node)
        if facade.map_type == "ringbuf" and name in ("output", "reserve", "record"):
            return self._ring(facade, name, args, kwargs, node)
        code = "user-space-only" if hasattr(type(facade), name) else "no-such-attribute"
        raise self.error(
            node,
            code,
            f"a program cannot call {name}() of this {type(facade).__name__}",
            f"it has {facade.in_program}",
        )

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
            reference, value = self.keyless(facade, args[0], map_node, node.args[0])
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
        if self.kind.prog_type != "xdp":
            what = f"a {self.kind.decorator} program cannot redirect by a {type(facade).__name__}"
            raise self.error(node, "program-type", what, "write helpers.redirect(ifindex, 0)")
        otherwise = kwargs.pop("otherwise", args[1] if len(args) > 1 else Const(XdpAction.XDP_ABORTED))
        self.arguments("redirect", args[:1], kwargs, ("key",), node)
        if not isinstance(otherwise, Const) or not isinstance(otherwise.value, XdpAction) or otherwise.value > 3:
            raise self.error(node, "bad-verdict", "otherwise= is one of XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX")
        map_node = node.func.value if isinstance(node.func, ast.Attribute) else node
        key = self.builder.convert("zext", self.coerce(args[0], U32, node.args[0], "the key"), "i64")
        reference = self.map_ref(facade, map_node)
        result = self.call("redirect_map", "i64", reference, key, Imm(int(otherwise.value), "i64"))
        return scalar(self.builder.convert("trunc", result, "i32"), XdpAction.__ebpf_type__)  # type: ignore[attr-defined]

    def _broadcast(self, facade: MapFacade, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        exclude = kwargs.pop("exclude_ingress", Const(False))
        self.arguments("broadcast", args, kwargs, (), node)
        if not isinstance(exclude, Const) or not isinstance(exclude.value, bool):
            raise self.error(node, "bad-call", "exclude_ingress= is True or False")
        flags = BPF_F_BROADCAST | (BPF_F_EXCLUDE_INGRESS if exclude.value else 0)
        assert isinstance(node.func, ast.Attribute)
        reference = self.map_ref(facade, node.func.value)
        result = self.call("redirect_map", "i64", reference, Imm(0, "i64"), Imm(flags, "i64"))
        return scalar(self.builder.convert("trunc", result, "i32"), XdpAction.__ebpf_type__)  # type: ignore[attr-defined]

    def _output_event(self, facade: MapFacade, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`events.output(pkt, record, packet=n)`."""
        along = kwargs.pop("packet", Const(0))
        self.arguments("output", args, kwargs, ("pkt", "record"), node)
        if not isinstance(args[0], ContextValue):
            raise self.wrong_kind(args[0], node.args[0], "the program's own context")
        where = next((keyword.value for keyword in node.keywords), node)
        size = self.scalar_of(along, where, "a number of bytes")
        if size.type.network or size.type.is_bool or size.type.enum:
            raise self.error(where, "bad-type", f"packet= is a number of bytes, not a {size.type.name}")
        if size.lo < 0 or size.hi > MOST_PAYLOAD:
            message = f"packet= is 0 to {MOST_PAYLOAD} bytes, and this is {size.lo} to {size.hi}"
            raise self.error(where, "bad-size", message, f"write & {MOST_PAYLOAD:#x}, or test it first")
        assert isinstance(node.func, ast.Attribute)
        reference = self.map_ref(facade, node.func.value)
        info = facade.value_type.__ebpf_type__
        record = self.in_memory("record", args[1], info, facade.value_type, node.args[1])
        flags: Operand = Imm(BPF_F_CURRENT_CPU | (size.op.value << 32 if isinstance(size.op, Imm) else 0), "i64")
        if not isinstance(size.op, Imm):
            wide = self.builder.convert("zext", size.op, "i64")
            flags = self.builder.binary("or", self.builder.binary("shl", wide, Imm(32, "i64")), flags)
        result = self.call("perf_event_output", "i64", Arg(), reference, flags, record, Imm(info.size, "i64"))
        return scalar(result, S64)

    def _set(self, facade: MapFacade, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`m.set(key, value, flags)`: what the helper says."""
        given = kwargs.pop("flags", args[2] if len(args) == 3 else Const(BPF_ANY))
        self.arguments("set", args[:2], kwargs, ("key", "value"), node)
        flags = given.value if isinstance(given, Const) else None
        if flags not in (BPF_ANY, BPF_NOEXIST, BPF_EXIST) or len(args) > 3:
            raise self.error(
                node, "bad-flags", "the flags of set() are a constant", "BPF_ANY, BPF_NOEXIST or BPF_EXIST"
            )
        assert isinstance(node.func, ast.Attribute)
        reference = self.map_ref(facade, node.func.value)
        info = facade.value_type.__ebpf_type__
        value = self.in_memory("value", args[1], info, facade.value_type, node.args[1])
        key = self.key_pointer(facade, args[0], node.args[0])
        return scalar(self.call("map_update_elem", "i64", reference, key, value, Imm(int(flags), "i64")), S64)

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
