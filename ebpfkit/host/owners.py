"""Who holds a BPF link: the processes with a descriptor of it, and the paths it is pinned at.

Walks /proc and the bpffs, so it is for messages about refusals, not for every day.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice

from ebpfkit.errors import KernelError
from ebpfkit.kernel import bpf
from ebpfkit.kernel.bpffs import find_bpffs

__all__ = ["LinkHolders", "find_link_holders"]

_MOST_PINS = 2000


@dataclass(frozen=True, slots=True)
class LinkHolders:
    """`processes` are (pid, command name); both are empty when this process may not look, or the holder just went."""

    processes: tuple[tuple[int, str], ...] = ()
    pins: tuple[str, ...] = ()


def find_link_holders(link_id: int) -> LinkHolders:
    """The processes and pins that keep a link alive, as far as this process may see."""
    return LinkHolders(tuple(_processes(link_id)), tuple(_pins(link_id)))


def _processes(link_id: int) -> list[tuple[int, str]]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        try:
            if any(_is_link(f"/proc/{pid}/fdinfo/{fd}", link_id) for fd in _bpf_descriptors(pid)):
                with open(f"/proc/{pid}/comm") as file:
                    found.append((int(pid), file.read().strip()))
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
    return found


def _bpf_descriptors(pid: str) -> list[str]:
    """The process's descriptors that are a link by the name of their file (it is written in two ways)."""
    folder = f"/proc/{pid}/fd"
    found = []
    for fd in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{fd}")
        except OSError:
            continue
        if "bpf_link" in target or "bpf-link" in target:
            found.append(fd)
    return found


def _is_link(path: str, link_id: int) -> bool:
    with open(path) as file:
        return any(line.split() == ["link_id:", str(link_id)] for line in file)


def _pins(link_id: int) -> list[str]:
    root = find_bpffs()
    if root is None:
        return []
    # The two files at the top print every map and program when opened; they are no pins.
    paths = (
        os.path.join(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if not name.endswith(".debug")
    )
    found = []
    for path in islice(paths, _MOST_PINS):
        try:
            with bpf.obj_get(path) as fd:
                if bpf.object_kind(fd) == "link" and bpf.link_info(fd).id == link_id:
                    found.append(path)
        except KernelError:
            continue
    return found
