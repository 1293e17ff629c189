"""Helpers that raise NotSupported in the machine, and why."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

__all__ = ["UNSUPPORTED", "unsupported_reason"]

_KERNEL_TASK = "it reads the kernel's own task_struct; get_current_pid_tgid and its siblings work with task=Task(...)"
_KERNEL_TYPES = "it prints kernel memory by the kernel's types; use snprintf or trace_printk"
_COUNTERS = "there are no hardware counters; time a run from outside"
_ROUTING = "lightweight tunnels act on the kernel's routing state; run the program in the kernel (on='kernel')"
_CGROUP_OBJECT = "it needs a kernel object of a control group; use get_local_storage, or a hash by skb_cgroup_id"
_SOCKET_OPTIONS = "sockets of the table have no options; run the program in the kernel"
_HEADER_OPTIONS = "there is no TCP stack that writes headers; run the program in the kernel"
_MESSAGE = "a message of the machine is one piece of memory of fixed size; run the program in the kernel"
_SYSCTL = "there are no sysctls; run the program in the kernel"
_RETVAL = "there is no system call whose result it could change; run the program in the kernel"
_TRACING = "it is for tracing programs, which look into a running kernel"


def _reasons(reason: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), reason)


UNSUPPORTED: Final = MappingProxyType[str, str](
    {
        **_reasons(_KERNEL_TASK, "get_current_task get_task_stack task_pt_regs find_vma copy_from_user_task"),
        **_reasons(_KERNEL_TYPES, "snprintf_btf"),
        **_reasons(_COUNTERS, "perf_event_read perf_event_read_value get_branch_snapshot"),
        **_reasons(_ROUTING, "lwt_push_encap lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action"),
        **_reasons(_CGROUP_OBJECT, "cgrp_storage_get cgrp_storage_delete"),
        **_reasons(_SOCKET_OPTIONS, "setsockopt getsockopt bind sock_ops_cb_flags_set"),
        **_reasons(_HEADER_OPTIONS, "load_hdr_opt store_hdr_opt reserve_hdr_opt"),
        **_reasons(_MESSAGE, "msg_pull_data msg_push_data msg_pop_data"),
        **_reasons(_SYSCTL, "sysctl_get_name sysctl_get_current_value sysctl_get_new_value sysctl_set_new_value"),
        **_reasons(_RETVAL, "get_retval set_retval"),
    }
)
"""Helpers that programs on packets and sockets may call and that are refused here: why, and what to do instead."""


def unsupported_reason(name: str) -> str:
    """Why a helper that has a row does not work here."""
    return UNSUPPORTED.get(name, _TRACING)
