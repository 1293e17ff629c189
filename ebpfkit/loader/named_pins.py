"""What outlives its process and is on no device: links of programs and kernel operations.

They are kept under `<bpffs>/ebpfkit/by-name/`.

The folder of a name holds `link` (for operations without a link, their map) and `maps/<name>`. Devices are `pin`'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ebpfkit.errors import AttachError, KernelError
from ebpfkit.host.pins import explain_no_bpffs, explain_pin
from ebpfkit.kernel import bpf
from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.loader.links.base import BpfLink, Link
from ebpfkit.loader.maps import Map
from ebpfkit.loader.operations import is_registration, open_registration
from ebpfkit.loader.pin import map_ids_in, pin_maps, to_file_name

__all__ = ["RemovedName", "pin_named", "remove_named"]


@dataclass(frozen=True, slots=True)
class RemovedName:
    """What `remove_named` took away; `program_id` is 0 for operations."""

    name: str
    program_id: int
    map_ids: tuple[int, ...]


def _folder(name: str, bpffs: str | Path | None) -> Path:
    root = str(bpffs) if bpffs is not None else find_bpffs()
    if root is None:
        raise AttachError(explain_no_bpffs(), errno=errno.ENODEV)
    return Path(root) / "ebpfkit" / "by-name" / to_file_name(name)


def pin_named(link: Link, name: str, maps: Mapping[str, Map], *, bpffs: str | Path | None = None) -> Path:
    """Pin the maps and, last, the link under a name; returns the folder. Raises AttachError, MapError."""
    folder = _folder(name, bpffs)
    if (folder / "link").exists():
        raise AttachError(
            f"something of ebpfkit's is pinned as {name} already; `ebpfkit unload --name {name}` removes it",
            errno=errno.EEXIST,
        )
    try:
        pin_maps(folder, maps)
        link.pin(folder / "link")
    except BaseException:
        _remove(folder)
        raise
    return folder


def remove_named(name: str, *, bpffs: str | Path | None = None) -> RemovedName:
    """Detach what is pinned under a name and remove the pins. Raises AttachError when nothing is."""
    folder = _folder(name, bpffs)
    if not (folder / "link").exists():
        with contextlib.suppress(OSError):
            _remove(folder)
        raise AttachError(f"nothing of ebpfkit's is pinned as {name}", errno=errno.ENOENT)
    program_id = 0
    if is_registration(folder / "link"):
        with open_registration(folder / "link") as registration:
            registration.detach()
    else:
        with BpfLink(bpf.obj_get(str(folder / "link"), what=f"BPF link {name}")) as link:
            program_id = link.program_id
            with contextlib.suppress(AttachError):  # most kinds cannot be detached, and end with their last pin
                link.detach()
    map_ids = map_ids_in(folder / "maps")
    try:
        _remove(folder)
    except OSError as error:
        number = error.errno or 0
        raise AttachError(explain_pin("remove", "link", str(folder), number), errno=number) from error
    return RemovedName(name, program_id, map_ids)


def _remove(folder: Path) -> None:
    """Unpin what this module pinned; folders above go when they are empty."""
    (folder / "link").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        for path in list((folder / "maps").iterdir()):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError, KernelError):
        for empty in (folder / "maps", folder, folder.parent, folder.parent.parent):
            os.rmdir(empty)
