"""The same program on the same packets in several executors: do they agree?

Compared are the verdict, the bytes of the packet, the redirection (not with the kernel, which does not tell) and the
contents of the maps, always with the first executor. Programs that read the kernel's own clock or random numbers
cannot agree with it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, SupportsBytes

from ebpfkit.errors import UsageError
from ebpfkit.testing.executors import (
    Executor,
    FakeClock,
    FakeRandom,
    Outcome,
    describe_bytes,
    open_executor,
    verdict_name,
)  # fmt: skip
from ebpfkit.testing.subjects import Subject, Testable, subject_of
from ebpfkit.vm.pcap import Packet, open_pcap

__all__ = ["DiffReport", "Difference", "Packets", "default_executors", "diff_run", "packets_of"]

Packets = bytes | bytearray | memoryview | SupportsBytes | str | os.PathLike[str] | Iterable[Any]
MAX_DIFFERENCES = 20
_REDIRECTS = (4, 7)  # XDP_REDIRECT, TC_ACT_REDIRECT


def packets_of(source: Packets) -> Iterator[Packet]:
    """Packets one by one: of bytes, of a scapy packet (anything with `bytes(x)`), of a capture by its path, of a list.

    Raises PcapError, and UsageError for what is none of these.
    """
    if isinstance(source, Packet):
        yield source
    elif isinstance(source, (str, os.PathLike)):
        with open_pcap(source) as capture:
            yield from capture
    elif isinstance(source, (bytes, bytearray, memoryview)):
        yield Packet(bytes(source))
    elif hasattr(source, "__bytes__"):
        yield Packet(source.__bytes__())
    elif isinstance(source, Iterable):
        items: Iterable[Any] = source
        for one in items:
            yield from packets_of(one)
    else:
        raise UsageError(
            f"{source!r} is no packet: give bytes, a scapy packet, the path of a capture, or a list of these"
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Two executors that do not agree: on packet `packet` (from 1; None: on the maps at the end), about `what`."""

    packet: int | None
    executor: str
    reference: str
    what: str
    message: str

    def __str__(self) -> str:
        where = f"packet {self.packet}" if self.packet is not None else "at the end"
        return f"{where}: {self.executor} and {self.reference} differ in {self.what}: {self.message}"


@dataclass(slots=True)
class DiffReport:
    """What a comparison found; `ok` when nothing differs.

    `seconds` and `insns` are totals by executor (None: not counted). `refused` counts packets that an executor cannot
    be given at all; nobody was given them.
    """

    program: str
    executors: tuple[str, ...]
    packets: int = 0
    actions: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    insns: dict[str, int | None] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.differences

    def check(self) -> DiffReport:
        """Itself, or AssertionError with every difference found."""
        __tracebackhide__ = True
        if self.differences:
            raise AssertionError(str(self))
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "program": self.program,
            "executors": list(self.executors),
            "packets": self.packets,
            "agree": self.ok,
            "actions": dict(self.actions),
            "insns": self.insns,
            "seconds": {name: round(value, 6) for name, value in self.seconds.items()},
            "refused": dict(self.refused),
            "differences": [
                {"packet": one.packet, "executor": one.executor, "reference": one.reference, "what": one.what,
                 "message": one.message} for one in self.differences
            ],
        }  # fmt: skip

    def __str__(self) -> str:
        names = ", ".join(self.executors)
        count = f"{self.packets} packet{'s' if self.packets != 1 else ''}"
        count += "".join(f" ({number} more that {name} cannot be given)" for name, number in self.refused.items())
        if self.ok:
            return f"{self.program}: {names} agree on {count}"
        shown = [f"{self.program}: {names} do not agree on {count}", *(f"  {one}" for one in self.differences)]
        return "\n".join(shown)


def default_executors(subject: Subject) -> tuple[str, ...]:
    """Those that need no privileges and can run it."""
    return ("python", "interpreter", "jit") if subject.program is not None else ("interpreter", "jit")


