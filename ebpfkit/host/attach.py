"""Why an XDP program could not be attached: the cause on this host, and the command that mends it, in one line."""

from __future__ import annotations

import difflib
import errno
import os
from pathlib import Path

from ebpfkit.errors import KernelError
from ebpfkit.host import causes
from ebpfkit.host.errnos import ENOTSUPP, describe_errno, explain_permission
from ebpfkit.host.owners import find_link_holders
from ebpfkit.kernel import bpf, ethtool, netlink
from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.kernel.netlink import Device

__all__ = ["describe_owner", "dispatched", "dispatchers_folder", "explain_missing_device", "explain_xdp_attach"]

LINK_TYPE_XDP = 6
_OURS = "/ebpfkit/"  # the folder of our pins on a bpffs


def explain_missing_device(name: str | int) -> str:
    """There is no such device here: the names that come close, or those there are."""
    try:
        names = [device.name for device in netlink.list_devices()]
    except KernelError:
        names = []
    if isinstance(name, int):
        return f"no device with index {name} in this network namespace; there are: {', '.join(names) or 'none'}"
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(names) or 'none'}"
    return f"no device {name!r} in this network namespace; {hint}"


def describe_owner(device: Device) -> str:
    """What is attached and what holds it: "program 12 'drop' (native, held by link 3 of process 7 (sh))"."""
    parts = []
    for mode, number in device.xdp.program_ids:
        link = _link_on(device.index, number)
        holder = f"held by link {link}{_holders_of(link)}" if link else "attached through netlink"
        parts.append(f"program {number}{_program_name(number)} ({mode}, {holder})")
    behind = dispatched(device)
    runs = f", a dispatcher that runs {', '.join(f'{name!r} ({number})' for number, name in behind)}" if behind else ""
    return (" and ".join(parts) or "no program") + runs


def dispatchers_folder() -> Path | None:
    """Where libxdp's dispatchers are pinned; None when no bpffs is mounted."""
    root = os.environ.get("LIBXDP_BPFFS") or find_bpffs()
    return Path(root, "xdp") if root is not None else None


def dispatched(device: Device) -> list[tuple[int, str]]:
    """The ids and names of the programs that the device's dispatcher runs, where libxdp, and we, pin them."""
    root = dispatchers_folder()
    found: list[tuple[int, str]] = []
    if root is None:
        return found
    folder = root / f"dispatch-{device.index}-{device.xdp.program_id}"
    for path in sorted(folder.glob("prog*-prog"), key=lambda path: (len(path.name), path.name)):
        try:
            with bpf.obj_get(str(path)) as fd:
                info = bpf.prog_info(fd)
        except KernelError:
            continue  # it went away meanwhile, or this process may not look
        found.append((info.id, info.name.decode("ascii", "replace")))
    return found


def _holders_of(link: int) -> str:
    holders = find_link_holders(link)
    found = [f"process {pid} ({name})" for pid, name in holders.processes] + [f"the pin {pin}" for pin in holders.pins]
    return f" of {' and '.join(found)}" if found else ""


def _program_name(number: int) -> str:
    try:
        with bpf.prog_fd_by_id(number) as fd:
            name = bpf.prog_info(fd).name.decode("ascii", "replace")
            return f" {name!r}" if name else ""
    except KernelError:
        return ""


def _link_on(ifindex: int, program: int) -> int:
    """The id of the link that holds the program on the device; 0 when there is none or this process may not look."""
    try:
        for number in bpf.link_ids():
            try:
                with bpf.link_fd_by_id(number) as fd:
                    info = bpf.link_info(fd)
            except KernelError:
                continue  # it went away meanwhile
            if info.type == LINK_TYPE_XDP and info.ifindex == ifindex and info.prog_id == program:
                return number
    except KernelError:
        return 0
    return 0


