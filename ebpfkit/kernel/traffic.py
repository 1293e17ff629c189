"""Traffic control over rtnetlink: the clsact queue of a device, and bpf filters in it.

Messages only; who holds a filter, and for how long, is `loader.links.tc`'s.
"""

from __future__ import annotations

import errno
import struct

from ebpfkit.kernel.bpf import HasFileno
from ebpfkit.kernel.netlink import NETLINK_ROUTE, NetlinkError, pack_attribute, request

__all__ = ["DIRECTIONS", "add_clsact", "add_filter", "remove_filter"]

_TCMSG = struct.Struct("=BxxxiIII")
_RTM_NEWQDISC, _RTM_NEWTFILTER, _RTM_DELTFILTER = 36, 44, 45
_NLM_F_EXCL, _NLM_F_CREATE = 0x200, 0x400
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_BPF_FD, _TCA_BPF_NAME, _TCA_BPF_FLAGS = 6, 7, 8
_ACT_DIRECT = 1
_CLSACT, _CLSACT_HANDLE = 0xFFFF_FFF1, 0xFFFF_0000
_ETH_P_ALL = 3
DIRECTIONS = {"ingress": 0xFFFF_FFF2, "egress": 0xFFFF_FFF3}
"""The two places of a clsact queue, by name."""
_MOST_FILTERS = 256


def add_clsact(ifindex: int) -> bool:
    """Give a device its clsact queue; False when it has one. Raises NetlinkError."""
    body = _TCMSG.pack(0, ifindex, _CLSACT_HANDLE, _CLSACT, 0) + pack_attribute(_TCA_KIND, b"clsact\0")
    try:
        request(NETLINK_ROUTE, _RTM_NEWQDISC, body, flags=_NLM_F_CREATE | _NLM_F_EXCL, what="adding a clsact queue")
    except NetlinkError as error:
        if error.errno == errno.EEXIST:
            return False
        raise
    return True


def _message(ifindex: int, direction: str, priority: int, handle: int) -> bytes:
    info = priority << 16 | int.from_bytes(_ETH_P_ALL.to_bytes(2, "big"), "little")
    return _TCMSG.pack(0, ifindex, handle, DIRECTIONS[direction], info) + pack_attribute(_TCA_KIND, b"bpf\0")


def add_filter(ifindex: int, direction: str, program: HasFileno, name: str, priority: int) -> int:
    """Add a program as a filter whose verdict counts (direct-action); its handle. Raises NetlinkError."""
    options = pack_attribute(_TCA_BPF_FD, struct.pack("=I", program.fileno()))
    options += pack_attribute(_TCA_BPF_NAME, name.encode() + b"\0")
    options += pack_attribute(_TCA_BPF_FLAGS, struct.pack("=I", _ACT_DIRECT))
    tail = pack_attribute(_TCA_OPTIONS, options, nested=True)
    for handle in range(1, _MOST_FILTERS):
        body = _message(ifindex, direction, priority, handle) + tail
        try:
            request(NETLINK_ROUTE, _RTM_NEWTFILTER, body, flags=_NLM_F_CREATE | _NLM_F_EXCL, what="adding a filter")
        except NetlinkError as error:
            if error.errno == errno.EEXIST:
                continue
            raise
        return handle
    raise NetlinkError(f"adding a filter: priority {priority} is full", errno=errno.EEXIST)


def remove_filter(ifindex: int, direction: str, priority: int, handle: int) -> None:
    """Take a filter away. Raises NetlinkError (ENOENT when it is gone)."""
    request(NETLINK_ROUTE, _RTM_DELTFILTER, _message(ifindex, direction, priority, handle), what="removing a filter")
