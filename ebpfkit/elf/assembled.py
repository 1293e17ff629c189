"""Assembly text to an object file: the sections and symbols of an assembled unit as ELF.

The text is `asm/`'s; the container is `writer`'s.
"""

from __future__ import annotations

from ebpfkit.asm.unit import Unit, UnitSection, UnitSymbol
from ebpfkit.elf.reader import (
    SHT_NOBITS,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FUNC,
    STT_NOTYPE,
    STT_OBJECT,
    STT_SECTION,
)
from ebpfkit.elf.writer import ObjectBuilder, OutSection, OutSymbol

__all__ = ["object_from_unit"]

_FLAGS = {"w": 1, "a": 2, "x": 4, "M": 0x10, "S": 0x20}  # SHF_*
_RELOCATIONS = {"wide": 1, "call": 10, "abs64": 2, "abs32": 3}  # R_BPF_64_64, _64_32, _64_ABS64, _64_ABS32
_R_BPF_64_NODYLD32 = 4  # LLVM's choice for 32 bits of what lies in code or in writable data
_MEMORY, _CODE_OR_WRITABLE = 7, (3, 6, 7)
_TYPES = {"function": STT_FUNC, "object": STT_OBJECT}
_BINDS = {"local": STB_LOCAL, "global": STB_GLOBAL, "weak": STB_WEAK}
_VISIBILITIES = {"internal": 1, "hidden": 2, "protected": 3}


def object_from_unit(unit: Unit) -> bytes:
    """The bytes of the relocatable object. Raises ObjectError for more sections than ELF can count."""
    builder = ObjectBuilder(big_endian=unit.big_endian)
    sections = {section.name: builder.add(_to_section(section)) for section in unit.sections}
    symbols = {symbol.name: _to_symbol(symbol, sections) for symbol in unit.symbols}
    builder.symbols.extend(symbols.values())
    of_sections: dict[str, OutSymbol] = {}
    for section in unit.sections:
        for relocation in section.relocations:
            target = symbols.get(relocation.symbol)
            if target is None:
                target = of_sections.get(relocation.section)
            if target is None:
                target = OutSymbol("", sections[relocation.section], type=STT_SECTION)
                of_sections[relocation.section] = target
                builder.symbols.append(target)
            kind = _RELOCATIONS[relocation.kind]
            if relocation.kind == "abs32" and target.section and target.section.flags & _MEMORY in _CODE_OR_WRITABLE:
                kind = _R_BPF_64_NODYLD32
            sections[section.name].relocations.append((relocation.offset, kind, target))
    return builder.to_bytes()


def _to_section(section: UnitSection) -> OutSection:
    flags = sum({_FLAGS.get(letter, 0) for letter in section.flags})
    out = OutSection(
        section.name, SHT_NOBITS if section.is_empty else SHT_PROGBITS, flags, section.alignment, section.entry_size
    )
    if section.is_empty:
        out.zeros = section.size
    else:
        out.data = bytearray(section.data)
    return out


def _to_symbol(symbol: UnitSymbol, sections: dict[str, OutSection]) -> OutSymbol:
    return OutSymbol(
        symbol.name,
        sections[symbol.section] if symbol.section else None,
        symbol.value,
        symbol.size,
        _TYPES.get(symbol.type, STT_NOTYPE),
        _BINDS[symbol.bind],
        _VISIBILITIES.get(symbol.visibility, 0),
    )
