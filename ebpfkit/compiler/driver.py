"""Programs to an object: lowering, LLVM text, optimisation, ELF, and every stage on the way for whoever wants to look.

Belongs here: options, the order of the stages and the licence in the object; map definitions are
`map_definitions.py`. The same programs and options give the same bytes.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ebpfkit.compiler.debuginfo import DebugInfo
from ebpfkit.compiler.ir import Function, print_function
from ebpfkit.compiler.llvm_ir import BpfTarget, DataDefinition, print_module
from ebpfkit.compiler.lower import lower_program
from ebpfkit.compiler.map_definitions import define_map
from ebpfkit.compiler.object_cache import fetch
from ebpfkit.compiler.source import find_source
from ebpfkit.compiler.subprograms import CompiledFunction
from ebpfkit.dsl.prog_arrays import ProgArray
from ebpfkit.dsl.variables import Config, Var
from ebpfkit.elf.run_config import RUN_CONFIG_SECTION, RunConfig, run_config_rows
from ebpfkit.errors import CompileError, UsageError
from ebpfkit.llvm.emit import Emission, optimise
from ebpfkit.llvm.fence import LlvmError
from ebpfkit.span import Span

if TYPE_CHECKING:
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.dsl.program import Program

__all__ = ["STAGES", "Compiled", "Options", "compile_programs", "cpu_for_kernel"]

STAGES = ("ast", "ir", "llvm", "asm", "btf", "elf")
CPUS = ("v1", "v2", "v3", "v4")
LICENSE_SYMBOL = "_license"


def cpu_for_kernel(kernel: str | None) -> str:
    """The instruction set to compile for: v2 below 5.12, v4 from 6.6, else v3. Raises UsageError for a bad version."""
    if kernel is None:
        return "v3"
    parts = kernel.split(".")
    try:
        version = int(parts[0]), int(parts[1].split("-")[0]) if len(parts) > 1 else 0
    except ValueError:
        raise UsageError(f"{kernel!r} is no kernel version: write 6.6") from None
    return "v2" if version < (5, 12) else "v4" if version >= (6, 6) else "v3"


@dataclass(frozen=True, slots=True)
class Options:
    """How to compile. `mcpu` wins over what `kernel` implies; without either it is v3."""

    mcpu: str | None = None
    kernel: str | None = None

    @property
    def cpu(self) -> str:
        """The instruction set: "v1" to "v4"."""
        if self.mcpu is not None and self.mcpu not in CPUS:
            raise UsageError(f"no BPF CPU is called {self.mcpu!r}; there are {', '.join(CPUS)}")
        return self.mcpu or cpu_for_kernel(self.kernel)


@dataclass(frozen=True)
class Compiled:
    """A finished object. `maps`: facades by name, in the order of the object."""

    elf: bytes
    maps: Mapping[str, MapFacade]
    programs: tuple[Program, ...]
    options: Options
    llvm: str
    functions: tuple[Function, ...] = field(repr=False)

    @cached_property
    def emission(self) -> Emission:
        """The optimised module, made again where the object came from the cache."""
        return optimise(self.llvm, cpu=self.options.cpu)

    @cached_property
    def stages(self) -> Mapping[str, str | bytes]:
        """Every stage by name: "ast", "ir", "llvm", "optimised", "asm" as text, "btf" and "elf" as bytes."""
        trees = [ast.dump(find_source(p.function).node, indent=2) for p in self.programs]
        return {
            "ast": "\n".join(trees) + "\n",
            "ir": "\n".join(print_function(f) for f in self.functions),
            "llvm": self.llvm,
            "optimised": self.emission.text,
            "asm": self.emission.emit(assembly=True).decode(),
            "btf": section_bytes(self.elf, ".BTF"),
            "elf": self.elf,
        }


def section_bytes(elf: bytes, name: str) -> bytes:
    """One section of a little-endian ELF64 object, as it stands in the file; empty when there is none."""
    headers = int.from_bytes(elf[0x28:0x30], "little")
    size, count, names = (int.from_bytes(elf[at : at + 2], "little") for at in (0x3A, 0x3C, 0x3E))

    def header(index: int) -> tuple[int, int, int]:
        at = headers + index * size
        return (
            int.from_bytes(elf[at : at + 4], "little"),
            int.from_bytes(elf[at + 0x18 : at + 0x20], "little"),
            int.from_bytes(elf[at + 0x20 : at + 0x28], "little"),
        )

    table = header(names)[1]
    for index in range(count):
        start, offset, length = header(index)
        end = elf.index(b"\0", table + start)
        if elf[table + start : end].decode() == name:
            return elf[offset : offset + length]
    return b""


def compile_programs(programs: Sequence[Program], *, options: Options | None = None) -> Compiled:
    """Compile programs into one object. Raises CompileError at the author's line, UsageError for bad options."""
    options = options or Options()
    if not programs:
        raise UsageError("there is no program to compile")
    programs = list(programs)
    _check_names(programs)
    maps: dict[str, MapFacade] = {}
    variables: dict[str, Config | Var[Any]] = {}
    subprograms: dict[object, CompiledFunction] = {}
    functions: list[Function] = []
    for program in programs:  # it grows: programs in tables for tail calls come along
        functions.append(
            lower_program(program, cpu=options.cpu, maps=maps, variables=variables, subprograms=subprograms)
        )
        programs += [p for p in _in_tables(maps) if p not in programs]
    functions += [subprogram.function for subprogram in subprograms.values()]
    _check_names(programs)
    _check_symbols(programs, maps, variables)
    _check_functions(functions, {*maps, *variables, LICENSE_SYMBOL})
    text = _module_text(programs, functions, maps, variables, options.cpu)
    try:
        elf = fetch(text, options.cpu, lambda: optimise(text, cpu=options.cpu).emit())
    except LlvmError as error:
        raise _located(error, functions) from error
    return Compiled(elf, maps, tuple(programs), options, text, tuple(functions))


