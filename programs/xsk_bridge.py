"""Bridge two devices in native code: what comes in on one goes out on the other, uncopied, for both share one UMEM.

sudo python programs/xsk_bridge.py DEV DEV
"""

import sys
import time

import ebpfkit as bpf
from ebpfkit import Packet, u32
from ebpfkit.xsk import Umem, XskGroup, run

LICENSE = "Dual MIT/GPL"

ports = bpf.XskMap(max_entries=2)
other = bpf.Hash[u32, u32](max_entries=2)  # the port to go out on, by the device that a packet came in on


@bpf.xdp
def bridge(pkt: Packet) -> bpf.XdpAction:
    port = other.get(pkt.ingress_ifindex)
    if port is None:
        return bpf.XDP_DROP
    return ports.redirect(port, otherwise=bpf.XDP_DROP)


def main(one: str, two: str) -> None:
    umem = Umem(8192, 2048)
    with XskGroup(one, [0], umem=umem) as left, XskGroup(two, [0], umem=umem) as right:
        ports[0], ports[1] = left[0], right[0]
        other[left.device.index], other[right.device.index] = 1, 0
        with run([left[0], right[0]], bridge):
            print(f"bridging {one} and {two}; Ctrl-C ends", flush=True)
            try:
                time.sleep(1e9)
            except KeyboardInterrupt:
                print(f"{left[0].counters.received} to the right, {right[0].counters.received} to the left")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
