"""Capture what comes in on a device to a pcapng file, packets larger than a frame included.

The packets are taken: the network stack does not see them.

sudo python programs/xsk_capture.py DEV FILE [COUNT]
"""

import sys
import time

from ebpfkit.xsk import XskGroup
from ebpfkit.xsk.capture import PcapngWriter


def main(device: str, path: str, count: int) -> None:
    with open(path, "wb") as file, XskGroup(device, multi_buffer=True) as group:
        writer = PcapngWriter(file)
        print(f"capturing on {device}; Ctrl-C ends", flush=True)
        try:
            while writer.packets < count:
                for sock in group.wait():
                    now = time.time_ns()
                    for frame in sock.receive(0):
                        writer.write(bytes(frame), now)
        except KeyboardInterrupt:
            pass
        print(f"{writer.packets} packets, {group.statistics().lost} lost")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else sys.maxsize)
