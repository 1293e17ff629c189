"""`.struct_ops`: structures of functions that a kernel subsystem calls, read into plain data.

Which kernel type a structure stands for is its name's affair; registering it with a kernel is the loader's.
"""

from __future__ import annotations

from ebpfkit.btf import types as t
from ebpfkit.elf.model import STRUCT_OPS, StructOpsSpec
from ebpfkit.elf.reader import STT_FUNC, STT_SECTION, ElfFile, Section
from ebpfkit.errors import ObjectError

__all__ = ["read_struct_ops"]

R_BPF_64_ABS64 = 2


def read_struct_ops(elf: ElfFile, btf: t.Btf | None) -> dict[str, StructOpsSpec]:
    """The structures by the name of their variable. Raises ObjectError, with the place, for what makes no sense."""
    found: dict[str, StructOpsSpec] = {}
    for section in elf.sections:
        if section.name not in STRUCT_OPS or not section.size:
            continue
        if btf is None:
            raise ObjectError(
                "its structures are described by BTF, and there is none; compile with -g", place=section.name
            )
        datasec = btf.find(section.name, t.Datasec)
        if datasec is None:
            raise ObjectError("the BTF has no such section; compile with -g", place=section.name)
        pointers = _pointers(elf, section)
        contents = elf.contents(section)
        for row in datasec.vars:
            var = btf.get(row.type)
            place = f"{section.name}+{row.offset:#x}"
            struct_ = btf.resolve(var.type) if isinstance(var, t.Var) else None
            if not isinstance(var, t.Var) or not isinstance(struct_, t.Struct) or row.offset + row.size > section.size:
                raise ObjectError(f"type {row.type} is no variable with a structure inside the section", place=place)
            if var.name in found:
                raise ObjectError(f"{var.name!r} is defined twice", place=place)
            members = {}
            for offset, name in pointers.items():
                if row.offset <= offset < row.offset + row.size:
                    members[_member(struct_, offset - row.offset, place)] = name
            found[var.name] = StructOpsSpec(
                name=var.name,
                type_name=struct_.name.split("___", 1)[0],
                data=contents[row.offset : row.offset + row.size],
                members=members,
                type_id=btf.strip(var.type),
                link=section.name.endswith(".link"),
                autocreate=not section.name.startswith("?"),
                section=section.name,
            )
    return found


def _pointers(elf: ElfFile, section: Section) -> dict[int, str]:
    """The function that stands at each offset of the section."""
    functions = {(s.section, s.value): s.name for s in elf.symbols if s.type == STT_FUNC}
    found = {}
    for relocation in elf.relocations(section):
        symbol, place = relocation.symbol, f"{section.name}+{relocation.offset:#x}"
        name = symbol.name if symbol.type == STT_FUNC else None
        if symbol.type == STT_SECTION:
            raw = elf.contents(section)[relocation.offset : relocation.offset + 8]
            name = functions.get((symbol.section, int.from_bytes(raw, "big" if elf.big_endian else "little")))
        if relocation.type != R_BPF_64_ABS64 or name is None:
            raise ObjectError(f"{symbol.name or 'an address'!r} is no function of this object", place=place)
        found[relocation.offset] = name
    return found


def _member(struct_: t.Struct, offset: int, place: str) -> str:
    for member in struct_.members:
        if member.offset == offset and member.name:
            return member.name
    raise ObjectError(f"the function at offset {offset} of {struct_.name!r} is no member's", place=place)
