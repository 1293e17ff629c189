"""An object as plain data for people and JSON: what is in it, what each program needs; and how two objects differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ebpfkit.asm.insn import FuncRef, KfuncRef, MapRef, MapValueRef, VarRef
from ebpfkit.btf.types import KIND_NAMES, Datasec, Linkage, Var
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.elf.needs import first_kernel, instruction_level, needs_of
from ebpfkit.elf.reader import STB_WEAK, read_elf
from ebpfkit.elf.types import read_raw_types

__all__ = ["describe_object", "diff_objects"]


def describe_object(obj: ObjectFile) -> dict[str, Any]:
    """Programs, maps, variables, relocations, externs, types, needs. The shape is `ebpfkit show --json`'s."""
    elf = read_elf(obj.raw) if obj.raw else None
    raw, ext = read_raw_types(elf) if elf is not None else (obj.btf, None)
    externs: dict[str, dict[str, Any]] = {}
    weak = {symbol.name for symbol in elf.symbols if symbol.bind == STB_WEAK} if elf is not None else set()
    for symbol in elf.symbols if elf is not None else ():
        if symbol.is_undefined and symbol.name:
            externs[symbol.name] = {"section": None, "weak": symbol.name in weak}
    kinds: Counter[str] = Counter()
    if raw is not None:
        kinds = Counter(KIND_NAMES[type_.kind] for type_ in list(raw.types)[1:])
        for _, section in raw.iter_kind(Datasec):
            for row in section.vars:
                type_ = raw.get(row.type)
                if getattr(type_, "linkage", None) == Linkage.EXTERN:
                    kind = "variable" if isinstance(type_, Var) else "function"
                    externs[type_.name] = {"section": section.name, "kind": kind, "weak": type_.name in weak}
    sections = elf.sections if elf is not None else ()
    relocations = {s.name: len(elf.relocations(s)) for s in sections if s.is_code} if elf is not None else {}
    core = {name: len(rows) for name, rows in ext.relos.items()} if ext is not None else {}
    return {
        "path": obj.path, "license": obj.license or None, "byte_order": "big" if obj.big_endian else "little",
        "programs": {name: _program(spec) for name, spec in obj.programs.items()},
        "problems": dict(obj.problems), "warnings": list(obj.warnings),
        "maps": {name: _map(spec) for name, spec in obj.maps.items()},
        "variables": {
            v.name: {"map": v.map_name, "offset": v.offset, "size": v.size, "constant": v.constant}
            for v in obj.variables.values()
        },
        "struct_ops": {
            s.name: {"type": s.type_name, "link": s.link, "functions": dict(s.members)} for s in obj.struct_ops.values()
        },
        "externs": externs,
        "relocations": {name: count for name, count in relocations.items() if count},
        "core_relocations": core,
        "btf": None if raw is None else {"types": len(raw.types) - 1, "kinds": dict(sorted(kinds.items())),
                                         "string_bytes": len(raw.strings)},
        "kernel": first_kernel(n for spec in obj.programs.values() for n in needs_of(spec)) if obj.programs else None,
    }  # fmt: skip


def _program(spec: ProgramSpec) -> dict[str, Any]:
    needs = needs_of(spec)
    refs = [insn.ref for insn in spec.instructions]
    grouped: dict[str, dict[str, str]] = {}
    for need in needs:
        grouped.setdefault(need.kind, {})[need.name] = need.since
    return {
        "section": spec.section, "type": spec.prog_type, "attach_type": spec.attach_type,
        "attach_target": spec.attach_target, "autoload": spec.autoload,
        "instructions": len(spec.instructions), "slots": sum(insn.slots for insn in spec.instructions),
        "functions": [info.name for info in spec.func_infos],
        "maps": list(spec.maps),
        "map_references": sum(isinstance(ref, MapRef | MapValueRef) for ref in refs),
        "calls": sum(isinstance(ref, FuncRef) for ref in refs),
        "borrows": sorted({ref.name for ref in refs if isinstance(ref, KfuncRef | VarRef)}),
        "cpu": instruction_level(spec), "kernel": first_kernel(needs), "needs": grouped,
    }  # fmt: skip


def _map(spec: MapSpec) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "type": spec.type, "key_size": spec.key_size, "value_size": spec.value_size, "max_entries": spec.max_entries,
        "flags": spec.flags, "section": spec.section,
    }  # fmt: skip
    if spec.pin_by_name:
        shown["pinned_by_name"] = True
    if spec.inner is not None:
        shown["inner"] = _map(spec.inner)
    if any(spec.value_slots):
        shown["initial"] = {str(index): name for index, name in enumerate(spec.value_slots) if name is not None}
    if spec.frozen:
        shown["frozen"] = True
    return shown


def diff_objects(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What differs between two descriptions: {"place", "old", "new"}, a side None where it has nothing.

    Paths of the files themselves do not count.
    """
    rows: list[dict[str, Any]] = []
    _diff(old, new, "", rows)
    return [row for row in rows if row["place"] != "path"]


def _diff(old: Any, new: Any, place: str, rows: list[dict[str, Any]]) -> None:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            _diff(old.get(key), new.get(key), f"{place}.{key}" if place else str(key), rows)
    elif old != new:
        rows.append({"place": place, "old": old, "new": new})
