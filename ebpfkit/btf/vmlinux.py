"""The kernel's own BTF, read from a path that the caller names, and decoded only as far as it is used.

The file has more than 100,000 types. The first reading finds where each begins (tens of milliseconds), later ones take
that from the index on disk (`index`); a name is then found through the string table, and only the types that are looked
at are decoded.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from ebpfkit._bits import round_up
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
    if base is not None:
        return Btf.from_bytes(data, base=base, lazy=True)
    from ebpfkit.btf.index import cache_folder, open_indexed

    return open_indexed(data, _build_id(path) or f"{zlib.crc32(data):08x}", cache_folder())


def _build_id(path: str | os.PathLike[str]) -> str:
    """The running kernel's build id when `path` is its BTF; "" otherwise."""
    if os.fspath(path) != KERNEL_BTF:
        return ""
    try:
        notes = Path("/sys/kernel/notes").read_bytes()
    except OSError:
        return ""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("=III", notes, at)
        body = at + 12 + round_up(name_size, 4)
        if kind == 3 and notes[at + 12 : at + 16] == b"GNU\0" and size <= 64:
            return notes[body : body + size].hex()
        at = body + round_up(size, 4)
    return ""
