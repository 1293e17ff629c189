"""Writing packets to a pcapng file (draft-ietf-opsawg-pcapng), and one line of text for each."""

from __future__ import annotations

import struct
import time
from typing import IO

__all__ = ["PcapngWriter", "describe_packet"]

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_ETHERNET = 1
_NANOSECONDS = struct.pack("=HHB3xHH", 9, 1, 9, 0, 0)  # if_tsresol: 10 to the -9; then the end of options
_TYPES = {0x0800: "IPv4", 0x0806: "ARP", 0x86DD: "IPv6", 0x8100: "VLAN"}


class PcapngWriter:
    """One interface of Ethernet, times in nanoseconds since 1970."""

    def __init__(self, stream: IO[bytes], *, snap_length: int = 65535) -> None:
        self._stream, self._snap = stream, snap_length
        self.packets = 0
        self._block(_SECTION, struct.pack("=IHHq", _BYTE_ORDER, 1, 0, -1))
        self._block(_INTERFACE, struct.pack("=HHI", _ETHERNET, 0, snap_length) + _NANOSECONDS)

    def write(self, packet: bytes, time_ns: int | None = None) -> None:
        """Add a packet; without a time it is now."""
        stamp = time.time_ns() if time_ns is None else time_ns
        kept = packet[: self._snap]
        head = struct.pack("=IIIII", 0, stamp >> 32, stamp & 0xFFFF_FFFF, len(kept), len(packet))
        self._block(_PACKET, head + kept + bytes(-len(kept) % 4))
        self.packets += 1

    def _block(self, kind: int, body: bytes) -> None:
        size = len(body) + 12
        self._stream.write(struct.pack("=II", kind, size) + body + struct.pack("=I", size))


def describe_packet(packet: bytes) -> str:
    """Addresses, type and length, in one line.

    >>> describe_packet(bytes.fromhex("ffffffffffff020000000001") + b"\\x08\\x06" + bytes(28))
    '02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff  ARP  42 bytes'
    """
    if len(packet) < 14:
        return f"{len(packet)} bytes, too short for Ethernet"
    kind = int.from_bytes(packet[12:14], "big")
    name = _TYPES.get(kind, f"{kind:#06x}")
    return f"{packet[6:12].hex(':')} > {packet[:6].hex(':')}  {name}  {len(packet)} bytes"
