"""`ebpfkit verify`: the kernel's verdict without a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfkit.cli.status import print_json, worst_verdict

if TYPE_CHECKING:
    from ebpfkit.elf.model import ProgramSpec
    from ebpfkit.verifier.report import ProgramReport


@click.command(name="verify", short_help="Predict the kernel's verdict without a kernel.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prog", "names", multiple=True, metavar="NAME", help="Only this program (may be repeated).")
@click.option(
    "--kernel", metavar="V", help="Kernel version to judge for, such as 6.6 (default 6.18; 'current': this one)."
)
@click.option(
    "--btf",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Types of the kernel to judge for (BTF or vmlinux file): CO-RE relocations and its structures need them.",
)
@click.option(
    "--max-insns", type=click.IntRange(1), default=1_000_000, show_default=True, help="Budget of instructions walked."
)
@click.option("--json", "as_json", is_flag=True, help="Print a list of verdicts as JSON.")
@click.option(
    "--coverage",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, _, wanted: _print_coverage(context) if wanted else None,
    help="Print what has no model yet, and nothing else.",
)
def command(
    file: Path, names: tuple[str, ...], kernel: str | None, btf: Path | None, max_insns: int, as_json: bool
) -> int:
    """Verify the programs of FILE as the kernel would, with the reason at the author's line.

    Exit status 0: all accepted; 1: one is rejected; 4: one uses what is not modelled yet, and none is rejected.
    """
    from ebpfkit import pipeline

    profile = pipeline.profile_for(kernel)
    if btf is None and kernel == "current":
        btf = Path(pipeline.RUNNING_BTF)
    source = pipeline.open_source(file, kernel=None if kernel is None else profile.kernel, btf=btf)
    from ebpfkit.verifier import verify_program

    specs = source.select(names)
    kernel_btf = pipeline.open_kernel_btf(btf)
    reports = [verify_program(spec, profile, max_insns=max_insns, kernel_btf=kernel_btf) for spec in specs]
    problems = {} if names else dict(source.object.problems)
    for name in source.object.needs_target & problems.keys():
        problems[name] += " with --btf FILE, or judge for this machine's kernel with --kernel current"
    if as_json:
        print_json(
            [to_json(report) for report in reports] + [_problem(name, why, profile) for name, why in problems.items()]
        )
    else:
        for report, spec in zip(reports, specs, strict=True):
            click.echo(render(report, spec))
        for name, why in problems.items():
            click.echo(f"{name}: unsupported: {why}")
    return worst_verdict([report.verdict for report in reports] + ["unsupported"] * len(problems))


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
    from ebpfkit.diag.render_text import render_text
    from ebpfkit.pipeline import diagnose

    head = f"{report.name} ({report.section}): {report.verdict} on Linux {report.kernel} ({report.basis})"
    walked = f"{report.insns_processed} instructions walked in {report.seconds * 1000:.1f} ms"
    if report.verdict == "accept":
        return f"{head}, {walked}"
    return f"{head}, {walked}\n{render_text(diagnose(report, spec))}"
