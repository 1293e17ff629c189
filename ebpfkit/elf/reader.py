"""The ELF container of a BPF object: sections, symbols, relocations, every offset checked.

Only relocatable 64-bit BPF objects, in either byte order. What the sections mean is `mapdefs`', `relocate`'s and
`linker`'s. A general ELF library is not used here on purpose: BPF objects need five fixed records, and importing one
takes many times as long as reading an object.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ebpfkit.errors import ObjectError

__all__ = ["ElfFile", "Relocation", "Section", "Symbol", "read_elf"]

MAX_NAME = 4096  # bytes of one section or symbol name
MAX_NAME_BYTES = 32 << 20  # of all names of an object: bounds what overlapping names can cost
MAX_ZERO_BYTES = 64 << 20  # of all sections without file contents (.bss)

EM_NONE, EM_BPF = 0, 247
ET_REL = 1
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 1, 2, 3, 4, 8, 9
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
SHN_UNDEF, SHN_LORESERVE, SHN_XINDEX = 0, 0xFF00, 0xFFFF
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION = 0, 1, 2, 3
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STV_DEFAULT, STV_INTERNAL, STV_HIDDEN = 0, 1, 2
# R_BPF_NONE, R_BPF_64_64 and R_BPF_64_32 in data: R_BPF_64_ABS32, R_BPF_64_ABS64, R_BPF_64_ABS32. The assembler of
# GNU's binutils before 2.42 had numbers of its own for data of 32 and 64 bits: 11 and 12.
_TYPES_TODAY = {0: 3, 1: 2, 10: 3, 11: 3, 12: 2}
HEADER_SIZE, SECTION_HEADER_SIZE, SYMBOL_SIZE, REL_SIZE = 64, 64, 24, 16


@dataclass(frozen=True, slots=True)
class Section:
    """One section. `header_offset` is where its header lies in the file."""

    index: int
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int
    header_offset: int
    alignment: int = 1

    @property
    def is_code(self) -> bool:
        return self.type == SHT_PROGBITS and bool(self.flags & SHF_EXECINSTR)


class Symbol(NamedTuple):
    """One symbol; `section` is a section index or a reserved number (0: undefined)."""

    number: int
    name: str
    value: int
    size: int
    type: int
    bind: int
    visibility: int
    section: int

    @property
    def is_undefined(self) -> bool:
        return self.section == SHN_UNDEF

    @property
    def is_hidden(self) -> bool:
        return self.visibility in (STV_HIDDEN, STV_INTERNAL)


class Relocation(NamedTuple):
    """`offset` bytes into its section, something depends on `symbol` in the way `type` (R_BPF_*) says."""

    offset: int
    type: int
    symbol: Symbol


class ElfFile:
    """A checked object: sections and symbols as tables, contents on demand."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._name_budget = MAX_NAME_BYTES
        header = _read_header(data)
        self.big_endian = header.order == ">"
        self.order = header.order
        self.sections = self._read_sections(header)
        self._by_name: dict[str, Section] = {}
        for section in self.sections[1:]:
            self._by_name.setdefault(section.name, section)
        self.symbols = self._read_symbols()
        self._tables: dict[int, list[Section]] = {}
        for section in self.sections:
            if section.type in (SHT_REL, SHT_RELA):
                self._tables.setdefault(section.info, []).append(section)
        self._symbols_of: dict[int, list[Symbol]] = {}
        for symbol in self.symbols:
            self._symbols_of.setdefault(symbol.section, []).append(symbol)

    def symbols_of(self, section: Section) -> Sequence[Symbol]:
        """The symbols that are defined in a section, in file order."""
        return self._symbols_of.get(section.index, ())

    def section(self, name: str) -> Section | None:
        """The first section of that name, or None."""
        return self._by_name.get(name)

    def contents(self, section: Section) -> bytes:
        """The bytes of a section; zeros for one without file contents."""
        if section.type == SHT_NOBITS:
            return bytes(section.size)
        return self.data[section.offset : section.offset + section.size]

    def name_of(self, index: int) -> str:
        """The name of a section by number, for messages."""
        return self.sections[index].name if index < len(self.sections) else f"section {index:#x}"

    def relocations(self, section: Section) -> list[Relocation]:
        """What applies to a section, in order of offset. Raises ObjectError for a malformed table.

        Types are those of clang 13 and later: before, data had the types of code, and types and lines had none; gcc's
        objects had others.
        """
        found = []
        today = {} if section.is_code else _TYPES_TODAY
        for table in self._tables.get(section.index, ()):
            place = f"section {table.name}"
            if table.type == SHT_RELA:
                raise ObjectError("relocations with addends (RELA) are not used for BPF; REL is expected", place=place)
            if table.size % REL_SIZE or table.entry_size not in (0, REL_SIZE):
                raise ObjectError(f"{table.size} bytes are no whole number of {REL_SIZE}-byte entries", place=place)
            entries = struct.iter_unpack(f"{self.order}QQ", self.contents(table))
            for number, (offset, info) in enumerate(entries):
                symbol = info >> 32
                if symbol >= len(self.symbols):
                    at = f"{place}+{number * REL_SIZE:#x}"
                    raise ObjectError(f"symbol {symbol} is not within 0..{len(self.symbols) - 1}", place=at)
                if offset >= section.size:
                    at = f"{place}+{number * REL_SIZE:#x}"
                    raise ObjectError(f"offset {offset:#x} is outside {section.name}, {section.size} bytes", place=at)
                kind = info & 0xFFFF_FFFF
                found.append(Relocation(offset, today.get(kind, kind), self.symbols[symbol]))
        found.sort(key=lambda relocation: relocation.offset)
        return found

    def _read_sections(self, header: _Header) -> Sequence[Section]:
        data, order = self.data, self.order
        row = struct.Struct(f"{order}IIQQQQIIQQ")
        raw = list(row.iter_unpack(data[header.table : header.table + header.sections * SECTION_HEADER_SIZE]))
        if not raw:
            raise ObjectError("there are no sections", place="ELF header+0x3c")
        names = b""
        if header.names:
            names = self._string_table(raw[header.names], f"section {header.names} (section names)")
        total = zero_bytes = 0
        sections = []
        for index, (name_off, kind, flags, _, offset, size, link, info, alignment, entry_size) in enumerate(raw):
            header_offset = header.table + index * SECTION_HEADER_SIZE
            name = self._name(names, name_off, f"section header {index}") if index else ""
            if kind == SHT_NOBITS:
                zero_bytes += size
            elif kind and index:
                total += size
                if offset + size > len(data):
                    raise ObjectError(
                        f"{size} bytes at {offset:#x} reach behind the file's end at {len(data):#x}",
                        place=f"section {name or index}",
                    )
            # What is no power of two up to a page means nothing.
            align = alignment if 0 < alignment <= 4096 and alignment & alignment - 1 == 0 else 1
            sections.append(
                Section(index, name, kind, flags, offset, size, link, info, entry_size, header_offset, align)
            )
        if zero_bytes > MAX_ZERO_BYTES:
            raise ObjectError(f"{zero_bytes} bytes without contents are more than {MAX_ZERO_BYTES}", place=".bss")
        if total > len(data):
            raise ObjectError(f"sections of {total} bytes overlap in a file of {len(data)}", place="section headers")
        return tuple(sections)

    def _string_table(self, raw: tuple[int, ...], place: str) -> bytes:
        kind, offset, size = raw[1], raw[4], raw[5]
        if kind != SHT_STRTAB or offset + size > len(self.data):
            raise ObjectError(f"type {kind} at {offset:#x}+{size:#x} is no string table inside the file", place=place)
        return self.data[offset : offset + size]

    def _name(self, table: bytes, offset: int, place: str) -> str:
        if not offset and not table:
            return ""
        end = table.find(b"\0", offset, offset + MAX_NAME)
        if offset >= len(table) or end < 0:
            raise ObjectError(f"name offset {offset:#x} leads to no name of up to {MAX_NAME} bytes", place=place)
        self._name_budget -= end - offset
        if self._name_budget < 0:
            raise ObjectError(f"names take more than {MAX_NAME_BYTES >> 20} MiB", place=place)
        try:
            name = table[offset:end].decode()
        except UnicodeDecodeError:
            raise ObjectError("the name is not UTF-8", place=place) from None
        if not name.isprintable():  # it will stand in messages, which are one line
            raise ObjectError(f"the name {name!r} has characters that cannot be shown", place=place)
        return name

    def _read_symbols(self) -> Sequence[Symbol]:
        table = next((section for section in self.sections if section.type == SHT_SYMTAB), None)
        if table is None:
            return ()
        place = f"section {table.name}"
        if table.size % SYMBOL_SIZE or table.entry_size not in (0, SYMBOL_SIZE):
            raise ObjectError(f"{table.size} bytes are no whole number of {SYMBOL_SIZE}-byte entries", place=place)
        if not 0 < table.link < len(self.sections):
            raise ObjectError(f"its string table is section {table.link}, which does not exist", place=place)
        strings = self.sections[table.link]
        if strings.type != SHT_STRTAB:
            raise ObjectError(f"its string table is section {strings.name}, which is no string table", place=place)
        names = self.contents(strings)
        symbols = []
        entries = struct.iter_unpack(f"{self.order}IBBHQQ", self.contents(table))
        for index, (name_off, info, other, section, value, size) in enumerate(entries):
            at = f"{place}+{index * SYMBOL_SIZE:#x}"
            if section == SHN_XINDEX or len(self.sections) <= section < SHN_LORESERVE:
                raise ObjectError(f"section {section} does not exist", place=at)
            name = self._name(names, name_off, at) if name_off else ""
            symbols.append(Symbol(index, name, value, size, info & 0xF, info >> 4, other & 3, section))
        return tuple(symbols)


