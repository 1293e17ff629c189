"""Every map type: number, first kernel, allowed sizes and flags, and what programs may do with it.

Sizes and flags were found by creating maps, program access by loading calls (tests/abi repeats both). Names are
bpftool's. `lookup_from_program` and its siblings are about map_lookup_elem, map_update_elem and map_delete_elem.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ebpfkit.abi.model import MapTypeSpec

__all__ = ["MAP_TYPES", "SOCKMAP_UPDATERS", "WITH_KPTRS", "WITH_SPIN_LOCKS", "WITH_TIMERS"]

_ACCESS = frozenset({"BPF_F_RDONLY", "BPF_F_WRONLY"})
_PROG_ACCESS = frozenset({"BPF_F_RDONLY_PROG", "BPF_F_WRONLY_PROG"})
_NUMA = frozenset({"BPF_F_NUMA_NODE"})
_PREALLOC = frozenset({"BPF_F_NO_PREALLOC"})
_SEED = frozenset({"BPF_F_ZERO_SEED"})
_LRU = frozenset({"BPF_F_NO_COMMON_LRU"})
_PLAIN = _ACCESS | _NUMA
_HASH = _PLAIN | _PROG_ACCESS | _PREALLOC | _SEED
_PERCPU_HASH = _HASH - _NUMA
_FD = {"value_size": 4, "update_from_program": False, "delete_from_program": False}
_CLONE = frozenset({"BPF_F_CLONE"})


def _map(number: int, name: str, since: str, summary: str, **fields: object) -> MapTypeSpec:
    return MapTypeSpec(number, name, since, summary=summary, **fields)  # type: ignore[arg-type]


def _no_access(**fields: object) -> dict[str, object]:
    return {"lookup_from_program": False, "update_from_program": False, "delete_from_program": False, **fields}


_ROWS = (
    _map(0, "unspec", "", "no map type; creation refuses it", **_no_access()),
    _map(1, "hash", "", "hash table, any key", flags=_HASH),
    _map(
        2,
        "array",
        "",
        "array by index, all entries present from the start",
        key_size=4,
        flags=_PLAIN | _PROG_ACCESS | {"BPF_F_MMAPABLE", "BPF_F_INNER_MAP"},
    ),
    _map(
        3, "prog_array", "", "programs by index, for tail calls", key_size=4, flags=_PLAIN, **_no_access(value_size=4)
    ),
    _map(
        4,
        "perf_event_array",
        "",
        "perf events by CPU, for event output",
        key_size=4,
        flags=_PLAIN | {"BPF_F_PRESERVE_ELEMS"},
        **_no_access(value_size=4),
    ),
    _map(5, "percpu_hash", "4.6", "hash table with one value per CPU", per_cpu=True, flags=_PERCPU_HASH),
    _map(
        6,
        "percpu_array",
        "4.6",
        "array with one value per CPU",
        key_size=4,
        per_cpu=True,
        flags=_ACCESS | _PROG_ACCESS,
    ),
    _map(
        7,
        "stack_trace",
        "4.6",
        "call stacks by id; the value is a list of addresses",
        key_size=4,
        flags=_PLAIN | {"BPF_F_STACK_BUILD_ID"},
        **_no_access(),
    ),
    _map(8, "cgroup_array", "4.8", "control groups by index", key_size=4, flags=_PLAIN, **_no_access(value_size=4)),
    _map(9, "lru_hash", "4.10", "hash table that drops the least recently used entry", flags=_HASH - _PREALLOC | _LRU),
    _map(
        10,
        "lru_percpu_hash",
        "4.10",
        "hash table with one value per CPU that drops the least recently used entry",
        per_cpu=True,
        flags=_PERCPU_HASH - _PREALLOC | _LRU,
    ),
    _map(
        11,
        "lpm_trie",
        "4.11",
        "longest matching prefix; the key is a u32 prefix length and up to 256 bytes of address",
        min_key_size=5,
        flags=_PLAIN | _PROG_ACCESS | _PREALLOC,
        required_flags=_PREALLOC,
    ),
    _map(12, "array_of_maps", "4.12", "maps by index", key_size=4, flags=_PLAIN, **_FD),
    _map(13, "hash_of_maps", "4.12", "maps by key", flags=_HASH, **_FD),
    _map(
        14,
        "devmap",
        "4.14",
        "network devices by index, for redirect",
        key_size=4,
        value_sizes=(4, 8),
        flags=_PLAIN,
        update_from_program=False,
        delete_from_program=False,
    ),
    _map(15, "sockmap", "4.14", "sockets by index", key_size=4, value_sizes=(4, 8), flags=_PLAIN),
    _map(
        16,
        "cpumap",
        "4.15",
        "CPUs by index, for redirect",
        key_size=4,
        value_sizes=(4, 8),
        flags=_NUMA,
        **_no_access(),
    ),
    _map(
        17,
        "xskmap",
        "4.18",
        "AF_XDP sockets by index, for redirect",
        key_size=4,
        flags=_PLAIN,
        **_FD,
    ),
    _map(18, "sockhash", "4.18", "sockets by key", value_sizes=(4, 8), flags=_PLAIN),
    _map(
        19,
        "cgroup_storage",
        "4.19",
        "storage of a program in a control group (superseded by cgrp_storage)",
        key_sizes=(8, 16),
        max_entries_zero=True,
        flags=_PLAIN | _PROG_ACCESS,
        **_no_access(),
    ),
    _map(
        20,
        "reuseport_sockarray",
        "4.19",
        "listening sockets by index, for reuseport selection",
        key_size=4,
        value_sizes=(4, 8),
        flags=_PLAIN | _PROG_ACCESS,
        **_no_access(),
    ),
    _map(
        21,
        "percpu_cgroup_storage",
        "4.20",
        "storage of a program in a control group, one value per CPU",
        key_sizes=(8, 16),
        per_cpu=True,
        max_entries_zero=True,
        flags=_PLAIN | _PROG_ACCESS,
        **_no_access(),
    ),
    _map(22, "queue", "4.20", "first in, first out", key_size=0, flags=_PLAIN | _PROG_ACCESS, **_no_access()),
    _map(23, "stack", "4.20", "last in, first out", key_size=0, flags=_PLAIN | _PROG_ACCESS, **_no_access()),
    _map(
        24,
        "sk_storage",
        "5.2",
        "storage attached to sockets",
        key_size=4,
        max_entries_zero=True,
        needs_btf=True,
        flags=_PREALLOC | _CLONE,
        required_flags=_PREALLOC,
        **_no_access(),
    ),
    _map(
        25,
        "devmap_hash",
        "5.4",
        "network devices by key, for redirect",
        key_size=4,
        value_sizes=(4, 8),
        flags=_PLAIN,
        update_from_program=False,
        delete_from_program=False,
    ),
    _map(
        26,
        "struct_ops",
        "5.6",
        "implementation of a kernel operations table by programs",
        key_size=4,
        needs_btf=True,
        flags=frozenset({"BPF_F_LINK", "BPF_F_VTYPE_BTF_OBJ_FD"}),
        **_no_access(),
    ),
    _map(
        27,
        "ringbuf",
        "5.8",
        "ring buffer to user space; max_entries is its size in bytes",
        key_size=0,
        max_entries_power_of_two=True,
        flags=_NUMA,
        **_no_access(value_size=0),
    ),
    _map(
        28,
        "inode_storage",
        "5.10",
        "storage attached to inodes",
        key_size=4,
        max_entries_zero=True,
        needs_btf=True,
        flags=_PREALLOC | _CLONE,
        required_flags=_PREALLOC,
        **_no_access(),
    ),
    _map(
        29,
        "task_storage",
        "5.11",
        "storage attached to tasks",
        key_size=4,
        max_entries_zero=True,
        needs_btf=True,
        flags=_PREALLOC | _CLONE,
        required_flags=_PREALLOC,
        **_no_access(),
    ),
    _map(
        30,
        "bloom_filter",
        "5.16",
        "set that answers 'surely not' or 'perhaps'",
        key_size=0,
        flags=_PLAIN | _PROG_ACCESS | _SEED,
        **_no_access(),
    ),
    _map(
        31,
        "user_ringbuf",
        "6.1",
        "ring buffer from user space; max_entries is its size in bytes",
        key_size=0,
        max_entries_power_of_two=True,
        flags=_NUMA,
        **_no_access(value_size=0),
    ),
    _map(
        32,
        "cgrp_storage",
        "6.2",
        "storage attached to control groups",
        key_size=4,
        max_entries_zero=True,
        needs_btf=True,
        flags=_PREALLOC | _CLONE,
        required_flags=_PREALLOC,
        **_no_access(),
    ),
    _map(
        33,
        "arena",
        "6.9",
        "memory shared with user space, addressed by pointers; max_entries counts pages",
        key_size=0,
        flags=frozenset({"BPF_F_MMAPABLE", "BPF_F_SEGV_ON_FAULT", "BPF_F_NO_USER_CONV"}),
        required_flags=frozenset({"BPF_F_MMAPABLE"}),
        **_no_access(value_size=0),
    ),
    _map(
        34,
        "insn_array",
        "6.19",
        "instruction offsets of a program, for indirect jumps",
        key_size=4,
        **_no_access(value_size=16),
    ),
    _map(35, "rhash", "7.2", "resizable hash table; newer than any kernel that ebpfkit was checked against"),
)

MAP_TYPES: Mapping[str, MapTypeSpec] = MappingProxyType({row.name: row for row in _ROWS})
"""Every map type by its name, in the kernel's order."""

WITH_SPIN_LOCKS = frozenset(
    {"hash", "array", "cgroup_storage", "sk_storage", "inode_storage", "task_storage", "cgrp_storage"}
)
"""Map types whose values may have a bpf_spin_lock; the kernel refuses to create others that have one."""

WITH_TIMERS = frozenset({"hash", "lru_hash", "array"})
"""Map types whose values may have a bpf_timer."""

WITH_KPTRS = frozenset(
    {
        "hash", "percpu_hash", "lru_hash", "lru_percpu_hash", "array", "percpu_array",
        "sk_storage", "inode_storage", "task_storage", "cgrp_storage",
    }
)  # fmt: skip
"""Map types whose values may have pointers to objects."""

SOCKMAP_UPDATERS = frozenset(
    {"xdp", "sched_cls", "sched_act", "socket_filter", "sock_ops", "sk_reuseport", "sk_lookup", "flow_dissector"}
)
"""Program types that may take sockets out of a map, beside iterators."""
