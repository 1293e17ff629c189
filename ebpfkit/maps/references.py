"""Maps whose values stand for something else: programs, maps, devices, CPUs, sockets, event channels.

User space stores numbers: in the kernel descriptors, here the `id` of a program of the virtual machine or of another
store. Redirect targets are any number the test likes: there is no device, CPU or socket to check them against. That,
and that reading back gives the number itself, is where these differ from the kernel's.
"""

from __future__ import annotations

import errno

from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MapError
from ebpfkit.maps.base import Cell, MemoryStore, flag_error, store_by_id
from ebpfkit.maps.store import BPF_ANY, BPF_EXIST, BPF_NOEXIST

__all__ = [
    "ArrayOfMapsStore", "CgroupArrayStore", "CpuMapStore", "DevMapHashStore", "DevMapStore", "HashOfMapsStore",
    "PerfEventArrayStore", "ProgArrayStore", "XskMapStore",
]  # fmt: skip

_MAX_QUEUE_SIZE = 16384  # of a cpumap entry
_MAX_EVENT_BYTES = 1 << 26


class _SlotStore(MemoryStore):
    """Slots by u32 index; `value_sizes` are the sizes the kernel takes. Programs cannot write."""

    value_sizes: tuple[int, ...] = (4,)

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._slots: dict[int, bytearray] = {}

    def _validate(self, spec: MapSpec) -> None:
        super()._validate(spec)
        if spec.key_size != 4 or spec.value_size not in self.value_sizes:
            wanted = " or ".join(map(str, self.value_sizes))
            self._refuse(f"key_size must be 4 and value_size {wanted}, not {spec.key_size} and {spec.value_size}")

    def _index(self, key: bytes) -> int:
        return int.from_bytes(key, self.order)

    def target(self, index: int) -> int | None:
        """The number stored at `index` (the first u32 of the value), or None when the slot is empty."""
        cell = self._slots.get(index)
        return None if cell is None else int.from_bytes(cell[:4], self.order)

    def lookup(self, key: bytes, cpu: int = 0) -> Cell | None:
        return self._slots.get(self._index(key))

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        return -errno.EPERM

    def remove(self, key: bytes) -> int:
        return -errno.EPERM

    def _store(self, index: int, value: bytes) -> int:
        self._slots[index] = bytearray(value)
        return 0

    def _keys(self) -> list[bytes]:
        return [index.to_bytes(4, self.order) for index in range(self._spec.max_entries)]

    def __len__(self) -> int:
        return len(self._slots)


class ProgArrayStore(_SlotStore):
    """Programs for tail calls, by the id that the virtual machine gave them."""

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        if flags != BPF_ANY:
            return -errno.EINVAL
        if self._index(key) >= self._spec.max_entries:
            return -errno.E2BIG
        return self._store(self._index(key), value)

    def _erase(self, key: bytes) -> int:
        if self._index(key) >= self._spec.max_entries:
            return -errno.E2BIG
        return 0 if self._slots.pop(self._index(key), None) is not None else -errno.ENOENT


class CgroupArrayStore(ProgArrayStore):
    """Control groups by index, by their ids."""


class PerfEventArrayStore(ProgArrayStore):
    """Event channels, one for each CPU. `events` holds what programs output, (cpu, bytes), until it is cleared."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self.events: list[tuple[int, bytes]] = []
        self._event_bytes = 0

    def output(self, cpu: int, data: bytes) -> int:
        """Keep an event: 0, or -ENOSPC when more than 64 MiB wait, as when nobody reads the kernel's ring."""
        if not self.events:
            self._event_bytes = 0  # the caller took them all
        self._event_bytes += len(data) + 64
        if self._event_bytes > _MAX_EVENT_BYTES:
            return -errno.ENOSPC
        self.events.append((cpu, data))
        return 0


class _IndexedStore(_SlotStore):
    """Targets by index that user space can take out again."""

    def _erase(self, key: bytes) -> int:
        if self._index(key) >= self._spec.max_entries:
            return -errno.EINVAL
        self._slots.pop(self._index(key), None)
        return 0


class XskMapStore(_IndexedStore):
    """AF_XDP sockets by queue."""

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        index = self._index(key)
        if flags > BPF_EXIST:
            return -errno.EINVAL
        if index >= self._spec.max_entries:
            return -errno.E2BIG
        return flag_error(flags, index in self._slots) or self._store(index, value)


class DevMapStore(_IndexedStore):
    """Interfaces by index: an ifindex, and optionally the descriptor of a program to run there."""

    value_sizes = (4, 8)

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        index = self._index(key)
        if flags > BPF_EXIST:
            return -errno.EINVAL
        if index >= self._spec.max_entries:
            return -errno.E2BIG
        if flags == BPF_NOEXIST:
            return -errno.EEXIST
        if not int.from_bytes(value[:4], self.order):
            self._slots.pop(index, None)  # ifindex 0 empties the slot
            return 0
        return self._store(index, value)


