"""Every attach type and its program types, named in bpftool's style: lower case, without the BPF_ prefix."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ebpfkit.abi import uapi
from ebpfkit.abi.model import AttachTypeSpec

__all__ = ["ATTACH_TYPES", "BTF_TARGETS", "WITHOUT_ATTACH_TYPE"]

# name -> program type, first kernel
_ROWS: Mapping[str, tuple[str, str]] = {
    "cgroup_inet_ingress": ("cgroup_skb", "4.10"),
    "cgroup_inet_egress": ("cgroup_skb", "4.10"),
    "cgroup_inet_sock_create": ("cgroup_sock", "4.10"),
    "cgroup_sock_ops": ("sock_ops", "4.13"),
    "sk_skb_stream_parser": ("sk_skb", "4.14"),
    "sk_skb_stream_verdict": ("sk_skb", "4.14"),
    "cgroup_device": ("cgroup_device", "4.15"),
    "sk_msg_verdict": ("sk_msg", "4.17"),
    "cgroup_inet4_bind": ("cgroup_sock_addr", "4.17"),
    "cgroup_inet6_bind": ("cgroup_sock_addr", "4.17"),
    "cgroup_inet4_connect": ("cgroup_sock_addr", "4.17"),
    "cgroup_inet6_connect": ("cgroup_sock_addr", "4.17"),
    "cgroup_inet4_post_bind": ("cgroup_sock", "4.17"),
    "cgroup_inet6_post_bind": ("cgroup_sock", "4.17"),
    "cgroup_udp4_sendmsg": ("cgroup_sock_addr", "4.18"),
    "cgroup_udp6_sendmsg": ("cgroup_sock_addr", "4.18"),
    "lirc_mode2": ("lirc_mode2", "4.18"),
    "flow_dissector": ("flow_dissector", "4.20"),
    "cgroup_sysctl": ("cgroup_sysctl", "5.2"),
    "cgroup_udp4_recvmsg": ("cgroup_sock_addr", "5.2"),
    "cgroup_udp6_recvmsg": ("cgroup_sock_addr", "5.2"),
    "cgroup_getsockopt": ("cgroup_sockopt", "5.3"),
    "cgroup_setsockopt": ("cgroup_sockopt", "5.3"),
    "trace_raw_tp": ("tracing", "5.5"),
    "trace_fentry": ("tracing", "5.5"),
    "trace_fexit": ("tracing", "5.5"),
    "modify_return": ("tracing", "5.7"),
    "lsm_mac": ("lsm", "5.7"),
    "trace_iter": ("tracing", "5.8"),
    "cgroup_inet4_getpeername": ("cgroup_sock_addr", "5.8"),
    "cgroup_inet6_getpeername": ("cgroup_sock_addr", "5.8"),
    "cgroup_inet4_getsockname": ("cgroup_sock_addr", "5.8"),
    "cgroup_inet6_getsockname": ("cgroup_sock_addr", "5.8"),
    "xdp_devmap": ("xdp", "5.8"),
    "cgroup_inet_sock_release": ("cgroup_sock", "5.9"),
    "xdp_cpumap": ("xdp", "5.9"),
    "sk_lookup": ("sk_lookup", "5.9"),
    "xdp": ("xdp", "5.9"),
    "sk_skb_verdict": ("sk_skb", "5.13"),
    "sk_reuseport_select": ("sk_reuseport", "5.14"),
    "sk_reuseport_select_or_migrate": ("sk_reuseport", "5.14"),
    "perf_event": ("perf_event kprobe tracepoint", "5.15"),
    "trace_kprobe_multi": ("kprobe", "5.18"),
    "lsm_cgroup": ("lsm", "6.0"),
    "struct_ops": ("struct_ops", "6.4"),
    "netfilter": ("netfilter", "6.4"),
    "tcx_ingress": ("sched_cls", "6.6"),
    "tcx_egress": ("sched_cls", "6.6"),
    "trace_uprobe_multi": ("kprobe", "6.6"),
    "cgroup_unix_connect": ("cgroup_sock_addr", "6.7"),
    "cgroup_unix_sendmsg": ("cgroup_sock_addr", "6.7"),
    "cgroup_unix_recvmsg": ("cgroup_sock_addr", "6.7"),
    "cgroup_unix_getpeername": ("cgroup_sock_addr", "6.7"),
    "cgroup_unix_getsockname": ("cgroup_sock_addr", "6.7"),
    "netkit_primary": ("sched_cls", "6.7"),
    "netkit_peer": ("sched_cls", "6.7"),
    "trace_kprobe_session": ("kprobe", "6.10"),
    "trace_uprobe_session": ("kprobe", "6.13"),
    "trace_fsession": ("tracing", "7.0"),
    "trace_fentry_multi": ("tracing", "7.2"),
    "trace_fexit_multi": ("tracing", "7.2"),
    "trace_fsession_multi": ("tracing", "7.2"),
}

ATTACH_TYPES: Mapping[str, AttachTypeSpec] = MappingProxyType(
    {
        name: AttachTypeSpec(
            uapi.ENUMS["bpf_attach_type"][f"BPF_{name.upper()}"], name, frozenset(types.split()), since
        )
        for name, (types, since) in _ROWS.items()
    }
)
"""Every attach type by its name, in the kernel's order."""

BTF_TARGETS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "trace_raw_tp": ("btf_trace_", "typedef"),
        "trace_fentry": ("", "func"),
        "trace_fexit": ("", "func"),
        "trace_fsession": ("", "func"),
        "modify_return": ("", "func"),
        "trace_iter": ("bpf_iter_", "func"),
        "lsm_mac": ("bpf_lsm_", "func"),
        "lsm_cgroup": ("bpf_lsm_", "func"),
        "ext": ("", "func"),
    }
)
"""How the kernel's types call what a program attaches to, by attach type (`ext`: a program type without one): the
prefix before the target's name, and whether it is a function or a typedef."""

WITHOUT_ATTACH_TYPE: Mapping[str, str] = MappingProxyType(
    {"cgroup_sock": "cgroup_inet_sock_create", "sk_reuseport": "sk_reuseport_select"}
)
"""What the kernel takes a program for that names no attach type, by program type."""
