"""A live map: the `MapStore` over a descriptor, in batches where the kernel has them.

Values here are bytes; codecs turn them into Python values. What creates and fills a map from a spec is `load` and
`collection`; reading a ring buffer is `ringbuf`.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ebpfkit._bits import round_up
from ebpfkit.abi import uapi
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import KernelError, MapError, MapKeyError, NotSupported, UsageError
from ebpfkit.host.errnos import ENOTSUPP, describe_errno, explain_map_access, explain_permission
from ebpfkit.host.pins import explain_pin
from ebpfkit.kernel import bpf
from ebpfkit.kernel.cpus import possible_cpus
from ebpfkit.kernel.elements import Batch, Elements
from ebpfkit.kernel.fd import Fd
from ebpfkit.maps.store import BPF_ANY

if TYPE_CHECKING:
    import numpy

    from ebpfkit.kernel.user_ring import UserRingMemory
    from ebpfkit.loader.perfbuf import PerfBuffer
    from ebpfkit.loader.ringbuf import RingBuffer

__all__ = ["Map", "MapInfo", "map_type_name", "stored_value_size"]

_PER_CPU = frozenset({"percpu_hash", "percpu_array", "lru_percpu_hash", "percpu_cgroup_storage"})
_DESCRIPTOR_VALUES = frozenset({"array_of_maps", "hash_of_maps"})  # written as a descriptor, read as an id
_KEYLESS = frozenset({"queue", "stack", "bloom_filter", "ringbuf", "user_ringbuf"})
_NO_BATCH = frozenset({errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP})
_CHUNK, _ALL = 4096, 1 << 32  # entries per batch call, unless a bucket needs more
_ROOM = 32 << 20  # bytes that one batch call may bring

_TYPE_NAMES = {
    number: name.removeprefix("BPF_MAP_TYPE_").lower()
    for name, number in uapi.ENUMS["bpf_map_type"].items()
    if not name.endswith("_DEPRECATED")
}


def map_type_name(number: int) -> str:
    """The kernel's lower-case name of a map type, or its number as text when it is newer than this package."""
    return _TYPE_NAMES.get(number, str(number))


def stored_value_size(spec: MapSpec) -> int:
    """The bytes of one value as the kernel hands it over: for per-CPU maps every possible CPU's, each padded to 8."""
    return round_up(spec.value_size, 8) * possible_cpus() if spec.type in _PER_CPU else spec.value_size


@dataclass(frozen=True, slots=True)
class MapInfo:
    """What the kernel says about a map. Sizes in bytes; `btf_id` 0 means without types."""

    id: int
    type: str
    name: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    btf_id: int
    map_extra: int


