"""The object's own BTF, made fit for a kernel: what compilers leave to the loader is filled in here.

Compilers emit sections with size 0 and variables at offset 0 plus a relocation, declare externs that a kernel refuses
in BTF, and call hidden functions global. The string table stays as it is, so `.BTF.ext` keeps its meaning.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from ebpfkit._bits import round_up
from ebpfkit.btf import types as t
from ebpfkit.btf.ext import BtfExt
from ebpfkit.elf.kconfig import ConfigVariable, lay_out
from ebpfkit.elf.reader import STB_WEAK, STT_FUNC, STT_OBJECT, ElfFile, Section
from ebpfkit.errors import ObjectError

__all__ = ["ObjectTypes", "read_raw_types", "read_types"]

# R_BPF_64_ABS32 and R_BPF_64_NODYLD32: 32-bit values that stand for "offset in the section".
_VALUE_RELOCATIONS = (3, 4)


@dataclass(frozen=True, slots=True)
class ObjectTypes:
    """What an object says about its types: BTF, records per section, and the section of each declared extern."""

    btf: t.Btf | None = None
    ext: BtfExt = field(default_factory=BtfExt)
    externs: Mapping[str, str] = field(default_factory=dict)
    typeless: frozenset[str] = frozenset()  # externs of type void: an address without a type
    config: tuple[ConfigVariable, ...] = ()  # the variables of .kconfig


def read_types(elf: ElfFile) -> ObjectTypes:
    """The types of an object; empty where it has none. Raises ObjectError with the place."""
    raw, records = read_raw_types(elf)
    if raw is None:
        return ObjectTypes()
    changes: dict[int, t.BtfType] = {}
    config = _read_config(elf, raw)
    added = _fix_sections(elf, raw, changes, config)
    _fix_functions(elf, raw, changes)
    btf = raw.with_types(changes, added) if changes else raw
    btf.to_bytes()
    externs: dict[str, str] = {}
    typeless = set()
    for _, datasec in raw.iter_kind(t.Datasec):
        for row in datasec.vars:
            type_ = raw.get(row.type)
            if _is_extern(type_):
                externs[type_.name] = datasec.name
                if isinstance(type_, t.Var) and raw.resolve(type_.type).kind == 0:
                    typeless.add(type_.name)
    return ObjectTypes(btf, records, externs, frozenset(typeless), config)


def read_raw_types(elf: ElfFile) -> tuple[t.Btf | None, BtfExt]:
    """The types and records as the compiler wrote them, offsets of variables put in. Raises ObjectError."""
    section = elf.section(".BTF")
    if section is None or not section.size:
        return None, BtfExt()
    raw = t.Btf.from_bytes(_relocated(elf, section))
    ext = elf.section(".BTF.ext")
    return raw, BtfExt.from_bytes(elf.contents(ext), raw) if ext is not None and ext.size else BtfExt()


def _relocated(elf: ElfFile, section: Section) -> bytes:
    """The section with each variable's offset added where a relocation asks for it."""
    data = bytearray(elf.contents(section))
    word = struct.Struct(f"{elf.order}I")
    for relocation in elf.relocations(section):
        place = f".BTF+{relocation.offset:#x}"
        if relocation.type not in _VALUE_RELOCATIONS or relocation.offset + 4 > len(data):
            raise ObjectError(f"relocation type {relocation.type} is not one that BTF can have", place=place)
        value = word.unpack_from(data, relocation.offset)[0] + relocation.symbol.value
        if value > 0xFFFF_FFFF:
            raise ObjectError(f"symbol {relocation.symbol.name!r} at {value:#x} is out of range", place=place)
        word.pack_into(data, relocation.offset, value)
    return bytes(data)


def _read_config(elf: ElfFile, btf: t.Btf) -> tuple[ConfigVariable, ...]:
    datasec = btf.find(".kconfig", t.Datasec)
    if datasec is None:
        return ()
    weak = {symbol.name for symbol in elf.symbols if symbol.bind == STB_WEAK}
    variables = [btf.get(row.type) for row in datasec.vars]
    return lay_out(btf, [(v.name, v.type, v.name in weak) for v in variables if isinstance(v, t.Var)])


