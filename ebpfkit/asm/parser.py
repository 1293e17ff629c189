"""Assembly text to instructions: in the kernel's spelling, LLVM's or uBPF's, a program or a dump from a terminal.

Which spelling a line has is told from the line; three kinds of text are told from the whole: a verifier log (its
instructions are picked out by `verifier_log`), LLVM's `.s` (directives, `#` comments, sections, symbols), and
everything else, where `N:` states slot numbers, bytes beside or below an instruction are compared with it, and the
headers of dumps are passed over. One instruction is read by `statement`, directives by `sections`, the surroundings of
dumps are known to `listing`; bytes are `codec`'s.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from ebpfkit.asm.codec import SLOT_SIZE, label_slots, resolve_labels
from ebpfkit.asm.insn import FuncRef, Instruction, KfuncRef, Label, MapRef, MapValueRef
from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.asm.listing import (
    as_bytes,
    begins_object,
    decode_bytes,
    header_label,
    instructions_of_graph,
    is_prompt,
    reconcile,
    relocation_of,
)
from ebpfkit.asm.scanner import is_label_name
from ebpfkit.asm.sections import Directives, Place, is_compiler_output
from ebpfkit.asm.statement import Statement, helper_numbers
from ebpfkit.asm.verifier_log import program_of_log
from ebpfkit.errors import AsmError

__all__ = ["Reader", "helper_numbers", "is_label_name", "parse", "read_text"]

_TERMINAL = re.compile("\\x1b\\[[0-9;?]*[A-Za-z]|\\x1b[()][A-Z0-9]|^\\ufeff")  # colours and the like


def parse(text: str, *, file: str = "<asm>") -> list[Instruction]:
    """The instructions of a program, labels resolved; each has its line as span.

    Raises AsmError with line, column and the nearest legal form.

    >>> parse("r0 = 2\\nexit")
    [Instruction(MOV64_IMM, imm=2), Instruction(EXIT)]
    >>> parse("mov32 %r0, 2\\nexit")
    [Instruction(MOV32_IMM, imm=2), Instruction(EXIT)]
    """
    return read_text(text, file=file).finish()


def read_text(text: str, *, file: str = "<asm>") -> Reader:
    """All lines read, nothing resolved yet: what `parse` and `unit` begin with. Raises AsmError."""
    lines = [line.rstrip("\r") for line in _TERMINAL.sub("", text).split("\n")]
    log = program_of_log(lines, file)
    reader = Reader(file, is_compiler_output(lines))
    graph = instructions_of_graph(lines) if log is None else None
    reader.read(log.lines if log else enumerate(lines, 1) if graph is None else graph)
    reader.not_shown = [] if log is None else log.gaps
    return reader


class Reader:
    """What is known between lines: instructions so far, pending labels, the current section."""

    def __init__(self, file: str, is_llvm: bool) -> None:
        self.file = file
        self.is_llvm = is_llvm
        self.directives = Directives(file)
        self.insns: list[Instruction] = []
        self.places: list[Place] = []  # of each instruction
        self.labels: list[str] = []
        self.slot = 0
        self.first_number: int | None = None
        self.last: Statement | None = None
        self.last_has_bytes = True
        self.symbols: dict[int, tuple[str, int]] = {}  # instruction -> symbol and addend, in LLVM's wide loads
        self.relocations: dict[int, str] = {}
        self.seen_labels: set[str] = set()
        self.in_tables = False
        self.not_shown: list[range] = []  # slots that a verifier log leaves out

    def read(self, lines: Iterable[tuple[int, str]]) -> None:
        for number, raw in lines:
            if not self.is_llvm:
                if self.read_surroundings(number, raw):
                    continue
                part: Statement | None = Statement(raw, number, self.file)
                while part is not None:
                    self.read_line(part)
                    part = part.next_statement()
                continue
            line = Statement(raw, number, self.file, hash_comments=True)
            if self.directives.read(line):
                continue
            for statement in line.parts():
                self.read_line(statement)

    def read_surroundings(self, number: int, raw: str) -> bool:
        """Whether a line belongs to a dump and is no instruction: a header, a symbol, a relocation, bytes."""
        stripped = raw.strip()
        if not stripped or is_prompt(stripped):
            return True
        begins = begins_object(stripped)
        if begins is not None:
            self.in_tables = begins
        elif self.in_tables:
            return True  # symbols and sections, between the object's name and its instructions
        found = header_label(stripped)
        if found is not None:
            if found == "":
                self.first_number = None  # a new section counts from 0 again
            elif is_label_name(found) and found not in self.seen_labels:
                self.labels.append(found)
                self.seen_labels.add(found)
            return True
        name = relocation_of(stripped)
        if name is not None and self.insns:
            self.relocations[len(self.insns) - 1] = name
            return True
        data = as_bytes(stripped)
        if data is None:
            return False
        line = Statement(raw, number, self.file)
        if self.last is not None and self.last.code is not None and not self.last_has_bytes:
            self.insns[-1] = reconcile(self.last, self.insns[-1], data)
            self.last_has_bytes = True
        else:
            for insn in decode_bytes(line, data):
                self.add(line, insn)
        return True

    def read_line(self, line: Statement) -> None:
        before = len(self.labels)
        stated, code = line.read_prefixes(self.labels)
        for name in self.labels[before:]:
            self.directives.set_label(name)
        data = line.read_bytes() if stated is not None else None
        self.last = line
        if line.at_end() and data is None:
            if code is not None or (stated is not None and not self.labels):
                raise line.error("an instruction is missing here", "")
            return
        if stated is not None:
            self.first_number = stated - self.slot if self.first_number is None else self.first_number
            if stated - self.first_number != self.slot:
                expected = self.slot + self.first_number
                raise line.error(f"slot {stated} is written here, but this is slot {expected}; is a line missing?")
        if data is not None and (line.at_end() or line.take("<unknown>")):
            for insn in decode_bytes(line, data):
                self.add(line, insn)
            return
        insn = line.read_instruction(code)
        if line.symbol_used is not None:
            self.symbols[len(self.insns)] = line.symbol_used
        self.add(line, insn if data is None else reconcile(line, insn, data))
        self.last_has_bytes = data is not None

    def add(self, line: Statement, insn: Instruction) -> None:
        self.insns.append(insn.replace(span=line.span(line.start), labels=tuple(self.labels)))
        self.places.append(self.directives.add_code(insn.op.slots * SLOT_SIZE))
        self.labels.clear()
        self.slot += insn.op.slots
        self.last_has_bytes = True

    def finish(self) -> list[Instruction]:
        if self.labels and not self.is_llvm and self.last is not None:
            raise self.last.error(f"label {self.labels[0]!r} stands behind the last instruction")
        known = {name for insn in self.insns for name in insn.labels}
        for index, (name, addend) in self.symbols.items():
            self.insns[index] = self.resolve_symbol(self.insns[index], name, addend, known)
        for index, name in self.relocations.items():
            self.insns[index] = _relocate(self.insns[index], name, known)
        self.resolve_exit(known)
        if self.is_llvm:
            self.insns = [self.as_extern(insn, known) for insn in self.insns]
        _check_labels(self.insns)
        if self.is_llvm:
            self.drop_local_labels()
        return resolve_labels(self.insns)

    def resolve_symbol(self, insn: Instruction, name: str, addend: int, known: set[str]) -> Instruction:
        """What `r1 = NAME ll` loads: a function, a place in a data section, or else a map."""
        if name in known:
            if addend:
                raise AsmError(f"{name!r} is a function: it has no place at {addend:+d}", span=insn.span)
            return insn.replace(op=OPCODES["LDDW_FUNC"], ref=Label(name))
        place = self.directives.symbols.get(name)
        if place is None or place.section in ("maps", ".maps"):
            if addend:
                raise AsmError(f"{name!r} is a map: it has no place at {addend:+d}", span=insn.span)
            return insn.replace(op=OPCODES["LDDW_MAP_FD"], ref=MapRef(name))
        if self.directives.sections[place.section].is_code:
            raise AsmError(f"{name!r} stands behind the last instruction: there is nothing to load", span=insn.span)
        offset = place.offset + addend
        if not 0 <= offset < 1 << 32:
            raise AsmError(f"{name!r}{addend:+d} is outside of {place.section}", span=insn.span)
        return insn.replace(op=OPCODES["LDDW_MAP_VALUE"], ref=MapValueRef(place.section, offset), imm=offset << 32)

    def resolve_exit(self, known: set[str]) -> None:
        """uBPF's `exit` as a jump target is the first exit of the program."""
        wanted = [insn for insn in self.insns if insn.ref == Label("exit")]
        if not wanted or "exit" in known:
            return
        for index, insn in enumerate(self.insns):
            if insn.op.kind is Kind.EXIT:
                self.insns[index] = insn.replace(labels=(*insn.labels, "exit"))
                return

    def as_extern(self, insn: Instruction, known: set[str]) -> Instruction:
        """A call of a name that compiler output does not set is one of a kernel function."""
        ref = insn.ref
        if insn.op.name == "CALL_LOCAL" and isinstance(ref, Label) and ref.name not in known:
            return Instruction(OPCODES["CALL_KFUNC"], ref=KfuncRef(ref.name), span=insn.span, labels=insn.labels)
        return insn

    def drop_local_labels(self) -> None:
        """Labels that the compiler made for debug information say nothing."""
        used = {insn.ref.name for insn in self.insns if isinstance(insn.ref, Label)}
        for index, insn in enumerate(self.insns):
            kept = tuple(name for name in insn.labels if not name.startswith(".L") or name in used)
            if kept != insn.labels:
                self.insns[index] = insn.replace(labels=kept)


