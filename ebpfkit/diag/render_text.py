"""A diagnosis as text for people: plain with carets, in colour through rich, and in the layout of Linux 7.3."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from ebpfkit.diag.explain import Diagnosis
from ebpfkit.span import Span

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["render_kernel_layout", "render_rich", "render_text", "terminal_width"]

_KERNEL_WIDTH = 100
_CATEGORIES = {
    "memory-safety": "Memory Safety",
    "register-type-safety": "Register Type Safety",
    "call-type-safety": "Call Type Safety",
    "resource-lifetime": "Resource Lifetime Safety",
    "execution-context": "Execution Context Safety",
    "program-structure": "Program Structure",
    "policy": "Policy",
    "verifier-limit": "Verifier Limit",
    "unsupported": "Verifier Internal Error",
}


def _wrap(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=f"  {label}", subsequent_indent=" " * (len(label) + 2),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def terminal_width() -> int:
    """Columns to wrap text to: what the terminal has, within reason; 100 where there is none."""
    if not sys.stdout.isatty():
        return 100
    return min(120, max(60, shutil.get_terminal_size().columns))


def _place(diagnosis: Diagnosis) -> str:
    parts = [str(diagnosis.span)] if diagnosis.span and diagnosis.span.file else []
    if diagnosis.program:
        parts.append(f"program {diagnosis.program}")
    if diagnosis.insn is not None:
        parts.append(f"instruction {diagnosis.insn}")
    return ", ".join(parts)


def render_text(diagnosis: Diagnosis, *, width: int = 100) -> str:
    """The diagnosis as plain text, wrapped to `width` columns; source lines and assembly are never wrapped."""
    lines = [f"error[{diagnosis.rule.id}]: {diagnosis.rule.title}"]
    if place := _place(diagnosis):
        lines.append(f"  --> {place}")
    if diagnosis.span is not None and (caret := diagnosis.span.caret()):
        lines.append(caret)
    if diagnosis.instruction:
        label = f"{diagnosis.insn}: " if diagnosis.insn is not None else ""
        lines.append(f"  {label}{diagnosis.instruction}")
    lines += [f"      {name} = {state}" for name, state in diagnosis.registers.items()]
    if diagnosis.what != diagnosis.rule.title:
        lines += _wrap("what: ", diagnosis.what, width)
    lines += _wrap("why:  ", diagnosis.why, width)
    if diagnosis.path:
        lines.append("  how it came about:")
        for step in diagnosis.path:
            lines += _step_lines(step.insn, step.text, step.span, step.note, width)
    lines += _wrap("write instead: ", diagnosis.mend, width)
    if diagnosis.message:
        whose = f"kernel {diagnosis.kernel}".rstrip() if diagnosis.origin == "kernel" else "in the kernel's words"
        words = f"  {whose}: {diagnosis.message}"
        lines += [words] if len(words) <= width else [f"  {whose}:", f"    {diagnosis.message}"]
    return "\n".join(lines)


def _step_lines(insn: int, text: str, span: Span | None, note: str, width: int) -> list[str]:
    """One step; its place goes to a line of its own where there is no room."""
    whole = f"    {_step(insn, text, span, note)}"
    if len(whole) <= width or span is None:
        return [whole]
    return [f"    {_step(insn, text, None, note)}", f"        ({span})"]


def _step(insn: int, text: str, span: Span | None, note: str) -> str:
    place = f"   ({span})" if span is not None else ""
    state = f"   ; {note}" if note else ""
    return f"{insn}: {text}{state}{place}"


def render_rich(diagnosis: Diagnosis, *, width: int = 100) -> Text:
    """The same text in colour, as a rich Text; raises ImportError without rich."""
    from rich.text import Text

    result = Text()
    for number, line in enumerate(render_text(diagnosis, width=width).splitlines()):
        bare = line.strip()
        if number == 0:
            style = "bold red"
        elif bare.startswith("-->"):
            style = "cyan"
        elif set(bare) == {"^"}:
            style = "bold red"
        elif bare.startswith("write instead:"):
            style = "green"
        else:
            style = ""
        result.append(line + "\n", style=style or None)
    return result


def render_kernel_layout(diagnosis: Diagnosis) -> str:
    """The diagnosis in the sections that Linux 7.3 prints behind its classic message, for any target version."""
    category = _CATEGORIES[diagnosis.rule.category]
    title = diagnosis.rule.title[:1].upper() + diagnosis.rule.title[1:]

    def section(text: str) -> list[str]:
        return textwrap.wrap(text, _KERNEL_WIDTH, initial_indent="  ", subsequent_indent="  ")

    lines = [diagnosis.message, "", f"Verification failed: {category}: {title}", "", "Reason:"]
    lines += section(f"{diagnosis.what}.")
    lines += ["", "At:"]
    span = diagnosis.span
    if span is not None and span.file:
        lines.append(f"  {span.function or diagnosis.program or 'main'} @ {span}")
    elif diagnosis.insn is not None:
        lines.append(f"  insn {diagnosis.insn}")
    if span is not None and span.text:
        column = max(span.column - 1, 0)
        text = span.text.rstrip("\n").replace("\t", " ")
        number = str(span.line)
        lines += ["  Source context:", f"  >>> {number} | {text}"]
        lines.append(f"  {' ' * (len(number) + 4)} | {' ' * column}^-- error: {diagnosis.message}")
    if diagnosis.instruction:
        lines += ["  Instruction context:", f"  >>> {diagnosis.insn} | {diagnosis.instruction}"]
    lines += ["", "Causal path:"]
    lines += [f"  {_step(step.insn, step.text, step.span, step.note)}" for step in diagnosis.path] or [
        "  no retained diagnostic events on this path"
    ]
    lines += ["", "Suggestion:", *section(diagnosis.mend)]
    return "\n".join(lines)
