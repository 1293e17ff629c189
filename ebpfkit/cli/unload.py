"""`ebpfkit unload`: detach what `load --pin` left behind, and remove its pins."""

from __future__ import annotations

import json

import click

from ebpfkit.cli.status import print_json


@click.command(name="unload", short_help="Detach what `load --pin` left behind.")
@click.option("--dev", metavar="D", help="The network device of an XDP or traffic control program.")
@click.option("--at", type=click.Choice(["ingress", "egress"]), help="With --dev: its traffic control program there.")
@click.option("--name", metavar="NAME", help="The program, or the kernel operations, that are on no device.")
@click.option("--prog", "program", metavar="NAME|ID", help="With --dev: only this one, from behind its dispatcher.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (the default prints it on one line).")
def command(dev: str | None, at: str | None, name: str | None, program: str | None, as_json: bool) -> None:
    """Detach what is pinned for a device, or by name, and remove the pins of its link and maps.

    --dev alone means the XDP program, --dev with --at a traffic control program. What `load --dispatcher` put beside
    others is taken away with --dev and --prog.
    """
    from ebpfkit import pipeline

    if (dev is None) == (name is None):
        raise click.UsageError("say what to unload: --dev D or --name NAME")
    if at is not None and (dev is None or program is not None):
        raise click.UsageError("--at is a direction of a device, which --dev names, and goes without --prog")
    if program is not None and dev is None:
        raise click.UsageError("--prog is a program behind a device's dispatcher; give --dev too")
    if dev is None:
        shown = pipeline.unload_name(name or "")
    elif program is None:
        shown = pipeline.unload(dev, at or "")
    else:
        shown = pipeline.leave(dev, program)
    if as_json:
        print_json(shown)
    else:
        click.echo(json.dumps(shown))
