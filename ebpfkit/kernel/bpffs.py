"""The file system of pinned BPF objects: whether a path is on one, and where it is mounted.

Layout below it is `loader.pin`'s.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from ebpfkit.errors import KernelError

__all__ = ["BPF_FS_MAGIC", "DEFAULT_BPFFS", "find_bpffs", "is_bpffs", "mount_bpffs"]

DEFAULT_BPFFS = "/sys/fs/bpf"
BPF_FS_MAGIC = 0xCAFE4A11
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _file_system_type(path: str) -> int | None:
    """statfs(2)'s f_type, the first word of the structure on every architecture; None when the path cannot be asked."""
    if _libc is None:
        return None
    room = (ctypes.c_long * 64)()
    if _libc.statfs(os.fsencode(path), ctypes.byref(room)) != 0:
        return None
    kind: int = room[0] & 0xFFFF_FFFF
    return kind


def is_bpffs(path: str | os.PathLike[str]) -> bool:
    """Whether the path, or the nearest folder above it that exists, is on a bpffs."""
    place = Path(path).absolute()
    for candidate in (place, *place.parents):
        kind = _file_system_type(str(candidate))
        if kind is not None:
            return kind == BPF_FS_MAGIC
    return False


def find_bpffs() -> str | None:
    """Where a bpffs is mounted: the usual place first, then the first in /proc/self/mounts; None when nowhere."""
    if is_bpffs(DEFAULT_BPFFS):
        return DEFAULT_BPFFS
    try:
        mounts = Path("/proc/self/mounts").read_text()
    except OSError:
        return None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == "bpf":
            return fields[1].replace("\\040", " ")
    return None


def mount_bpffs(path: str = DEFAULT_BPFFS) -> None:
    """Mount a bpffs at the path, which must exist. Raises KernelError (EPERM without CAP_SYS_ADMIN)."""
    if _libc is None:
        raise KernelError("there is no bpffs on this system", errno=38)
    if _libc.mount(b"bpf", os.fsencode(path), b"bpf", 0, None) != 0:
        number = ctypes.get_errno()
        raise KernelError(f"cannot mount a bpffs at {path}: {os.strerror(number)}", errno=number)
