"""In-memory stores with the kernel's semantics: which class serves which map type, and which types are refused.

The stores themselves live in `base`, `arrays`, `hashes`, `trie`, `queues`, `references`, `sockets`, `storage`, `arena`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import NotSupported
from ebpfkit.maps.arena import ArenaStore
from ebpfkit.maps.arrays import ArrayStore, PerCpuArrayStore
from ebpfkit.maps.base import ORDER, ByteOrder, Cell, MemoryStore, store_by_id
from ebpfkit.maps.code import InsnArrayStore
from ebpfkit.maps.hashes import HashStore, LruHashStore, LruPerCpuHashStore, PerCpuHashStore
from ebpfkit.maps.queues import (
    PAGE,
    BloomFilterStore,
    QueueStore,
    Record,
    RingBufferStore,
    StackStore,
    UserRingBufferStore,
)
from ebpfkit.maps.references import (
    ArrayOfMapsStore,
    CgroupArrayStore,
    CpuMapStore,
    DevMapHashStore,
    DevMapStore,
    HashOfMapsStore,
    PerfEventArrayStore,
    ProgArrayStore,
    XskMapStore,
)
from ebpfkit.maps.sockets import ReuseportArrayStore, SocketStore, SockHashStore, SockMapStore
from ebpfkit.maps.storage import CgroupStorageStore, ObjectStorageStore, PerCpuCgroupStorageStore
from ebpfkit.maps.trie import LpmTrieStore

__all__ = [
    "STORES", "UNSUPPORTED", "ArenaStore", "ArrayOfMapsStore", "ArrayStore", "BloomFilterStore", "Cell",
    "CgroupArrayStore", "CgroupStorageStore", "CpuMapStore", "DevMapHashStore", "DevMapStore", "HashOfMapsStore",
    "HashStore", "InsnArrayStore", "LpmTrieStore", "LruHashStore", "LruPerCpuHashStore", "MemoryStore",
    "ObjectStorageStore", "PerCpuArrayStore", "PerCpuHashStore", "PerfEventArrayStore", "ProgArrayStore", "QueueStore",
    "Record",
    "ReuseportArrayStore", "RingBufferStore", "SockHashStore", "SockMapStore", "SocketStore", "StackStore",
    "UserRingBufferStore", "XskMapStore", "create_store", "store_by_id",
]  # fmt: skip

STORES: Final = MappingProxyType[str, type[MemoryStore]](
    {
        "hash": HashStore,
        "array": ArrayStore,
        "insn_array": InsnArrayStore,
        "prog_array": ProgArrayStore,
        "perf_event_array": PerfEventArrayStore,
        "percpu_hash": PerCpuHashStore,
        "percpu_array": PerCpuArrayStore,
        "lru_hash": LruHashStore,
        "lru_percpu_hash": LruPerCpuHashStore,
        "lpm_trie": LpmTrieStore,
        "array_of_maps": ArrayOfMapsStore,
        "hash_of_maps": HashOfMapsStore,
        "devmap": DevMapStore,
        "devmap_hash": DevMapHashStore,
        "cpumap": CpuMapStore,
        "xskmap": XskMapStore,
        "queue": QueueStore,
        "stack": StackStore,
        "ringbuf": RingBufferStore,
        "bloom_filter": BloomFilterStore,
        "user_ringbuf": UserRingBufferStore,
        "cgroup_array": CgroupArrayStore,
        "sockmap": SockMapStore,
        "sockhash": SockHashStore,
        "reuseport_sockarray": ReuseportArrayStore,
        "sk_storage": ObjectStorageStore,
        "task_storage": ObjectStorageStore,
        "cgrp_storage": ObjectStorageStore,
        "inode_storage": ObjectStorageStore,
        "cgroup_storage": CgroupStorageStore,
        "percpu_cgroup_storage": PerCpuCgroupStorageStore,
        "arena": ArenaStore,
    }
)
"""The class for each map type that works in memory, by the kernel's name."""

UNSUPPORTED: Final = MappingProxyType[str, str](
    {
        "stack_trace": "its values are stacks of the kernel; only programs of tracing types may fill it",
        "struct_ops": "its values are tables of kernel callbacks, which no packet program reads",
        "rhash": "it is newer than every kernel that its behaviour could be compared with; use a hash",
    }
)
"""Map types without an in-memory store, and why."""


def create_store(spec: MapSpec, *, cpus: int = 1, order: ByteOrder = ORDER) -> MemoryStore:
    """An empty store for `spec`, with its initial data and contents in it.

    `cpus` is the number of CPUs of per-CPU values, `order` the byte order of the programs that use it. As loaders do, a
    ring buffer is rounded up to a power of two of pages, and a perf event array without size gets a slot for each CPU.
    Raises NotSupported for a map type that has no in-memory store, and MapError where the kernel would refuse the
    sizes.

    >>> store = create_store(MapSpec("names", "hash", key_size=2, value_size=3, max_entries=1))
    >>> store.set(b"k1", b"one")
    >>> store.get(b"k1")
    b'one'
    >>> store.set(b"k2", b"two")
    Traceback (most recent call last):
    ebpfkit.errors.MapError: map 'names' (hash): cannot update key 6b32: E2BIG: Argument list too long
    """
    kind = STORES.get(spec.type)
    if kind is None:
        why = UNSUPPORTED.get(spec.type, "no such map type is known")
        raise NotSupported(f"map type '{spec.type}' in memory (map '{spec.name}')", why=why, span=spec.span)
    store = kind(spec.replace(max_entries=_effective_max_entries(spec, cpus)), cpus)
    store.order = order
    for key, value in spec.contents:
        # As loaders do: one CPU's worth goes to CPU 0, zeros to the others, so that the sum is right.
        store.set(key, value.ljust(store.value_bytes, b"\0") if store.per_cpu else value)
    return store


def _effective_max_entries(spec: MapSpec, cpus: int) -> int:
    if spec.type == "perf_event_array" and not spec.max_entries:
        return cpus
    if spec.type in ("ringbuf", "user_ringbuf") and spec.max_entries > 0:
        return PAGE << (-(-spec.max_entries // PAGE) - 1).bit_length()
    return spec.max_entries
