"""Timers in map values: `value.timer.start(n)` calls a function later.

In the kernel they fire by themselves. In plain Python time stands still: `m.fire_timers(now)` fires those of a map in
memory whose time has come.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ebpfkit.dsl.arrays import array
from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import RUN, Run, current_run
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import s64, u64

if TYPE_CHECKING:
    from ebpfkit.dsl.maps import MapFacade

__all__ = ["CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "CLOCK_REALTIME", "TIMER_ABSOLUTE", "Timer", "fire"]

CLOCK_REALTIME = 0
CLOCK_MONOTONIC = 1
CLOCK_BOOTTIME = 7
TIMER_ABSOLUTE = 1  # the time given to start() is on the timer's clock, not from now
_CLOCKS = (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME)
_EINVAL, _EBUSY = 22, 16
_MOST_FIRED = 100_000  # by one call: a timer may start itself again


@dataclass(slots=True, eq=False)
class _Armed:
    """A timer that was initialised. `expires` is None while it does not run."""

    facade: MapFacade
    store: Any
    key: bytes
    place: int
    run: Run
    callback: Callable[..., object] | None = None
    expires: int | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the map value that holds it is still in the map."""
        cell = self.store.lookup(self.key)
        return cell is not None and 0 <= self.place - _address(cell) < len(cell)


_KNOWN: dict[int, _Armed] = {}
"""Timers by the address of their bytes."""


class bpf_timer(Struct):  # the kernel finds it by this name in the map's types
    """A timer as a field of a map's value; it is never named in a constructor.

        timer: bpf.Timer = bpf.Timer()      # what stands behind = is for type checkers, and may be left out

    `init` once, `set_callback`, then `start`; what deletes the entry cancels the timer (kernel 5.15; hashes, LRU hashes
    and arrays). The program must stay loaded, or pinned, for its function to be called.
    """

    opaque: array[u64, Literal[2]] = array[u64, Literal[2]]()

    def init(self, entries: MapFacade, clock: int = CLOCK_MONOTONIC, /) -> s64:
        """Prepare the timer of a value of `entries` (bpf_timer_init): 0, or -EBUSY (16) when it is prepared already."""
        run = self._running("init")
        if clock not in _CLOCKS:
            refuse("bad-flags", f"no clock of a timer is {clock}", "CLOCK_MONOTONIC, CLOCK_BOOTTIME or CLOCK_REALTIME")
        known = self._armed()
        if known is not None:
            return s64(-_EBUSY)
        store, place = entries._run_store(run), self._place()
        cells = ((key, store.lookup(key)) for key in list(store.keys()))
        key = next((k for k, cell in cells if cell is not None and 0 <= place - _address(cell) < len(cell)), None)
        if key is None:
            what = f"this timer is in no value of the map '{entries.name}'"
            refuse("bad-timer", what, "name the map that has the value")
        _KNOWN[place] = _Armed(entries, store, key, place, run)
        return s64(0)

    def set_callback(self, function: Callable[[Any, Any], None], /) -> s64:
        """What to call with the key and the value (bpf_timer_set_callback): 0, or -EINVAL (22) before `init`."""
        self._running("set_callback")
        armed = self._armed()
        if armed is None:
            return s64(-_EINVAL)
        armed.callback = function
        return s64(0)

    def start(self, nanoseconds: int, flags: int = 0, /) -> s64:
        """Call the function in so many nanoseconds (bpf_timer_start): 0, or -EINVAL (22) where there is none."""
        run = self._running("start")
        if flags not in (0, TIMER_ABSOLUTE):
            refuse("bad-flags", f"start() with the flags {flags}", "0 or TIMER_ABSOLUTE")
        armed = self._armed()
        if armed is None or armed.callback is None:
            return s64(-_EINVAL)
        armed.expires = int(nanoseconds) + (0 if flags else run.clock())
        return s64(0)

    def cancel(self) -> s64:
        """Stop it (bpf_timer_cancel): 1 when it was running, 0 when not, -EINVAL (22) before `init`."""
        self._running("cancel")
        armed = self._armed()
        if armed is None:
            return s64(-_EINVAL)
        was_running = armed.expires is not None
        armed.expires = armed.callback = None
        return s64(int(was_running))

    def _running(self, what: str) -> Run:
        run = current_run()
        if run is None:
            refuse("program-only", f"{what}() of a timer has a meaning only in a running program")
        if run.locked:
            refuse("in-lock", f"{what}() is called while a spin lock is held", "call it before or after the with")
        if self._region.kind is not RegionKind.MAP:
            refuse(
                "bad-timer", f"this timer lies in {self._region.kind.value}", "use the one of a value that a map gave"
            )
        return run

    def _place(self) -> int:
        return _address(self._region.data) + self._offset

    def _armed(self) -> _Armed | None:
        found = _KNOWN.get(self._place())
        return found if found is not None and found.is_alive else None


bpf_timer.__ebpf_type__ = replace(bpf_timer.__ebpf_type__, opaque=True)
Timer = bpf_timer


def _address(cell: bytearray | memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(cell))


def fire(facade: MapFacade, now: int) -> int:
    """Call the functions of a map's timers whose time has come, in the order of their times: how many."""
    fired = 0
    while fired < _MOST_FIRED:
        for place, known in list(_KNOWN.items()):
            if not known.is_alive:
                del _KNOWN[place]
        due = [t for t in _KNOWN.values() if t.facade is facade and t.expires is not None and t.expires <= now]
        if not due:
            break
        _call(min(due, key=lambda timer: timer.expires or 0), now)
        fired += 1
    return fired


def _call(timer: _Armed, now: int) -> None:
    before, callback = timer.run, timer.callback
    timer.expires = None
    cell = timer.store.lookup(timer.key)
    assert callback is not None and cell is not None
    key = timer.facade.key_type.__ebpf_load__(Region(bytearray(timer.key)), 0)
    value = timer.facade.value_type.__ebpf_load__(Region(cell, RegionKind.MAP, timer.facade.name), 0)
    token = RUN.set(Run(before.packet, before.license, before.cpu, lambda: now, before.random, before.stores))
    try:
        callback(key, value)
    finally:
        RUN.reset(token)
