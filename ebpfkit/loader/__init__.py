"""Objects into the kernel and onto devices: maps, programs, links, pins.

What a verdict would be is the verifier's; what a refusal means on this host is said by `host`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebpfkit.loader.collection import Collection
    from ebpfkit.loader.links.base import Link
    from ebpfkit.loader.maps import Map
    from ebpfkit.loader.program import Program, TestRun
    from ebpfkit.loader.ringbuf import RingBuffer

__all__ = ["Collection", "Link", "Map", "Program", "RingBuffer", "TestRun"]

_HOMES = {
    "Collection": "ebpfkit.loader.collection",
    "Link": "ebpfkit.loader.links.base",
    "Map": "ebpfkit.loader.maps",
    "Program": "ebpfkit.loader.program",
    "RingBuffer": "ebpfkit.loader.ringbuf",
    "TestRun": "ebpfkit.loader.program",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
