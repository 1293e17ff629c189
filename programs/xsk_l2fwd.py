"""Send every packet back where it came from, with its MAC addresses exchanged, in native code.

sudo python programs/xsk_l2fwd.py DEV
"""

import sys
import time

import ebpfkit as bpf
from ebpfkit import Packet
from ebpfkit.net import Ethernet
from ebpfkit.xsk import XskGroup


@bpf.xdp(short=bpf.XDP_DROP)
def forward(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    eth.dst, eth.src = eth.src, eth.dst
    return bpf.XDP_TX


def main(device: str) -> None:
    with XskGroup(device, frame_size=2048) as group, group.run(forward) as running:
        print(f"sending back on {device}, queues {', '.join(map(str, group.queues))}; Ctrl-C ends", flush=True)
        try:
            time.sleep(1e9)
        except KeyboardInterrupt:
            print(f"{running.counters.sent} sent back, {group.statistics().lost} lost")


if __name__ == "__main__":
    main(sys.argv[1])
