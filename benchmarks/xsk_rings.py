"""Compiled ring loops beside libxdp's inline functions in C, over rings in plain memory: no kernel, no devices.

    python benchmarks/xsk_rings.py [--turns 40] [--rounds 200] [--json]

Both sides do the same to rings of their own: drop, swap the MAC addresses and send back, look the source address up in
a hash table of 1,024 entries and count. The kernel's part is played between two calls and not timed. The two take
turns; the ratio is C's median time of a turn over ours, "C again" the same C a second time: the noise. Needs gcc and
libxdp-dev.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import ebpfkit as bpf
from ebpfkit import Packet, u64
from ebpfkit.net import ETH_P_IP, Ethernet, IPv4, IPv4Addr
from ebpfkit.xsk.loop import Loop, prepare_handler
from ebpfkit.xsk.loop_rings import RUN
from ebpfkit.xsk.ring import ADDRESS, DESCRIPTOR, ConsumerRing, ProducerRing
from ebpfkit.xsk.umem import Umem

LICENSE = "Dual MIT/GPL"
SOURCE = Path(__file__).parent / "c" / "xsk_rings.c"
FRAMES, FRAME_SIZE, RING, COUNT, FLOWS = 4096, 2048, 2048, 1024, 1024


class Count(bpf.Struct):
    packets: u64


seen = bpf.Hash[IPv4Addr, Count](max_entries=FLOWS)


@bpf.xdp(short=bpf.XDP_DROP)
def drop(pkt: Packet) -> bpf.XdpAction:
    return bpf.XDP_DROP


@bpf.xdp(short=bpf.XDP_DROP)
def forward(pkt: Packet) -> bpf.XdpAction:
    eth = pkt.read(Ethernet)
    kept = eth.dst
    eth.dst = eth.src
    eth.src = kept
    return bpf.XDP_TX


@bpf.xdp(short=bpf.XDP_DROP)
def lookup(pkt: Packet) -> bpf.XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP:
        return bpf.XDP_DROP
    flow = seen.get(pkt.read(IPv4).src)
    if flow is not None:
        flow.packets += 1
    return bpf.XDP_DROP


class Place(ctypes.Structure):
    """A ring in memory, as xsk_rings.c has it."""

    _fields_ = (
        ("producer", ctypes.c_void_p), ("consumer", ctypes.c_void_p), ("flags", ctypes.c_void_p),
        ("entries", ctypes.c_void_p), ("size", ctypes.c_uint32),
    )  # fmt: skip


class Places(ctypes.Structure):
    """The four rings and the memory of packets."""

    _fields_ = (
        ("rx", Place), ("fill", Place), ("tx", Place), ("completion", Place), ("umem", ctypes.c_void_p),
        ("frame_size", ctypes.c_uint32), ("length", ctypes.c_uint32),
    )  # fmt: skip


class Rings:
    """Four rings in memory of our own, around a UMEM that all sides use in turn: where it lies must not matter."""

    def __init__(self, umem: Umem) -> None:
        self.umem = umem
        self.memory: dict[str, bytearray] = {}
        self.places = Places(umem=self.umem.address, frame_size=FRAME_SIZE, length=60)
        self.rx = self._consumer("rx", DESCRIPTOR)
        self.completion = self._consumer("completion", ADDRESS)
        self.fill = self._producer("fill", ADDRESS)
        self.tx = self._producer("tx", DESCRIPTOR)

    def _memory(self, name: str, entry: Any) -> dict[str, Any]:
        self.memory[name] = bytearray(256 + RING * entry.itemsize)
        view = memoryview(self.memory[name])
        return {
            "memory": view,
            "entry": entry,
            "size": RING,
            "producer": 0,
            "consumer": 64,
            "flags": 128,
            "entries": 192,
        }

    def _consumer(self, name: str, entry: Any) -> ConsumerRing:
        ring = ConsumerRing(**self._memory(name, entry))
        self._note(name, ring)
        return ring

    def _producer(self, name: str, entry: Any) -> ProducerRing:
        ring = ProducerRing(**self._memory(name, entry))
        self._note(name, ring)
        return ring

    def _note(self, name: str, ring: ConsumerRing | ProducerRing) -> None:
        at = ring.places
        setattr(self.places, name, Place(at.producer, at.consumer, at.flags, at.entries, RING))


def packets() -> Umem:
    """A UMEM with packets of 1,024 sources in its frames."""
    umem, chance = Umem(FRAMES, FRAME_SIZE), random.Random(1)
    for row in umem.frames:
        packet = bytes(range(12)) + b"\x08\x00\x45" + bytes(11) + source(chance.randrange(FLOWS)) + bytes(30)
        row[256 : 256 + 60] = np.frombuffer(packet[:60], np.uint8)
    return umem


def source(number: int) -> bytes:
    """The address of a flow, as it is in the packet."""
    return (0x0A00_0000 + number * 7919).to_bytes(4, "big")


class Ours:
    """A compiled loop over such rings: what `Loop` needs of a socket, without one."""

    def __init__(self, handler: Any, umem: Umem) -> None:
        self.rings = rings = Rings(umem)
        rings.fill.produce(rings.umem.take_free(FRAMES // 2, 1))
        pool = SimpleNamespace(
            number=0, fill=rings.fill, completion=rings.completion, sent=0, completed=0, users=1, fd=None
        )
        rings.umem.pools[(0, 0, 0)] = pool  # type: ignore[assignment]
        opened = SimpleNamespace(fd=SimpleNamespace(fileno=lambda: 0), pool=pool, rx=rings.rx, tx=rings.tx)
        self.socket: Any = Socket(
            umem=rings.umem, sizes=SimpleNamespace(rx=RING, tx=RING), loop=None, multi_buffer=False, zero_copy=True,
            fill_target=FRAMES // 2, device=SimpleNamespace(index=1), queue=0, flush=lambda: 0, refill=lambda: 0,
            _check_open=lambda: opened, fileno=lambda: 0,
        )  # fmt: skip
        self.loop = Loop([self.socket], prepare_handler(handler, cpus=1))
        self.loop.attach()
        self.loop.limit(COUNT)
        words = self.loop.run_address
        self.call = (self.loop.entries["run"], words, rings.places, words + 8 * RUN["done"])


class Socket(SimpleNamespace):
    """Compared by identity, as sockets are."""

    __hash__ = object.__hash__


class C:
    """The same in C."""

    def __init__(self, library: ctypes.CDLL, name: str, umem: Umem) -> None:
        self.rings = Rings(umem)
        self.library = library
        self.state = library.state_new(ctypes.byref(self.rings.places), FRAMES, COUNT, FLOWS)
        for number in range(FLOWS):
            library.state_insert(self.state, number, int.from_bytes(source(number), "little"))
        loop = ctypes.cast(getattr(library, f"ring_{name}"), ctypes.c_void_p).value
        self.call = (loop, self.state, self.rings.places, None)


def build(folder: str) -> ctypes.CDLL:
    target = f"{folder}/xsk_rings.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", str(SOURCE), "-o", target, "-lxdp", "-lbpf"], check=True)
    library = ctypes.CDLL(target)
    library.state_new.restype = ctypes.c_void_p
    library.state_new.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32)
    library.state_insert.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)
    library.state_total.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
    library.state_total.restype = ctypes.c_uint64
    library.measure.argtypes = (
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32,
        ctypes.c_void_p,
    )  # fmt: skip
    return library


def turn(library: ctypes.CDLL, side: Ours | C, rounds: int) -> float:
    """Nanoseconds a packet, the median of the rounds."""
    loop, argument, places, done = side.call
    times = (ctypes.c_double * rounds)()
    library.measure(loop, argument, ctypes.byref(places), COUNT, done, rounds, times)
    return statistics.median(times) / COUNT


def compare(library: ctypes.CDLL, name: str, handler: Any, turns: int, rounds: int) -> dict[str, dict[str, float]]:
    """Median times and ratios of the three, turn by turn."""
    umem = packets()
    sides: dict[str, Ours | C] = {
        "C": C(library, name, umem), "compiled": Ours(handler, umem), "C again": C(library, name, umem)
    }  # fmt: skip
    times: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(turns + 2):
        for side in sides if number % 2 else reversed(list(sides)):
            took = turn(library, sides[side], rounds)
            if number >= 2:  # the first turns warm the caches
                times[side].append(took)
    if name == "lookup":
        ours, theirs = sum(int(v.packets) for v in seen.values()), library.state_total(sides["C"].state, FLOWS)
        assert ours == theirs == (turns + 2) * rounds * COUNT, (ours, theirs)
    found = {}
    for side, values in times.items():
        ratios = statistics.quantiles([c / v for c, v in zip(times["C"], values, strict=True)], n=4)
        found[side] = {
            "ns": statistics.median(values), "ratio": ratios[1], "spread": (ratios[2] - ratios[0]) / ratios[1]
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=200, help="calls of 1,024 packets a turn")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for number in range(FLOWS):
        seen[IPv4Addr(socket.inet_ntoa(source(number)))] = Count.zero()
    with tempfile.TemporaryDirectory() as folder:
        library = build(folder)
        found = {
            name: compare(library, name, handler, options.turns, options.rounds)
            for name, handler in (("drop", drop), ("forward", forward), ("lookup", lookup))
        }
    if options.json:
        json.dump(found, sys.stdout, indent=2)
        return
    print(f"{'':10}{'':10}{'ns/packet':>12}{'to C':>8}{'spread':>8}")
    for name, by_side in found.items():
        for side, row in by_side.items():
            print(f"{name:10}{side:10}{row['ns']:12.2f}{row['ratio']:8.3f}{row['spread']:8.1%}")


if __name__ == "__main__":
    main()
