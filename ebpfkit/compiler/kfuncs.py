"""Calls of the kernel's own functions (kfuncs), as their declarations say.

Belongs here: what a declaration means in C, arguments, results, and the extern that goes into the object. Whether the
running kernel has such a function is the loader's question.
"""

from __future__ import annotations

import ast
import types
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, Union, get_args, get_origin

from ebpfkit.compiler.ir import Arg, Extern, Imm, Null, Operand, Param
from ebpfkit.compiler.kernel_memory import KernelMemory
from ebpfkit.compiler.values import (
    BOOL,
    Const,
    ContextValue,
    OptionalView,
    Space,
    Value,
    View,
    Void,
    ir_type,
    scalar,
    type_text,
)
from ebpfkit.dsl.iterators import iter_num
from ebpfkit.dsl.kernel_structs import Kernel
from ebpfkit.dsl.kfuncs import is_kfunc
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType

__all__ = ["Kfuncs"]

_MOST_ARGUMENTS = 5


@dataclass(frozen=True, slots=True)
class _Result:
    """What a kfunc gives: a number, nothing (all None), or a structure that may be missing."""

    info: IntType | StructType | None = None
    cls: Any = None
    optional: bool = False
    like: str = ""  # the parameter whose structure it is


class Kfuncs(KernelMemory):
    """Calls of kernel functions."""

    def special(self, callee: object) -> Any:
        if isinstance(callee, types.FunctionType) and is_kfunc(callee):
            return partial(self.call_kfunc, callee)
        if callee is iter_num:
            return self._refuse_iterator
        return super().special(callee)

    def _refuse_iterator(self, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        message = "iter_num() only has a meaning in a for loop"
        raise self.error(node, "not-callable", message, "write for i in iter_num(0, n)")

    def call_kfunc(
        self, function: types.FunctionType, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        """A call of a function declared with `@kfunc`."""
        name = function.__name__
        if self.live.lock is not None:
            message = f"{name}() is called while the lock of line {self.live.lock[1].line} is held"
            raise self.error(node, "in-lock", message, "call it before or after the with")
        if self.gpl is False:
            message = f"the kernel function {name} is only for GPL-compatible programs"
            raise self.error(node, "gpl-only", message, 'write LICENSE = "GPL" or "Dual MIT/GPL" in the module')
        annotations = self.annotations(function, node)
        bound = self._bind_arguments(function, args, kwargs, {}, node)
        if len(bound) > _MOST_ARGUMENTS:
            raise self.error(
                node, "too-many-arguments", f"{name}() has {len(bound)} parameters, and a call has room for 5"
            )
        params, operands = [], []
        for parameter, value in bound.items():
            param, operand = self._kfunc_argument(name, parameter, annotations, value, node)
            params.append(param)
            operands.append(operand)
        result = self._kfunc_result(name, annotations, node)
        shown = None
        if result.like or result.cls is Kernel:
            shown = Param(Arg("result"), void=True)
        elif result.info is not None:
            kind = ir_type(result.info) if isinstance(result.info, IntType) else "ptr"
            kind = "i8" if kind == "i1" else kind
            shown = Param(Arg("result", kind), result.info, pointee=isinstance(result.info, StructType))
        self.builder.function.externs[name] = Extern(name, tuple(params), shown)
        made = self.builder.call(name, "void" if shown is None else shown.arg.type, tuple(operands))
        return self._kfunc_value(name, result, made, bound)

    def _kfunc_argument(
        self, name: str, parameter: str, annotations: dict[str, Any], value: Value, node: ast.Call
    ) -> tuple[Param, Operand]:
        wanted = annotations.get(parameter)
        info = BOOL if wanted is bool else getattr(wanted, "__ebpf_type__", None)
        if isinstance(wanted, type) and wanted is self.kind.context:
            if not isinstance(value, ContextValue):
                raise self.wrong_kind(value, node, "the packet")
            return Param(Arg()), Arg()
        if isinstance(info, IntType):
            operand = self.coerce(value, info, node, parameter)
            if info.is_bool:
                operand = self.builder.convert("zext", operand, "i8")
            return Param(Arg(parameter, operand.type), info), operand
        anything = wanted is object or isinstance(wanted, TypeVar)
        if not anything and not isinstance(info, (StructType, ArrayType)):
            message = f"the parameter {parameter} of the kernel function {name} has no type of the language"
            raise self.error(node, "bad-annotation", message, "annotate a number, a structure, an array or object")
        if value == Const(None):
            pointer: Operand = Null()
        elif isinstance(value, ContextValue) and anything:
            pointer = Arg()
        elif isinstance(value, Const) and isinstance(value.value, MapFacade) and anything:
            pointer = self.map_ref(value.value, node)
        elif isinstance(value, View) and (anything or value.type == info):
            self.check_alive(value, node)
            pointer = value.pointer
        else:
            raise self.wrong_kind(value, node, f"a {type_text(info)}" if info is not None else "a structure")
        if anything:
            return Param(Arg(parameter), void=True), pointer
        pointee = info.element if isinstance(info, ArrayType) and not info.name else info
        return Param(Arg(parameter), pointee, pointee=True), pointer

    def _kfunc_result(self, name: str, annotations: dict[str, Any], node: ast.AST) -> _Result:
        wanted = annotations.get("return", ...)
        optional = False
        if get_origin(wanted) in (Union, types.UnionType):
            parts = [part for part in get_args(wanted) if part is not type(None)]
            optional, wanted = len(parts) < len(get_args(wanted)), parts[0]
        if wanted is None:
            return _Result()
        if isinstance(wanted, TypeVar):
            like = next((p for p, kind in annotations.items() if kind is wanted and p != "return"), "")
            if like:
                return _Result(None, None, optional, like)
        info = BOOL if wanted is bool else getattr(wanted, "__ebpf_type__", None)
        if isinstance(info, IntType) and not optional:
            return _Result(info)
        if isinstance(info, StructType) and isinstance(wanted, type) and issubclass(wanted, Kernel):
            return _Result(info, wanted, optional)
        message = f"the kernel function {name} gives no number and no structure of the kernel's"
        raise self.error(node, "bad-annotation", message, "write -> s32, -> None, or a bpf.Kernel structure")

    def _kfunc_value(self, name: str, result: _Result, made: Operand, bound: dict[str, Value]) -> Value:
        if result.like:
            like = bound[result.like]
            assert isinstance(like, View)
            view = replace(like, pointer=made, space=Space.CALLER, align=1, nested=True, owner=0, facade=None)
            return OptionalView(view, f"{name}()") if result.optional else view
        if result.info is None:
            return Void(f"{name}()")
        if isinstance(result.info, StructType):
            view = View(made, result.info, result.cls, Space.KERNEL, 8)
            return OptionalView(view, f"{name}()") if result.optional else view
        if result.info.is_bool:
            return self.boolean(self.builder.compare("ne", made, Imm(0, made.type)))
        return scalar(made, result.info)
