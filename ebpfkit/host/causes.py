"""What stands in the way of XDP and AF_XDP, each once: why, and the command that mends it.

The doctor's findings and the refusals of attach and bind use the same rows. Pure: facts go in, text comes out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ebpfkit.abi.drivers import DRIVERS
from ebpfkit.abi.versions import is_at_least

__all__ = [
    "Cause",
    "device_down",
    "mtu_needs_frags",
    "mtu_too_large",
    "no_frags",
    "no_native",
    "no_zero_copy",
    "peer_has_more_queues",
    "queue_out_of_range",
    "queue_taken",
    "single_buffer_zero_copy",
]

_USUAL_MTU = 3498


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something does not work, and what to do: a command, or (`is_command` False) words."""

    why: str
    mend: str = ""
    is_command: bool = True

    def __str__(self) -> str:
        if not self.mend:
            return self.why
        return f"{self.why}; `{self.mend}`" if self.is_command else f"{self.why}; {self.mend}"


def device_down(name: str) -> Cause:
    return Cause("the device is down", f"ip link set dev {name} up")


def queue_taken(name: str, queue: int | None = None) -> Cause:
    which = "this queue" if queue is None else f"queue {queue}"
    return Cause(
        f"another AF_XDP socket owns {which}",
        f"close it, use another queue, or wait for its process to end (`ebpfkit doctor {name}` shows the taken ones)",
        is_command=False,
    )


def queue_out_of_range(name: str, queues: int) -> Cause:
    return Cause(f"{name} has {queues} RX queues, numbered from 0")


def no_zero_copy(name: str) -> Cause:
    return Cause(f"the driver of {name} has no zero-copy mode", "use mode='copy' or mode='auto'", is_command=False)


def single_buffer_zero_copy(name: str, segments: int) -> Cause:
    return Cause(
        f"the driver of {name} has zero-copy only for packets of one buffer (zero-copy segments: {segments})",
        "leave multi_buffer out, or use mode='copy'",
        is_command=False,
    )


def no_native(name: str) -> Cause:
    return Cause(f"the driver of {name} has no native XDP", "use mode skb (`--mode skb`)", is_command=False)


def no_frags(name: str) -> Cause:
    return Cause(
        f"the driver of {name} has native XDP, but not for packets of several buffers (no rx-sg in its features)",
        "use attach_mode='skb', or a smaller MTU",
        is_command=False,
    )


def largest_mtu(driver: str) -> int:
    """The largest MTU at which a program without fragments attaches, as far as the table of drivers knows."""
    row = DRIVERS.get(driver)
    return row.max_mtu if row and row.max_mtu else _USUAL_MTU


def mtu_needs_frags(name: str, mtu: int, driver: str) -> Cause:
    return Cause(
        f"its MTU of {mtu} needs a program that takes fragments (SEC xdp.frags, frags=True), or lower it",
        f"ip link set dev {name} mtu {largest_mtu(driver)}",
    )


def mtu_too_large(name: str, mtu: int, driver: str) -> Cause:
    return Cause(
        f"its MTU of {mtu} is more than its driver allows with XDP", f"ip link set dev {name} mtu {largest_mtu(driver)}"
    )


def peer_has_more_queues(name: str, queues: int) -> Cause:
    return Cause(
        f"its peer sends on more queues than the {queues} that {name} receives on",
        f"ethtool -L PEER tx {queues}",
    )


def driver_supports(driver: str, feature: str, kernel: str) -> bool | None:
    """Whether a driver has "native", "frags" or "zero_copy" by the table; None when the table does not know."""
    row = DRIVERS.get(driver)
    since = getattr(row, feature) if row is not None else "?"
    return None if since == "?" else bool(since) and is_at_least(kernel, since)
