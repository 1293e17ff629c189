"""The running kernel's version, as numbers. What came with which version is `abi`'s."""

from __future__ import annotations

import os
import re

__all__ = ["kernel_version"]


def kernel_version() -> tuple[int, int]:
    """Major and minor number of the running kernel; (0, 0) where the release does not begin with them."""
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)
