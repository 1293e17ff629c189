"""Maps whose values are not plain values: redirect targets (sockets, devices, CPUs), and the ring buffer."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

from ebpfkit.dsl.maps import ENOENT, MapFacade
from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import Run, current_run
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import encode, s64, u32
from ebpfkit.dsl.verdicts import XdpAction
from ebpfkit.errors import MapKeyError, NotSupported, UsageError

__all__ = ["CpuMap", "DevMap", "DevMapHash", "RedirectMap", "RingBuf", "XskMap"]

T = TypeVar("T")


class HasFileno(Protocol):
    """Anything with a descriptor: an AF_XDP socket."""

    def fileno(self) -> int: ...


class RedirectMap(MapFacade):
    """What packets can be redirected to, by number. User space fills it; a program can only redirect."""

    parameters: ClassVar[tuple[str, ...]] = ()
    in_program = "redirect"
    key_type = u32
    value_type: Any = u32

    def redirect(self, key: int, /, otherwise: XdpAction = XdpAction.XDP_ABORTED) -> XdpAction:
        """Send the packet to the target at `key` (bpf_redirect_map): XDP_REDIRECT, or `otherwise` without one."""
        run = current_run()
        if run is None:
            refuse("program-only", f"{self.name}.redirect() has a meaning only in a running program")
        verdict: object = otherwise
        if not isinstance(verdict, XdpAction) or verdict > XdpAction.XDP_TX:
            refuse("bad-verdict", "otherwise= is one of XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX")
        index = u32.accept(key)
        if self._run_store(run).target(index) is None:
            return otherwise
        run.redirect = (self.name, index)
        return XdpAction.XDP_REDIRECT

    def __delitem__(self, index: int, /) -> None:
        self._outside("del").delete(encode(u32, index))

    def _outside(self, what: str) -> Any:
        if current_run() is not None:
            refuse("user-space-only", f"a program cannot {what} the map '{self.name}'")
        return self.store

    def decode_key(self, data: bytes) -> u32:
        """The number of a target."""
        return u32(int.from_bytes(data, sys.byteorder))

    def decode_value(self, data: bytes) -> u32:
        """What a target is to user space: an interface index, a queue size."""
        return u32(int.from_bytes(data[:4], sys.byteorder))

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """The targets that were put in before the load."""
        if self._memory is None:
            return ()
        found = ((key, self._memory.lookup(key)) for key in list(self._memory.keys()))
        return tuple((key, bytes(value)) for key, value in found if value is not None)


class XskMap(RedirectMap):
    """AF_XDP sockets by index, usually the queue (BPF_MAP_TYPE_XSKMAP)."""

    map_type = "xskmap"

    def __setitem__(self, index: int, socket: HasFileno, /) -> None:
        self._outside("[] =").set(encode(u32, index), encode(u32, socket.fileno()))


class TargetWithProgram(Struct):
    """A redirect target as the kernel stores it: an interface or a queue size, and a program's descriptor or id."""

    number: u32
    program: u32


class _WithPrograms(RedirectMap):
    """Targets that may have a program of their own, which sees each packet on its way there."""

    def __init__(self, *, max_entries: int, name: str = "", flags: int = 0, programs: bool = False) -> None:
        super().__init__(max_entries=max_entries, name=name, flags=flags)
        if programs:
            self.value_type = TargetWithProgram

    def _store_target(self, index: int, number: int, program: HasFileno | None) -> None:
        if self.value_type is u32:
            if program is not None:
                raise UsageError(f"'{self.name}' has no room for programs: declare it with programs=True")
            value = encode(u32, number)
        else:
            descriptor = program.fileno() if program is not None else 0
            value = encode(u32, number) + encode(u32, descriptor)
        self._outside("[] =").set(encode(u32, index), value)

    def program_id(self, index: int, /) -> int:
        """The kernel's id of the program at `index`, 0 for none; user space only."""
        data = self._outside("program_id()").get(encode(u32, index))
        return int.from_bytes(data[4:8], sys.byteorder) if data is not None else 0


class DevMap(_WithPrograms):
    """Network devices by index (BPF_MAP_TYPE_DEVMAP); from user space by name or interface index.

    With `programs=True` (kernel 5.8) also `devs[1] = "eth0", program`: a loaded program, decorated with
    `@bpf.xdp(at="devmap")`, that runs on each packet which is sent there.
    """

    map_type = "devmap"
    in_program = "redirect, broadcast"

    def broadcast(self, *, exclude_ingress: bool = False) -> XdpAction:
        """Send a copy to every device of the map (BPF_F_BROADCAST, kernel 5.14), but for the one it came from."""
        run = current_run()
        if run is None:
            refuse("program-only", f"{self.name}.broadcast() has a meaning only in a running program")
        self._run_store(run)
        run.redirect = (self.name, 0)
        return XdpAction.XDP_REDIRECT

    def __setitem__(self, index: int, device: str | int | tuple[str | int, HasFileno], /) -> None:
        where, program = device if isinstance(device, tuple) else (device, None)
        self._store_target(index, _interface(where), program)

    def __getitem__(self, index: int, /) -> int:
        """The interface index of the device at `index`. Raises MapKeyError where there is none."""
        data = self._outside("[]").get(encode(u32, index))
        if data is None or not any(data[:4]):
            raise MapKeyError(f"'{self.name}' has no device at {index}", errno=ENOENT)
        return int.from_bytes(data[:4], sys.byteorder)


