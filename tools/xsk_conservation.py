"""Every packet accounted for: traffic over several queues while everything goes wrong that can.

A sender at the far end numbers its packets, processes at the near end send each back, and meanwhile the application
is stalled and resumed, the XDP program replaced, the peer taken down and up, a process killed and started again. At the
end injected = received + the drops that counters name, no packet came twice, and every frame is accounted for.

sudo python tools/xsk_conservation.py [--packets 2000000] [--queues 2]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.errors import XskError
from ebpfkit.kernel import netlink
from ebpfkit.loader import Collection
from ebpfkit.testing import VethLab
from ebpfkit.xsk import FrameOwner, XskGroup, XskSocket

BURST, WINDOW = 64, 192
SEQUENCE = 18  # byte offset of the packet's number
PACKET = np.frombuffer(b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5" + bytes(46), np.uint8)
RECEIVED, SENT, STALL, DOUBLED, KERNELS, MISSING = range(6)

# Counts every packet by queue, then hands it to the socket of its queue, or passes it on.
COUNTING = """
r6 = r1
r2 = *(u32 *)(r6 +16)
*(u32 *)(r10 -4) = r2
r2 = r10
r2 += -4
r1 = map[counts] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r1 = 1
lock *(u64 *)(r0 +0) += r1
r2 = *(u32 *)(r6 +16)
r1 = map[xsks_map] ll
r3 = 0
call bpf_redirect_map
exit
out:
r0 = 0
exit
"""


def counting_object() -> ObjectFile:
    maps = {"counts": MapSpec("counts", "array", 4, 8, 64), "xsks_map": MapSpec("xsks_map", "xskmap", 4, 4, 64)}
    program = ProgramSpec("count_redirect", "xdp", "xdp", tuple(parse(COUNTING)), license="GPL", maps=maps)
    return ObjectFile({"count_redirect": program}, maps)


def echo(sock: XskSocket, stop: Any, path: str, queues: int, total: int) -> None:
    """Mark each packet that came, and send it back. All that outlives a kill is in the file and in the rings.

    A packet is marked with its place in the RX ring: when it is seen again after a kill, at the same place, that is no
    second packet.
    """
    control, marks = open_records(path, queues, total)
    mine, seen = control[sock.queue], marks[sock.queue]
    umem, frame_size = sock.umem, np.uint64(sock.umem.frame_size)
    while not stop.is_set():
        if mine[STALL]:
            time.sleep(0.001)
            continue
        if not sock.wait(0.01):
            continue
        index, found = sock.rx.peek(BURST)
        batch = sock.rx.read(index, found)
        frames = umem.move(batch["addr"], FrameOwner.FILL, FrameOwner.USER)
        columns = (batch["addr"] % frame_size)[:, None] + np.arange(SEQUENCE, SEQUENCE + 4, dtype=np.uint64)
        numbers = umem.frames[frames[:, None], columns].view(np.uint32).ravel()
        places = (index + np.arange(found)).astype(np.uint32) + 1
        before = seen[numbers]
        mine[DOUBLED] += np.count_nonzero((before != 0) & (before != places))
        seen[numbers] = places
        sock.rx.release(found)
        mine[RECEIVED] = sock.rx.consumer_index.load()
        try:
            sock.send_batch(batch)
        except XskError:
            sock.umem.release(batch["addr"][umem.owners[frames] == FrameOwner.USER])
        mine[SENT] = sock.tx.producer_index.load()
        sock.refill()
    while not sock.drain(0.1):
        pass
    in_fill = umem.frames_of(sock.fill.unconsumed())
    mine[KERNELS] = umem.count(FrameOwner.FILL) - len(np.unique(in_fill))
    mine[MISSING] = umem.frame_count - umem.count(FrameOwner.FILL) - umem.count(FrameOwner.FREE)


def open_records(path: str, queues: int, total: int) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    control = np.memmap(path, np.uint64, "r+", 0, (queues, 8))
    marks = np.memmap(path, np.uint32, "r+", queues * 64, (queues, total))
    return control, marks


def dropped(ifname: str) -> int:
    """Packets that a device of the current namespace dropped on sending."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        (link,) = route.get_links(ifname=ifname)
        return int(link.get_attr("IFLA_STATS64")["tx_dropped"])


def set_link(ifname: str, state: str) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        route.link("set", index=netlink.find_device(ifname).index, state=state)


