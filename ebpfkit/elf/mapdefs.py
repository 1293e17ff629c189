"""Map definitions: BTF `.maps`, the older `maps` section, and data sections as maps.

Facts: the field names and macros of libbpf's `.maps` convention, iproute2's `struct bpf_elf_map`. Nothing is created
here, and what a map type allows is the kernel's affair.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.btf import types as t
from ebpfkit.elf.model import MapSpec, VarSpec
from ebpfkit.elf.reader import SHT_NOBITS, SHT_PROGBITS, STT_OBJECT, ElfFile, Relocation, Section
from ebpfkit.errors import ObjectError

__all__ = ["MapTable", "read_maps"]

BPF_F_RDONLY_PROG = 1 << 7
R_BPF_64_ABS64 = 2
NO_SLOT = 0xFFFF_FFFF  # iproute2: the map is in no slot
MAX_SLOTS = 1 << 16
IPROUTE2_SIZE = 36  # nine numbers: the five of libbpf, then id, pinning, inner_id, inner_idx
ARENA_SECTION = ".addr_space.1"
AYA_SIZE = 28  # struct bpf_map_def of aya: id and pinning behind the five
LEGACY_FIELDS = ("type", "key_size", "value_size", "max_entries", "map_flags")
PIN_NONE, PIN_BY_NAME = 0, 1
_NUMBERS = {
    "type": "type", "max_entries": "max_entries", "map_flags": "flags", "numa_node": "numa_node",
    "key_size": "key_size", "value_size": "value_size", "map_extra": "map_extra", "pinning": "pinning",
}  # fmt: skip
_TYPE_NAMES = {row.id: row.name for row in MAP_TYPES.values()}


@dataclass(slots=True)
class MapTable:
    """The maps of an object, and which of them an address in a section means.

    `by_place` has (section index, offset) of every map variable; `data_sections` the section index of every data map.
    `addresses` has, for each data map, the (start, end) ranges that hold addresses, in order: no program can use those.
    """

    maps: dict[str, MapSpec] = field(default_factory=dict)
    by_place: dict[tuple[int, int], str] = field(default_factory=dict)
    data_sections: dict[int, str] = field(default_factory=dict)
    variables: dict[str, VarSpec] = field(default_factory=dict)
    addresses: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    config_faults: dict[str, str] = field(default_factory=dict)  # variables of .kconfig without a value, and why
    ids: dict[int, str] = field(default_factory=dict)  # iproute2's numbers of maps

    def holds_address(self, name: str, offset: int) -> bool:
        """Whether a reference to that place of a data map leads into something that holds addresses."""
        ranges = self.addresses.get(name, [])
        index = bisect_right(ranges, (offset, 1 << 64)) - 1
        return index >= 0 and offset < ranges[index][1]

    def add(self, spec: MapSpec, place: str) -> None:
        """Add a map. Raises ObjectError when the name is taken."""
        if spec.name in self.maps:
            raise ObjectError(f"map {spec.name!r} is defined twice", place=place)
        self.maps[spec.name] = spec


def read_maps(elf: ElfFile, btf: t.Btf | None, *, legacy: bool = False) -> MapTable:
    """Every map and global variable of an object. Raises ObjectError for a definition that makes no sense.

    `legacy` gives the further fields of iproute2's definitions their meaning; without it they must be zero.
    """
    table = MapTable()
    section = elf.section(".maps")
    if section is not None and section.size:
        if btf is None:
            raise ObjectError("maps in .maps are described by BTF, and there is none; compile with -g", place=".maps")
        _BtfMaps(elf, btf, section, table).read()
    for section in elf.sections:
        if is_legacy_maps(section.name) and section.size and section.type == SHT_PROGBITS:
            _read_legacy_maps(elf, section, table, iproute2=legacy)
    for section in elf.sections:
        is_data = section.type in (SHT_PROGBITS, SHT_NOBITS) and not section.is_code
        if is_data and section.size and is_data_section(section.name):
            _read_data_section(elf, btf, section, table)
        elif is_data and section.size and section.name == ARENA_SECTION:
            _read_arena(elf, btf, section, table)
    return table


def is_legacy_maps(name: str) -> bool:
    """Whether a section of that name holds map definitions without BTF."""
    return name == "maps" or name.startswith("maps/")


def is_data_section(name: str) -> bool:
    """Whether a section of that name becomes a map of global data."""
    return any(name == base or name.startswith(f"{base}.") for base in (".data", ".rodata", ".bss"))


class _BtfMaps:
    """Reads `.maps`: each variable's type is a structure whose members say, through their types, what the map is."""

    def __init__(self, elf: ElfFile, btf: t.Btf, section: Section, table: MapTable) -> None:
        self.elf = elf
        self.btf = btf
        self.section = section
        self.table = table
        self.relocations = elf.relocations(section)
        self.relocation_offsets = [relocation.offset for relocation in self.relocations]
        self.named = {(s.section, s.value): s.name for s in reversed(elf.symbols) if s.name and s.size}

    def read(self) -> None:
        datasec = self.btf.find(".maps", t.Datasec)
        if datasec is None:
            raise ObjectError("the BTF has no section .maps; compile with -g", place=".maps")
        end = 0
        for row in sorted(datasec.vars, key=lambda row: row.offset):
            var = self.btf.get(row.type)
            place = f".maps+{row.offset:#x}"
            if not isinstance(var, t.Var) or not var.name:
                raise ObjectError(f"type {row.type} is no named variable", place=place)
            if var.linkage == t.Linkage.EXTERN:
                raise ObjectError(f"map {var.name!r} is only declared (extern), not defined", place=place)
            if row.offset < end or row.offset + row.size > self.section.size:
                raise ObjectError(f"map {var.name!r} of {row.size} bytes overlaps or leaves the section", place=place)
            end = row.offset + row.size
            spec = self._read_definition(var.name, var.type, place, inner_of="")
            slots = self._value_slots(var, row)
            if slots:
                spec = spec.replace(value_slots=slots)
                if len(slots) > spec.max_entries:
                    raise ObjectError(
                        f"map {var.name!r} has {len(slots)} initial values and room for {spec.max_entries}", place=place
                    )
            self.table.add(spec, place)
            self.table.by_place[(self.section.index, row.offset)] = var.name
        self._check_covered()

    def _check_covered(self) -> None:
        """A symbol in .maps without BTF would be silently no map."""
        for symbol in self.elf.symbols_of(self.section):
            if symbol.type == STT_OBJECT and (self.section.index, symbol.value) not in self.table.by_place:
                raise ObjectError(f"map {symbol.name!r} has no BTF", place=f".maps+{symbol.value:#x}")

    def _read_definition(self, name: str, type_id: int, place: str, *, inner_of: str) -> MapSpec:
        struct_ = self.btf.resolve(type_id)
        what = f"the inner map of {inner_of!r}" if inner_of else f"map {name!r}"
        if not isinstance(struct_, t.Struct):
            raise ObjectError(f"{what} is no structure", place=place)
        numbers: dict[str, int] = {}
        types: dict[str, int] = {}
        inner: MapSpec | None = None
        has_values = False
        for member in struct_.members:
            at = f"{place} {name}.{member.name}"
            if _NUMBERS.get(member.name, "") in numbers or member.name in types:
                raise ObjectError("this field is given twice", place=at)
            if member.name in _NUMBERS:
                numbers[_NUMBERS[member.name]] = self._number(member, at)
            elif member.name in ("key", "value"):
                types[member.name] = self._pointee(member, at)
            elif member.name == "values":
                if inner_of:
                    raise ObjectError("an inner map cannot hold maps itself", place=at)
                if has_values:
                    raise ObjectError("this field is given twice", place=at)
                has_values = True
                inner = self._inner(name, member, at)
                numbers.setdefault("value_size", 4)
            else:
                known = ", ".join([*(n for n in _NUMBERS), "key", "value", "values"])
                raise ObjectError(f"no field of a map is called {member.name!r}; there are {known}", place=at)
        sizes = {part: self._size(part, numbers, types, place, what) for part in ("key", "value")}
        pinning = numbers.get("pinning", PIN_NONE)
        if pinning not in (PIN_NONE, PIN_BY_NAME) or (pinning and inner_of):
            raise ObjectError(f"pinning {pinning} of {what} is not 0 (none) or 1 (by name)", place=place)
        if "type" not in numbers:
            raise ObjectError(f"{what} has no type; write __uint(type, BPF_MAP_TYPE_...)", place=place)
        return MapSpec(
            name=name,
            type=_type_name(numbers["type"], what, place),
            key_size=sizes["key"],
            value_size=sizes["value"],
            max_entries=numbers.get("max_entries", 0),
            flags=numbers.get("flags", 0),
            numa_node=numbers.get("numa_node"),
            map_extra=numbers.get("map_extra", 0),
            pin_by_name=pinning == PIN_BY_NAME,
            inner=inner,
            btf_key_type=types.get("key", 0),
            btf_value_type=types.get("value", 0),
        )

    def _size(self, part: str, numbers: Mapping[str, int], types: Mapping[str, int], place: str, what: str) -> int:
        stated = numbers.get(f"{part}_size")
        if part not in types:
            return stated or 0
        size = self.btf.size_of(types[part])
        if stated is not None and stated != size:
            raise ObjectError(f"{part}_size of {what} is {stated}, but its {part} has {size} bytes", place=place)
        return size

    def _number(self, member: t.Member, place: str) -> int:
        """`__uint(name, N)` is a pointer to an array of N, `__ulong(name, N)` an enumeration with one constant."""
        type_ = self.btf.resolve(member.type)
        if isinstance(type_, t.Ptr):
            array = self.btf.resolve(type_.type)
            if isinstance(array, t.Array):
                return array.nelems
        elif isinstance(type_, t.Enum) and len(type_.values) == 1:
            return type_.values[0].value & 0xFFFF_FFFF_FFFF_FFFF
        raise ObjectError("this is no number; write __uint(name, N)", place=place)

    def _pointee(self, member: t.Member, place: str) -> int:
        type_ = self.btf.resolve(member.type)
        if not isinstance(type_, t.Ptr) or not type_.type:
            raise ObjectError("this is no type; write __type(name, T)", place=place)
        return type_.type

    def _inner(self, name: str, member: t.Member, place: str) -> MapSpec | None:
        """`__array(values, T)` is a flexible array of pointers to an inner map's structure, or to a function."""
        array = self.btf.resolve(member.type)
        pointer = self.btf.resolve(array.type) if isinstance(array, t.Array) else None
        if not isinstance(pointer, t.Ptr):
            raise ObjectError("values is no array of pointers; write __array(values, T)", place=place)
        if isinstance(self.btf.resolve(pointer.type), t.FuncProto):
            return None
        return self._read_definition(f"{name}.inner", pointer.type, place, inner_of=name)

    def _value_slots(self, var: t.Var, row: t.VarSecinfo) -> tuple[str | None, ...]:
        """The names of the maps or programs that relocations put into `values`."""
        struct_ = self.btf.resolve(var.type)
        member = struct_.member("values") if isinstance(struct_, t.Struct) else None
        first = bisect_left(self.relocation_offsets, row.offset)
        last = bisect_left(self.relocation_offsets, row.offset + row.size)
        slots: dict[int, str] = {}
        for relocation in self.relocations[first:last]:
            place = f".maps+{relocation.offset:#x}"
            distance = relocation.offset - row.offset - (member.offset if member else 0)
            if member is None or distance < 0 or distance % 8 or relocation.type != R_BPF_64_ABS64:
                raise ObjectError(f"map {var.name!r} holds an address outside its values", place=place)
            slots[distance // 8] = self._slot_name(relocation, place)
        return tuple(slots.get(index) for index in range(max(slots) + 1)) if slots else ()

    def _slot_name(self, relocation: Relocation, place: str) -> str:
        symbol = relocation.symbol
        if symbol.name and not symbol.is_undefined:
            return symbol.name
        # A static map or function: the section's symbol, with the offset where the address will be.
        contents = self.elf.contents(self.section)[relocation.offset : relocation.offset + 8]
        target = symbol.value + int.from_bytes(contents, "big" if self.elf.big_endian else "little")
        found = None if symbol.is_undefined else self.named.get((symbol.section, target))
        if found is None:
            raise ObjectError(f"the initial value {symbol.name!r} is not defined in this object", place=place)
        return found


def _type_name(number: int, what: str, place: str) -> str:
    name = _TYPE_NAMES.get(number)
    if name is None:
        raise ObjectError(f"type {number} of {what} is not known (1..{max(_TYPE_NAMES)} are)", place=place)
    return name


def _read_legacy_maps(elf: ElfFile, section: Section, table: MapTable, *, iproute2: bool) -> None:
    """`struct bpf_map_def` of old libbpf: five numbers per symbol; iproute2's have nine, aya's seven."""
    name = section.name
    symbols = [s for s in elf.symbols_of(section) if s.name and s.type in (0, STT_OBJECT)]
    symbols = sorted((s for s in symbols if not s.name.startswith(".L")), key=lambda s: s.value)
    if not symbols or section.size % len(symbols):
        raise ObjectError(f"{section.size} bytes are no whole number of {len(symbols)} definitions", place=name)
    size = section.size // len(symbols)
    if size < 20 or size % 4:
        raise ObjectError(f"definitions of {size} bytes are too short; struct bpf_map_def has 20", place=name)
    data = elf.contents(section)
    inner_ids: dict[str, int] = {}
    slots: dict[str, int] = {}  # where a map goes in the maps of maps that hold its like
    for symbol in symbols:
        place = f"{name}+{symbol.value:#x}"
        if symbol.value % size or symbol.value + size > len(data):
            raise ObjectError(f"map {symbol.name!r} is no whole definition of {size} bytes", place=place)
        words = struct.unpack_from(f"{elf.order}{size // 4}I", data, symbol.value)
        number, key_size, value_size, max_entries, flags = words[:5]
        extra = words[5:]
        pinning = 0
        if iproute2 and size == IPROUTE2_SIZE:
            own_id, pinning, inner_id, inner_index = extra
            if own_id:
                table.ids.setdefault(own_id, symbol.name)
            if own_id and not inner_id:
                slots[symbol.name] = inner_index
            if inner_id:
                inner_ids[symbol.name] = inner_id
        elif iproute2 and size == AYA_SIZE:
            _, pinning = extra
        elif any(extra):
            raise ObjectError(
                f"map {symbol.name!r} uses fields beyond {', '.join(LEGACY_FIELDS)} (iproute2's id, pinning, ...); "
                "define it in .maps with BTF, or open the object with legacy_sections=True",
                place=place,
            )
        kind = _type_name(number, f"map {symbol.name!r}", place)
        spec = MapSpec(
            symbol.name, kind, key_size, value_size, max_entries, flags, pin_by_name=bool(pinning), section=name
        )
        table.add(spec, place)
        table.by_place[(section.index, symbol.value)] = symbol.name
    for outer, inner_id in inner_ids.items():
        inner = table.maps.get(table.ids.get(inner_id, ""))
        if inner is None:
            raise ObjectError(
                f"map {outer!r} holds maps like the one with id {inner_id}, and there is none", place=name
            )
        spec = table.maps[outer].replace(inner=inner.replace(name=f"{outer}.inner", pin_by_name=False))
        index = slots.get(inner.name, NO_SLOT)
        if index != NO_SLOT:
            if index >= min(spec.max_entries, MAX_SLOTS):
                raise ObjectError(f"map {inner.name!r} wants slot {index} of {outer!r}, which has none", place=name)
            spec = spec.replace(value_slots=(*(None,) * index, inner.name))
        table.maps[outer] = spec


def _read_data_section(elf: ElfFile, btf: t.Btf | None, section: Section, table: MapTable) -> None:
    constant = section.name.split(".")[1] == "rodata"
    datasec_id = btf.find_id(section.name, t.Datasec) if btf else 0
    spec = MapSpec(
        name=section.name,
        type="array",
        key_size=4,
        value_size=section.size,
        max_entries=1,
        flags=BPF_F_RDONLY_PROG if constant else 0,
        data=elf.contents(section),
        frozen=constant,
        btf_value_type=datasec_id,
        section=section.name,
    )
    table.add(spec, f"section {section.name}")
    _read_variables(elf, btf, section, table, section.name, constant=constant)


def _read_arena(elf: ElfFile, btf: t.Btf | None, section: Section, table: MapTable) -> None:
    """Variables in an arena: the section is what the object's only arena begins with."""
    arenas = [spec for spec in table.maps.values() if spec.type == "arena"]
    if len(arenas) != 1:
        what = f"{len(arenas)} arenas ({', '.join(spec.name for spec in arenas)})" if arenas else "no arena"
        raise ObjectError(f"its variables belong into an arena, and there is {what} in .maps", place=section.name)
    (spec,) = arenas
    table.maps[spec.name] = spec.replace(data=elf.contents(section))
    _read_variables(elf, btf, section, table, spec.name, constant=False)


def _read_variables(
    elf: ElfFile, btf: t.Btf | None, section: Section, table: MapTable, map_name: str, *, constant: bool
) -> None:
    table.data_sections[section.index] = map_name
    table.addresses[map_name] = _address_ranges(elf, section)
    datasec_id = btf.find_id(section.name, t.Datasec) if btf else 0
    datasec = btf.types[datasec_id] if btf and datasec_id else None
    rows = datasec.vars if isinstance(datasec, t.Datasec) else ()
    types = {row.offset: row.type for row in rows}
    for symbol in elf.symbols_of(section):
        if symbol.type == STT_OBJECT and symbol.name:
            if symbol.value + symbol.size > section.size:
                place = f"{section.name}+{symbol.value:#x}"
                raise ObjectError(f"variable {symbol.name!r} reaches behind the section", place=place)
            var = btf.types[types[symbol.value]] if btf and symbol.value in types else None
            type_id = var.type if isinstance(var, t.Var) else 0
            name = symbol.name if symbol.name not in table.variables else f"{section.name}:{symbol.name}"
            table.variables[name] = VarSpec(name, map_name, symbol.value, symbol.size, constant, type_id)


def _address_ranges(elf: ElfFile, section: Section) -> list[tuple[int, int]]:
    """The variables that hold addresses, whole, and addresses outside variables (jump tables), run by run."""
    relocations = elf.relocations(section)
    if not relocations:
        return []
    variables = sorted((s.value, s.value + s.size) for s in elf.symbols_of(section) if s.type == STT_OBJECT and s.size)
    ranges: list[tuple[int, int]] = []
    for relocation in relocations:
        start, end = relocation.offset, relocation.offset + 8
        index = bisect_right(variables, (start, 1 << 64)) - 1
        if index >= 0 and start < variables[index][1]:
            start, end = variables[index]
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((start, end))
    return ranges
