"""Step by step through one run, forwards and backwards, with breakpoints.

The run is recorded once: before every instruction its slot and registers, and what it wrote to memory. Going back is
going to an earlier place of the recording. Memory and maps at a place are those of a fresh machine run up to there, so
what makes the machine must make the same one each time (same contents of maps, same seed, a clock that stands).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from ebpfkit._bits import U64_MAX
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.asm.printer import format_instruction
from ebpfkit.errors import MachineFault, UsageError
from ebpfkit.maps.memory import MemoryStore
from ebpfkit.vm.machine import Machine, Result, Step
from ebpfkit.vm.memory import AddressSpace, MemoryFault

__all__ = ["Stepper", "TraceEntry", "Write", "describe_address", "trace_run"]

DEFAULT_LIMIT: Final = 1_000_000
_WRITING = frozenset({Kind.STORE, Kind.STORE_RELEASE, Kind.ATOMIC})


@dataclass(frozen=True, slots=True)
class Write:
    """What a store or an atomic operation left in memory: `size` bytes at `address`, which is called `place`."""

    address: int
    size: int
    value: int
    place: str


@dataclass(slots=True)
class TraceEntry:
    """One executed instruction: registers before it, those that it changed with their new values, its write.

    Writes of helpers are not among them.
    """

    slot: int
    instruction: Instruction
    registers: tuple[int, ...]
    changes: Mapping[int, int]
    write: Write | None = None

    def __str__(self) -> str:
        effects = [f"r{number}={value:#x}" for number, value in self.changes.items()]
        if self.write is not None:
            effects.append(f"{self.write.place}={self.write.value:#x}")
        text = f"{self.slot:>5}: {format_instruction(self.instruction, self.slot)}"
        return f"{text:<52}; {' '.join(effects)}" if effects else text


class _Stop(Exception):
    """The place to go to is reached."""


class _Recorder:
    """A trace that reports each instruction when its effects are there: when the next one begins, or at the end."""

    def __init__(self, memory: AddressSpace, report: Callable[[TraceEntry], None]) -> None:
        self.memory = memory
        self.report = report
        self.before: Step | None = None

    def __call__(self, step: Step) -> None:
        self.finish(step.registers)
        self.before = step

    def finish(self, registers: tuple[int, ...] | None) -> None:
        before, self.before = self.before, None
        if before is None:
            return
        changes: dict[int, int] = {}
        if registers is not None:
            changes = {
                number: after
                for number, (old, after) in enumerate(zip(before.registers, registers, strict=True))
                if old != after
            }
        write = self.write_of(before) if registers is not None else None
        self.report(TraceEntry(before.slot, before.instruction, before.registers, changes, write))

    def write_of(self, step: Step) -> Write | None:
        insn = step.instruction
        if insn.op.kind not in _WRITING:
            return None
        address = (step.registers[insn.dst] + insn.off) & U64_MAX
        try:
            value = self.memory.load(address, insn.op.size)
        except MemoryFault:
            return None
        return Write(address, insn.op.size, value, describe_address(self.memory, address))


def describe_address(memory: AddressSpace, address: int) -> str:
    """An address in words: the region and the offset in it, `stack of frame 0+504`."""
    region = memory.find(address)
    return f"{address:#x}" if region is None else f"{region.name}+{address - region.base - region.low}"


def trace_run(machine: Machine, packet: bytes, report: Callable[[TraceEntry], None], **options: Any) -> Result:
    """Run a machine once and report every instruction with its effects, in order; `options` go to `Machine.run`.

    Raises what the run raises, after the last instruction has been reported.
    """
    recorder = _Recorder(machine.memory, report)
    try:
        result = machine.run(packet, trace=recorder, **options)
    except MachineFault:
        recorder.finish(None)
        raise
    before = recorder.before
    last = None if before is None else (result.r0, *before.registers[1:])
    recorder.finish(last)
    return result


class Stepper:
    """A recorded run and a place in it.

    `make` gives a fresh machine, `packet` and `options` go to its `run`. The place is before instruction number
    `position` (from 0); `len(stepper)` is how many there are, and the place behind the last is the end.

    >>> from ebpfkit.asm.parser import parse
    >>> program = parse("r0 = 5\\nr0 += 2\\n*(u64 *)(r10 -8) = r0\\nexit")
    >>> stepper = Stepper(lambda: Machine(program, prog_type=None))
    >>> stepper.step(3)
    3
    >>> stepper.registers[0], stepper.read(stepper.registers[10] - 8, 8)[0]
    (7, 7)
    >>> stepper.back()
    2
    >>> str(stepper.entry)
    '    2: *(u64 *)(r10 -8) = r0                        ; stack of frame 0+504=0x7'

    Raises UsageError for a run of more than `limit` instructions.
    """

    def __init__(
        self, make: Callable[[], Machine], packet: bytes = b"", *, limit: int = DEFAULT_LIMIT, **options: Any
    ) -> None:
        self._make = make
        self._packet = packet
        self._options = options
        self.entries: list[TraceEntry] = []
        self.breakpoints: set[int] = set()
        """Slots that `run` and `run_back` stop before."""
        self.position = 0
        self.result: Result | None = None
        self.fault: MachineFault | None = None
        self._machine: tuple[int, Machine] | None = None

        def report(entry: TraceEntry) -> None:
            if len(self.entries) >= limit:
                raise UsageError(f"the run takes more than {limit} instructions: raise limit=")
            self.entries.append(entry)

        try:
            self.result = trace_run(make(), packet, report, **options)
        except MachineFault as fault:
            self.fault = fault

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def at_end(self) -> bool:
        return self.position >= len(self.entries)

    @property
    def entry(self) -> TraceEntry:
        """The instruction that comes next. Raises UsageError at the end."""
        if self.at_end:
            raise UsageError("the run is at its end: go back")
        return self.entries[self.position]

    @property
    def registers(self) -> tuple[int, ...]:
        """r0 to r10 at this place."""
        if not self.at_end:
            return self.entry.registers
        if not self.entries:
            return (0,) * 11
        last = self.entries[-1]
        return tuple(last.changes.get(number, value) for number, value in enumerate(last.registers))

    def step(self, count: int = 1) -> int:
        """Forward by `count` instructions, at most to the end; the new position."""
        return self.go(self.position + count)

    def back(self, count: int = 1) -> int:
        """Backward by `count` instructions, at most to the start; the new position."""
        return self.go(self.position - count)

    def go(self, position: int) -> int:
        """To a position, kept within the run."""
        self.position = max(0, min(position, len(self.entries)))
        return self.position

    def run(self) -> int:
        """Forward to the next breakpoint, or to the end; the new position."""
        return self._seek(range(self.position + 1, len(self.entries)), len(self.entries))

    def run_back(self) -> int:
        """Backward to the last breakpoint before this place, or to the start; the new position."""
        return self._seek(range(self.position - 1, -1, -1), 0)

    def break_at_line(self, line: int, file: str | None = None) -> set[int]:
        """Set a breakpoint where a source line begins; the slots. Raises UsageError when no instruction is from it."""
        first: dict[tuple[str, int], int] = {}
        for entry in self.entries:
            span = entry.instruction.span
            if span is not None and span.line == line and (file is None or span.file.endswith(file)):
                key = (span.file, span.line)
                first[key] = min(first.get(key, entry.slot), entry.slot)
        if not first:
            raise UsageError(f"no executed instruction is from line {line}")
        self.breakpoints |= set(first.values())
        return set(first.values())

    def _seek(self, positions: range, otherwise: int) -> int:
        for position in positions:
            if self.entries[position].slot in self.breakpoints:
                return self.go(position)
        return self.go(otherwise)

    # Memory and maps, from a machine that ran up to here.

    def read(self, address: int, size: int) -> bytes:
        """Memory at this place. Raises UsageError where there is none."""
        try:
            return self._machine_here().memory.read(address, size)
        except MemoryFault as fault:
            raise UsageError(fault.message) from fault

    @property
    def maps(self) -> Mapping[str, MemoryStore]:
        """The maps at this place, by name; writing to them changes nothing."""
        return self._machine_here().maps

    def _machine_here(self) -> Machine:
        if self._machine is not None and self._machine[0] == self.position:
            return self._machine[1]
        machine = self._make()
        left = self.position

        def stop(step: Step) -> None:
            nonlocal left
            if not left:
                raise _Stop
            left -= 1

        with suppress(_Stop, MachineFault):
            machine.run(self._packet, trace=stop, **self._options)
        self._machine = (self.position, machine)
        return machine
