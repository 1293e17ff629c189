"""A verifier log as a program: the log follows paths, so that instructions come out of order and again and again.

What dumps have around instructions is `listing`'s; what the verdict in a log means is `diag/`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ebpfkit.errors import AsmError
from ebpfkit.span import Span

__all__ = ["LogProgram", "program_of_log"]

_INSN = re.compile(r"\s*(\d{1,9}): (?:[.0-9]{10,11} )?(\([0-9a-f]{2}\) .*)$", re.ASCII)
_MARK = re.compile(
    r"\s*(?:processed \d+ insns|Verifier analysis:|func#\d+ @\d+|Live regs before insn:"
    r"|\d+: (?:frame\d+: )?R\d+=|from \d+ to \d+:|last_idx \d+ first_idx|mark_precise:"
    r"|(?:libbpf: .*)?-- (?:BEGIN|END) PROG LOAD LOG --)",
    re.ASCII,
)
_STATE = re.compile(r"\s+;\s*((?:frame\d+: )?(?:R\d+(?:_\w+)?=|fp-?\d+(?:_\w+)?=|refs=).*)$", re.ASCII)
_TARGET = re.compile(r"(?:goto|gotol|call) pc([+-]\d{1,9})", re.ASCII)
_MAP = re.compile(r"=map_(ptr|value)\(map=([A-Za-z_.$][\w.$]*)[,)](?:[^()]*?\boff=(\d{1,9}))?", re.ASCII)
_LEAVES = re.compile(r"\((?:95|05|06|0d)\)")
_NO_VERDICT = re.compile(r"\s*(?:processed \d|verification time|stack depth|;|$)")
_MAX_UNSEEN = 1 << 16  # slots that are not shown
_STAND_IN = "(05) goto pc-1"  # what the kernel itself puts in the place of code that is never reached


class LogProgram(NamedTuple):
    """Lines in program order with their numbers, and the slots that the log does not show."""

    lines: list[tuple[int, str]]
    gaps: list[range]


def program_of_log(lines: Sequence[str], file: str) -> LogProgram | None:
    """The instructions of a verifier log in program order; None for other text.

    What the verifier never reached is not in a log without its table of live registers: `goto pc-1` stands there, as
    the kernel puts it in the place of dead code, under a label `not_shown_N`. A wide load of a map has the map's name
    where the log tells it. Raises AsmError where a log shows two instructions at one slot, or ends before the program.
    """
    if not any(_MARK.match(line) for line in lines):
        return None
    found: dict[int, tuple[int, str]] = {}
    maps: dict[int, str] = {}
    for number, raw in enumerate(lines, 1):
        shown = _INSN.match(raw)
        if not shown:
            continue
        slot, text = int(shown[1]), shown[2].rstrip()
        state = _STATE.search(text)
        if state:
            text = text[: state.start()].rstrip()
        known = found.setdefault(slot, (number, text))
        if known[1] != text:
            message = f"slot {slot} is {known[1]!r} in line {known[0]} and {text!r} here: paste the log of one program"
            raise AsmError(message, span=Span(file, number, 1, text=raw))
        if state and text.startswith("(18)"):
            maps.setdefault(slot, state[1])
    if not found:
        raise AsmError("this verifier log shows no instruction; ask for one of level 2", span=Span(file, 1, 1))
    return _in_order(found, maps, lines, file)


def _in_order(
    found: Mapping[int, tuple[int, str]], maps: Mapping[int, str], lines: Sequence[str], file: str
) -> LogProgram:
    program: list[tuple[int, str]] = []
    gaps: list[range] = []
    expected = furthest = 0
    for slot in sorted(found):
        number, text = found[slot]
        if slot > expected:
            gap = range(expected, slot)
            if len(gap) + sum(len(other) for other in gaps) > _MAX_UNSEEN:
                message = (
                    f"slots {gap.start} to {gap.stop - 1} are not in this log, which shows too little of the program"
                )
                raise AsmError(message, span=Span(file, number, 1, text=lines[number - 1]))
            gaps.append(gap)
            program += [(number, f"not_shown_{gap.start}: {_STAND_IN}")]
            program += [(number, _STAND_IN)] * (len(gap) - 1)
        program.append((number, f"{slot}: {_with_map(text, maps.get(slot, ''))}"))
        expected = slot + (2 if text.startswith("(18)") else 1)
        target = _TARGET.search(text)
        reach = [slot + 1 + int(target[1])] if target else []
        furthest = max(furthest, *reach, 0 if _LEAVES.match(text) else expected)
    if furthest >= expected:
        raise _cut_off(expected, max(found), found, lines, file)
    return LogProgram(program, gaps)


def _cut_off(slot: int, last: int, found: Mapping[int, tuple[int, str]], lines: Sequence[str], file: str) -> AsmError:
    """The program goes on behind what the log shows: mostly it was rejected there."""
    latest = max(number for number, raw in enumerate(lines, 1) if _INSN.match(raw))
    verdict = next((raw.strip() for raw in lines[latest:] if not _NO_VERDICT.match(raw)), "")
    why = f", whose walk ended with {verdict!r}" if verdict else ""
    return AsmError(
        f"slot {slot} is not in this log{why}: what the program has from there on is not shown; "
        "take a log of level 2 from Linux 6.16 or later, `bpftool prog dump xlated` or `llvm-objdump -d`",
        span=Span(file, found[last][0], 1, text=lines[found[last][0] - 1]),
    )


def _with_map(text: str, state: str) -> str:
    """A wide load whose number is an address of the kernel's: by the name of the map, if its state tells it."""
    found = _MAP.search(state)
    if not found:
        return text
    register = text[5:].split(" ", 1)[0]
    place = f"[0]+{found[3] or 0}" if found[1] == "value" else ""
    return f"(18) {register} = map[{found[2]}]{place} ll"
