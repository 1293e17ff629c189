"""Send every packet back where it came from, with its MAC addresses exchanged: whole batches at once, in numpy.

sudo python programs/xsk_l2fwd.py DEV
"""

import sys

import numpy as np

from ebpfkit.xsk import XskGroup


def main(device: str) -> None:
    with XskGroup(device, frame_size=2048) as group:
        print(f"sending back on {device}, queues {', '.join(map(str, group.queues))}; Ctrl-C ends", flush=True)
        try:
            while True:
                for sock in group.wait():
                    batch = sock.receive_batch(256)
                    addresses = sock.umem.gather(batch["addr"], 0, 12)  # a row of 12 bytes for each packet
                    sock.umem.scatter(batch["addr"], 0, np.roll(addresses, 6, axis=1))
                    sock.send_batch(batch)
        except KeyboardInterrupt:
            print(f"{sum(sock.counters.sent for sock in group)} sent back, {group.statistics().lost} lost")


if __name__ == "__main__":
    main(sys.argv[1])
