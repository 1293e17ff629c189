"""Directives of LLVM's `.s`: sections with their data, symbols, and where everything lies.

Code is read in every section whose flags say that it is executable; all of it becomes one program, in the order of the
text. DWARF sections are passed over: the line table that belongs to them is made by the assembler of the compiler, and
`.BTF.ext` says the same. Whatever else has no meaning for instructions (call frames, files) is passed over too; a
directive that is not known is an error. Values of data are `data`'s; an object is made of all this by `unit`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ebpfkit._bits import round_up
from ebpfkit.asm.data import Expression, read_expressions, read_number, read_strings, uleb128
from ebpfkit.asm.scanner import Scanner

__all__ = ["Directives", "Fixup", "Place", "Section", "SymbolAttributes", "is_compiler_output"]

_DIRECTIVE = re.compile(r"\s*\.([A-Za-z_]\w*)(?![\w.$]*:)(?:\s+(.*))?$", re.ASCII)
_LABEL = re.compile(r"\s*([A-Za-z_.$][\w.$]*):\s*", re.ASCII)
_SECTION = re.compile(r'"?([^\s,"]+)"?\s*(?:,\s*"(\w*)"\s*(?:,\s*@(\w+)\s*(?:,\s*([0-9]{1,9}))?)?)?', re.ASCII)
_SYMBOL_TYPE = re.compile(r"\s*([A-Za-z_.$][\w.$]*)\s*,\s*[@%](\w+)\s*$", re.ASCII)

_MARKS = frozenset(
    (
        "text", "data", "bss", "section", "globl", "global", "globals", "type", "size", "file", "p2align",
        "ident", "addrsig", "cfi_startproc", "loc",
    )
)  # fmt: skip
_IGNORED = frozenset(
    (
        "file", "ident", "addrsig", "addrsig_sym", "loc", "cfi_sections", "cfi_startproc", "cfi_endproc",
        "cfi_def_cfa", "cfi_def_cfa_offset", "cfi_offset", "cfi_restore", "cfi_personality", "cfi_lsda", "extern",
        "no_dead_strip", "end", "cv_file", "symver", "option", "uleb128", "sleb128",
    )
)  # fmt: skip
_BINDINGS = {"globl": "global", "global": "global", "globals": "global", "weak": "weak", "local": "local"}
_VISIBILITIES = frozenset(("hidden", "protected", "internal"))
_SIZES = {
    "byte": 1, "1byte": 1, "short": 2, "2byte": 2, "half": 2, "hword": 2, "value": 2, "long": 4, "4byte": 4, "word": 4,
    "int": 4, "quad": 8, "8byte": 8, "dword": 8,
}  # fmt: skip
_CODE_SECTIONS = (".text", ".init", ".fini")
_KNOWN_SECTIONS = {".text": "ax", ".data": "aw", ".bss": "aw"}
_MAX_BYTES = 1 << 26  # of data in one text
_MAX_ZEROS = 1 << 32  # of a section that holds none


class Place(NamedTuple):
    """Where a symbol lies: bytes into a section."""

    section: str
    offset: int


class Fixup(NamedTuple):
    """`size` bytes at `offset` of a section that become the value of an expression; `line` is where it stands."""

    offset: int
    size: int
    expression: Expression
    line: Scanner


@dataclass(slots=True)
class Section:
    """One section of the text. `data` stays empty for code, whose instructions the parser has, and where nothing is."""

    name: str
    flags: str
    is_empty: bool = False  # @nobits: zeroes that the file does not hold
    entry_size: int = 0
    alignment: int = 1
    data: bytearray = field(default_factory=bytearray)
    end: int = 0
    fixups: list[Fixup] = field(default_factory=list)

    @property
    def is_code(self) -> bool:
        return "x" in self.flags


@dataclass(slots=True)
class SymbolAttributes:
    """What directives say of a symbol."""

    bind: str = ""
    type: str = ""
    visibility: str = ""
    size: Fixup | None = None


def is_compiler_output(lines: Sequence[str]) -> bool:
    """Whether text is a compiler's: some line is one of the directives that every `.s` has."""
    return any((found := _DIRECTIVE.match(line)) is not None and found[1] in _MARKS for line in lines)


