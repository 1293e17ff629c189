"""How many CPUs the kernel may ever bring up: the number of values in an entry of a per-CPU map.

Per-CPU values exist for the possible CPUs; only those that are online can have a perf event.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ebpfkit.errors import KernelError

__all__ = ["online_cpus", "parse_cpu_list", "possible_cpus"]


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The CPUs of a list as sysfs prints it.

    >>> parse_cpu_list("0-2,7")
    (0, 1, 2, 7)
    """
    cpus: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return tuple(cpus)


@cache
def possible_cpus() -> int:
    """The number of values in an entry of a per-CPU map on this machine."""
    path = Path("/sys/devices/system/cpu/possible")
    try:
        return parse_cpu_list(path.read_text())[-1] + 1
    except (OSError, ValueError) as error:
        raise KernelError(f"cannot read the number of possible CPUs from {path}: {error}; is /sys mounted?") from error


def online_cpus() -> tuple[int, ...]:
    """The CPUs that run now."""
    path = Path("/sys/devices/system/cpu/online")
    try:
        return parse_cpu_list(path.read_text())
    except (OSError, ValueError) as error:
        raise KernelError(f"cannot read which CPUs are online from {path}: {error}; is /sys mounted?") from error
