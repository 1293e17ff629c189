"""Helpers that raise NotSupported in the machine, and why."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = ["UNSUPPORTED", "unsupported_reason"]

_NO_TASK = "the current task is a kernel object"
_NO_KERNEL = "it reads kernel or user memory"
_NO_SOCKETS = "it gives a kernel object of a socket, with the kernel's own layout"
_NO_STORAGE = "there are no kernel objects to store at"
_NO_CGROUPS = "there are no cgroups"
_NO_SECRET = "its cookies depend on the kernel's secret"


def _reasons(reason: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


UNSUPPORTED: Final = MappingProxyType[str, str](
    {
        **_reasons(
            _NO_TASK,
            "get_current_task get_current_task_btf get_task_stack task_pt_regs find_vma send_signal send_signal_thread "
            "get_ns_current_pid_tgid",
        ),
        **_reasons(
            _NO_CGROUPS,
            "current_task_under_cgroup get_current_ancestor_cgroup_id skb_under_cgroup skb_cgroup_id "
            "skb_ancestor_cgroup_id sk_cgroup_id sk_ancestor_cgroup_id get_local_storage",
        ),
        **_reasons(
            _NO_KERNEL,
            "probe_read_user probe_read_user_str copy_from_user copy_from_user_task per_cpu_ptr this_cpu_ptr "
            "snprintf_btf kptr_xchg",
        ),
        **_reasons(
            _NO_SOCKETS,
            "skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock "
            "skc_to_unix_sock skc_to_mptcp_sock",
        ),
        **_reasons("sockets of the table have no connection that counts", "tcp_sock"),
        **_reasons(
            _NO_SECRET,
            "tcp_check_syncookie tcp_gen_syncookie tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6 "
            "tcp_raw_check_syncookie_ipv4 tcp_raw_check_syncookie_ipv6",
        ),
        **_reasons("there are no hardware counters", "perf_event_read perf_event_read_value get_branch_snapshot"),
        **_reasons("it counts in the kernel's HZ; use ktime_get_ns", "jiffies64"),
        **_reasons("its map type has no in-memory store", "user_ringbuf_drain sk_redirect_map sk_redirect_hash"),
        **_reasons(
            _NO_STORAGE,
            "task_storage_get task_storage_delete cgrp_storage_get cgrp_storage_delete sk_storage_get "
            "sk_storage_delete",
        ),
        **_reasons("there is no IPsec state", "skb_get_xfrm_state"),
        **_reasons(
            "lightweight tunnels act on the kernel's routing state",
            "lwt_push_encap lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action",
        ),
    }
)
"""Helpers that packet programs may call and that raise NotSupported here, and why."""


def unsupported_reason(name: str) -> str:
    """Why a helper that has a row does not work here."""
    return UNSUPPORTED.get(name, "only programs of other types than the machine's may call it")
