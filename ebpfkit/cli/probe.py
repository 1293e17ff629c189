"""`ebpfkit probe`: what this kernel, or a device, can do."""

from __future__ import annotations

from typing import Any

import click

from ebpfkit.cli.status import print_json


@click.command(name="probe", short_help="Show what this kernel, or a device, can do.")
@click.argument("dev", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def command(dev: str | None, as_json: bool) -> None:
    """Without DEV: kernel, privileges, BPF features. With DEV: driver, XDP features, queues, what is attached."""
    from ebpfkit.host.probe import probe_device, probe_kernel

    findings = probe_device(dev) if dev else probe_kernel()
    if as_json:
        print_json(findings)
    else:
        for line in _lines(findings):
            click.echo(line)


def _lines(findings: dict[str, Any], indent: str = "") -> list[str]:
    width = max((len(key) for key in findings), default=0)
    lines = []
    for key, value in findings.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        else:
            shown = ", ".join(map(str, value)) or "none" if isinstance(value, (list, tuple, dict)) else _word(value)
            lines.append(f"{indent}{key:<{width}}  {shown}")
    return lines


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
