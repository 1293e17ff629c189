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
    """Whether the map's values hold a lock, timer, kernel pointer, list or tree, by the type of the value."""
    if btf is None or not spec.btf_value_type:
        return False
    from ebpfkit.btf.types import Array, Ptr, Struct, TypeTag

    pending, seen = [spec.btf_value_type], set()
    while pending:
        number = pending.pop()
        if number in seen or not 0 < number < len(btf.types):
            continue
        seen.add(number)
        found = btf.types[number]
        name = btf.name(found)
        if isinstance(found, Struct):
            if name in _SPECIAL:
                return True
            pending += [member.type for member in found.members]
        elif isinstance(found, Ptr):
            target = btf.types[found.type] if 0 < found.type < len(btf.types) else None
            if isinstance(target, TypeTag) and btf.name(target) in _TAGS:
                return True
        else:
            following = getattr(found, "type", 0)
            if isinstance(found, Array) or following:
                pending.append(following)
    return False
