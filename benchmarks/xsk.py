"""AF_XDP in packets a second: receive, send and echo over veth, copy mode, beside the same in C on libxdp.

    sudo python benchmarks/xsk.py [--rounds 30] [--burst 1024] [--modes receive send echo] [--json]

Compiled loops around handlers, batches of numpy descriptors, and frame by frame. A closed loop on one CPU: a burst of
packets is put on the wire, then only the application's part is timed until all are
through. Every implementation takes its turn within a round, so that the ratios are paired; "C again" is the same C a
second time and shows the noise. Ratios are of CPU time (the kernel's part of a send included), since other work on the
machine only adds to the clock. Absolute figures are of this machine and minute. Without gcc and libxdp-dev the column
of C is left out, with a line that says so.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import ebpfkit as bpf
from ebpfkit import Packet
from ebpfkit.loader import Collection
from ebpfkit.net import Ethernet
from ebpfkit.testing import VethLab
from ebpfkit.xsk import DESCRIPTOR, XskGroup, XskSocket, redirect_object
from ebpfkit.xsk.loop import Loop, prepare_handler

TWIN = Path(__file__).parent / "c" / "xsk_twin.c"
ETHERTYPE = b"\x88\xb5"
PACKET = (
    b"\x02" + bytes(10) + b"\x01" + ETHERTYPE + bytes(46)
)  # 60 bytes to a foreign address: the far stack drops them
MODES = ["receive", "send", "echo"]
BATCH = 256  # of our batches; C and the compiled loop take 64
WARM = 64  # packets before the timed ones: an application does not start anew for each burst
Action = Callable[[int], tuple[float, float] | None]  # what it took, where the action times itself
Samples = dict[str, list[tuple[float, float]]]
Rows = dict[str, tuple["Rig", Action, Callable[[], int]]]


class Python:
    """Our library's plain and batch interfaces over one socket."""

    def __init__(self, lab: VethLab) -> None:
        with lab.near.enter():
            self.group = XskGroup(lab.near_dev, mode="copy", frame_size=2048)
        self.sock = self.group[0]
        frames = self.sock.umem.frames
        # What a sender does once: the packet into every frame.
        for row in range(len(frames)):
            frames[row, : len(PACKET)] = np.frombuffer(PACKET, np.uint8)

    def close(self) -> None:
        self.group.close()

    def receive_frames(self, count: int) -> None:
        while count > 0:
            for frame in self.sock.receive(0, count=min(64, count)):
                count -= len(frame) > 0

    def receive_batches(self, count: int) -> None:
        while count > 0:
            batch = self.sock.receive_batch(min(BATCH, count))
            self.sock.release_batch(batch)
            count -= len(batch)

    def send_frames(self, count: int) -> None:
        sock = self.sock
        for number in range(count):
            sock.send(PACKET, flush=number % BATCH == BATCH - 1)
        sock.drain()

    def send_batches(self, count: int) -> None:
        sock = self.sock
        while count > 0:
            addresses = sock.umem.allocate(min(BATCH, count))
            batch = np.zeros(len(addresses), DESCRIPTOR)
            batch["addr"], batch["len"] = addresses, len(PACKET)
            sock.send_batch(batch)
            sock.reap()
            count -= len(batch)
        sock.drain()

    def echo_frames(self, count: int) -> None:
        while count > 0:
            for frame in self.sock.receive(0, count=min(64, count)):
                data = frame.data
                data[0:6], data[6:12] = bytes(data[6:12]), bytes(data[0:6])
                frame.send()
                count -= 1
        self.sock.drain()

    def echo_batches(self, count: int) -> None:
        sock = self.sock
        # Two bytes at a time: received packets start at even addresses.
        swapped, straight = np.array([3, 4, 5, 0, 1, 2]), np.arange(6)
        flat = sock.umem.frames.reshape(-1).view(np.uint16)
        while count > 0:
            batch = sock.receive_batch(min(BATCH, count))
            starts = (batch["addr"].view(np.int64) >> 1)[:, None]
            flat[starts + straight] = flat[starts + swapped]
            sock.send_batch(batch)
            count -= len(batch)
        sock.drain()


@bpf.xdp(short=bpf.XDP_DROP)
def drop(pkt: Packet) -> bpf.XdpAction:
    return bpf.XDP_DROP


