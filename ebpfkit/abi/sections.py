"""Section names that say what a program is: those of libbpf 1.x, as strict as it is.

A section is matched exactly, unless its row has `extra` "+": then the bare name, or the name, a slash and more text
(where to attach). So "xdp_filter" and "xdp/filter" are no XDP programs, while "kprobe/do_unlinkat" is a kprobe. A
leading "?" means that the program is not loaded unless asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ebpfkit.abi.model import SectionSpec

__all__ = ["DATA_SECTIONS", "METADATA_SECTIONS", "SECTIONS"]


def _plain(name: str, prog_type: str, attach_type: str | None = None, **fields: bool) -> SectionSpec:
    return SectionSpec(name, prog_type, attach_type, "", **fields)


def _plus(name: str, prog_type: str, attach_type: str | None = None, **fields: bool) -> SectionSpec:
    return SectionSpec(name, prog_type, attach_type, "+", **fields)


def _both(name: str, prog_type: str, attach_type: str | None = None) -> tuple[SectionSpec, SectionSpec]:
    """A section with text behind it, and its sleepable sibling."""
    return (
        _plus(name, prog_type, attach_type, auto_attach=True),
        _plus(f"{name}.s", prog_type, attach_type, auto_attach=True, sleepable=True),
    )


def _cgroup(names: str, prog_type: str, pattern: str) -> tuple[SectionSpec, ...]:
    return tuple(_plain(f"cgroup/{name}", prog_type, pattern.format(name)) for name in names.split())


_SOCK_ADDR = {
    "bind4": "inet4_bind", "bind6": "inet6_bind", "connect4": "inet4_connect", "connect6": "inet6_connect",
    "connect_unix": "unix_connect", "sendmsg4": "udp4_sendmsg", "sendmsg6": "udp6_sendmsg",
    "sendmsg_unix": "unix_sendmsg", "recvmsg4": "udp4_recvmsg", "recvmsg6": "udp6_recvmsg",
    "recvmsg_unix": "unix_recvmsg", "getpeername4": "inet4_getpeername", "getpeername6": "inet6_getpeername",
    "getpeername_unix": "unix_getpeername", "getsockname4": "inet4_getsockname", "getsockname6": "inet6_getsockname",
    "getsockname_unix": "unix_getsockname",
}  # fmt: skip

_ROWS = (
    # XDP. An AF_XDP socket has no section of its own: it is fed by an XDP program with an xskmap.
    _plain("xdp", "xdp", "xdp", attach_type_optional=True),
    _plain("xdp.frags", "xdp", "xdp", attach_type_optional=True, frags=True),
    _plain("xdp/devmap", "xdp", "xdp_devmap"),
    _plain("xdp.frags/devmap", "xdp", "xdp_devmap", frags=True),
    _plain("xdp/cpumap", "xdp", "xdp_cpumap"),
    _plain("xdp.frags/cpumap", "xdp", "xdp_cpumap", frags=True),
    # traffic control
    _plain("tc/ingress", "sched_cls", "tcx_ingress"),
    _plain("tc/egress", "sched_cls", "tcx_egress"),
    _plain("tcx/ingress", "sched_cls", "tcx_ingress"),
    _plain("tcx/egress", "sched_cls", "tcx_egress"),
    _plain("tc", "sched_cls"),
    _plain("classifier", "sched_cls"),
    _plain("action", "sched_act"),
    _plain("netkit/primary", "sched_cls", "netkit_primary"),
    _plain("netkit/peer", "sched_cls", "netkit_peer"),
    # sockets
    _plain("socket", "socket_filter"),
    _plain("sk_reuseport/migrate", "sk_reuseport", "sk_reuseport_select_or_migrate"),
    _plain("sk_reuseport", "sk_reuseport", "sk_reuseport_select"),
    _plain("sk_lookup", "sk_lookup", "sk_lookup"),
    _plain("sk_msg", "sk_msg", "sk_msg_verdict", attach_type_optional=True),
    _plain("sk_skb/stream_parser", "sk_skb", "sk_skb_stream_parser", attach_type_optional=True),
    _plain("sk_skb/stream_verdict", "sk_skb", "sk_skb_stream_verdict", attach_type_optional=True),
    _plain("sk_skb/verdict", "sk_skb", "sk_skb_verdict", attach_type_optional=True),
    _plain("sk_skb", "sk_skb"),
    _plain("sockops", "sock_ops", "cgroup_sock_ops", attach_type_optional=True),
    _plain("flow_dissector", "flow_dissector", "flow_dissector", attach_type_optional=True),
    _plain("lwt_in", "lwt_in"),
    _plain("lwt_out", "lwt_out"),
    _plain("lwt_xmit", "lwt_xmit"),
    _plain("lwt_seg6local", "lwt_seg6local"),
    _plain("netfilter", "netfilter", "netfilter"),
    _plain("lirc_mode2", "lirc_mode2", "lirc_mode2", attach_type_optional=True),
    # control groups
    _plain("cgroup_skb/ingress", "cgroup_skb", "cgroup_inet_ingress", attach_type_optional=True),
    _plain("cgroup_skb/egress", "cgroup_skb", "cgroup_inet_egress", attach_type_optional=True),
    _plain("cgroup/skb", "cgroup_skb"),
    _plain("cgroup/sock_create", "cgroup_sock", "cgroup_inet_sock_create"),
    _plain("cgroup/sock_release", "cgroup_sock", "cgroup_inet_sock_release"),
    _plain("cgroup/sock", "cgroup_sock", "cgroup_inet_sock_create", attach_type_optional=True),
    _plain("cgroup/post_bind4", "cgroup_sock", "cgroup_inet4_post_bind"),
    _plain("cgroup/post_bind6", "cgroup_sock", "cgroup_inet6_post_bind"),
    *(_plain(f"cgroup/{name}", "cgroup_sock_addr", f"cgroup_{attach}") for name, attach in _SOCK_ADDR.items()),
    _plain("cgroup/sysctl", "cgroup_sysctl", "cgroup_sysctl"),
    *_cgroup("getsockopt setsockopt", "cgroup_sockopt", "cgroup_{}"),
    _plain("cgroup/dev", "cgroup_device", "cgroup_device", attach_type_optional=True),
    # tracing
    _plus("kprobe", "kprobe", auto_attach=True),
    _plus("kretprobe", "kprobe", auto_attach=True),
    *_both("uprobe", "kprobe"),
    *_both("uretprobe", "kprobe"),
    _plus("kprobe.multi", "kprobe", "trace_kprobe_multi", auto_attach=True),
    _plus("kretprobe.multi", "kprobe", "trace_kprobe_multi", auto_attach=True),
    _plus("kprobe.session", "kprobe", "trace_kprobe_session", auto_attach=True),
    *_both("uprobe.multi", "kprobe", "trace_uprobe_multi"),
    *_both("uretprobe.multi", "kprobe", "trace_uprobe_multi"),
    *_both("uprobe.session", "kprobe", "trace_uprobe_session"),
    _plus("ksyscall", "kprobe", auto_attach=True),
    _plus("kretsyscall", "kprobe", auto_attach=True),
    *_both("usdt", "kprobe"),
    *_both("tracepoint", "tracepoint"),
    *_both("tp", "tracepoint"),
    *_both("raw_tracepoint", "raw_tracepoint"),
    *_both("raw_tp", "raw_tracepoint"),
    _plus("raw_tracepoint.w", "raw_tracepoint_writable", auto_attach=True),
    _plus("raw_tp.w", "raw_tracepoint_writable", auto_attach=True),
    *_both("tp_btf", "tracing", "trace_raw_tp"),
    *_both("fentry", "tracing", "trace_fentry"),
    *_both("fexit", "tracing", "trace_fexit"),
    *_both("fmod_ret", "tracing", "modify_return"),
    *_both("fsession", "tracing", "trace_fsession"),
    *_both("fentry.multi", "tracing", "trace_fentry_multi"),
    *_both("fexit.multi", "tracing", "trace_fexit_multi"),
    *_both("fsession.multi", "tracing", "trace_fsession_multi"),
    _plus("freplace", "ext", auto_attach=True),
    *_both("lsm", "lsm", "lsm_mac"),
    _plus("lsm_cgroup", "lsm", "lsm_cgroup"),
    *_both("iter", "tracing", "trace_iter"),
    _plain("perf_event", "perf_event"),
    _plain("syscall", "syscall", sleepable=True),
    *(
        _plus(name, "struct_ops", "struct_ops", sleepable=name.endswith(".s"))
        for name in ("struct_ops", "struct_ops.s")
    ),
)

SECTIONS: Mapping[str, SectionSpec] = MappingProxyType({row.name: row for row in _ROWS})
"""Every program section by its name, without a leading question mark and what follows the slash of "+" rows."""

DATA_SECTIONS: tuple[str, ...] = (".rodata", ".data", ".bss", ".kconfig")
"""Sections of variables; the first three also with a dot and more text behind (".rodata.str1.1", ".data.custom")."""

METADATA_SECTIONS: tuple[str, ...] = (
    "license", "version", ".maps", "maps", ".ksyms", ".struct_ops", ".struct_ops.link", ".text", ".BTF", ".BTF.ext",
    ".xdp_run_config", "xdp_metadata",
)  # fmt: skip
"""Sections that are neither programs nor variables."""
