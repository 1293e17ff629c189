"""For users' tests: a pair of network namespaces to attach programs in, and real traffic between them.

Nothing here is needed at run time by a program; all of it uses the public API alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebpfkit.testing.lab import VethLab, ping, udp_exchange

__all__ = ["VethLab", "ping", "udp_exchange"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from ebpfkit.testing import lab

        return getattr(lab, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
