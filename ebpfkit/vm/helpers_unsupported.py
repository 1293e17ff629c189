"""Helpers that raise NotSupported in the machine, and why."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = ["UNSUPPORTED", "unsupported_reason"]

_NO_TASK = "there is no current task"
_NO_KERNEL = "it reads kernel or user memory"
_NO_SOCKETS = "there are no sockets"
_NO_TIMERS = "nothing runs timers"
_NO_DYNPTRS = "dynptrs are not modelled"
_NO_STORAGE = "there are no kernel objects to store at"


def _reasons(reason: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


UNSUPPORTED: Final = MappingProxyType[str, str](
    {
        **_reasons(
            _NO_TASK,
            "get_current_pid_tgid get_current_uid_gid get_current_comm get_cgroup_classid get_current_task "
            "current_task_under_cgroup get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id "
            "get_current_task_btf get_task_stack task_pt_regs find_vma send_signal send_signal_thread",
        ),
        **_reasons(
            _NO_KERNEL,
            "probe_read_user probe_read_kernel probe_read_user_str probe_read_kernel_str copy_from_user "
            "copy_from_user_task per_cpu_ptr this_cpu_ptr snprintf_btf kptr_xchg",
        ),
        **_reasons(
            _NO_SOCKETS,
            "sk_lookup_tcp sk_lookup_udp sk_release skc_lookup_tcp tcp_check_syncookie tcp_gen_syncookie "
            "skc_to_tcp6_sock skc_to_tcp_sock skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock "
            "skc_to_unix_sock skc_to_mptcp_sock",
        ),
        **_reasons(
            "its cookies depend on the kernel's secret",
            "tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6 tcp_raw_check_syncookie_ipv4 "
            "tcp_raw_check_syncookie_ipv6",
        ),
        **_reasons("there is no routing table", "fib_lookup"),
        **_reasons("there are no devices", "check_mtu"),
        **_reasons("there are no hardware counters", "perf_event_read perf_event_read_value get_branch_snapshot"),
        **_reasons("it counts in the kernel's HZ; use ktime_get_ns", "jiffies64"),
        **_reasons(_NO_TIMERS, "timer_init timer_set_callback timer_start timer_cancel"),
        **_reasons(
            _NO_DYNPTRS,
            "dynptr_from_mem ringbuf_reserve_dynptr ringbuf_submit_dynptr ringbuf_discard_dynptr dynptr_read "
            "dynptr_write dynptr_data user_ringbuf_drain",
        ),
        **_reasons(_NO_STORAGE, "task_storage_get task_storage_delete cgrp_storage_get cgrp_storage_delete"),
    }
)
"""Helpers that XDP programs may call and that raise NotSupported here, and why."""


def unsupported_reason(name: str) -> str:
    """Why a helper that has a row does not work here."""
    return UNSUPPORTED.get(name, "it is not modelled yet")
