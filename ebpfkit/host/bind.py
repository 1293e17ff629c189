"""What a refusal of an AF_XDP system call means on this host, and what mends it, in one line. Nothing here raises.

Attaching programs has its own page (`attach`); `doctor` finds most of these causes before anything is refused.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from ebpfkit.errors import KernelError
from ebpfkit.host import causes
from ebpfkit.host.errnos import describe_errno, explain_permission
from ebpfkit.kernel import netdev
from ebpfkit.kernel.netlink import Device

__all__ = ["SocketRequest", "explain_bind", "explain_setup"]


@dataclass(frozen=True, slots=True)
class SocketRequest:
    """What bind was asked for."""

    queue: int
    mode: str = "auto"
    multi_buffer: bool = False
    shared: bool = False


def explain_setup(number: int, what: str) -> str:
    """Why the kernel refused something before bind: the socket itself, the UMEM, a ring, an option."""
    if number in (errno.EPERM, errno.EACCES):
        if what == "busy polling":
            return explain_permission(
                ("CAP_NET_ADMIN",), "a packet budget above 64 needs CAP_NET_ADMIN", through_bpf=False
            )
        return explain_permission(("CAP_NET_RAW",), "not permitted here; run it as root (sudo)", through_bpf=False)
    if number == errno.EAFNOSUPPORT:
        return "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)"
    if number == errno.ENOBUFS:
        return (
            "the UMEM is larger than the memory lock limit; use fewer frames, raise `ulimit -l`, or grant CAP_IPC_LOCK"
        )
    if number == errno.ENOMEM:
        return "the kernel has no memory for it; use fewer frames or smaller rings"
    if number == errno.ENOPROTOOPT:
        return "this kernel does not know the option (busy polling preferred: Linux 5.11)"
    if number == errno.EINVAL and what.startswith("UMEM"):
        return (
            "the kernel does not take this UMEM: aligned frames have 2048 or 4096 bytes, unaligned ones need Linux "
            "5.4, TX metadata Linux 6.11"
        )
    if number == errno.EINVAL:
        return "the kernel does not take these sizes; ring sizes are powers of 2, frames 2048 or 4096 bytes"
    return describe_errno(number)


def explain_bind(number: int, device: Device, request: SocketRequest) -> str:
    """Why bind was refused."""
    name = device.name
    if number == errno.EBUSY:
        return str(causes.queue_taken(name))
    if number == errno.EINVAL:
        return _explain_invalid(device, request)
    if number in (errno.EOPNOTSUPP, errno.ENOTSUP):
        missing = _missing_features(device, request)
        if missing:
            return missing
        if request.mode == "zero-copy":
            return str(causes.no_zero_copy(name))
        return f"the driver of {name} does not support this mode"
    if number == errno.ENETDOWN:
        return str(causes.device_down(name))
    if number in (errno.ENODEV, errno.ENXIO):
        return "the device is gone from this network namespace"
    if number in (errno.EPERM, errno.EACCES):
        wanted = ("CAP_NET_RAW", "CAP_NET_ADMIN")
        return explain_permission(wanted, "not permitted here; run it as root (sudo)", through_bpf=False)
    if number == errno.ENOMEM:
        return "the kernel has no memory for it; use smaller rings"
    if number == errno.EBADF and request.shared:
        return "the socket that registered the UMEM is not bound any more; make a new UMEM"
    return describe_errno(number)


def _explain_invalid(device: Device, request: SocketRequest) -> str:
    if request.queue >= max(device.rx_queues, device.tx_queues):
        return str(causes.queue_out_of_range(device.name, device.rx_queues))
    if request.multi_buffer:
        return "this kernel has no multi-buffer sockets (Linux 6.6); leave multi_buffer out"
    if request.shared:
        return "the kernel does not take this sharing of a UMEM (other queues and devices: Linux 5.10)"
    return "the kernel does not take this combination of flags, rings and queue"


def _missing_features(device: Device, request: SocketRequest) -> str:
    """Zero-copy was refused: which feature the driver lacks, by its own word."""
    try:
        features = netdev.query_features(device.index)
    except KernelError:
        features = None
    if features is None or request.mode != "zero-copy":
        return ""
    if "xsk-zerocopy" not in features.xdp:
        return str(causes.no_zero_copy(device.name))
    if request.multi_buffer and features.zero_copy_segments <= 1:
        return str(causes.single_buffer_zero_copy(device.name, features.zero_copy_segments))
    return ""
