"""What a refusal of an AF_XDP system call means, and what to do about it, in one line. Nothing here raises."""

from __future__ import annotations

import errno

from ebpfkit.errors import XskError
from ebpfkit.host.errnos import describe_errno, explain_permission
from ebpfkit.kernel.netlink import Device

__all__ = ["bind_error", "setup_error"]


def setup_error(number: int, what: str) -> XskError:
    """A refusal before bind: the socket itself, the UMEM, a ring."""
    if number in (errno.EPERM, errno.EACCES):
        why = explain_permission(("CAP_NET_RAW",), "not permitted here; run it as root (sudo)")
    elif number == errno.EAFNOSUPPORT:
        why = "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)"
    elif number == errno.ENOBUFS:
        why = (
            "the UMEM is larger than the memory lock limit; use fewer frames, raise `ulimit -l`, or grant CAP_IPC_LOCK"
        )
    elif number == errno.ENOMEM:
        why = "the kernel has no memory for it; use fewer frames or smaller rings"
    elif number == errno.EINVAL:
        why = "the kernel does not take these sizes; ring sizes are powers of 2, frames 2048 or 4096 bytes"
    else:
        why = describe_errno(number)
    return XskError(f"cannot set up an AF_XDP socket ({what}): {why}", errno=number)


def bind_error(number: int, device: Device, queue: int, mode: str) -> XskError:
    """A refusal of bind."""
    return XskError(f"cannot bind to queue {queue} of {device.name}: {_why(number, device, queue, mode)}", errno=number)


def _why(number: int, device: Device, queue: int, mode: str) -> str:
    if number == errno.EBUSY:
        return (
            "another AF_XDP socket owns this queue (see `ss -a --xdp`, or wait for its process to end); "
            "close it, or use another queue"
        )
    if number == errno.EINVAL:
        if queue >= max(device.rx_queues, device.tx_queues):
            return f"{device.name} has {device.rx_queues} RX queues, numbered from 0"
        return "the kernel does not take this combination of flags, rings and queue"
    if number in (errno.EOPNOTSUPP, errno.ENOTSUP):
        if mode == "zero-copy":
            return f"the driver of {device.name} has no zero-copy mode; use mode='copy' or mode='auto'"
        return f"the driver of {device.name} does not support this mode"
    if number == errno.ENETDOWN:
        return f"the device is down; bring it up: ip link set dev {device.name} up"
    if number in (errno.ENODEV, errno.ENXIO):
        return "the device is gone from this network namespace"
    if number in (errno.EPERM, errno.EACCES):
        return explain_permission(("CAP_NET_RAW", "CAP_NET_ADMIN"), "not permitted here; run it as root (sudo)")
    if number == errno.ENOMEM:
        return "the kernel has no memory for it; use smaller rings"
    return describe_errno(number)
