"""Kernel objects that programs hold while they run: socket references, dynptrs, locks, timers; and recorded effects.

What an object is and how long it lives belongs here; the helpers that hand them out are in `helpers_network` and
`helpers_objects`. References, dynptrs and locks end with the run; timers stay until they fire.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from ebpfkit.maps.base import Cell, MemoryStore
from ebpfkit.maps.memory import Record, RingBufferStore
from ebpfkit.vm.frame import Frame
from ebpfkit.vm.graph import Graph
from ebpfkit.vm.memory import AddressSpace, MemoryFault, Region
from ebpfkit.vm.network import Socket, socket_bytes

__all__ = ["Buffer", "Dynptr", "Effect", "Objects", "PidNamespace", "Task", "Timer"]

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
class PidNamespace:
    """A namespace of process ids, by device and inode as `stat -L /proc/self/ns/pid` shows, and a task's ids there."""

    device: int
    inode: int
    pid: int
    tgid: int


@dataclass(frozen=True, slots=True)
class Task:
    """The task that programs find as the current one.

    `cgroup_ancestors` are the ids of the control groups above `cgroup_id`, the root first.
    """

    pid: int = 1
    tgid: int = 1
    uid: int = 0
    gid: int = 0
    comm: str = "ebpfkit"
    cgroup_id: int = 1
    cgroup_ancestors: tuple[int, ...] = ()
    pid_namespace: PidNamespace | None = None

    @property
    def cgroups(self) -> tuple[int, ...]:
        """Its control group and those above it, the root first."""
        return (*self.cgroup_ancestors, self.cgroup_id)


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
    """A view of `size` bytes from `offset` on of the memory at `address`, of a reserved record when `record` is there,
    or of the packet in `frame`, wherever that is at the moment. Without address and frame it is null."""

    address: int = 0
    size: int = 0
    record: tuple[RingBufferStore, Record] | None = None
    read_only: bool = False
    frame: Frame | None = None
    offset: int = 0

    @property
    def is_null(self) -> bool:
        """Whether there is nothing to view."""
        return not self.address and self.frame is None

    @property
    def start(self) -> int:
        """The address of its first byte."""
        base = self.address if self.frame is None else self.frame.address(self.frame.data)
        return base + self.offset

    def is_outside(self, offset: int, length: int) -> bool:
        """Whether some of these bytes are not in the view."""
        return length > self.size or offset > self.size - length

    def copy(self) -> Dynptr:
        """Another view of the same."""
        return replace(self)


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
    derived: dict[tuple[int, str], Region] = field(default_factory=dict)  # pointers got from those to sockets, by name
    kept: dict[str, Region] = field(default_factory=dict)  # opaque objects by name, which stay
    dynptrs: dict[int, Dynptr] = field(default_factory=dict)
    bits: dict[int, list[int]] = field(default_factory=dict)  # what iterators over bits have left, by their address
    resilient: list[int] = field(default_factory=list)  # resilient locks that are held
    graph: Graph = field(default_factory=Graph)
    locked: int | None = None
    timers: dict[int, Timer] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    _effect_bytes: int = 0
    _running: Timer | None = None

    def reset(self) -> None:
        """Before a run: what the last one held is gone."""
        held = self.sockets or self.dynptrs or self.effects or self.bits or self.resilient
        if not held and self.locked is None:
            return
        for region in (*(region for region, _ in self.sockets.values()), *self.derived.values()):
            self.memory.remove(region)
        self.sockets.clear()
        self.derived.clear()
        self.dynptrs.clear()
        self.bits.clear()
        self.resilient.clear()
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
        found = self.sockets.get(self._owner_of(address))
        if found is None:
            raise MemoryFault(f"{address:#x} is no socket")
        return found[1]

    def derive(self, address: int, name: str, data: bytes) -> int:
        """The address of another structure of the socket at `address`, which lives as long as that."""
        owner = self._owner_of(address)
        region = self.derived.get((owner, name))
        if region is None:
            region = self.derived[owner, name] = self.memory.add(name, bytearray(data), writable=False)
        return region.base

    def _owner_of(self, address: int) -> int:
        if address in self.sockets:
            return address
        return next((owner for (owner, _), region in self.derived.items() if region.base == address), address)

    def release(self, address: int) -> None:
        """Give a reference back; its memory goes. Raises MemoryFault for what is none, or no longer."""
        self.socket_at(address)
        owner = self._owner_of(address)
        self.memory.remove(self.sockets.pop(owner)[0])
        for key in [key for key in self.derived if key[0] == owner]:
            self.memory.remove(self.derived.pop(key))

    # Objects without bytes.

    def opaque(self, name: str) -> int:
        """The address of an object that programs can only hand on, such as the current task."""
        region = self.kept.get(name)
        if region is None:
            region = self.kept[name] = self.memory.add(name, bytearray(), writable=False)
        return region.base

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