class Map:
    """A map in the kernel, owned through one descriptor; a `MapStore`. Closing it does not empty a map others hold."""

    def __init__(self, spec: MapSpec, fd: Fd) -> None:
        self._spec = spec
        self.fd = fd
        self._elements = Elements(fd, spec.key_size, stored_value_size(spec))
        self._reader: RingBuffer | None = None
        self._events: PerfBuffer | None = None
        self._writer: UserRingMemory | None = None

    @classmethod
    def create(cls, spec: MapSpec) -> Map:
        """Create an empty map of that spec, without types. Raises LoadError."""
        from ebpfkit.loader.load import create_map

        return cls(spec, create_map(spec))

    @classmethod
    def from_fd(cls, fd: Fd, name: str = "") -> Map:
        """A map around a descriptor whose spec is what the kernel says about it."""
        info = bpf.map_info(fd)
        spec = MapSpec(
            name=name or info.name.decode(),
            type=map_type_name(info.type),
            key_size=info.key_size,
            value_size=info.value_size,
            max_entries=info.max_entries,
            flags=info.map_flags,
            map_extra=info.map_extra,
        )
        return cls(spec, fd)

    @classmethod
    def open_pinned(cls, path: str | Path) -> Map:
        """Open a pinned map. Raises MapError when there is none or it is something else."""
        try:
            fd = bpf.obj_get(str(path), what=f"BPF map {path}")
        except KernelError as error:
            raise MapError(explain_pin("open", "map", str(path), error.errno or 0), errno=error.errno or 0) from error
        return cls._checked(fd, str(path))

    @classmethod
    def open_id(cls, number: int) -> Map:
        """Open the map with that id (needs CAP_SYS_ADMIN). Raises MapError."""
        try:
            return cls._checked(bpf.map_fd_by_id(number), f"id {number}")
        except KernelError as error:
            why = explain_permission(("CAP_SYS_ADMIN",), describe_errno(error.errno or 0))
            raise MapError(f"cannot open map {number}: {why}", errno=error.errno or 0) from error

    @classmethod
    def _checked(cls, fd: Fd, where: str) -> Map:
        if bpf.object_kind(fd) == "map":
            return cls.from_fd(fd)
        fd.close()
        raise MapError(f"{where} is not a BPF map", errno=errno.EINVAL)

    @property
    def spec(self) -> MapSpec:
        return self._spec

    @property
    def name(self) -> str:
        return self._spec.name

    def fileno(self) -> int:
        return self.fd.fileno()

    @property
    def info(self) -> MapInfo:
        """What the kernel says about the map now."""
        i = bpf.map_info(self.fd)
        return MapInfo(
            i.id, map_type_name(i.type), i.name.decode(), i.key_size, i.value_size, i.max_entries, i.map_flags,
            i.btf_id, i.map_extra,
        )  # fmt: skip

    def get(self, key: bytes) -> bytes | None:
        """A copy of the value, or None when the key is not there. Raises MapError."""
        self._check_key(key)
        if self._spec.type == "bloom_filter":
            raise NotSupported("reading a bloom_filter", why=f"map {self.name!r} answers contains only")
        value = self._elements.lookup(key)
        if isinstance(value, bytes):
            return value
        if value == -errno.ENOENT:
            return None
        raise self._refusal(-value, "read", key)

    def contains(self, value: bytes) -> bool:
        """Whether a bloom filter may hold the value: False is certain, True is not. Raises MapError."""
        if self._spec.type != "bloom_filter":
            raise UsageError(f"map {self.name!r} ({self._spec.type}) is no bloom_filter; use get")
        self._check_value(value)
        result = self._elements.test(value)
        if result not in (0, -errno.ENOENT):
            raise self._refusal(-result, "read", b"")
        return result == 0

    def set(self, key: bytes, value: bytes, flags: int = BPF_ANY) -> None:
        """Store a value. Raises MapError with E2BIG (full), EEXIST (BPF_NOEXIST), ENOENT (BPF_EXIST), EINVAL."""
        self._check_key(key)
        self._check_value(value)
        result = self._elements.update(key, value, flags)
        if result < 0:
            raise self._refusal(-result, "write", key)

    def delete(self, key: bytes) -> None:
        """Remove an entry. Raises MapKeyError (ENOENT) when it is not there, MapError (EINVAL) for arrays."""
        self._check_key(key)
        result = self._elements.delete(key)
        if result == -errno.ENOENT:
            raise MapKeyError(f"map {self.name!r} has no key {key.hex()}", errno=errno.ENOENT)
        if result < 0:
            raise self._refusal(-result, "delete", key)

    def pop(self, key: bytes = b"") -> bytes | None:
        """Take a value out: a key's, or the next of a queue or stack; None when there is none. Raises MapError."""
        self._check_key(key)
        value = self._elements.lookup_and_delete(key)
        if isinstance(value, bytes):
            return value
        if value == -errno.ENOENT:
            return None
        raise self._refusal(-value, "take", key)

    def poll(self, timeout: float | None = None) -> list[bytes]:
        """A ring buffer's records that have come, waiting up to `timeout` seconds for the first (None: for ever).

        The map keeps one reader; do not open another `RingBuffer` of it beside.
        """
        if self._reader is None:
            from ebpfkit.loader.ringbuf import RingBuffer

            self._reader = RingBuffer(self)
        return self._reader.poll(timeout)

    def write(self, record: bytes) -> None:
        """Put a record into a user ring buffer.

        Raises MapError with ENOSPC while programs have not made room, E2BIG for one that is larger than the ring.
        """
        if self._writer is None:
            from ebpfkit.kernel.user_ring import UserRingMemory

            if self._spec.type != "user_ringbuf":
                raise UsageError(f"map {self.name!r} is of type {self._spec.type}, not a user_ringbuf")
            self._writer = UserRingMemory(self.fd, self.info.max_entries)
        if not self._writer.put(record):
            too_large = round_up(len(record) + 8, 8) > self._writer.size
            raise self._refusal(errno.E2BIG if too_large else errno.ENOSPC, "write", b"")

    def poll_events(self, timeout: float | None = None) -> tuple[list[tuple[int, bytes]], int]:
        """(CPU, payload) of a perf event array's events that have come, and how many were lost so far.

        The first call opens the channels: what programs output before is dropped. Waits as `poll` does.
        """
        if self._events is None:
            from ebpfkit.loader.perfbuf import PerfBuffer

            self._events = PerfBuffer(self)
        return self._events.poll(timeout), self._events.lost

    def keys(self) -> Iterator[bytes]:
        """Every key, in the kernel's order. Deleting the key just seen is fine; other changes may show or not."""
        self._check_iterable()
        key = self._elements.next_key(None)
        while isinstance(key, bytes):
            following = self._elements.next_key(key)  # asked for before the caller may delete this one
            yield key
            key = following
        if key != -errno.ENOENT:
            raise self._refusal(-key, "walk", b"")

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every entry, in batches where the kernel has them; empty slots of arrays of objects are left out."""
        self._check_iterable()
        first = self._lookup_batch(None, self._batch_size())
        if first is None:
            return self._items_one_by_one()
        return self._items_batched(first)

    def _items_one_by_one(self) -> Iterator[tuple[bytes, bytes]]:
        for key in self.keys():
            value = self._elements.lookup(key)
            if isinstance(value, bytes):
                yield key, value
            elif value != -errno.ENOENT:
                raise self._refusal(-value, "read", key)

    def _items_batched(self, batch: Batch) -> Iterator[tuple[bytes, bytes]]:
        split_keys = Struct(f"{self._spec.key_size}s").iter_unpack
        split_values = Struct(f"{self._elements.value_size}s").iter_unpack
        while True:
            for (key,), (value,) in zip(split_keys(batch.keys), split_values(batch.values), strict=True):
                yield key, value
            if batch.result:
                return
            following = self._lookup_batch(batch.position, self._batch_size())
            if following is None:
                raise self._refusal(errno.EINVAL, "walk", b"")
            batch = following

    def _batch_size(self, entries: int = _CHUNK) -> int:
        """How many entries to ask for at once: no more than the map has, and than a bounded room holds."""
        fitting = _ROOM // max(1, self._spec.key_size + self._elements.value_size)
        return max(1, min(entries, self._spec.max_entries, fitting))

    def _lookup_batch(self, position: bytes | None, count: int) -> Batch | None:
        """The next batch, with room for its largest bucket; None when this kernel has no batches for this map."""
        while True:
            batch = self._elements.lookup_batch(position, count)
            if batch.result in (0, -errno.ENOENT):
                return batch
            if -batch.result in _NO_BATCH:
                return None
            if batch.result != -errno.ENOSPC:
                raise self._refusal(-batch.result, "walk", b"")
            count *= 2

    def set_many(self, entries: Iterable[tuple[bytes, bytes]], flags: int = BPF_ANY) -> int:
        """Store many entries, in batches where the kernel can; returns how many. Raises MapError."""
        stored, batches = 0, True
        source = iter(entries)
        while chunk := list(islice(source, _CHUNK)):
            keys, values = zip(*chunk, strict=True)
            self._check_sizes(keys, values)
            if batches:
                done, failure = self._set_batch(b"".join(keys), b"".join(values), len(chunk), flags)
                batches = failure not in _NO_BATCH
                if failure and batches:
                    raise self._refusal(failure, "write", keys[min(done, len(keys) - 1)])
                stored += done
                chunk = chunk[done:]
            for key, value in chunk:
                self.set(key, value, flags)
                stored += 1
        return stored

    def _check_sizes(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Every key and value has the right size; the slow look for the culprit only when one has not."""
        if set(map(len, keys)) != {self._spec.key_size}:
            for key in keys:
                self._check_key(key)
        if set(map(len, values)) != {self._elements.value_size}:
            for value in values:
                self._check_value(value)

    def _set_batch(self, keys: bytes, values: bytes, count: int, flags: int) -> tuple[int, int]:
        """(entries stored, 0 or an errno)."""
        batch = self._elements.update_batch(keys, values, count, flags)
        if not batch.result:
            return count, 0
        # A map type without batches leaves count as it was; one that stopped half-way says how far it came.
        return (0 if -batch.result in _NO_BATCH or batch.count >= count else batch.count), -batch.result

    def delete_many(self, keys: Iterable[bytes]) -> int:
        """Remove those of the keys that are there, one call each; returns how many. Raises MapError."""
        removed = 0
        for key in keys:
            self._check_key(key)
            result = self._elements.delete(key)
            if result == 0:
                removed += 1
            elif result != -errno.ENOENT:
                raise self._refusal(-result, "delete", key)
        return removed

    def per_cpu(self, key: bytes) -> tuple[bytes, ...] | None:
        """The value of each possible CPU in order, without padding, or None when the key is not there."""
        if self._spec.type not in _PER_CPU:
            raise UsageError(f"map {self.name!r} ({self._spec.type}) has one value for all CPUs; use get")
        value = self.get(key)
        if value is None:
            return None
        step, size = round_up(self._spec.value_size, 8), self._spec.value_size
        return tuple(value[at : at + size] for at in range(0, len(value), step))

    def get_arrays(self) -> tuple[numpy.ndarray, numpy.ndarray]:
        """All entries as two numpy arrays of bytes, of shape (n, key size) and (n, value size)."""
        import numpy

        keys, values, count = [], [], 0
        batch = self._lookup_batch(None, self._batch_size(_ALL))
        if batch is None:
            for key, value in self._items_one_by_one():
                keys.append(key)
                values.append(value)
            count = len(keys)
        while batch is not None:
            keys.append(batch.keys)
            values.append(batch.values)
            count += batch.count
            batch = None if batch.result else self._lookup_batch(batch.position, self._batch_size(_ALL))
        shape = (count, self._spec.key_size), (count, self._elements.value_size)
        return (
            numpy.frombuffer(b"".join(keys), dtype=numpy.uint8).reshape(shape[0]),
            numpy.frombuffer(b"".join(values), dtype=numpy.uint8).reshape(shape[1]),
        )

    def set_arrays(self, keys: numpy.ndarray, values: numpy.ndarray, flags: int = BPF_ANY) -> int:
        """Store the entries of two arrays with the same first dimension; returns how many. Raises MapError."""
        count = len(keys)
        key_bytes, value_bytes = keys.tobytes(), values.tobytes()
        key_size, value_size = self._spec.key_size, self._elements.value_size
        if len(values) != count or len(key_bytes) != count * key_size or len(value_bytes) != count * value_size:
            raise UsageError(
                f"map {self.name!r} takes {key_size} bytes of key and {value_size} of value for each of {count}; "
                f"the arrays have {len(key_bytes)} and {len(value_bytes)} bytes"
            )
        if not count:
            return 0
        done, failure = self._set_batch(key_bytes, value_bytes, count, flags)
        if failure and failure not in _NO_BATCH:
            raise self._refusal(failure, "write", key_bytes[done * key_size : (done + 1) * key_size])
        for i in range(done, count):
            self.set(
                key_bytes[i * key_size : (i + 1) * key_size], value_bytes[i * value_size : (i + 1) * value_size], flags
            )
        return count

    def freeze(self) -> None:
        """Nothing outside programs may change the map from now on. Raises MapError."""
        try:
            bpf.map_freeze(self.fd)
        except KernelError as error:
            raise self._refusal(error.errno or 0, "freeze", b"") from error

    def pin(self, path: str | Path) -> None:
        """Give the map a path on a bpffs, which keeps it alive. Raises MapError."""
        try:
            bpf.obj_pin(str(path), self.fd)
        except KernelError as error:
            raise MapError(explain_pin("pin", "map", str(path), error.errno or 0), errno=error.errno or 0) from error

    def close(self) -> None:
        """Let go of the map; it lives on where it is pinned or used by a program."""
        if self._reader is not None:
            self._reader.close()
        if self._events is not None:
            self._events.close()
        if self._writer is not None:
            self._writer.close()
        self.fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Map {self.name} {self._spec.type} {self.fd!r}>"

    def _check_key(self, key: bytes) -> None:
        if len(key) != self._spec.key_size:
            raise MapError(
                f"map {self.name!r} has keys of {self._spec.key_size} bytes, not {len(key)}", errno=errno.EINVAL
            )

    def _check_value(self, value: bytes) -> None:
        if len(value) != self._elements.value_size:
            per_cpu = f" ({self._spec.value_size} for each CPU, padded to 8)" if self._spec.type in _PER_CPU else ""
            raise MapError(
                f"map {self.name!r} has values of {self._elements.value_size} bytes{per_cpu}, not {len(value)}",
                errno=errno.EINVAL,
            )

    def _check_iterable(self) -> None:
        if self._spec.type in _KEYLESS:
            raise NotSupported(f"iterating a {self._spec.type}", why=f"map {self.name!r} has no keys to walk")

    def _refusal(self, number: int, action: str, key: bytes) -> MapError:
        kind = MapKeyError if number == errno.ENOENT else MapError
        return kind(explain_map_access(self._spec, number, action, key), errno=number)
