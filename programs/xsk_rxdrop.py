"""Receive every packet of a device and drop it, a thread for each queue; how many came, when it ends.

sudo python programs/xsk_rxdrop.py DEV
"""

import sys
import time

from ebpfkit.xsk import XskGroup
from ebpfkit.xsk.socket import XskSocket
from ebpfkit.xsk.workers import Stop


def drop(sock: XskSocket, stop: Stop) -> None:
    while not stop.is_set():
        sock.release_batch(sock.receive_batch(256, timeout=0.1))  # descriptors in an array: no Python for each packet


def main(device: str) -> None:
    with XskGroup(device, frame_size=2048) as group:
        with group.threads(drop):
            print(f"dropping on {device}, queues {', '.join(map(str, group.queues))}; Ctrl-C ends", flush=True)
            try:
                time.sleep(1e9)
            except KeyboardInterrupt:
                pass
        lost = group.statistics()
        print(f"{sum(sock.counters.received for sock in group)} received, {lost.lost} lost", *lost.explain(), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1])
