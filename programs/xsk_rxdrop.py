"""Receive every packet of a device and drop it, in native code, a thread for each queue; how many came, when it ends.

sudo python programs/xsk_rxdrop.py DEV
"""

import sys
import time

import ebpfkit as bpf
from ebpfkit import Packet
from ebpfkit.xsk import XskGroup


@bpf.xdp(short=bpf.XDP_DROP)
def drop(pkt: Packet) -> bpf.XdpAction:
    return bpf.XDP_DROP


def main(device: str) -> None:
    with XskGroup(device, frame_size=2048) as group, group.run(drop) as running:
        print(f"dropping on {device}, queues {', '.join(map(str, group.queues))}; Ctrl-C ends", flush=True)
        try:
            time.sleep(1e9)
        except KeyboardInterrupt:
            lost = group.statistics()
            print(f"{running.counters.received} received, {lost.lost} lost", *lost.explain(), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1])
