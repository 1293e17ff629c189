"""Where something stands in the author's source: a file, a line, a column.

Spans ride on what they describe (instructions, IR nodes, map definitions), so that every later stage can point at the
author's own line. Nothing here reads files.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A place in source text.

    `line` counts from 1, `column` from 1 (0: unknown), as in BTF line info and compilers' messages. `end_line` and
    `end_column` (exclusive) bound a caret underline when known. `text` is the source line itself, when at hand.
    """

    file: str
    line: int
    column: int = 0
    end_line: int | None = None
    end_column: int | None = None
    text: str | None = None
    function: str | None = None

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"

    def caret(self) -> str:
        """The source line with a caret line below it, or an empty string when the text is not known."""
        if not self.text:
            return ""
        line = self.text.rstrip("\n").replace("\t", " ")
        if not self.column:
            return f"    {line}"
        same_line = self.end_line in (None, self.line)
        end = self.end_column if same_line and self.end_column else (self.column + 1 if same_line else len(line) + 1)
        width = max(1, min(end, len(line) + 1) - self.column)
        return f"    {line}\n    {' ' * (self.column - 1)}{'^' * width}"
