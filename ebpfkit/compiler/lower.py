"""A program's function to typed IR: the parts of lowering put together, and the program's own entry and exits.

Belongs here: what a program begins with (its packet's bounds) and how it ends (verdicts, the shared short exit).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from ebpfkit.abi.licenses import GPL_COMPATIBLE
from ebpfkit.compiler.base import Frame, assigned_names
from ebpfkit.compiler.ir import Arg, Builder, Function, Imm, Operand, Place, Scope
from ebpfkit.compiler.replacements import Replacements
from ebpfkit.compiler.source import find_source
from ebpfkit.compiler.state import Record
from ebpfkit.compiler.subprograms import CompiledFunction
from ebpfkit.compiler.values import Const, ContextValue, Scalar, Space, Value, View, ir_type, scalar
from ebpfkit.dsl.parameters import Parameters, parameters_of
from ebpfkit.dsl.replacements import Replacement
from ebpfkit.errors import CompileError

if TYPE_CHECKING:
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.dsl.program import Program
    from ebpfkit.dsl.variables import Config, Var

__all__ = ["is_gpl_compatible", "lower_program"]


def is_gpl_compatible(license: str) -> bool:
    """Whether the kernel lets a program with this licence call GPL-only helpers."""
    return license in GPL_COMPATIBLE


class Lowerer(Replacements):
    """One program being lowered."""

    def __init__(
        self,
        program: Program,
        cpu: str,
        maps: dict[str, MapFacade],
        variables: dict[str, Config | Var[Any]],
        subprograms: dict[object, CompiledFunction],
    ) -> None:
        super().__init__()
        self.program = program
        self.kind = program.kind
        self.cpu = cpu
        self.maps = maps
        self.variables = variables
        self.subprograms = subprograms
        self.frags = program.frags
        self.license = program.license
        self.gpl = is_gpl_compatible(program.license)

    def lower(self) -> Function:
        """The program's IR. Raises CompileError for whatever the language refuses."""
        if isinstance(self.program, Replacement):
            return self.lower_replacement(self.program)
        function = self.program.function
        source = find_source(function)
        scope = Scope(self.program.name, source.file, source.node.lineno)
        place = Place(source.span(source.node), scope)
        out = Function(self.program.name, self.program.section, scope, self.kind.struct)
        self.builder = Builder(out, place)
        names = frozenset({a.arg for a in source.node.args.args} | assigned_names(source.node.body))
        self.frame = Frame(0, function, source, scope, names)
        self.short_label = "short"
        self.short_used = False
        self._enter(source.node)
        self.block(source.node.body)
        if self.state is not None and not self.kind.has_packet:
            self.finish_function(Const(None), source.node)
        if self.state is not None:
            last = source.node.body[-1]
            hint = f"return {self.kind.answer.split()[0]} at the end" if self.kind.verdict else "return a number"
            raise self.error(last, "no-return", f"{self.program.name} can end without a verdict", hint)
        if self.short_used:
            self.builder.place = place
            self.builder.start(self.short_label)
            self.builder.ret(Imm(int(self.program.short), "i32"))
        self.builder.drop_unused_slots()
        return out

    def _enter(self, node: ast.FunctionDef) -> None:
        arguments = node.args
        if not self.kind.has_packet:
            self._enter_tracing(node)
            return
        if len(arguments.args) != 1 or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
            raise self.error(
                node, "bad-signature", f"the program {self.program.name}() takes the packet and nothing else"
            )
        self.packet_slots()
        self.read_bounds()
        self.bind(arguments.args[0].arg, ContextValue(self.kind.context), arguments.args[0])

    def _enter_tracing(self, node: ast.FunctionDef) -> None:
        """Arguments are numbers in the context, a record is a view of it."""
        self.has_packet = False
        self.no_short = f"a {self.kind.decorator} program has no verdict for that"
        found = self._parameters(node)
        named = {argument.arg: argument for argument in node.args.args}
        if found.context:
            self.bind(found.context, ContextValue(self.kind.context), named[found.context])
        if found.record_type is not None:
            info = found.record_type.__ebpf_type__
            view = View(Arg(), info, found.record_type, Space.CONTEXT, 8)
            self.bind(found.record, view, named[found.record])
        for name, type_, offset in found.arguments:
            number = type_.__ebpf_type__
            word = self.builder.ctx_load(offset, 8, name)
            self.bind(name, scalar(self.builder.convert("trunc", word, ir_type(number)), number), named[name])

    def _parameters(self, node: ast.FunctionDef) -> Parameters:
        try:
            return parameters_of(self.program)
        except CompileError as error:
            raise self.error(node, error.code, error.message.removesuffix(f"; {error.hint}"), error.hint) from None

    def finish_function(self, value: Value, node: ast.AST) -> None:
        if self.frame.parent is not None:
            self.bind("$return", value, node)
            self.frame.exits.append(self.live)
            self.go(self.frame.exit_label)
            return
        if self.subprogram is not None:
            self.return_from(value, node)
            return
        for status, span in self.live.records.values():
            if status in (Record.MAYBE, Record.OPEN, Record.TORN):
                raise self.error(
                    node,
                    "record-leak",
                    f"the record reserved in line {span.line} {status.value} here",
                    "call .submit() or .discard() on every path",
                )
        where = node.value if isinstance(node, ast.Return) and node.value is not None else node
        self.builder.ret(self._verdict(value, where))
        self.state = None

    def _verdict(self, value: Value, node: ast.AST) -> Operand:
        kind, hint = self.kind, f"return {self.kind.answer}"
        if isinstance(value, Const):
            number = value.value
            if number is None and not kind.has_packet:
                return Imm(0, "i32")
            if isinstance(number, int) and not isinstance(number, bool) and kind.lowest <= number <= kind.highest:
                return Imm(int(number), "i32")
            text = f"{number!r} is no verdict of {_WORDS.get(kind.decorator, f'a {kind.decorator} program')}"
            if number is None:
                text = "the program ends without a verdict"
            raise self.error(node, "bad-verdict", text, hint)
        if isinstance(value, Scalar) and (value.type.is_bool or value.type.network):
            raise self.error(node, "bad-verdict", f"a {value.type.name} is no verdict", hint)
        if kind.lowest == kind.highest:
            raise self.error(node, "bad-verdict", f"a {kind.decorator} program answers {kind.lowest}", hint)
        return self.coerce(value, kind.number, node, "the verdict")


_WORDS = {"xdp": "XDP", "tc": "traffic control", "cgroup_skb": "a control group"}


def lower_program(
    program: Program,
    *,
    cpu: str,
    maps: dict[str, MapFacade],
    variables: dict[str, Config | Var[Any]],
    subprograms: dict[object, CompiledFunction],
) -> Function:
    """Lower one program; `maps` and `variables` collect those of the object by name, `subprograms` by their shapes."""
    try:
        return Lowerer(program, cpu, maps, variables, subprograms).lower()
    except RecursionError:
        source = find_source(program.function)
        raise CompileError(
            f"{program.name} is nested too deeply to compile",
            span=source.span(source.node),
            code="too-deep",
            hint="split its expressions",
        ) from None
