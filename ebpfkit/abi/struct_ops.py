"""Structures of kernel operations that programs may fill in, and the kernel's members that programs may write.

Rows, and what looks them up: the functions of a structure and their prototypes stand in the kernel's BTF. Measured on
Linux 6.18.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["MEASURED_ON", "OPERATIONS", "OperationsSpec", "WRITABLE_MEMBERS", "WritableSpec"]


MEASURED_ON: Final = "6.18"


@dataclass(frozen=True, slots=True)
class WritableSpec:
    """A structure of the kernel of which programs may write some members.

    `members` are paths `STRUCT.MEMBER[.MEMBER]` from a structure that this one begins with; none: all of it. `only` is
    what the kernel says of other structures.
    """

    struct: str
    members: tuple[str, ...] = ()
    only: str = "only read is supported"


@dataclass(frozen=True, slots=True)
class OperationsSpec:
    """A structure of operations. `helpers`: those beyond the common ones; `hidden`: helpers that a member may not call.

    `unsupported` members take no program. `sleepable`: members that may sleep (None: all), the others must not.
    `promoted`: a pointer argument to the first structure is one to the second.
    """

    name: str
    writable: WritableSpec
    unsupported: frozenset[str] = frozenset()
    sleepable: frozenset[str] | None = None
    helpers: frozenset[str] = frozenset()
    hidden: tuple[tuple[str, frozenset[str]], ...] = ()
    promoted: tuple[tuple[str, str], ...] = ()


_TCP_SOCK = WritableSpec(
    "tcp_sock",
    (
        "sock.sk_pacing_rate", "sock.sk_pacing_status", "inet_connection_sock.icsk_ca_priv",
        "inet_connection_sock.icsk_ack.pending", "tcp_sock.snd_cwnd", "tcp_sock.snd_cwnd_cnt",
        "tcp_sock.snd_cwnd_stamp", "tcp_sock.snd_ssthresh", "tcp_sock.ecn_flags", "tcp_sock.app_limited",
    ),
)  # fmt: skip
_SOCKET_OPTIONS = frozenset({"setsockopt", "getsockopt"})

OPERATIONS: Mapping[str, OperationsSpec] = MappingProxyType(
    {
        row.name: row
        for row in (
            OperationsSpec(
                "tcp_congestion_ops",
                _TCP_SOCK,
                unsupported=frozenset({"get_info"}),
                helpers=_SOCKET_OPTIONS
                | {"sk_storage_get", "sk_storage_delete", "tcp_send_ack", "ktime_get_coarse_ns"},
                hidden=(("release", _SOCKET_OPTIONS),),
                promoted=(("sock", "tcp_sock"),),
            ),
            OperationsSpec(
                "bpf_dummy_ops",
                WritableSpec("bpf_dummy_ops_state", only="only access to bpf_dummy_ops_state is supported"),
                sleepable=frozenset({"test_sleepable"}),
            ),
        )
    }
)
"""The structures by name."""

_CONNECTION = WritableSpec("nf_conn", ("nf_conn.mark",))
WRITABLE_MEMBERS: Mapping[str, WritableSpec] = MappingProxyType({"xdp": _CONNECTION, "sched_cls": _CONNECTION})
"""What programs of other types may write, by program type."""
