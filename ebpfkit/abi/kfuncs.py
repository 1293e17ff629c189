"""Kernel functions that network programs use most, with what is known about them.

Kernels offer hundreds, without a promise that they stay; only those named here have a row, and none is modelled yet:
`UNSUPPORTED` says why, and a call of any of them has no verdict and no run.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ebpfkit.abi.model import KfuncSpec

__all__ = ["KFUNCS", "UNSUPPORTED"]

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
