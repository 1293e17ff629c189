"""BTF types as C text: declarations for messages, definitions for listings.

Whole headers (ordering, forward declarations, padding) do not belong here.
"""

from __future__ import annotations

from ebpfkit.btf import types as t
from ebpfkit.errors import ObjectError

__all__ = ["format_declaration", "format_definition", "format_type"]

_QUALIFIERS = {9: "volatile", 10: "const", 11: "restrict"}
_TAGS = {4: "struct", 5: "union", 6: "enum", 19: "enum"}


def format_type(btf: t.Btf, type_id: int) -> str:
    """A type as C writes it: `struct hits *`, `unsigned int[4]`."""
    return format_declaration(btf, type_id, "")


# Functions that take functions that take functions: as text that grows without end, though the types are few.
MAX_STEPS, MAX_NESTING = 2000, 32


def format_declaration(btf: t.Btf, type_id: int, name: str) -> str:
    """A declaration of `name` with a type: `unsigned int name[4]`. Raises ObjectError on circular types."""
    return _declare(btf, type_id, name, [0], 0)


def _declare(btf: t.Btf, type_id: int, name: str, steps: list[int], depth: int) -> str:
    steps[0] += 1
    if steps[0] > MAX_STEPS or depth > MAX_NESTING:
        raise ObjectError(f"types nest too deeply or in a circle at id {type_id}", place=".BTF")
    declarator = name
    behind_pointer = False
    for _ in range(t.MAX_DEPTH):
        type_ = btf.get(type_id)
        match type_:
            case t.Ptr():
                declarator = f"*{declarator}"
                behind_pointer, type_id = True, type_.type
                continue
            case t.Array():
                declarator = f"({declarator})" if behind_pointer else declarator
                declarator, type_id = f"{declarator}[{type_.nelems or ''}]", type_.type
            case t.FuncProto():
                params = ", ".join(
                    "..." if not p.name and not p.type else _declare(btf, p.type, p.name, steps, depth + 1)
                    for p in type_.params
                )
                declarator = f"({declarator})" if behind_pointer else declarator
                declarator, type_id = f"{declarator}({params or 'void'})", type_.ret
            case t.Const() | t.Volatile() | t.Restrict() if btf.get(type_.type).kind == 2:
                declarator, type_id = f"{_QUALIFIERS[type_.kind]} {declarator}".rstrip(), type_.type
                continue
            case t.Const() | t.Volatile() | t.Restrict():
                return f"{_QUALIFIERS[type_.kind]} {_declare(btf, type_.type, declarator, steps, depth + 1)}"
            case t.TypeTag():
                type_id = type_.type
                continue
            case t.Var():
                declarator, type_id = declarator or type_.name, type_.type
            case t.Func():
                declarator, type_id = declarator or type_.name, type_.type
            case _:
                return _join(_base_name(type_), declarator)
        behind_pointer = False
    raise ObjectError(f"types refer to each other in a circle at id {type_id}", place=".BTF")


def _join(base: str, declarator: str) -> str:
    if not declarator or declarator.startswith("["):
        return base + declarator
    return f"{base} {declarator}"


def _base_name(type_: t.BtfType) -> str:
    if type_.kind == 0:
        return "void"
    if isinstance(type_, t.Fwd):
        return f"{'union' if type_.is_union else 'struct'} {type_.name}"
    tag = _TAGS.get(type_.kind)
    return f"{tag} {type_.name or '(anonymous)'}" if tag else type_.name


def format_definition(btf: t.Btf, type_id: int) -> str:
    """A struct, union or enumeration with its members, offsets in comments; any other type as `format_type`."""
    type_ = btf.get(type_id)
    if isinstance(type_, t.Struct):
        lines = []
        for member in type_.members:
            width = f":{member.bitfield_size}" if member.bitfield_size else ""
            where = f"{member.offset}" + (f" bit {member.bit_offset % 8}" if member.bitfield_size else "")
            lines.append(f"    {format_declaration(btf, member.type, member.name)}{width};  /* {where} */")
        return "\n".join([f"{_base_name(type_)} {{", *lines, f"}};  /* size {type_.size} */"])
    if isinstance(type_, t.Enum):
        return "\n".join([f"{_base_name(type_)} {{", *(f"    {v.name} = {v.value}," for v in type_.values), "};"])
    return format_type(btf, type_id)
