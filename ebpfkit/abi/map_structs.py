"""The kernel's structure behind a map of each type: what a program reads through the map's own address.

Names are the kernel's, as its BTF has them; offsets in them are its business and come from that BTF.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["MAP_STRUCTS"]

_NAMES = {
    "bpf_htab": "hash lru_hash percpu_hash lru_percpu_hash hash_of_maps",
    "bpf_array": "array percpu_array prog_array perf_event_array cgroup_array array_of_maps",
    "lpm_trie": "lpm_trie",
    "bpf_stack_map": "stack_trace",
    "bpf_queue_stack": "queue stack",
    "bpf_dtab": "devmap devmap_hash",
    "bpf_cpu_map": "cpumap",
    "xsk_map": "xskmap",
    "bpf_stab": "sockmap",
    "bpf_shtab": "sockhash",
    "bpf_ringbuf_map": "ringbuf user_ringbuf",
    "reuseport_array": "reuseport_sockarray",
    "bpf_bloom_filter": "bloom_filter",
    "bpf_local_storage_map": "sk_storage inode_storage task_storage cgrp_storage",
    "bpf_cgroup_storage_map": "cgroup_storage percpu_cgroup_storage",
}

MAP_STRUCTS: Mapping[str, str] = MappingProxyType(
    {map_type: struct for struct, names in _NAMES.items() for map_type in names.split()}
)
"""Map type: the structure."""