@bpf.xdp(short=bpf.XDP_DROP)
def turn_around(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    kept = eth.dst
    eth.dst = eth.src
    eth.src = kept
    return bpf.XDP_TX


class Compiled:
    """One compiled loop over a socket of its own."""

    def __init__(self, lab: VethLab, mode: str) -> None:
        with lab.near.enter():
            if mode == "send":  # few frames stay in the cache
                self.closing: Any = XskSocket(lab.near_dev, mode="copy", frame_size=2048, rx_size=0, frame_count=256)
            else:
                self.closing = XskGroup(lab.near_dev, mode="copy", frame_size=2048)
        self.sock: XskSocket = self.closing if mode == "send" else self.closing[0]
        handler = {"receive": drop, "echo": turn_around, "send": None}[mode]
        self.sock.umem.frames[:, : len(PACKET)] = np.frombuffer(PACKET, np.uint8)
        self.loop = Loop([self.sock], None if handler is None else prepare_handler(handler, cpus=1))
        self.loop.attach()

    def close(self) -> None:
        self.loop.detach()
        self.loop.close()
        self.closing.close()

    def available(self) -> int:
        return len(self.sock.rx)

    def action(self, mode: str, library: ctypes.CDLL | None) -> Action:
        """Packets through the loop until all are back; timed in C where there is a compiler."""
        if library is None:
            return self.send if mode == "send" else self.serve
        loop, entries = self.loop, self.loop.entries
        (sock,), run = loop.places, loop.run_address
        drain = Call(entries["drain"], sock, run)

        def act(count: int) -> tuple[float, float]:
            loop.limit(count)
            if mode == "send":
                return timed(library, Call(entries["generate"], sock, run, count, len(PACKET)), drain)
            turn = Call(entries["run"], run)
            return timed(library, turn) if mode == "receive" else timed(library, turn, drain)

        return act

    def serve(self, count: int) -> None:
        self.loop.turn(count)
        self.loop.drain()

    def send(self, count: int) -> None:
        self.loop.generate(count, len(PACKET))
        self.loop.drain()


class Twin:
    """The same in C on libxdp, in this process."""

    def __init__(self, lab: VethLab, library: ctypes.CDLL) -> None:
        self.library = library
        with lab.near.enter():
            self.collection = Collection.load(redirect_object())
            self.link = self.collection.programs["xsk_def_prog"].attach_xdp(lab.near_dev)
            self.handle = library.twin_open(lab.near_dev.encode(), 0, self.collection.maps["xsks_map"].fileno())
        if not self.handle:
            raise SystemExit("the C twin could not open its socket")
        library.twin_fill(self.handle, PACKET, len(PACKET))

    def close(self) -> None:
        self.link.close()
        self.library.twin_close(self.handle)
        self.collection.close()

    def available(self) -> int:
        return int(self.library.twin_available(self.handle))

    def action(self, name: str) -> Action:
        """The function of that name, timed in C."""
        function = ctypes.cast(getattr(self.library, name), ctypes.c_void_p).value
        return lambda count: timed(self.library, Call(function, self.handle, count))


class Call(ctypes.Structure):
    """A call of native code: function and arguments."""

    _fields_ = (
        ("function", ctypes.c_void_p), ("first", ctypes.c_void_p), ("second", ctypes.c_void_p),
        ("third", ctypes.c_ulong), ("fourth", ctypes.c_ulong),
    )  # fmt: skip


def timed(library: ctypes.CDLL, *calls: Call) -> tuple[float, float]:
    """Seconds of the calls by the clock and of CPU time, without Python's part: caches are cold, and that is much."""
    result = (ctypes.c_double * 2)()
    library.twin_clock((Call * len(calls))(*calls), len(calls), result)
    return result[0], result[1]


def build_twin(folder: str) -> ctypes.CDLL | None:
    if shutil.which("gcc") is None:
        return None
    target = f"{folder}/xsk_twin.so"
    built = subprocess.run(
        ["gcc", "-O2", "-shared", "-fPIC", str(TWIN), "-o", target, "-lxdp", "-lbpf"], capture_output=True, check=False
    )
    if built.returncode:
        return None
    library = ctypes.CDLL(target)
    library.twin_open.restype = ctypes.c_void_p
    library.twin_open.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_int)
    library.twin_close.argtypes = library.twin_available.argtypes = (ctypes.c_void_p,)
    library.twin_fill.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint)
    library.twin_clock.argtypes = (ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p)
    return library


class Rig:
    """A veth pair of its own for one implementation, and the far end that puts bursts on the wire."""

    def __init__(self) -> None:
        self.lab = VethLab()
        with self.lab.far.enter():
            self.far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # sends only
            self.far.bind((self.lab.far_dev, 0))

    def inject(self, count: int, available: Callable[[], int]) -> None:
        """At least `count` packets into the RX ring; the wire has a short queue and gets time in between."""
        for _ in range(1000):
            before = available()
            missing = count - before
            if missing <= 0:
                return
            step = min(missing, 128)
            for _ in range(step):
                self.far.send(PACKET)
            patience = time.perf_counter() + 0.05
            while available() < before + step and time.perf_counter() < patience:
                time.sleep(0.0002)  # the kernel may want this CPU for it
        raise SystemExit(f"{missing} of {count} packets do not arrive")

    def close(self) -> None:
        self.far.close()
        self.lab.close()


