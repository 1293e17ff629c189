"""Long captures stream: what is kept does not grow with the number of packets."""

from __future__ import annotations

import gc
import io
import struct
import sys

import pytest

from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.vm.machine import Machine
from ebpfkit.vm.pcap import PcapWriter, open_pcap

from .both import object_of

PACKET = bytes(range(64))


class Endless(io.RawIOBase):
    """A capture of `count` packets that is made as it is read."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.waiting = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, 1)
        self.record = struct.pack("<IIII", 1_700_000_000, 7, len(PACKET), len(PACKET)) + PACKET

    def read(self, size: int = -1) -> bytes:
        while len(self.waiting) < size and self.left:
            chunk = min(self.left, 64)
            self.waiting += self.record * chunk
            self.left -= chunk
        data, self.waiting = self.waiting[:size], self.waiting[size:]
        return data


class Nowhere(io.RawIOBase):
    """Takes everything and keeps nothing."""

    size = 0

    def write(self, data: object) -> int:
        self.size += len(data)  # type: ignore[arg-type]
        return len(data)  # type: ignore[arg-type]


FILTER = """
    *(u32 *)(r10 -4) = 1
    r1 = map[m] ll
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem#1
    if r0 == 0 goto out
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    out:
    r0 = 2
    exit
"""
CHURN = """
    call bpf_get_prandom_u32#7
    *(u32 *)(r10 -4) = r0
    *(u64 *)(r10 -16) = 1
    r1 = map[m] ll
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    call bpf_map_update_elem#2
    r1 = map[m] ll
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem#1
    r0 = 2
    exit
"""


@pytest.mark.parametrize(
    ("asm", "spec"),
    [("r0 = 2\nexit", None), (FILTER, MapSpec("m", "array", 4, 8, 4)), (CHURN, MapSpec("m", "lru_hash", 4, 8, 64))],
    ids=["nothing", "counts", "an LRU hash that always evicts"],
)
def test_memory_does_not_grow(asm: str, spec: MapSpec | None) -> None:
    count = 100_000 if spec is None else 20_000
    machine = Machine(object_of(asm, [spec])) if spec is not None else Machine(parse(asm))
    target = Nowhere()
    blocks = []
    with PcapWriter(target) as writer:  # type: ignore[arg-type]
        for number, packet in enumerate(open_pcap(Endless(count))):  # type: ignore[arg-type]
            writer.write(machine.run(packet.data).data, time_ns=packet.time_ns)
            if number in (count // 4, count - 1):
                gc.collect()
                blocks.append(sys.getallocatedblocks())
    assert target.size == 24 + count * (16 + len(PACKET))
    assert blocks[1] - blocks[0] < 3000  # addresses of map values are kept for a bounded number of them
