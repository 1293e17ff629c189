"""What `ebpfkit run --trace` and `--coverage` print: instructions with what they changed, lines with their hits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ebpfkit.cli.entries import map_entries
from ebpfkit.cli.status import print_json
from ebpfkit.errors import MachineFault

if TYPE_CHECKING:
    from ebpfkit.cli.capture_files import Outputs
    from ebpfkit.pipeline import MachineRun
    from ebpfkit.vm.coverage import Coverage
    from ebpfkit.vm.pcap import Packet
    from ebpfkit.vm.stepper import TraceEntry

__all__ = ["run_observed"]


def run_observed(
    machine: MachineRun,
    frames: Iterator[Packet],
    outputs: Outputs,
    *,
    repeat: int,
    traced: bool,
    covered: bool,
    as_json: bool,
) -> None:
    """Run the packets and print the trace as it goes, then the coverage. Raises MachineFault behind its last line."""
    from ebpfkit.vm.coverage import Coverage
    from ebpfkit.vm.stepper import trace_run

    coverage = Coverage([machine.spec])
    trace: list[dict[str, Any]] = []
    packets: list[dict[str, Any]] = []

    def report(entry: TraceEntry) -> None:
        coverage.record(entry)
        if traced and as_json:
            trace.append(_as_json(entry))
        elif traced:
            click.echo(str(entry))

    number = 0
    for frame in frames:
        for _ in range(repeat):
            number += 1
            if traced and not as_json:
                click.echo(f"packet {number}, {len(frame.data)} bytes")
            options = machine.options(frame)
            try:
                if traced:
                    result = trace_run(machine.machine, frame.data, report, **options)
                else:
                    result = machine.machine.run(frame.data, trace=coverage.record, **options)
            except MachineFault:
                if covered and not as_json:
                    click.echo(str(coverage))
                raise
            action = machine.action_name(result.r0)
            outputs.write(frame, result.data, action)
            packets.append({"action": action, "insns": result.insns, **({"trace": trace} if traced else {})})
            trace = []
            if not as_json:
                click.echo(f"packet {number}: {action}, {result.insns} instructions")
                packets.clear()
    if as_json:
        print_json(
            {"packets": packets, "maps": map_entries(machine), **({"coverage": _lines(coverage)} if covered else {})}
        )
    elif covered:
        click.echo(str(coverage))


def _as_json(entry: TraceEntry) -> dict[str, Any]:
    from ebpfkit.asm.printer import format_instruction

    write = entry.write
    return {
        "slot": entry.slot,
        "text": format_instruction(entry.instruction, entry.slot),
        "line": entry.instruction.span.line if entry.instruction.span else None,
        "changes": {f"r{number}": value for number, value in entry.changes.items()},
        "write": None if write is None else {"place": write.place, "size": write.size, "value": write.value},
    }


def _lines(coverage: Coverage) -> dict[str, Any]:
    return {
        "percent": round(coverage.percent, 2),
        "lines": [{"file": line.file, "line": line.line, "hits": line.hits} for line in coverage.lines],
    }
