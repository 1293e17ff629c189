"""Reading the text of the kernel's verifier: what it refused, where, in which state, and how much it walked.

Understands log levels 1 and 2, with or without statistics, of kernels from 4.14 on, and the layout of 7.3, which adds
sections (Reason, At, Causal path, Suggestion) behind the classic message. Bytes that are no log give an empty
`KernelLog`, never an exception. What the message means is in `messages`, what to do about it in `explain`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ebpfkit.diag.messages import classify
from ebpfkit.span import Span

__all__ = ["KernelLog", "StructuredReport", "TraceStep", "parse_kernel_log", "parse_registers"]

_INSN = re.compile(r"^(?P<index>\d+): \((?P<code>[0-9a-f]{2})\) (?P<text>.*)$")
_STATE = re.compile(r"^(?P<index>\d+):(?: (?:safe|frame\d+:|R\d+|fp-|refs=|cb|\w+=).*)?\s*$")
_FROM = re.compile(r"^from (?P<index>\d+) to (?P<target>\d+)(?: \(speculative execution\))?:(?P<state>.*)$")
_SOURCE = re.compile(r"^; ?(?P<text>.*?)(?: @ (?P<file>[^\s@]+):(?P<line>\d+))?$")
_SUMMARY = re.compile(
    r"processed (?P<processed>\d+) insns(?: \(limit (?P<limit>\d+)\))?(?:, stack depth (?P<stack>[\d+]+))?"
    r"(?: max_states_per_insn (?P<max_states_per_insn>\d+) total_states (?P<total_states>\d+)"
    r" peak_states (?P<peak_states>\d+) mark_read (?P<mark_read>\d+))?"
)
_TIME = re.compile(r"^verification time (?P<usec>\d+) usec")
_STACK = re.compile(r"^stack depth (?P<depth>[\d+]+)")
# Lines that comment on the walk and are never the message.
_NOISE = re.compile(
    r"^(?:func#\d+ @\d+|Live regs before insn:|\s*\d+: [.\d]{10} \(|mark_precise: |regs=|parent (?:already|didn't)"
    r"|last_idx |first_idx |propagating |caller:|callee:|returning from callee:|to caller at|(?:from|to) frame"
    r"|(?:from|to) callback|\s*frame\d+: |Validating \S+\(\) func#\d+|stack use/def|update |subprog#\d+"
    r"|Func#\d+ \('.*'\) is (?:safe|global and assumed valid)|cur state:|old state:|\(truncated\)|parent state|\s*[|^])"
)
# A jump whose line was printed without its end: what follows belongs to the next line.
_UNFINISHED = re.compile(r"^(\d+: \([0-9a-f]{2}\) .*?\bgoto pc[+-]\d+) (?!\s*;)(\S.*)$")
_TOKEN = re.compile(r"(?P<name>R\d+|fp-\d+|refs|cb)(?:_(?P<mark>[rwP]+))?=")
_FAILED = re.compile(r"^Verification failed: (?P<category>[^:]+): (?P<problem>.+)$")
_HEADING = re.compile(r"^(?P<name>Reason|At|Causal path|Suggestion):\s*(?P<rest>.*)$")
# How many printed states are looked back on for the value of a register: a walk may print millions.
_REMEMBERED = 4096
_PLACE = re.compile(r"(?P<function>\S+) @ (?P<file>[^\s@]+):(?P<line>\d+)(?::(?P<column>\d+))?")
_AT_INSN = re.compile(r"^\s*insn (?P<index>\d+)\b|^\s*>>>\s*(?P<marked>\d+) \|")


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One instruction of the walk as printed: slot index, text, source place, and the registers printed behind it."""

    insn: int
    text: str
    span: Span | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class StructuredReport:
    """The sections that Linux 7.3 and later put behind the classic message."""

    category: str
    problem: str
    reason: str = ""
    at: str = ""
    causal_path: tuple[str, ...] = ()
    suggestion: str = ""


