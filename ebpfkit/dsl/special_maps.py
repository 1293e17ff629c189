"""Maps whose values are not plain values: AF_XDP sockets by index, and the ring buffer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import Run, current_run
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import XdpAction, encode, s64, u32
from ebpfkit.errors import NotSupported, UsageError

__all__ = ["RingBuf", "XskMap"]

T = TypeVar("T")


class HasFileno(Protocol):
    """Anything with a descriptor: an AF_XDP socket."""

    def fileno(self) -> int: ...


class XskMap(MapFacade):
    """AF_XDP sockets by index, usually the queue (BPF_MAP_TYPE_XSKMAP).

    Sockets are put in from user space; a program can only redirect to them.
    """

    map_type = "xskmap"
    parameters: ClassVar[tuple[str, ...]] = ()
    key_type = u32
    value_type = u32

    def redirect(self, key: int, /, otherwise: XdpAction = XdpAction.XDP_ABORTED) -> XdpAction:
        """Send the packet to the socket at `key` (bpf_redirect_map): XDP_REDIRECT, or `otherwise` without one."""
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

    def __setitem__(self, index: int, socket: HasFileno, /) -> None:
        self._outside("[] =").set(encode(u32, index), socket.fileno().to_bytes(4, "little"))

    def __delitem__(self, index: int, /) -> None:
        self._outside("del").delete(encode(u32, index))

    def _outside(self, what: str) -> Any:
        if current_run() is not None:
            refuse("user-space-only", f"a program cannot {what} the map '{self.name}'")
        return self.store

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """The descriptors of the sockets that were put in before the load."""
        if self._memory is None:
            return ()
        found = ((index, self._memory.target(index)) for index in range(self.max_entries))
        return tuple((encode(u32, i), encode(u32, fd)) for i, fd in found if fd is not None)


class RingBuf(MapFacade, Generic[T]):
    """Records of one type from programs to user space, in order (BPF_MAP_TYPE_RINGBUF).

    `max_entries` is its size in bytes: a power of two, and a multiple of the page size.
    """

    map_type = "ringbuf"
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
        run = self._running("reserve")
        if not issubclass(self.value_type, Struct):
            refuse("bad-type", f"reserve() of '{self.name}' wants a structure", "write output(value)")
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
