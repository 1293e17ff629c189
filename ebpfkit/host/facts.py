"""Everything the doctor looks at, gathered once: facts about this host and about one device. Nothing is judged here.

What cannot be found out is None. Facts are plain values, so that a test makes those of hardware that is not there.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import resource
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ebpfkit.errors import AttachError, KernelError
from ebpfkit.host.attach import describe_owner, dispatched, explain_missing_device
from ebpfkit.kernel import ethtool, netdev, netlink
from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.kernel.caps import effective_capabilities
from ebpfkit.kernel.cpus import parse_cpu_list
from ebpfkit.kernel.netlink import Device
from ebpfkit.kernel.version import kernel_version

__all__ = ["DeviceFacts", "HostFacts", "gather_device", "gather_host", "read_number"]

T = TypeVar("T")
_SIOCGIFFLAGS, _IFF_PROMISC = 0x8913, 0x100
_SYS_NET = "/sys/class/net"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The kernel, this process's rights, and the settings of the whole machine."""

    kernel: str
    capabilities: frozenset[str]
    cpus: tuple[int, ...]
    memlock: int | None = None  # bytes; None: no limit
    huge_pages: tuple[int, int] | None = None  # reserved, free
    bpffs: str | None = None
    has_btf: bool = True
    settings: dict[str, int | None] = field(default_factory=dict)  # by sysctl name
    lockdown: str | None = None
    config: dict[str, str] | None = None  # CONFIG_...: y, m, n


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device of the current network namespace."""

    device: Device
    driver: str = ""
    firmware: str = ""
    bus: str = ""
    features: netdev.NetdevFeatures | None = None
    channels: ethtool.Channels | None = None
    rings: ethtool.RingSizes | None = None
    offloads: dict[str, bool] | None = None
    rss: ethtool.Rss | None = None
    rules: tuple[ethtool.FlowRule, ...] | None = None
    queues: tuple[netdev.Queue, ...] | None = None
    napis: tuple[netdev.Napi, ...] | None = None
    interrupt_cpus: dict[int, tuple[int, ...]] = field(default_factory=dict)  # by interrupt
    promiscuous: bool = False
    owner: str = ""  # what is attached, and who holds it
    dispatched: bool = False  # whether that is a dispatcher, which others can join
    upper: str = ""  # the name of the bond or bridge above it
    numa_node: int | None = None
    numa_cpus: tuple[int, ...] = ()
    sysfs_matches: bool = True  # /sys is that of this network namespace
    defer_hard_irqs: int | None = None
    gro_flush_timeout: int | None = None


def read_number(path: str) -> int | None:
    """The first number of a file; None where it is not there or may not be read."""
    try:
        return int(Path(path).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


_SETTINGS = (
    "net.core.bpf_jit_enable", "net.core.bpf_jit_harden", "kernel.unprivileged_bpf_disabled", "vm.nr_hugepages",
)  # fmt: skip


def gather_host() -> HostFacts:
    """The facts about this host."""
    major, minor = kernel_version()
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return HostFacts(
        kernel=f"{major}.{minor}",
        capabilities=effective_capabilities(),
        cpus=tuple(sorted(os.sched_getaffinity(0))),
        memlock=None if limit == resource.RLIM_INFINITY else limit,
        huge_pages=_huge_pages(),
        bpffs=find_bpffs(),
        has_btf=Path("/sys/kernel/btf/vmlinux").exists(),
        settings={name: read_number(f"/proc/sys/{name.replace('.', '/')}") for name in _SETTINGS},
        lockdown=_read_text("/sys/kernel/security/lockdown").partition("[")[2].partition("]")[0] or None,
        config=_kernel_config(),
    )


def _huge_pages() -> tuple[int, int] | None:
    found = dict(line.split(":", 1) for line in _read_text("/proc/meminfo").splitlines() if ":" in line)
    try:
        return int(found["HugePages_Total"]), int(found["HugePages_Free"])
    except (KeyError, ValueError):
        return None


def _kernel_config() -> dict[str, str] | None:
    text = _read_text(f"/boot/config-{os.uname().release}")
    if not text:
        try:
            text = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode("ascii", "replace")
        except (OSError, EOFError, gzip.BadGzipFile):
            return None
    found = {}
    for line in text.splitlines():
        if line.startswith("CONFIG_"):
            name, _, value = line.partition("=")
            found[name] = value
        elif line.startswith("# CONFIG_") and line.endswith(" is not set"):
            found[line.split()[1]] = "n"
    return found


def gather_device(dev: str | int) -> DeviceFacts:
    """The facts about a device. Raises AttachError when there is none of that name."""
    try:
        device = netlink.find_device(dev)
    except KernelError as error:
        if error.errno == 19:  # ENODEV
            raise AttachError(explain_missing_device(dev), errno=19) from error
        raise
    name = device.name
    driver = ethtool.get_driver_info(name)
    queues = netdev.query_queues(device.index) if device.up else None
    napis = netdev.query_napis(device.index) if device.up else None
    rules = _or_none(lambda: ethtool.get_flow_rules(name))
    matches = read_number(f"{_SYS_NET}/{name}/ifindex") == device.index
    node = read_number(f"{_SYS_NET}/{name}/device/numa_node") if matches else None
    return DeviceFacts(
        device,
        driver=driver.driver if driver else "",
        firmware=driver.firmware if driver else "",
        bus=driver.bus if driver else "",
        features=netdev.query_features(device.index),
        channels=ethtool.get_channels(name),
        rings=ethtool.get_ring_sizes(name),
        offloads=ethtool.get_features(name),
        rss=_or_none(lambda: ethtool.get_rss(name)),
        rules=None if rules is None else tuple(rules),
        queues=None if queues is None else tuple(queues),
        napis=None if napis is None else tuple(napis),
        interrupt_cpus=_interrupt_cpus(napis or []),
        promiscuous=bool(_flags(name) & _IFF_PROMISC),
        owner=describe_owner(device) if device.xdp.program_ids else "",
        dispatched=bool(device.xdp.program_ids and dispatched(device)),
        upper=_name_of(device.master),
        numa_node=None if node is None or node < 0 else node,
        numa_cpus=_node_cpus(node),
        sysfs_matches=matches,
        defer_hard_irqs=read_number(f"{_SYS_NET}/{name}/napi_defer_hard_irqs") if matches else None,
        gro_flush_timeout=read_number(f"{_SYS_NET}/{name}/gro_flush_timeout") if matches else None,
    )


def _or_none(ask: Callable[[], T]) -> T | None:
    """The answer, or None when this process may not ask."""
    try:
        return ask()
    except KernelError as error:
        if error.errno == 1:  # EPERM
            return None
        raise


def _name_of(index: int) -> str:
    try:
        return netlink.find_device(index).name if index else ""
    except KernelError:
        return ""


def _flags(name: str) -> int:
    request = struct.pack("=16sH14x", os.fsencode(name), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            return int(struct.unpack_from("=H", fcntl.ioctl(sock, _SIOCGIFFLAGS, request), 16)[0])
        except OSError:
            return 0


def _interrupt_cpus(napis: list[netdev.Napi]) -> dict[int, tuple[int, ...]]:
    found = {}
    for napi in napis:
        text = _read_text(f"/proc/irq/{napi.irq}/effective_affinity_list") if napi.irq else ""
        if text.strip():
            found[napi.irq] = parse_cpu_list(text)
    return found


def _node_cpus(node: int | None) -> tuple[int, ...]:
    text = _read_text(f"/sys/devices/system/node/node{node}/cpulist").strip() if node is not None and node >= 0 else ""
    return parse_cpu_list(text) if text else ()