def explain_xdp_attach(
    program: str,
    device: Device,
    number: int,
    *,
    mode: str | None,
    via: str,
    has_frags: bool = False,
    extack: str = "",
    action: str = "attach",
) -> str:
    """The line for a refused attach, replace or detach. `extack` is the kernel's own text where it gave one."""
    place = {"attach": "to", "replace": "on", "detach": "from"}[action]
    head = f"cannot {action} {program!r} {place} {device.name}: "
    said = f' (the kernel: "{extack}")' if extack else ""
    if number == errno.EPERM:
        otherwise = "the program in place is not the one expected" if action == "replace" else describe_errno(number)
        wanted = ("CAP_NET_ADMIN",) if via == "netlink" else ("CAP_BPF",)
        return head + explain_permission(wanted, otherwise, through_bpf=via == "link") + said
    if number in (errno.EBUSY, errno.EEXIST):
        return head + _explain_occupied(device, number, mode, via) + said
    if number in (errno.EOPNOTSUPP, ENOTSUPP):
        if mode == "hw":
            return f"{head}the device cannot offload programs; use mode native or skb{said}"
        return f"{head}its driver has no native XDP; use mode skb (`--mode skb`){said}"
    if number == errno.ENOSPC and device.kind == "veth":
        return head + str(causes.peer_has_more_queues(device.name, _receiving_queues(device))) + said
    limit = _explain_mtu(device, number, has_frags, extack)
    if limit:
        return head + limit + said
    if number == errno.EINVAL and mode == "hw":
        return f"{head}the program was not loaded for offload to this device; use mode native or skb{said}"
    if number == errno.ENODEV:
        return f"{head}the device is gone{said}"
    return head + (f"{extack} ({errno.errorcode.get(number, number)})" if extack else describe_errno(number))


def _explain_occupied(device: Device, number: int, mode: str | None, via: str) -> str:
    if not device.xdp.program_ids:
        return f"another attach is under way or the program in place is not the one expected ({describe_errno(number)})"
    owner = describe_owner(device)
    held_by_link = "held by link" in owner
    if dispatched(device):
        return f"{owner} is in place; join it (`ebpfkit load FILE --dev {device.name} --dispatcher`)"
    free = _release_command(device) if held_by_link else _off_command(device)
    wanted = mode or "native"
    if number == errno.EEXIST and wanted != "multi" and not device.xdp.id_of(wanted):
        return f"{owner} is in place, and native and generic (skb) mode exclude each other; free the device: {free}"
    if not held_by_link and via == "netlink":
        return f"{owner} is in place; ask to replace it (replace=True), or free the device: {free}"
    return f"{owner} is in place; free the device: {free}"


def _release_command(device: Device) -> str:
    """How to make whoever holds the device's links let go."""
    ways: list[str] = []
    for _, number in device.xdp.program_ids:
        holders = find_link_holders(_link_on(device.index, number))
        for pin in holders.pins:
            ways.append(f"`ebpfkit unload --dev {device.name}`" if _OURS in pin else f"`rm {pin}`")
        ways += [f"`kill {pid}`" for pid, _ in holders.processes]
    return " and ".join(dict.fromkeys(ways)) or "end the process that holds the link"


def _off_command(device: Device) -> str:
    keyword = {"native": "xdpdrv", "skb": "xdpgeneric", "hw": "xdpoffload"}.get(device.xdp.mode, "xdp")
    return f"`ip link set dev {device.name} {keyword} off`"


def _receiving_queues(device: Device) -> int:
    try:
        channels = ethtool.get_channels(device.name)
    except KernelError:
        channels = None
    return (channels.receiving if channels else 0) or device.rx_queues


def _explain_mtu(device: Device, number: int, has_frags: bool, extack: str) -> str:
    """Drivers refuse a program that cannot take fragments when a frame of this MTU does not fit one page."""
    about_mtu = "mtu" in extack.lower() or number == errno.ERANGE
    if not about_mtu and not (number == errno.EINVAL and device.mtu > 3000):
        return ""
    if has_frags:
        return str(causes.mtu_too_large(device.name, device.mtu, device.kind))
    return str(causes.mtu_needs_frags(device.name, device.mtu, device.kind))
