"""Send numbered UDP packets at a steady rate: each has its number and its time of sending in the payload.

sudo python programs/xsk_generator.py DEV DST_MAC DST_IP RATE COUNT
"""

import struct
import sys
import time

from ebpfkit.xsk import XskSocket

SOURCE_MAC, SOURCE_IP = b"\x02\x00\x00\x00\x00\x01", bytes([192, 0, 2, 1])  # 192.0.2.0/24 is for documentation
BURST = 32


def header(mac: bytes, address: bytes, size: int) -> bytes:
    """Ethernet, IPv4 and UDP (without a checksum, which IPv4 allows) for `size` bytes of payload to port 9."""
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + size, 0, 0, 64, 17, 0, SOURCE_IP, address)
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)
    return mac + SOURCE_MAC + b"\x08\x00" + ip[:10] + checksum + ip[12:] + struct.pack("!HHHH", 9, 9, 8 + size, 0)


def main(device: str, mac: str, address: str, rate: float, count: int) -> None:
    head = header(bytes.fromhex(mac.replace(":", "")), bytes(int(part) for part in address.split(".")), 18)
    with XskSocket(device, rx_size=0, frame_size=2048) as sock:
        start, sent = time.monotonic(), 0
        while sent < count:
            due = min(count, int((time.monotonic() - start) * rate) + 1)
            for number in range(sent, min(due, sent + BURST)):
                payload = struct.pack("!QQ2x", number, time.time_ns())
                sock.send(head + payload, flush=False)
                sent += 1
            sock.flush()
            if sent == due < count:
                time.sleep(max(0.0, sent / rate - (time.monotonic() - start)))  # until the next one is due
        sock.drain(5)
        seconds = time.monotonic() - start
        print(f"{sock.counters.completed} sent in {seconds:.3f} s, {sent / seconds:,.0f} a second")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5]))
