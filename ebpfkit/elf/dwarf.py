"""Source lines from DWARF, for objects whose `.BTF.ext` has none.

Only `.debug_line` is read, each of its line programs once; pyelftools decodes them. What it does not check (sizes that
a header claims, numbers without end) is checked here before, so that hostile bytes give an ObjectError in bounded time.
Types and variables of DWARF do not belong here: those are BTF's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, NamedTuple

from ebpfkit.elf.reader import ElfFile, Section
from ebpfkit.errors import ObjectError

__all__ = ["DwarfLine", "read_lines"]

MAX_BYTES = 1 << 20  # of .debug_line, and of the names it refers to
MAX_NUMBER = 64  # bytes of one LEB128 number; ten hold every 64-bit one
R_BPF_64_ABS64, R_BPF_64_ABS32, R_BPF_64_NODYLD32 = 2, 3, 4
PLACE = ".debug_line"
# Sections of relocatable code all begin at address 0: the upper half of an address tells them apart here.
_SECTION_SHIFT = 32
_FORM_SIZES = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16, 0x0E: 4, 0x1F: 4}
_FORM_STRING, _FORM_UDATA = 0x08, 0x0F


class DwarfLine(NamedTuple):
    """The instruction `offset` bytes into its section begins line `line` of a file; `column` 0 is unknown."""

    offset: int
    file: str
    line: int
    column: int


def read_lines(elf: ElfFile) -> Mapping[int, tuple[DwarfLine, ...]]:
    """The lines of each section of code by its index, in order of offset; empty without `.debug_line`.

    Raises ObjectError, with the place, for tables that make no sense.
    """
    section = elf.section(".debug_line")
    if section is None or not section.size:
        return {}
    if section.size > MAX_BYTES:
        raise ObjectError(f"{section.size} bytes of line tables are more than {MAX_BYTES}", place=PLACE)
    data = _relocated(elf, section)
    found: dict[int, list[DwarfLine]] = {}
    for start, end, version in _programs(data, elf.order):
        for address, line in _decode(elf, data, start, end, version):
            found.setdefault(address >> _SECTION_SHIFT, []).append(line)
    return {index: tuple(sorted(lines, key=lambda line: line.offset)) for index, lines in found.items()}


def _relocated(elf: ElfFile, section: Section) -> bytes:
    """The section's bytes with addresses and string offsets put in, code addresses with their section's number."""
    data = bytearray(elf.contents(section))
    sizes = {R_BPF_64_ABS64: "Q", R_BPF_64_ABS32: "I", R_BPF_64_NODYLD32: "I"}
    for relocation in elf.relocations(section):
        place = f"{PLACE}+{relocation.offset:#x}"
        code = sizes.get(relocation.type)
        if code is None:
            raise ObjectError(f"relocation type {relocation.type} is not one of debug information", place=place)
        field = struct.Struct(f"{elf.order}{code}")
        if relocation.offset + field.size > len(data):
            raise ObjectError("the relocation reaches behind the section's end", place=place)
        symbol = relocation.symbol
        value = field.unpack_from(data, relocation.offset)[0] + symbol.value
        if value >> 32:
            raise ObjectError(f"the address {value:#x} is out of range", place=place)
        if code == "Q":
            value |= symbol.section << _SECTION_SHIFT
        field.pack_into(data, relocation.offset, value)
    return bytes(data)


def _programs(data: bytes, order: str) -> Iterator[tuple[int, int, int]]:
    """(start, end, version) of each line program; they lie one behind the other."""
    at = 0
    while at < len(data):
        if at + 6 > len(data):
            raise ObjectError("a header is cut off", place=f"{PLACE}+{at:#x}")
        length, version = struct.unpack_from(f"{order}IH", data, at)
        end = at + 4 + length
        if end > len(data) or length < 16:
            raise ObjectError(f"a line table of {length} bytes does not fit", place=f"{PLACE}+{at:#x}")
        if not 2 <= version <= 5:
            raise ObjectError(f"DWARF version {version} is not known (2 to 5 are)", place=f"{PLACE}+{at + 4:#x}")
        yield at, end, version
        at = end


def _decode(elf: ElfFile, data: bytes, start: int, end: int, version: int) -> Iterator[tuple[int, DwarfLine]]:
    """(address, line) of each row of one line program."""
    from elftools.common.exceptions import DWARFError, ELFError
    from elftools.common.utils import struct_parse
    from elftools.construct.core import ConstructError
    from elftools.dwarf.lineprogram import LineProgram
    from elftools.dwarf.structs import DWARFStructs

    part = data[start:end]
    _check_numbers(part, start)
    if version >= 5:
        _check_tables(part, elf.order, start)
    structs = DWARFStructs(elf.order == "<", 32, 8, version)
    stream = BytesIO(part)
    # The library trusts the bytes in places: a division by a header's zero, a name that is no text, a missing field.
    lax = (DWARFError, ELFError, ConstructError, ArithmeticError, ValueError, LookupError, AttributeError, TypeError)
    try:
        header = struct_parse(structs.Dwarf_lineprog_header, stream, 0)
        program = LineProgram(header, stream, structs, stream.tell(), len(part))
        states = [entry.state for entry in program.get_entries() if entry.state is not None]
        names = _Names(elf, header, version)
        rows = [(state.address, names.file(state.file), state.line, state.column) for state in states]
    except lax as error:
        raise ObjectError(f"the line table cannot be read: {error}", place=f"{PLACE}+{start:#x}") from None
    for address, file, line, column in rows:
        section, offset = address >> _SECTION_SHIFT, address & 0xFFFF_FFFF
        if 0 < section < len(elf.sections) and 0 <= line <= 0x3F_FFFF and offset < elf.sections[section].size:
            yield address, DwarfLine(offset, file, line, column if column <= 0xFFFF else 0)


def _check_numbers(part: bytes, start: int) -> None:
    """Refuse numbers without end: adding up their bits takes time that grows with the square of their length."""
    # Opcodes that do several things at once look like parts of a number, so only the very long runs are refused.
    limit = MAX_NUMBER * 64
    run = 0
    for at, byte in enumerate(part):
        run = run + 1 if byte & 0x80 else 0
        if run > limit:
            raise ObjectError(f"a number has more than {limit} bytes", place=f"{PLACE}+{start + at:#x}")


def _check_tables(part: bytes, order: str, start: int) -> None:
    """Refuse directory and file tables (DWARF 5) with more entries than bytes."""
    at = 4 + 2 + 2 + 4 + 5
    at += (part[at] if at < len(part) else 0) or 1  # opcode_base, then a length for every opcode below it
    for _ in range(2):
        forms = []
        count, at = _number(part, at, start)
        for _ in range(min(count, 256)):
            _, at = _number(part, at, start)
            form, at = _number(part, at, start)
            forms.append(form)
        count, at = _number(part, at, start)
        if count > len(part):
            raise ObjectError(f"{count} names are more than fit", place=f"{PLACE}+{start + at:#x}")
        for _ in range(count):
            for form in forms:
                at = _skip(part, at, form, start)


def _skip(part: bytes, at: int, form: int, start: int) -> int:
    if form in _FORM_SIZES:
        return at + _FORM_SIZES[form]
    if form == _FORM_UDATA:
        return _number(part, at, start)[1]
    end = part.find(b"\0", at)
    if form != _FORM_STRING or end < 0:
        raise ObjectError(f"form {form:#x} of a name is not known or cut off", place=f"{PLACE}+{start + at:#x}")
    return end + 1


def _number(part: bytes, at: int, start: int) -> tuple[int, int]:
    """A LEB128 number and where it ends."""
    value = 0
    for index in range(MAX_NUMBER):
        if at + index >= len(part):
            break
        value |= (part[at + index] & 0x7F) << 7 * index
        if not part[at + index] & 0x80:
            return value, at + index + 1
    raise ObjectError("a number is cut off or too long", place=f"{PLACE}+{start + at:#x}")


class _Names:
    """The file names of one line program."""

    def __init__(self, elf: ElfFile, header: Any, version: int) -> None:
        self._elf = elf
        self._header = header
        self._version = version
        self._cache: dict[int, str] = {}
        self._budget = MAX_BYTES
        self._strings: dict[str, bytes] = {}

    def file(self, number: int) -> str:
        found = self._cache.get(number)
        if found is None:
            found = self._cache[number] = self._path(number)
            self._budget -= len(found)
            if self._budget < 0:
                raise ObjectError(f"file names take more than {MAX_BYTES} bytes", place=PLACE)
        return found

    def _path(self, number: int) -> str:
        if self._version >= 5:
            files, directories = self._header.file_names, self._header.directories
            if number >= len(files):
                return ""
            entry = files[number]
            name = self._text(entry.DW_LNCT_path, self._header.file_name_entry_format)
            directory = entry.get("DW_LNCT_directory_index", 0)
            if directory >= len(directories):
                return name
            folder = self._text(directories[directory].DW_LNCT_path, self._header.directory_entry_format)
            return _join(folder, name)
        files, directories = self._header.file_entry, self._header.include_directory
        if not 0 < number <= len(files):
            return ""
        entry = files[number - 1]
        name = _to_text(entry.name)
        return (
            _join(_to_text(directories[entry.dir_index - 1]), name) if 0 < entry.dir_index <= len(directories) else name
        )

    def _text(self, value: Any, formats: Any) -> str:
        if isinstance(value, bytes):
            return _to_text(value)
        form = next(row.form for row in formats if row.content_type == "DW_LNCT_path")
        section_name = ".debug_line_str" if form == "DW_FORM_line_strp" else ".debug_str"
        if section_name not in self._strings:
            section = self._elf.section(section_name)
            self._strings[section_name] = self._elf.contents(section) if section is not None else b""
        table = self._strings[section_name]
        end = table.find(b"\0", value, value + 4096)
        if end < 0:
            raise ObjectError(f"string offset {value} is not that of a name", place=section_name)
        return _to_text(table[value:end])


def _join(folder: str, name: str) -> str:
    return name if name.startswith("/") or not folder else f"{folder}/{name}"


def _to_text(raw: bytes) -> str:
    return raw[:4096].decode(errors="replace")
