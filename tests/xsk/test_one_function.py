"""One function, one packet set: as an XDP program in the kernel, in the virtual machine, and compiled around the rings.

The kernel and the compiled loop get the packets over veth; what comes back, what is passed on and what the maps hold
afterwards are those of the virtual machine, packet by packet.
"""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import pytest

import ebpfkit as bpf
from ebpfkit import Packet, be16, u8, u32, u64
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import ObjectFile, ProgramSpec
from ebpfkit.llvm.native import native_assembly
from ebpfkit.loader import Collection
from ebpfkit.net import UDP, Ethernet, IPv4, IPv4Addr, decrement_ttl
from ebpfkit.testing import VethLab
from ebpfkit.xsk import XskGroup
from ebpfkit.xsk.loop import prepare_handler
from ebpfkit.xsk.loop_text import LoopText

LICENSE = "Dual MIT/GPL"
TYPE = 0x88B5
LOCAL = b"\x02\0\0\0\0\x02"


class Flow(bpf.Struct):
    packets: u64
    bytes: u64


flows = bpf.Hash[IPv4Addr, Flow](max_entries=64)
banned = bpf.LpmTrie[IPv4Addr, u8](max_entries=16)
verdicts = bpf.Array[u64](max_entries=8)
sizes = bpf.PerCpuArray[u64](max_entries=16)
recent = bpf.LruHash[be16, u32](max_entries=256)
answered = bpf.var(u64)


@bpf.xdp(short=bpf.XDP_DROP)
def gate(pkt: Packet) -> bpf.XdpAction:
    """Count and bar sources, send UDP to port 7 back with a lower TTL, tag what goes up, cut what is long."""
    eth = pkt.read(Ethernet)
    if eth.type != TYPE:
        return bpf.XDP_PASS
    ip = pkt.read(IPv4)
    source = ip.src
    flow = flows.get(source)
    if flow is None:
        flows[source] = Flow(packets=1, bytes=u64(len(pkt)))
    else:
        flow.packets += 1
        flow.bytes += u64(len(pkt))
    sizes[(len(pkt) >> 5) & 15] += 1
    if banned.get(source) is not None:
        verdicts[1] += 1
        return bpf.XDP_DROP
    if ip.protocol != 17:
        verdicts[2] += 1
        return bpf.XDP_PASS
    udp = pkt.read(UDP)
    seen = recent.get(udp.source)
    recent[udp.source] = u32(1) if seen is None else seen + 1
    if udp.dest != 7 or ip.ttl < 2:
        verdicts[2] += 1
        return bpf.XDP_PASS
    verdicts[3] += 1
    answered.value += 1
    decrement_ttl(ip)
    kept = ip.src
    ip.src = ip.dst
    ip.dst = kept
    port = udp.source
    udp.source = udp.dest
    udp.dest = port
    mac = eth.dst
    eth.dst = eth.src
    eth.src = mac
    if len(pkt) > 200:
        pkt.trim(16)
    return bpf.XDP_TX


MAPS = (flows, banned, verdicts, sizes, recent)


def packet_set() -> list[bytes]:
    """Packets of all kinds, cut short and broken at random too."""
    chance = random.Random(7)
    packets = []
    for _ in range(600):
        payload = chance.randbytes(chance.choice((0, 1, 18, 60, 180, 400)))
        udp = chance.choice((7, 7, 53)), 8 + len(payload)
        udp_bytes = (
            chance.randrange(1, 40).to_bytes(2, "big") + b"".join(n.to_bytes(2, "big") for n in (*udp, 0)) + payload
        )
        ihl = chance.choice((5, 5, 5, 6, 2))
        head = bytes([0x40 | ihl, 0]) + (20 + len(udp_bytes)).to_bytes(2, "big") + bytes(4)
        head += bytes([chance.choice((64, 2, 1)), chance.choice((17, 17, 17, 6))]) + chance.randbytes(2)
        head += bytes([10, chance.randrange(3), 0, chance.randrange(1, 20)]) + bytes([10, 9, 9, 9])
        frame = LOCAL + b"\x02\0\0\0\0\x01" + TYPE.to_bytes(2, "big") + head + bytes(max(0, ihl * 4 - 20)) + udp_bytes
        packets.append(frame[: chance.choice((len(frame), len(frame), len(frame), 16, 34, 38))])
    return packets


@dataclass
class Outcome:
    """What came back, what was passed on, and what the maps held."""

    back: Counter[bytes]
    passed: Counter[bytes]
    maps: dict[str, object]