@contextmanager
def implementations(library: ctypes.CDLL | None, chosen: list[str]) -> Iterator[dict[str, Rows]]:
    """What to measure: by mode, by name: where, and how. One veth pair each, so that nobody's frames mix."""
    rigs = [Rig()]
    ours = Python(rigs[0].lab)
    modes: dict[str, Rows] = {
        mode: {
            "frames": (rigs[0], getattr(ours, f"{mode}_frames"), ours.sock.rx.available),
            "batches": (rigs[0], getattr(ours, f"{mode}_batches"), ours.sock.rx.available),
        }
        for mode in chosen
    }
    compiled = []
    for mode, rows in modes.items():
        rigs.append(Rig())
        compiled.append(one := Compiled(rigs[-1].lab, mode))
        modes[mode] = {"compiled": (rigs[-1], one.action(mode, library), one.available), **rows}
    twin = None
    if library is not None:
        rigs.append(Rig())
        twin = Twin(rigs[-1].lab, library)
        for mode, rows in modes.items():
            row = (rigs[-1], twin.action(f"twin_{mode}"), twin.available)
            cycling = {"C, all frames": (rigs[-1], twin.action("twin_send_cycling"), twin.available)}
            modes[mode] = {"C": row, **rows, "C again": row, **(cycling if mode == "send" else {})}
    try:
        yield modes
    finally:
        ours.close()
        for one in compiled:
            one.close()
        if twin is not None:
            twin.close()
        for rig in rigs:
            rig.close()


def measure(rows: Rows, mode: str, rounds: int, burst: int) -> Samples:
    """Seconds a packet, by the clock and of CPU time, of each implementation, round by round."""
    samples: Samples = {name: [] for name in rows}
    order = list(rows)
    for number in range(rounds + 2):
        for name in order if number % 2 else reversed(order):
            rig, action, available = rows[name]
            if mode != "send":
                rig.inject(WARM + burst, available)
            action(WARM)
            wall, cpu = time.perf_counter(), time.thread_time()
            took = action(burst)
            wall, cpu = took or (time.perf_counter() - wall, time.thread_time() - cpu)
            if number >= 2:  # the first rounds warm the caches
                samples[name].append((wall / burst, cpu / burst))
    return samples


def summary(values: list[float]) -> dict[str, float]:
    """Median, and spread: the middle half's width over the median."""
    quarters = statistics.quantiles(values, n=4)
    return {"median": quarters[1], "spread": (quarters[2] - quarters[0]) / quarters[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--burst", type=int, default=1024, help="packets a round, at most 1984: the fill ring has 2048")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not 1 <= options.burst <= 1984 or options.rounds < 2:
        parser.error("--burst is 1 to 1984, --rounds at least 2")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        library = build_twin(folder)
        if library is None:
            print("no column of C: that needs gcc and libxdp-dev", file=sys.stderr)
        with implementations(library, options.modes) as modes:
            for mode, rows in modes.items():
                samples = measure(rows, mode, options.rounds, options.burst)
                found[mode] = {
                    name: {
                        "packets_per_second": summary([1 / wall for wall, _ in values]),
                        "cpu_ns_per_packet": summary([cpu * 1e9 for _, cpu in values]),
                    }
                    for name, values in samples.items()
                }
                if library is not None:
                    for name, values in samples.items():
                        paired = [c[1] / v[1] for c, v in zip(samples["C"], values, strict=True)]
                        found[mode][name]["speed_to_c"] = summary(paired)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{'':20}{'packets/s':>14}{'spread':>8}{'CPU ns/packet':>15}{'spread':>8}{'to C':>8}{'spread':>8}")
    for mode, by_name in found.items():
        for name, row in by_name.items():
            shown = f"{row['packets_per_second']['median']:14,.0f}{row['packets_per_second']['spread']:8.0%}"
            shown += f"{row['cpu_ns_per_packet']['median']:15,.0f}{row['cpu_ns_per_packet']['spread']:8.0%}"
            if ratio := row.get("speed_to_c"):
                shown += f"{ratio['median']:8.3f}{ratio['spread']:8.0%}"
            print(f"{mode:10}{name:10}{shown}")


if __name__ == "__main__":
    main()
