"""Directives of LLVM's `.s`: sections, symbols and how far data reaches. Contents of data are not kept.

Code is read in every section whose flags say that it is executable; all of it becomes one program, in the order of the
text. Whatever has no meaning for instructions (debug information, alignment, visibility) is passed over; a directive
that is not known is an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from ebpfkit.asm.scanner import Scanner

__all__ = ["Directives", "Place", "is_compiler_output"]

_DIRECTIVE = re.compile(r"\s*\.([A-Za-z_]\w*)(?![\w.$]*:)(?:\s+(.*))?$", re.ASCII)
_LABEL = re.compile(r"\s*([A-Za-z_.$][\w.$]*):\s*", re.ASCII)
_SECTION = re.compile(r'"?([^\s,"]+)"?\s*(?:,\s*"(\w*)")?', re.ASCII)
_ESCAPE = re.compile(r"\\(?:[0-7]{1,3}|x[0-9a-fA-F]{2}|.)", re.ASCII)

_MARKS = frozenset(
    (
        "text", "data", "bss", "section", "globl", "global", "globals", "type", "size", "file", "p2align",
        "ident", "addrsig", "cfi_startproc", "loc",
    )
)  # fmt: skip
_IGNORED = frozenset(
    (
        "globl", "global", "globals", "type", "size", "file", "ident", "addrsig", "addrsig_sym", "loc",
        "weak", "hidden", "local", "protected", "internal", "cfi_sections", "cfi_startproc", "cfi_endproc",
        "cfi_def_cfa", "cfi_def_cfa_offset", "cfi_offset", "cfi_restore", "cfi_personality", "cfi_lsda",
        "set", "equ", "no_dead_strip", "end", "cv_file", "symver", "option",
    )
)  # fmt: skip
_SIZES = {
    "byte": 1, "1byte": 1, "short": 2, "2byte": 2, "half": 2, "hword": 2, "value": 2, "long": 4, "4byte": 4, "word": 4,
    "int": 4, "quad": 8, "8byte": 8, "dword": 8, "octa": 16,
}  # fmt: skip
_CODE_SECTIONS = (".text", ".init", ".fini")


class Place(NamedTuple):
    """Where a symbol of data lies."""

    section: str
    offset: int


def is_compiler_output(lines: Sequence[str]) -> bool:
    """Whether text is a compiler's: some line is one of the directives that every `.s` has."""
    return any((found := _DIRECTIVE.match(line)) is not None and found[1] in _MARKS for line in lines)


class Directives:
    """The section in force, and the places of the symbols of data."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.section = ".text"
        self.in_code = True
        self.symbols: dict[str, Place] = {}
        self._ends: dict[str, int] = {}
        self._stack: list[tuple[str, bool]] = []
        self._previous = (self.section, True)

    def read(self, line: Scanner, labels: list[str]) -> bool:
        """Take a directive, or a line of a data section. False: it is code."""
        text = line.text
        found = _DIRECTIVE.match(text)
        if found is None and self.in_code:
            return False
        while not self.in_code and (label := _LABEL.match(text)):
            self.symbols[label[1]] = Place(self.section, self._ends.get(self.section, 0))
            text = text[label.end() :]
        found = _DIRECTIVE.match(text)
        if found is None:
            if text.strip():
                raise line.error(f"section {self.section} holds data: instructions go to .text or another code section")
            return True
        return self.apply(line, found[1], found[2] or "")

    def apply(self, line: Scanner, name: str, rest: str) -> bool:
        at = line.text.find(".")
        if name in ("text", "data", "bss"):
            self.enter(f".{name}", name == "text")
        elif name in ("section", "pushsection"):
            found = _SECTION.match(rest)
            if not found:
                raise line.error("expected the name of a section", at=at)
            if name == "pushsection":
                self._stack.append((self.section, self.in_code))
            flags = found[2]
            self.enter(found[1], "x" in flags if flags is not None else found[1].startswith(_CODE_SECTIONS))
        elif name == "popsection":
            if not self._stack:
                raise line.error("there is no section to go back to", at=at)
            self.enter(*self._stack.pop())
        elif name == "previous":
            self.enter(*self._previous)
        elif name in ("comm", "lcomm"):
            self.reserve(rest)
        elif self.in_code and name == "8byte":
            return False  # an instruction: bytes that are none
        elif name in ("p2align", "align", "balign"):
            self.align(name, rest)
        elif not self.count_data(line, name, rest, at) and name not in _IGNORED:
            raise line.error(f"directive .{name} is not known; leave it out, or write instructions as text", at=at)
        return True

    def enter(self, section: str, in_code: bool) -> None:
        self._previous = (self.section, self.in_code)
        self.section, self.in_code = section, in_code

    def reserve(self, rest: str) -> None:
        name, *numbers = (part.strip() for part in rest.split(","))
        end = self._ends.get(".bss", 0)
        alignment = _number(numbers[1]) if len(numbers) > 1 else 1
        offset = -(-end // max(alignment, 1)) * max(alignment, 1)
        self.symbols[name] = Place(".bss", offset)
        self._ends[".bss"] = offset + (_number(numbers[0]) if numbers else 0)

    def align(self, name: str, rest: str) -> None:
        number = _number(rest.split(",")[0])
        if self.in_code or not 0 < number < 1 << 16 or (name == "p2align" and number > 16):
            return
        step = 1 << number if name == "p2align" else number
        self._ends[self.section] = -(-self._ends.get(self.section, 0) // step) * step

    def count_data(self, line: Scanner, name: str, rest: str, at: int) -> bool:
        """Move on by the size of some data; False when the directive is none."""
        if name in _SIZES:
            size = _SIZES[name] * (rest.count(",") + 1)
        elif name in ("zero", "skip", "space"):
            size = _number(rest.split(",")[0])
        elif name in ("ascii", "asciz", "string"):
            size = _length_of_strings(rest, 0 if name == "ascii" else 1)
        elif name in ("uleb128", "sleb128"):
            size = 0  # debug sections only, where no place is asked for
        else:
            return False
        if self.in_code:
            raise line.error(f".{name} puts data between instructions; write .8byte for a slot that is none", at=at)
        self._ends[self.section] = self._ends.get(self.section, 0) + size
        return True


def _length_of_strings(text: str, terminator: int) -> int:
    """How many bytes strings in quotes stand for, escapes counted as one each, `terminator` more for every string."""
    size, at, in_string = 0, 0, False
    while at < len(text):
        if text[at] == '"':
            in_string = not in_string
            size += 0 if in_string else terminator
        elif in_string and text[at] == "\\":
            escape = _ESCAPE.match(text, at)
            at = escape.end() - 1 if escape else at
            size += 1
        elif in_string:
            size += len(text[at].encode())
        at += 1
    return size


def _number(text: str) -> int:
    """A number of a directive; what is no plain number (a difference of labels) counts nothing."""
    found = re.match(r"\s*(0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10})\s*$", text)
    return int(found[1], 0 if found[1][:2].lower() == "0x" else 10) if found else 0
