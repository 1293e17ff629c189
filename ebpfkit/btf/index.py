"""The index of a large BTF file, kept on disk: where each type begins, so that a later opening need not walk them.

An index belongs to one file by a digest of its contents and its kernel's build; whatever does not fit is thrown away
and made anew, so that a broken or foreign index can cost time but never give a wrong type.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import zlib
from array import array
from pathlib import Path

from ebpfkit.btf import wire
from ebpfkit.btf.types import Btf

__all__ = ["cache_folder", "open_indexed"]

MAGIC = b"ebpfkit btf 2\n"
WORTHWHILE = 1 << 20  # bytes of BTF below which walking is as fast as reading an index
MAX_INDEXES = 16


def cache_folder() -> Path | None:
    """Where indexes are kept: $EBPFKIT_CACHE, else the user's cache folder; None when it is set but empty."""
    named = os.environ.get("EBPFKIT_CACHE")
    if named is not None:
        return Path(named) if named else None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "ebpfkit" if os.path.isabs(base) else None


def open_indexed(data: bytes, build_id: str, folder: Path | None) -> Btf:
    """Decode BTF lazily, by the index of this build in `folder` where there is one; otherwise make one.

    Raises ObjectError for malformed BTF. A folder that cannot be written is no error.
    """
    if folder is None or len(data) < WORTHWHILE:
        return wire.decode(data, lazy=True)
    path = folder / f"btf-{build_id}.idx"
    offsets = _read(path, data)
    btf = wire.decode(data, lazy=True, offsets=offsets)
    found = wire.offsets_of(btf)
    if found is not None and found is not offsets:
        _write(path, data, found)
    return btf


def _digest(data: bytes) -> bytes:
    """What ties an index to a file. The type section's sizes and ids are checked on use; this is against mix-ups."""
    return b"%08x %d %s\n" % (zlib.crc32(data), len(data), sys.byteorder.encode())


def _read(path: Path, data: bytes) -> array[int] | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head = MAGIC + _digest(data)
    if not content.startswith(head):
        return None
    body = content[len(head) :]
    if len(body) < 4 or (len(body) - 4) % 4 or zlib.crc32(body[4:]).to_bytes(4, "little") != body[:4]:
        return None
    offsets = array("I")
    offsets.frombytes(body[4:])
    return offsets


def _write(path: Path, data: bytes, offsets: array[int]) -> None:
    """Written aside and moved into place, so that no reader sees half of it."""
    body = offsets.tobytes()
    content = MAGIC + _digest(data) + zlib.crc32(body).to_bytes(4, "little") + body
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
        _forget_old(path.parent)


def _forget_old(folder: Path) -> None:
    indexes = sorted(folder.glob("btf-*.idx"), key=lambda entry: entry.stat().st_mtime)
    for stale in indexes[:-MAX_INDEXES]:
        stale.unlink()
