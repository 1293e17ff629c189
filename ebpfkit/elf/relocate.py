"""Relocations of code: what an instruction refers to becomes a reference on it, or a fault with a reason.

Facts: the R_BPF_* numbers and rules of the kernel's documentation of LLVM relocations. A fault belongs to one
instruction, so that only the programs that contain it are lost. Placing functions is `linker`'s.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ebpfkit._bits import to_signed
from ebpfkit.asm.insn import FuncRef, Instruction, KfuncRef, MapRef, MapValueRef, VarRef
from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.btf.ext import LineRecord
from ebpfkit.elf.mapdefs import MapTable, is_legacy_maps
from ebpfkit.elf.reader import STB_WEAK, STT_SECTION, ElfFile, Relocation, Section, Symbol
from ebpfkit.elf.types import ObjectTypes

__all__ = ["GIVE_CONFIG", "Code", "Function", "relocate"]

GIVE_CONFIG = "is a value of the kernel's configuration (.kconfig extern); give the configuration (kconfig)"

R_BPF_64_64, R_BPF_64_32 = 1, 10
SLOT = 8

_MAP_FD = OPCODES["LDDW_MAP_FD"]
_MAP_VALUE = OPCODES["LDDW_MAP_VALUE"]
_FUNC = OPCODES["LDDW_FUNC"]
_VAR = OPCODES["LDDW_VAR"]
_CALL_LOCAL = OPCODES["CALL_LOCAL"]
_CALL_KFUNC = OPCODES["CALL_KFUNC"]


@dataclass(slots=True, eq=False)
class Function:
    """A function of the object: `slots` slots from `slot` of its section, instructions `first` up to `last`."""

    name: str
    code: Code
    slot: int
    slots: int
    first: int
    last: int
    is_static: bool
    is_global: bool
    type_id: int = 0
    # (instruction index in the section, the function it refers to), in order
    links: list[tuple[int, Function]] = field(default_factory=list)
    # What several programs ask of a shared function: its line records by slot, and the maps that it names.
    line_records: dict[int, LineRecord] | None = None
    map_names: frozenset[str] | None = None


@dataclass(slots=True, eq=False)
class Code:
    """One section of instructions."""

    section: Section
    insns: list[Instruction]
    starts: list[int]
    index_of: dict[int, int]  # slot -> instruction index
    functions: list[Function] = field(default_factory=list)
    by_slot: dict[int, Function] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    faulty: list[int] = field(default_factory=list)  # the indices in `faults`, in order
    lines: Sequence[LineRecord] = ()

    def place(self, index: int) -> str:
        """Where an instruction stands, for messages."""
        return f"{self.section.name}+{self.starts[index] * SLOT:#x}"


def relocate(elf: ElfFile, codes: Mapping[int, Code], table: MapTable, types: ObjectTypes) -> None:
    """Resolve every relocation of every code section, and calls inside a section, which have none."""
    for code in codes.values():
        relocator = _Relocator(elf, code, codes, table, types)
        targets: dict[int, Function] = {}
        seen = set()
        for relocation in elf.relocations(code.section):
            slot, rest = divmod(relocation.offset, SLOT)
            index = code.index_of.get(slot)
            if rest or index is None:
                # Inside an instruction: charge the one that holds it.
                index = code.index_of.get(slot - 1, 0)
                code.faults[index] = f"relocation at {code.section.name}+{relocation.offset:#x} is at no instruction"
                continue
            seen.add(index)
            fault = relocator.apply(index, relocation, targets)
            if fault:
                code.faults[index] = f"{code.place(index)}: {fault}"
        _link_local_calls(code, seen, targets)
        code.faulty = sorted(code.faults)
        calls = sorted(targets)
        for function in code.by_slot.values():
            inside = calls[bisect_left(calls, function.first) : bisect_left(calls, function.last)]
            function.links = [(index, targets[index]) for index in inside]
        for alias in code.functions:
            alias.links = code.by_slot[alias.slot].links


def _link_local_calls(code: Code, seen: set[int], targets: dict[int, Function]) -> None:
    for index, insn in enumerate(code.insns):
        if index in seen or (insn.op is not _CALL_LOCAL and insn.op is not _FUNC):
            continue
        target = code.starts[index] + 1 + to_signed(insn.imm, 32)
        function = code.by_slot.get(target)
        if function is None:
            code.faults[index] = f"{code.place(index)}: the call leads to slot {target}, where no function begins"
        else:
            targets[index] = function
            code.insns[index] = insn.replace(ref=FuncRef(function.name))


class _Relocator:
    """Applies relocations to one section; each method returns a fault, or "" when all is well."""

    def __init__(
        self, elf: ElfFile, code: Code, codes: Mapping[int, Code], table: MapTable, types: ObjectTypes
    ) -> None:
        self.elf = elf
        self.code = code
        self.codes = codes
        self.table = table
        self.types = types

    def apply(self, index: int, relocation: Relocation, targets: dict[int, Function]) -> str:
        insn = self.code.insns[index]
        if relocation.type == R_BPF_64_64 and insn.op.kind is Kind.WIDE:
            return self._wide(index, insn, relocation.symbol, targets)
        if relocation.type == R_BPF_64_32 and insn.op.kind is Kind.CALL:
            return self._call(index, insn, relocation.symbol, targets)
        return f"relocation type {relocation.type} does not fit a {insn.op.name}"

    def _call(self, index: int, insn: Instruction, symbol: Symbol, targets: dict[int, Function]) -> str:
        if symbol.is_undefined:
            if self.types.externs.get(symbol.name) == ".ksyms":
                ref = KfuncRef(symbol.name, weak=symbol.bind == STB_WEAK)
                self.code.insns[index] = insn.replace(op=_CALL_KFUNC, imm=0, ref=ref)
                return ""
            return (
                f"{symbol.name}() is called and not defined in this object (a kernel function is declared with __ksym)"
            )
        # The distance in the instruction counts from the section's start, or is -1 for a function's own symbol.
        offset = symbol.value + (insn.imm + 1) * SLOT
        function = self._function(symbol.section, offset)
        if function is None:
            return f"the call leads to {self.elf.name_of(symbol.section)}+{offset:#x}, where no function begins"
        targets[index] = function
        self.code.insns[index] = insn.replace(op=_CALL_LOCAL, ref=FuncRef(function.name))
        return ""

    def _function(self, section: int, offset: int) -> Function | None:
        code = self.codes.get(section)
        return code.by_slot.get(offset // SLOT) if code and offset % SLOT == 0 else None

    def _wide(self, index: int, insn: Instruction, symbol: Symbol, targets: dict[int, Function]) -> str:
        if symbol.is_undefined:
            return self._extern(index, insn, symbol)
        offset = symbol.value + to_signed(insn.imm, 32)
        name = symbol.name if symbol.type != STT_SECTION else ""
        section_name = self.elf.name_of(symbol.section)
        function = self._function(symbol.section, offset)
        if function is not None:
            targets[index] = function
            self.code.insns[index] = insn.replace(op=_FUNC, imm=0, ref=FuncRef(function.name))
            return ""
        if symbol.section in self.table.data_sections:
            return self._data(index, insn, self.table.data_sections[symbol.section], offset)
        if section_name == ".maps" or is_legacy_maps(section_name):
            found = self.table.by_place.get((symbol.section, offset))
            if found is None:
                return f"{section_name}+{offset:#x} is no map"
            self.code.insns[index] = insn.replace(op=_MAP_FD, imm=0, ref=MapRef(found))
            return ""
        return (
            f"{name or f'offset {offset:#x}'} lies in section {section_name!r}, which is neither code nor data; "
            "global variables live in .data*, .rodata* and .bss*"
        )

    def _data(self, index: int, insn: Instruction, section: str, offset: int) -> str:
        if self.table.holds_address(section, offset):
            return f"{section}+{offset:#x} holds addresses, which is not supported in global data"
        if not 0 <= offset <= 0xFFFF_FFFF:
            return f"the address is {offset} bytes into {section}"
        self.code.insns[index] = insn.replace(op=_MAP_VALUE, imm=offset << 32, ref=MapValueRef(section, offset))
        return ""

    def _extern(self, index: int, insn: Instruction, symbol: Symbol) -> str:
        home = self.types.externs.get(symbol.name)
        if home == ".kconfig":
            return self._config(index, insn, symbol.name)
        if home == ".ksyms":
            is_function = self._is_function(symbol.name)
            kind = "address" if symbol.name in self.types.typeless else "func" if is_function else "var"
            ref = VarRef(symbol.name, weak=symbol.bind == STB_WEAK, kind=kind)
            self.code.insns[index] = insn.replace(op=_VAR, imm=0, ref=ref)
            return ""
        return f"{symbol.name or 'a symbol'} is used and not defined in this object"

    def _config(self, index: int, insn: Instruction, name: str) -> str:
        if ".kconfig" not in self.table.maps:
            return f"{name} {GIVE_CONFIG}"
        fault = self.table.config_faults.get(name)
        if fault:
            return fault
        offset = self.table.variables[name].offset + to_signed(insn.imm, 32)
        if not 0 <= offset <= 0xFFFF_FFFF:
            return f"the address is {offset} bytes into .kconfig"
        self.code.insns[index] = insn.replace(op=_MAP_VALUE, imm=offset << 32, ref=MapValueRef(".kconfig", offset))
        return ""

    def _is_function(self, name: str) -> bool:
        from ebpfkit.btf.types import Func

        return bool(self.types.btf and self.types.btf.find_id(name, Func))
