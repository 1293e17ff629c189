"""What a verification says to its caller: `ProgramReport` for one program, `Report` for several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ebpfkit.errors import VerifierError
from ebpfkit.span import Span

if TYPE_CHECKING:
    from ebpfkit.diag.explain import PathStep

__all__ = ["ProgramReport", "Report"]


@dataclass(frozen=True, slots=True)
class ProgramReport:
    """The verdict on one program for one kernel.

    `verdict` is "accept", "reject" or "unsupported"; `basis` "measured" or "documented". For a rejection `rule` names
    the broken rule (see `ebpfkit.diag.rules`), `message` is in the kernel's wording, `insn` the 8-byte slot and `span`
    the author's place; `register` and `state` say which register mattered and what it was, in words; `mend` what to
    write instead; `path` the steps that made the register what it was, `walked` the 8-byte slots of the whole path that
    failed, in order (empty when it is very long). For "unsupported", `message` names what is not
    modelled. `seconds` is the time taken.
    """

    name: str
    section: str
    prog_type: str
    kernel: str
    verdict: str
    basis: str
    rule: str = ""
    message: str = ""
    insn: int | None = None
    span: Span | None = None
    register: str = ""
    state: str = ""
    mend: str = ""
    path: tuple[PathStep, ...] = ()
    walked: tuple[int, ...] = ()
    insns_processed: int = 0
    total_states: int = 0
    stack_depth: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.verdict == "accept"

    def to_json(self) -> dict[str, Any]:
        """The object that `ebpfkit verify --json` prints for a program."""
        return {
            "name": self.name,
            "section": self.section,
            "prog_type": self.prog_type,
            "kernel": self.kernel,
            "verdict": self.verdict,
            "basis": self.basis,
            "rule": self.rule,
            "message": self.message,
            "insn": self.insn,
            "file": self.span.file if self.span else None,
            "line": self.span.line if self.span else None,
            "column": self.span.column if self.span else None,
            "insns_processed": self.insns_processed,
            "seconds": self.seconds,
        }

    def to_error(self) -> VerifierError | None:
        """The rejection as an exception, None for any other verdict."""
        if self.verdict != "reject":
            return None
        return VerifierError(self.explain(), rule=self.rule, insn=self.insn, span=self.span, program=self.name)

    def explain(self) -> str:
        """One line: what, where, and what the register held."""
        place = f" at instruction {self.insn}" if self.insn is not None else ""
        held = f" ({self.register} is {self.state})" if self.register and self.state else ""
        return f"{self.message}{place}{held}"

    def __str__(self) -> str:
        if self.verdict == "accept":
            return f"{self.name}: accepted, {self.insns_processed} instructions walked"
        where = f"{self.span}: " if self.span else ""
        advice = f"; {self.mend}" if self.mend else ""
        return f"{where}{self.name}: {self.verdict}: {self.explain()} [{self.rule}]{advice}"


@dataclass(frozen=True, slots=True)
class Report:
    """The verdicts on the programs of one object or call.

    `verdict` is "reject" if any program is rejected, else "unsupported" if any is, else "accept".
    """

    programs: tuple[ProgramReport, ...] = field(default=())

    @property
    def verdict(self) -> str:
        verdicts = {program.verdict for program in self.programs}
        return next((v for v in ("reject", "unsupported") if v in verdicts), "accept")

    @property
    def ok(self) -> bool:
        return self.verdict == "accept"

    @property
    def errors(self) -> tuple[VerifierError, ...]:
        """The rejections, as exceptions that may be raised."""
        return tuple(error for program in self.programs if (error := program.to_error()) is not None)

    @property
    def insns_processed(self) -> int:
        return sum(program.insns_processed for program in self.programs)

    def __iter__(self) -> Iterator[ProgramReport]:
        return iter(self.programs)

    def __str__(self) -> str:
        return "\n".join(str(program) for program in self.programs)
