"""Traffic control programs on devices: by bpf_link (tcx, from Linux 6.6), or as a filter of the clsact queue."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfkit.abi import uapi
from ebpfkit.abi.attach_types import ATTACH_TYPES
from ebpfkit.abi.versions import parse_version
from ebpfkit.errors import AttachError, KernelError, UsageError
from ebpfkit.host.errnos import describe_errno, explain_permission
from ebpfkit.kernel import bpf, traffic
from ebpfkit.kernel.netlink import Device, NetlinkError
from ebpfkit.kernel.netns import NamespaceHandle
from ebpfkit.kernel.version import kernel_version
from ebpfkit.loader.links.base import BpfLink, Link
from ebpfkit.loader.links.xdp import find_device

if TYPE_CHECKING:
    from ebpfkit.loader.program import Program

__all__ = ["ClsactFilter", "attach"]

_TCX_SINCE = parse_version(ATTACH_TYPES["tcx_ingress"].since)
_TYPES = {"ingress": uapi.BPF_TCX_INGRESS, "egress": uapi.BPF_TCX_EGRESS}
_GONE = (errno.ENODEV, errno.ENOENT, errno.EINVAL)


def attach(program: Program, dev: str | int, direction: str, *, via: str = "", priority: int = 1) -> Link:
    """Attach a traffic control program; see `Program.attach_tc`. Raises AttachError, UsageError."""
    if program.prog_type != "sched_cls":
        raise UsageError(f"program {program.name!r} is of type {program.prog_type}, not of traffic control")
    if direction not in _TYPES:
        raise UsageError(f"a traffic control program attaches to 'ingress' or 'egress', not to {direction!r}")
    if via not in ("", "tcx", "clsact"):
        raise UsageError(f"via {via!r} is neither tcx nor clsact")
    device = find_device(dev)
    way = via or ("tcx" if kernel_version() >= _TCX_SINCE else "clsact")
    try:
        if way == "tcx":
            return BpfLink(bpf.link_create(program.fd, device.index, _TYPES[direction]))
        return ClsactFilter(program, device, direction, priority)
    except KernelError as error:
        number = error.errno or 0
        why = error.extack if isinstance(error, NetlinkError) and error.extack else describe_errno(number)
        if number == errno.EPERM:
            why = explain_permission(("CAP_BPF", "CAP_NET_ADMIN"), "not permitted by this system's policy")
        elif way == "tcx" and number == errno.EINVAL and kernel_version() < _TCX_SINCE:
            why = "this kernel is older than 6.6: via='clsact'"
        raise AttachError(
            f"cannot attach {program.name!r} to the {direction} of {device.name}: {why}", errno=number
        ) from (error)


class ClsactFilter(Link):
    """A program as a filter of a device's clsact queue; the queue stays when it was there before."""

    def __init__(self, program: Program, device: Device, direction: str, priority: int) -> None:
        self.device = device.name
        self.ifindex = device.index
        self.direction = direction
        self.priority = priority
        traffic.add_clsact(device.index)
        self.handle = traffic.add_filter(device.index, direction, program.fd, program.name, priority)
        self._program_id = program.id
        self._namespace = NamespaceHandle()
        self._attached = True

    @property
    def program_id(self) -> int:
        return self._program_id if self._attached else 0

    def update(self, program: Program) -> None:
        """Put another program beside it and take this one away: for a moment both are there."""
        with self._namespace.visit():
            handle = traffic.add_filter(self.ifindex, self.direction, program.fd, program.name, self.priority)
            traffic.remove_filter(self.ifindex, self.direction, self.priority, self.handle)
        self.handle, self._program_id = handle, program.id

    def detach(self) -> None:
        if not self._attached:
            return
        self._attached = False
        try:
            with self._namespace.visit():
                traffic.remove_filter(self.ifindex, self.direction, self.priority, self.handle)
        except KernelError as error:
            if error.errno not in _GONE:
                raise AttachError(
                    f"cannot detach from {self.device}: {error.message}", errno=error.errno or 0
                ) from error
        finally:
            self._namespace.close()

    def pin(self, path: str | Path) -> None:
        raise UsageError(f"a filter of a clsact queue cannot be pinned at {path}: attach with via='tcx'")

    def close(self) -> None:
        self.detach()

    def __repr__(self) -> str:
        return f"<ClsactFilter {self.device} {self.direction} {'attached' if self._attached else 'detached'}>"
