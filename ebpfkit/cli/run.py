"""`ebpfkit run`: a program on packets in the virtual machine, written as it goes."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfkit.cli.entries import map_entries
from ebpfkit.errors import EbpfError, MachineFault, UsageError

if TYPE_CHECKING:
    from ebpfkit.cli.capture_files import Outputs
    from ebpfkit.pipeline import MachineRun
    from ebpfkit.vm.pcap import Packet


@click.command(name="run", short_help="Run a program on packets in the virtual machine, without root.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prog", "name", metavar="NAME", help="Which program, when FILE holds several.")
@click.option(
    "--pcap", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Packets to run on (pcap or pcapng)."
)
@click.option("--packet", metavar="HEX", help="One packet as hex digits.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the packets as the program left them (pcap)."
)
@click.option(
    "--out-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the packets of each action into a file of their own there: xdp_drop.pcap, ...",
)
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="How often each packet is run.")
@click.option("--jit", is_flag=True, help="Run native code instead of the interpreter, with every access checked.")
@click.option("--trusted", is_flag=True, help="Native code without checks, once the verifier has accepted FILE.")
@click.option("--totals", is_flag=True, help="Print totals and maps, no packets; with --jit the fast way for captures.")
@click.option("--trace", "traced", is_flag=True, help="Print every instruction of each packet with what it changed.")
@click.option("--coverage", "covered", is_flag=True, help="Print how often each source line ran.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: packets and maps.")
@click.option("--jsonl", is_flag=True, help="Print one JSON line a packet, then one with the maps.")
def command(
    file: Path,
    name: str | None,
    pcap: Path | None,
    packet: str | None,
    out: Path | None,
    out_dir: Path | None,
    repeat: int,
    jit: bool,
    trusted: bool,
    totals: bool,
    traced: bool,
    covered: bool,
    as_json: bool,
    jsonl: bool,
) -> None:
    """Run a program of FILE on packets and show what it did to each, and what its maps hold afterwards."""
    from ebpfkit import pipeline
    from ebpfkit.cli.capture_files import Outputs

    if (pcap is None) == (packet is None):
        raise UsageError("give the packets: either --pcap FILE or --packet HEX")
    if as_json and jsonl:
        raise UsageError("--json and --jsonl exclude one another")
    if (traced or covered) and (jit or trusted or totals or jsonl):
        raise UsageError(
            "--trace and --coverage watch the interpreter: they go without --jit, --trusted, --totals, --jsonl"
        )
    source = pipeline.open_source(file)
    machine = pipeline.MachineRun(source, source.choose(name), jit="trusted" if trusted else "safe" if jit else None)
    if totals and pcap is not None and repeat == 1 and out_dir is None and machine.walks_captures:
        _print_totals(_native_totals(machine, pcap, out), machine, as_json or jsonl)
        return
    with ExitStack() as stack:
        frames = _frames(pcap, packet, stack)
        outputs = stack.enter_context(Outputs(out, out_dir))
        if traced or covered:
            from ebpfkit.cli.tracing import run_observed

            run_observed(machine, frames, outputs, repeat=repeat, traced=traced, covered=covered, as_json=as_json)
            return
        results = _results(machine, frames, repeat, outputs)
        if totals:
            _print_totals(_totals_of(results), machine, as_json or jsonl)
        elif as_json:
            _print_document(results, machine)
        elif jsonl:
            for row in results:
                sys.stdout.write(json.dumps(row) + "\n")
            click.echo(json.dumps({"maps": map_entries(machine)}))
        else:
            _print_table(results, machine)


def _frames(pcap: Path | None, packet: str | None, stack: ExitStack) -> Iterator[Packet]:
    from ebpfkit.cli.capture_files import progress
    from ebpfkit.vm.pcap import Packet, open_pcap

    if pcap is not None:
        return stack.enter_context(progress(stack.enter_context(open_pcap(pcap)), pcap))
    assert packet is not None
    try:
        data = bytes.fromhex(packet)
    except ValueError as error:
        raise UsageError(f"--packet takes hex digits, two a byte: {error}") from error
    return iter([Packet(data)])


def _results(machine: MachineRun, frames: Iterator[Packet], repeat: int, outputs: Outputs) -> Iterator[dict[str, Any]]:
    for number, frame in enumerate(frames, 1):
        for _ in range(repeat):
            try:
                result = machine.run(frame.data)
            except MachineFault as fault:
                where = f"packet {number}: {fault.message}"
                raise MachineFault(where, insn=fault.insn, span=fault.span, region=fault.region) from fault
            action = machine.action_name(result.r0)
            outputs.write(frame, result.data, action)
            row = {
                "action": action,
                "retval": result.r0 & 0xFFFF_FFFF,
                "data_out": result.data.hex(),
                "insns": result.insns,
            }
            if result.redirect is not None:
                row["redirect"] = dict(zip(("map", "key", "target"), result.redirect, strict=True))
            if result.printed:
                row["printed"] = list(result.printed)
            yield row


def _print_document(results: Iterator[dict[str, Any]], machine: MachineRun) -> None:
    """One JSON document, written piece by piece so that memory does not grow with the capture.

    When the capture or the program breaks off, the document is closed with an `error`, and the error goes on.
    """
    click.echo('{"packets": [', nl=False)
    try:
        for position, row in enumerate(results):
            sys.stdout.write(("," if position else "") + "\n  " + json.dumps(row))
    except EbpfError as error:
        click.echo('\n], "error": ' + json.dumps(str(error)) + "}")
        raise
    click.echo('\n], "maps": ' + json.dumps(map_entries(machine), indent=2) + "}")


def _native_totals(machine: MachineRun, pcap: Path, out: Path | None) -> dict[str, Any]:
    with ExitStack() as stack:
        stream = stack.enter_context(out.open("wb")) if out is not None else None
        done = machine.run_capture(pcap, stream)
    actions: Counter[str] = Counter()
    for value, count in done.verdicts.items():
        actions[machine.action_name(value)] += count
    return {"packets": done.packets, "insns": done.insns, "actions": dict(actions.most_common())}


def _totals_of(results: Iterator[dict[str, Any]]) -> dict[str, Any]:
    packets, insns = 0, 0
    actions: Counter[str] = Counter()
    counted = True
    for row in results:
        packets += 1
        actions[row["action"]] += 1
        counted = counted and row["insns"] is not None
        insns += row["insns"] or 0
    return {"packets": packets, "insns": insns if counted else None, "actions": dict(actions.most_common())}


def _print_totals(totals: dict[str, Any], machine: MachineRun, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"totals": totals, "maps": map_entries(machine)}))
        return
    actions = ", ".join(f"{count} {action}" for action, count in totals["actions"].items()) or "no packets"
    insns = f", {totals['insns']} instructions" if totals["insns"] is not None else ""
    click.echo(f"{totals['packets']} packets: {actions}{insns}")
    _print_maps(machine)


def _print_table(results: Iterator[dict[str, Any]], machine: MachineRun) -> None:
    totals: Counter[str] = Counter()
    insns: int | None = 0
    position = 0
    click.echo(f"{'packet':>8}  {'action':<14}{'bytes':>7}{'insns':>8}")
    for position, row in enumerate(results, 1):
        totals[row["action"]] += 1
        insns = None if insns is None or row["insns"] is None else insns + row["insns"]
        size = len(row["data_out"]) // 2
        target = _target(row.get("redirect"))
        sys.stdout.write(f"{position:>8}  {row['action']:<14}{size:>7}{_count(row['insns']):>8}{target}\n")
        for line in row.get("printed", ()):
            sys.stdout.write(f"          | {line}\n")
    counted = f", {insns} instructions" if insns else ""
    actions = ", ".join(f"{count} {action}" for action, count in totals.most_common())
    click.echo(f"\n{position} packets: {actions}{counted}" if totals else "no packets")
    _print_maps(machine)


def _target(redirect: dict[str, Any] | None) -> str:
    """Where a packet was sent."""
    if redirect is None:
        return ""
    if not redirect["map"]:
        return f"  to interface {redirect['target']}"
    return f"  to {redirect['map']}[{redirect['key']}] = {redirect['target']}"


def _count(insns: int | None) -> str:
    """The instructions of a run; trusted code does not count them."""
    return "-" if insns is None else str(insns)


def _print_maps(machine: MachineRun) -> None:
    for name, entries in map_entries(machine).items():
        click.echo(f"\n{name}: {len(entries)} {'entry' if len(entries) == 1 else 'entries'}")
        for entry in entries[:50]:
            shown = entry["formatted"]
            click.echo(f"  {shown['key']}: {shown['value']}")
        if len(entries) > 50:
            click.echo(f"  ... and {len(entries) - 50} more (--json prints all)")
