"""Joining several objects into one: sections appended, symbols resolved, duplicate types removed.

The result is an object like any other, which `linker` links into programs later; so calls between the objects stay
relocations. What may be joined and how follows the ELF rules for symbols: one strong definition wins over weak ones,
of several weak ones the first, and what no object defines stays undefined.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ebpfkit.btf import types as t
from ebpfkit.btf.dedup import Deduplicated, deduplicate
from ebpfkit.btf.ext import BtfExt, CoreRelo, FuncRecord, LineRecord, encode_ext
from ebpfkit.elf.reader import (
    SHF_EXECINSTR,
    SHT_NOBITS,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STT_SECTION,
    ElfFile,
    Relocation,
    Section,
    Symbol,
    read_elf,
)
from ebpfkit.elf.types import read_raw_types
from ebpfkit.elf.writer import ObjectBuilder, OutSection, OutSymbol
from ebpfkit.errors import ObjectError, UsageError

__all__ = ["link_objects"]

R_BPF_64_64, R_BPF_64_ABS64, R_BPF_64_ABS32, R_BPF_64_NODYLD32, R_BPF_64_32 = 1, 2, 3, 4, 10
SLOT = 8
# One of each is enough, and all must say the same.
_SINGLE = ("license", "version")
_EXTERN_SECTIONS = (".ksyms", ".kconfig")


_Record = TypeVar("_Record", FuncRecord, LineRecord, CoreRelo)


@dataclass(slots=True, eq=False)
class _Input:
    """One object with where its sections went."""

    name: str
    elf: ElfFile
    btf: t.Btf | None
    ext: BtfExt
    places: dict[int, tuple[OutSection, int]] = field(default_factory=dict)
    symbols: dict[int, OutSymbol] = field(default_factory=dict)
    dropped: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # section -> ranges of overridden symbols
    losers: set[str] = field(default_factory=set)

    def kept(self, section: str, records: Sequence[_Record]) -> Sequence[_Record]:
        """The records (offset first) of a section without those in functions that another object's replace."""
        ranges = self.dropped.get(section)
        if not ranges:
            return records
        return [record for record in records if not any(start <= record[0] < end for start, end in ranges)]


def link_objects(objects: Sequence[tuple[str, bytes]]) -> bytes:
    """Join objects, given as (name, bytes), into one relocatable object.

    Raises ObjectError, with the object and symbol, for two strong definitions, declarations that do not fit their
    definition, different licences or byte orders; UsageError without objects.
    """
    if not objects:
        raise UsageError("there is nothing to link; name at least one object")
    inputs = []
    for name, data in objects:
        try:
            elf = read_elf(data)
            inputs.append(_Input(name, elf, *read_raw_types(elf)))
        except ObjectError as error:
            raise ObjectError(error.message.removeprefix(f"{error.place}: "), place=f"{name}: {error.place}") from None
    if len({source.elf.big_endian for source in inputs}) > 1:
        raise ObjectError("objects of both byte orders cannot be joined", place=inputs[-1].name)
    return _StaticLinker(inputs).link()


