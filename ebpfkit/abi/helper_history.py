"""Which kernels opened helpers to more program types. Generated: do not edit.

Made by tools/probe_old_kernels.py: each helper was called in each program type on the kernels named here
and on 6.18. A helper that is not listed could be called since its own first kernel, as far as
these can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MEASURED: Final = ("6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64")

# Program type -> first of the measured kernels -> helpers.
LATER: Final[Mapping[str, Mapping[str, str]]] = {
    "socket_filter": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm get_cgroup_classid perf_event_read "
            "current_task_under_cgroup perf_event_read_value send_signal send_signal_thread get_netns_cookie "
            "get_task_stack copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
    "kprobe": {
        "6.18": ("get_cgroup_classid"),
    },
    "sched_cls": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm perf_event_read current_task_under_cgroup "
            "perf_event_read_value send_signal send_signal_thread get_netns_cookie get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
    "sched_act": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm perf_event_read current_task_under_cgroup "
            "perf_event_read_value send_signal send_signal_thread get_netns_cookie get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
    "tracepoint": {
        "6.18": ("get_cgroup_classid"),
    },
    "xdp": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm get_cgroup_classid perf_event_read "
            "current_task_under_cgroup perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
    "perf_event": {
        "6.18": ("get_cgroup_classid"),
    },
    "cgroup_skb": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm get_cgroup_classid perf_event_read "
            "current_task_under_cgroup perf_event_read_value send_signal send_signal_thread get_netns_cookie "
            "get_task_stack copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
    "cgroup_sock": {
        "6.18": (
            "perf_event_read perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
        "6.12": ("current_task_under_cgroup get_ns_current_pid_tgid"),
    },
    "lwt_in": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm perf_event_read current_task_under_cgroup "
            "perf_event_read_value send_signal send_signal_thread get_task_stack copy_from_user "
            "task_storage_get task_storage_delete get_branch_snapshot find_vma copy_from_user_task"
        ),
    },
    "lwt_out": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm perf_event_read current_task_under_cgroup "
            "perf_event_read_value send_signal send_signal_thread get_task_stack copy_from_user "
            "task_storage_get task_storage_delete get_branch_snapshot find_vma copy_from_user_task"
        ),
    },
    "lwt_xmit": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm perf_event_read current_task_under_cgroup "
            "perf_event_read_value send_signal send_signal_thread get_task_stack copy_from_user "
            "task_storage_get task_storage_delete get_branch_snapshot find_vma copy_from_user_task"
        ),
    },
    "sock_ops": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm get_cgroup_classid perf_event_read "
            "current_task_under_cgroup perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
    "sk_skb": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm get_cgroup_classid perf_event_read "
            "current_task_under_cgroup perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
    "cgroup_device": {
        "6.18": (
            "perf_event_read perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
        "6.12": ("current_task_under_cgroup get_ns_current_pid_tgid"),
    },
    "sk_msg": {
        "6.18": (
            "get_current_comm perf_event_read current_task_under_cgroup perf_event_read_value send_signal "
            "send_signal_thread get_task_stack copy_from_user task_storage_get task_storage_delete "
            "get_branch_snapshot find_vma copy_from_user_task"
        ),
        "6.12": ("get_ns_current_pid_tgid"),
    },
    "raw_tracepoint": {
        "6.18": ("get_cgroup_classid"),
        "6.12": ("get_attach_cookie"),
    },
    "cgroup_sock_addr": {
        "6.18": (
            "perf_event_read perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
        "6.12": ("current_task_under_cgroup get_ns_current_pid_tgid"),
    },
    "lwt_seg6local": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm perf_event_read current_task_under_cgroup skb_pull_data "
            "perf_event_read_value send_signal send_signal_thread get_task_stack copy_from_user "
            "task_storage_get task_storage_delete get_branch_snapshot find_vma copy_from_user_task"
        ),
    },
    "sk_reuseport": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm get_cgroup_classid perf_event_read "
            "current_task_under_cgroup perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
    "flow_dissector": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm get_cgroup_classid perf_event_read "
            "current_task_under_cgroup perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
    "cgroup_sysctl": {
        "6.18": (
            "perf_event_read perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
        "6.12": ("current_task_under_cgroup get_ns_current_pid_tgid"),
    },
    "raw_tracepoint_writable": {
        "6.18": ("get_cgroup_classid"),
        "6.12": ("get_attach_cookie"),
    },
    "cgroup_sockopt": {
        "6.18": (
            "perf_event_read perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
        "6.12": ("current_task_under_cgroup get_ns_current_pid_tgid"),
    },
    "sk_lookup": {
        "6.12": ("get_current_pid_tgid get_current_cgroup_id get_ns_current_pid_tgid get_current_ancestor_cgroup_id"),
        "6.18": (
            "get_current_uid_gid get_current_comm get_cgroup_classid perf_event_read "
            "current_task_under_cgroup perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
    "syscall": {
        "6.18": ("get_cgroup_classid"),
    },
    "netfilter": {
        "6.12": (
            "map_lookup_elem map_update_elem map_delete_elem ktime_get_ns trace_printk get_prandom_u32 "
            "get_smp_processor_id tail_call get_current_pid_tgid get_current_task get_numa_node_id "
            "get_current_cgroup_id map_push_elem map_pop_elem map_peek_elem spin_lock spin_unlock strtol "
            "strtoul probe_read_user probe_read_kernel probe_read_user_str probe_read_kernel_str jiffies64 "
            "get_ns_current_pid_tgid get_current_ancestor_cgroup_id ktime_get_boot_ns ringbuf_output "
            "ringbuf_reserve ringbuf_submit ringbuf_discard ringbuf_query snprintf_btf per_cpu_ptr "
            "this_cpu_ptr get_current_task_btf for_each_map_elem snprintf timer_init timer_set_callback "
            "timer_start timer_cancel task_pt_regs trace_vprintk loop strncmp kptr_xchg "
            "map_lookup_percpu_elem dynptr_from_mem ringbuf_reserve_dynptr ringbuf_submit_dynptr "
            "ringbuf_discard_dynptr dynptr_read dynptr_write dynptr_data ktime_get_tai_ns user_ringbuf_drain"
        ),
        "6.18": (
            "get_current_uid_gid get_current_comm get_cgroup_classid perf_event_read "
            "current_task_under_cgroup perf_event_read_value send_signal send_signal_thread get_task_stack "
            "copy_from_user task_storage_get task_storage_delete get_branch_snapshot find_vma "
            "copy_from_user_task"
        ),
    },
}
