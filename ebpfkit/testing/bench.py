"""`Bench`: what the fixture `ebpf` gives to a test. It keeps programs, their executors and maps while the test runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ebpfkit.errors import UsageError
from ebpfkit.testing.diff import DiffReport, Packets, diff_run, packets_of
from ebpfkit.testing.executors import Executor, FakeClock, FakeRandom, MachineExecutor, Outcome, open_executor
from ebpfkit.testing.subjects import Subject, Testable, encode_entries, put_entries, subject_of

if TYPE_CHECKING:
    from ebpfkit.verifier.report import ProgramReport
    from ebpfkit.vm.coverage import Coverage

__all__ = ["Bench"]

_Key = tuple[int, str | None]  # which object a test gave, and the name of its program


class Bench:
    """Runs programs in any executor, and asserts on what they do.

    `clock` stands until it is advanced; `numbers` are the random numbers; `context` holds fields of the context,
    `machine` further options of the virtual machine (`fib`, `devices`, `sockets`, `task`, ...: `Around` names them),
    all to be set before a program first runs. A program keeps its maps from packet to packet, in each executor apart,
    and never touches those of its module.
    """

    def __init__(self, on: str = "interpreter") -> None:
        self.on = on
        self.clock = FakeClock()
        self.numbers = FakeRandom()
        self.context: dict[str, int] = {}
        self.machine: dict[str, Any] = {}
        self._subjects: dict[_Key, tuple[object, Subject]] = {}
        self._executors: dict[tuple[_Key, str], Executor] = {}
        self._coverage: dict[_Key, Coverage] = {}
        self._stack = ExitStack()

    def subject(self, x: Testable, name: str | None = None) -> Subject:
        """The program as it is kept here."""
        found = self._subjects.get((id(x), name))
        if found is None:
            found = self._subjects[id(x), name] = (x, subject_of(x, name))
        return found[1]

    def executor(self, x: Testable, on: str | None = None, name: str | None = None) -> Executor:
        """The executor in which a program is kept here."""
        subject, on = self.subject(x, name), on or self.on
        key = (id(x), name)
        executor = self._executors.get((key, on))
        if executor is None:
            executor = open_executor(
                subject, on, clock=self.clock, numbers=self.numbers, context=self.context, **self.machine
            )
            self._executors[key, on] = self._stack.enter_context(executor)
            if on == "interpreter" and isinstance(executor, MachineExecutor):
                executor.trace = self.coverage(x, name).record
        return executor

    def fill(self, x: Testable, maps: Mapping[str, Mapping[Any, Any]], *, name: str | None = None) -> None:
        """Put entries into the maps of a program, in every executor from now on.

        Keys and values are those of the map's types, or bytes where a program is no decorated function. Raises
        UsageError for a map that is not there, and what the map raises for an entry that does not fit.
        """
        subject = self.subject(x, name)
        entries = {map_name: encode_entries(subject, map_name, held) for map_name, held in maps.items()}
        self._subjects[id(x), name] = (x, subject.with_entries(entries))
        for (key, _), executor in self._executors.items():
            if key == (id(x), name):
                for map_name, held in entries.items():
                    put_entries(executor.stores()[map_name], held)

    def run(self, x: Testable, packet: Packets, on: str | None = None, *, name: str | None = None) -> Outcome:
        """Run a program on one packet: bytes, or a scapy packet. `on` is one of EXECUTORS (default: the bench's)."""
        outcomes = self.run_all(x, packet, on, name=name)
        if len(outcomes) != 1:
            raise UsageError(f"run takes one packet, not {len(outcomes)}: use run_all for captures and lists")
        return outcomes[0]

    def run_all(
        self, x: Testable, packets: Packets, on: str | None = None, *, name: str | None = None
    ) -> list[Outcome]:
        """Run a program on every packet of a capture (its path) or of a list."""
        executor = self.executor(x, on, name)
        outcomes = []
        for packet in packets_of(packets):
            refusal = executor.refuses(packet.data)
            if refusal:
                raise UsageError(f"{executor.on}: {refusal}")
            outcomes.append(executor.run(packet.data, packet.time_ns))
        return outcomes

    def diff_run(
        self, x: Testable, packets: Packets, on: Sequence[str] | None = None, *, name: str | None = None, **options: Any
    ) -> DiffReport:
        """Run a program on packets in several executors, each fresh, and assert that they agree.

        Raises AssertionError with the packets, verdicts, bytes and map entries that differ.
        """
        __tracebackhide__ = True
        subject = self.subject(x, name)
        report = diff_run(
            subject,
            packets,
            on,
            clock=self.clock,
            numbers=self.numbers,
            context=self.context,
            **self.machine,
            **options,
        )
        return report.check()

    def verify(
        self, x: Testable, *, kernel: str | None = None, max_insns: int | None = None, name: str | None = None
    ) -> ProgramReport:
        """Assert that the verifier of a kernel accepts a program, walking at most `max_insns` instructions.

        Without `kernel` it means 6.18. Raises AssertionError that says why not.
        """
        __tracebackhide__ = True
        from ebpfkit.pipeline import profile_for
        from ebpfkit.verifier import verify_program

        report = verify_program(self.subject(x, name).spec, profile_for(kernel))
        if not report.ok:
            raise AssertionError(f"{report.name}: {report.verdict} on {report.kernel}: {report.message}")
        if max_insns is not None and report.insns_processed > max_insns:
            raise AssertionError(
                f"{report.name}: the verifier walks {report.insns_processed} instructions, {max_insns} are allowed"
            )
        return report

    def coverage(self, x: Testable, name: str | None = None) -> Coverage:
        """Which lines the runs of this test reached (those in the interpreter)."""
        from ebpfkit.vm.coverage import Coverage

        found = self._coverage.get((id(x), name))
        if found is None:
            found = self._coverage[id(x), name] = Coverage([self.subject(x, name).spec])
        return found

    def close(self) -> None:
        """Let go of all executors."""
        self._stack.close()
        self._executors.clear()
