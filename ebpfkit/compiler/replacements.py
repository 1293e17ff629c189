"""Programs that replace a global function (`@freplace`): lowered as one, in a section of their own."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

from ebpfkit.compiler.base import Frame
from ebpfkit.compiler.ir import Arg, Builder, Function, Null, Operand, Param, Place, Scope
from ebpfkit.compiler.source import find_source
from ebpfkit.compiler.statements import Statements
from ebpfkit.compiler.subprograms import Formal, Subprograms
from ebpfkit.compiler.values import BOOL, ContextValue, Space, Value, View, ir_type, scalar
from ebpfkit.dsl.functions import Subprogram
from ebpfkit.dsl.replacements import Replacement
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType

__all__ = ["Replacements"]


class Replacements(Statements):
    """Lowering of a function by its annotations alone: nobody here calls it."""

    def lower_replacement(self, program: Replacement) -> Function:
        """The program's IR."""
        function, source = program.function, find_source(program.function)
        node = source.node
        scope = Scope(program.name, source.file, node.lineno)
        self.frame = Frame(0, function, source, scope, frozenset())
        self.builder = Builder(Function(program.name, "", scope, ""), Place(source.span(node), scope))
        annotations = self.annotations(function, node)
        arguments = node.args
        if arguments.vararg or arguments.kwarg or arguments.kwonlyargs or arguments.defaults:
            raise self.error(node, "bad-signature", "a replacement takes the parameters of what it replaces")
        formals = [self._declared(one, annotations.get(one.arg), node) for one in arguments.args]
        result = self._result_of(function, annotations, node)
        noted = Subprogram("global", int(program.short))
        made = self._lower_function(function, noted, formals, result, node, "", name=program.name)
        made.function.section = program.section
        return made.function

    def _declared(self, argument: ast.arg, wanted: Any, node: ast.AST) -> Formal:
        """A parameter as its annotation says."""
        name = argument.arg
        info = BOOL if wanted is bool else getattr(wanted, "__ebpf_type__", None)
        if wanted is self.kind.context:
            return Formal(name, lambda _, __: ContextValue(self.kind.context), Param(Arg()))
        if isinstance(info, IntType):
            kind = info
            return Formal(name, lambda _, op: scalar(op, kind), Param(Arg(name, ir_type(kind)), kind))
        if isinstance(info, StructType) or (isinstance(info, ArrayType) and not info.name):
            shape = View(Null(), info, wanted, Space.CALLER, 8, nested=True)
            return Formal(name, _Memory(shape), Param(Arg(name), info, pointee=True))
        hint = f"write {name}: u32, a structure, or {self.kind.context.__name__}"
        raise self.error(
            argument, "bad-annotation", f"the parameter {name} has no annotation that says what it is", hint
        )


class _Memory:
    """A structure of the caller's, ruled out to be missing."""

    def __init__(self, shape: View) -> None:
        self.shape = shape

    def __call__(self, low: Subprograms, pointer: Operand) -> Value:
        low.leave_without(pointer)
        return replace(self.shape, pointer=pointer)