@dataclass(frozen=True, slots=True)
class KernelLog:
    """What a verifier's log says.

    `message` is the line that names the problem ("": none, as for accepted programs), `details` the other lines of the
    same complaint. `rule` is an identifier of `rules`, `values` what the message's template found in it. `insn` is the
    slot index, `text` that instruction as printed, `registers` the last known state, by name ("R1", "fp-8"). Counts are
    None where the log does not say. `steps` is the walk as far as it was printed.
    """

    message: str = ""
    rule: str = ""
    details: tuple[str, ...] = ()
    insn: int | None = None
    text: str = ""
    span: Span | None = None
    registers: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    processed: int | None = None
    limit: int | None = None
    max_states_per_insn: int | None = None
    total_states: int | None = None
    peak_states: int | None = None
    mark_read: int | None = None
    seconds: float | None = None
    stack_depth: tuple[int, ...] = ()
    steps: tuple[TraceStep, ...] = ()
    structured: StructuredReport | None = None

    @property
    def complete(self) -> bool:
        """Whether the end of the log is there (a log buffer that was too small cuts it)."""
        return self.processed is not None


class _Reader:
    """Collects what the lines say, in order."""

    def __init__(self) -> None:
        self.steps: list[TraceStep] = []
        self.block: list[str] = []  # lines since the last instruction that may be the message
        self.states: deque[str] = deque(maxlen=_REMEMBERED)  # printed states since the last whole one
        self.source: Span | None = None
        self.counts: dict[str, int] = {}
        self.seconds: float | None = None
        self.stack_depth: tuple[int, ...] = ()
        self.sections: dict[str, list[str]] = {}
        self.failed: tuple[str, str] | None = None
        self.section = ""

    def read(self, line: str) -> None:
        if self.failed is not None and self._read_section(line):
            return
        if match := _INSN.match(line):
            self._instruction(match)
        elif match := _FROM.match(line):
            self.states.clear()
            self.states.append(match["state"])
            self.block.clear()
        elif match := _FAILED.match(line):
            self.failed = (match["category"], match["problem"])
        elif match := _SUMMARY.match(line):
            self.counts = {key: int(value) for key, value in match.groupdict().items() if value and value.isdecimal()}
        elif match := _TIME.match(line):
            self.seconds = int(match["usec"]) / 1e6
        elif (match := _STACK.match(line)) and "exceeds" not in line:
            self.stack_depth = tuple(int(part) for part in match["depth"].split("+") if part)
        elif line.startswith(";"):
            self._source(line)
        elif _STATE.match(line):
            self.states.append(line)
        elif line.strip() and not _NOISE.match(line):
            self.block.append(line.rstrip())

    def _instruction(self, match: re.Match[str]) -> None:
        text, _, state = match["text"].partition(" ; ")
        if not state and text.endswith(" ;"):
            text = text[:-2]
        if state:
            self.states.append(state)
        self.steps.append(TraceStep(int(match["index"]), text.rstrip(), self.source, state.strip()))
        self.block.clear()

    def registers(self) -> dict[str, str]:
        """The last known value of everything printed."""
        found: dict[str, str] = {}
        for state in self.states:
            found.update(parse_registers(state))
        return found

    def _source(self, line: str) -> None:
        match = _SOURCE.match(line)
        if match is None or not match["text"].strip():
            return
        # Old kernels print the source text without its place.
        file, number = (match["file"], int(match["line"])) if match["file"] else ("", 0)
        self.source = Span(file, number, text=match["text"])

    def _read_section(self, line: str) -> bool:
        """Lines behind "Verification failed"; False for the summary, which ends them."""
        if _SUMMARY.match(line):
            return False
        if match := _HEADING.match(line):
            self.section = match["name"]
            self.sections.setdefault(self.section, []).extend([match["rest"]] if match["rest"] else [])
        elif self.section:
            self.sections[self.section].append(line)
        return True


def _lines(log: str) -> Iterator[str]:
    """The lines of a log, with those parted that the kernel prints without a line end."""
    for line in log.replace("\0", "").splitlines():
        if (at := line.find("processed ")) > 0 and _SUMMARY.match(line, at):
            yield from (line[:at].rstrip(), line[at:])
            continue
        while "goto pc" in line and (match := _UNFINISHED.match(line)):
            yield match[1]
            line = match[2]
        yield line