class _Header(NamedTuple):
    order: str
    table: int
    sections: int
    names: int


def _read_header(data: bytes) -> _Header:
    if data[:4] != b"\x7fELF":
        found = data[:4].hex() or "nothing"
        raise ObjectError(f"this is no ELF file: it begins with {found}, not 7f454c46", place="ELF header+0x0")
    if len(data) < HEADER_SIZE:
        raise ObjectError(f"{len(data)} bytes are too few for a header of {HEADER_SIZE}", place="ELF header")
    if data[4] != 2:
        raise ObjectError(f"class {data[4]} is not 2: BPF objects are 64-bit", place="ELF header+0x4")
    if data[5] not in (1, 2):
        raise ObjectError(f"byte order {data[5]} is neither 1 (little) nor 2 (big)", place="ELF header+0x5")
    order = "<" if data[5] == 1 else ">"
    kind, machine, version, _, _, table, _, size, _, _, entry, count, names = struct.unpack_from(
        f"{order}HHIQQQIHHHHHH", data, 16
    )
    if machine not in (EM_BPF, EM_NONE):
        raise ObjectError(f"machine {machine} is not BPF ({EM_BPF}); compile with -target bpf", place="ELF header+0x12")
    if kind != ET_REL:
        raise ObjectError(f"file type {kind} is not a relocatable object ({ET_REL})", place="ELF header+0x10")
    if data[6] != 1 or version != 1 or size < HEADER_SIZE:
        raise ObjectError(f"version {version} or header size {size} is not that of ELF", place="ELF header+0x14")
    if count and entry != SECTION_HEADER_SIZE:
        raise ObjectError(f"section headers of {entry} bytes are not {SECTION_HEADER_SIZE}", place="ELF header+0x3a")
    if not count or count >= SHN_LORESERVE:
        raise ObjectError(f"{count} sections are not within 1..{SHN_LORESERVE - 1}", place="ELF header+0x3c")
    if table + count * SECTION_HEADER_SIZE > len(data):
        raise ObjectError(
            f"{count} section headers at {table:#x} reach behind the file's end at {len(data):#x}",
            place="ELF header+0x28",
        )
    if names >= count:
        raise ObjectError(f"section {names} of names is not within 0..{count - 1}", place="ELF header+0x3e")
    return _Header(order, table, count, names)


def read_elf(data: bytes) -> ElfFile:
    """Read the container of a BPF object. Raises ObjectError with section and offset."""
    return ElfFile(bytes(data))
