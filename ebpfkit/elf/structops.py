"""`.struct_ops`: structures of functions that a kernel subsystem calls: read, changed, and fitted to a kernel's types.

Registering one with a kernel is the loader's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ebpfkit.btf import types as t
from ebpfkit.elf.model import STRUCT_OPS, ObjectFile, ProgramSpec, StructOpsSpec
from ebpfkit.elf.reader import STT_FUNC, STT_SECTION, ElfFile, Section
from ebpfkit.errors import NotSupported, ObjectError, UsageError

__all__ = ["FittedOperations", "fit_operations", "read_struct_ops", "set_operation", "with_operations"]

R_BPF_64_ABS64 = 2
_POINTER = 8
_VALUE_PREFIX = "bpf_struct_ops_"  # the kernel's map value of a structure: its state, then the structure as `data`


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


def with_operations(
    programs: Mapping[str, ProgramSpec], structures: Mapping[str, StructOpsSpec]
) -> dict[str, ProgramSpec]:
    """The programs, each function of a structure with `STRUCT/MEMBER` as its target."""
    found = {name: f"{s.type_name}/{member}" for s in structures.values() for member, name in s.members.items()}
    return {
        name: spec.replace(attach_target=found[name]) if spec.prog_type == "struct_ops" and name in found else spec
        for name, spec in programs.items()
    }


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


def set_operation(obj: ObjectFile, name: str, member: str, value: int | str | bytes | None) -> ObjectFile:
    """A copy of the object in which a member of a structure of kernel operations begins with another value.

    A function takes the name of a program of the object (None: no function), a number an integer, an array of
    characters text, anything else bytes of its size. Raises UsageError.
    """
    spec = obj.struct_ops.get(name)
    if spec is None or obj.btf is None:
        raise UsageError(f"the object has no operations {name!r}; it has: {', '.join(obj.struct_ops) or 'none'}")
    struct_ = obj.btf.resolve(spec.type_id)
    assert isinstance(struct_, t.Struct)
    row = struct_.member(member)
    if row is None:
        names = ", ".join(m.name for m in struct_.members)
        raise UsageError(f"{spec.type_name} of {name!r} has no member {member!r}; it has: {names}")
    if isinstance(obj.btf.resolve(row.type), t.Ptr):
        changed = _with_program(obj, spec, member, value)
    else:
        size = obj.btf.size_of(row.type)
        encoded = _encode_member(value, size, f"{name}.{member}", "big" if obj.big_endian else "little")
        if row.bitfield_size:
            raise UsageError(f"{name}.{member} is a bit-field, which cannot be set")
        changed = spec.replace(data=spec.data[: row.offset] + encoded + spec.data[row.offset + size :])
    return obj.replace(struct_ops={**obj.struct_ops, name: changed})


def _with_program(obj: ObjectFile, spec: StructOpsSpec, member: str, value: int | str | bytes | None) -> StructOpsSpec:
    others = {key: program for key, program in spec.members.items() if key != member}
    if value is None:
        return spec.replace(members=others)
    if value not in obj.programs:
        raise UsageError(
            f"{spec.name}.{member} is a function: it takes the name of a program, or None; "
            f"there are {', '.join(obj.programs) or 'none'}"
        )
    return spec.replace(members={**others, member: str(value)})


def _encode_member(value: int | str | bytes | None, size: int, where: str, order: Literal["little", "big"]) -> bytes:
    if isinstance(value, int):
        if size > _POINTER or not -(1 << (size * 8 - 1)) <= value < 1 << (size * 8):
            raise UsageError(f"{value} does not fit the {size} bytes of {where}")
        return (value % (1 << size * 8)).to_bytes(size, order)
    encoded = value.encode().ljust(size, b"\0") if isinstance(value, str) else value or b""
    if len(encoded) != size:
        raise UsageError(f"{where} has {size} bytes, and {len(encoded)} were given")
    return encoded


@dataclass(frozen=True, slots=True)
class FittedOperations:
    """A structure of operations in one kernel's layout.

    `type_id` and `value_type_id` are ids in that kernel's (or module's) BTF; `value` is the map's value, with zeros
    where descriptors of programs go, at `slots` (offset in bytes to program). `indices`: program to member index.
    """

    type_id: int
    value_type_id: int
    value: bytes
    slots: Mapping[int, str]
    indices: Mapping[str, int]


def fit_operations(spec: StructOpsSpec, local: t.Btf, kernel: t.Btf) -> FittedOperations | None:
    """Put the object's structure into the kernel's layout, member by member by name; None when it has no such type.

    A member that the kernel lacks may be there as long as it is empty. Raises NotSupported.
    """
    type_id = kernel.find_id(spec.type_name, t.Struct)
    value_id = kernel.find_id(_VALUE_PREFIX + spec.type_name, t.Struct)
    theirs, wrapper, ours = kernel.get(type_id), kernel.get(value_id), local.resolve(spec.type_id)
    if not isinstance(theirs, t.Struct) or not isinstance(wrapper, t.Struct) or not isinstance(ours, t.Struct):
        return None
    inside = next((member for member in wrapper.members if member.type == type_id), None)
    if inside is None:
        return None
    value, slots, indices = bytearray(wrapper.size), {}, dict[str, int]()
    by_name = {member.name: index for index, member in enumerate(theirs.members)}
    for member in ours.members:
        where = f"{spec.name}.{member.name}"
        size = local.size_of(member.type)
        data = spec.data[member.offset : member.offset + size]
        program = spec.members.get(member.name)
        index = by_name.get(member.name)
        if index is None or member.bitfield_size:
            if program is not None or any(data):
                why = "it is a bit-field" if index is not None else f"this kernel's {spec.type_name} has no such member"
                raise NotSupported(f"operation {where}", why=why)
            continue
        at = inside.offset + theirs.members[index].offset
        if isinstance(local.resolve(member.type), t.Ptr):
            if program is not None:
                if not _is_function(kernel, theirs.members[index].type):
                    raise NotSupported(f"operation {where}", why="it is no function in this kernel")
                if indices.setdefault(program, index) != index:
                    raise NotSupported(f"program {program!r} as two members of {spec.name!r}", why="write it twice")
                slots[at] = program
            elif any(data):
                raise NotSupported(f"operation {where}", why="it points to something that is no function")
            continue
        if not _same_shape(local, member.type, kernel, theirs.members[index]):
            raise NotSupported(f"operation {where}", why="this kernel's member has another type or size")
        value[at : at + size] = data
    return FittedOperations(type_id, value_id, bytes(value), slots, indices)


def _is_function(btf: t.Btf, type_id: int) -> bool:
    pointer = btf.resolve(type_id)
    return isinstance(pointer, t.Ptr) and isinstance(btf.resolve(pointer.type), t.FuncProto)


def _same_shape(local: t.Btf, type_id: int, kernel: t.Btf, theirs: t.Member) -> bool:
    if theirs.bitfield_size or local.resolve(type_id).kind != kernel.resolve(theirs.type).kind:
        return False
    return local.size_of(type_id) == kernel.size_of(theirs.type)
