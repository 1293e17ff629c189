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
from ebpfkit.cli.surrounding import Given, open_packet, surrounding_options
from ebpfkit.errors import EbpfError, MachineFault, UsageError

if TYPE_CHECKING:
    from ebpfkit.cli.capture_files import Outputs
    from ebpfkit.elf.model import ProgramSpec
    from ebpfkit.pipeline import MachineRun, Source
    from ebpfkit.vm.pcap import Packet


def _print_limits(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from ebpfkit.vm.limits import limits, to_text

    click.echo(to_text(limits()))
    ctx.exit()


@click.command(name="run", short_help="Run a program on packets in the virtual machine, without root.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--prog", "name", metavar="NAME", help="Which program, when FILE holds several.")
@click.option(
    "--pcap", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Packets to run on (pcap or pcapng)."
)
@click.option("--packet", metavar="HEX", help="One packet as hex digits.")
@click.option(
    "--memory",
    metavar="HEX",
    help="Instead of packets: run once on this memory, r1 its address and r2 its length, and print r0 in hexadecimal. "
    "FILE may be - (stdin), and hold hex digits.",
)
@click.option("--big-endian", is_flag=True, help="With --memory: the program is for a big-endian machine.")
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
@click.option("--step", "stepped", is_flag=True, help="Step through the run on the first packet, at a prompt.")
@click.option("--coverage", "covered", is_flag=True, help="Print how often each source line ran.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document: packets and maps.")
@click.option("--jsonl", is_flag=True, help="Print one JSON line a packet, then one with the maps.")
@surrounding_options
@click.option(
    "--limits", is_flag=True, is_eager=True, expose_value=False, callback=_print_limits,
    help="Print which instructions, maps and helpers are refused here and why, and leave.",
)  # fmt: skip
def command(
    file: Path,
    name: str | None,
    pcap: Path | None,
    packet: str | None,
    memory: str | None,
    big_endian: bool,
    out: Path | None,
    out_dir: Path | None,
    repeat: int,
    jit: bool,
    trusted: bool,
    totals: bool,
    traced: bool,
    stepped: bool,
    covered: bool,
    as_json: bool,
    jsonl: bool,
    given: Given,
) -> None:
    """Run a program of FILE on packets and show what it did to each, and what its maps hold afterwards.

    FILE is a Python file, an object (.o), assembly (.s) or raw instructions. Nothing reaches a kernel or a network.

    \b
    ebpfkit run firewall.py --pcap in.pcap --out out.pcap
    ebpfkit run firewall.py --pcap big.pcap --jit --totals
    ebpfkit run filter.o --packet ffffffffffff0200000000010800 --trace
    ebpfkit run filter.o --pcap in.pcap --step
    echo "b7 00 00 00 2a 00 00 00 95 00 00 00 00 00 00 00" | ebpfkit run - --memory 00ff
    ebpfkit run firewall.py --pcap in.pcap --map 'blocked[192.0.2.0/24]={"packets": 0, "bytes": 0}'
    """
    from ebpfkit import pipeline
    from ebpfkit.cli.capture_files import Outputs

    mode = "trusted" if trusted else "safe" if jit else None
    if memory is not None:
        from ebpfkit.cli.memory_run import run_on_memory

        if pcap or packet or out or out_dir or totals or traced or stepped or covered or jsonl or repeat != 1:
            raise UsageError("--memory goes with --prog, --jit, --big-endian and --json alone")
        run_on_memory(file, memory, name=name, jit=mode, big_endian=big_endian, as_json=as_json)
        return
    if str(file) == "-" or big_endian:
        raise UsageError("stdin and --big-endian are for programs on plain memory: say --memory HEX")
    if (pcap is None) == (packet is None):
        raise UsageError("give the packets: either --pcap FILE or --packet HEX")
    if as_json and jsonl:
        raise UsageError("--json and --jsonl exclude one another")
    if (traced or covered) and (jit or trusted or totals or jsonl):
        raise UsageError(
            "--trace and --coverage watch the interpreter: they go without --jit, --trusted, --totals, --jsonl"
        )
    if stepped and (traced or covered or mode or totals or as_json or jsonl or out or out_dir or repeat != 1):
        raise UsageError("--step goes through one run of the interpreter: it goes with --pcap or --packet alone")
    source = given.source(file)
    if stepped:
        _step(given, source, source.choose(name), pcap, packet)
        return
    machine = pipeline.MachineRun(source, source.choose(name), jit=mode, surrounding=given.surrounding())
    if totals and pcap is not None and repeat == 1 and out_dir is None and machine.walks_captures:
        done, error = _native_totals(machine, pcap, out)
        _print_totals(done, machine, as_json or jsonl, error)
        return
    with ExitStack() as stack:
        frames = _frames(pcap, packet, stack)
        outputs = stack.enter_context(Outputs(out, out_dir))
        if traced or covered:
            from ebpfkit.cli.tracing import run_observed

            run_observed(machine, frames, outputs, repeat=repeat, traced=traced, covered=covered, as_json=as_json)
            return
        results = _Results(_results(machine, frames, repeat, outputs))
        if totals:
            done = _totals_of(results)
            _print_totals(done, machine, as_json or jsonl, results.error)
        elif as_json:
            _print_document(results, machine)
        elif jsonl:
            _print_lines(results, machine)
        else:
            _print_table(results, machine)


def _step(given: Given, source: Source, spec: ProgramSpec, pcap: Path | None, packet: str | None) -> None:
    from ebpfkit import pipeline
    from ebpfkit.cli.stepping import run_stepping

    def make() -> MachineRun:
        return pipeline.MachineRun(source, spec, surrounding=given.surrounding(), apart=True)

    with ExitStack() as stack:
        frame = next(_frames(pcap, packet, stack), None)
    if frame is None:
        raise UsageError(f"{pcap} holds no packet")
    run = make()
    run_stepping(lambda: make().machine, frame.data, run.action_name, **run.options(frame))


def _frames(pcap: Path | None, packet: str | None, stack: ExitStack) -> Iterator[Packet]:
    from ebpfkit.cli.capture_files import progress
    from ebpfkit.vm.pcap import Packet, open_pcap

    if pcap is not None:
        return stack.enter_context(progress(stack.enter_context(open_pcap(pcap)), pcap))
    assert packet is not None
    return iter([Packet(open_packet(packet))])


class _Results:
    """Rows of results until they end or something breaks them off, which is in `error` then.

    Whatever was done before is shown with totals and maps; who shows it raises the error at the end.
    """

    def __init__(self, rows: Iterator[dict[str, Any]]) -> None:
        self._rows = rows
        self.error: EbpfError | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            yield from self._rows
        except EbpfError as error:
            self.error = error

    def finish(self) -> None:
        """Raise what broke the rows off."""
        if self.error is not None:
            raise self.error


def _results(machine: MachineRun, frames: Iterator[Packet], repeat: int, outputs: Outputs) -> Iterator[dict[str, Any]]:
    for number, frame in enumerate(frames, 1):
        for _ in range(repeat):
            try:
                result = machine.run(frame)
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


def _print_document(results: _Results, machine: MachineRun) -> None:
    """One JSON document, written piece by piece so that memory does not grow; `error` is why it broke off."""
    click.echo('{"packets": [', nl=False)
    for position, row in enumerate(results):
        sys.stdout.write(("," if position else "") + "\n  " + json.dumps(row))
    error = "" if results.error is None else f', "error": {json.dumps(str(results.error))}'
    click.echo('\n], "maps": ' + json.dumps(map_entries(machine), indent=2) + error + "}")
    results.finish()


def _print_lines(results: _Results, machine: MachineRun) -> None:
    for row in results:
        sys.stdout.write(json.dumps(row) + "\n")
    last: dict[str, Any] = {"maps": map_entries(machine)}
    if results.error is not None:
        last["error"] = str(results.error)
    click.echo(json.dumps(last))
    results.finish()


def _native_totals(machine: MachineRun, pcap: Path, out: Path | None) -> tuple[dict[str, Any], EbpfError | None]:
    with ExitStack() as stack:
        stream = stack.enter_context(out.open("wb")) if out is not None else None
        done = machine.run_capture(pcap, stream)
    actions: Counter[str] = Counter()
    for value, count in done.verdicts.items():
        actions[machine.action_name(value) if value >= 0 else "no action"] += count
    totals = {"packets": done.packets, "insns": done.insns, "actions": dict(actions.most_common())}
    return totals, done.error


def _totals_of(results: _Results) -> dict[str, Any]:
    packets, insns = 0, 0
    actions: Counter[str] = Counter()
    counted = True
    for row in results:
        packets += 1
        actions[row["action"]] += 1
        counted = counted and row["insns"] is not None
        insns += row["insns"] or 0
    return {"packets": packets, "insns": insns if counted else None, "actions": dict(actions.most_common())}


def _print_totals(totals: dict[str, Any], machine: MachineRun, as_json: bool, error: EbpfError | None = None) -> None:
    if as_json:
        document: dict[str, Any] = {"totals": totals, "maps": map_entries(machine)}
        click.echo(json.dumps(document if error is None else {**document, "error": str(error)}))
    else:
        click.echo(_summary(totals))
        _print_maps(machine)
    if error is not None:
        raise error


def _summary(totals: dict[str, Any]) -> str:
    """How many packets came to what."""
    if not totals["packets"]:
        return "no packets"
    actions = ", ".join(f"{count} {action}" for action, count in totals["actions"].items())
    insns = f", {totals['insns']} instructions" if totals["insns"] is not None else ""
    return f"{totals['packets']} packet{'' if totals['packets'] == 1 else 's'}: {actions}{insns}"


def _print_table(results: _Results, machine: MachineRun) -> None:
    totals: dict[str, Any] = {"packets": 0, "insns": 0, "actions": Counter()}
    click.echo(f"{'packet':>8}  {'action':<14}{'bytes':>7}{'insns':>8}")
    for position, row in enumerate(results, 1):
        totals["packets"] = position
        totals["actions"][row["action"]] += 1
        counted = totals["insns"] is not None and row["insns"] is not None
        totals["insns"] = totals["insns"] + row["insns"] if counted else None
        size = len(row["data_out"]) // 2
        target = _target(row.get("redirect"))
        sys.stdout.write(f"{position:>8}  {row['action']:<14}{size:>7}{_count(row['insns']):>8}{target}\n")
        for line in row.get("printed", ()):
            sys.stdout.write(f"          | {line}\n")
    totals["actions"] = dict(totals["actions"].most_common())
    click.echo(("\n" if totals["packets"] else "") + _summary(totals))
    _print_maps(machine)
    results.finish()


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
