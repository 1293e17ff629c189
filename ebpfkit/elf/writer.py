"""Writing objects: a container made from sections, symbols and relocations, or one section of a file replaced.

What goes into the sections is `static`'s (joining objects) and the compiler's.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

from ebpfkit._bits import round_up
from ebpfkit.elf.model import ObjectFile
from ebpfkit.elf.reader import (
    EM_BPF,
    ET_REL,
    HEADER_SIZE,
    REL_SIZE,
    SECTION_HEADER_SIZE,
    SHN_LORESERVE,
    SHT_NOBITS,
    SHT_REL,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_LOCAL,
    SYMBOL_SIZE,
    read_elf,
)
from ebpfkit.errors import ObjectError

__all__ = ["ObjectBuilder", "OutSection", "OutSymbol", "replace_section", "to_bytes", "write_bytes", "write_object"]


@dataclass(slots=True, eq=False)
class OutSection:
    """One section to be written. `size` counts where `type` is NOBITS; `relocations` are (offset, type, symbol)."""

    name: str
    type: int
    flags: int
    alignment: int = 1
    entry_size: int = 0
    data: bytearray = field(default_factory=bytearray)
    zeros: int = 0
    relocations: list[tuple[int, int, OutSymbol]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return self.zeros if self.type == SHT_NOBITS else len(self.data)

    def append(self, contents: bytes, alignment: int) -> int:
        """Put contents behind what is there, aligned; returns their offset."""
        self.alignment = max(self.alignment, alignment)
        offset = round_up(self.size, alignment)
        if self.type == SHT_NOBITS:
            self.zeros = offset + len(contents)
        else:
            self.data += bytes(offset - len(self.data)) + contents
        return offset


@dataclass(slots=True, eq=False)
class OutSymbol:
    """One symbol to be written; `section` None is undefined."""

    name: str
    section: OutSection | None
    value: int = 0
    size: int = 0
    type: int = 0
    bind: int = 0
    visibility: int = 0


class ObjectBuilder:
    """Collects sections and symbols; `to_bytes` makes the relocatable BPF object."""

    def __init__(self, *, big_endian: bool = False) -> None:
        self.order = ">" if big_endian else "<"
        self.sections: list[OutSection] = []
        self.symbols: list[OutSymbol] = []

    def add(self, section: OutSection) -> OutSection:
        """Add a section."""
        self.sections.append(section)
        return section

    def to_bytes(self) -> bytes:
        """The object. Raises ObjectError for more sections than ELF can count."""
        symbols = sorted(self.symbols, key=lambda symbol: symbol.bind != STB_LOCAL)
        index_of = {id(section): number for number, section in enumerate(self.sections, 1)}
        strings = _Strings()
        with_relocations = [section for section in self.sections if section.relocations]
        symtab, strtab = len(self.sections) + len(with_relocations) + 1, len(self.sections) + len(with_relocations) + 2
        if strtab >= SHN_LORESERVE:
            raise ObjectError(f"{strtab} sections are more than ELF can number", place="section headers")
        body = bytearray(HEADER_SIZE)
        headers = [bytes(SECTION_HEADER_SIZE)]
        row = struct.Struct(f"{self.order}IIQQQQIIQQ")

        def put(
            name: str, kind: int, flags: int, data: bytes, align: int, link: int, info: int, entry: int, size: int
        ) -> None:
            body.extend(bytes(round_up(len(body), align) - len(body)))
            headers.append(row.pack(strings.add(name), kind, flags, 0, len(body), size, link, info, align, entry))
            body.extend(data)

        for section in self.sections:
            put(
                section.name, section.type, section.flags, bytes(section.data), section.alignment, 0, 0,
                section.entry_size, section.size,
            )  # fmt: skip
        number_of = {id(symbol): number for number, symbol in enumerate(symbols, 1)}
        for section in with_relocations:
            entries = sorted(section.relocations, key=lambda relocation: relocation[0])
            data = b"".join(
                struct.pack(f"{self.order}QQ", offset, number_of[id(symbol)] << 32 | kind)
                for offset, kind, symbol in entries
            )
            number = index_of[id(section)]
            put(f".rel{section.name}", SHT_REL, 0, data, 8, symtab, number, REL_SIZE, len(data))
        table = bytes(SYMBOL_SIZE) + b"".join(
            struct.pack(
                f"{self.order}IBBHQQ", strings.add(symbol.name), symbol.bind << 4 | symbol.type, symbol.visibility,
                index_of[id(symbol.section)] if symbol.section else 0, symbol.value, symbol.size,
            )
            for symbol in symbols
        )  # fmt: skip
        first_global = 1 + sum(symbol.bind == STB_LOCAL for symbol in symbols)
        put(".symtab", SHT_SYMTAB, 0, table, 8, strtab, first_global, SYMBOL_SIZE, len(table))
        strings.add(".strtab")
        put(".strtab", SHT_STRTAB, 0, bytes(strings.data), 1, 0, 0, 0, len(strings.data))
        body.extend(bytes(round_up(len(body), 8) - len(body)))
        ident = b"\x7fELF\x02" + (b"\x01" if self.order == "<" else b"\x02") + b"\x01" + bytes(9)
        body[:HEADER_SIZE] = ident + struct.pack(
            f"{self.order}HHIQQQIHHHHHH", ET_REL, EM_BPF, 1, 0, 0, len(body), 0, HEADER_SIZE, 0, 0,
            SECTION_HEADER_SIZE, len(headers), strtab,
        )  # fmt: skip
        return bytes(body) + b"".join(headers)


class _Strings:
    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._offsets = {"": 0}

    def add(self, text: str) -> int:
        found = self._offsets.get(text)
        if found is None:
            found = self._offsets[text] = len(self.data)
            self.data += text.encode("utf-8", "surrogateescape") + b"\0"
        return found


def replace_section(data: bytes, name: str, contents: bytes) -> bytes:
    """An ELF object with other contents in one section. Longer contents move to the file's end.

    Raises ObjectError when there is no such section with contents.
    """
    elf = read_elf(data)
    section = elf.section(name)
    if section is None or section.type == SHT_NOBITS:
        raise ObjectError("there is no such section with contents in the file", place=f"section {name}")
    out = bytearray(data)
    offset = section.offset
    if len(contents) > section.size:
        offset = round_up(len(out), 8)
        out += bytes(offset - len(out))
    out[offset : offset + len(contents)] = contents
    struct.pack_into(f"{elf.order}QQ", out, section.header_offset + 24, offset, len(contents))
    return bytes(out)


def to_bytes(obj: ObjectFile) -> bytes:
    """The object's file with the present initial values of its global variables.

    Raises ObjectError when it has no file, or when .bss has values, for which a file has no room.
    """
    if not obj.raw:
        raise ObjectError("this object was not read from a file and has no bytes", place=obj.path)
    data = obj.raw
    elf = read_elf(data)
    for spec in obj.maps.values():
        section = elf.section(spec.section)
        if spec.data is None or section is None or spec.data == elf.contents(section):
            continue
        if section.type == SHT_NOBITS:
            raise ObjectError("a file has no room for initial values of zeroed variables", place=section.name)
        data = replace_section(data, section.name, spec.data)
    return data


def write_object(obj: ObjectFile, path: str | os.PathLike[str]) -> None:
    """Write the object's file, with the present initial values of its variables. Raises ObjectError."""
    write_bytes(to_bytes(obj), path)


def write_bytes(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write an object's bytes to a file. Raises ObjectError."""
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise ObjectError(f"cannot write: {error.strerror or error}", place=os.fspath(path)) from None
