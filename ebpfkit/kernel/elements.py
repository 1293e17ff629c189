"""Reading and writing the entries of a map through its descriptor, one at a time and in batches.

One block of memory per map holds the attr, the key and the value, so that an access costs one system call and no
allocation; a lock guards it. What a refusal means for a map of which type is not said here: every function returns the
negative errno or raises nothing at all.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass

from ebpfkit.kernel import attrs
from ebpfkit.kernel.bpf import Command, HasFileno, raw_bpf

__all__ = ["Batch", "Elements"]

_ATTR = ctypes.sizeof(attrs.Elem)
_BATCH = ctypes.sizeof(attrs.MapBatch)


def _aligned(size: int) -> int:
    return (size + 7) & ~7


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch call did: `count` entries, and 0 or a negative errno (ENOENT at the end of the map)."""

    count: int
    result: int
    keys: bytes
    values: bytes
    position: bytes


class Elements:
    """The entries of one map. `value_size` is that of a whole value: of all CPUs, for a per-CPU map."""

    def __init__(self, fd: HasFileno, key_size: int, value_size: int) -> None:
        self._fd = fd
        self.key_size = key_size
        self.value_size = value_size
        self._lock = threading.Lock()
        key_at, value_at = _ATTR, _ATTR + _aligned(key_size)
        next_at = value_at + _aligned(value_size)
        self._block = (ctypes.c_char * (next_at + _aligned(key_size)))()
        self._address = ctypes.addressof(self._block)
        self._memory = memoryview(self._block).cast("B")
        self._attr = attrs.Elem.from_buffer(self._block)
        self._key = self._memory[key_at : key_at + key_size]
        self._value = self._memory[value_at : value_at + value_size]
        self._next = self._memory[next_at : next_at + key_size]
        self._key_address = self._address + key_at if key_size else 0
        self._value_address = self._address + value_at if value_size else 0
        self._next_address = self._address + next_at

    def lookup(self, key: bytes, flags: int = 0) -> bytes | int:
        """A copy of the value, or the negative errno."""
        return self._read(Command.MAP_LOOKUP_ELEM, key, flags)

    def lookup_and_delete(self, key: bytes, flags: int = 0) -> bytes | int:
        """Take the value out of the map, or the negative errno."""
        return self._read(Command.MAP_LOOKUP_AND_DELETE_ELEM, key, flags)

    def test(self, value: bytes) -> int:
        """Ask a bloom filter for a value, which goes in here: 0 (perhaps there) or the negative errno."""
        with self._lock:
            self._value[:] = value
            return self._call(Command.MAP_LOOKUP_ELEM, 0, self._value_address, 0)

    def _read(self, command: int, key: bytes, flags: int) -> bytes | int:
        with self._lock:
            self._key[:] = key
            result = self._call(command, self._key_address, self._value_address, flags)
            return bytes(self._value) if result >= 0 else result

    def update(self, key: bytes, value: bytes, flags: int = 0) -> int:
        """Store a value: 0 or the negative errno."""
        with self._lock:
            self._key[:] = key
            self._value[:] = value
            return self._call(Command.MAP_UPDATE_ELEM, self._key_address, self._value_address, flags)

    def delete(self, key: bytes) -> int:
        """Remove an entry: 0 or the negative errno."""
        with self._lock:
            self._key[:] = key
            return self._call(Command.MAP_DELETE_ELEM, self._key_address, 0, 0)

    def next_key(self, key: bytes | None) -> bytes | int:
        """The key behind `key` (None: the first), or the negative errno; a key that is gone starts over."""
        with self._lock:
            if key is not None:
                self._key[:] = key
            result = self._call(
                Command.MAP_GET_NEXT_KEY, self._key_address if key is not None else 0, self._next_address, 0
            )
            return bytes(self._next) if result >= 0 else result

    def _call(self, command: int, key: int, value: int, flags: int) -> int:
        attr = self._attr
        attr.map_fd = self._fd.fileno()
        attr.key, attr.value, attr.flags = key, value, flags
        return raw_bpf(command, self._address, _ATTR)

    def update_batch(self, keys: bytes, values: bytes, count: int, flags: int = 0) -> Batch:
        """BPF_MAP_UPDATE_BATCH of `count` entries laid end to end."""
        attr = attrs.MapBatch(
            keys=attrs.address_of(keys),
            values=attrs.address_of(values),
            count=count,
            map_fd=self._fd.fileno(),
            elem_flags=flags,
        )
        result = raw_bpf(Command.MAP_UPDATE_BATCH, ctypes.addressof(attr), _BATCH)
        return Batch(attr.count if result < 0 else count, min(result, 0), b"", b"", b"")

    def delete_batch(self, keys: bytes, count: int) -> Batch:
        """BPF_MAP_DELETE_BATCH of `count` keys laid end to end."""
        attr = attrs.MapBatch(keys=attrs.address_of(keys), count=count, map_fd=self._fd.fileno())
        result = raw_bpf(Command.MAP_DELETE_BATCH, ctypes.addressof(attr), _BATCH)
        return Batch(attr.count if result < 0 else count, min(result, 0), b"", b"", b"")

    def lookup_batch(self, position: bytes | None, count: int, *, delete: bool = False) -> Batch:
        """BPF_MAP_LOOKUP_BATCH (or LOOKUP_AND_DELETE_BATCH): up to `count` entries behind `position` (None: all).

        ENOENT says that these were the last; ENOSPC that `count` does not hold one bucket of a hash map.
        """
        keys = (ctypes.c_char * (count * self.key_size))()
        values = (ctypes.c_char * (count * self.value_size))()
        next_position = (ctypes.c_char * max(8, self.key_size))()
        attr = attrs.MapBatch(
            in_batch=attrs.address_of(position) if position is not None else 0,
            out_batch=ctypes.addressof(next_position),
            keys=ctypes.addressof(keys),
            values=ctypes.addressof(values),
            count=count,
            map_fd=self._fd.fileno(),
        )
        command = Command.MAP_LOOKUP_AND_DELETE_BATCH if delete else Command.MAP_LOOKUP_BATCH
        result = raw_bpf(command, ctypes.addressof(attr), _BATCH)
        # On a refusal the kernel may leave count as it was: only success and the end of the map have filled anything.
        filled = attr.count if result >= 0 or result == -2 else 0
        return Batch(
            filled,
            min(result, 0),
            ctypes.string_at(keys, filled * self.key_size),
            ctypes.string_at(values, filled * self.value_size),
            next_position.raw,
        )