class DevMapHashStore(_SlotStore):
    """Interfaces under any u32."""

    value_sizes = (4, 8)

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        index = self._index(key)
        if flags > BPF_EXIST or not int.from_bytes(value[:4], self.order):
            return -errno.EINVAL
        if index in self._slots:
            if flags == BPF_NOEXIST:
                return -errno.EEXIST
        elif len(self._slots) >= self._spec.max_entries:
            return -errno.E2BIG
        return self._store(index, value)

    def _erase(self, key: bytes) -> int:
        return 0 if self._slots.pop(self._index(key), None) is not None else -errno.ENOENT

    def _keys(self) -> list[bytes]:
        return [index.to_bytes(4, self.order) for index in self._slots]


class CpuMapStore(DevMapStore):
    """CPUs by number: a queue size, and optionally the descriptor of a program to run there."""

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        in_order = flags in (BPF_ANY, BPF_EXIST) and self._index(key) < self._spec.max_entries
        if in_order and int.from_bytes(value[:4], self.order) > _MAX_QUEUE_SIZE:
            return -errno.EOVERFLOW
        return super()._write(key, value, flags)


class _InnerMaps(MemoryStore):
    """What both maps of maps share: a value is the `id` of another store, which it keeps alive."""

    def __init__(self, spec: MapSpec, cpus: int = 1) -> None:
        super().__init__(spec, cpus)
        self._inner: dict[bytes, MemoryStore] = {}

    def _validate(self, spec: MapSpec) -> None:
        super()._validate(spec)
        if spec.value_size != 4:
            self._refuse(f"a map of maps has values of 4 bytes, not {spec.value_size}")

    def inner(self, key: bytes) -> MemoryStore | None:
        """The store under `key`, as a program's look-up finds it."""
        return self._inner.get(bytes(key))

    def update(self, key: bytes, value: bytes, flags: int = BPF_ANY, cpu: int = 0) -> int:
        return -errno.EPERM

    def remove(self, key: bytes) -> int:
        return -errno.EPERM

    def _read(self, key: bytes) -> bytes | int:
        store = self._inner.get(bytes(key))
        return -errno.ENOENT if store is None else store.id.to_bytes(4, self.order)

    def _candidate(self, value: bytes) -> MemoryStore | int:
        """The store with this id when it may stand in this map."""
        store = store_by_id(int.from_bytes(value, self.order))
        if store is None:
            return -errno.EBADF
        model = self._spec.inner
        if model is not None:
            same = (model.type, model.key_size, model.value_size) == (
                store.spec.type, store.spec.key_size, store.spec.value_size
            )  # fmt: skip
            if not same or (model.type == "array" and model.max_entries != store.spec.max_entries):
                return -errno.EINVAL
        return store

    def set_store(self, key: bytes, store: MemoryStore, flags: int = BPF_ANY) -> None:
        """Put a store under `key`: `set` with its id."""
        self.set(key, store.id.to_bytes(4, self.order), flags)

    def __len__(self) -> int:
        return len(self._inner)


class ArrayOfMapsStore(_InnerMaps):
    """Maps by index."""

    def _validate(self, spec: MapSpec) -> None:
        super()._validate(spec)
        if spec.key_size != 4:
            raise MapError(f"map '{spec.name}': the key of an array is a u32", errno=errno.EINVAL)

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        if flags != BPF_ANY:
            return -errno.EINVAL
        if int.from_bytes(key, self.order) >= self._spec.max_entries:
            return -errno.E2BIG
        store = self._candidate(value)
        if isinstance(store, int):
            return store
        self._inner[bytes(key)] = store
        return 0

    def _erase(self, key: bytes) -> int:
        if int.from_bytes(key, self.order) >= self._spec.max_entries:
            return -errno.E2BIG
        return 0 if self._inner.pop(bytes(key), None) is not None else -errno.ENOENT

    def _keys(self) -> list[bytes]:
        return [index.to_bytes(4, self.order) for index in range(self._spec.max_entries)]


class HashOfMapsStore(_InnerMaps):
    """Maps by key."""

    def _write(self, key: bytes, value: bytes, flags: int) -> int:
        store = self._candidate(value)
        if isinstance(store, int):
            return store
        exists = bytes(key) in self._inner
        code = flag_error(flags, exists)
        if code:
            return code
        if not exists and len(self._inner) >= self._spec.max_entries:
            return -errno.E2BIG
        self._inner[bytes(key)] = store
        return 0

    def _erase(self, key: bytes) -> int:
        return 0 if self._inner.pop(bytes(key), None) is not None else -errno.ENOENT

    def _keys(self) -> list[bytes]:
        return list(self._inner)
