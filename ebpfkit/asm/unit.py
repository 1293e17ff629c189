"""A whole `.s` with its sections, data and symbols: what an object file is made from.

Code of one section refers to its own labels by distance; everything else that is named becomes a relocation. How that
is written into an ELF file is `elf/assembled.py`'s; the flat program without data is `parser`'s.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ebpfkit._bits import S32_MAX, S32_MIN, to_signed
from ebpfkit.asm.codec import SLOT_SIZE, encode
from ebpfkit.asm.insn import Instruction, KfuncRef, Label, MapRef, MapValueRef, VarRef
from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.asm.parser import Reader, read_text
from ebpfkit.asm.sections import Fixup, Place, Section, SymbolAttributes
from ebpfkit.errors import AsmError

__all__ = ["Unit", "UnitRelocation", "UnitSection", "UnitSymbol", "assemble"]


class UnitRelocation(NamedTuple):
    """At `offset` of a section stands a reference to `symbol` ("": the section `section` itself), its addend in place.

    `kind`: "wide" (64-bit load), "call", "abs64" or "abs32" (data).
    """

    offset: int
    kind: str
    symbol: str
    section: str = ""


@dataclass(slots=True)
class UnitSection:
    """One section: flags as letters ("ax"), `size` bytes, of which a section of zeroes holds none."""

    name: str
    flags: str
    alignment: int
    entry_size: int
    is_empty: bool
    size: int
    data: bytes = b""
    relocations: list[UnitRelocation] = field(default_factory=list)


class UnitSymbol(NamedTuple):
    """One symbol; `section` "" is undefined, `bind` "local", "global" or "weak", `type` "function", "object" or ""."""

    name: str
    section: str
    value: int
    size: int
    type: str
    bind: str
    visibility: str


@dataclass(slots=True)
class Unit:
    """Sections and symbols in the order of the text."""

    sections: list[UnitSection]
    symbols: list[UnitSymbol]
    big_endian: bool


def assemble(text: str, *, file: str = "<asm>", big_endian: bool = False) -> Unit:
    """The sections and symbols of a `.s`.

    Raises AsmError with line and column; also for text that names no section, which is a program and no file.
    """
    reader = read_text(text, file=file)
    if not reader.directives.names_a_section:
        raise AsmError(
            f'{file}: the text names no section, so that no program type is known: begin it with `.section xdp,"ax"`, '
            "`.globl prog`, `prog:`, or write bare instructions (an output that does not end in .o)"
        )
    return _Assembler(reader, big_endian).unit()


class _Assembler:
    def __init__(self, reader: Reader, big_endian: bool) -> None:
        self.reader, self.directives = reader, reader.directives
        self.order = "big" if big_endian else "little"
        self.big_endian = big_endian
        self.referenced: dict[str, None] = {}
        self.functions: set[str] = set()  # what is called, or loaded for a call back
        self.ends: dict[str, set[int]] = {}  # by section: where something begins, and its end
        self.places = dict(self.directives.symbols)
        for name, fixup in self.directives.aliases.items():
            self.places[name] = self.alias(name, fixup)

    def unit(self) -> Unit:
        sections = []
        for section in self.directives.sections.values():
            if section.name.startswith(".debug_"):
                continue
            made = UnitSection(
                section.name, section.flags, section.alignment, section.entry_size, section.is_empty, section.end
            )
            made.data = self.code_of(section, made) if section.is_code else self.data_of(section, made)
            sections.append(made)
        kept = {section.name for section in sections}
        return Unit(sections, list(self.symbols(kept)), self.big_endian)

    def alias(self, name: str, fixup: Fixup) -> Place:
        expression = fixup.expression
        if len(expression.terms) == 1 and expression.terms[0][0] == 1:
            place = self.places.get(expression.terms[0][1])
            if place is not None:
                return Place(place.section, place.offset + expression.constant)
        raise fixup.line.error(f"{name!r} can be another name of a place in this text, and this is none")

    # references

    def target(self, name: str) -> tuple[str, str, int]:
        """How a relocation refers to a name: its symbol, or if it is local, as LLVM does, its section and an offset."""
        place = self.places.get(name)
        said = self.directives.attributes.get(name)
        if place is not None and (said is None or said.bind in ("", "local")):
            return "", place.section, place.offset
        self.referenced[name] = None
        return name, "", 0

    def data_of(self, section: Section, made: UnitSection) -> bytes:
        data = bytearray(section.data)
        for fixup in section.fixups:
            value, name = self.evaluate(fixup)
            if name is not None:
                if fixup.size not in (4, 8):
                    raise fixup.line.error(
                        f"the address of {name!r} does not fit {fixup.size} bytes: use .quad or .long"
                    )
                symbol, base, offset = self.target(name)
                kind = "abs64" if fixup.size == 8 else "abs32"
                made.relocations.append(UnitRelocation(fixup.offset, kind, symbol, base))
                value += offset
            bits = fixup.size * 8
            data[fixup.offset : fixup.offset + fixup.size] = (value & ((1 << bits) - 1)).to_bytes(
                fixup.size, "big" if self.big_endian else "little"
            )
        return bytes(data)

    def evaluate(self, fixup: Fixup) -> tuple[int, str | None]:
        """A number, and the symbol that it is to be added to; names of one section cancel out."""
        value = fixup.expression.constant
        added = [name for sign, name in fixup.expression.terms if sign > 0]
        for name in (name for sign, name in fixup.expression.terms if sign < 0):
            place = self.places.get(name)
            other = next((other for other in added if self.is_beside(other, place)), None)
            if place is None or other is None:
                raise fixup.line.error(f"the distance to {name!r} is known only within one section of this text")
            added.remove(other)
            value += self.places[other].offset - place.offset
        if len(added) > 1:
            raise fixup.line.error("the sum of two addresses is none")
        return value, added[0] if added else None

    def is_beside(self, name: str, place: Place | None) -> bool:
        found = self.places.get(name)
        return found is not None and place is not None and found.section == place.section

    # code

    def code_of(self, section: Section, made: UnitSection) -> bytes:
        insns = []
        for index, (insn, place) in enumerate(zip(self.reader.insns, self.reader.places, strict=True)):
            if place.section == section.name:
                insns.append(self.instruction(index, insn, place, made))
        return encode(insns, big_endian=self.big_endian)

    def instruction(self, index: int, insn: Instruction, place: Place, made: UnitSection) -> Instruction:
        """The instruction with numbers in place of names, or with a relocation."""
        plain = insn.replace(ref=None, labels=())
        if index in self.reader.symbols:
            name, addend = self.reader.symbols[index]
            return self.relocated_load(plain, name, addend, place, made)
        match insn.ref:
            case Label(name):
                return self.to_label(plain, name, place, made)
            case KfuncRef(name) if not insn.imm:
                return self.relocated_call(plain, name, place, made)
            case MapRef(name) | VarRef(name) if not insn.imm:
                return self.relocated_load(plain, name, 0, place, made)
            case MapValueRef(name, offset) if insn.imm == offset << 32:
                return self.relocated_load(plain, name, offset, place, made)
            case _:
                return plain

    def to_label(self, insn: Instruction, name: str, place: Place, made: UnitSection) -> Instruction:
        found = self.places.get(name)
        if insn.op.kind in (Kind.CALL, Kind.WIDE):
            self.functions.add(name)
        if found is None or found.section != place.section:
            if insn.op.kind is not Kind.CALL:
                why = "is not set in this text" if found is None else f"is in section {found.section}"
                raise AsmError(f"label {name!r} {why}, and a jump stays within its section", span=insn.span)
            return self.relocated_call(insn.replace(op=OPCODES["CALL_LOCAL"]), name, place, made)
        if insn.op.kind is Kind.WIDE:
            return self.relocated_load(insn, name, 0, place, made)
        distance = (found.offset - place.offset) // SLOT_SIZE - 1
        if insn.op.kind is Kind.CALL:
            return insn.replace(imm=distance)
        if insn.op.name != "JA32" and not -0x8000 <= distance <= 0x7FFF:
            raise AsmError(
                f"label {name!r} is {distance} slots away, a jump reaches 16 bits; use gotol", span=insn.span
            )
        return insn.replace(off=distance)

    def relocated_call(self, insn: Instruction, name: str, place: Place, made: UnitSection) -> Instruction:
        symbol, section, offset = self.target(name)
        made.relocations.append(UnitRelocation(place.offset, "call", symbol, section))
        return insn.replace(op=OPCODES["CALL_LOCAL"], imm=offset // SLOT_SIZE - 1)

    def relocated_load(self, insn: Instruction, name: str, addend: int, place: Place, made: UnitSection) -> Instruction:
        symbol, section, offset = self.target(name)
        addend += offset
        if not S32_MIN <= addend <= S32_MAX:
            raise AsmError(f"{name!r}{addend:+d} is further away than 32 bits reach", span=insn.span)
        made.relocations.append(UnitRelocation(place.offset, "wide", symbol, section))
        return insn.replace(op=OPCODES["LDDW"], imm=to_signed(addend, 32) & 0xFFFF_FFFF)

    # symbols

    def symbols(self, kept: set[str]) -> Iterator[UnitSymbol]:
        attributes = self.directives.attributes
        for name, place in self.places.items():
            if name.startswith(".L") or place.section not in kept:
                continue
            said = attributes.get(name, SymbolAttributes())
            size = 0
            if said.size:
                size, rest = self.evaluate(said.size)
                if rest is not None or size < 0:
                    raise said.size.line.error(f"the size of {name!r} is no number")
            elif said.bind or said.type or name in self.functions:
                size = self.distance_to_next(place)
            kind = said.type or self.type_of(name, place, said.bind)
            yield UnitSymbol(name, *place, size, kind, said.bind or "local", said.visibility)
        for name in self.referenced:
            if name not in self.places:
                said = attributes.get(name, SymbolAttributes())
                bind = "weak" if said.bind == "weak" else "global"
                yield UnitSymbol(name, "", 0, 0, "", bind, said.visibility)

    def type_of(self, name: str, place: Place, bind: str) -> str:
        """Text written by hand leaves `.type` out: what is global or called is a function, or in data an object."""
        if bind not in ("global", "weak") and name not in self.functions:
            return ""
        return "function" if self.directives.sections[place.section].is_code else "object"

    def distance_to_next(self, place: Place) -> int:
        """How far it is to the next symbol of which something is said, or to the end: the size where none is given."""
        if not self.ends:
            for name in (*self.directives.attributes, *self.functions):
                if name in self.places:
                    self.ends.setdefault(self.places[name].section, set()).add(self.places[name].offset)
            for section in self.directives.sections.values():
                self.ends.setdefault(section.name, set()).add(section.end)
        ends = sorted(self.ends[place.section])
        return ends[min(bisect_right(ends, place.offset), len(ends) - 1)] - place.offset
