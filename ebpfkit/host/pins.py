"""Why opening or making a pinned file failed, in one line with the command that mends it."""

from __future__ import annotations

import errno

from ebpfkit.host.errnos import describe_errno, explain_permission
from ebpfkit.kernel.bpffs import DEFAULT_BPFFS, is_bpffs

__all__ = ["explain_no_bpffs", "explain_pin"]


def explain_no_bpffs() -> str:
    """No bpffs is mounted anywhere here."""
    return (
        f"no bpffs is mounted here, so nothing can be pinned; mount one: `mount -t bpf bpf {DEFAULT_BPFFS}` "
        "(`ip netns exec` hides it: use `nsenter --net=/run/netns/NAME` instead)"
    )


def explain_pin(action: str, what: str, path: str, number: int) -> str:
    """The line for "pin", "open" or "remove" of a "map", "program" or "link" at a path."""
    head = f"cannot {action} {what} at {path}: "
    if number == errno.ENOENT and action == "open":
        return head + "nothing is pinned there"
    if number in (errno.EPERM, errno.EINVAL, errno.ENOENT, errno.EACCES) and not is_bpffs(path):
        mount = f"`mount -t bpf bpf {DEFAULT_BPFFS}` mounts one"
        return f"{head}that is not on a bpffs; use a path below {DEFAULT_BPFFS} ({mount})"
    if number == errno.ENOENT:
        return f"{head}its folder does not exist; make it first (`mkdir -p`)"
    if number == errno.EEXIST:
        return f"{head}something is pinned there already; remove it (`rm {path}`) or use another path"
    if number in (errno.EPERM, errno.EACCES):
        why = "the path's permissions or name do not allow it (bpffs takes no full stop in names)"
        return head + explain_permission(("CAP_BPF",), why)
    if number == errno.EINVAL and action == "open":
        return f"{head}what is pinned there is no {what}"
    return head + describe_errno(number)
