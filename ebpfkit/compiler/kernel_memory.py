"""Fields of the kernel's structures: each access with the CO-RE relocation that finds the field at load time.

Belongs here: direct reads through pointers that the verifier trusts, and reads by bpf_probe_read_kernel through
addresses. Which calls give such pointers is `kfuncs.py`.
"""

from __future__ import annotations

import ast
import types
from dataclasses import replace
from functools import partial
from typing import Any

from ebpfkit.compiler.ir import Imm
from ebpfkit.compiler.timers import Timers
from ebpfkit.compiler.values import Space, Value, View, describe
from ebpfkit.dsl.kernel_structs import Kernel, is_kernel
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType, TypeInfo
from ebpfkit.errors import CompileError

__all__ = ["KernelMemory"]

U64 = IntType("u64", 64)
_SPACES = (Space.KERNEL, Space.ADDRESS)


class KernelMemory(Timers):
    """Reading structures of the kernel."""

    def special(self, callee: object) -> Any:
        if isinstance(callee, types.MethodType) and callee.__func__ is Kernel.at.__func__:  # type: ignore[attr-defined]
            return partial(self._at, callee.__self__)
        if isinstance(callee, types.MethodType) and callee.__func__ is Kernel.cast.__func__:  # type: ignore[attr-defined]
            return partial(self._cast, callee.__self__)
        return super().special(callee)

    def _cast(self, cls: Any, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`T.cast(pointer)`."""
        self.arguments("cast", args, kwargs, ("pointer",), node)
        value = args[0]
        if not isinstance(value, View) or value.space is not Space.KERNEL:
            raise self.wrong_kind(value, node.args[0], "what a helper or kernel function gave")
        return replace(value, type=cls.__ebpf_type__, cls=cls)

    def _at(self, cls: Any, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`T.at(address)`."""
        self.arguments("at", args, kwargs, ("address",), node)
        address = self.coerce(args[0], U64, node.args[0], "the address")
        return View(self.builder.pointer(address), cls.__ebpf_type__, cls, Space.ADDRESS, 8)

    def load_place(self, view: View, offset: int, info: TypeInfo, cls: Any, node: ast.AST) -> Value:
        if view.space not in _SPACES:
            return super().load_place(view, offset, info, cls, node)
        pointer = view.pointer
        if isinstance(view.type, StructType) and view.type.fields and is_kernel(view.cls):
            index = next(n for n, f in enumerate(view.type.fields) if f.offset == offset)
            pointer = self.builder.core_field(pointer, view.type, index)
        else:
            pointer = self.builder.gep(pointer, offset)
        place = replace(view, pointer=pointer, type=info, cls=cls, nested=True)  # type: ignore[arg-type]  # as in memory
        if isinstance(info, StructType) or (isinstance(info, ArrayType) and not info.name):
            return place
        if view.space is Space.KERNEL:
            return super().load_place(replace(place, space=Space.CALLER), 0, info, cls, node)
        held = self.builder.alloca(-(-info.size // 8) * 8, "of the kernel")
        size = Imm(info.size, "i64")
        self.builder.store(Imm(0, "i64"), held, 8)
        self.call("probe_read_kernel", "i64", held, size, pointer)
        return super().load_place(replace(place, pointer=held, space=Space.STACK, align=8), 0, info, cls, node)

    def store_place(self, view: View, offset: int, info: TypeInfo, cls: Any, value: Value, node: ast.AST) -> None:
        if view.space in _SPACES:
            raise self.error(node, "read-only", f"a {describe(view)} of the kernel's cannot be changed")
        super().store_place(view, offset, info, cls, value, node)

    def copy(self, target: View, source: View, info: TypeInfo) -> None:
        if source.space in _SPACES and isinstance(info, StructType):
            raise CompileError(
                f"a {describe(source)} of the kernel's cannot be copied: where its fields lie is known at load time",
                span=self.builder.place.span,
                code="kernel-struct",
                hint="copy the fields that you need",
            )
        if source.space is Space.ADDRESS:
            self.call("probe_read_kernel", "i64", target.pointer, Imm(info.size, "i64"), source.pointer)
            return
        super().copy(target, source, info)
