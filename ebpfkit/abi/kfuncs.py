"""Kernel functions that network programs use most, with what is known about them.

Kernels offer hundreds, without a promise that they stay; only those named here have a row, and none is modelled yet:
`UNSUPPORTED` says why, and a call of any of them has no verdict and no run.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ebpfkit.abi import kfunc_history, kfunc_table
from ebpfkit.abi.model import KfuncSpec

__all__ = ["FLAGS", "KFUNCS", "UNSUPPORTED", "has_kfunc", "may_call_kfunc"]

_XDP = frozenset({"xdp"})
_SKB = frozenset({"sched_cls", "sched_act", "socket_filter", "cgroup_skb", "lwt_in", "lwt_out", "lwt_xmit", "sk_skb"})
_NET = _XDP | {"sched_cls", "sched_act"}
_ALL = frozenset({"*"})

_ROWS = (
    KfuncSpec(
        "bpf_xdp_metadata_rx_timestamp",
        "6.3",
        _XDP,
        "int (const struct xdp_md *ctx, u64 *timestamp)",
        "the time at which the card received the packet, in nanoseconds",
        device_bound=True,
    ),
    KfuncSpec(
        "bpf_xdp_metadata_rx_hash",
        "6.3",
        _XDP,
        "int (const struct xdp_md *ctx, u32 *hash, enum xdp_rss_hash_type *type)",
        "the hash that the card computed",
        device_bound=True,
    ),
    KfuncSpec(
        "bpf_xdp_metadata_rx_vlan_tag",
        "6.8",
        _XDP,
        "int (const struct xdp_md *ctx, __be16 *proto, u16 *tci)",
        "the VLAN tag that the card took off",
        device_bound=True,
    ),
    KfuncSpec(
        "bpf_dynptr_from_xdp",
        "6.4",
        _XDP,
        "int (struct xdp_md *xdp, u64 flags, struct bpf_dynptr *ptr)",
        "a dynptr over the whole packet, fragments included",
    ),
    KfuncSpec(
        "bpf_dynptr_from_skb",
        "6.4",
        _SKB,
        "int (struct __sk_buff *skb, u64 flags, struct bpf_dynptr *ptr)",
        "a dynptr over the whole packet",
    ),
    KfuncSpec(
        "bpf_dynptr_slice",
        "6.4",
        _ALL,
        "void *(const struct bpf_dynptr *ptr, u32 offset, void *buffer, u32 size)",
        "read-only bytes of a dynptr, copied to the buffer where they are not contiguous",
    ),
    KfuncSpec(
        "bpf_dynptr_slice_rdwr",
        "6.4",
        _ALL,
        "void *(const struct bpf_dynptr *ptr, u32 offset, void *buffer, u32 size)",
        "writable bytes of a dynptr",
    ),
    KfuncSpec(
        "bpf_iter_num_new",
        "6.4",
        _ALL,
        "int (struct bpf_iter_num *it, int start, int end)",
        "begins a loop over numbers",
    ),
    KfuncSpec(
        "bpf_iter_num_next", "6.4", _ALL, "int *(struct bpf_iter_num *it)", "the next number, or NULL at the end"
    ),
    KfuncSpec("bpf_iter_num_destroy", "6.4", _ALL, "void (struct bpf_iter_num *it)", "ends a loop over numbers"),
    KfuncSpec("bpf_rcu_read_lock", "6.2", _ALL, "void (void)", "enters a section in which RCU objects stay alive"),
    KfuncSpec("bpf_rcu_read_unlock", "6.2", _ALL, "void (void)", "leaves it"),
    KfuncSpec(
        "bpf_xdp_ct_lookup",
        "5.18",
        _XDP,
        "struct nf_conn *(struct xdp_md *ctx, struct bpf_sock_tuple *tuple, u32 size,"
        " struct bpf_ct_opts *opts, u32 opts_size)",
        "the tracked connection of a packet",
    ),
    KfuncSpec(
        "bpf_skb_ct_lookup",
        "5.18",
        frozenset({"sched_cls", "sched_act"}),
        "struct nf_conn *(struct __sk_buff *ctx, struct bpf_sock_tuple *tuple, u32 size,"
        " struct bpf_ct_opts *opts, u32 opts_size)",
        "the tracked connection of a packet",
    ),
    KfuncSpec("bpf_ct_release", "5.18", _NET, "void (struct nf_conn *connection)", "releases a tracked connection"),
    KfuncSpec(
        "bpf_xdp_get_xfrm_state",
        "6.8",
        _XDP,
        "struct xfrm_state *(struct xdp_md *ctx, struct bpf_xfrm_state_opts *opts, u32 size)",
        "the IPsec state of a packet",
    ),
)

KFUNCS: Mapping[str, KfuncSpec] = MappingProxyType({row.name: row for row in _ROWS})
"""Known kernel functions by name."""

UNSUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        row.name: "calls of kernel functions are checked against the target kernel's own BTF, which is not modelled yet"
        for row in _ROWS
        if not row.modelled
    }
)
"""Known kernel functions that nothing here models, with the reason."""

# --- what a call of each does, by the kernel's own words --------------------------------------------------------------
# acquire: the result is a reference; release: the argument with a reference is given up; ret_null: the result may be
# NULL; trusted: pointers must be trusted and not NULL; rcu: trusted or protected by RCU; in_rcu: only in an RCU
# section; new, next, destroy: of an iterator. Functions without a line have no model. Documented, and the effects on
# verdicts measured on Linux 6.18.
_FLAGS = {
    "bpf_arena_alloc_pages": "trusted sleeps",
    "bpf_arena_free_pages": "trusted sleeps",
    "bpf_arena_reserve_pages": "trusted sleeps",
    "bpf_iter_num_new": "new",
    "bpf_iter_num_next": "next ret_null",
    "bpf_iter_num_destroy": "destroy",
    "bpf_iter_bits_new": "new",
    "bpf_iter_bits_next": "next ret_null",
    "bpf_iter_bits_destroy": "destroy",
    "bpf_iter_task_new": "new trusted in_rcu",
    "bpf_iter_task_next": "next ret_null",
    "bpf_iter_task_destroy": "destroy",
    "bpf_iter_task_vma_new": "new rcu",
    "bpf_iter_task_vma_next": "next ret_null",
    "bpf_iter_task_vma_destroy": "destroy",
    "bpf_iter_css_new": "new trusted in_rcu",
    "bpf_iter_css_next": "next ret_null",
    "bpf_iter_css_destroy": "destroy",
    "bpf_iter_kmem_cache_new": "new sleeps",
    "bpf_iter_kmem_cache_next": "next ret_null sleeps",
    "bpf_iter_kmem_cache_destroy": "destroy sleeps",
    "bpf_rcu_read_lock": "",
    "bpf_rcu_read_unlock": "",
    "bpf_preempt_disable": "",
    "bpf_preempt_enable": "",
    "bpf_local_irq_save": "",
    "bpf_local_irq_restore": "",
    "bpf_throw": "",
    "bpf_dynptr_from_skb": "trusted",
    "bpf_dynptr_from_skb_meta": "trusted",
    "bpf_dynptr_from_xdp": "",
    "bpf_dynptr_slice": "ret_null",
    "bpf_dynptr_slice_rdwr": "ret_null",
    "bpf_dynptr_adjust": "",
    "bpf_dynptr_is_null": "",
    "bpf_dynptr_is_rdonly": "",
    "bpf_dynptr_size": "",
    "bpf_dynptr_clone": "",
    "bpf_dynptr_copy": "",
    "bpf_dynptr_memset": "",
    "bpf_wq_init": "",
    "bpf_wq_set_callback_impl": "",
    "bpf_wq_start": "",
    "bpf_strcmp": "",
    "bpf_strcasecmp": "",
    "bpf_strchr": "",
    "bpf_strchrnul": "",
    "bpf_strnchr": "",
    "bpf_strrchr": "",
    "bpf_strlen": "",
    "bpf_strnlen": "",
    "bpf_strspn": "",
    "bpf_strcspn": "",
    "bpf_strstr": "",
    "bpf_strnstr": "",
    "bpf_copy_from_user_str": "sleeps",
    "bpf_probe_read_kernel_dynptr": "",
    "bpf_probe_read_kernel_str_dynptr": "",
    "bpf_probe_read_user_dynptr": "",
    "bpf_probe_read_user_str_dynptr": "",
    "bpf_copy_from_user_dynptr": "sleeps",
    "bpf_copy_from_user_str_dynptr": "sleeps",
    "bpf_xdp_metadata_rx_timestamp": "trusted",
    "bpf_xdp_metadata_rx_hash": "trusted",
    "bpf_xdp_metadata_rx_vlan_tag": "trusted",
    "bpf_xdp_pull_data": "changes_packet",
    "bpf_xdp_get_xfrm_state": "acquire ret_null",
    "bpf_xdp_xfrm_state_release": "release",
    "bpf_xdp_ct_lookup": "acquire ret_null",
    "bpf_skb_ct_lookup": "acquire ret_null",
    "bpf_xdp_ct_alloc": "acquire ret_null",
    "bpf_skb_ct_alloc": "acquire ret_null",
    "bpf_ct_insert_entry": "acquire release ret_null",
    "bpf_ct_release": "release",
    "bpf_ct_set_timeout": "trusted",
    "bpf_ct_change_timeout": "trusted",
    "bpf_ct_set_status": "trusted",
    "bpf_ct_change_status": "trusted",
    "bpf_task_acquire": "acquire rcu ret_null",
    "bpf_task_release": "release",
    "bpf_task_from_pid": "acquire ret_null",
    "bpf_task_from_vpid": "acquire ret_null",
    "bpf_task_get_cgroup1": "acquire rcu ret_null",
    "bpf_task_under_cgroup": "rcu",
    "bpf_cgroup_acquire": "acquire rcu ret_null",
    "bpf_cgroup_release": "release",
    "bpf_cgroup_ancestor": "acquire rcu ret_null",
    "bpf_cgroup_from_id": "acquire ret_null",
    "bpf_cpumask_create": "acquire ret_null",
    "bpf_cpumask_release": "release",
    "bpf_cpumask_acquire": "acquire trusted",
    "bpf_cpumask_first": "rcu",
    "bpf_cpumask_first_zero": "rcu",
    "bpf_cpumask_first_and": "rcu",
    "bpf_cpumask_set_cpu": "rcu",
    "bpf_cpumask_clear_cpu": "rcu",
    "bpf_cpumask_test_cpu": "rcu",
    "bpf_cpumask_test_and_set_cpu": "rcu",
    "bpf_cpumask_test_and_clear_cpu": "rcu",
    "bpf_cpumask_setall": "rcu",
    "bpf_cpumask_clear": "rcu",
    "bpf_cpumask_and": "rcu",
    "bpf_cpumask_or": "rcu",
    "bpf_cpumask_xor": "rcu",
    "bpf_cpumask_equal": "rcu",
    "bpf_cpumask_intersects": "rcu",
    "bpf_cpumask_subset": "rcu",
    "bpf_cpumask_empty": "rcu",
    "bpf_cpumask_full": "rcu",
    "bpf_cpumask_copy": "rcu",
    "bpf_cpumask_any_distribute": "rcu",
    "bpf_cpumask_any_and_distribute": "rcu",
    "bpf_cpumask_weight": "rcu",
    "bpf_key_put": "release",
    "bpf_lookup_system_key": "acquire ret_null",
    "bpf_lookup_user_key": "acquire ret_null sleeps",
    "bpf_crypto_ctx_release": "release",
    "bpf_crypto_ctx_acquire": "acquire rcu ret_null",
    "bpf_crypto_decrypt": "rcu",
    "bpf_crypto_encrypt": "rcu",
    "bpf_send_signal_task": "trusted",
    "bpf_sock_destroy": "trusted",
    "bpf_get_task_exe_file": "acquire trusted ret_null",
    "bpf_put_file": "release",
    "bpf_path_d_path": "trusted",
    "bpf_fentry_test1": "",
    "bpf_modify_return_test_tp": "",
    "bpf_res_spin_lock": "",
    "bpf_res_spin_lock_irqsave": "",
    "bpf_res_spin_unlock": "",
    "bpf_res_spin_unlock_irqrestore": "",
    "bbr_cwnd_event": "",
    "bbr_init": "",
    "bbr_main": "",
    "bbr_min_tso_segs": "",
    "bbr_set_state": "",
    "bbr_sndbuf_expand": "",
    "bbr_ssthresh": "",
    "bbr_undo_cwnd": "",
    "cubictcp_acked": "",
    "cubictcp_cong_avoid": "",
    "cubictcp_cwnd_event": "",
    "cubictcp_init": "",
    "cubictcp_recalc_ssthresh": "",
    "cubictcp_state": "",
    "tcp_cong_avoid_ai": "",
    "tcp_reno_cong_avoid": "",
    "tcp_reno_ssthresh": "",
    "tcp_reno_undo_cwnd": "",
    "tcp_slow_start": "",
    "bpf_cgroup_read_xattr": "rcu",
    "bpf_copy_from_user_task_dynptr": "sleeps trusted",
    "bpf_copy_from_user_task_str": "sleeps",
    "bpf_copy_from_user_task_str_dynptr": "sleeps trusted",
    "bpf_cpumask_populate": "rcu",
    "bpf_crypto_ctx_create": "acquire ret_null sleeps",
    "bpf_ct_set_nat_info": "trusted",
    "bpf_get_kmem_cache": "",
    "bpf_iter_css_task_new": "new trusted",
    "bpf_iter_css_task_next": "next ret_null",
    "bpf_iter_css_task_destroy": "destroy",
    "bpf_iter_dmabuf_new": "new sleeps",
    "bpf_iter_dmabuf_next": "next ret_null sleeps",
    "bpf_iter_dmabuf_destroy": "destroy sleeps",
    "bpf_kfunc_call_memb_release": "release",
    "bpf_kfunc_call_test_release": "release",
    "bpf_map_sum_elem_count": "trusted",
    "bpf_sk_assign_tcp_reqsk": "trusted",
    "bpf_sock_addr_set_sun_path": "",
    "bpf_sock_ops_enable_tx_tstamp": "trusted",
    "bpf_stream_vprintk_impl": "trusted",
    "css_rstat_flush": "sleeps",
    "css_rstat_updated": "",
    "bpf_session_cookie": "",
    "bpf_session_is_return": "",
    "__bpf_trap": "",
}

FLAGS: Mapping[str, frozenset[str]] = MappingProxyType(
    {name: frozenset(words.split()) for name, words in _FLAGS.items()}
)
"""Modelled kernel functions and their flags."""

_Types = Mapping[str, frozenset[str]]


def _types(groups: tuple[tuple[str, str], ...]) -> _Types:
    return {name: frozenset(types.split()) for types, names in groups for name in names.split()}


_TYPES: Mapping[str, tuple[_Types, frozenset[str]]] = MappingProxyType(
    {
        kfunc_table.MEASURED_ON: (_types(kfunc_table.ALLOWED), frozenset(kfunc_table.UNMEASURED)),
        **{
            kernel: (_types(groups), frozenset(kfunc_history.UNMEASURED[kernel].split()))
            for kernel, groups in kfunc_history.ALLOWED.items()
        },
    }
)
"""By kernel: the program types that may call each function, and those of which the kernel told nothing."""
_IN_MODULES = ("bpf_xdp_ct_", "bpf_skb_ct_", "bpf_ct_")
"""Functions that older kernels have in a module, which was not loaded when they were asked."""

_SESSION = frozenset({"trace_kprobe_session", "trace_uprobe_session"})
_ONLY_AT: Mapping[str, tuple[str, frozenset[str]]] = MappingProxyType(
    {
        "bpf_session_cookie": ("kprobe", _SESSION),
        "bpf_session_is_return": ("kprobe", _SESSION),
        "bpf_sock_destroy": ("tracing", frozenset({"trace_iter"})),
    }
)
"""Functions that only some attach types of one program type may call."""


def has_kfunc(name: str, kernel: str) -> bool | None:
    """Whether the kernel has the function; None: that was not measured."""
    if kernel not in _TYPES or name.startswith(_IN_MODULES):
        return True if kernel == kfunc_table.MEASURED_ON else None
    return name in _TYPES[kernel][0] or kernel == kfunc_table.MEASURED_ON


def may_call_kfunc(
    name: str, prog_type: str, attach_type: str | None = None, kernel: str = kfunc_table.MEASURED_ON
) -> bool | None:
    """Whether such programs may call the kernel function on this kernel; None: not measured."""
    if name in _ONLY_AT:
        only, attach_types = _ONLY_AT[name]
        return prog_type == only and attach_type in attach_types
    table, unmeasured = _TYPES[kernel]
    if prog_type in unmeasured:
        return None
    types = table.get(name, frozenset())
    return "*" in types or prog_type in types
