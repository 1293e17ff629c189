"""Shared by all tests: who may skip, and why a skip in CI is a failure."""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import pytest

IN_CI = os.environ.get("CI") == "true"
CAP_NET_ADMIN, CAP_BPF = 12, 39


def skip_or_fail(reason: str) -> None:
    """Skip with a reason; in CI, where everything is installed and allowed, the same thing is a failure."""
    if IN_CI:
        pytest.fail(f"would skip, but CI has what this needs: {reason}")
    pytest.skip(reason)


def require_tool(name: str) -> str:
    """The path of a program of the system, or a skip with the reason (in CI: a failure)."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        skip_or_fail(f"{name} is not installed")
        raise AssertionError("unreachable")
    return path


def has_kernel_privileges() -> bool:
    """Whether this process may load programs and change network devices."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    effective = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff")), 0)
    return bool(effective >> CAP_NET_ADMIN & 1 and effective >> CAP_BPF & 1) and hasattr(ctypes.CDLL(None), "syscall")


BPFFS = "/sys/fs/bpf"
_MNT_DETACH = 2
_mounted = False


def _has_bpffs() -> bool:
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return any(line.split()[1:3] == [BPFFS, "bpf"] for line in mounts)


def pytest_sessionstart(session: pytest.Session) -> None:
    """A fresh machine may have no bpffs where everyone looks for it: mount one for as long as the tests run."""
    global _mounted
    if has_kernel_privileges() and not _has_bpffs():
        _mounted = ctypes.CDLL(None).mount(b"bpf", BPFFS.encode(), b"bpf", 0, None) == 0


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _mounted:
        ctypes.CDLL(None).umount2(BPFFS.encode(), _MNT_DETACH)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kernel") and not has_kernel_privileges():
        skip_or_fail("needs CAP_BPF and CAP_NET_ADMIN")