def parse_registers(text: str) -> dict[str, str]:
    """Registers and stack slots of a printed state: name to value, marks of liveness left out.

    >>> parse_registers("R1=ctx() R2_w=scalar(umax=255,var_off=(0x0; 0xff)) fp-8=mmmmmmmm")
    {'R1': 'ctx()', 'R2': 'scalar(umax=255,var_off=(0x0; 0xff))', 'fp-8': 'mmmmmmmm'}
    """
    found: dict[str, str] = {}
    at = 0
    while match := _TOKEN.search(text, at):
        end, depth = match.end(), 0
        while end < len(text) and (depth > 0 or not text[end].isspace()):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found[match["name"]] = text[match.end() : end]
        at = max(end, match.end())
    return found


def _choose(block: list[str]) -> tuple[str, str, Mapping[str, str]]:
    """The line of a complaint that names the problem, with its rule; the last line when none is known."""
    for line in block:
        if (known := classify(line.strip())) is not None:
            return line.strip(), known[0], known[1]
    return (block[-1].strip(), "other", {}) if block else ("", "", {})


def _structured(reader: _Reader) -> StructuredReport | None:
    if reader.failed is None:
        return None

    def text(name: str) -> str:
        return " ".join(line.strip() for line in reader.sections.get(name, []) if line.strip())

    at = "\n".join(line.rstrip() for line in reader.sections.get("At", [])).strip("\n")
    path = tuple(line.strip() for line in reader.sections.get("Causal path", []) if line.strip())
    return StructuredReport(*reader.failed, text("Reason"), at, path, text("Suggestion"))


def _place(report: StructuredReport | None) -> tuple[Span | None, int | None]:
    """The source place and the slot that the At section names."""
    if report is None:
        return None, None
    span: Span | None = None
    index: int | None = None
    inside = False  # the source context marks its line in the same way
    for line in report.at.splitlines():
        if span is None and (match := _PLACE.search(line)):
            span = Span(match["file"], int(match["line"]), int(match["column"] or 0), function=match["function"])
        inside = inside or line.strip() == "Instruction context:"
        if index is None and (match := _AT_INSN.match(line)) and (inside or match["index"]):
            index = int(match["index"] or match["marked"])
    return span, index


def parse_kernel_log(log: str, *, rejected: bool | None = None) -> KernelLog:
    """What a verifier's log says; `rejected` says how the load ended, where the caller knows.

    A refusal without a message (a log buffer that was too small also ends the load) has the rule "other".
    """
    reader = _Reader()
    for line in _lines(log):
        reader.read(line)
    message, rule, values = _choose(reader.block)
    report = _structured(reader)
    if not message and report is not None:
        message, rule = f"{report.category}: {report.problem}", "other"
    processed = reader.counts.get("processed")
    if not message and rejected:
        message, rule = "the kernel refused the program without saying why", "other"
    accepted = rejected is False or (rejected is None and not message)
    place, insn = _place(report)
    span, text = place, ""
    if not accepted:
        if "index" in values and rule != "reference-leak":
            insn = int(values["index"])
        elif insn is None and reader.steps and processed != 0 and rule not in ("stack-depth", "too-complex"):
            insn = reader.steps[-1].insn
        step = next((step for step in reversed(reader.steps) if step.insn == insn), None)
        if step is not None:
            text, span = step.text, place or (step.span if step.span and step.span.file else None)
    return KernelLog(
        message="" if accepted else message,
        rule="" if accepted else rule,
        details=() if accepted else tuple(line.strip() for line in reader.block if line.strip() != message),
        insn=None if accepted else insn,
        text=text,
        span=span,
        registers=reader.registers(),
        values={} if accepted else values,
        processed=processed,
        limit=reader.counts.get("limit"),
        max_states_per_insn=reader.counts.get("max_states_per_insn"),
        total_states=reader.counts.get("total_states"),
        peak_states=reader.counts.get("peak_states"),
        mark_read=reader.counts.get("mark_read"),
        seconds=reader.seconds,
        stack_depth=reader.stack_depth,
        steps=tuple(reader.steps),
        structured=report,
    )