@dataclass
class Sender:
    """The far end of one queue: numbers packets, sends them, and checks off those that come back."""

    sock: XskSocket
    total: int
    sent: int = 0
    back: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    received: int = 0
    allowance: int = WINDOW

    def __post_init__(self) -> None:
        self.back = np.zeros(self.total, np.uint8)

    def send(self, *, push: bool = False) -> bool:
        """A burst, when not too many are under way; False when it could not send."""
        count = min(BURST, self.total - self.sent)
        if count <= 0 or (not push and self.sent - self.received > self.allowance):
            return False
        umem = self.sock.umem
        self.sock.reap()
        addresses = umem.allocate(count)
        count = len(addresses)
        if not count:
            return False
        frames = umem.frames_of(addresses)
        umem.frames[frames, : len(PACKET)] = PACKET
        numbers = np.arange(self.sent, self.sent + count, dtype=np.uint32)
        umem.frames[frames, SEQUENCE : SEQUENCE + 4] = numbers.view(np.uint8).reshape(-1, 4)
        batch = np.zeros(count, [("addr", np.uint64), ("len", np.uint32), ("options", np.uint32)])
        batch["addr"], batch["len"] = addresses, len(PACKET)
        # Once they are in the TX ring they count as injected, whether or not the device is up for them now.
        self.sent += count
        try:
            self.sock.send_batch(batch, timeout=5)
        except XskError:
            return False
        return True

    def receive(self) -> int:
        batch = self.sock.receive_batch(256)
        if len(batch):
            umem = self.sock.umem
            frames = umem.frames_of(batch["addr"])
            columns = (batch["addr"] % np.uint64(umem.frame_size))[:, None] + np.arange(
                SEQUENCE, SEQUENCE + 4, dtype=np.uint64
            )
            np.add.at(self.back, umem.frames[frames[:, None], columns].view(np.uint32).ravel(), 1)
            self.sock.release_batch(batch)
            self.received += len(batch)
        return len(batch)


class Rig:
    """Both ends, and what is done to them."""

    def __init__(self, undo: ExitStack, queues: int, total: int) -> None:
        self.queues, self.total = queues, total
        self.lab = undo.enter_context(VethLab(queues=queues))
        path = str(Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="ebpfkit-")), "records"))
        with open(path, "wb") as handle:
            handle.truncate(queues * (64 + 4 * total))
        self.control, self.marks = open_records(path, queues, total)
        with self.lab.near.enter():
            self.near = undo.enter_context(
                XskGroup(self.lab.near_dev, program=counting_object(), shareable=True, frame_size=2048)
            )
            self.workers = undo.enter_context(self.near.processes(echo, path, queues, total))
        with self.lab.far.enter():
            self.far = undo.enter_context(XskGroup(self.lab.far_dev, program=counting_object(), frame_size=2048))
        self.senders = [Sender(sock, total) for sock in self.far]
        self.counts = self.near.loaded.maps["counts"]
        self.done: list[str] = []

    def pump(self, until: int, *, push: bool = False, seconds: float = 60) -> None:
        """Send until each queue's packets up to `until` are out, or the time is over."""
        deadline = time.monotonic() + seconds
        idle = time.monotonic()
        while any(sender.sent < until for sender in self.senders) and time.monotonic() < deadline:
            moved = 0
            for sender in self.senders:
                if sender.sent < until:
                    moved += sender.send(push=push)
                moved += sender.receive()
            if moved:
                idle = time.monotonic()
            elif time.monotonic() - idle > 0.01:  # some were dropped: what is missing does not come any more
                for sender in self.senders:
                    sender.allowance = sender.sent - sender.received + WINDOW
                idle = time.monotonic()

    def settle(self, seconds: float = 0.2) -> None:
        """Wait until nothing moves any more."""
        quiet = time.monotonic()
        while time.monotonic() - quiet < seconds:
            for sender in self.senders:
                sender.sock.flush()
                if sender.receive():
                    quiet = time.monotonic()
            time.sleep(0.001)

    def stall(self) -> None:
        self.control[:, STALL] = 1
        ahead = min(self.total, max(sender.sent for sender in self.senders) + 4000)
        self.pump(ahead, push=True, seconds=1)
        self.control[:, STALL] = 0
        self.done.append("application stalled and resumed")

    def replace_program(self) -> None:
        maps = {"counts": self.counts, "xsks_map": self.near.map}
        with Collection.load(counting_object(), maps=maps) as other:
            self.near.link.update(other.programs["count_redirect"])
        self.done.append("program replaced")

    def peer_down_and_up(self) -> None:
        self.settle()
        with self.lab.far.enter():
            set_link(self.lab.far_dev, "down")
        for sender in self.senders:
            sender.send(push=True)  # refused: the frames wait in the TX ring
        with self.lab.far.enter():
            set_link(self.lab.far_dev, "up")
        self.settle()
        with self.lab.near.enter():
            set_link(self.lab.near_dev, "down")
        for sender in self.senders:
            sender.send(push=True)  # dropped by the device, which counts them
        self.settle()
        with self.lab.near.enter():
            set_link(self.lab.near_dev, "up")
        self.done.append("each end down and up")

    def kill_and_restart(self) -> None:
        process = self.workers.processes[0]
        assert process.pid is not None
        self.pump(min(self.total, self.senders[0].sent + 500), push=True, seconds=1)
        os.kill(process.pid, signal.SIGKILL)
        self.pump(min(self.total, self.senders[0].sent + 1000), push=True, seconds=1)
        with self.lab.near.enter():
            self.workers.restart(0)
        self.done.append("process killed with 9 and restarted")

    def report(self) -> dict[str, Any]:
        self.settle(0.5)
        lost = self.workers.statistics()
        self.workers.stop()
        far_lost = self.far.statistics()
        with self.lab.far.enter():
            forward = dropped(self.lab.far_dev)
        with self.lab.near.enter():
            backward = dropped(self.lab.near_dev)
        counted = sum(int.from_bytes(self.counts.get(queue.to_bytes(4, "little")), "little") for queue in range(64))
        far_counts = self.far.loaded.maps["counts"]
        back = sum(int.from_bytes(far_counts.get(queue.to_bytes(4, "little")), "little") for queue in range(64))
        return {
            "injected": sum(sender.sent for sender in self.senders),
            "dropped_on_the_way": forward,
            "seen_by_the_program": counted,
            "dropped_at_the_socket": lost.lost,
            "rx_ring_full": lost.rx_ring_full,
            "received": int(self.control[:, RECEIVED].sum()),
            "marked": int(np.count_nonzero(self.marks)),
            "sent_back": int(self.control[:, SENT].sum()),
            "dropped_on_the_way_back": backward,
            "seen_by_the_far_program": back,
            "dropped_at_the_far_socket": far_lost.lost,
            "came_back": sum(sender.received for sender in self.senders),
            "came_back_distinct": sum(int(np.count_nonzero(sender.back)) for sender in self.senders),
            "doubled": int(self.control[:, DOUBLED].sum()) + sum(int((s.back > 1).sum()) for s in self.senders),
            "frames_missing": int(self.control[:, MISSING].sum())
            + sum(s.sock.umem.count(FrameOwner.USER) for s in self.senders),
            "frames_in_the_kernels_hand": int(self.control[:, KERNELS].max()),
            "disturbances": self.done,
        }


