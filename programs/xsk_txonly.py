"""Send one packet over and over, as fast as it goes, from queue 0 of a device.

sudo python programs/xsk_txonly.py DEV [COUNT]
"""

import sys
import time

import numpy as np

from ebpfkit.xsk import DESCRIPTOR, XskSocket

PACKET = (b"\xff" * 6 + b"\x02\x00\x00\x00\x00\x01" + b"\x88\xb5").ljust(64, b"\0")  # EtherType for experiments


def main(device: str, count: int) -> None:
    # Few frames stay in the cache, and without an RX ring all of them are for sending.
    with XskSocket(device, rx_size=0, frame_count=256, frame_size=2048) as sock:
        sock.umem.frames[:, : len(PACKET)] = np.frombuffer(
            PACKET, np.uint8
        )  # every frame holds the packet, written once
        start, left = time.monotonic(), count
        while left:
            sock.reap()
            batch = np.zeros(min(left, len(sock.umem), 64), DESCRIPTOR)
            batch["addr"], batch["len"] = sock.umem.allocate(len(batch)), len(PACKET)
            sock.send_batch(batch)
            left -= len(batch)
        sock.drain(5)
        rate = count / (time.monotonic() - start)
        print(f"{sock.counters.completed} sent, {rate:,.0f} a second")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
