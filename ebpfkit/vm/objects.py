"""Kernel objects that programs hold while they run: socket references, dynptrs, locks, timers; and recorded effects.

What an object is and how long it lives belongs here; the helpers that hand them out are in `helpers_network` and
`helpers_objects`. References, dynptrs and locks end with the run; timers stay until they fire.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from ebpfkit.maps.base import Cell, MemoryStore
from ebpfkit.maps.memory import Record, RingBufferStore
from ebpfkit.vm.memory import AddressSpace, MemoryFault, Region
from ebpfkit.vm.network import Socket, socket_bytes

__all__ = ["Buffer", "Dynptr", "Effect", "Objects", "Task", "Timer"]

_MAX_EFFECTS = 10_000
_MAX_REFERENCES = 1000
_MAX_EFFECT_BYTES = 1 << 26


def _place(cell: memoryview) -> int:
    """Where the bytes of a view are in this process: the same for two views of one place."""
    return ctypes.addressof(ctypes.c_char.from_buffer(cell))


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that a helper would have done to the world: its name without `bpf_`, and with what."""

    name: str
    values: Mapping[str, int | bytes]


@dataclass(frozen=True, slots=True)
class Task:
    """The task that programs find as the current one."""

    pid: int = 1
    tgid: int = 1
    uid: int = 0
    gid: int = 0
    comm: str = "ebpfkit"
    cgroup_id: int = 1


@dataclass(slots=True)
class Buffer:
    """What the kernel keeps of a socket buffer beside its bytes and the fields of its context.

    `network_offset` is where the network header is in the packet, `checksum_level` None while nobody has checked it.
    """

    network_offset: int = 14
    tunnel_key: tuple[bytes, bool] | None = None
    tunnel_options: bytes = b""
    checksum_level: int | None = None
    is_encapsulated: bool = False


@dataclass(slots=True)
class Dynptr:
    """A view of memory: `address` and `size`; of a reserved record when `record` is there. Size 0: invalid."""

    address: int = 0
    size: int = 0
    record: tuple[RingBufferStore, Record] | None = None
    read_only: bool = False


@dataclass(slots=True)
class Timer:
    """A timer in a map value. `expires_ns` is None while it does not run; `callback` is a slot of the program."""

    store: MemoryStore
    key: bytes
    cell: Cell
    address: int
    clock: int
    callback: int | None = None
    expires_ns: int | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the map value that holds it is still in the map."""
        return self.holds(self.store.lookup(self.key))

    def holds(self, cell: Cell | None) -> bool:
        """Whether this is the map value that the timer is in; views of one place are the same value."""
        if cell is self.cell:
            return True
        return isinstance(cell, memoryview) and isinstance(self.cell, memoryview) and _place(cell) == _place(self.cell)


@dataclass
class Objects:
    """All objects of one machine."""

    memory: AddressSpace
    sockets: dict[int, tuple[Region, Socket]] = field(default_factory=dict)
    dynptrs: dict[int, Dynptr] = field(default_factory=dict)
    locked: int | None = None
    timers: dict[int, Timer] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    _effect_bytes: int = 0
    _running: Timer | None = None

    def reset(self) -> None:
        """Before a run: what the last one held is gone."""
        if not (self.sockets or self.dynptrs or self.effects or self.locked is not None):
            return
        for region, _ in self.sockets.values():
            self.memory.remove(region)
        self.sockets.clear()
        self.dynptrs.clear()
        self.effects.clear()
        self._effect_bytes = 0
        self.locked = None

    # Sockets.

    def acquire(self, socket: Socket) -> int:
        """The address of a new reference to a socket. Raises MemoryFault when the program lets none of them go."""
        if len(self.sockets) >= _MAX_REFERENCES:
            raise MemoryFault(f"more than {_MAX_REFERENCES} socket references are held", "socket")
        region = self.memory.add(
            f"socket ({socket.protocol})", bytearray(socket_bytes(socket, self.memory.order)), writable=False
        )
        self.sockets[region.base] = (region, socket)
        return region.base

    def socket_at(self, address: int) -> Socket:
        """The socket of a reference. Raises MemoryFault for what is none."""
        found = self.sockets.get(address)
        if found is None:
            raise MemoryFault(f"{address:#x} is no socket")
        return found[1]

    def release(self, address: int) -> None:
        """Give a reference back; its memory goes. Raises MemoryFault for what is none, or no longer."""
        self.socket_at(address)
        region, _ = self.sockets.pop(address)
        self.memory.remove(region)

    # Dynptrs.

    def dynptr_at(self, address: int) -> Dynptr:
        """The dynptr at an address of the stack. Raises MemoryFault where none was made."""
        found = self.dynptrs.get(address)
        if found is None:
            raise MemoryFault(f"there is no dynptr at {address:#x}")
        return found

    # Effects.

    def record(self, name: str, **values: int | bytes) -> bool:
        """Remember an effect; False when there are too many of this run already."""
        self._effect_bytes += sum(len(value) for value in values.values() if isinstance(value, bytes))
        if len(self.effects) >= _MAX_EFFECTS or self._effect_bytes > _MAX_EFFECT_BYTES:
            return False
        self.effects.append(Effect(name, values))
        return True

    # Timers.

    @contextmanager
    def firing(self, timer: Timer) -> Iterator[None]:
        """The callback of this timer runs for the length of the block."""
        timer.expires_ns, self._running = None, timer
        try:
            yield
        finally:
            self._running = None

    def is_running(self, timer: Timer) -> bool:
        """Whether the callback of this timer is what runs now."""
        return self._running is timer

    def due(self, now_ns: int) -> Timer | None:
        """The next timer whose time has come; those whose map value is gone never fire."""
        waiting = [timer for timer in self.timers.values() if timer.expires_ns is not None and timer.is_alive]
        self.timers = {address: timer for address, timer in self.timers.items() if timer.is_alive}
        first = min(waiting, key=lambda timer: timer.expires_ns or 0, default=None)
        return first if first is not None and (first.expires_ns or 0) <= now_ns else None
