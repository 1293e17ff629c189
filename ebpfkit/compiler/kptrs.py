"""Objects that programs allocate, and pointers to them in map values.

Belongs here: `new`, `drop` and `swap`, and the death of the names whose object went elsewhere. That every object is
given back on every path is the verifier's to see.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

from ebpfkit.compiler.ir import Arg, Extern, Null, Operand, Param
from ebpfkit.compiler.kfuncs import Kfuncs
from ebpfkit.compiler.memory import occupied
from ebpfkit.compiler.state import Conflict
from ebpfkit.compiler.values import Const, OptionalView, Space, Value, View, Void
from ebpfkit.dsl.kptrs import Kptr, drop, new
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.typeinfo import IntType, TypeInfo
from ebpfkit.errors import CompileError

__all__ = ["Kptrs"]

U64 = IntType("u64", 64)
_META = Param(Arg("meta"), void=True)
_NEW = Extern("bpf_obj_new_impl", (Param(Arg("type", "i64"), U64), _META), Param(Arg("result"), void=True))
_DROP = Extern("bpf_obj_drop_impl", (Param(Arg("object"), void=True), _META))


class Kptrs(Kfuncs):
    """Allocated objects."""

    def special(self, callee: object) -> Any:
        return {new: self._new, drop: self._drop}.get(callee) if callee in (new, drop) else super().special(callee)

    def _kernel_function(self, extern: Extern, *operands: Operand) -> Operand:
        if self.live.lock is not None:
            what = f"{extern.name} is called while the lock of line {self.live.lock[1].line} is held"
            raise self.error(self.frame.source.node, "in-lock", what, "do it before or after the with")
        self.builder.function.externs[extern.name] = extern
        return self.builder.call(extern.name, "ptr" if extern.result is not None else "void", operands)

    def _new(self, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`new(T)`."""
        self.arguments("new", args, kwargs, ("type",), node)
        cls = args[0].value if isinstance(args[0], Const) else None
        if not isinstance(cls, type) or not issubclass(cls, Struct) or not cls.__ebpf_type__.fields:
            raise self.error(node.args[0], "bad-type", "new() makes structures", "write bpf.new(Node)")
        info = cls.__ebpf_type__
        pointer = self._kernel_function(_NEW, self.builder.type_id(info), Null())
        there, onward = self.builder.label("there"), self.builder.label("allocated")
        self.builder.condbr(self.builder.compare("ne", pointer, Null()), there, onward)
        self.builder.start(there)
        view = View(pointer, info, cls, Space.OBJECT, 8)
        for offset, size in occupied(info):
            self.builder.volatile = True
            self.store_bytes(replace(view, pointer=self.builder.gep(pointer, offset), align=size), bytes(size))
            self.builder.volatile = False
        self.builder.br(onward)
        self.builder.start(onward)
        return OptionalView(view, "new()")

    def _drop(self, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`drop(object)`."""
        self.arguments("drop", args, kwargs, ("object",), node)
        self._kernel_function(_DROP, self._own(args[0], node.args[0], "drop()"), Null())
        return Void("drop()")

    def _own(self, value: Value, node: ast.expr, what: str) -> Operand:
        """An object of the program's, which goes elsewhere: its name is dead."""
        if not isinstance(value, View) or value.space is not Space.OBJECT or value.nested:
            if isinstance(value, View):
                message = "this is no object that the program has allocated"
                raise self.error(node, "bad-kptr", message, "make one with bpf.new(T)")
            raise self.wrong_kind(value, node, "an object")
        name = self.name_of(node)
        if name is not None:
            message = f"{name} died in line {self.span(node).line}, where {what} took its object"
            self.live.names[self.frame.number, name] = Conflict("dead-view", message)
        return value.pointer

    def store_place(self, view: View, offset: int, info: TypeInfo, cls: Any, value: Value, node: ast.AST) -> None:
        before, self.builder.volatile = self.builder.volatile, view.space is Space.OBJECT or self.builder.volatile
        super().store_place(view, offset, info, cls, value, node)
        self.builder.volatile = before

    def copy(self, target: View, source: View, info: TypeInfo) -> None:
        if Space.OBJECT in (target.space, source.space):
            raise CompileError(
                "an allocated object cannot be copied as a whole: the kernel lets programs at one member at a time",
                span=self.builder.place.span,
                code="kernel-struct",
                hint="copy its fields",
            )
        super().copy(target, source, info)

    def is_kptr(self, owner: View) -> bool:
        return isinstance(owner.cls, type) and issubclass(owner.cls, Kptr)

    def kptr_method(self, owner: View, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`value.field.swap(object)`."""
        if name != "swap":
            raise self.error(node, "no-such-attribute", f"a Kptr has no method {name}", "it has swap")
        self.arguments(name, args, kwargs, ("object",), node)
        if owner.space is not Space.MAP:
            message = f"this pointer lies in {owner.space.value}"
            raise self.error(node, "bad-kptr", message, "use the one of a value that a map gave")
        pointee = owner.cls.pointee
        given = args[0]
        pointer: Operand = Null()
        if given != Const(None):
            if isinstance(given, View) and given.type != pointee.__ebpf_type__:
                raise self.wrong_kind(given, node.args[0], f"a {pointee.__name__}")
            pointer = self._own(given, node.args[0], "swap()")
        before = self.call("kptr_xchg", "ptr", owner.pointer, pointer)
        return OptionalView(View(before, pointee.__ebpf_type__, pointee, Space.OBJECT, 8), "swap()")
