"""For users' tests: run programs on packets in any executor and compare, strategies for hypothesis, a veth lab.

`Bench` is what the pytest fixture `ebpf` gives; `diff_run` compares executors; `strategies` needs hypothesis, `plugin`
is loaded by pytest (the extra `testing` brings both). All of it uses the public API alone, and nothing here is needed
by a program at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebpfkit.testing.bench import Bench
    from ebpfkit.testing.diff import Difference, DiffReport, diff_run, packets_of
    from ebpfkit.testing.executors import EXECUTORS, Executor, FakeClock, FakeRandom, Outcome, open_executor
    from ebpfkit.testing.lab import VethLab, ping, udp_exchange
    from ebpfkit.testing.subjects import Subject, subject_of

_HOMES = {
    "Bench": "bench",
    "DiffReport": "diff",
    "Difference": "diff",
    "EXECUTORS": "executors",
    "Executor": "executors",
    "FakeClock": "executors",
    "FakeRandom": "executors",
    "Outcome": "executors",
    "Subject": "subjects",
    "VethLab": "lab",
    "diff_run": "diff",
    "open_executor": "executors",
    "packets_of": "diff",
    "ping": "lab",
    "subject_of": "subjects",
    "udp_exchange": "lab",
}
__all__ = [
    "EXECUTORS", "Bench", "DiffReport", "Difference", "Executor", "FakeClock", "FakeRandom", "Outcome", "Subject",
    "VethLab", "diff_run", "open_executor", "packets_of", "ping", "subject_of", "udp_exchange",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"ebpfkit.testing.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
