"""`ebpfkit load`: verify, load, attach; stay in the foreground, or leave pins behind on request."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import click

from ebpfkit.cli.status import print_json


@click.command(name="load", short_help="Verify, load and attach a program, or register kernel operations.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dev", metavar="D", help="The network device of an XDP program.")
@click.option("--ops", "operations", metavar="NAME", help="Register this structure of kernel operations (.struct_ops).")
@click.option(
    "--target", type=int, metavar="ID", help="The id of the program that an freplace or fentry program is for."
)
@click.option("--mode", type=click.Choice(["native", "skb", "hw"]), help="Where it runs (default: the kernel chooses).")
@click.option("--prog", "name", metavar="NAME", help="Which program, when FILE holds several.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set a global variable before the load.")
@click.option("--no-verify", is_flag=True, help="Leave the verdict to the kernel alone.")
@click.option("--pin", is_flag=True, help="Return at once; link and maps stay, pinned, until `ebpfkit unload`.")
@click.option("--dispatcher", is_flag=True, help="Run it beside the device's other programs, as libxdp's tools do.")
@click.option(
    "--priority", type=click.IntRange(0, 2**32 - 1), help="With --dispatcher: lower runs first (default: 50)."
)
@click.option("--legacy", is_flag=True, help="Read what objects of iproute2, aya and libbpf before 1.0 have.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (the default prints it on one line).")
def command(
    file: Path,
    dev: str | None,
    operations: str | None,
    target: int | None,
    mode: str | None,
    name: str | None,
    settings: tuple[str, ...],
    no_verify: bool,
    pin: bool,
    dispatcher: bool,
    priority: int | None,
    legacy: bool,
    as_json: bool,
) -> None:
    """Attach a program of FILE: to a device (--dev), or, without one, where its section says (tracing, LSM, freplace).

    Our verifier judges first, and a rejection stops here. Without --pin it stays in the foreground and detaches on
    Ctrl-C, SIGTERM, or when it dies. With --dispatcher it returns at once, and the program stays until
    `ebpfkit unload --dev D --prog NAME`.
    """
    if dev is not None and (operations is not None or target is not None):
        raise click.UsageError("--dev is for XDP programs; --ops and --target are for what is on no device")
    if operations is not None and (name is not None or target is not None):
        raise click.UsageError("--ops names a structure with all its functions; it goes without --prog and --target")
    if dispatcher and (dev is None or pin):
        raise click.UsageError("--dispatcher is for a device, --dev D, and pins by itself: it goes without --pin")
    if priority is not None and not dispatcher:
        raise click.UsageError("--priority is among the programs of a dispatcher; give --dispatcher too")
    if dev is None and mode is not None:
        raise click.UsageError("--mode says where on a device an XDP program runs; give --dev too")
    from ebpfkit import pipeline

    kernel = pipeline.running_kernel() if file.suffix == ".py" else None
    source = pipeline.open_source(file, kernel=kernel, btf=pipeline.RUNNING_BTF, legacy=legacy)
    chosen = [] if operations is not None else [source.choose(name)]
    if operations is not None and operations in source.object.struct_ops:
        chosen = source.select(sorted(set(source.object.struct_ops[operations].members.values())))
    if dev is None and chosen and chosen[0].prog_type == "xdp":
        raise click.UsageError(f"program {chosen[0].name} is XDP: say on which device, --dev D")
    for spec in () if no_verify else chosen:
        for note in pipeline.verify_before_load(spec):
            click.echo(f"ebpfkit: {note}", err=True)
    if dispatcher:
        _show(
            pipeline.join_source(source, chosen[0].name, dev or "", mode=mode, priority=priority, settings=settings),
            as_json,
        )
        return
    # Block the signals before anything is attached: from here on they end in the orderly way out.
    waited = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    held: pipeline.Attached | pipeline.Held
    if dev is not None:
        held = pipeline.attach_source(source, chosen[0].name, dev, mode=mode, settings=settings, pin=pin)
    else:
        held = pipeline.hold_source(source, operations or chosen[0].name, target=target, settings=settings, pin=pin)
    with held:
        _show(held.summary(), as_json)
        sys.stdout.flush()
        if not pin:
            signal.sigwait(waited)


def _show(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        click.echo(json.dumps(row))