def diff_run(
    x: Testable,
    packets: Packets,
    on: Sequence[str] | None = None,
    *,
    name: str | None = None,
    clock: FakeClock | None = None,
    numbers: FakeRandom | None = None,
    context: Mapping[str, int] | None = None,
    maps_after_each: bool = False,
    progress: Callable[[int], None] | None = None,
    **machine: Any,
) -> DiffReport:
    """Run a program on packets in several executors and compare; at most MAX_DIFFERENCES are kept, then it stops.

    `on` are names of EXECUTORS (None: all that need no privileges); the first is what the others are compared with.
    `maps_after_each` compares the maps behind every packet and not only at the end. Raises EbpfError where an executor
    cannot run the program at all.
    """
    subject = subject_of(x, name)
    names = tuple(on) if on is not None else default_executors(subject)
    if len(names) < 2 or len(set(names)) != len(names):
        raise UsageError(f"a comparison needs two executors or more, each once, not {', '.join(names) or 'none'}")
    report = DiffReport(subject.name, names, insns=dict.fromkeys(names, 0), seconds=dict.fromkeys(names, 0.0))
    with ExitStack() as stack:
        executors = [
            stack.enter_context(open_executor(subject, on, clock=clock, numbers=numbers, context=context, **machine))
            for on in names
        ]
        for packet in packets_of(packets):
            unable = next((executor for executor in executors if executor.refuses(packet.data)), None)
            if unable is not None:
                report.refused[unable.on] += 1
                continue
            report.packets += 1
            outcomes = [_timed(executor, packet, report) for executor in executors]
            _compare(report, outcomes)
            if maps_after_each:
                _compare_maps(report, executors, report.packets)
            if progress is not None:
                progress(report.packets)
            if len(report.differences) >= MAX_DIFFERENCES:
                break
        if not maps_after_each:
            _compare_maps(report, executors, None)
    return report


def _timed(executor: Executor, packet: Packet, report: DiffReport) -> Outcome:
    start = time.perf_counter()
    outcome = executor.run(packet.data, packet.time_ns)
    report.seconds[executor.on] += time.perf_counter() - start
    total = report.insns[executor.on]
    if not outcome.fault:
        report.insns[executor.on] = None if total is None or outcome.insns is None else total + outcome.insns
    return outcome


def _compare(report: DiffReport, outcomes: Sequence[Outcome]) -> None:
    first, *others = outcomes
    report.actions["fault" if first.fault else verdict_name(first.action)] += 1

    def differ(other: Outcome, what: str, message: str) -> None:
        report.differences.append(Difference(report.packets, other.executor, first.executor, what, message))

    for other in others:
        if bool(first.fault) != bool(other.fault):
            differ(other, "a fault", other.fault or f"none, and {first.fault}")
        elif first.fault:
            continue
        elif first.action != other.action:
            differ(other, "the verdict", f"{verdict_name(other.action)}, not {verdict_name(first.action)}")
        elif first.data != other.data:
            differ(other, "the bytes", describe_bytes(first.data, other.data))
        elif _is_redirected(first, other) and first.redirect != other.redirect:
            differ(other, "the redirection", f"{other.redirect}, not {first.redirect}")


def _is_redirected(*outcomes: Outcome) -> bool:
    """Whether the verdict is a redirection, in executors that say where to."""
    return all(one.action in _REDIRECTS and one.executor != "kernel" for one in outcomes)


def _compare_maps(report: DiffReport, executors: Sequence[Executor], packet: int | None) -> None:
    first, *others = executors
    expected = first.raw_maps
    for other in others:
        found = other.raw_maps
        for name in expected.keys() & found.keys():
            message = _difference_of_maps(expected[name], found[name])
            if message:
                what = f"map {name!r}"
                report.differences.append(Difference(packet, other.on, first.on, what, message))


def _difference_of_maps(expected: dict[bytes, tuple[bytes, ...]], found: dict[bytes, tuple[bytes, ...]]) -> str:
    for key in sorted(expected.keys() | found.keys()):
        one, other = expected.get(key), found.get(key)
        if one != other:
            return f"key {key.hex(' ')} is {_shown(other)}, not {_shown(one)}"
    return ""


def _shown(cells: tuple[bytes, ...] | None) -> str:
    return "missing or zero" if cells is None else " | ".join(cell.hex(" ") for cell in cells)
