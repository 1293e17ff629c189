"""`ebpfkit doctor`: what stands in the way of XDP and AF_XDP here, why, and what mends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ebpfkit.cli.status import ACCEPTED, REJECTED, print_json

if TYPE_CHECKING:
    from ebpfkit.host.findings import Finding

_MARKS = {"pass": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


@click.command(name="doctor", short_help="Check host and device for XDP and AF_XDP, and say what mends what.")
@click.argument("dev", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--fix", is_flag=True, help="Apply the fixes that are safe, after showing and asking.")
@click.option("--yes", "-y", is_flag=True, help="With --fix: do not ask.")
@click.option("--all", "show_all", is_flag=True, help="Explain what is well, too.")
def command(dev: str | None, as_json: bool, fix: bool, yes: bool, show_all: bool) -> int:
    """Without DEV: kernel, rights, settings. With DEV: also driver, queues, MTU, offloads, what is attached.

    The status is 1 when a check failed. A fix that could lose packets or cut a connection is only shown.
    """
    from ebpfkit.host.doctor import examine

    findings = examine(dev)
    applied: list[str] = []
    if fix:
        applied = _apply(findings, ask=not yes, quiet=as_json)
        findings = examine(dev) if applied else findings
    if as_json:
        print_json({"device": dev, "findings": [finding.to_json() for finding in findings], "applied": applied})
    else:
        _show(findings, show_all=show_all)
    return REJECTED if any(finding.status == "fail" for finding in findings) else ACCEPTED


def _apply(findings: list[Finding], *, ask: bool, quiet: bool) -> list[str]:
    """Show and apply the safe fixes; the commands that stand for what was done."""
    chosen = [finding.fix for finding in findings if finding.fix and finding.fix.apply and finding.status != "pass"]
    if not chosen:
        click.echo("nothing here can be fixed safely from here", err=True)
        return []
    for one in chosen:
        click.echo(f"will do: {one.command}", err=quiet)
    if ask and not click.confirm("apply?", err=quiet):
        return []
    for one in chosen:
        assert one.apply is not None
        one.apply()
    return [one.command for one in chosen]


def _show(findings: list[Finding], *, show_all: bool) -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        mark, colour = _MARKS[finding.status]
        click.echo(f"{click.style(mark, fg=colour)}  {finding.check:<{width}}  {finding.found}")
        if finding.why and (show_all or finding.status != "pass"):
            click.echo(f"{'':6}{'':{width}}  {finding.why}")
        if finding.fix and finding.status != "pass":
            note = "  (--fix does it)" if finding.fix.is_safe else ""
            click.echo(f"{'':6}{'':{width}}  fix: {finding.fix.command}{note}")
    counts = {status: sum(finding.status == status for finding in findings) for status in _MARKS}
    click.echo(f"{counts['pass']} well, {counts['warn']} to look at, {counts['fail']} failed")