class Directives:
    """The section in force, all sections with their data, and the places of symbols."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.symbols: dict[str, Place] = {}
        self.attributes: dict[str, SymbolAttributes] = {}
        self.aliases: dict[str, Fixup] = {}
        self.sections: dict[str, Section] = {}
        self.section = self._find(".text", None, None, None)
        self.names_a_section = False
        self._stack: list[Section] = []
        self._previous = self.section
        self._bytes = 0

    @property
    def in_code(self) -> bool:
        return self.section.is_code

    def set_label(self, name: str) -> None:
        """A label that stands at the end of the section in force."""
        self.symbols.setdefault(name, Place(self.section.name, self.section.end))

    def add_code(self, size: int) -> Place:
        """An instruction is put into the section in force; where it lies."""
        place = Place(self.section.name, self.section.end)
        self.section.end += size
        return place

    def read(self, line: Scanner) -> bool:
        """Take a directive, or a line of a data section. False: it is code."""
        text = line.text
        found = _DIRECTIVE.match(text)
        if found is None and self.in_code:
            return False
        if self.section.name.startswith(".debug_"):
            return self.pass_over(line, found)
        while not self.in_code and (label := _LABEL.match(text)):
            if label[1] in self.symbols:
                raise line.error(f"{label[1]!r} is set twice", at=0)
            self.set_label(label[1])
            text = text[label.end() :]
        found = _DIRECTIVE.match(text)
        if found is None:
            if text.strip():
                raise line.error(
                    f"section {self.section.name} holds data: instructions go to .text or another code section"
                )
            return True
        return self.apply(line, found[1], (found[2] or "").rstrip())

    def pass_over(self, line: Scanner, found: re.Match[str] | None) -> bool:
        """A line of a DWARF section, of which only the way out of it counts."""
        if found and found[1] in ("text", "data", "bss", "section", "pushsection", "popsection", "previous"):
            return self.apply(line, found[1], (found[2] or "").rstrip())
        return True

    def apply(self, line: Scanner, name: str, rest: str) -> bool:
        at = line.text.find(".")
        if name in ("text", "data", "bss"):
            self.enter(self._find(f".{name}", None, None, None))
        elif name in ("section", "pushsection"):
            self.read_section(line, name, rest, at)
        elif name == "popsection":
            if not self._stack:
                raise line.error("there is no section to go back to", at=at)
            self.enter(self._stack.pop())
        elif name == "previous":
            self.enter(self._previous)
        elif name in ("comm", "lcomm"):
            self.reserve(line, name, rest, at)
        elif self.in_code and name == "8byte":
            return False  # an instruction: bytes that are none
        elif name in ("p2align", "align", "balign"):
            self.align(line, name, rest, at)
        elif name in _IGNORED and not (name in ("uleb128", "sleb128") and not self.in_code):
            pass
        elif not self.read_attribute(line, name, rest, at) and not self.read_data(line, name, rest, at):
            raise line.error(f"directive .{name} is not known; leave it out, or write instructions as text", at=at)
        return True

    def read_section(self, line: Scanner, directive: str, rest: str, at: int) -> None:
        found = _SECTION.match(rest)
        if not found:
            raise line.error("expected the name of a section", at=at)
        if directive == "pushsection":
            self._stack.append(self.section)
        self.names_a_section = True
        self.enter(self._find(found[1], found[2], found[3], found[4]))

    def _find(self, name: str, flags: str | None, kind: str | None, entry_size: str | None) -> Section:
        """The section of a name, made when it is new; flags that are not given come from the name."""
        known = self.sections.get(name)
        if known is None:
            if flags is None:
                flags = "ax" if name.startswith(_CODE_SECTIONS) else _KNOWN_SECTIONS.get(name, "a")
            is_empty = kind == "nobits" or (kind is None and name.startswith(".bss"))
            known = self.sections[name] = Section(name, flags, is_empty, int(entry_size or 0))
            known.alignment = 4 if name == ".text" else 1  # as LLVM begins them
        return known

    def enter(self, section: Section) -> None:
        self._previous, self.section = self.section, section

    def reserve(self, line: Scanner, directive: str, rest: str, at: int) -> None:
        name, *numbers = (part.strip() for part in rest.split(","))
        if not numbers or not name:
            raise line.error(f"expected a name, a size and an alignment, as in `.{directive} zero,8,8`", at=at)
        size = read_number(line, numbers[0], at, "a size")
        alignment = read_number(line, numbers[1], at, "an alignment") if len(numbers) > 1 else 1
        if directive == "lcomm":
            self.attribute(name).bind = "local"
        before, self.section = self.section, self._find(".bss", None, None, None)
        self._align_to(max(alignment, 1), line, at)
        self.attribute(name).type = "object"
        self.attribute(name).bind = self.attribute(name).bind or "global"
        self.attribute(name).size = Fixup(0, 0, Expression(size), line)
        self.set_label(name)
        self._put_zeros(line, size, at)
        self.section = before

    def align(self, line: Scanner, name: str, rest: str, at: int) -> None:
        number = read_number(line, rest.split(",")[0], at, "an alignment")
        limit = 16 if name == "p2align" else 1 << 16
        if number > limit:
            raise line.error(f"an alignment of {number} is more than {limit}", at=at)
        step = 1 << number if name == "p2align" else max(number, 1)
        if step & (step - 1):
            raise line.error(f"an alignment is a power of two, {step} is none", at=at)
        if self.in_code:
            self.section.alignment = max(self.section.alignment, step)
        else:
            self._align_to(step, line, at)

    def _align_to(self, step: int, line: Scanner, at: int) -> None:
        self.section.alignment = max(self.section.alignment, step)
        self._put_zeros(line, round_up(self.section.end, step) - self.section.end, at)

    def attribute(self, name: str) -> SymbolAttributes:
        return self.attributes.setdefault(name, SymbolAttributes())

    def read_attribute(self, line: Scanner, name: str, rest: str, at: int) -> bool:
        """What is said of a symbol; False when the directive says nothing of the kind."""
        if name in _BINDINGS or name in _VISIBILITIES:
            for symbol in (part.strip().strip('"') for part in rest.split(",")):
                if name in _BINDINGS:
                    self.attribute(symbol).bind = _BINDINGS[name]
                else:
                    self.attribute(symbol).visibility = name
        elif name == "type":
            found = _SYMBOL_TYPE.match(rest)
            if not found:
                raise line.error("expected a symbol and its type, as in `.type prog,@function`", at=at)
            self.attribute(found[1]).type = found[2]
        elif name in ("size", "set", "equ"):
            symbol, comma, value = (part.strip() for part in rest.partition(","))
            if not comma:
                raise line.error(f"expected a symbol and a value, as in `.{name} prog, 8`", at=at)
            expressions = read_expressions(line, value, at)
            fixup = Fixup(0, 0, self._without_dots(expressions[0]), line)
            if name == "size":
                self.attribute(symbol).size = fixup
            else:
                self.aliases[symbol] = fixup
        else:
            return False
        return True

    def _without_dots(self, expression: Expression) -> Expression:
        """A dot, as in `.-name`, becomes a label at this place."""
        if all(name != "." for _, name in expression.terms):
            return expression
        here = f".Lhere.{self.section.name}.{self.section.end}"
        self.set_label(here)
        return Expression(expression.constant, tuple((sign, here if n == "." else n) for sign, n in expression.terms))

    def read_data(self, line: Scanner, name: str, rest: str, at: int) -> bool:
        """Put data into the section; False when the directive is none."""
        if name not in _SIZES and name not in (
            "zero", "skip", "space", "ascii", "asciz", "string", "uleb128", "sleb128",
        ):  # fmt: skip
            return False
        if self.in_code:
            raise line.error(f".{name} puts data between instructions; write .8byte for a slot that is none", at=at)
        if name in _SIZES:
            for expression in read_expressions(line, rest, at):
                self._put_value(line, _SIZES[name], expression, at)
        elif name in ("zero", "skip", "space"):
            count, _, value = rest.partition(",")
            size = read_number(line, count, at, "a size")
            if value and (byte := read_number(line, value, at, "a byte") & 0xFF):
                self._put(line, bytes([byte]) * self._bounded(line, size, at), at)
            else:
                self._put_zeros(line, size, at)
        elif name in ("uleb128", "sleb128"):
            for expression in read_expressions(line, rest, at):
                if expression.terms:
                    raise line.error(f".{name} takes plain numbers outside of debug sections", at=at)
                self._put(line, uleb128(expression.constant, signed=name == "sleb128"), at)
        else:
            self._put(line, read_strings(line, rest, b"" if name == "ascii" else b"\0", at), at)
        return True

    def _put_value(self, line: Scanner, size: int, expression: Expression, at: int) -> None:
        if not -(1 << size * 8 - 1) <= expression.constant < 1 << size * 8:
            raise line.error(f"{expression.constant} does not fit {size} byte{'s' if size > 1 else ''}", at=at)
        if self.section.is_empty and (expression.constant or expression.terms):
            raise line.error(f"section {self.section.name} (@nobits) holds zeroes only", at=at)
        if not self.section.is_empty:
            self.section.fixups.append(Fixup(self.section.end, size, self._without_dots(expression), line))
        self._put(line, bytes(size), at)

    def _bounded(self, line: Scanner, size: int, at: int) -> int:
        if self._bytes + size > _MAX_BYTES:
            raise line.error(f"the text has more than {_MAX_BYTES} bytes of data", at=at)
        return size

    def _put(self, line: Scanner, data: bytes, at: int) -> None:
        if self.section.is_empty and data.strip(b"\0"):
            raise line.error(f"section {self.section.name} (@nobits) holds zeroes only", at=at)
        if self.section.is_empty:
            self._put_zeros(line, len(data), at)
            return
        self._bytes += self._bounded(line, len(data), at)
        self.section.data += data
        self.section.end += len(data)

    def _put_zeros(self, line: Scanner, size: int, at: int) -> None:
        if not self.section.is_empty:
            self._put(line, bytes(self._bounded(line, size, at)), at)
            return
        self.section.end += size
        if self.section.end > _MAX_ZEROS:
            raise line.error(f"section {self.section.name} grows beyond {_MAX_ZEROS} bytes", at=at)
