"""What travels with a packet: requests to the driver in front of one to be sent, and what an XDP program left in front
of one that was received.

The layout is the kernel's struct xsk_tx_metadata (Documentation/networking/xsk-tx-metadata.rst). What an XDP program
writes is its own affair: both sides agree on it.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, NamedTuple

from ebpfkit.abi import uapi
from ebpfkit.errors import UsageError
from ebpfkit.kernel.xdp_socket import TxMetadata

if TYPE_CHECKING:
    from ebpfkit.xsk.umem import Umem

__all__ = ["TxTimestamp", "read_timestamp", "write_request"]


class TxTimestamp(NamedTuple):
    """When a packet left, in nanoseconds: the NIC's clock, or (copy mode) the system's TAI clock at completion; 0 when
    the driver gave none. `tag` is the caller's."""

    tag: int
    time_ns: int


def write_request(
    umem: Umem, address: int, *, checksum: tuple[int, int] | None, timestamp: bool, launch_time: int | None
) -> None:
    """Put a request in front of the packet at `address`. Raises UsageError where the UMEM has no room kept for it."""
    size = umem.tx_metadata_size
    if not size:
        raise UsageError("requests to the driver need room in front of packets: make the UMEM with tx_metadata=True")
    if address % umem.frame_size < size:
        raise UsageError(
            f"there are no {size} bytes for a request in front of this packet; it starts too early in its frame"
        )
    flags = (
        (uapi.XDP_TXMD_FLAGS_CHECKSUM if checksum is not None else 0)
        | (uapi.XDP_TXMD_FLAGS_TIMESTAMP if timestamp else 0)
        | (uapi.XDP_TXMD_FLAGS_LAUNCH_TIME if launch_time is not None else 0)
    )
    start, offset = checksum or (0, 0)
    if not 0 <= start <= 0xFFFF or not 0 <= offset <= 0xFFFF:
        raise UsageError(f"a checksum's start and offset are 16-bit numbers of bytes, not {start} and {offset}")
    request = TxMetadata(flags, start, offset, launch_time or 0)
    umem.memory[address - size : address] = bytes(request)


def read_timestamp(umem: Umem, address: int, tag: int) -> TxTimestamp:
    """What the kernel left in front of a packet whose time of sending was asked for, once it is back."""
    at = address - umem.tx_metadata_size + ctypes.sizeof(ctypes.c_uint64)
    return TxTimestamp(tag, int.from_bytes(umem.memory[at : at + 8], "little" if _LITTLE else "big"))


_LITTLE = ctypes.c_uint16.from_buffer_copy(b"\1\0").value == 1
