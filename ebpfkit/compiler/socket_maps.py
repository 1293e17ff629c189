"""Sockets in maps: whether one is there, and the value that belongs to a packet's socket.

Belongs here: helpers that give sockets, each released or used up at once, so that none is ever held by a name.
"""

from __future__ import annotations

import ast

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.uapi import BPF_SK_STORAGE_GET_F_CREATE
from ebpfkit.compiler.ir import Arg, Imm, Operand
from ebpfkit.compiler.map_methods import MapMethods
from ebpfkit.compiler.maps import S64
from ebpfkit.compiler.values import Const, ContextValue, OptionalView, Scalar, Space, Value, View, scalar
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.skbuff import SkBuff
from ebpfkit.dsl.socket_maps import SkStorage, SocketMap

__all__ = ["SocketMaps"]


class SocketMaps(MapMethods):
    """Operations on maps of sockets, and on their storage."""

    def map_contains(self, facade: MapFacade, item: Value, node: ast.expr) -> Const | Scalar:
        if not isinstance(facade, SocketMap):
            return super().map_contains(facade, item, node)
        reference = self.map_ref(facade, node)
        socket = self.call("map_lookup_elem", "ptr", reference, self.key_pointer(facade, item, node))
        there, onward = self.builder.label("socket"), self.builder.label("released")
        found = self.builder.compare("ne", socket, self.null())
        slot = self.builder.slot("i1", "$there")
        self.builder.store(found, slot, 8)
        self.builder.condbr(found, there, onward)
        self.builder.start(there)
        self.call("sk_release", "i64", socket)
        self.builder.br(onward)
        self.builder.start(onward)
        return self.boolean(self.builder.load("i1", slot, 8))

    def map_method(
        self, facade: MapFacade, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        assert isinstance(node.func, ast.Attribute)
        if isinstance(facade, SocketMap) and name == "delete":
            self.arguments(name, args, kwargs, ("key",), node)
            key = self.key_pointer(facade, args[0], node.args[0])
            return scalar(self.call("map_delete_elem", "i64", self.map_ref(facade, node.func.value), key), S64)
        if isinstance(facade, SkStorage) and name == "get":
            return self._storage(facade, args, kwargs, node)
        return super().map_method(facade, name, args, kwargs, node)

    def _storage(self, facade: MapFacade, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`storage.get(skb, create=True)`."""
        create = kwargs.pop("create", Const(False))
        self.arguments("get", args, kwargs, ("skb",), node)
        if not isinstance(args[0], ContextValue):
            raise self.wrong_kind(args[0], node.args[0], "the program's own context")
        if not isinstance(create, Const) or not isinstance(create.value, bool):
            raise self.error(node, "bad-call", "create= is True or False")
        row = next((field for field in CONTEXTS[self.kind.layout].fields if field.name == "sk"), None)
        if self.kind.context is not SkBuff or self.kind.prog_type not in ("sched_cls", "cgroup_skb") or row is None:
            message = f"the packet of a {self.kind.decorator} program has no socket that it may look into"
            raise self.error(node, "program-type", message, "it is for tc and cgroup_skb")
        assert isinstance(node.func, ast.Attribute)
        reference = self.map_ref(facade, node.func.value)
        slot = self.builder.slot("ptr", "$storage")
        self.builder.store(self.null(), slot, 8)
        onward = self.builder.label("stored")
        some = self._unless_null(self.builder.load("ptr", self.builder.gep(Arg(), row.offset), 8), onward)
        whole = self._unless_null(self.call("sk_fullsock", "ptr", some), onward)
        flags = Imm(BPF_SK_STORAGE_GET_F_CREATE if create.value else 0, "i64")
        self.builder.store(self.call("sk_storage_get", "ptr", reference, whole, self.null(), flags), slot, 8)
        self.builder.br(onward)
        self.builder.start(onward)
        info = facade.value_type.__ebpf_type__
        view = View(self.builder.load("ptr", slot, 8), info, facade.value_type, Space.MAP, 8)
        return OptionalView(view, f"{facade.name}.get()")

    def _unless_null(self, pointer: Operand, otherwise: str) -> Operand:
        """Go on only where there is something."""
        there = self.builder.label("there")
        self.builder.condbr(self.builder.compare("ne", pointer, self.null()), there, otherwise)
        self.builder.start(there)
        return pointer
