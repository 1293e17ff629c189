"""`ebpfkit load`: verify, load, attach; stay in the foreground, or leave pins behind on request."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfkit.cli.status import print_json

if TYPE_CHECKING:
    from ebpfkit import pipeline
    from ebpfkit.elf.model import ProgramSpec


@click.command(name="load", short_help="Verify, load and attach a program, or register kernel operations.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dev", metavar="D", help="The network device of an XDP or traffic control program.")
@click.option("--at", type=click.Choice(["ingress", "egress"]), help="The direction, when the section says none (tc).")
@click.option("--via", type=click.Choice(["tcx", "clsact"]), help="How tc attaches (default: tcx from Linux 6.6).")
@click.option("--cgroup", metavar="FOLDER", help="The control group of a cgroup_skb program.")
@click.option("--hz", type=click.IntRange(1, 1_000_000), help="How often a perf_event program runs, on each CPU.")
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
    operations: str | None,
    name: str | None,
    settings: tuple[str, ...],
    no_verify: bool,
    pin: bool,
    dispatcher: bool,
    priority: int | None,
    legacy: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Attach a program of FILE: where the options say (a device, a control group), or where its section does (probes,
    tracepoints, tracing, LSM, freplace).

    Our verifier judges first, and a rejection stops here. Without --pin it stays in the foreground and detaches on
    Ctrl-C, SIGTERM, or when it dies. With --dispatcher it returns at once, and the program stays until
    `ebpfkit unload --dev D --prog NAME`.
    """
    given = {option: value for option, value in where.items() if value is not None}
    _check_options(given, operations, name, pin, dispatcher, priority)
    from ebpfkit import pipeline

    kernel = pipeline.running_kernel() if file.suffix == ".py" else None
    source = pipeline.open_source(file, kernel=kernel, btf=pipeline.RUNNING_BTF, legacy=legacy)
    chosen, place = _choose(source, operations, name, given)
    if dispatcher and chosen[0].prog_type != "xdp":
        raise click.UsageError(f"--dispatcher is for XDP programs; program {chosen[0].name} is none")
    for spec in () if no_verify else chosen:
        for note in pipeline.verify_before_load(spec):
            click.echo(f"ebpfkit: {note}", err=True)
    if dispatcher:
        joined = pipeline.join_source(
            source, chosen[0].name, given["dev"], mode=given.get("mode"), priority=priority, settings=settings
        )
        _show(joined, as_json)
        return
    # Block the signals before anything is attached: from here on they end in the orderly way out.
    waited = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    held: pipeline.Attached | pipeline.Held
    if place is not None and place.dev:
        held = pipeline.attach_source(source, chosen[0].name, place, settings=settings, pin=pin)
    else:
        held = pipeline.hold_source(source, operations or chosen[0].name, place, settings=settings, pin=pin)
    with held:
        _show(held.summary(), as_json)
        sys.stdout.flush()
        if not pin:
            signal.sigwait(waited)


def _check_options(
    given: Mapping[str, Any],
    operations: str | None,
    name: str | None,
    pin: bool,
    dispatcher: bool,
    priority: int | None,
) -> None:
    """Refuse options that make no sense together, whatever FILE holds."""
    if operations is not None and (name is not None or given):
        raise click.UsageError("--ops names a structure with all its functions; it goes without --prog and a place")
    if dispatcher and ("dev" not in given or pin):
        raise click.UsageError("--dispatcher is for a device, --dev D, and pins by itself: it goes without --pin")
    if priority is not None and not dispatcher:
        raise click.UsageError("--priority is among the programs of a dispatcher; give --dispatcher too")
    if pin and given.get("via") == "clsact":
        raise click.UsageError("--pin keeps a bpf_link, and a filter of the clsact queue is none: give --via tcx")


def _choose(
    source: pipeline.Source, operations: str | None, name: str | None, given: Mapping[str, Any]
) -> tuple[list[ProgramSpec], pipeline.ShellPlace | None]:
    """The programs to judge and where the one program attaches (None: operations, which are registered)."""
    from ebpfkit.pipeline import shell_place

    if operations is None:
        spec = source.choose(name)
        return [spec], shell_place(spec, given)
    structures = source.object.struct_ops
    members = structures[operations].members if operations in structures else {}
    return source.select(sorted(set(members.values()))) if members else [], None


def _show(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        click.echo(json.dumps(row))
