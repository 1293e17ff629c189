"""The virtual machine: programs run on bytes and captures, without a kernel and without privileges.

`Machine` runs a program; `pcap` reads and writes captures. What the kernel's verifier would say is not asked here, and
maps in memory are in `ebpfkit.maps`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine, Result, Step
    from ebpfkit.vm.pcap import Packet, PcapWriter, open_pcap

__all__ = ["Machine", "Packet", "PcapWriter", "Result", "Step", "open_pcap"]

_HOMES = {
    "Machine": "machine", "Result": "machine", "Step": "machine",
    "Packet": "pcap", "PcapWriter": "pcap", "open_pcap": "pcap",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"ebpfkit.vm.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
