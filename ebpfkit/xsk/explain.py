"""Refusals of AF_XDP system calls as errors; what they mean and what mends them is `host/bind.py`'s."""

from __future__ import annotations

from ebpfkit.errors import XskError
from ebpfkit.host.bind import SocketRequest, explain_bind, explain_setup
from ebpfkit.kernel.netlink import Device

__all__ = ["bind_error", "setup_error"]


def setup_error(number: int, what: str) -> XskError:
    """A refusal before bind: the socket itself, the UMEM, a ring."""
    return XskError(f"cannot set up an AF_XDP socket ({what}): {explain_setup(number, what)}", errno=number)


def bind_error(number: int, device: Device, request: SocketRequest) -> XskError:
    """A refusal of bind."""
    why = explain_bind(number, device, request)
    return XskError(f"cannot bind to queue {request.queue} of {device.name}: {why}", errno=number)
