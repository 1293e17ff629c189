"""A program's function to typed IR: the parts of lowering put together, and the program's own entry and exits.

Belongs here: what a program begins with (its packet's bounds) and how it ends (verdicts, the shared short exit).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from ebpfkit.abi.licenses import GPL_COMPATIBLE
from ebpfkit.compiler.base import Frame, assigned_names
from ebpfkit.compiler.ir import Builder, Function, Imm, Operand, Place, Scope
from ebpfkit.compiler.source import find_source
from ebpfkit.compiler.state import Record
from ebpfkit.compiler.statements import Statements
from ebpfkit.compiler.values import Const, ContextValue, Scalar, Value
from ebpfkit.dsl.packet import Packet
from ebpfkit.dsl.typeinfo import IntType
from ebpfkit.dsl.verdicts import XdpAction
from ebpfkit.errors import CompileError

if TYPE_CHECKING:
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.dsl.program import Program
    from ebpfkit.dsl.variables import Config, Var

__all__ = ["is_gpl_compatible", "lower_program"]

VERDICT: IntType = XdpAction.__ebpf_type__  # type: ignore[attr-defined]  # set behind the enumeration


def is_gpl_compatible(license: str) -> bool:
    """Whether the kernel lets a program with this licence call GPL-only helpers."""
    return license in GPL_COMPATIBLE


class Lowerer(Statements):
    """One program being lowered."""

    def __init__(
        self, program: Program, cpu: str, maps: dict[str, MapFacade], variables: dict[str, Config | Var[Any]]
    ) -> None:
        super().__init__()
        self.program = program
        self.cpu = cpu
        self.maps = maps
        self.variables = variables
        self.frags = program.frags
        self.license = program.license
        self.gpl = is_gpl_compatible(program.license)

    def lower(self) -> Function:
        """The program's IR. Raises CompileError for whatever the language refuses."""
        function = self.program.function
        source = find_source(function)
        scope = Scope(self.program.name, source.file, source.node.lineno)
        place = Place(source.span(source.node), scope)
        out = Function(self.program.name, self.program.section, scope, "xdp_md")
        self.builder = Builder(out, place)
        names = frozenset({a.arg for a in source.node.args.args} | assigned_names(source.node.body))
        self.frame = Frame(0, function, source, scope, names)
        self.short_label = "short"
        self.short_used = False
        self._enter(source.node)
        self.block(source.node.body)
        if self.state is not None:
            last = source.node.body[-1]
            raise self.error(
                last, "no-return", f"{self.program.name} can end without a verdict", "return XDP_PASS at the end"
            )
        if self.short_used:
            self.builder.place = place
            self.builder.start(self.short_label)
            self.builder.ret(Imm(int(self.program.short), "i32"))
        self.builder.drop_unused_slots()
        return out

    def _enter(self, node: ast.FunctionDef) -> None:
        arguments = node.args
        if len(arguments.args) != 1 or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
            raise self.error(
                node, "bad-signature", f"the program {self.program.name}() takes the packet and nothing else"
            )
        self.cursor = self.builder.slot("ptr", "$cursor")
        self.data_end = self.builder.slot("ptr", "$end")
        self.data_start = self.builder.slot("ptr", "$start")
        self.read_bounds()
        self.bind(arguments.args[0].arg, ContextValue(Packet), arguments.args[0])

    def finish_function(self, value: Value, node: ast.AST) -> None:
        if self.frame.parent is not None:
            self.bind("$return", value, node)
            self.frame.exits.append(self.live)
            self.go(self.frame.exit_label)
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
        if isinstance(value, Const):
            number = value.value
            if isinstance(number, int) and not isinstance(number, bool) and 0 <= int(number) <= 4:
                return Imm(int(number), "i32")
            text = f"{number!r} is no verdict of XDP"
            if number is None:
                text = "the program ends without a verdict"
            raise self.error(node, "bad-verdict", text, "return XDP_PASS or another XdpAction")
        if isinstance(value, Scalar) and (value.type.is_bool or value.type.network):
            raise self.error(
                node, "bad-verdict", f"a {value.type.name} is no verdict", "return XDP_PASS or another XdpAction"
            )
        return self.coerce(value, VERDICT, node, "the verdict")


def lower_program(
    program: Program, *, cpu: str, maps: dict[str, MapFacade], variables: dict[str, Config | Var[Any]]
) -> Function:
    """Lower one program; `maps` and `variables` collect those of the object by name."""
    try:
        return Lowerer(program, cpu, maps, variables).lower()
    except RecursionError:
        source = find_source(program.function)
        raise CompileError(
            f"{program.name} is nested too deeply to compile",
            span=source.span(source.node),
            code="too-deep",
            hint="split its expressions",
        ) from None
