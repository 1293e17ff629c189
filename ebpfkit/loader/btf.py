"""What an object's BTF needs before the kernel takes it: the layout of data sections, and no externs.

Compilers leave section sizes and offsets to the loader, and describe what the kernel provides (`.ksyms`, `.kconfig`) as
extern, which the kernel's own checks refuse. String offsets stay as they are, since line info refers to them.
"""

from __future__ import annotations

from collections.abc import Mapping

from ebpfkit._bits import round_up
from ebpfkit.btf.types import Btf, BtfType, Datasec, Func, FuncProto, Linkage, Param, Var, VarSecinfo
from ebpfkit.elf.model import ObjectFile

__all__ = ["loadable_btf"]


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