class _StaticLinker:
    def __init__(self, inputs: Sequence[_Input]) -> None:
        self.inputs = inputs
        self.order = inputs[0].elf.order
        self.builder = ObjectBuilder(big_endian=inputs[0].elf.big_endian)
        self.out: dict[str, OutSection] = {}
        self.section_symbols: dict[int, OutSymbol] = {}
        self.globals: dict[str, tuple[OutSymbol, _Input, Symbol]] = {}

    def link(self) -> bytes:
        for source in self.inputs:
            for section in source.elf.sections:
                if _is_joined(section):
                    self._place(source, section)
        for source in self.inputs:
            for symbol in source.elf.symbols:
                self._resolve(source, symbol)
        for source in self.inputs:
            for index, (out, base) in source.places.items():
                section = source.elf.sections[index]
                if out.name in _SINGLE:
                    continue
                for relocation in source.elf.relocations(section):
                    self._relocate(source, section, relocation, out, base)
        if any(source.btf is not None for source in self.inputs):
            _TypeJoiner(self).add_sections()
        return self.builder.to_bytes()

    def _place(self, source: _Input, section: Section) -> None:
        contents = source.elf.contents(section)
        out = self.out.get(section.name)
        if out is None:
            out = OutSection(section.name, section.type, section.flags, entry_size=section.entry_size)
            self.out[section.name] = self.builder.add(out)
            symbol = OutSymbol("", out, type=STT_SECTION)
            self.section_symbols[id(out)] = symbol
            self.builder.symbols.append(symbol)
        elif section.name in _SINGLE:
            if bytes(out.data).rstrip(b"\0") != contents.rstrip(b"\0"):
                raise ObjectError(
                    f"its {section.name} {_short(contents)} differs from {_short(bytes(out.data))} before",
                    place=source.name,
                )
            source.places[section.index] = (out, 0)
            return
        if (out.flags ^ section.flags) & SHF_EXECINSTR:
            raise ObjectError(
                f"section {section.name!r} holds code in one object and data in another", place=source.name
            )
        if out.type == SHT_NOBITS and section.type != SHT_NOBITS:
            out.type, out.data = section.type, bytearray(out.zeros)
        alignment = max(SLOT, section.alignment) if section.is_code else max(1, section.alignment)
        source.places[section.index] = (out, out.append(contents, alignment))

    def _resolve(self, source: _Input, symbol: Symbol) -> None:
        place = source.places.get(symbol.section)
        if symbol.type == STT_SECTION:
            if place is not None:
                source.symbols[symbol.number] = self.section_symbols[id(place[0])]
            return
        if not symbol.name or (place is None and not symbol.is_undefined):
            return
        section, base = place if place is not None else (None, 0)
        out = OutSymbol(
            symbol.name, section, symbol.value + base, symbol.size, symbol.type, symbol.bind, symbol.visibility
        )
        if symbol.bind == STB_LOCAL:
            self.builder.symbols.append(out)
            source.symbols[symbol.number] = out
            return
        if section is not None and section.name in _SINGLE:
            source.symbols[symbol.number] = self.section_symbols[id(section)]
            return
        known = self.globals.get(symbol.name)
        if known is None:
            self.globals[symbol.name] = (out, source, symbol)
            self.builder.symbols.append(out)
            source.symbols[symbol.number] = out
            return
        source.symbols[symbol.number] = self._merge(known, source, symbol, out)

    def _merge(
        self, known: tuple[OutSymbol, _Input, Symbol], source: _Input, symbol: Symbol, new: OutSymbol
    ) -> OutSymbol:
        """One of two global symbols of a name; the one that is kept takes the other's stricter visibility."""
        kept, first, old = known
        visibility = max(kept.visibility, new.visibility)
        if new.section is not None and kept.section is not None:
            if new.bind == kept.bind == STB_GLOBAL:
                raise ObjectError(
                    f"{symbol.name!r} is defined here and in {first.name}; make one __weak or static", place=source.name
                )
            if new.bind == STB_GLOBAL:  # the weak one loses
                _drop(first, old)
                self._overwrite(kept, new)
                self.globals[symbol.name] = (kept, source, symbol)
            else:
                _drop(source, symbol)
        elif new.section is not None:
            self._overwrite(kept, new)
            self.globals[symbol.name] = (kept, source, symbol)
        elif kept.section is None and STB_GLOBAL in (new.bind, kept.bind):
            kept.bind = STB_GLOBAL  # one strong wish makes it one
        kept.visibility = visibility
        return kept

    def _overwrite(self, kept: OutSymbol, new: OutSymbol) -> None:
        kept.section, kept.value, kept.size, kept.type, kept.bind = new.section, new.value, new.size, new.type, new.bind

    def _relocate(self, source: _Input, section: Section, relocation: Relocation, out: OutSection, base: int) -> None:
        symbol = relocation.symbol
        offset = base + relocation.offset
        target = source.symbols.get(symbol.number)
        place = f"{source.name}: {section.name}+{relocation.offset:#x}"
        if target is None:
            name = symbol.name or source.elf.name_of(symbol.section)
            raise ObjectError(f"it refers to {name!r}, which is not carried along", place=place)
        if symbol.type == STT_SECTION:
            shift = source.places[symbol.section][1]
            if shift:
                self._shift(out, offset, relocation.type, shift, place)
        out.relocations.append((offset, relocation.type, target))

    def _shift(self, out: OutSection, offset: int, kind: int, shift: int, place: str) -> None:
        """Offsets from a section's start stand in the bytes themselves: add where the section's contents went."""
        if kind == R_BPF_64_64:
            at, code, amount = offset + 4, "I", shift
        elif kind == R_BPF_64_32:
            at, code, amount = offset + 4, "I", shift // SLOT
        elif kind == R_BPF_64_ABS64:
            at, code, amount = offset, "Q", shift
        elif kind in (R_BPF_64_ABS32, R_BPF_64_NODYLD32):
            at, code, amount = offset, "I", shift
        else:
            raise ObjectError(f"relocation type {kind} is not known", place=place)
        field_ = struct.Struct(f"{self.order}{code}")
        if at + field_.size > len(out.data):
            raise ObjectError("the relocation reaches behind the section's end", place=place)
        value = field_.unpack_from(out.data, at)[0] + amount
        field_.pack_into(out.data, at, value & ((1 << field_.size * 8) - 1))


