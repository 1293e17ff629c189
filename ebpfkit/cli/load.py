"""`ebpfkit load`: verify, load, attach; stay in the foreground, or leave pins behind on request."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import click

from ebpfkit.cli.status import print_json


@click.command(name="load", short_help="Verify, load and attach an XDP program to a device.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dev", required=True, metavar="D", help="The network device.")
@click.option("--mode", type=click.Choice(["native", "skb", "hw"]), help="Where it runs (default: the kernel chooses).")
@click.option("--prog", "name", metavar="NAME", help="Which program, when FILE holds several.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a global variable before the load.")
@click.option("--no-verify", is_flag=True, help="Leave the verdict to the kernel alone.")
@click.option("--pin", is_flag=True, help="Return at once; link and maps stay, pinned, until `ebpfkit unload`.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (the default prints it on one line).")
def command(
    file: Path,
    dev: str,
    mode: str | None,
    name: str | None,
    settings: tuple[str, ...],
    no_verify: bool,
    pin: bool,
    as_json: bool,
) -> None:
    """Attach a program of FILE to a device.

    Our verifier judges first, and a rejection stops here. Without --pin it stays in the foreground and detaches on
    Ctrl-C, SIGTERM, or when it dies.
    """
    from ebpfkit import pipeline

    kernel = pipeline.running_kernel() if file.suffix == ".py" else None
    source = pipeline.open_source(file, kernel=kernel, btf=pipeline.RUNNING_BTF)
    chosen = source.choose(name)
    if not no_verify:
        for note in pipeline.verify_before_load(chosen):
            click.echo(f"ebpfkit: {note}", err=True)
    # Block the signals before anything is attached: from here on they end in the orderly way out.
    waited = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    with pipeline.attach_source(source, chosen.name, dev, mode=mode, settings=settings, pin=pin) as attached:
        shown = attached.summary()
        if as_json:
            print_json(shown)
        else:
            click.echo(json.dumps(shown))
        sys.stdout.flush()
        if not pin:
            signal.sigwait(waited)
