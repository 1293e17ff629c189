"""Write the capture that `ebpfkit demo` runs on: a handful of frames that each take another way through the firewall.

python tools/make_demo_pcap.py ebpfkit/cli/demo_files/packets.pcap
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

MACS = bytes.fromhex("020000000002") + bytes.fromhex("020000000001")


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: str, protocol: int, payload: bytes, options: bytes = b"") -> bytes:
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x40 | (5 + len(options) // 4), 0, 20 + len(options) + len(payload), 1, 0, 64, protocol, 0,
        socket.inet_aton(source), socket.inet_aton("10.77.0.2"),
    ) + options  # fmt: skip
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return MACS + struct.pack("!H", 0x0800) + header + payload


def udp(port: int, data: bytes) -> bytes:
    return struct.pack("!HHHH", 40000, port, 8 + len(data), 0) + data


def frames() -> list[bytes]:
    ping = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"ebpfkit demo"
    ping = ping[:2] + struct.pack("!H", checksum(ping)) + ping[4:]
    tcp = struct.pack("!HHIIBBHHH", 40000, 443, 1, 0, 5 << 4, 2, 64240, 0, 0)
    return [
        ipv4("10.77.0.1", 1, ping),
        ipv4("10.77.0.1", 17, udp(53, b"a query")),
        ipv4("10.77.0.1", 17, udp(7007, b"echo, please")),
        ipv4("192.0.2.55", 17, udp(53, b"from a blocked network")),
        ipv4("198.51.100.7", 6, tcp),
        ipv4("198.51.100.8", 6, tcp),
        ipv4("10.77.0.1", 17, udp(7007, b"behind IPv4 options"), options=b"\x01" * 8),
        MACS + struct.pack("!H", 0x0806) + bytes(28),
        MACS + struct.pack("!H", 0x86DD) + bytes(40),
        MACS[:10],
    ]


def main(path: str) -> None:
    capture = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number, frame in enumerate(frames()):
        capture += struct.pack("<IIII", 1_700_000_000 + number, 0, len(frame), len(frame)) + frame
    Path(path).write_bytes(capture)


if __name__ == "__main__":
    main(sys.argv[1])
