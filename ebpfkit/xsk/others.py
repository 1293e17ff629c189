"""The AF_XDP sockets of all processes on this host, and what the kernel has counted for each. Needs root.

The kernel's own list (XDP_SOCKETS_DIAG) is configured on few systems; here each process is asked for its sockets.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

from ebpfkit.abi import uapi
from ebpfkit.errors import KernelError, NotSupported
from ebpfkit.kernel import xdp_socket
from ebpfkit.kernel.fd import Fd
from ebpfkit.xsk.stats import XskStatistics

__all__ = ["OtherSocket", "find_sockets"]

_PIDFD_GETFD = 438  # the same on every architecture with the common table
_SO_DOMAIN = 39


@dataclass(frozen=True, slots=True)
class OtherSocket:
    """A socket of some process; `inode` is what `ls -l /proc/PID/fd` shows."""

    pid: int
    command: str
    descriptor: int
    inode: int
    zero_copy: bool
    statistics: XskStatistics


def find_sockets() -> list[OtherSocket]:
    """Every AF_XDP socket that this process may look at, each once. Raises NotSupported before Linux 5.6."""
    found: dict[int, OtherSocket] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            entries = list((folder / "fd").iterdir())
            command = (folder / "comm").read_text().strip()
        except OSError:
            continue  # it has ended, or is not ours to look at
        for entry in entries:
            inode = _socket_inode(entry)
            if inode and inode not in found:
                with_counts = _look(int(folder.name), int(entry.name))
                if with_counts is not None:
                    zero_copy, statistics = with_counts
                    found[inode] = OtherSocket(int(folder.name), command, int(entry.name), inode, zero_copy, statistics)
    return sorted(found.values(), key=lambda other: (other.pid, other.descriptor))


def _socket_inode(entry: Path) -> int:
    """The inode of a socket from its link in /proc/PID/fd; 0 when it is something else or was closed meanwhile."""
    try:
        link = os.readlink(entry)
    except OSError:
        return 0
    return int(link[8:-1]) if link.startswith("socket:[") else 0


def _look(pid: int, descriptor: int) -> tuple[bool, XskStatistics] | None:
    """What a descriptor of a process has counted; None when it is no AF_XDP socket or cannot be looked at."""
    if platform.machine() in ("alpha",):
        raise NotSupported("looking at the sockets of other processes", why="not on this machine")
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        process = Fd(os.pidfd_open(pid), "process")
    except OSError:
        return None
    with process:
        number = libc.syscall(_PIDFD_GETFD, process.fileno(), descriptor, 0)
    if number < 0:
        if ctypes.get_errno() == 38:  # ENOSYS
            raise NotSupported("looking at the sockets of other processes", since="5.6")
        return None
    with Fd(number, "socket of another process") as fd:
        try:
            if _domain(fd) != xdp_socket.AF_XDP:
                return None
            zero_copy = bool(xdp_socket.get_options(fd) & uapi.XDP_OPTIONS_ZEROCOPY)
            return zero_copy, XskStatistics.from_bytes(xdp_socket.get_statistics(fd))
        except (KernelError, OSError):
            return None


def _domain(fd: Fd) -> int:
    # With all three given, Python does not ask the kernel for what AF_XDP sockets cannot tell.
    view = socket.socket(socket.AF_UNIX, socket.SOCK_RAW, 0, fileno=os.dup(fd.fileno()))
    with view:
        return view.getsockopt(socket.SOL_SOCKET, _SO_DOMAIN)
