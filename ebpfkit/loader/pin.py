"""Where attachments that outlive their process are kept: `<bpffs>/ebpfkit/<namespace>/<device>/`.

The folder of a device holds `link`, `program` and `maps/<name>`; traffic control's are beside it, in
`<device>:<direction>` (no device's name has a colon). The namespace part is the network namespace's cookie
(its inode, marked so, before Linux 5.14), since the names of devices repeat between namespaces that share a bpffs.
Maps that an object asks to pin by name are `collection`'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ebpfkit.errors import AttachError, KernelError
from ebpfkit.host.attach import explain_missing_device
from ebpfkit.host.pins import explain_no_bpffs, explain_pin
from ebpfkit.kernel import bpf
from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.kernel.netns import namespace_cookie, namespace_inode
from ebpfkit.loader.links.base import BpfLink, Link
from ebpfkit.loader.links.xdp import XdpLink
from ebpfkit.loader.maps import Map
from ebpfkit.loader.program import Program

__all__ = [
    "Removed", "device_folder", "list_pinned", "map_ids_in", "namespace_folder", "pin_attachment", "pin_maps",
    "remove", "to_file_name",
]  # fmt: skip

_ROOT = "ebpfkit"


@dataclass(frozen=True, slots=True)
class Removed:
    """What `remove` took away."""

    device: str
    program_id: int
    mode: str
    map_ids: tuple[int, ...]


def namespace_folder(bpffs: str | Path | None = None) -> Path:
    """The folder of the current network namespace. Raises AttachError when no bpffs is mounted."""
    root = str(bpffs) if bpffs is not None else find_bpffs()
    if root is None:
        raise AttachError(explain_no_bpffs(), errno=errno.ENODEV)
    cookie = namespace_cookie()
    return Path(root) / _ROOT / (str(cookie) if cookie else f"inode-{namespace_inode()}")


def device_folder(dev: str, bpffs: str | Path | None = None, *, at: str = "") -> Path:
    """The folder of a device of the current network namespace. Raises AttachError when no bpffs is mounted.

    `at` is the direction of a traffic control program; "" means the XDP program.
    """
    if not dev:
        raise AttachError(explain_missing_device(dev), errno=errno.ENODEV)
    return namespace_folder(bpffs) / to_file_name(f"{dev}:{at}" if at else dev)


def pin_attachment(
    link: Link, dev: str, program: Program, maps: Mapping[str, Map], *, bpffs: str | Path | None = None, at: str = ""
) -> Path:
    """Pin the maps, the program and, last, the link of a device; returns the folder. Raises AttachError, MapError.

    When one of them cannot be pinned, those before it are removed again.
    """
    folder = device_folder(dev, bpffs, at=at)
    if (folder / "link").exists():
        where = f"{dev} --at {at}" if at else dev
        raise AttachError(
            f"something of ebpfkit's is pinned for {dev} already; `ebpfkit unload --dev {where}` removes it",
            errno=errno.EEXIST,
        )
    _remove_tree(folder)
    try:
        pin_maps(folder, maps)
        program.pin(folder / "program")
        link.pin(folder / "link")
    except BaseException:
        _remove_tree(folder)
        raise
    return folder


def pin_maps(folder: Path, maps: Mapping[str, Map]) -> None:
    """Make a folder with `maps/<name>` for each map. Raises AttachError, MapError."""
    try:
        (folder / "maps").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        number = error.errno or 0
        raise AttachError(explain_pin("pin", "link", str(folder), number), errno=number) from error
    for name, live in maps.items():
        live.pin(folder / "maps" / to_file_name(name))


# bpffs refuses names with a full stop, and no name may lead out of its folder.
_ESCAPES = (("%", "%25"), (".", "%2e"), ("/", "%2f"), ("\0", "%00"))


def to_file_name(name: str) -> str:
    """A name as that of one file on a bpffs."""
    for plain, escaped in _ESCAPES:
        name = name.replace(plain, escaped)
    return name


def _name_of(file_name: str) -> str:
    for plain, escaped in reversed(_ESCAPES):
        file_name = file_name.replace(escaped, plain)
    return file_name


def list_pinned(bpffs: str | Path | None = None) -> dict[str, Path]:
    """The devices of the current namespace with something pinned, and their folders."""
    folder = namespace_folder(bpffs)
    try:
        return {_name_of(entry.name): entry for entry in sorted(folder.iterdir()) if entry.is_dir()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        number = error.errno or 0
        raise AttachError(explain_pin("open", "link", str(folder), number), errno=number) from error


def remove(dev: str, *, bpffs: str | Path | None = None, at: str = "") -> Removed:
    """Detach what is pinned for a device and remove the pins. Raises AttachError when nothing is pinned there."""
    folder = device_folder(dev, bpffs, at=at)
    if not _is_there(folder):
        others = ", ".join(list_pinned(bpffs)) or "nothing"
        where = f"the {at} of {dev}" if at else dev
        raise AttachError(
            f"nothing of ebpfkit's is pinned for {where} in this network namespace; pinned here: {others}",
            errno=errno.ENOENT,
        )
    program_id, mode = 0, ""
    if (folder / "link").exists():
        with _open_traffic(folder / "link") if at else Link.open_pinned(folder / "link") as link:
            program_id = link.program_id
            mode = link.mode if isinstance(link, XdpLink) else ""
            with contextlib.suppress(AttachError):  # a link whose device is gone has nothing to detach
                link.detach()
    map_ids = map_ids_in(folder / "maps")
    try:
        _remove_tree(folder)
    except OSError as error:
        number = error.errno or 0
        raise AttachError(explain_pin("remove", "link", str(folder), number), errno=number) from error
    return Removed(dev, program_id, mode, map_ids)


def _open_traffic(path: Path) -> Link:
    return BpfLink(bpf.obj_get(str(path), what=f"BPF link {path}"))


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except OSError as error:
        number = error.errno or 0
        raise AttachError(explain_pin("open", "link", str(folder), number), errno=number) from error


def map_ids_in(folder: Path) -> tuple[int, ...]:
    """The ids of the maps that are pinned in a folder."""
    ids = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            with contextlib.suppress(KernelError), Map.open_pinned(path) as live:
                ids.append(live.info.id)
    return tuple(ids)


def _remove_tree(folder: Path) -> None:
    """Unpin what this module pinned, and nothing else; folders above go when they are empty."""
    for name in ("link", "program"):  # the link first: from then on no packet meets a half-removed set
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        for path in list((folder / "maps").iterdir()):
            path.unlink(missing_ok=True)
    for empty in (folder / "maps", folder, folder.parent, folder.parent.parent):
        try:
            os.rmdir(empty)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EPERM, errno.EACCES, errno.EBUSY):
                return
            raise
