"""The language's standard library: protocol headers, addresses, the numbers in them, and checksums.

Everything here is written in the language itself, so that it compiles and runs as plain Python. How a header becomes a
view is `dsl`'s.
"""

from ebpfkit.dsl.addresses import MAC, IPv4Addr, IPv6Addr
from ebpfkit.net.checksum import (
    csum_fold,
    csum_replace2,
    csum_replace4,
    decrement_ttl,
    ipv4_checksum,
    ipv4_pseudo_sum,
)
from ebpfkit.net.ethernet import (
    ARP,
    ARP_REPLY,
    ARP_REQUEST,
    ETH_P_8021AD,
    ETH_P_8021Q,
    ETH_P_ARP,
    ETH_P_IP,
    ETH_P_IPV6,
    VLAN,
    Ethernet,
)
from ebpfkit.net.ip import (
    IPPROTO_AH,
    IPPROTO_DSTOPTS,
    IPPROTO_ESP,
    IPPROTO_FRAGMENT,
    IPPROTO_GRE,
    IPPROTO_HOPOPTS,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_IGMP,
    IPPROTO_IPIP,
    IPPROTO_IPV6,
    IPPROTO_NONE,
    IPPROTO_ROUTING,
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPv4,
    IPv6,
)
from ebpfkit.net.transport import (
    ICMP,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    ICMPV6_ECHO_REPLY,
    ICMPV6_ECHO_REQUEST,
    TCP,
    UDP,
    ICMPv6,
)

__all__ = [
    "ARP", "ARP_REPLY", "ARP_REQUEST", "ETH_P_8021AD", "ETH_P_8021Q", "ETH_P_ARP", "ETH_P_IP", "ETH_P_IPV6", "ICMP",
    "ICMPV6_ECHO_REPLY", "ICMPV6_ECHO_REQUEST", "ICMP_ECHO", "ICMP_ECHOREPLY", "IPPROTO_AH", "IPPROTO_DSTOPTS",
    "IPPROTO_ESP", "IPPROTO_FRAGMENT", "IPPROTO_GRE", "IPPROTO_HOPOPTS", "IPPROTO_ICMP", "IPPROTO_ICMPV6",
    "IPPROTO_IGMP", "IPPROTO_IPIP", "IPPROTO_IPV6", "IPPROTO_NONE", "IPPROTO_ROUTING", "IPPROTO_SCTP", "IPPROTO_TCP",
    "IPPROTO_UDP", "MAC", "TCP", "UDP", "VLAN", "Ethernet", "ICMPv6", "IPv4", "IPv4Addr", "IPv6", "IPv6Addr",
    "csum_fold", "csum_replace2", "csum_replace4", "decrement_ttl", "ipv4_checksum", "ipv4_pseudo_sum",
]  # fmt: skip