def _in_tables(maps: Mapping[str, MapFacade]) -> list[Program]:
    """The programs in the program arrays among these maps, each once."""
    found = [p for facade in maps.values() if isinstance(facade, ProgArray) for p in facade.programs.values()]
    return list(dict.fromkeys(found))


def _check_names(programs: Sequence[Program]) -> None:
    seen: dict[str, Program] = {}
    for program in programs:
        if seen.setdefault(program.name, program) is not program:
            raise CompileError(
                f"two programs of one object are called {program.name}",
                span=_span(program),
                code="duplicate-program",
                hint='give one a name="..." of its own',
            )
    if len({program.license for program in programs}) > 1:
        raise CompileError(
            "programs of one object have different licences",
            span=_span(programs[-1]),
            code="licence",
            hint="compile them apart",
        )


def _check_symbols(
    programs: Sequence[Program], maps: Mapping[str, MapFacade], variables: Mapping[str, Config | Var[Any]]
) -> None:
    """Programs, maps and variables share the names of an object, and its licence is one text."""
    for name, variable in variables.items():
        if name in maps or name == LICENSE_SYMBOL:
            raise CompileError(
                f"{name} names a variable and something else of this object",
                span=variable.span,
                code="duplicate-name",
                hint="rename the variable",
            )
    for program in programs:
        if program.name in maps or program.name in variables or program.name == LICENSE_SYMBOL:
            raise CompileError(
                f"{program.name} names a program and something else of this object",
                span=_span(program),
                code="duplicate-name",
                hint='give the program a name="..." of its own',
            )
        if "\0" in program.license:
            raise CompileError(
                "LICENSE has a zero character, behind which nobody reads", span=_span(program), code="licence"
            )


def _check_functions(functions: Sequence[Function], taken: set[str]) -> None:
    """Subprograms have names of their own, too."""
    for function in functions:
        if function.linkage != "program" and not function.section and function.name in taken:
            raise CompileError(
                f"{function.name} names a function and something else of this object",
                span=function.blocks[0].instrs[0].place.span,
                code="duplicate-name",
                hint="rename the function",
            )
        taken.add(function.name)


def _span(program: Program) -> Span:
    source = find_source(program.function)
    return source.span(source.node)


def _module_text(
    programs: Sequence[Program],
    functions: Sequence[Function],
    maps: Mapping[str, MapFacade],
    variables: Mapping[str, Config | Var[Any]],
    cpu: str,
) -> str:
    sources: dict[str, str] = {}
    for program in programs:
        source = find_source(program.function)
        if not source.on_disk:
            sources[source.file] = source.text
    debug = DebugInfo(find_source(programs[0].function).file, sources)
    definitions = [(name, *define_map(debug, facade, functions[0])) for name, facade in maps.items()]
    data = [_define_variable(debug, name, variable, functions[0]) for name, variable in variables.items()]
    data += [_define_run_config(debug, program) for program in programs if program.run_config != RunConfig()]
    return print_module(list(functions), BpfTarget(cpu), debug, definitions, programs[0].license, data)


def _define_run_config(debug: DebugInfo, program: Program) -> DataDefinition:
    """How the program wants to run beside others, for libxdp and for us: all of it is in the type."""
    rows = run_config_rows(program.run_config)
    span = _span(program)
    node = debug.map_variable(
        f"_{program.name}", span.file, span.line, [(name, debug.number(value)) for name, value in rows]
    )
    return DataDefinition(f"_{program.name}", bytes(8 * len(rows)), False, node, RUN_CONFIG_SECTION)


def _define_variable(debug: DebugInfo, name: str, variable: Config | Var[Any], function: Function) -> DataDefinition:
    """A global variable: constant data that the optimiser must not believe, or data that programs change."""
    span = variable.span or Span(function.scope.file, function.scope.line)
    node = debug.variable(name, span.file, span.line, debug.type(variable.kind.__ebpf_type__))
    return DataDefinition(name, variable.initial, isinstance(variable, Config), node)


def _located(error: LlvmError, functions: Sequence[Function]) -> CompileError:
    """LLVM's refusal at the function it is about, with the largest local variables where the stack is too small."""
    function = next((f for f in functions if f.name == error.function), functions[0])
    blocks = [(a.args[0], a.note, a.place) for a in function.allocas if a.args]
    message = error.message
    span: Span = Span(function.scope.file, function.scope.line, function=function.name)
    if error.code == "stack-too-large" and blocks:
        blocks.sort(key=lambda b: -getattr(b[0], "value", 0))
        largest = [f"{note} ({getattr(size, 'value', 0)} bytes, line {at.span.line})" for size, note, at in blocks[:3]]
        message += f"; the largest are {', '.join(largest)}"
        span = blocks[0][2].span
    return CompileError(message, span=span, code=error.code, hint=error.hint)
