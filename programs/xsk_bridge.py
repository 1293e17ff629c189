"""Bridge two devices: what comes in on one goes out on the other, without a copy, for both share one UMEM.

sudo python programs/xsk_bridge.py DEV DEV
"""

import select
import sys

from ebpfkit.xsk import Umem, XskGroup


def main(one: str, other: str) -> None:
    umem = Umem(8192, 2048)
    with XskGroup(one, [0], umem=umem) as left, XskGroup(other, [0], umem=umem) as right:
        ways = {left[0].fileno(): (left[0], right[0]), right[0].fileno(): (right[0], left[0])}
        poller = select.poll()
        for number in ways:
            poller.register(number, select.POLLIN)
        print(f"bridging {one} and {other}; Ctrl-C ends", flush=True)
        try:
            while True:
                for number, _ in poller.poll():
                    source, target = ways[number]
                    target.send_batch(source.receive_batch())  # the frames change hands, the bytes stay where they are
        except KeyboardInterrupt:
            print(f"{left[0].counters.received} to the right, {right[0].counters.received} to the left")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
