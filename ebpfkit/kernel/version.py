"""The running kernel's version, as numbers. What came with which version is `abi`'s."""

from __future__ import annotations

import os
import re

__all__ = ["kernel_release_code", "kernel_version"]


def kernel_version() -> tuple[int, int]:
    """Major and minor number of the running kernel; (0, 0) where the release does not begin with them."""
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def kernel_release_code() -> int:
    """The release as LINUX_VERSION_CODE has it: major, minor and patch (at most 255) in a byte each."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", os.uname().release)
    if match is None:
        return 0
    return int(match[1]) << 16 | int(match[2]) << 8 | min(int(match[3] or 0), 255)
