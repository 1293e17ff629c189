"""The `netdev` generic netlink family (Linux 6.3): what a device's driver says it can do with XDP and AF_XDP.

The features are those of the current configuration: some come and go with offloads and with the peer. For older kernels
there is the table of drivers in `abi`.
"""

from __future__ import annotations

import errno
import struct
import sys
from dataclasses import dataclass

from ebpfkit.abi import uapi
from ebpfkit.kernel.netlink import NETLINK_GENERIC, NetlinkError, pack_attribute, read_attributes, request

__all__ = ["Napi", "NetdevFeatures", "Queue", "query_features", "query_napis", "query_queues", "set_napi"]

_GENL = struct.Struct("=BBH")
_GENL_ID_CTRL, _CTRL_GETFAMILY, _CTRL_FAMILY_ID, _CTRL_FAMILY_NAME = 16, 3, 1, 2
_FAMILY_VERSION = 1


def _names(prefix: str) -> dict[int, str]:
    return {
        value: name.removeprefix(prefix).lower().replace("_", "-")
        for name, value in vars(uapi).items()
        if name.startswith(prefix) and isinstance(value, int) and not name.endswith("_MASK")
    }


_XDP_FEATURES = _names("NETDEV_XDP_ACT_")
_RX_METADATA = _names("NETDEV_XDP_RX_METADATA_")
_XSK_FEATURES = _names("NETDEV_XSK_FLAGS_")


