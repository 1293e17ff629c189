"""How the language says no while a function runs as plain Python: the same `CompileError`, at the author's line.

What the compiler refuses, plain Python refuses too; only the moment differs. Nothing here decides what is legal.
"""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ebpfkit.errors import CompileError
from ebpfkit.span import Span

__all__ = ["NoSuchField", "caller_span", "refuse"]

_HERE = str(Path(__file__).resolve().parent) + "/"


class NoSuchField(CompileError, AttributeError):
    """A structure has no such field; an AttributeError too, so that `hasattr` works on structures."""


def caller_span() -> Span | None:
    """The place in the nearest frame that is not the language's own code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    if frame is None:
        return None
    code = frame.f_code
    line, end_line, column, end_column = frame.f_lineno, None, None, None
    positions = list(code.co_positions())
    index = frame.f_lasti // 2
    if 0 <= index < len(positions):
        first, end_line, column, end_column = positions[index]
        line = first if first is not None else line
    return Span(
        code.co_filename,
        line,
        column + 1 if column is not None else 0,
        end_line,
        end_column + 1 if end_column is not None else None,
        linecache.getline(code.co_filename, line) or None,
        code.co_name,
    )


def refuse(code: str, message: str, hint: str = "", kind: type[CompileError] = CompileError) -> NoReturn:
    """Raise the CompileError for what the author's line does; `code` is its stable identifier, `hint` what to write."""
    text = f"{message}; {hint}" if hint else message
    raise kind(text, span=caller_span(), code=code, hint=hint)
