"""`ebpfkit diff-run`: the same packets through several executors, and where they differ."""

from __future__ import annotations

from pathlib import Path

import click

from ebpfkit.cli.status import ACCEPTED, REJECTED, print_json
from ebpfkit.cli.surrounding import Given, open_packet, surrounding_options
from ebpfkit.errors import UsageError


@click.command(name="diff-run", short_help="Run a program in several executors and compare.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prog", "name", metavar="NAME", help="Which program, when FILE holds several.")
@click.option(
    "--pcap", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Packets to run on (pcap or pcapng)."
)
@click.option("--packet", metavar="HEX", help="One packet as hex digits.")
@click.option(
    "--on",
    metavar="EXECUTORS",
    help="Two or more of python, interpreter, jit, trusted, kernel, with commas; the others are compared with the "
    "first. Default: python (where FILE is Python), interpreter, jit.",
)
@click.option("--maps-after-each", is_flag=True, help="Compare the maps after every packet, not only at the end.")
@surrounding_options
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    file: Path,
    name: str | None,
    pcap: Path | None,
    packet: str | None,
    on: str | None,
    maps_after_each: bool,
    as_json: bool,
    given: Given,
) -> None:
    """Run a program of FILE on packets in several executors and compare verdicts, bytes and maps.

    Exit status 1 when they differ. Programs that read the clock or random numbers cannot agree with the kernel, which
    has its own; the other executors share the ones that are given here.

    \b
    ebpfkit diff-run firewall.py --pcap in.pcap
    ebpfkit diff-run filter.o --pcap in.pcap --on interpreter,kernel
    """
    from ebpfkit.testing.diff import diff_run
    from ebpfkit.testing.executors import FakeClock, FakeRandom

    if (pcap is None) == (packet is None):
        raise UsageError("give the packets: either --pcap FILE or --packet HEX")
    executors = [part.strip() for part in on.split(",") if part.strip()] if on is not None else None
    packets = pcap if pcap is not None else open_packet(packet or "")
    surrounding = given.surrounding()
    report = diff_run(
        given.subject(file, name),
        packets,
        executors,
        clock=None if surrounding.time_ns is None else FakeClock(surrounding.time_ns),
        numbers=FakeRandom(seed=surrounding.seed),
        context=surrounding.context,
        maps_after_each=maps_after_each,
        **surrounding.around,
    )
    if as_json:
        print_json(report.to_json())
    else:
        click.echo(str(report))
        if report.actions:
            click.echo(", ".join(f"{count} {action}" for action, count in report.actions.most_common()))
        for executor in report.executors:
            insns = report.insns[executor]
            counted = f", {insns} instructions" if insns is not None and executor != "python" else ""
            click.echo(f"  {executor:<12}{report.seconds[executor]:.3f} s{counted}")
    ctx.exit(ACCEPTED if report.ok else REJECTED)