@dataclass(frozen=True, slots=True)
class NetdevFeatures:
    """What a driver says. `zero_copy_segments` is the longest zero-copy packet in fragments (0: no zero copy)."""

    xdp: frozenset[str]  # basic, redirect, ndo-xmit, xsk-zerocopy, hw-offload, rx-sg, ndo-xmit-sg
    rx_metadata: frozenset[str]  # timestamp, hash, vlan-tag
    xsk: frozenset[str]  # tx-timestamp, tx-checksum, tx-launch-time-fifo
    zero_copy_segments: int = 0


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue of a device; `has_xsk`: an AF_XDP socket owns it already (None: the kernel does not tell)."""

    id: int
    kind: str  # "rx" or "tx"
    napi_id: int = 0
    has_xsk: bool | None = None


def _family() -> int:
    """The number of the family on this boot. Raises NetlinkError (ENOENT before Linux 6.3)."""
    body = _GENL.pack(_CTRL_GETFAMILY, 1, 0) + pack_attribute(_CTRL_FAMILY_NAME, b"netdev\0")
    for answer in request(NETLINK_GENERIC, _GENL_ID_CTRL, body, what="looking up the netdev family"):
        for kind, value in read_attributes(answer[_GENL.size :]):
            if kind == _CTRL_FAMILY_ID:
                return int(struct.unpack_from("=H", value)[0])
    raise NetlinkError("the netdev family has no number", errno=errno.ENOENT)


def query_features(ifindex: int) -> NetdevFeatures | None:
    """The features of a device of the current namespace; None before Linux 6.3. Raises NetlinkError."""
    try:
        family = _family()
    except NetlinkError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
            return None
        raise
    body = _GENL.pack(uapi.NETDEV_CMD_DEV_GET, _FAMILY_VERSION, 0)
    body += pack_attribute(uapi.NETDEV_A_DEV_IFINDEX, struct.pack("=I", ifindex))
    found: dict[int, int] = {}
    for answer in request(NETLINK_GENERIC, family, body, what=f"asking device {ifindex} for its XDP features"):
        for kind, value in read_attributes(answer[_GENL.size :]):
            found[kind] = int.from_bytes(value, "little" if struct.pack("=H", 1)[0] else "big")
    return NetdevFeatures(
        xdp=_decode(found.get(uapi.NETDEV_A_DEV_XDP_FEATURES, 0), _XDP_FEATURES),
        rx_metadata=_decode(found.get(uapi.NETDEV_A_DEV_XDP_RX_METADATA_FEATURES, 0), _RX_METADATA),
        xsk=_decode(found.get(uapi.NETDEV_A_DEV_XSK_FEATURES, 0), _XSK_FEATURES),
        zero_copy_segments=found.get(uapi.NETDEV_A_DEV_XDP_ZC_MAX_SEGS, 0),
    )


def _decode(bits: int, names: dict[int, str]) -> frozenset[str]:
    known = {name for bit, name in names.items() if bits & bit}
    unknown = bits & ~sum(names)
    return frozenset(known | {f"bit-{i}" for i in range(64) if unknown >> i & 1})


def query_queues(ifindex: int) -> list[Queue] | None:
    """The queues of a device that is up (Linux 6.8; None where the kernel does not tell). Raises NetlinkError."""
    body = _GENL.pack(uapi.NETDEV_CMD_QUEUE_GET, _FAMILY_VERSION, 0)
    body += pack_attribute(uapi.NETDEV_A_QUEUE_IFINDEX, struct.pack("=I", ifindex))
    try:
        answers = request(NETLINK_GENERIC, _family(), body, dump=True, what=f"asking device {ifindex} for its queues")
    except NetlinkError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):
            return None
        raise
    queues = []
    for answer in answers:
        found = dict(read_attributes(answer[_GENL.size :]))
        number, kind, napi = (
            struct.unpack_from("=I", found[which])[0] if which in found else 0
            for which in (uapi.NETDEV_A_QUEUE_ID, uapi.NETDEV_A_QUEUE_TYPE, uapi.NETDEV_A_QUEUE_NAPI_ID)
        )
        queues.append(Queue(number, "tx" if kind else "rx", napi, uapi.NETDEV_A_QUEUE_XSK in found))
    return queues


@dataclass(frozen=True, slots=True)
class Napi:
    """One polling context of a driver (Linux 6.8; the settings 6.13). Times in nanoseconds."""

    id: int
    irq: int = 0
    pid: int = 0
    defer_hard_irqs: int = 0
    gro_flush_timeout: int = 0
    irq_suspend_timeout: int = 0


_NAPI_FIELDS = {
    "id": uapi.NETDEV_A_NAPI_ID,
    "irq": uapi.NETDEV_A_NAPI_IRQ,
    "pid": uapi.NETDEV_A_NAPI_PID,
    "defer_hard_irqs": uapi.NETDEV_A_NAPI_DEFER_HARD_IRQS,
    "gro_flush_timeout": uapi.NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT,
    "irq_suspend_timeout": uapi.NETDEV_A_NAPI_IRQ_SUSPEND_TIMEOUT,
}


def query_napis(ifindex: int) -> list[Napi] | None:
    """The polling contexts of a device that is up (None where the kernel does not tell). Raises NetlinkError."""
    body = _GENL.pack(uapi.NETDEV_CMD_NAPI_GET, _FAMILY_VERSION, 0)
    body += pack_attribute(uapi.NETDEV_A_NAPI_IFINDEX, struct.pack("=I", ifindex))
    try:
        answers = request(NETLINK_GENERIC, _family(), body, dump=True, what=f"asking device {ifindex} for its NAPIs")
    except NetlinkError as error:
        if error.errno in (errno.ENOENT, errno.EOPNOTSUPP, errno.EINVAL):
            return None
        raise
    napis = []
    for answer in answers:
        found = dict(read_attributes(answer[_GENL.size :]))
        numbers = {
            name: int.from_bytes(found[kind], sys.byteorder) for name, kind in _NAPI_FIELDS.items() if kind in found
        }
        napis.append(Napi(**numbers))
    return napis


def set_napi(
    napi_id: int,
    *,
    defer_hard_irqs: int | None = None,
    gro_flush_timeout: int | None = None,
    irq_suspend_timeout: int | None = None,
) -> None:
    """Busy-poll settings of one polling context (Linux 6.13; before, they are sysfs files of the whole device).

    Times in nanoseconds. Raises NetlinkError (ENOENT: no such context).
    """
    body = _GENL.pack(uapi.NETDEV_CMD_NAPI_SET, _FAMILY_VERSION, 0)
    for kind, value in (
        (uapi.NETDEV_A_NAPI_ID, napi_id),
        (uapi.NETDEV_A_NAPI_DEFER_HARD_IRQS, defer_hard_irqs),
        (uapi.NETDEV_A_NAPI_GRO_FLUSH_TIMEOUT, gro_flush_timeout),
        (uapi.NETDEV_A_NAPI_IRQ_SUSPEND_TIMEOUT, irq_suspend_timeout),
    ):
        if value is not None:
            body += pack_attribute(kind, struct.pack("=I", value))
    request(NETLINK_GENERIC, _family(), body, what=f"setting NAPI {napi_id}")
