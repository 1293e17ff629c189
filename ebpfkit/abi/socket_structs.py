"""Structures that programs read behind pointers to sockets, beyond those in `contexts`: fields with offset and size.

Numbers are those of the kernel's UAPI headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["TCP_SOCK", "TCP_SOCK_BYTES"]

_U32 = (
    "snd_cwnd", "srtt_us", "rtt_min", "snd_ssthresh", "rcv_nxt", "snd_nxt", "snd_una", "mss_cache", "ecn_flags",
    "rate_delivered", "rate_interval_us", "packets_out", "retrans_out", "total_retrans", "segs_in", "data_segs_in",
    "segs_out", "data_segs_out", "lost_out", "sacked_out",
)  # fmt: skip
_U64 = ("bytes_received", "bytes_acked")
_TAIL = ("dsack_dups", "delivered", "delivered_ce", "icsk_retransmits")

TCP_SOCK: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        **{name: (4 * at, 4) for at, name in enumerate(_U32)},
        **{name: (4 * len(_U32) + 8 * at, 8) for at, name in enumerate(_U64)},
        **{name: (4 * len(_U32) + 8 * len(_U64) + 4 * at, 4) for at, name in enumerate(_TAIL)},
    }
)
"""Fields of struct bpf_tcp_sock: (offset, size) in bytes by name."""

TCP_SOCK_BYTES = 112
