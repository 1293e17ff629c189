"""The running kernel's symbol table and configuration, as bytes and numbers; what they mean is said further up."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from ebpfkit.errors import KernelError

__all__ = ["read_config", "symbol_addresses"]

KALLSYMS = "/proc/kallsyms"
CONFIGS = ("/proc/config.gz", "/boot/config-{release}", "/lib/modules/{release}/config")


def symbol_addresses(names: Collection[str], path: str = KALLSYMS) -> dict[str, set[int]]:
    """The addresses of the symbols of these names; a name without one is left out.

    Raises KernelError when the table cannot be read, or hides its addresses (kernel.kptr_restrict).
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise KernelError(f"cannot read {path}: {error.strerror}", errno=error.errno or 0) from None
    found: dict[str, set[int]] = {}
    for name in names:
        pattern = rb"^([0-9a-f]+) . " + re.escape(name.encode()) + rb"(?:\t\[[^\]\n]*\])?$"
        addresses = {int(match[1], 16) for match in re.finditer(pattern, data, re.MULTILINE)}
        if addresses:
            found[name] = addresses
    if found and not any(any(addresses) for addresses in found.values()):
        raise KernelError(f"{path} hides its addresses (kernel.kptr_restrict); run as root", errno=1)
    return found


def read_config() -> bytes | None:
    """The running kernel's configuration, perhaps gzipped; None when it is nowhere to be found."""
    release = os.uname().release
    for place in CONFIGS:
        try:
            return Path(place.format(release=release)).read_bytes()
        except OSError:
            continue
    return None
