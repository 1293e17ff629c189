"""What an object's BTF needs before the kernel takes it: the layout of data sections, and no externs.

Compilers leave section sizes and offsets to the loader, and describe what the kernel provides (`.ksyms`, `.kconfig`) as
extern, which the kernel's own checks refuse. String offsets stay as they are, since line info refers to them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import replace

from ebpfkit._bits import round_up
from ebpfkit.abi.btf_kinds import ANY_SECTION_NAME, BTF_KINDS, GLOBAL_FUNCTIONS
from ebpfkit.abi.versions import parse_version
from ebpfkit.btf.types import (
    KIND_NAMES,
    Btf,
    BtfType,
    Const,
    Datasec,
    DeclTag,
    Enum,
    Enum64,
    Float,
    Func,
    FuncProto,
    Int,
    Linkage,
    Member,
    Param,
    Struct,
    Typedef,
    TypeTag,
    Union,
    Var,
    VarSecinfo,
)  # fmt: skip
from ebpfkit.elf.model import ObjectFile

__all__ = ["loadable_btf", "older_btf", "plain_types"]

_MAX_NAME = 127  # what every kernel takes; newer ones take more


def loadable_btf(btf: Btf, obj: ObjectFile | None = None) -> Btf:
    """The BTF with what the kernel's checks demand; the same object when nothing has to change."""
    changes: dict[int, BtfType] = {}
    for type_id, section in btf.iter_kind(Datasec):
        fixed = _lay_out(btf, section, obj, changes)
        if fixed != section:
            changes[type_id] = fixed
    for type_id, function in btf.iter_kind(Func):
        if function.linkage == Linkage.EXTERN:
            changes[type_id] = Func(function.name, function.type, Linkage.GLOBAL)
            _name_parameters(btf, function.type, changes)
    for type_id, variable in btf.iter_kind(Var):
        if variable.linkage == Linkage.EXTERN:
            changes[type_id] = Var(variable.name, variable.type, Linkage.GLOBAL)
    return btf.with_types(changes) if changes else btf


def _lay_out(btf: Btf, section: Datasec, obj: ObjectFile | None, changes: Mapping[int, BtfType]) -> Datasec:
    """Offsets from the object's symbols where it has them, else one behind the other; functions are left out."""
    # A section that has its size has its offsets too; names alone do not tell two static variables apart.
    named = obj.variables.values() if obj and not section.size else ()
    offsets = {v.name: v.offset for v in named if v.map_name == section.name}
    spec = obj.maps.get(section.name) if obj else None
    at = 0
    laid: list[VarSecinfo] = []
    for info in section.vars:
        if isinstance(btf.get(info.type), Func):
            continue
        offset = offsets.get(btf.name(info.type), round_up(at, 8) if not section.size else info.offset)
        laid.append(VarSecinfo(info.type, offset, info.size))
        at = max(at, offset + info.size)
    laid.sort(key=lambda info: info.offset)
    size = spec.value_size if spec is not None else max(section.size, at)
    return Datasec(section.name, max(size, at), tuple(laid))


def _name_parameters(btf: Btf, proto_id: int, changes: dict[int, BtfType]) -> None:
    """A FUNC's parameters must have names; an extern declaration may leave them out."""
    proto = btf.get(proto_id)
    if not isinstance(proto, FuncProto) or all(p.name or not p.type for p in proto.params):
        return
    params = tuple(Param(p.name or (f"arg{i}" if p.type else ""), p.type) for i, p in enumerate(proto.params))
    changes[proto_id] = FuncProto(proto.name, proto.ret, params)


def older_btf(btf: Btf, kernel: tuple[int, int]) -> Btf:
    """The BTF for a kernel before the first that knows all its kinds; the same object when it knows them.

    What is too new becomes something old of the same size and with the same id, so that sizes, members and the line
    info of programs stay right.
    """
    changes: dict[int, BtfType] = {}
    for type_id, type_ in enumerate(btf.types):
        since = BTF_KINDS.get(KIND_NAMES[type_.kind])
        if since is not None and kernel < parse_version(since):
            changes[type_id] = _older_type(btf, type_)
        elif isinstance(type_, Func) and type_.linkage == Linkage.GLOBAL and kernel < parse_version(GLOBAL_FUNCTIONS):
            changes[type_id] = Func(type_.name, type_.type, Linkage.STATIC)
        elif isinstance(type_, Datasec) and "?" in type_.name and kernel < parse_version(ANY_SECTION_NAME):
            changes[type_id] = Datasec(type_.name.replace("?", "_"), type_.size, type_.vars)
    return btf.with_types(changes) if changes else btf


def _older_type(btf: Btf, type_: BtfType) -> BtfType:
    match type_:
        case Datasec():
            rows = tuple(Member(btf.name(row.type), row.type, row.offset * 8) for row in type_.vars)
            return Struct(type_.name.replace(".", "_").replace("?", "_"), type_.size, rows)
        case Var() | DeclTag():
            return Int("_" + type_.name if isinstance(type_, DeclTag) else type_.name, 1, 0, 8)
        case Float():
            return Struct(f"_{type_.name.replace(' ', '_')}", type_.size)
        case TypeTag():
            return Const("", type_.type)
        case Enum64():
            size = type_.size
            wide = next((i for i, t in btf.iter_kind(Int) if t.size == size), 0)
            rows = tuple(Member(value.name, wide, 0) for value in type_.values)
            return Union(type_.name, size, rows if wide else ())
        case Func():
            return Typedef(type_.name, type_.type)
        case FuncProto():
            return Enum("", 4, ())
    raise TypeError(f"{type_!r} is as old as BTF")


def plain_types(btf: Btf) -> Btf:
    """The BTF with what the kernel allows of other compilers: names as `Option<u32>` get underscores, integers that are
    both signed and characters (gcc) are signed.

    The same object when nothing has to change.
    """
    changes: dict[int, BtfType] = {}
    for type_id, type_ in enumerate(btf.types):
        plain = _plain_type(type_)
        if plain != type_:
            changes[type_id] = plain
    return btf.with_types(changes) if changes else btf


def _plain_type(type_: BtfType) -> BtfType:
    match type_:
        case Int() if type_.encoding & (type_.encoding - 1):
            return replace(type_, encoding=type_.encoding & Int.SIGNED)
        case Int() | Float() | Datasec() | DeclTag() | TypeTag():
            return type_  # the kernel takes any name of theirs, or others than identifiers
        case Struct():
            members = tuple(member._replace(name=_plain(member.name)) for member in type_.members)
            return replace(type_, name=_plain(type_.name), members=members)
        case Enum():
            values = tuple(value._replace(name=_plain(value.name)) for value in type_.values)
            return replace(type_, name=_plain(type_.name), values=values)
        case FuncProto():
            return replace(type_, params=tuple(param._replace(name=_plain(param.name)) for param in type_.params))
        case Func():
            return replace(type_, name=_plain(type_.name) or "anonymous")
    return replace(type_, name=_plain(type_.name))


def _plain(name: str) -> str:
    if not name or (len(name) <= _MAX_NAME and re.fullmatch(r"[A-Za-z_.][A-Za-z0-9_.]*", name)):
        return name
    text = re.sub(r"[^A-Za-z0-9_.]", "_", name)
    text = f"_{text}" if text[0].isdigit() else text
    return text if len(text) <= _MAX_NAME else f"{text[: _MAX_NAME - 9]}_{zlib.crc32(name.encode()):08x}"
