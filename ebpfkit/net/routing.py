"""What `helpers.fib_lookup` asks and answers: the kernel's `struct bpf_fib_lookup`, once for each family."""

from __future__ import annotations

from typing import Final, Literal

from ebpfkit.dsl.addresses import MAC, IPv4Addr, IPv6Addr
from ebpfkit.dsl.arrays import array
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.types import be16, be32, u8, u16, u32

__all__ = ["AF_INET", "AF_INET6", "FIB_LOOKUP_SUCCESS", "FibLookup4", "FibLookup6"]

AF_INET: Final = 2
AF_INET6: Final = 10
FIB_LOOKUP_SUCCESS: Final = 0  # what fib_lookup gives when `ifindex`, `smac` and `dmac` say where to send


class FibLookup4(Struct):
    """The parameters of a look-up for IPv4, 64 bytes: `family` is AF_INET, `ifindex` the interface that received."""

    family: u8
    l4_protocol: u8
    sport: be16
    dport: be16
    total_length: u16
    ifindex: u32
    tos: u8
    unused: array[u8, Literal[3]]
    src: IPv4Addr
    unused_src: array[u8, Literal[12]]
    dst: IPv4Addr
    unused_dst: array[u8, Literal[12]]
    vlan_protocol: be16
    vlan_tci: be16
    smac: MAC
    dmac: MAC


class FibLookup6(Struct):
    """The parameters of a look-up for IPv6, 64 bytes: `family` is AF_INET6, `flow` the word of class and label."""

    family: u8
    l4_protocol: u8
    sport: be16
    dport: be16
    total_length: u16
    ifindex: u32
    flow: be32
    src: IPv6Addr
    dst: IPv6Addr
    vlan_protocol: be16
    vlan_tci: be16
    smac: MAC
    dmac: MAC
