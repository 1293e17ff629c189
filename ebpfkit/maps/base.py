"""What every in-memory store shares: the two sides of a map, errors, identity.

A map has two sides. User space works through copies and exceptions (`get`, `set`, `delete`, as in bpf(2)); a program
works through live cells and error numbers (`lookup`, `update`, `remove`, as in the helpers). Stores of each family live
in `arrays`, `hashes`, `trie`, `queues` and `references`; which class serves a map type is decided in `memory`.

Keys and numbers are in the byte order of this machine, as in the kernel, unless the store serves programs of the other
order.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from ebpfkit._bits import round_up
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MapError, MapKeyError, NotSupported
from ebpfkit.maps.locks import LOCK_BYTES
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST

__all__ = ["MemoryStore", "store_by_id"]

BPF_F_RDONLY, BPF_F_WRONLY, BPF_F_ZERO_SEED = 1 << 3, 1 << 4, 1 << 6
BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG = 1 << 7, 1 << 8
ENOTSUPP: Final = 524  # the kernel's own number: it reaches user space for some map operations
MAX_STORE_BYTES: Final = 1 << 29  # what one preallocated store may take before create_store answers ENOMEM
ByteOrder = Literal["little", "big"]
ORDER: Final[ByteOrder] = sys.byteorder

Cell = bytearray | memoryview

_ids = itertools.count(1)
_live: weakref.WeakValueDictionary[int, MemoryStore] = weakref.WeakValueDictionary()


def store_by_id(number: int) -> MemoryStore | None:
    """The in-memory store with this `id`, while it lives."""
    return _live.get(number)


def error_text(code: int) -> str:
    """The kernel's words for an errno, with its name."""
    if code == ENOTSUPP:
        return "ENOTSUPP"
    return f"{errno.errorcode.get(code, code)}: {os.strerror(code)}"


