"""Perf event arrays: events with a record and, where wanted, the first bytes of the packet, from each CPU apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.memory import Region
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.types import encode, info_of, s64, type_name, u32
from ebpfkit.errors import UsageError

__all__ = ["PerfEvent", "PerfEventArray"]

T = TypeVar("T")
MOST_PAYLOAD = 0xFFFFF
"""The most bytes of the packet that an event takes along (BPF_F_CTXLEN_MASK)."""
_EFAULT = 14


@dataclass(frozen=True, slots=True)
class PerfEvent(Generic[T]):
    """An event as user space gets it. `packet` may end in up to 7 bytes that are not the packet's."""

    cpu: int
    record: T
    packet: bytes


class PerfEventArray(MapFacade, Generic[T]):
    """Events from programs to user space over a channel of each CPU (BPF_MAP_TYPE_PERF_EVENT_ARRAY).

    A ring buffer keeps order and needs less memory; this is for kernels below 5.8, and for events that take the packet
    along: `events.output(pkt, record, packet=64)`. `max_entries` 0 means one for each CPU.
    """

    map_type = "perf_event_array"
    in_program = "output"
    least_entries = 0
    parameters: ClassVar[tuple[str, ...]] = ("value_type",)

    def __init__(self, *, max_entries: int = 0, name: str = "", flags: int = 0) -> None:
        super().__init__(max_entries=max_entries, name=name, flags=flags)
        self.lost = 0

    def _key_size(self) -> int:
        return 4

    def _value_size(self) -> int:
        return 4

    @property
    def stored_types(self) -> tuple[Any, Any]:
        """A CPU's number, and the descriptor of its channel."""
        return u32, u32

    def output(self, pkt: object, record: T, /, *, packet: int = 0) -> s64:
        """Send a record, and the first `packet` bytes of the packet behind it: 0, or a negative errno
        (bpf_perf_event_output): -ENOENT while nobody reads, -ENOSPC without room, -EFAULT for a shorter packet."""
        run = current_run()
        if run is None:
            refuse("program-only", f"{self.name}.output() has a meaning only in a running program")
        if pkt is not run.packet:
            refuse("bad-type", "output() takes the program's own context first", "write output(pkt, record)")
        data = encode(self.value_type, record)
        if getattr(packet, "__ebpf_type__", u32.__ebpf_type__).signed or not 0 <= packet <= MOST_PAYLOAD:
            refuse("bad-size", f"packet= is 0 to {MOST_PAYLOAD} bytes, not {packet} ({type_name(packet)})")
        if packet:
            frame = run.packet
            if packet > len(frame):
                return s64(-_EFAULT)
            data += frame._region.read(0, int(packet))
        return s64(self._run_store(run).output(run.cpu, data))

    def poll(self, timeout: float | None = None) -> list[PerfEvent[T]]:
        """The events that have come, waiting up to `timeout` seconds for the first (None: for ever); user space only.

        The first call opens the channels, so call it with 0 before the traffic begins. `lost` says how many found no
        room.
        """
        if current_run() is not None:
            refuse("user-space-only", f"a program cannot read the events of '{self.name}'")
        store: Any = self.store
        if hasattr(store, "poll_events"):
            if timeout is not None and not timeout >= 0:
                raise UsageError(f"timeout is seconds from 0 up, not {timeout}")
            found, self.lost = store.poll_events(timeout)
        else:
            found, store.events = store.events, []
        return [self._event(cpu, data) for cpu, data in found]

    def _event(self, cpu: int, data: bytes) -> PerfEvent[T]:
        size = info_of(self.value_type).size
        if len(data) < size:
            raise UsageError(f"an event of {len(data)} bytes in '{self.name}', whose records have {size}")
        record = cast(T, self.value_type.__ebpf_load__(Region(bytearray(data[:size])), 0))
        return PerfEvent(cpu, record, data[size:])

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """Nothing: channels are opened by the reader."""
        return ()
