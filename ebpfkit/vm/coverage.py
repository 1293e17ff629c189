"""Which source lines of a program ran, and how often.

A line counts as often as the most executed instruction that came from it. Instructions without a source line are
counted under their slot. What calls `record` decides what is run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from ebpfkit.asm.codec import slot_starts
from ebpfkit.asm.insn import Instruction
from ebpfkit.elf.model import ProgramSpec

__all__ = ["Coverage", "Line"]


class Executed(Protocol):
    """An instruction of a run: a step of `Machine.run`, an entry of a trace."""

    @property
    def slot(self) -> int: ...

    @property
    def instruction(self) -> Instruction: ...


class Line(NamedTuple):
    """A source line of a program: where, its text when it is known, how often it ran, from how many instructions."""

    file: str
    line: int
    text: str
    hits: int
    insns: int


_Key = tuple[int, str, int]  # slot, file and line: what an instruction keeps when its labels are resolved


def _key(slot: int, insn: Instruction) -> _Key:
    span = insn.span
    return (slot, span.file, span.line) if span is not None else (slot, "", 0)


class Coverage:
    """Counts of a program and its subprograms; `record` is a `trace` for `Machine.run`.

    >>> from ebpfkit.asm.parser import parse
    >>> from ebpfkit.elf.raw import program_from_code
    >>> from ebpfkit.vm.machine import Machine
    >>> spec = program_from_code(parse("r0 = 0\\nif r2 == 0 goto out\\nr0 = 1\\nout: exit", file="p.s"), prog_type=None)
    >>> coverage = Coverage([spec])
    >>> _ = Machine(spec).run(b"", trace=coverage.record)
    >>> [(line.line, line.hits) for line in coverage.lines]
    [(1, 1), (2, 1), (3, 0), (4, 1)]
    >>> round(coverage.percent)
    75
    """

    def __init__(self, specs: Iterable[ProgramSpec]) -> None:
        self.programs = list(specs)
        self.counts: Counter[_Key] = Counter()
        self._names: dict[_Key, tuple[str, int, str]] = {}
        for spec in self.programs:
            for slot, insn in zip(slot_starts(spec.instructions), spec.instructions, strict=True):
                span = insn.span
                place = (span.file, span.line, span.text or "") if span else (f"<{spec.name}>", slot, "")
                self._names[_key(slot, insn)] = place
        self._by_place = {(file, line): text for file, line, text in self._names.values()}

    def record(self, step: Executed) -> None:
        """Count an instruction that is about to be executed."""
        self.counts[_key(step.slot, step.instruction)] += 1

    @property
    def lines(self) -> list[Line]:
        """Every line of the programs, in order."""
        hits: Counter[tuple[str, int]] = Counter()
        insns: Counter[tuple[str, int]] = Counter()
        for key, (file, line, _) in self._names.items():
            insns[file, line] += 1
            hits[file, line] = max(hits[file, line], self.counts[key])
        return [
            Line(file, line, self._by_place[file, line], hits[file, line], insns[file, line])
            for file, line in sorted(self._by_place)
        ]

    @property
    def missed(self) -> list[Line]:
        """The lines that never ran."""
        return [line for line in self.lines if not line.hits]

    @property
    def percent(self) -> float:
        """Which part of the lines ran, in percent; 100 for a program without any."""
        lines = self.lines
        return 100 * sum(line.hits > 0 for line in lines) / len(lines) if lines else 100.0

    def __str__(self) -> str:
        shown: list[str] = []
        file = None
        for line in self.lines:
            if line.file != file:
                file = line.file
                shown.append(f"{file}:")
            mark = f"{line.hits:>9}" if line.hits else "    -----"
            shown.append(f"{mark}  {line.line:>5}  {line.text.rstrip()}".rstrip())
        ran = sum(line.hits > 0 for line in self.lines)
        return "\n".join([*shown, f"{ran} of {len(self.lines)} lines ran ({self.percent:.0f}%)"])