class MemoryStore:
    """One map in memory, with the kernel's semantics and error numbers.

    `cpus` is how many CPUs a per-CPU value has; `id` names the store inside maps of maps, as a map id does;
    `is_program_writable` is False for read-only data, which programs cannot change. `order` is the byte order of the
    programs that use it, in which keys are numbers. `lock_at` is where values have a bpf_spin_lock, for those who know
    their types (`locks`).
    """

    per_cpu = False
    order: ByteOrder = ORDER
    lock_at: int | None = None

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        if cpus < 1:
            raise MapError(f"map '{spec.name}' needs at least one CPU, not {cpus}", errno=errno.EINVAL)
        self._spec = spec
        self.cpus = cpus
        self.id = next(_ids)
        self.is_frozen = False
        self.is_program_writable = not (spec.frozen or spec.flags & BPF_F_RDONLY_PROG)
        _live[self.id] = self
        self._validate(spec)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._spec.name!r} {self._spec.type}>"

    @property
    def spec(self) -> MapSpec:
        return self._spec

    @property
    def value_bytes(self) -> int:
        """How many bytes a value has in user space: for per-CPU maps every CPU's, each padded to 8."""
        return round_up(self._spec.value_size, 8) * self.cpus if self.per_cpu else self._spec.value_size

    # What a family of stores defines; the defaults are the kernel's answer where a map type has no such operation.

    def _validate(self, spec: MapSpec) -> None:
        """Refuse sizes that the kernel refuses."""
        if not spec.key_size or not spec.value_size or not spec.max_entries:
            self._refuse("key_size, value_size and max_entries must not be zero")

    def lookup(self, key: bytes, cpu: int = 0) -> Cell | None:
        """The live value that a program running on `cpu` sees: one object until the entry is replaced or deleted."""
        return None

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        """What bpf_map_update_elem does on `cpu`: 0 or a negative errno."""
        return -errno.EOPNOTSUPP

    def remove(self, key: bytes) -> int:
        """What bpf_map_delete_elem does: 0 or a negative errno."""
        return -errno.EOPNOTSUPP

    def push(self, value: bytes, flags: int = BPF_ANY) -> int:
        """What bpf_map_push_elem does: 0 or a negative errno."""
        return -errno.EOPNOTSUPP

    def take(self, *, remove: bool) -> bytes | int:
        """What bpf_map_pop_elem (`remove`) and bpf_map_peek_elem do: the value or a negative errno."""
        return -errno.EOPNOTSUPP

    def _without_lock(self, value: bytes) -> bytes:
        """A value as it is stored: a lock in it is the map's own, which nobody holds."""
        at = self.lock_at
        return value if at is None else value[:at] + bytes(LOCK_BYTES) + value[at + LOCK_BYTES :]

    def _read(self, key: bytes) -> bytes | int:
        """A user-space read: the value or a negative errno."""
        cell = self.lookup(key)
        return -errno.ENOENT if cell is None else bytes(cell)

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        return self.update(key, value, flags)

    def _erase(self, key: bytes) -> int:
        return self.remove(key)

    def _pop(self, key: bytes) -> bytes | int:
        return -ENOTSUPP

    def _keys(self) -> list[bytes]:
        """A list of every key."""
        return []

    # User space.

    def get(self, key: bytes) -> bytes | None:
        """A copy of the value, or None when the key is not there. Raises MapError as bpf(2) does."""
        self._check_key(key)
        if self._spec.flags & BPF_F_WRONLY:
            self._fail(errno.EPERM, "read")
        value = self._read(key)
        if isinstance(value, int):
            if value != -errno.ENOENT:
                self._fail(-value, "read")
            return None
        return value

    def set(self, key: bytes, value: bytes, flags: int = BPF_ANY) -> None:
        """Store a value. Raises MapError with the errno of bpf(2)."""
        self._check_key(key)
        if len(value) != self.value_bytes:
            self._refuse(f"a value has {self.value_bytes} bytes, not {len(value)}")
        if self.is_frozen or self._spec.flags & BPF_F_RDONLY:
            self._fail(errno.EPERM, "update", key)
        if flags & BPF_F_LOCK and self.lock_at is None:
            self._fail(errno.EINVAL, "update", key)
        code = self._write(key, value, flags)
        if code:
            self._fail(-code, "update", key)

    def delete(self, key: bytes) -> None:
        """Remove an entry. Raises MapKeyError when it is not there, MapError with the errno of bpf(2) otherwise."""
        self._check_key(key)
        if self.is_frozen or self._spec.flags & BPF_F_RDONLY:
            self._fail(errno.EPERM, "delete", key)
        code = self._erase(key)
        if code:
            self._fail(-code, "delete", key)

    def pop(self, key: bytes = b"") -> bytes | None:
        """Take a value out: a key's, or the next of a queue or stack; None when there is none. Raises MapError."""
        self._check_key(key)
        if self.is_frozen or self._spec.flags & (BPF_F_RDONLY | BPF_F_WRONLY):
            self._fail(errno.EPERM, "take", key)
        value = self._pop(key)
        if isinstance(value, int):
            if value != -errno.ENOENT:
                self._fail(-value, "take", key)
            return None
        return value

    def keys(self) -> Iterator[bytes]:
        """Every key of this moment. Raises NotSupported for maps without keys."""
        if not self._spec.key_size:
            raise NotSupported(f"iterating a {self._spec.type}", why=f"map '{self._spec.name}' has no keys to walk")
        if self._spec.flags & BPF_F_WRONLY:
            self._fail(errno.EPERM, "walk")
        return iter(self._keys())

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every entry that has a value, keys as in `keys`."""
        for key in self.keys():
            value = self.get(key)
            if value is not None:
                yield key, value

    def set_many(self, entries: Iterable[tuple[bytes, bytes]], flags: int = BPF_ANY) -> int:
        """Store many entries; how many. Stops at the first error, which it raises."""
        count = 0
        for key, value in entries:
            self.set(key, value, flags)
            count += 1
        return count

    def freeze(self) -> None:
        """From now on user space cannot write (BPF_MAP_FREEZE)."""
        self.is_frozen = True

    def __len__(self) -> int:
        return sum(1 for _ in self.items())

    def _check_key(self, key: bytes) -> None:
        if len(key) != self._spec.key_size:
            self._refuse(f"a key has {self._spec.key_size} bytes, not {len(key)}")

    def _refuse(self, why: str) -> None:
        raise MapError(f"map '{self._spec.name}' ({self._spec.type}): {why}", errno=errno.EINVAL)

    def _fail(self, code: int, action: str, key: bytes = b"") -> None:
        at = f" key {key.hex()}" if key else ""
        message = f"map '{self._spec.name}' ({self._spec.type}): cannot {action}{at}: {error_text(code)}"
        raise (MapKeyError if code == errno.ENOENT else MapError)(message, errno=code)


class PerCpuValues:
    """Splitting and joining the user-space form of a per-CPU value."""

    def __init__(self, value_size: int, cpus: int) -> None:
        self.size = value_size
        self.stride = round_up(value_size, 8)
        self.cpus = cpus

    def join(self, cells: Iterable[Cell]) -> bytes:
        pad = bytes(self.stride - self.size)
        return b"".join(bytes(cell) + pad for cell in cells)

    def split(self, value: bytes) -> list[bytes]:
        return [value[i * self.stride : i * self.stride + self.size] for i in range(self.cpus)]


def flag_error(flags: int, exists: bool) -> int:
    """The common check of update flags: 0, or the negative errno the kernel gives."""
    if flags > BPF_EXIST:
        return -errno.EINVAL
    if exists and flags == BPF_NOEXIST:
        return -errno.EEXIST
    if not exists and flags == BPF_EXIST:
        return -errno.ENOENT
    return 0
