"""The kernel's own BTF, read from a path that the caller names, and decoded only as far as it is used.

The file has more than 100,000 types. Reading it finds where each begins (tens of milliseconds); a name is then found
through the string table, and only the types that are looked at are decoded.
"""

from __future__ import annotations

import os
from pathlib import Path

from ebpfkit.btf.types import Btf
from ebpfkit.errors import ObjectError

__all__ = ["read_btf_file"]

KERNEL_BTF = "/sys/kernel/btf/vmlinux"


def read_btf_file(path: str | os.PathLike[str] = KERNEL_BTF, *, base: Btf | None = None) -> Btf:
    """Open a file of raw BTF such as /sys/kernel/btf/vmlinux; `base` is the kernel's when `path` is a module's.

    Raises ObjectError when the file cannot be read (a kernel without CONFIG_DEBUG_INFO_BTF has none) or is no BTF.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ObjectError(
            f"cannot read BTF: {reason}; the kernel needs CONFIG_DEBUG_INFO_BTF", place=str(path)
        ) from error
    return Btf.from_bytes(data, base=base, lazy=True)