def _fix_sections(
    elf: ElfFile, btf: t.Btf, changes: dict[int, t.BtfType], config: tuple[ConfigVariable, ...]
) -> list[t.BtfType]:
    """Sizes of sections and order of variables; returns types to add."""
    homes: dict[str, set[str]] = {}
    for symbol in elf.symbols:
        if symbol.type == STT_OBJECT:
            homes.setdefault(symbol.name, set()).add(elf.name_of(symbol.section))
    integer = next((type_id for type_id, type_ in btf.iter_kind(t.Int) if type_.size == 4), len(btf))
    for type_id, datasec in btf.iter_kind(t.Datasec):
        section = elf.section(datasec.name)
        if datasec.name == ".kconfig" and config:
            changes[type_id] = _define_config(btf, datasec, config, changes)
            continue
        if any(_is_extern(btf.get(row.type)) for row in datasec.vars):
            changes[type_id] = _declare(btf, datasec, integer, changes)
            continue
        here = [row for row in datasec.vars if _is_in(btf, row, datasec.name, homes)]
        rows = tuple(sorted(here, key=lambda row: row.offset))
        fixed = t.Datasec(datasec.name, datasec.size or (section.size if section else 0), rows)
        if fixed != datasec:
            changes[type_id] = fixed
    return [t.Int("int", 4, t.Int.SIGNED, 32)] if integer == len(btf) else []


def _is_in(btf: t.Btf, row: t.VarSecinfo, section: str, homes: Mapping[str, set[str]]) -> bool:
    """Whether a variable is in the section after all: compilers move constants to ".rodata.cst8" behind BTF's back."""
    found = homes.get(btf.get(row.type).name)
    return found is None or section in found


def _define_config(
    btf: t.Btf, datasec: t.Datasec, config: tuple[ConfigVariable, ...], changes: dict[int, t.BtfType]
) -> t.BtfType:
    """The section as the map will be: its variables are defined there, in the order of their places."""
    places = {variable.name: variable for variable in config}
    rows = []
    for row in datasec.vars:
        var = btf.get(row.type)
        if isinstance(var, t.Var):
            changes[row.type] = t.Var(var.name, var.type, t.Linkage.GLOBAL)
            rows.append(t.VarSecinfo(row.type, places[var.name].offset, places[var.name].size))
    size = round_up(max(variable.offset + variable.size for variable in config), 8)
    return t.Datasec(datasec.name, size, tuple(sorted(rows, key=lambda row: row.offset)))


def _is_extern(type_: t.BtfType) -> bool:
    return isinstance(type_, t.Func | t.Var) and type_.linkage == t.Linkage.EXTERN


def _declare(btf: t.Btf, datasec: t.Datasec, integer: int, changes: dict[int, t.BtfType]) -> t.BtfType:
    """A kernel takes no externs: functions become global, variables integers, and their section holds the variables.

    What the names stand for is found by name in the kernel's own BTF; these types are only there to be accepted.
    """
    rows: list[t.VarSecinfo] = []
    for row in datasec.vars:
        type_ = btf.get(row.type)
        if isinstance(type_, t.Func):
            changes[row.type] = t.Func(type_.name, type_.type, t.Linkage.GLOBAL)
        elif isinstance(type_, t.Var):
            changes[row.type] = t.Var(type_.name, integer, t.Linkage.GLOBAL)
            rows.append(t.VarSecinfo(row.type, len(rows) * 4, 4))
    if not rows:
        return t.Int("int", 4, t.Int.SIGNED, 32)
    return t.Datasec(datasec.name, len(rows) * 4, tuple(rows))


def _fix_functions(elf: ElfFile, btf: t.Btf, changes: dict[int, t.BtfType]) -> None:
    """A hidden function is not verified apart: its linkage becomes static. Parameters of functions get names."""
    hidden = {symbol.name for symbol in elf.symbols if symbol.type == STT_FUNC and symbol.is_hidden}
    for type_id, func in btf.iter_kind(t.Func):
        proto = btf.get(func.type)
        if isinstance(proto, t.FuncProto) and any(p.type and not p.name for p in proto.params):
            # Declarations have none, and some compilers leave them out without optimisation; the kernel wants them.
            params = tuple(t.Param(p.name or (f"arg{i}" if p.type else ""), p.type) for i, p in enumerate(proto.params))
            changes[func.type] = t.FuncProto(proto.name, proto.ret, params)
        if func.linkage == t.Linkage.GLOBAL and func.name in hidden:
            changes[type_id] = t.Func(func.name, func.type, t.Linkage.STATIC)