class DevMapHash(DevMap):
    """Network devices under any u32, such as their interface index (BPF_MAP_TYPE_DEVMAP_HASH)."""

    map_type = "devmap_hash"


class CpuMap(_WithPrograms):
    """CPUs by number, each with a queue of packets that are handled there (BPF_MAP_TYPE_CPUMAP).

    User space says how long a CPU's queue is: `cpus[2] = 192`. With `programs=True` (kernel 5.9) also
    `cpus[2] = 192, program`: a loaded program, decorated with `@bpf.xdp(at="cpumap")`, that runs there.
    """

    map_type = "cpumap"

    def __setitem__(self, cpu: int, queue_size: int | tuple[int, HasFileno], /) -> None:
        size, program = queue_size if isinstance(queue_size, tuple) else (queue_size, None)
        self._store_target(cpu, size, program)


def _interface(device: str | int) -> int:
    if not isinstance(device, str):
        return device
    import socket

    try:
        return socket.if_nametoindex(device)
    except OSError:
        raise UsageError(f"there is no network device '{device}' in this network namespace") from None


class RingBuf(MapFacade, Generic[T]):
    """Records of one type from programs to user space, in order (BPF_MAP_TYPE_RINGBUF).

    `max_entries` is its size in bytes: a power of two, and a multiple of the page size.
    """

    map_type = "ringbuf"
    in_program = "output, reserve, record"
    parameters: ClassVar[tuple[str, ...]] = ("value_type",)

    def _key_size(self) -> int:
        return 0

    def _value_size(self) -> int:
        return 0

    def _running(self, what: str) -> Run:
        run = current_run()
        if run is None:
            refuse("program-only", f"{self.name}.{what}() has a meaning only in a running program")
        return run

    def output(self, record: T, /) -> s64:
        """Copy a record in: 0, or a negative errno when there is no room (bpf_ringbuf_output)."""
        run = self._running("output")
        return s64(self._run_store(run).output(encode(self.value_type, record)))

    def reserve(self) -> T | None:
        """Room for a record, zeroed, or None when there is none (bpf_ringbuf_reserve).

        Every path must end in its `.submit()` or `.discard()`.
        """
        return self._reserve("reserve")

    @contextmanager
    def record(self) -> Iterator[T | None]:
        """Room for a record in a `with` block, or None: however the block is left, the record is submitted.

            with events.record() as event:
                if event is not None:
                    event.length = len(pkt)

        `event.discard()` inside gives it back unread; so does leaving the program by the short exit.
        """
        record: Any = self._reserve("record")
        try:
            yield record
        except BaseException:
            if record is not None and not record._region.dead:
                record.discard()
            raise
        if record is not None and not record._region.dead:
            record.submit()

    def _reserve(self, what: str) -> T | None:
        run = self._running(what)
        if not issubclass(self.value_type, Struct):
            refuse("bad-type", f"{what}() of '{self.name}' wants a structure", "write output(value)")
        store = self._run_store(run)
        record = store.reserve(self.value_type.__ebpf_type__.size)
        if record is None:
            return None
        view = self.value_type.__ebpf_load__(Region(record.data, RegionKind.RECORD, self.name), 0)
        view._record = _Reservation(run, store, record, self.name)
        run.reserved.append(view._record)
        return cast(T, view)

    def poll(self, timeout: float | None = None) -> list[T]:
        """The records that have come, waiting up to `timeout` seconds for the first (None: for ever); user space only.

        In memory nothing can come while waiting, so it does not wait.
        """
        if current_run() is not None:
            refuse("user-space-only", f"a program cannot read the ring buffer '{self.name}'")
        store: Any = self.store
        if hasattr(store, "read"):
            records = store.read()
        elif hasattr(store, "poll"):
            if timeout is not None and (timeout < 0 or math.isnan(timeout)):
                raise UsageError(f"timeout is seconds from 0 up, not {timeout}")
            records = store.poll(timeout)
        else:
            raise NotSupported(f"reading the ring buffer '{self.name}' from {type(store).__name__}")
        size = self.value_type.__ebpf_type__.size
        return [self._record(bytes(data), size) for data in records]

    def _record(self, data: bytes, size: int) -> T:
        if len(data) < size:
            raise UsageError(f"a record of {len(data)} bytes in '{self.name}', whose records have {size}")
        return cast(T, self.value_type.__ebpf_load__(Region(bytearray(data[:size])), 0))

    def __iter__(self) -> Iterator[T]:
        """The records that are there now; user space only."""
        return iter(self.poll(0))

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        return ()


class _Reservation:
    """A record that a running program holds."""

    def __init__(self, run: Run, store: Any, record: Any, name: str) -> None:
        self.run = run
        self.store = store
        self.record = record
        self.name = name

    def finish(self, discard: bool) -> None:
        self.store.finish(self.record, discard=discard)
        self.run.reserved.remove(self)
