"""From a Python function to its syntax tree and its author's lines and columns.

Belongs here: finding source text (files, notebooks, the REPL, whatever `linecache` knows), the function's own node in
it, and spans. The whole file is parsed once, so every position is the file's own. No names or types are judged here.
"""

from __future__ import annotations

import ast
import linecache
import os
import types
from dataclasses import dataclass, field
from functools import lru_cache

from ebpfkit.errors import CompileError
from ebpfkit.span import Span

__all__ = ["FunctionSource", "find_source", "make_span"]


@dataclass(frozen=True, slots=True)
class FunctionSource:
    """A function's definition: its node, its file's name and text, and whether that file exists on disk."""

    name: str
    file: str
    node: ast.FunctionDef
    lines: tuple[str, ...] = field(repr=False)
    on_disk: bool = True

    def span(self, node: ast.AST) -> Span:
        """The place of a node in this file, which the node keeps: trees outlive a compilation."""
        known: Span | None = getattr(node, "_ebpf_span", None)
        if known is None or known.function != self.name:
            known = make_span(self.file, self.lines, node, self.name)
            node._ebpf_span = known  # type: ignore[attr-defined]
        return known

    @property
    def text(self) -> str:
        return "".join(self.lines)


def make_span(file: str, lines: tuple[str, ...], node: ast.AST, function: str) -> Span:
    """A node's place with 1-based columns counted in characters (the parser counts UTF-8 bytes)."""
    line = getattr(node, "lineno", 0)
    end_line = getattr(node, "end_lineno", None)

    def column(number: int | None, offset: int | None) -> int:
        if not number or offset is None or number > len(lines):
            return 0
        return len(lines[number - 1].encode()[:offset].decode(errors="replace")) + 1

    text = lines[line - 1].rstrip("\n") if 0 < line <= len(lines) else None
    return Span(
        file,
        line,
        column(line, getattr(node, "col_offset", None)),
        end_line,
        column(end_line, getattr(node, "end_col_offset", None)) or None,
        text,
        function,
    )


@lru_cache(maxsize=64)
def _parse(file: str, text: str) -> dict[tuple[str, int], ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function definition of a file by name and first line (its first decorator's, as code objects count)."""
    found: dict[tuple[str, int], ast.FunctionDef | ast.AsyncFunctionDef] = {}
    for node in ast.walk(ast.parse(text, file)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            found[node.name, first] = node
    return found


def find_source(function: types.FunctionType) -> FunctionSource:
    """The source of a Python function. Raises CompileError when there is none or it is no plain `def`."""
    code = function.__code__
    file, name = code.co_filename, code.co_name
    place = Span(file, code.co_firstlineno, function=name)
    linecache.checkcache(file)
    lines = tuple(linecache.getlines(file, function.__globals__))
    if not lines:
        raise CompileError(
            f"the source text of {name} is not available",
            span=place,
            code="no-source",
            hint="define it in a file or a notebook cell, or give linecache.cache the text that exec() runs",
        )
    if name == "<lambda>":
        raise CompileError("a lambda cannot be compiled", span=place, code="lambda", hint="write a def")
    try:
        functions = _parse(file, "".join(lines))
    except (SyntaxError, ValueError):
        functions = {}
    node = functions.get((name, code.co_firstlineno))
    if node is None:
        raise CompileError(
            f"the source file no longer holds {name} at this line: it changed after it was imported",
            span=place,
            code="stale-source",
            hint="import the module again",
        )
    source_lines = tuple(lines)
    if isinstance(node, ast.AsyncFunctionDef):
        raise CompileError(
            "an async function cannot be compiled",
            span=make_span(file, source_lines, node, name),
            code="unsupported-syntax",
            hint="write def without async",
        )
    if getattr(node, "type_params", None):
        raise CompileError(
            f"{name} has type parameters, and code here has one type",
            span=make_span(file, source_lines, node, name),
            code="unsupported-syntax",
            hint="leave the parameter without an annotation: it takes the type of its argument",
        )
    return FunctionSource(name, file, node, source_lines, os.path.exists(file))
