"""`ebpfkit explain`: what a rule means, with a program that breaks it, and what a kernel's log says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfkit.cli.status import print_json
from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.diag.rules import Rule

_MAX_LOG = 64 << 20  # bytes: a level-2 log of a million instructions is about as long


@click.command(name="explain", short_help="Say what a rule of the verifier, or a kernel's log, means.")
@click.argument("rule", required=False)
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path, allow_dash=True),
    help="Explain the text of a kernel's verifier in this file ('-': standard input).",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(rule: str | None, log: Path | None, as_json: bool) -> int:
    """Say what RULE means, with a program that breaks it and the same program mended; without RULE, list all rules.

    With --log: what a kernel refused, where and why. Exit status 1 when the log tells of a rejection.
    """
    if log is not None:
        if rule is not None:
            raise click.UsageError("give RULE or --log, not both")
        return _explain_log(log, as_json)
    from ebpfkit.diag.rules import RULES

    if rule is None:
        _list(list(RULES.values()), as_json)
        return 0
    row = RULES.get(rule)
    if row is None:
        raise UsageError(f"there is no rule {rule!r}{_nearest(rule, list(RULES))}; `ebpfkit explain` lists them all")
    if as_json:
        print_json(to_json(row))
    else:
        click.echo(render(row))
    return 0


def _nearest(rule: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(rule, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _list(rules: list[Rule], as_json: bool) -> None:
    if as_json:
        print_json([to_json(row) for row in rules])
        return
    width = max(len(row.id) for row in rules)
    category = ""
    for row in sorted(rules, key=lambda row: row.category):
        if row.category != category:
            category = row.category
            click.echo(f"{category}:")
        click.echo(f"  {row.id:<{width}}  {row.title}")


def to_json(row: Rule) -> dict[str, Any]:
    """A rule as the object that `explain --json` prints; without an example those keys are null."""
    from ebpfkit.diag.examples import EXAMPLES

    example = EXAMPLES.get(row.id)
    return {
        "rule": row.id,
        "category": row.category,
        "title": row.title,
        "why": row.why,
        "mend": row.mend,
        "mend_python": (example.python or None) if example else None,
        "mend_c": (example.c or None) if example else None,
        "prog_type": example.prog_type if example else None,
        "language": example.language if example else None,
        "failing": example.failing if example else None,
        "mended": example.mended if example else None,
    }


def render(row: Rule) -> str:
    """A rule for a terminal."""
    import textwrap

    from ebpfkit.diag.examples import EXAMPLES

    def paragraph(label: str, text: str) -> str:
        return textwrap.fill(text, 100, initial_indent=label, subsequent_indent=" " * len(label))

    lines = [f"{row.id}: {row.title}  ({row.category})", "", paragraph("why:           ", row.why)]
    lines.append(paragraph("write instead: ", row.mend))
    example = EXAMPLES.get(row.id)
    if example is None:
        return "\n".join(lines)
    if example.python:
        lines.append(paragraph("  in Python:   ", example.python))
    if example.c:
        lines.append(paragraph("  in C:        ", example.c))
    kind = example.prog_type + (f", licence {example.license}" if example.license != "GPL" else "")
    kind += ", loaded with strict alignment" if example.strict_alignment else ""
    for title, text in ((f"refused ({kind}):", example.failing), ("accepted:", example.mended)):
        lines += ["", title, *(f"    {line}" for line in text.splitlines() or ["(no instructions)"])]
    return "\n".join(lines)


def _explain_log(path: Path, as_json: bool) -> int:
    from ebpfkit.diag.explain import explain_kernel_log
    from ebpfkit.diag.kernel_log import parse_kernel_log
    from ebpfkit.diag.render_json import to_json as diagnosis_to_json
    from ebpfkit.diag.render_text import render_text, terminal_width

    text = _read(path)
    log = parse_kernel_log(text)
    if log.processed is None and not log.steps and log.rule in ("", "other"):
        raise UsageError(f"{path}: this is no log of a kernel's verifier")
    if not log.message:
        verdict = {"verdict": "accept", "insns_processed": log.processed}
        if as_json:
            print_json(verdict)
        else:
            click.echo(f"the log tells of no rejection; {log.processed} instructions walked")
        return 0
    diagnosis = explain_kernel_log(log)
    if as_json:
        print_json(diagnosis_to_json(diagnosis))
    else:
        click.echo(render_text(diagnosis, width=terminal_width()))
    return 1


def _read(path: Path) -> str:
    """The log, from a file or standard input; UsageError when it cannot be read or is far too long for one."""
    try:
        data = sys.stdin.buffer.read(_MAX_LOG + 1) if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    if len(data) > _MAX_LOG:
        raise UsageError(f"{path}: longer than {_MAX_LOG >> 20} MB, which no verifier's log is")
    return data.decode(errors="replace")
