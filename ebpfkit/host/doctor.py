"""The doctor: every check of the host and of a device, as a list of findings; and which of their fixes are safe.

A check is a pure function of facts (`facts`). Those of the whole host are here, those of a device in `doctor_device`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ebpfkit.abi.versions import is_at_least
from ebpfkit.host.doctor_device import DEVICE_CHECKS
from ebpfkit.host.facts import DeviceFacts, HostFacts, gather_device, gather_host
from ebpfkit.host.findings import Finding, failed, passed, warned
from ebpfkit.kernel.bpffs import DEFAULT_BPFFS, mount_bpffs

__all__ = ["HOST_CHECKS", "check_device", "check_host", "examine"]

Check = Callable[[HostFacts], Finding]


def examine(dev: str | int | None = None) -> list[Finding]:
    """All findings: of the host, and of a device when one is named. Raises AttachError when there is no such device."""
    host = gather_host()
    return check_host(host) + (check_device(gather_device(dev), host) if dev is not None else [])


def check_host(host: HostFacts) -> list[Finding]:
    """The findings about the host."""
    return [check(host) for check in HOST_CHECKS]


def check_device(facts: DeviceFacts, host: HostFacts) -> list[Finding]:
    """The findings about a device."""
    return [check(facts, host) for check in DEVICE_CHECKS]


def write_setting(name: str, value: int) -> Callable[[], None]:
    """A fix that sets a sysctl."""

    def apply() -> None:
        Path(f"/proc/sys/{name.replace('.', '/')}").write_text(f"{value}\n")

    return apply


def _kernel(host: HostFacts) -> Finding:
    for since, what in (("5.4", "AF_XDP with need-wakeup and aligned to today's interface"), ("5.9", "XDP links")):
        if not is_at_least(host.kernel, since):
            return warned("kernel", host.kernel, f"{what} came with Linux {since}")
    return passed("kernel", host.kernel)


def _capabilities(host: HostFacts) -> Finding:
    have = host.capabilities
    needed = {
        "CAP_BPF": "load programs", "CAP_NET_ADMIN": "attach and configure", "CAP_NET_RAW": "open AF_XDP sockets",
        "CAP_PERFMON": "use pointers freely in programs",
    }  # fmt: skip
    missing = [
        name
        for name in needed
        if name not in have and not (name in ("CAP_BPF", "CAP_PERFMON") and "CAP_SYS_ADMIN" in have)
    ]
    if not missing:
        return passed("capabilities", "all that are needed")
    why = ", ".join(f"{name} to {needed[name]}" for name in missing)
    return failed("capabilities", f"missing: {', '.join(missing)}", f"needed: {why}", "sudo ebpfkit ...")


def _memlock(host: HostFacts) -> Finding:
    if host.memlock is None or "CAP_IPC_LOCK" in host.capabilities:
        return passed("memory-lock", "no limit" if host.memlock is None else "no limit (CAP_IPC_LOCK)")
    found = f"{host.memlock} bytes"
    why = "the memory of AF_XDP sockets counts against it (and before Linux 5.11 programs and maps)"
    return (failed if host.memlock < 1 << 24 else warned)("memory-lock", found, why, "ulimit -l unlimited")


def _huge_pages(host: HostFacts) -> Finding:
    if host.huge_pages is None:
        return warned("huge-pages", "unknown", "/proc/meminfo does not tell")
    reserved, free = host.huge_pages
    if free:
        return passed("huge-pages", f"{free} of {reserved} free")
    return warned(
        "huge-pages", f"{free} of {reserved} free", "huge_pages=True needs some; everything else works without",
        "sysctl vm.nr_hugepages=64",
    )  # fmt: skip


def _bpffs(host: HostFacts) -> Finding:
    if host.bpffs:
        return passed("bpffs", host.bpffs)
    return failed(
        "bpffs", "not mounted", "nothing can be pinned (`ip netns exec` hides it: use nsenter)",
        f"mount -t bpf bpf {DEFAULT_BPFFS}", lambda: mount_bpffs(DEFAULT_BPFFS),
    )  # fmt: skip


def _btf(host: HostFacts) -> Finding:
    if host.has_btf:
        return passed("kernel-types", "/sys/kernel/btf/vmlinux")
    why = "kernel functions and CO-RE relocations need it (CONFIG_DEBUG_INFO_BTF)"
    return warned("kernel-types", "no /sys/kernel/btf/vmlinux", why)


def _jit(host: HostFacts) -> Finding:
    name = "net.core.bpf_jit_enable"
    value = host.settings.get(name)
    if value == 0:
        why = "programs are interpreted, several times slower"
        return failed("jit", "off", why, f"sysctl {name}=1", write_setting(name, 1))
    return passed("jit", "on" if value else "unknown")


def _jit_harden(host: HostFacts) -> Finding:
    name = "net.core.bpf_jit_harden"
    if host.settings.get(name) == 2:
        return warned("jit-harden", "2: for everybody", "programs of root are slowed down as well", f"sysctl {name}=1")
    return passed("jit-harden", str(host.settings.get(name)))


def _unprivileged(host: HostFacts) -> Finding:
    name = "kernel.unprivileged_bpf_disabled"
    value = host.settings.get(name)
    if value == 0:
        why = "any user may load programs, which has been a way into kernels"
        return warned("unprivileged-bpf", "0: allowed", why, f"sysctl {name}=2")
    return passed("unprivileged-bpf", str(value))


def _lockdown(host: HostFacts) -> Finding:
    if host.lockdown in (None, "none"):
        return passed("lockdown", host.lockdown or "none")
    why = "programs may not read kernel memory" if host.lockdown == "confidentiality" else "XDP works"
    return warned("lockdown", str(host.lockdown), why)


_CONFIG = {
    "CONFIG_BPF_SYSCALL": "no BPF without it",
    "CONFIG_XDP_SOCKETS": "no AF_XDP without it",
    "CONFIG_BPF_JIT": "programs are interpreted without it",
}


def _config(host: HostFacts) -> Finding:
    if host.config is None:
        return warned("kernel-config", "unknown", "neither /boot/config-... nor /proc/config.gz is there")
    missing = [name for name in _CONFIG if host.config.get(name, "n") == "n"]
    if missing:
        return failed("kernel-config", f"not set: {', '.join(missing)}", "; ".join(_CONFIG[name] for name in missing))
    if host.config.get("CONFIG_XDP_SOCKETS_DIAG", "n") == "n":
        return warned("kernel-config", "no CONFIG_XDP_SOCKETS_DIAG", "`ss --xdp` shows no sockets; all else works")
    return passed("kernel-config", "all that is needed")


HOST_CHECKS: tuple[Check, ...] = (
    _kernel, _capabilities, _memlock, _huge_pages, _bpffs, _btf, _jit, _jit_harden, _unprivileged, _lockdown, _config,
)  # fmt: skip
