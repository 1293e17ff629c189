"""One run of a program as plain Python: what it may ask of its surroundings while it runs.

The clock, the random numbers, the CPU and the stores of the maps are the run's, so that a run can be repeated. Who
makes a run is in `execute`; maps, packets and helpers only look here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebpfkit.dsl.kinds import Kind
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.dsl.packet import Reader

__all__ = ["Run", "ShortExit", "current_run"]


class ShortExit(Exception):
    """A packet was too short, or a key not there: the program ends with its `short=` verdict."""


@dataclass(slots=True, eq=False)
class Run:
    """What a running program sees. `clock` gives nanoseconds, `random` 32 bits; `stores` overrides maps' own."""

    packet: Reader
    license: str = ""
    cpu: int = 0
    clock: Callable[[], int] = lambda: 0
    random: Callable[[], int] = lambda: 0
    stores: Mapping[MapFacade, Any] = field(default_factory=dict)
    reserved: list[Any] = field(default_factory=list)  # ring buffer records that are neither submitted nor discarded
    kind: Kind | None = None  # of the program; None: a handler of AF_XDP, which is as XDP
    dynptrs: dict[int, Any] = field(default_factory=dict)  # their storage and packet, by the storage's identity
    allocated: list[Any] = field(default_factory=list)  # the storage of objects that the program has to give back
    tail_calls: int = 0  # how often it has jumped to another program
    locked: bool = False  # inside of `with value.lock:`
    redirect: tuple[str, int] | None = None  # the map and key, or ("", interface index), of the last redirect
    traced: list[str] = field(default_factory=list)  # lines of `trace`


RUN: ContextVar[Run | None] = ContextVar("ebpfkit_run", default=None)


def current_run() -> Run | None:
    """The run that is going on in this thread, if any."""
    return RUN.get()