def _is_joined(section: Section) -> bool:
    if section.type not in (SHT_PROGBITS, SHT_NOBITS) or not section.index:
        return False
    return not section.name.startswith((".BTF", ".debug_", ".eh_frame", ".llvm", ".comment", ".note"))


def _short(contents: bytes) -> str:
    return repr(contents[:40].rstrip(b"\0").decode(errors="replace"))


def _drop(source: _Input, symbol: Symbol) -> None:
    """Remember that a definition was overridden: its records and variables go."""
    name = source.elf.name_of(symbol.section)
    source.dropped.setdefault(name, []).append((symbol.value, symbol.value + max(symbol.size, 1)))
    source.losers.add(symbol.name)


class _TypeJoiner:
    """Joins the types of the objects and the records that refer to them."""

    def __init__(self, linker: _StaticLinker) -> None:
        self.linker = linker
        self.inputs = [source for source in linker.inputs if source.btf is not None]
        self.strings = bytearray(b"\0")
        self.string_offsets = {"": 0}

    def add_sections(self) -> None:
        stripped = [self._without_sections(source) for source in self.inputs]
        joined = deduplicate(stripped)
        sections, dead = self._sections(joined)
        new_id = self._compact(joined, dead)
        ext = self._records(joined, new_id)
        types = [t.with_ids(type_, new_id.__getitem__) for i, type_ in enumerate(joined.types) if i not in dead]
        types += [t.with_ids(section, new_id.__getitem__) for section in sections]
        ext_bytes = encode_ext(ext, self._string, big_endian=joined.big_endian)
        btf = t.Btf(types, bytes(self.strings), big_endian=joined.big_endian)
        builder = self.linker.builder
        builder.add(OutSection(".BTF", SHT_PROGBITS, 0, 4, data=bytearray(btf.to_bytes())))
        if ext.funcs or ext.lines or ext.relos:
            builder.add(OutSection(".BTF.ext", SHT_PROGBITS, 0, 4, data=bytearray(ext_bytes)))

    def _without_sections(self, source: _Input) -> t.Btf:
        """The types with sections taken out: those are put together anew."""
        assert source.btf is not None
        changes: dict[int, t.BtfType] = {i: t.Fwd(f"\x01{i}") for i, _ in source.btf.iter_kind(t.Datasec)}
        return source.btf.with_types(changes) if changes else source.btf

    def _sections(self, joined: Deduplicated) -> tuple[list[t.Datasec], dict[int, int]]:
        """The sections, and the types that go because another takes their place (0: none does)."""
        rows: dict[str, list[t.VarSecinfo]] = {}
        dead: dict[int, int] = {
            i: 0 for i, type_ in enumerate(joined.types) if isinstance(type_, t.Fwd) and type_.name.startswith("\x01")
        }
        homes = self._homes(joined)
        for source, ids in zip(self.inputs, joined.ids):
            assert source.btf is not None
            for _, datasec in source.btf.iter_kind(t.Datasec):
                found = rows.setdefault(datasec.name, [])
                if found and datasec.name in _SINGLE:
                    dead.update(
                        {ids[row.type]: found[0].type for row in datasec.vars if ids[row.type] != found[0].type}
                    )
                    continue
                for row in datasec.vars:
                    new = ids[row.type]
                    entry = self._row(source, datasec.name, row, new, joined, homes, dead)
                    if entry is not None and all(entry.type != other.type for other in found):
                        found.append(entry)
        self._replace_declarations(joined, homes, dead)
        sections = []
        for name, entries in rows.items():
            out = self.linker.out.get(name)
            if entries:
                entries.sort(key=lambda row: row.offset)
                sections.append(t.Datasec(name, out.size if out is not None else 0, tuple(entries)))
        return sections, dead

    def _homes(self, joined: Deduplicated) -> dict[str, int]:
        """The type of each global variable and function by name: its definition's, else the first declaration's."""
        found: dict[str, int] = {}
        declared: dict[str, int] = {}
        for source, ids in zip(self.inputs, joined.ids):
            assert source.btf is not None
            for old, type_ in enumerate(source.btf.types):
                if not isinstance(type_, t.Func | t.Var) or type_.linkage == t.Linkage.STATIC:
                    continue
                if type_.linkage == t.Linkage.EXTERN:
                    declared.setdefault(type_.name, ids[old])
                elif type_.name not in source.losers:
                    winner = self.linker.globals.get(type_.name)
                    if winner is None or winner[1] is source:
                        found.setdefault(type_.name, ids[old])
        return {**declared, **found}

    def _row(
        self,
        source: _Input,
        section: str,
        row: t.VarSecinfo,
        new: int,
        joined: Deduplicated,
        homes: Mapping[str, int],
        dead: dict[int, int],
    ) -> t.VarSecinfo | None:
        type_ = joined.types[new]
        if not isinstance(type_, t.Func | t.Var):
            raise ObjectError(f"type {row.type} in section {section!r} is no variable or function", place=source.name)
        home = homes.get(type_.name, new) if type_.linkage != t.Linkage.STATIC else new
        if home != new:
            self._check_fit(source, type_, joined, home)
            dead[new] = home
            definition = joined.types[home]
            is_declared = isinstance(definition, t.Func | t.Var) and definition.linkage == t.Linkage.EXTERN
            return t.VarSecinfo(home, row.offset, row.size) if is_declared else None
        if type_.linkage == t.Linkage.EXTERN:
            return t.VarSecinfo(new, row.offset, row.size)
        place = next((p for i, p in source.places.items() if source.elf.sections[i].name == section), None)
        return t.VarSecinfo(new, row.offset + (place[1] if place else 0), row.size)

    def _replace_declarations(self, joined: Deduplicated, homes: Mapping[str, int], dead: dict[int, int]) -> None:
        for source, ids in zip(self.inputs, joined.ids):
            assert source.btf is not None
            for old, type_ in enumerate(source.btf.types):
                new = ids[old]
                declares = isinstance(type_, t.Var) and type_.linkage == t.Linkage.EXTERN
                if not isinstance(type_, t.Func | t.Var):
                    continue
                if declares or (isinstance(type_, t.Func) and type_.linkage != t.Linkage.STATIC):
                    home = homes.get(type_.name, new)
                    if home != new and new not in dead:
                        self._check_fit(source, type_, joined, home)
                        dead[new] = home

    def _check_fit(self, source: _Input, type_: t.Func | t.Var, joined: Deduplicated, home: int) -> None:
        btf = joined.to_btf()
        old_id = next(
            ids[i]
            for src, ids in zip(self.inputs, joined.ids)
            if src is source and src.btf is not None
            for i, other in enumerate(src.btf.types)
            if isinstance(other, t.Func | t.Var) and other.name == type_.name
        )
        mine, theirs = btf.types[old_id], btf.types[home]
        if type(mine) is not type(theirs) or not _fits(btf, mine.type, theirs.type, 0):  # type: ignore[attr-defined]
            raise ObjectError(f"{type_.name!r} has another type here than where it is defined", place=source.name)

    def _compact(self, joined: Deduplicated, dead: Mapping[int, int]) -> list[int]:
        """New ids when the dead are gone; theirs is that of what takes their place."""
        new_id = []
        count = 0
        for index in range(len(joined.types)):
            new_id.append(count)
            count += index not in dead
        for index in dead:
            home = index
            for _ in range(len(dead) + 1):
                if home not in dead:
                    break
                home = dead[home]
            new_id[index] = new_id[home] if home else 0
        return new_id

    def _records(self, joined: Deduplicated, new_id: Sequence[int]) -> BtfExt:
        funcs: dict[str, list[FuncRecord]] = {}
        lines: dict[str, list[LineRecord]] = {}
        relos: dict[str, list[CoreRelo]] = {}
        for source, ids in zip(self.inputs, joined.ids):
            assert source.btf is not None
            btf = source.btf
            bases = {source.elf.sections[i].name: base for i, (_, base) in source.places.items()}

            offsets: dict[int, int] = {}  # of a string: there, and in the new table

            def moved(offset: int, btf: t.Btf = btf, offsets: dict[int, int] = offsets) -> int:
                found = offsets.get(offset)
                if found is None:
                    found = offsets[offset] = self._string(btf.string(offset))
                return found

            for name, found in source.ext.funcs.items():
                if (base := bases.get(name)) is not None:
                    funcs.setdefault(name, []).extend(
                        FuncRecord(r.offset + base, new_id[ids[r.type_id]]) for r in source.kept(name, found)
                    )
            for name, rows in source.ext.lines.items():
                if (base := bases.get(name)) is not None:
                    lines.setdefault(name, []).extend([
                        LineRecord(offset + base, moved(file), moved(text), line, column)
                        for offset, file, text, line, column in source.kept(name, rows)
                    ])  # fmt: skip
            for name, records in source.ext.relos.items():
                if (base := bases.get(name)) is not None:
                    relos.setdefault(name, []).extend(
                        CoreRelo(r.offset + base, new_id[ids[r.type_id]], r.access, r.kind)
                        for r in source.kept(name, records)
                    )
        return BtfExt(
            {name: tuple(sorted(rows)) for name, rows in funcs.items()},
            {name: tuple(sorted(rows, key=lambda row: row.offset)) for name, rows in lines.items()},
            {name: tuple(sorted(rows)) for name, rows in relos.items()},
        )

    def _string(self, text: str) -> int:
        found = self.string_offsets.get(text)
        if found is None:
            found = self.string_offsets[text] = len(self.strings)
            self.strings += text.encode() + b"\0"
        return found


