"""From an object to finished programs: each with its subprograms behind it, calls resolved, records rebased.

A program is a global function in a section whose name says its type; functions in .text, and those that programs call,
are appended in the order in which they are first called. What one program lacks is that program's problem alone.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.asm.codec import decode, slot_starts
from ebpfkit.asm.insn import Instruction, MapRef, MapValueRef
from ebpfkit.btf.ext import LineRecord
from ebpfkit.btf.types import Btf, DeclTag
from ebpfkit.elf.kconfig import config_map
from ebpfkit.elf.mapdefs import MapTable, read_maps
from ebpfkit.elf.model import STRUCT_OPS, FuncInfo, LineInfo, MapSpec, ObjectFile, ProgramSpec, StructOpsSpec, VarSpec
from ebpfkit.elf.reader import STB_LOCAL, STT_FUNC, ElfFile, Section, read_elf
from ebpfkit.elf.relocate import GIVE_CONFIG, SLOT, Code, Function, relocate
from ebpfkit.elf.sections import SectionName, parse_section_name, parse_tail_call
from ebpfkit.elf.types import ObjectTypes, read_types
from ebpfkit.errors import NotSupported, ObjectError, UsageError
from ebpfkit.span import Span

if TYPE_CHECKING:
    from ebpfkit.elf.dwarf import DwarfLine
    from ebpfkit.elf.dwarf_records import RecordMaker

__all__ = ["open_object"]

MAX_PROGRAM_SLOTS = 1_000_000  # more the kernel never takes
MAX_OBJECT_SLOTS = 2_000_000  # of all code, and of all linked programs: bounds what shared subprograms can cost
MAX_OBJECT_BYTES = 64 << 20
MAX_SUGGESTIONS = 64
MAX_TAIL_CALLS = 1 << 16  # slots of a program array that section names fill
MAX_TEXT_BYTES = 64 << 20  # of all spans
MAX_TEXT = 1024  # bytes of a source line or file name that a span keeps
_GIVE_TARGET = "is a CO-RE relocation; give the BTF of the target kernel"
_OTHER_ORDER = "is a CO-RE relocation, and the BTF given is that of a kernel of the other byte order"
_CALLBACK_TAG = "exception_callback:"
BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS = 1 << 4, 1 << 5


def open_object(
    source: str | os.PathLike[str] | bytes,
    *,
    name: str = "",
    target_btf: Btf | None = None,
    legacy_sections: bool = False,
    prog_type: str | None = None,
    kconfig: Mapping[str, str | int] | None = None,
) -> ObjectFile:
    """Read and link a BPF object, from a path or its bytes; every program in it is ready to verify, run or load.

    `name` is what messages call it (default: the path). `target_btf` is the BTF of the kernel it is meant for, which
    CO-RE relocations ask; without it programs that have some are in `problems` and `needs_target`. Programs that
    cannot be linked are in `problems` with the reason. `legacy_sections` accepts what libbpf before 1.0 and iproute2
    did: "xdp_filter" for "xdp", their map definitions, and "1/2" for slot 2 of the program array with id 1. `prog_type`
    is the type of programs whose section does not say it. `kconfig` has the values of the target kernel's configuration
    (`elf.kconfig.parse_config` reads them from a file's bytes) that `.kconfig` externs ask for; without it programs
    that do are in `problems` and `needs_config`. Raises ObjectError, with section and offset, for a file that cannot be
    read or makes no sense.
    """
    if prog_type is not None and prog_type not in PROG_TYPES:
        raise UsageError(f"there is no program type {prog_type!r}; there are {', '.join(PROG_TYPES)}")
    if isinstance(source, bytes | bytearray | memoryview):
        data, path = bytes(source), name
        if len(data) > MAX_OBJECT_BYTES:
            raise ObjectError(f"the object is larger than {MAX_OBJECT_BYTES >> 20} MiB", place=path or "ELF header")
    else:
        path = name or os.fspath(source)
        data = _read_file(os.fspath(source))
    try:
        return _Linker(data, path, target_btf, legacy=legacy_sections, prog_type=prog_type, kconfig=kconfig).link()
    except ObjectError as error:
        if not path:
            raise
        message = error.message.removeprefix(f"{error.place}: ")
        raise ObjectError(message, place=f"{path}: {error.place}" if error.place else path) from None


def _read_file(path: str) -> bytes:
    try:
        if os.stat(path).st_size > MAX_OBJECT_BYTES:
            raise ObjectError(f"the file is larger than {MAX_OBJECT_BYTES >> 20} MiB", place=path)
        return Path(path).read_bytes()
    except OSError as error:
        raise ObjectError(f"cannot read: {error.strerror or error}", place=path) from None
    except ValueError as error:  # a zero byte in the path
        raise ObjectError(f"cannot read: {error}", place=repr(path)) from None


class _Linker:
    """Holds the parts of one object while its programs are put together."""

    def __init__(
        self,
        data: bytes,
        path: str,
        target_btf: Btf | None,
        *,
        legacy: bool = False,
        prog_type: str | None = None,
        kconfig: Mapping[str, str | int] | None = None,
    ) -> None:
        self.path = path
        self.legacy = legacy
        self.prog_type = prog_type
        self.target_btf = target_btf
        self.needs_target: set[str] = set()
        self.needs_config: set[str] = set()
        self.elf: ElfFile = read_elf(data)
        self.types: ObjectTypes = read_types(self.elf)
        self.table: MapTable = read_maps(self.elf, self.types.btf, legacy=legacy)
        if kconfig is not None and self.types.config:
            self._add_config(kconfig)
        self.license = self._text("license")
        self.kernel_version = self._version()
        self.map_order = {name: index for index, name in enumerate(self.table.maps)}
        self.strings: dict[int, str] = {}
        self.string_budget = MAX_TEXT_BYTES
        self.section_names: dict[int, SectionName | str] = {}
        self.linked_slots = 0
        self.dwarf: Mapping[int, Sequence[DwarfLine]] | None = None
        self.warnings: list[str] = []
        self.problems: dict[str, str] = {}
        sections = [section for section in self.elf.sections if section.is_code and section.size]
        if sum(section.size for section in sections) > MAX_OBJECT_SLOTS * SLOT:
            raise ObjectError(f"the code has more than {MAX_OBJECT_SLOTS} slots", place="section headers")
        self.records: RecordMaker | None = None
        self.codes: dict[int, Code] = {section.index: self._read_code(section) for section in sections}
        self.btf = self._types_with_records()
        self.callbacks = _exception_callbacks(self.types.btf)

    def link(self) -> ObjectFile:
        relocate(self.elf, self.codes, self.table, self.types)
        if self.legacy:
            self._fill_tail_calls()
        programs: dict[str, ProgramSpec] = {}
        for code in self.codes.values():
            if code.section.name == ".text":
                continue
            if not code.functions:
                self.problems[code.section.name] = f"section {code.section.name!r} holds code and no function symbol"
            for function in code.functions:
                if function.name in self.problems and self.legacy:
                    continue
                if function.name in programs or function.name in self.problems:
                    raise ObjectError(f"program {function.name!r} is defined twice", place=code.section.name)
                try:
                    programs[function.name] = self._link_program(function)
                except _Problem as problem:
                    self.problems[function.name] = str(problem)
                    if str(problem).endswith(_GIVE_TARGET):
                        self.needs_target.add(function.name)
                    if str(problem).endswith(GIVE_CONFIG):
                        self.needs_config.add(function.name)
        if not programs and not self.problems:
            self._explain_text()
        struct_ops: Mapping[str, StructOpsSpec] = {}
        if any(section.name in STRUCT_OPS and section.size for section in self.elf.sections):
            from ebpfkit.elf.structops import read_struct_ops, with_operations

            struct_ops = read_struct_ops(self.elf, self.types.btf)
            programs = with_operations(programs, struct_ops)
        return ObjectFile(
            programs=programs,
            maps=self.table.maps,
            variables=self.table.variables,
            license=self.license,
            btf=self.btf,
            path=self.path,
            big_endian=self.elf.big_endian,
            problems=self.problems,
            needs_target=frozenset(self.needs_target),
            needs_config=frozenset(self.needs_config),
            raw=self.elf.data,
            struct_ops=struct_ops,
            warnings=tuple(self.warnings),
        )

    def _types_with_records(self) -> Btf | None:
        """The object's types; with those strings that records made of DWARF refer to, where there are any."""
        return self.types.btf if self.records is None else self.records.finish(self.codes.values())

    def _add_config(self, values: Mapping[str, str | int]) -> None:
        btf = self.types.btf
        assert btf is not None
        spec, self.table.config_faults = config_map(btf, self.types.config, values, self.elf.order)
        self.table.add(spec, ".kconfig")
        for row in self.types.config:
            self.table.variables[row.name] = VarSpec(row.name, spec.name, row.offset, row.size, True, row.type_id)

    def _fill_tail_calls(self) -> None:
        """Programs in sections "ID/KEY" go into slot KEY of the program array that has that id."""
        slots: dict[str, dict[int, str]] = {}
        for code in self.codes.values():
            place = parse_tail_call(code.section.name)
            if place is None or not code.functions:
                continue
            map_name = self.table.ids.get(place[0])
            if map_name is None:
                self.problems[code.functions[0].name] = f"no map has the id {place[0]} of section {code.section.name!r}"
            elif place[1] >= self.table.maps[map_name].max_entries:
                self.problems[code.functions[0].name] = f"map {map_name!r} has no slot {place[1]}"
            else:
                slots.setdefault(map_name, {})[place[1]] = code.functions[0].name
        for map_name, by_index in slots.items():
            if max(by_index) >= MAX_TAIL_CALLS:
                raise ObjectError(f"slot {max(by_index)} is beyond the {MAX_TAIL_CALLS} that are kept", place="maps")
            values = tuple(by_index.get(index) for index in range(max(by_index) + 1))
            self.table.maps[map_name] = self.table.maps[map_name].replace(value_slots=values)

    def _explain_text(self) -> None:
        for code in self.codes.values():
            for function in code.functions:
                if not function.is_static:
                    self.problems[function.name] = f'{function.name} is in .text; give it a section, such as SEC("xdp")'

    def _text(self, section_name: str) -> str:
        section = self.elf.section(section_name)
        if section is None:
            return ""
        text = self.elf.contents(section).split(b"\0", 1)[0]
        if len(text) > 128 or not text.isascii():
            raise ObjectError(f"{len(text)} bytes are no licence of up to 128 ASCII characters", place=section_name)
        return text.decode("ascii")

    def _version(self) -> int:
        section = self.elf.section("version")
        if section is None:
            return 0
        if section.size != 4:
            raise ObjectError(f"{section.size} bytes are no version number of 4", place="version")
        return int.from_bytes(self.elf.contents(section), "big" if self.elf.big_endian else "little")

    def _read_code(self, section: Section) -> Code:
        if section.size % SLOT:
            raise ObjectError(f"{section.size} bytes are no whole number of {SLOT}-byte slots", place=section.name)
        insns = decode(self.elf.contents(section), big_endian=self.elf.big_endian, strict=False)
        starts = slot_starts(insns)
        code = Code(section, insns, starts, dict(zip(starts, range(len(starts)))))
        self._apply_core(code)
        code.lines = self.types.ext.lines.get(section.name, ())
        dwarf = self._dwarf_lines(section) if not code.lines else ()
        if dwarf:
            code.lines = self._records_of(dwarf)
        self._read_functions(code)
        self._put_spans(code, dwarf or code.lines)
        return code

    def _records_of(self, lines: Sequence[DwarfLine]) -> Sequence[LineRecord]:
        if self.records is None:
            from ebpfkit.elf.dwarf_records import RecordMaker

            self.records = RecordMaker(self.types.btf, big_endian=self.elf.big_endian)
        return self.records.lines(lines)

    def _apply_core(self, code: Code) -> None:
        """Put the target's answers into the instructions of a section; what fails is that instruction's fault."""
        relos = self.types.ext.relos.get(code.section.name, ())
        local = self.types.btf
        if not relos or local is None:
            return
        # Few objects have any, and reading the others should not wait for this.
        from ebpfkit.btf.core import Question, answer, describe
        from ebpfkit.elf.core import CorePatchError, patch

        poisoned: dict[int, list[Instruction]] = {}
        for relo in relos:
            index = code.index_of.get(relo.offset // SLOT)
            if index is None or relo.offset % SLOT:
                place = f"{code.section.name}+{relo.offset:#x}"
                raise ObjectError(f"CO-RE relocation at {place} is at no instruction", place=".BTF.ext")
            try:
                target = local if relo.kind == Question.TYPE_ID_LOCAL else self.target_btf
                if target is None:
                    code.faults[index] = f"{code.place(index)}: {describe(local, relo)} {_GIVE_TARGET}"
                    continue
                if target.big_endian != local.big_endian:
                    code.faults[index] = f"{code.place(index)}: {describe(local, relo)} {_OTHER_ORDER}"
                    continue
                patched = patch(code.insns[index], answer(local, relo, target))
            except (CorePatchError, NotSupported, ObjectError) as error:
                code.faults[index] = f"{code.place(index)}: {error}"
                continue
            if len(patched) == 1:
                code.insns[index] = patched[0]
            else:
                poisoned[index] = patched
        if poisoned:
            # A wide load became two instructions: everything behind it moves up by one index, no slot changes.
            code.insns = [new for i, old in enumerate(code.insns) for new in poisoned.get(i, [old])]
            faults = {code.starts[index]: message for index, message in code.faults.items()}
            code.starts = slot_starts(code.insns)
            code.index_of = dict(zip(code.starts, range(len(code.starts))))
            code.faults = {code.index_of[slot]: message for slot, message in faults.items()}

    def _read_functions(self, code: Code) -> None:
        section = code.section
        records = {record.offset: record.type_id for record in self.types.ext.funcs.get(section.name, ())}
        symbols = [s for s in self.elf.symbols_of(section) if s.type == STT_FUNC and s.name]
        end = 0
        previous = None
        for symbol in sorted(symbols, key=lambda s: (s.value, s.size)):
            place = f"{section.name}+{symbol.value:#x}"
            slot, slots = symbol.value // SLOT, symbol.size // SLOT
            if (
                symbol.value % SLOT
                or symbol.size % SLOT
                or not symbol.size
                or symbol.value + symbol.size > section.size
            ):
                raise ObjectError(
                    f"function {symbol.name!r} of {symbol.size} bytes does not fit the section", place=place
                )
            if slot < end and (slot, slots) != previous:
                raise ObjectError(f"function {symbol.name!r} overlaps the one before it", place=place)
            end, previous = slot + slots, (slot, slots)
            first = code.index_of.get(slot)
            last = code.index_of.get(slot + slots) if (slot + slots) * SLOT < section.size else len(code.insns)
            if first is None or last is None:
                raise ObjectError(f"function {symbol.name!r} begins or ends inside a wide load", place=place)
            static = symbol.bind == STB_LOCAL
            is_global = not static and not symbol.is_hidden
            function = Function(
                symbol.name, code, slot, slots, first, last, static, is_global, records.get(symbol.value, 0)
            )
            code.functions.append(function)
            code.by_slot.setdefault(slot, function)

    def _string(self, offset: int) -> str:
        found = self.strings.get(offset)
        if found is None:
            assert self.types.btf is not None
            found = self.strings[offset] = self.types.btf.string(offset, limit=MAX_TEXT)
            self.string_budget -= len(found)
            if self.string_budget < 0:
                raise ObjectError(f"source lines take more than {MAX_TEXT_BYTES >> 20} MiB", place=".BTF.ext line_info")
        return found

    def _put_spans(self, code: Code, lines: Sequence[LineRecord | DwarfLine]) -> None:
        """Give each instruction of a function the source place of the last line record at or before it."""
        insns, starts = code.insns, code.starts
        # Nobody else has these instructions yet: to make each a second time would be the half of this loop.
        set_span = object.__setattr__
        for function in code.by_slot.values():
            position = _first_at(lines, function.slot * SLOT)
            end = _first_at(lines, (function.slot + function.slots) * SLOT)
            span: Span | None = None
            for index in range(function.first, function.last):
                offset = starts[index] * SLOT
                record = None
                while position < end and lines[position].offset <= offset:
                    record = lines[position]
                    position += 1
                # Line 0 is the compiler's word for "nowhere in particular": the place before it is of more use.
                if record is not None and (record.line or span is None):
                    span = self._span(record, function.name)
                if span is not None:
                    set_span(insns[index], "span", span)

    def _span(self, record: LineRecord | DwarfLine, function: str) -> Span:
        if isinstance(record, LineRecord):
            file, text = self._string(record.file_name_off), self._string(record.line_off) or None
        else:
            file, text = record.file, None
        return Span(file=file, line=record.line, column=record.column, text=text, function=function)

    def _dwarf_lines(self, section: Section) -> Sequence[DwarfLine]:
        """Lines from DWARF, where BTF has none for a section; what cannot be read of them is as good as absent."""
        if self.dwarf is None:
            self.dwarf = {}
            if self.elf.section(".debug_line") is not None:
                from ebpfkit.elf.dwarf import read_lines

                try:
                    self.dwarf = read_lines(self.elf)
                except ObjectError as error:
                    self.warnings.append(str(error))
        return self.dwarf.get(section.index, ())

    def _link_program(self, main: Function) -> ProgramSpec:
        section = main.code.section
        name = self._section_name(section)
        if main.is_static:
            raise _Problem(f"{main.name} is static in section {section.name!r}; a program must be a global function")
        placed = self._place(main)
        insns = self._join(placed)
        maps = self._maps_of(placed)
        spec = name.spec
        flags = (BPF_F_XDP_HAS_FRAGS if spec.frags else 0) | (BPF_F_SLEEPABLE if spec.sleepable else 0)
        return ProgramSpec(
            name=main.name,
            section=name.name,
            prog_type=spec.prog_type,
            instructions=tuple(insns),
            license=self.license,
            attach_type=spec.attach_type,
            attach_target=name.target,
            maps=maps,
            func_infos=tuple(FuncInfo(base, f.name, f.type_id, f.is_global) for f, base in placed.items()),
            line_infos=self._line_infos(placed),
            btf=self.btf,
            flags=flags,
            kernel_version=self.kernel_version,
            autoload=name.autoload,
            origin=self.path,
            big_endian=self.elf.big_endian,
        )

    def _section_name(self, section: Section) -> SectionName:
        found = self.section_names.get(section.index)
        if found is None:
            try:
                # Looking for the nearest name takes milliseconds, which a thousand odd sections are not worth.
                found = parse_section_name(
                    section.name,
                    suggest=len(self.section_names) < MAX_SUGGESTIONS,
                    legacy=self.legacy,
                    prog_type=self.prog_type,
                )
            except ObjectError as error:
                found = error.message
            self.section_names[section.index] = found
        if isinstance(found, str):
            raise _Problem(found)
        return found

    def _place(self, main: Function) -> dict[Function, int]:
        """Every function that `main` needs and the slot where it begins, in order of first mention."""
        placed: dict[Function, int] = {}
        total = 0
        # What handles its exceptions, which nothing calls, goes behind everything else.
        waiting = [*self._exception_callback(main), main]
        while waiting:
            function = waiting.pop()
            if function in placed:
                continue
            faulty = function.code.faulty
            at = bisect_left(faulty, function.first)
            if at < len(faulty) and faulty[at] < function.last:
                raise _Problem(function.code.faults[faulty[at]])
            placed[function] = total
            total += function.slots
            if total > MAX_PROGRAM_SLOTS:
                raise _Problem(f"the linked program has more than {MAX_PROGRAM_SLOTS} slots")
            waiting.extend(callee for _, callee in reversed(function.links))
        self.linked_slots += total
        if self.linked_slots > MAX_OBJECT_SLOTS:
            raise ObjectError(f"the programs link to more than {MAX_OBJECT_SLOTS} slots", place=main.code.section.name)
        return placed

    def _exception_callback(self, main: Function) -> list[Function]:
        """The function that a declaration tag of the program names for its exceptions."""
        name = self.callbacks.get(main.type_id)
        if name is None:
            return []
        found = [f for code in self.codes.values() for f in code.functions if f.name == name]
        if not found:
            raise _Problem(f"{name!r}, which is to handle its exceptions, is no function of this object")
        return found[:1]

    def _join(self, placed: Mapping[Function, int]) -> list[Instruction]:
        joined: list[Instruction] = []
        for function, base in placed.items():
            code = function.code
            body = code.insns[function.first : function.last]
            for index, callee in function.links:
                insn = code.insns[index]
                distance = placed[callee] - (base + code.starts[index] - function.slot) - 1
                wide = insn.slots == 2
                body[index - function.first] = insn.replace(imm=distance & 0xFFFF_FFFF if wide else distance)
            joined += body
        return joined

    def _maps_of(self, placed: Iterable[Function]) -> dict[str, MapSpec]:
        """The maps that a program refers to, and those that these hold from the start, in the object's order."""
        names: set[str] = set()
        for function in placed:
            if function.map_names is None:
                body = function.code.insns[function.first : function.last]
                function.map_names = frozenset(
                    insn.ref.name
                    for insn in body
                    if insn.ref is not None and isinstance(insn.ref, MapRef | MapValueRef)
                )
            names |= function.map_names
        waiting = list(names)
        while waiting:
            spec = self.table.maps[waiting.pop()]
            held = {slot for slot in spec.value_slots if slot is not None and slot in self.table.maps} - names
            names |= held
            waiting += held
        return {name: self.table.maps[name] for name in sorted(names, key=self.map_order.__getitem__)}

    def _line_infos(self, placed: Mapping[Function, int]) -> tuple[LineInfo, ...]:
        """The line records of the linked program; the kernel wants one at each function's start and none in between."""
        found: list[LineInfo] = []
        for function, base in placed.items():
            records = _line_records(function)
            if not records:
                return ()
            found += [
                LineInfo(base + at, record.file_name_off, record.line_off, record.line, record.column)
                for at, record in records.items()
            ]
        return tuple(found)


def _exception_callbacks(btf: Btf | None) -> dict[int, str]:
    """FUNC type id -> name of the function for its exceptions."""
    tags = btf.iter_kind(DeclTag) if btf is not None else ()
    rows = [(tag.type, tag.name.partition(_CALLBACK_TAG)) for _, tag in tags]
    return {type_id: name for type_id, (before, mark, name) in rows if mark and not before}


def _line_records(function: Function) -> dict[int, LineRecord]:
    """The line records of a function by the slot in it, the first at its start."""
    by_slot = function.line_records
    if by_slot is None:
        by_slot = function.line_records = {}
        code = function.code
        start, end = function.slot * SLOT, (function.slot + function.slots) * SLOT
        for record in code.lines[_first_at(code.lines, start) : _first_at(code.lines, end)]:
            slot = record.offset // SLOT
            if record.offset % SLOT == 0 and slot in code.index_of:
                by_slot[slot - function.slot if by_slot else 0] = record
    return by_slot


def _first_at(lines: Sequence[LineRecord | DwarfLine], offset: int) -> int:
    """The index of the first record at the offset or behind it; the offset is a record's first field."""
    return bisect_left(lines, (offset,))


class _Problem(Exception):
    """Why one program cannot be used; becomes an entry of `ObjectFile.problems`."""
