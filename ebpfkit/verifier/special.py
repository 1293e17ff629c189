"""What `abi/`'s rows do not say and the walk needs: special fields in map values, helpers that take packet memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfkit.elf.model import MapSpec

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf

__all__ = ["PACKET_HELPERS", "has_special_fields"]

PACKET_HELPERS = frozenset(
    {
        "map_lookup_elem", "map_update_elem", "map_delete_elem", "map_push_elem", "map_lookup_percpu_elem",
        "csum_diff", "sk_lookup_tcp", "sk_lookup_udp", "skc_lookup_tcp", "tcp_check_syncookie",
        "tcp_gen_syncookie", "tcp_raw_gen_syncookie_ipv4", "tcp_raw_gen_syncookie_ipv6", "tcp_raw_check_syncookie_ipv4",
        "tcp_raw_check_syncookie_ipv6",
    }
)  # fmt: skip
"""Helpers whose memory arguments may be packet memory (measured on Linux 6.18)."""

_SPECIAL = (
    "bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_wq", "bpf_task_work", "bpf_list_head", "bpf_list_node",
    "bpf_rb_root", "bpf_rb_node", "bpf_refcount",
)  # fmt: skip
_TAGS = ("kptr", "kptr_untrusted", "percpu_kptr", "uptr")


def has_special_fields(spec: MapSpec, btf: Btf | None) -> bool:
    """Whether the map's values may hold a lock, timer, kernel pointer, list or tree (by name, anywhere in the BTF)."""
    if btf is None or not spec.btf_value_type or spec.data is not None:
        return False
    names = {btf.name(t) for t in btf.types[1:]}
    return any(name in names for name in (*_SPECIAL, *_TAGS))
