"""Writing objects: the bytes of a section replaced, the rest of the file as it was.

Objects are made by the compiler through LLVM; making one from nothing does not belong here.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ebpfkit._bits import round_up
from ebpfkit.elf.model import ObjectFile
from ebpfkit.elf.reader import SHT_NOBITS, read_elf
from ebpfkit.errors import ObjectError

__all__ = ["replace_section", "to_bytes", "write_object"]


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
    data = to_bytes(obj)
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise ObjectError(f"cannot write: {error.strerror or error}", place=os.fspath(path)) from None
