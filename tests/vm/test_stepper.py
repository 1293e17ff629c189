"""Stepping forwards and backwards, breakpoints, memory and maps at a place, and coverage by source line."""

from __future__ import annotations

import pytest

from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.elf.raw import program_from_code
from ebpfkit.errors import UsageError
from ebpfkit.vm.coverage import Coverage
from ebpfkit.vm.machine import Machine
from ebpfkit.vm.stepper import Stepper, TraceEntry, trace_run

COUNT = """\
r6 = 3
r7 = 0
loop: r7 += r6
*(u64 *)(r10 -8) = r7
call half
r6 -= 1
if r6 != 0 goto loop
r1 = map[hits] ll
r2 = r10
r2 += -16
*(u32 *)(r10 -16) = 0
call bpf_map_lookup_elem
if r0 == 0 goto out
lock *(u64 *)(r0 +0) += r7
out:
r0 = r7
exit
half: r0 = 1
exit
"""
HITS = MapSpec("hits", "array", 4, 8, 1)


def stepper() -> Stepper:
    program = parse(COUNT, file="count.s")
    return Stepper(lambda: Machine(program, prog_type=None, maps=[HITS]), b"")


def test_the_recording_is_the_run() -> None:
    steps = stepper()
    assert steps.result is not None and steps.result.r0 == 6 and len(steps) == steps.result.insns
    assert steps.fault is None


def test_forwards_and_backwards_see_the_same() -> None:
    steps = stepper()
    forward = []
    while not steps.at_end:
        forward.append((steps.position, steps.entry.slot, steps.registers))
        steps.step()
    assert steps.registers[0] == 6
    backward = []
    while steps.position:
        steps.back()
        backward.append((steps.position, steps.entry.slot, steps.registers))
    assert backward[::-1] == forward
    for (_, _, before), (_, _, after), entry in zip(forward, forward[1:], steps.entries, strict=False):
        changed = {number: new for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new}
        assert changed == dict(entry.changes)


def test_breakpoints_by_slot_and_by_line() -> None:
    steps = stepper()
    assert steps.break_at_line(3, "count.s") == {2}
    stops = []
    while not steps.at_end:
        steps.run()
        stops.append(steps.position)
    assert stops == [2, 9, 16, len(steps)]
    back = [steps.run_back() for _ in range(4)]
    assert back == [16, 9, 2, 0]
    with pytest.raises(UsageError, match="line 99"):
        steps.break_at_line(99)


def test_memory_and_maps_at_a_place() -> None:
    steps = stepper()
    values = []
    steps.breakpoints = {4}
    for _ in range(3):
        steps.run()
        values.append(int.from_bytes(steps.read(steps.registers[10] - 8, 8), "little"))
    assert values == [3, 5, 6]
    assert steps.maps["hits"].get(bytes(4)) == bytes(8)
    steps.go(len(steps))
    assert steps.maps["hits"].get(bytes(4)) == (6).to_bytes(8, "little")
    steps.go(0)
    assert steps.maps["hits"].get(bytes(4)) == bytes(8)
    with pytest.raises(UsageError, match="no memory there"):
        steps.read(0, 8)


def test_writes_name_their_place() -> None:
    writes = [entry.write for entry in stepper().entries if entry.write is not None]
    assert [(write.place, write.value) for write in writes] == [
        ("stack of frame 0+504", 3), ("stack of frame 0+504", 5), ("stack of frame 0+504", 6),
        ("stack of frame 0+496", 0), ("value of map 'hits'+0", 6),
    ]  # fmt: skip


def test_a_fault_ends_the_recording() -> None:
    steps = Stepper(lambda: Machine(parse("r0 = 1\nr1 = 0\nr0 = *(u64 *)(r1 +0)\nexit"), prog_type=None))
    assert steps.fault is not None and steps.fault.insn == 2 and len(steps) == 3 and steps.result is None
    assert steps.entries[-1].changes == {}


def test_a_long_run_is_refused() -> None:
    with pytest.raises(UsageError, match="more than 10 instructions"):
        Stepper(lambda: Machine(parse(COUNT), prog_type=None, maps=[HITS]), limit=10)


def test_a_trace_reads_as_text() -> None:
    entries: list[TraceEntry] = []
    trace_run(Machine(parse("r0 = 5\nr0 = 5\nexit"), prog_type=None), b"", entries.append)
    assert [str(entry).split(";")[-1].strip() for entry in entries] == ["r0=0x5", "1: r0 = 5", "2: exit"]


def test_coverage_counts_lines() -> None:
    spec = program_from_code(parse(COUNT, file="count.s"), prog_type=None, maps=[HITS])
    coverage = Coverage([spec])
    machine = Machine(spec)
    for _ in range(2):
        machine.run(b"", trace=coverage.record)
    hits = {line.line: line.hits for line in coverage.lines}
    assert hits[1] == 2 and hits[3] == hits[18] == 6 and hits[14] == 2
    assert coverage.missed == [] and coverage.percent == 100
    assert "18 of 18 lines ran (100%)" in str(coverage)
    fresh = Coverage([spec])
    assert len(fresh.missed) == 18 and fresh.percent == 0 and "-----" in str(fresh)
