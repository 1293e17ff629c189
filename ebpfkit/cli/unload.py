"""`ebpfkit unload`: detach what `load --pin` left behind, and remove its pins."""

from __future__ import annotations

import json

import click

from ebpfkit.cli.status import print_json


@click.command(name="unload", short_help="Detach what `load --pin` left on a device.")
@click.option("--dev", required=True, metavar="D", help="The network device.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (the default prints it on one line).")
def command(dev: str, as_json: bool) -> None:
    """Detach the pinned program of a device and remove the pins of its link and maps."""
    from ebpfkit import pipeline

    shown = pipeline.unload(dev)
    if as_json:
        print_json(shown)
    else:
        click.echo(json.dumps(shown))