def contents() -> dict[str, object]:
    """The maps in values that compare; per-CPU values summed; and the variable."""
    found: dict[str, object] = {facade.name: dict(facade.items()) for facade in (flows, banned, verdicts, recent)}
    found["flows"] = {str(k): (int(v.packets), int(v.bytes)) for k, v in flows.items()}
    found["sizes"] = [int(sizes.sum(n)) for n in range(16)]
    return {**found, "answered": int(answered.value)}


def reset() -> None:
    for facade in MAPS:
        facade.close()
    answered.value = 0
    banned["10.1.0.0/16"] = 1
    banned["10.1.0.7/32"] = 2


def in_the_vm(packets: list[bytes]) -> Outcome:
    reset()
    results = [gate.run(packet, on="interpreter") for packet in packets]
    back = Counter(bytes(r.data) for r in results if r.action == bpf.XDP_TX)
    passed = Counter(bytes(r.data) for r in results if r.action == bpf.XDP_PASS)
    return Outcome(back, passed, contents())


class Wire:
    """Both ends: raw sockets that send, and collect what arrives."""

    def __init__(self, lab: VethLab) -> None:
        self.lab = lab
        with lab.far.enter():
            self.far = self._open(lab.far_dev)
        with lab.near.enter():
            self.near = self._open(lab.near_dev)

    @staticmethod
    def _open(device: str) -> socket.socket:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(TYPE))
        opened.bind((device, TYPE))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        opened.setblocking(False)
        return opened

    def send(self, packets: list[bytes], handled: Callable[[], int]) -> None:
        """One after the other, each when the one before was handled: rings are short, and maps have an order."""
        for number, packet in enumerate(packets, 1):
            self.far.send(packet)
            end = time.monotonic() + 5
            while handled() < number:
                assert time.monotonic() < end, f"packet {number} did not arrive"

    @staticmethod
    def received(end: socket.socket) -> Counter[bytes]:
        time.sleep(0.05)
        found: Counter[bytes] = Counter()
        while True:
            try:
                data, (_, _, kind, _, _) = end.recvfrom(2048)
            except BlockingIOError:
                return found
            if kind != socket.PACKET_OUTGOING:
                found[data] += 1

    def close(self) -> None:
        self.far.close()
        self.near.close()


PASS_ALL = "r0 = 2\nexit"


def in_the_kernel(lab: VethLab, packets: list[bytes]) -> Outcome:
    # XDP_TX on veth wants a program at the other end too.
    spec = ProgramSpec("all", "xdp", "xdp", tuple(parse(PASS_ALL)), license="GPL", attach_type="xdp")
    reset()
    with closing(Wire(lab)) as wire, Collection.load(ObjectFile({"all": spec}, {})) as peer:
        with lab.far.enter():
            peer_link = peer.programs["all"].attach_xdp(lab.far_dev)
        with peer_link, lab.near.enter(), closing(gate.attach(lab.near_dev, "native")):
            wire.send(packets, lambda: len(packets))  # the softirq of each send runs the program before it returns
            return Outcome(wire.received(wire.far), wire.received(wire.near), contents())


def compiled(lab: VethLab, packets: list[bytes]) -> Outcome:
    reset()
    passed: Counter[bytes] = Counter()
    with (
        closing(Wire(lab)) as wire,
        lab.near.enter(),
        XskGroup(lab.near_dev, frame_size=2048) as group,
        group.run(gate) as running,
    ):

        def handled() -> int:
            passed.update(bytes(frame) for frame in running.receive(0))
            return running.counters.received

        wire.send(packets, handled)
        handled()
        return Outcome(wire.received(wire.far), passed, contents())


@pytest.mark.kernel
def test_kernel_vm_and_compiled_loop_agree_on_bytes_and_maps() -> None:
    packets = packet_set()
    wanted = in_the_vm(packets)
    assert len(wanted.back) > 40 and len(wanted.passed) > 40 and sum((wanted.back + wanted.passed).values()) < 550
    with VethLab() as lab:
        for executor in (in_the_kernel, compiled):
            got = executor(lab, packets)
            assert got.maps == wanted.maps, executor.__name__
            assert got.back == wanted.back, executor.__name__
            assert got.passed == wanted.passed, executor.__name__
    reset()


def test_on_arm64_rings_are_acquired_and_released() -> None:
    """RX, fill, TX and completion indices of the other side come by `ldar`, ours go by `stlr`: counted in the text."""
    reset()
    handler = prepare_handler(gate, cpus=1)
    text = native_assembly(LoopText(2048).text(handler.text, handler.verdicts), "aarch64-linux-gnu", features="+lse")
    run = text[text.index("\nrun:") :]
    acquired, released = (text.count(f"\t{name}\t") for name in ("ldar", "stlr"))
    assert acquired >= 8 and released >= 5, text
    assert "\tldar\tw" in run and "\tstlr\tw" in run
    assert "dmb" not in text  # no fences beside them
    reset()
