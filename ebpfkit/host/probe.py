"""What this host can do: the kernel, this process's rights, a network device; facts as data, with the mend beside.

Nothing here changes anything. Trying each map type, program type and helper is `features`.
"""

from __future__ import annotations

import os
import resource
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from ebpfkit.abi.drivers import DRIVERS
from ebpfkit.abi.model import HostProfile
from ebpfkit.abi.versions import basis_of, is_at_least
from ebpfkit.errors import AttachError, KernelError
from ebpfkit.host.attach import describe_owner, explain_missing_device
from ebpfkit.kernel import ethtool, netdev, netlink
from ebpfkit.kernel.bpffs import DEFAULT_BPFFS, find_bpffs
from ebpfkit.kernel.caps import effective_capabilities
from ebpfkit.kernel.cpus import possible_cpus
from ebpfkit.kernel.version import kernel_version

__all__ = ["host_profile", "probe_device", "probe_kernel"]

_WANTED_CAPS = ("CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_SYS_ADMIN")
_KERNEL_BTF = "/sys/kernel/btf/vmlinux"


def _read_number(path: str) -> int | None:
    """A number from /proc/sys; None where it is not there or may not be read."""
    try:
        return int(Path(path).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _has_cap(name: str, have: frozenset[str]) -> bool:
    return name in have or (name in ("CAP_BPF", "CAP_PERFMON") and "CAP_SYS_ADMIN" in have)


@cache
def _running_series() -> str:
    major, minor = kernel_version()
    return f"{major}.{minor}"


def host_profile() -> HostProfile:
    """The running kernel as the verifier wants to know it."""
    have = effective_capabilities()
    kernel = _running_series()
    return HostProfile(
        kernel=kernel,
        cpus=possible_cpus(),
        privileged=_has_cap("CAP_BPF", have) and _has_cap("CAP_PERFMON", have),
        jit=_read_number("/proc/sys/net/core/bpf_jit_enable") != 0,
        arch=os.uname().machine,
        basis=basis_of(kernel),
    )


def _profile() -> dict[str, Any]:
    """What `verify --host` reads on another machine."""
    profile = host_profile()
    return {name: getattr(profile, name) for name in ("kernel", "cpus", "privileged", "jit", "arch")}


def probe_kernel() -> dict[str, Any]:
    """Kernel, rights of this process, BPF settings; `hints` says what is missing and the command that mends it."""
    have = effective_capabilities()
    bpffs = find_bpffs()
    hints: list[str] = []
    missing = [name for name in ("CAP_BPF", "CAP_NET_ADMIN") if not _has_cap(name, have)]
    if missing:
        hints.append(f"loading and attaching needs {' and '.join(missing)}: run as root (sudo)")
    if bpffs is None:
        hints.append(f"no bpffs is mounted, so nothing can be pinned: `mount -t bpf bpf {DEFAULT_BPFFS}`")
    jit = _read_number("/proc/sys/net/core/bpf_jit_enable")
    if jit == 0:
        hints.append("programs are interpreted, not compiled: `sysctl net.core.bpf_jit_enable=1`")
    has_btf = Path(_KERNEL_BTF).exists()
    if not has_btf:
        hints.append(f"{_KERNEL_BTF} is missing, so kernel types and functions cannot be used (CONFIG_DEBUG_INFO_BTF)")
    memlock = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if memlock != resource.RLIM_INFINITY and "CAP_IPC_LOCK" not in have:
        hints.append(f"AF_XDP memory is limited to {memlock} bytes (RLIMIT_MEMLOCK): `ulimit -l unlimited`")
    uname = os.uname()
    kernel = _running_series()
    return {
        "kernel": kernel,
        "release": uname.release,
        "machine": uname.machine,
        "basis": basis_of(kernel),
        "cpus": possible_cpus(),
        "capabilities": {name: _has_cap(name, have) for name in _WANTED_CAPS},
        "bpf": {
            "jit": None if jit is None else bool(jit),
            "jit_harden": _read_number("/proc/sys/net/core/bpf_jit_harden"),
            "unprivileged_bpf_disabled": _read_number("/proc/sys/kernel/unprivileged_bpf_disabled"),
            "stats_enabled": _read_number("/proc/sys/kernel/bpf_stats_enabled"),
            "kernel_btf": has_btf,
            "bpffs": bpffs,
            "lockdown": _lockdown(),
            "xdp_links": is_at_least(kernel, "5.9"),
            "ring_buffer": is_at_least(kernel, "5.8"),
            "map_batches": is_at_least(kernel, "5.6"),
        },
        "profile": _profile(),
        "memlock_bytes": None if memlock == resource.RLIM_INFINITY else memlock,
        "hints": hints,
    }


def _lockdown() -> str | None:
    """The lockdown mode in brackets in /sys/kernel/security/lockdown; None where that is not there."""
    try:
        text = Path("/sys/kernel/security/lockdown").read_text()
    except OSError:
        return None
    return text.partition("[")[2].partition("]")[0] or None


def probe_device(dev: str) -> dict[str, Any]:
    """Driver, XDP features, queues and what is attached, for a device of the current namespace. Raises AttachError.

    A feature is True, False, or None where neither the kernel nor the table of drivers knows; `source` says which told.
    """
    try:
        device = netlink.find_device(dev)
    except KernelError as error:
        if error.errno == 19:  # ENODEV
            raise AttachError(explain_missing_device(dev), errno=19) from error
        raise
    driver = ethtool.get_driver_info(device.name)
    features = netdev.query_features(device.index)
    channels = ethtool.get_channels(device.name)
    rings = ethtool.get_ring_sizes(device.name)
    queues = netdev.query_queues(device.index) if device.up else None
    native = _native_features(driver.driver if driver else "", features)
    with_xsk = [q.id for q in queues if q.has_xsk and q.kind == "rx"] if queues is not None else None
    return {
        "device": device.name,
        "index": device.index,
        "kind": device.kind or None,
        "up": device.up,
        "mtu": device.mtu,
        "driver": driver.driver if driver else None,
        "driver_version": driver.version if driver else None,
        "firmware": driver.firmware or None if driver else None,
        "bus": driver.bus or None if driver else None,
        "modes": {"native": native["native"], "skb": True, "hw": native["hw"]},
        "features": {name: native[name] for name in ("redirect", "redirect_target", "frags", "zero_copy", "source")},
        "xdp_features": sorted(features.xdp) if features else None,
        "rx_metadata": sorted(features.rx_metadata) if features else None,
        "tx_metadata": sorted(features.xsk) if features else None,
        "zero_copy_segments": features.zero_copy_segments if features else None,
        "queues": {
            "rx": channels.receiving if channels else device.rx_queues,
            "tx": channels.tx + channels.combined if channels else device.tx_queues,
            "max_combined": channels.max_combined if channels else None,
            "with_af_xdp_socket": with_xsk,
        },
        "rings": asdict(rings) if rings else None,
        "attached": {
            "mode": device.xdp.mode or None,
            "program_ids": dict(device.xdp.program_ids),
            "owner": describe_owner(device) if device.xdp.program_ids else None,
        },
        "hints": _device_hints(device, driver.driver if driver else "", native),
    }  # fmt: skip


def _native_features(driver: str, features: netdev.NetdevFeatures | None) -> dict[str, Any]:
    """What the driver can do: from the kernel's own answer where there is one, else from the table and the version."""
    if features is not None:
        has = features.xdp.__contains__
        return {
            "native": has("basic"), "hw": has("hw-offload"), "redirect": has("redirect"),
            "redirect_target": has("ndo-xmit"), "frags": has("rx-sg"), "zero_copy": has("xsk-zerocopy"),
            "source": "kernel",
        }  # fmt: skip
    row = DRIVERS.get(driver)
    if row is None:
        unknown = dict.fromkeys(("native", "hw", "redirect", "redirect_target", "frags", "zero_copy"))
        return {**unknown, "source": "unknown"}
    kernel = _running_series()

    def since(version: str) -> bool | None:
        return None if version == "?" else bool(version) and is_at_least(kernel, version)

    return {
        "native": since(row.native), "hw": None, "redirect": None, "redirect_target": None, "frags": since(row.frags),
        "zero_copy": since(row.zero_copy), "source": "driver table",
    }  # fmt: skip


def _device_hints(device: netlink.Device, driver: str, native: dict[str, Any]) -> list[str]:
    """What stands in the way of XDP on the device, with the command that mends it."""
    hints = []
    name, row = device.name, DRIVERS.get(driver)
    if not device.up:
        hints.append(f"the device is down: `ip link set dev {name} up`")
    if native["native"] is False:
        hints.append("no native XDP in this driver: attach with --mode skb")
    if row and row.max_mtu and device.mtu > row.max_mtu:
        hints.append(
            f"MTU {device.mtu} is above {row.max_mtu}: use a program that takes fragments (SEC xdp.frags), "
            f"or `ip link set dev {name} mtu {row.max_mtu}`"
        )
    if device.xdp.program_ids:
        hints.append(f"{describe_owner(device)} is attached already")
    if device.kind in ("vlan", "bridge", "macvlan", "ipvlan", "team"):
        hints.append(f"this is a {device.kind} device: attach to the device below it for native speed")
    if row and row.note:
        hints.append(f"{driver}: {row.note}")
    return hints
