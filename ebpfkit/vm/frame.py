"""The packet of one run: a buffer with room before and behind, and the rules for moving its ends.

Sizes are those of the kernel for a frame of one page on a 64-bit machine, so that adjusting fails where it fails there
(BPF_PROG_TEST_RUN is the reference). Fields of the context are in `contexts`.
"""

from __future__ import annotations

import errno
from typing import Final

from ebpfkit.abi.limits import ETHERNET_HEADER, MAX_XDP_META, PAGE_SIZE, XDP_FRAME_BYTES, XDP_TAILROOM
from ebpfkit.abi.uapi import XDP_PACKET_HEADROOM
from ebpfkit.errors import UsageError
from ebpfkit.vm.memory import AddressSpace

__all__ = ["HEADROOM", "MAX_PACKET", "Frame"]

HEADROOM: Final = XDP_PACKET_HEADROOM
MAX_PACKET: Final = 1 << 20
ENOTSUPP: Final = 524


class Frame:
    """A packet between `data` and `data_end` of a buffer, its metadata between `data_meta` and `data`."""

    def __init__(self, memory: AddressSpace) -> None:
        self.buffer = bytearray(PAGE_SIZE)
        self._memory = memory
        self.region = memory.add("packet", self.buffer)
        self.data_meta = self.data = self.data_end = HEADROOM
        self.hard_end = PAGE_SIZE - XDP_TAILROOM

    def fill(self, packet: bytes, meta: bytes = b"") -> None:
        """Start over with this packet, and `meta` in front of it. Raises UsageError for what fits no frame."""
        size = len(packet)
        if size > MAX_PACKET:
            raise UsageError(f"a packet of {size} bytes; the machine takes at most {MAX_PACKET}")
        if len(meta) % 4 or len(meta) > HEADROOM - XDP_FRAME_BYTES:
            raise UsageError(
                f"metadata is a multiple of 4 bytes, at most {HEADROOM - XDP_FRAME_BYTES}, not {len(meta)}"
            )
        needed = HEADROOM + size + XDP_TAILROOM
        if needed > len(self.buffer):
            self._grow(-(-needed // PAGE_SIZE) * PAGE_SIZE)
        start = HEADROOM - len(meta)
        end = HEADROOM + size
        self.buffer[:end] = bytes(start) + meta + packet
        self.data_meta, self.data, self.data_end = start, HEADROOM, end
        self.region.set_window(start, end)

    def _grow(self, size: int) -> None:
        self._memory.remove(self.region)
        self.buffer = bytearray(size)
        self.region = self._memory.add("packet", self.buffer)
        self.hard_end = size - XDP_TAILROOM

    def replace(self, packet: bytes) -> None:
        """Another packet in place of this one, during a run; the metadata stays in front of it."""
        size, meta = len(packet), self.meta
        if HEADROOM + size + XDP_TAILROOM > len(self.buffer):
            self.buffer = bytearray(-(-(HEADROOM + size + XDP_TAILROOM) // PAGE_SIZE) * PAGE_SIZE)
            self.region.data = self.buffer  # the address stays: pointers from before see the new bounds
            self.hard_end = len(self.buffer) - XDP_TAILROOM
        end = HEADROOM + size
        self.buffer[HEADROOM - len(meta) : end] = meta + packet
        self.data_meta, self.data, self.data_end = HEADROOM - len(meta), HEADROOM, end
        self.region.set_window(self.data_meta, end)

    def pull(self, size: int) -> None:
        """Let the packet start `size` bytes later: a program that begins at the network header."""
        self.data = self.data_meta = min(self.data + size, self.data_end)
        self.region.set_window(self.data_meta, self.data_end)

    @property
    def packet(self) -> bytes:
        """A copy of the packet as it is now."""
        return bytes(self.buffer[self.data : self.data_end])

    @property
    def meta(self) -> bytes:
        """A copy of the metadata."""
        return bytes(self.buffer[self.data_meta : self.data]) if self.data_meta != self.data else b""

    def __len__(self) -> int:
        return self.data_end - self.data

    def address(self, place: int) -> int:
        return self.region.base + place

    def adjust_head(self, delta: int) -> int:
        """Move the start of the packet, metadata with it: 0 or -EINVAL."""
        meta_size = self.data - self.data_meta
        data = self.data + delta
        if data < XDP_FRAME_BYTES + meta_size or data > self.data_end - ETHERNET_HEADER:
            return -errno.EINVAL
        if meta_size:
            meta = self.meta
            self.buffer[data - meta_size : data] = meta
        self.data_meta, self.data = data - meta_size, data
        self.region.set_window(self.data_meta, self.data_end)
        return 0

    def adjust_tail(self, delta: int) -> int:
        """Move the end of the packet; new bytes are zero: 0 or -EINVAL."""
        end = self.data_end + delta
        if end > self.hard_end or end < self.data + ETHERNET_HEADER:
            return -errno.EINVAL
        if delta > 0:
            self.buffer[self.data_end : end] = bytes(delta)
        self.data_end = end
        self.region.set_window(self.data_meta, end)
        return 0

    def adjust_meta(self, delta: int) -> int:
        """Move the start of the metadata: 0, -EINVAL, or -EACCES for a size that is not allowed."""
        meta = self.data_meta + delta
        if meta < XDP_FRAME_BYTES or meta > self.data:
            return -errno.EINVAL
        size = self.data - meta
        if size % 4 or size > MAX_XDP_META:
            return -errno.EACCES
        self.data_meta = meta
        self.region.set_window(meta, self.data_end)
        return 0
