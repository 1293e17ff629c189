"""`ebpfkit verify`: the kernel's verdict without a kernel."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfkit.cli.status import print_json, worst_verdict, write_output
from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.abi.model import HostProfile
    from ebpfkit.diag.render_html import PageProgram
    from ebpfkit.elf.model import ProgramSpec
    from ebpfkit.pipeline import Source
    from ebpfkit.verifier.report import ProgramReport


@click.command(name="verify", short_help="Predict the kernel's verdict without a kernel.")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--prog", "names", multiple=True, metavar="NAME", help="Only this program (may be repeated).")
@click.option(
    "--kernel",
    metavar="V",
    help="Kernel version to judge for, such as 6.6 (default 6.18; 'current': this one; 'all': every long-term series).",
)
@click.option(
    "--host",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Profile of the machine to judge for, printed there by `ebpfkit probe --json`.",
)
@click.option("--unprivileged", is_flag=True, help="Judge for a user without CAP_BPF.")
@click.option(
    "--btf",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Types of the kernel to judge for (BTF or vmlinux file): CO-RE relocations and its structures need them.",
)
@click.option("--legacy", is_flag=True, help="Read what objects of iproute2, aya and libbpf before 1.0 have.")
@click.option(
    "--max-insns", type=click.IntRange(1), default=1_000_000, show_default=True, help="Budget of instructions walked."
)
@click.option(
    "--jobs", type=click.IntRange(0), default=1, metavar="N", help="Judge with N processes (0: one for each CPU)."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    help="How to print the verdicts; sarif is for code hosts and editors.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of verdicts as JSON.")
@click.option(
    "--log-level",
    type=click.IntRange(0, 2),
    default=0,
    metavar="N",
    help="2: print the walk in the format of the kernel's log, to lay it beside one.",
)
@click.option(
    "--html",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="OUT",
    help="Also write a page with the source, how often each line was walked, and the state at each instruction.",
)
@click.option(
    "--coverage",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, wanted: _print_coverage(context) if wanted else None,
    help="Print what has no model yet, and nothing else.",
)
def command(
    files: tuple[Path, ...],
    names: tuple[str, ...],
    kernel: str | None,
    host: Path | None,
    unprivileged: bool,
    btf: Path | None,
    legacy: bool,
    max_insns: int,
    jobs: int,
    form: str,
    as_json: bool,
    log_level: int,
    html: Path | None,
) -> int:
    """Verify the programs of each FILE as the kernel would, with the reason at the author's line.

    A FILE is Python with decorated functions, an object of any compiler, assembly (.s), or raw instructions (.bin).

    Exit status 0: all accepted; 1: one is rejected; 4: one uses what is not modelled yet, and none is rejected.
    """
    from ebpfkit import pipeline
    from ebpfkit.pipeline.profiles import chosen_profile

    if kernel == "all":
        from ebpfkit.cli.kernel_matrix import print_matrix

        if form == "sarif" or html is not None:
            raise UsageError("--kernel all prints a matrix: as text, or with --json")
        return print_matrix(files, names, host, unprivileged, btf, legacy, max_insns, as_json or form == "json")
    profile = chosen_profile(kernel, host, unprivileged)
    if btf is None and kernel == "current":
        btf = Path(pipeline.RUNNING_BTF)
    specs: list[ProgramSpec] = []
    problems: list[tuple[str, str]] = []
    for file in files:
        target = None if kernel is None else profile.kernel
        source = pipeline.open_source(file, kernel=target, btf=btf, legacy=legacy)
        specs += source.select(names)
        problems += [] if names else _problems_of(source)
    if log_level == 2:
        if as_json or form != "text" or html is not None:
            raise click.UsageError(
                "--log-level 2 prints the log and nothing else; leave --json, --format and --html out"
            )
        return _print_logs(specs, profile, max_insns, btf)
    with _progress(len(specs)) as bar:
        reports = pipeline.verify_specs(
            specs, profile, max_insns=max_insns, btf=btf, jobs=jobs or os.cpu_count() or 1, done=lambda _: bar.update(1)
        )
    if as_json or form == "json":
        rows = [to_json(report) for report in reports] + [_problem(name, why, profile) for name, why in problems]
        print_json(rows)
    elif form == "sarif":
        print_json(_sarif(reports, specs))
    else:
        for report, spec in zip(reports, specs, strict=True):
            click.echo(render(report, spec))
        for name, why in problems:
            click.echo(f"{name}: unsupported: {why}")
    if html is not None:
        _write_page(html, files, [pipeline.page_program(spec, profile, max_insns=max_insns, btf=btf) for spec in specs])
    return worst_verdict([report.verdict for report in reports] + ["unsupported"] * len(problems))


def _print_logs(specs: list[ProgramSpec], profile: HostProfile, max_insns: int, btf: Path | None) -> int:
    """The log of each program, behind its name where there are several."""
    from ebpfkit.pipeline import open_kernel_btf
    from ebpfkit.verifier import verify_program

    types = open_kernel_btf(btf)
    verdicts = []
    for spec in specs:
        if len(specs) > 1:
            click.echo(f"-- {spec.name}")
        report = verify_program(spec, profile, max_insns=max_insns, kernel_btf=types, log=click.echo)
        verdicts.append(report.verdict)
    return worst_verdict(verdicts)


def _problems_of(source: Source) -> list[tuple[str, str]]:
    """Programs that the linker could not finish, with the reason and the way out."""
    found = dict(source.object.problems)
    for name in source.object.needs_target & found.keys():
        found[name] += " with --btf FILE, or judge for this machine's kernel with --kernel current"
    return list(found.items())


def _progress(count: int) -> Any:
    """A bar on a terminal's standard error when there is more than a program to wait for."""
    hidden = count < 2 or not sys.stderr.isatty()
    return click.progressbar(length=count, label="verifying", file=sys.stderr, hidden=hidden)


