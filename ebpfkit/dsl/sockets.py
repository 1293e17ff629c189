"""Sockets as helpers give them to programs (the kernel's `struct bpf_sock`): read only, and given back after use."""

from __future__ import annotations

from typing import Literal

from ebpfkit.dsl.addresses import IPv4Addr
from ebpfkit.dsl.arrays import array
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import be16, be32, s32, u16, u32

__all__ = ["Socket"]


class bpf_sock(Struct):
    """A socket that `helpers.sk_lookup_tcp(...)` or a sibling found; `helpers.sk_release(sk)` on every path after."""

    bound_dev_if: u32
    family: u32
    type: u32
    protocol: u32
    mark: u32
    priority: u32
    src_ip4: IPv4Addr
    src_ip6: array[be32, Literal[4]]
    src_port: u32
    dst_port: be16
    padding: u16
    dst_ip4: IPv4Addr
    dst_ip6: array[be32, Literal[4]]
    state: u32
    rx_queue_mapping: s32


Socket = bpf_sock