def _relocate(insn: Instruction, name: str, known: set[str]) -> Instruction:
    """An instruction of `llvm-objdump -dr` with the symbol that its relocation names."""
    if insn.op.kind is Kind.CALL:
        if name in known:
            return insn.replace(op=OPCODES["CALL_LOCAL"], imm=0, ref=Label(name))
        if name.startswith("."):
            return insn
        return insn.replace(ref=FuncRef(name) if insn.op.name == "CALL_LOCAL" else insn.ref)
    if insn.op.name != "LDDW":
        return insn
    if name in known:
        return insn.replace(op=OPCODES["LDDW_FUNC"], imm=0, ref=Label(name))
    if name.startswith("."):
        offset = insn.imm & 0xFFFF_FFFF
        return insn.replace(op=OPCODES["LDDW_MAP_VALUE"], imm=offset << 32, ref=MapValueRef(name, offset))
    return insn.replace(op=OPCODES["LDDW_MAP_FD"], imm=0, ref=MapRef(name))


def _check_labels(insns: list[Instruction]) -> None:
    known = label_slots(insns)
    for insn in insns:
        if isinstance(insn.ref, Label) and insn.ref.name not in known:
            candidates = [*known, *helper_numbers()] if insn.op.kind is Kind.CALL else [*known]
            close = difflib.get_close_matches(insn.ref.name, candidates, 1)
            mend = f"did you mean {close[0]!r}?" if close else f"set it with a line `{insn.ref.name}:`"
            raise AsmError(f"label {insn.ref.name!r} is not set in this program; {mend}", span=insn.span)