def run(packets: int, queues: int = 2) -> dict[str, Any]:
    """`packets` over all queues, with every disturbance. The counts; `check` says whether they add up."""
    total = packets // queues
    with ExitStack() as undo:
        rig = Rig(undo, queues, total)
        started = time.monotonic()
        for part, disturb in enumerate((rig.stall, rig.replace_program, rig.peer_down_and_up, rig.kill_and_restart), 1):
            rig.pump(total * part // 5, seconds=600)
            disturb()
        rig.pump(total, seconds=600)
        found = rig.report()
        found["seconds"] = round(time.monotonic() - started, 1)
        return found


def check(found: dict[str, Any]) -> list[str]:
    """What does not add up: nothing, when all is well."""
    n = found.__getitem__
    laws = {
        "injected = seen by the program + dropped on the way": n("injected")
        == n("seen_by_the_program") + n("dropped_on_the_way"),
        "seen by the program = received + dropped at the socket": n("seen_by_the_program")
        == n("received") + n("dropped_at_the_socket"),
        "every received packet was marked": n("marked") == n("received"),
        "sent back = seen by the far program + dropped on the way back": n("sent_back")
        == n("seen_by_the_far_program") + n("dropped_on_the_way_back"),
        "seen by the far program = came back + dropped at the far socket": n("seen_by_the_far_program")
        == n("came_back") + n("dropped_at_the_far_socket"),
        "no packet twice": n("doubled") == 0 and n("came_back") == n("came_back_distinct"),
        "no frame lost": n("frames_missing") == 0 and n("frames_in_the_kernels_hand") <= 1,
    }
    return [law for law, holds in laws.items() if not holds]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=2_000_000)
    parser.add_argument("--queues", type=int, default=2)
    arguments = parser.parse_args()
    found = run(arguments.packets, arguments.queues)
    broken = check(found)
    print(json.dumps({**found, "broken": broken}, indent=2))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
