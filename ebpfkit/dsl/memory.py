"""The memory that values of the language live in while a function runs as plain Python.

A `Region` is a packet, a map value, a ring buffer record, a copy for user space, or storage of its own. Views hold a
region and an offset; they die with their region. What the bytes mean is not known here.
"""

from __future__ import annotations

from enum import Enum

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.dsl.refusal import refuse

__all__ = ["Region", "RegionKind"]

Bytes = bytearray | memoryview


RECORD_START = CONTEXTS["tracepoint"].start
"""The first byte of a tracepoint's record that programs may read."""


class RegionKind(Enum):
    """Where bytes are; the value is how a message calls it."""

    OWN = "a local copy"
    PACKET = "the packet"
    MAP = "a map value"
    RECORD = "a ring buffer record"
    SNAPSHOT = "a copy of what was in the map"
    READ_ONLY_PACKET = "a packet that this type of program cannot change"
    READ_ONLY_CONTEXT = "a record of the kernel's"


class Region:
    """Bytes that views look at. `dead` says why no view may look any more ("" while they may)."""

    __slots__ = ("data", "dead", "kind", "name")

    def __init__(self, data: Bytes, kind: RegionKind = RegionKind.OWN, name: str = "") -> None:
        self.data = data
        self.kind = kind
        self.name = name
        self.dead = ""

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`."""
        if self.kind is RegionKind.READ_ONLY_CONTEXT and offset < RECORD_START:
            message = "no program may read the common fields of a record"
            refuse("context-field", message, "copy the fields that you need")
        if self.dead:
            refuse("dead-view", f"this view died: {self.dead}")
        return bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes at `offset`."""
        if self.dead:
            refuse("dead-view", f"this view died: {self.dead}")
        if self.kind in (RegionKind.READ_ONLY_PACKET, RegionKind.READ_ONLY_CONTEXT):
            refuse("read-only", f"this is {self.kind.value}", "change a .copy() of it")
        if self.kind is RegionKind.SNAPSHOT:
            name = self.name or "m"
            refuse(
                "write-to-copy",
                f"this is a copy of a value of the map '{name}', writing to it changes nothing",
                f"change a .copy() of it and store that: {name}[key] = value",
            )
        self.data[offset : offset + len(data)] = data


def own(size: int) -> Region:
    """A region of zeroed storage of its own."""
    return Region(bytearray(size))
