"""Maps of sockets, by index and by key, and values that belong to sockets.

User space puts sockets in. A program asks whether one is there, and takes it out; what else can be done with it is for
types of programs that see streams.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar, Generic, Protocol, TypeVar, cast

from ebpfkit.dsl.maps import ENOENT, MapFacade
from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import current_run
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import encode, s64, u32, u64
from ebpfkit.errors import MapKeyError

__all__ = ["SkStorage", "SockHash", "SockMap", "SocketMap"]

K = TypeVar("K")
V = TypeVar("V", bound=Struct)
BPF_F_NO_PREALLOC = 1


class HasFileno(Protocol):
    """Anything with a descriptor: a socket of Python's own."""

    def fileno(self) -> int: ...


class SocketMap(MapFacade, Generic[K]):
    """The base of both: what can be done with sockets by their keys."""

    in_program = "in, delete"
    parameters: ClassVar[tuple[str, ...]] = ("key_type",)
    value_type = u64

    def __contains__(self, key: K | int, /) -> bool:
        data, run = encode(self.key_type, key), current_run()
        if run is not None:
            return self._run_store(run).cookie(data) is not None
        return self.store.get(data) is not None

    def delete(self, key: K | int, /) -> s64:
        """Take a socket out: 0, or a negative errno (bpf_map_delete_elem); user space raises MapError instead."""
        data, run = encode(self.key_type, key), current_run()
        if run is not None:
            return s64(self._run_store(run).remove(data))
        self.store.delete(data)
        return s64(0)

    def __setitem__(self, key: K | int, socket: HasFileno, /) -> None:
        """Put a connected or listening socket in; user space only."""
        self._refuse_inside("put a socket into")
        self.store.set(encode(self.key_type, key), encode(u64, socket.fileno()))

    def __getitem__(self, key: K | int, /) -> int:
        """The cookie of a socket, which names it as long as it lives; user space only."""
        self._refuse_inside("read")
        data = self.store.get(encode(self.key_type, key))
        if data is None:
            raise MapKeyError(f"'{self.name}' has no socket under {key!s}", errno=ENOENT)
        return int.from_bytes(data, sys.byteorder)

    def __delitem__(self, key: K | int, /) -> None:
        self._refuse_inside("del from")
        self.store.delete(encode(self.key_type, key))

    def _refuse_inside(self, what: str) -> None:
        if current_run() is not None:
            refuse("user-space-only", f"a program cannot {what} the map '{self.name}'")

    def decode_key(self, data: bytes) -> Any:
        """A stored key in the map's key type."""
        return self.key_type.__ebpf_load__(Region(bytearray(data)), 0)

    def decode_value(self, data: bytes) -> u64:
        """A socket's cookie."""
        return u64.__ebpf_load__(Region(bytearray(data)), 0)

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """Nothing: sockets are put into a live map."""
        return ()


class SockMap(SocketMap[u32]):
    """Sockets by index (BPF_MAP_TYPE_SOCKMAP)."""

    map_type = "sockmap"
    parameters: ClassVar[tuple[str, ...]] = ()
    key_type = u32


class SockHash(SocketMap[K], Generic[K]):
    """Sockets by key (BPF_MAP_TYPE_SOCKHASH)."""

    map_type = "sockhash"


class SkStorage(MapFacade, Generic[V]):
    """A value for each socket, which goes when the socket goes (BPF_MAP_TYPE_SK_STORAGE, kernel 5.2).

    Programs of traffic control and control groups reach the value of the packet's socket. User space names a socket by
    its descriptor.
    """

    map_type = "sk_storage"
    in_program = "get"
    extra_flags = BPF_F_NO_PREALLOC
    least_entries = 0
    parameters: ClassVar[tuple[str, ...]] = ("value_type",)
    key_type = u32

    def __init__(self, *, name: str = "", flags: int = 0) -> None:
        super().__init__(max_entries=0, name=name, flags=flags)

    def _check_types(self) -> None:
        if not isinstance(self.value_type, type) or not issubclass(self.value_type, Struct):
            refuse("bad-map", "the values of a SkStorage are structures", "write a Struct")

    def get(self, skb: object, /, *, create: bool = False) -> V | None:
        """The value of the packet's socket (bpf_sk_storage_get), zeros where `create` makes it; None where there is no
        full socket, no value, or no memory. In plain Python packets have no socket."""
        run = current_run()
        if run is None:
            refuse("program-only", f"{self.name}.get() has a meaning only in a running program", "write [socket]")
        if skb is not run.packet:
            refuse("bad-type", "get() takes the program's own context", "write get(skb)")
        self._run_store(run)
        return None

    def __getitem__(self, socket: HasFileno, /) -> V:
        """The value of a socket, as a copy; user space only."""
        data = self._outside().get(encode(u32, socket.fileno()))
        if data is None:
            raise MapKeyError(f"'{self.name}' has nothing for this socket", errno=ENOENT)
        region = Region(bytearray(data), RegionKind.SNAPSHOT, self.name)
        return cast(V, self.value_type.__ebpf_load__(region, 0))

    def __setitem__(self, socket: HasFileno, value: V, /) -> None:
        self._outside().set(encode(u32, socket.fileno()), encode(self.value_type, value))

    def __delitem__(self, socket: HasFileno, /) -> None:
        self._outside().delete(encode(u32, socket.fileno()))

    def _outside(self) -> Any:
        if current_run() is not None:
            refuse("user-space-only", f"a program reaches values of '{self.name}' by get(skb)")
        return self.store

    def decode_key(self, data: bytes) -> u32:
        """The number that stands for a socket."""
        return u32.__ebpf_load__(Region(bytearray(data)), 0)

    def decode_value(self, data: bytes) -> Any:
        """A stored value in the map's value type, as a copy."""
        return self.value_type.__ebpf_load__(Region(bytearray(data), RegionKind.SNAPSHOT, self.name), 0)

    def initial_contents(self) -> tuple[tuple[bytes, bytes], ...]:
        """Nothing: values go with sockets of the kernel."""
        return ()
