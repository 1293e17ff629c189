"""XDP programs on network devices: by bpf_link, or by netlink when asked or where links are missing.

A link dies with its last descriptor, so a killed process leaves nothing attached; a netlink attachment stays until it
is taken away. The two cannot replace one another.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfkit.abi import uapi
from ebpfkit.abi.attach_types import ATTACH_TYPES
from ebpfkit.abi.versions import parse_version
from ebpfkit.errors import AttachError, KernelError, UsageError
from ebpfkit.host.attach import LINK_TYPE_XDP, explain_missing_device, explain_xdp_attach
from ebpfkit.kernel import bpf, netlink
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.netlink import Device, NetlinkError, XdpState
from ebpfkit.kernel.netns import NamespaceHandle
from ebpfkit.kernel.version import kernel_version
from ebpfkit.loader.links.base import BpfLink, Link

if TYPE_CHECKING:
    from ebpfkit.loader.program import Program

__all__ = ["LINK_TYPE_XDP", "MODES", "NetlinkAttachment", "XdpLink", "attach", "find_device", "query"]

MODES = {
    None: 0,
    "native": uapi.XDP_FLAGS_DRV_MODE,
    "skb": uapi.XDP_FLAGS_SKB_MODE,
    "hw": uapi.XDP_FLAGS_HW_MODE,
}
"""XDP_FLAGS_* by mode; None leaves the choice to the kernel."""

_LINKS_SINCE = parse_version(ATTACH_TYPES["xdp"].since)
_NO_PROGRAM = -1


def find_device(dev: str | int) -> Device:
    """The device of that name or index in the current namespace. Raises AttachError with the nearest name."""
    try:
        return netlink.find_device(dev)
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            raise AttachError(explain_missing_device(dev), errno=errno.ENODEV) from error
        raise AttachError(f"cannot look up device {dev!r}: {error.message}", errno=error.errno or 0) from error


def query(dev: str | int) -> XdpState:
    """What is attached to the device now. Raises AttachError when there is no such device."""
    return find_device(dev).xdp


def attach(
    program: Program,
    dev: str | int,
    mode: str | None = None,
    *,
    via: str = "link",
    replace: bool | bpf.HasFileno | None = None,
    keep: bool = False,
) -> Link:
    """Attach an XDP program; see `Program.attach_xdp`. Raises AttachError, UsageError."""
    if mode not in MODES:
        raise UsageError(f"mode {mode!r} is none of native, skb, hw")
    if via not in ("link", "netlink"):
        raise UsageError(f"via {via!r} is neither link nor netlink")
    if program.prog_type != "xdp":
        raise UsageError(
            f"program {program.name!r} is of type {program.prog_type}; only xdp programs attach to a device so"
        )
    device = find_device(dev)
    if via == "link" and kernel_version() < _LINKS_SINCE:
        via = "netlink"
    if via == "link":
        if replace or keep:
            word = "replace" if replace else "keep"
            way = "update() the link in place" if replace else "pin the link"
            raise UsageError(f"{word} is for via='netlink'; {way} instead")
        return _attach_link(program, device, mode)
    return _attach_netlink(program, device, mode, replace, keep)


def _has_frags(program: Program) -> bool:
    return bool(program.spec and program.spec.flags & uapi.BPF_F_XDP_HAS_FRAGS)


def _refused(
    program: Program, device: Device, error: KernelError, *, mode: str | None, via: str, action: str = "attach"
) -> AttachError:
    extack = error.extack if isinstance(error, NetlinkError) else ""
    text = explain_xdp_attach(
        program.name,
        device,
        error.errno or 0,
        mode=mode,
        via=via,
        has_frags=_has_frags(program),
        extack=extack,
        action=action,
    )
    return AttachError(text, errno=error.errno or 0)


def _attach_link(program: Program, device: Device, mode: str | None) -> XdpLink:
    try:
        fd = bpf.link_create(program.fd, device.index, uapi.BPF_XDP, flags=MODES[mode])
    except KernelError as error:
        raise _refused(program, device, error, mode=mode, via="link") from error
    return XdpLink(fd, device=device.name, ifindex=device.index, mode=mode)


def _attach_netlink(
    program: Program, device: Device, mode: str | None, replace: bool | bpf.HasFileno | None, keep: bool
) -> NetlinkAttachment:
    if mode is None and replace:  # the program to replace says where: the other mode would be refused
        mode = next((m for m, _ in device.xdp.program_ids), None)
    flags = MODES[mode]
    expected: bpf.HasFileno | None = None
    try:
        if replace is True:
            expected = bpf.prog_fd_by_id(device.xdp.program_id) if device.xdp.program_id else None
        elif replace:
            expected = replace
        # UPDATE_IF_NOEXIST: never take the place of a program that nobody said to replace.
        flags |= uapi.XDP_FLAGS_UPDATE_IF_NOEXIST if expected is None else uapi.XDP_FLAGS_REPLACE
        netlink.set_xdp(device.index, program.fd, flags, expected=expected)
    except KernelError as error:
        raise _refused(program, device, error, mode=mode, via="netlink") from error
    finally:
        if isinstance(expected, Fd):
            expected.close()
    return NetlinkAttachment(program, device, mode, keep=keep)


def _place_of(ifindex: int, program: int) -> tuple[str, str]:
    """The device's name and the mode of the program on it; empty when there is no such program on it here.

    The same index can be another device in another namespace: the program tells them apart.
    """
    try:
        device = netlink.find_device(ifindex) if ifindex else Device(0, "", 0)
    except NetlinkError:
        return "", ""
    return next(((device.name, mode) for mode, number in device.xdp.program_ids if number == program), ("", ""))


class XdpLink(BpfLink):
    """A bpf_link on a device: gone with its last descriptor, unless pinned."""

    def __init__(self, fd: Fd, *, device: str = "", ifindex: int = 0, mode: str | None = None) -> None:
        super().__init__(fd)
        self.ifindex = ifindex or int(bpf.link_info(fd).ifindex)
        if not device or mode is None:
            found, in_force = _place_of(self.ifindex, self.program_id)
            device, mode = device or found, mode or in_force
        self.device = device
        """The device's name, as it was when attached or opened; "" when it is gone or in another namespace."""
        self.mode = mode
        """ "native", "skb" or "hw"; "" when it is not known because the device is in another namespace."""

    @property
    def attached(self) -> bool:
        """Whether the link still has a device: `detach` or the end of the device takes it."""
        return bool(bpf.link_info(self.fd).ifindex)

    def update(self, program: Program, *, expected: bpf.HasFileno | None = None) -> None:
        """Swap the program atomically; with `expected` only when that one is in place. Raises AttachError."""
        try:
            bpf.link_update(self.fd, program.fd, old_prog=expected)
        except KernelError as error:
            number = error.errno or 0
            if number == errno.ENOLINK:
                raise AttachError(f"cannot replace by {program.name!r}: the link is detached", errno=number) from error
            device = Device(self.ifindex, self.device or f"device {self.ifindex}", 0)
            raise _refused(program, device, error, mode=self.mode or None, via="link", action="replace") from error

    def __repr__(self) -> str:
        return f"<XdpLink {self.device or self.ifindex} {self.fd!r}>"