def _fits(btf: t.Btf, mine: int, theirs: int, depth: int) -> bool:
    """Whether a declaration may stand for a definition: the same shape, whatever parameters are called."""
    mine, theirs = btf.strip(mine), btf.strip(theirs)
    if mine == theirs or depth > 16:
        return True
    one, other = btf.get(mine), btf.get(theirs)
    if isinstance(one, t.FuncProto) and isinstance(other, t.FuncProto):
        pairs = [(one.ret, other.ret), *((a.type, b.type) for a, b in zip(one.params, other.params))]
        return len(one.params) == len(other.params) and all(_fits(btf, a, b, depth + 1) for a, b in pairs)
    if isinstance(one, t.Ptr) and isinstance(other, t.Ptr):
        return _fits(btf, one.type, other.type, depth + 1)
    if isinstance(one, t.Array) and isinstance(other, t.Array):
        return one.nelems in (0, other.nelems) and _fits(btf, one.type, other.type, depth + 1)
    if isinstance(one, t.Struct) and isinstance(other, t.Struct):
        return (
            (one.kind, one.name, one.size) == (other.kind, other.name, other.size)
            and [m[0] for m in one.members] == [m[0] for m in other.members]
            and all(_fits(btf, a.type, b.type, depth + 1) for a, b in zip(one.members, other.members))
        )
    if isinstance(one, t.Int) and isinstance(other, t.Int):
        return (one.size, one.encoding) == (other.size, other.encoding)
    if isinstance(one, t.Enum) and isinstance(other, t.Enum):
        return (one.name, one.size) == (other.name, other.size)
    names = {t.Fwd.kind, t.Struct.kind, t.Union.kind}
    return one.name == other.name and (one.kind == other.kind or {one.kind, other.kind} <= names)