def _sarif(reports: list[ProgramReport], specs: list[ProgramSpec]) -> dict[str, Any]:
    from importlib.metadata import version

    from ebpfkit.diag.render_sarif import to_sarif
    from ebpfkit.pipeline import diagnose

    pairs = zip(reports, specs, strict=True)
    return to_sarif(
        [diagnose(report, spec) for report, spec in pairs if report.verdict != "accept"],
        tool_version=version("ebpfkit"),
    )


def _write_page(path: Path, files: tuple[Path, ...], programs: list[PageProgram]) -> None:
    from ebpfkit.diag.render_html import to_html

    named = {insn.span.file for program in programs for insn in program.insns if insn.span and insn.span.file}
    sources = {}
    for name in named:
        with contextlib.suppress(OSError):  # the source of an object may be anywhere; its lines are in the BTF too
            sources[name] = Path(name).read_text(errors="replace")
    title = "ebpfkit verify " + " ".join(file.name for file in files)
    write_output(path, to_html(programs, title=title, sources=sources).encode())


def _print_coverage(context: click.Context) -> None:
    from ebpfkit.verifier import coverage

    click.echo(coverage.render(coverage.gaps()))
    context.exit()


def to_json(report: ProgramReport) -> dict[str, Any]:
    """The contract of `verify --json`: one object per program; what does not apply is null."""
    return {key: None if value == "" else value for key, value in report.to_json().items()}


def _problem(name: str, why: str, profile: Any) -> dict[str, Any]:
    """A program that the linker could not finish: named, never silently left out."""
    return {
        "name": name, "section": None, "prog_type": None, "kernel": profile.kernel, "verdict": "unsupported",
        "basis": profile.basis, "rule": "unresolved", "message": why, "insn": None, "file": None, "line": None,
        "column": None, "insns_processed": 0, "seconds": 0.0,
    }  # fmt: skip


def render(report: ProgramReport, spec: ProgramSpec) -> str:
    """One program's verdict for a terminal: a line when accepted, the reason and its place when not."""
    from ebpfkit.diag.render_text import render_text, terminal_width
    from ebpfkit.pipeline import diagnose

    head = f"{report.name} ({report.section}): {report.verdict} on Linux {report.kernel} ({report.basis})"
    walked = f"{report.insns_processed} instructions walked in {report.seconds * 1000:.1f} ms"
    if report.verdict == "accept":
        return f"{head}, {walked}"
    return f"{head}, {walked}\n{render_text(diagnose(report, spec), width=terminal_width())}"