class NetlinkAttachment(Link):
    """A program that netlink put on a device. `keep`: closing leaves it there, as the end of the process would."""

    def __init__(self, program: Program, device: Device, mode: str | None, *, keep: bool = False) -> None:
        self.ifindex = device.index
        self.device = device.name
        self.keep = keep
        self._program = program.fd.duplicate()
        self._name = program.name
        self._namespace = NamespaceHandle()
        self._attached = True
        self._mode = mode or _place_of(device.index, self.program_id)[1]

    @property
    def mode(self) -> str:
        """ "native", "skb" or "hw"."""
        return self._mode

    @property
    def attached(self) -> bool:
        """Whether this object still answers for the attachment."""
        return self._attached

    @property
    def program_id(self) -> int:
        if not self._attached:
            return 0
        number: int = bpf.prog_info(self._program).id
        return number

    def update(self, program: Program) -> None:
        """Swap the program atomically, if the one this object attached is still in place. Raises AttachError."""
        try:
            with self._namespace.visit():
                flags = MODES[self._mode] | uapi.XDP_FLAGS_REPLACE
                netlink.set_xdp(self.ifindex, program.fd, flags, expected=self._program)
        except KernelError as error:
            device = Device(self.ifindex, self.device, 0)
            raise _refused(program, device, error, mode=self._mode, via="netlink", action="replace") from error
        self._program.close()
        self._program, self._name = program.fd.duplicate(), program.name

    def detach(self) -> None:
        """Take the program away, if it is still the one in place. Raises AttachError."""
        if not self._attached:
            return
        try:
            with self._namespace.visit():
                flags = MODES[self._mode] | uapi.XDP_FLAGS_REPLACE
                netlink.set_xdp(self.ifindex, None, flags, expected=self._program)
        except KernelError as error:
            # With the device its programs are gone; EEXIST says that another program, or none, is in place by now.
            if error.errno not in (errno.ENODEV, errno.EEXIST):
                extack = error.extack if isinstance(error, NetlinkError) else ""
                why = extack or error.message
                raise AttachError(
                    f"cannot detach {self._name!r} from {self.device}: {why}", errno=error.errno or 0
                ) from error
        self._forget()

    def _forget(self) -> None:
        self._attached = False
        self._program.close()
        self._namespace.close()

    def pin(self, path: str | Path) -> None:
        raise UsageError(f"a netlink attachment cannot be pinned at {path}; it outlives the process with keep=True")

    def close(self) -> None:
        if self.keep and self._attached:
            self._forget()
        else:
            self.detach()

    def __repr__(self) -> str:
        return f"<NetlinkAttachment {self._name} on {self.device} {'attached' if self._attached else 'detached'}>"
