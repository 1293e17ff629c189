"""What an AF_XDP socket has counted: the kernel's XDP_STATISTICS, and our own side."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields

from ebpfkit.errors import XskError

__all__ = ["XskStatistics"]


@dataclass(frozen=True, slots=True)
class XskStatistics:
    """XDP_STATISTICS, each a count since the socket was made; None where the kernel does not tell (before 5.9).

    `rx_dropped`: no room for the packet in a frame, or another cause; `rx_ring_full`: the application did not read
    fast enough; `rx_fill_ring_empty`: no frame to receive into; `rx_invalid_descs`, `tx_invalid_descs`: the application
    put wrong addresses or lengths into the fill or TX ring; `tx_ring_empty`: nothing to send when the kernel looked.
    """

    rx_dropped: int
    rx_invalid_descs: int
    tx_invalid_descs: int
    rx_ring_full: int | None = None
    rx_fill_ring_empty: int | None = None
    tx_ring_empty: int | None = None

    @classmethod
    def from_bytes(cls, data: bytes) -> XskStatistics:
        """Read what getsockopt gave: 48 bytes, or 24 from older kernels; more is for newer ones and left out."""
        count = min(len(data) // 8, len(fields(cls)))
        if count < 3:
            raise XskError(f"XDP_STATISTICS has {len(data)} bytes, at least 24 are needed")
        return cls(*struct.unpack_from(f"={count}Q", data))

    @property
    def lost(self) -> int:
        """Packets that were steered to this socket and did not reach the application."""
        return self.rx_dropped + (self.rx_ring_full or 0)

    def explain(self) -> list[str]:
        """One line for each kind of loss or misuse that was counted: what it was, and what to do about it."""
        return [f"{getattr(self, name)} {words}" for name, words in _MEANINGS.items() if getattr(self, name)]

    def __add__(self, other: XskStatistics) -> XskStatistics:
        def add(name: str) -> int | None:
            one, two = getattr(self, name), getattr(other, name)
            return None if one is None and two is None else (one or 0) + (two or 0)

        return XskStatistics(*(add(field.name) for field in fields(self)))  # type: ignore[arg-type]


_MEANINGS = {
    "rx_dropped": (
        "packets dropped: larger than a frame (multi_buffer=True takes them in several), or than the frames that the "
        "fill ring had"
    ),
    "rx_ring_full": "packets dropped with the RX ring full: the application reads too slowly; raise rx_size",
    "rx_fill_ring_empty": (
        "times no frame was there to receive into: release frames sooner, or raise fill_size and frame_count"
    ),
    "rx_invalid_descs": "wrong addresses in the fill ring: outside the UMEM",
    "tx_invalid_descs": (
        "wrong descriptors in the TX ring: outside the UMEM, over a frame's end, or no room for TX metadata in front"
    ),
}  # tx_ring_empty is no loss: the kernel looked, and there was nothing to send
