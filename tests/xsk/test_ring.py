"""The rings over plain memory, with the kernel's side played by the test."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.errors import XskError
from ebpfkit.llvm.native import native_assembly
from ebpfkit.xsk import ordering
from ebpfkit.xsk.ordering import ORDERING_IR, NativeIndex, PlainIndex
from ebpfkit.xsk.ring import ADDRESS, DESCRIPTOR, ConsumerRing, ProducerRing

PRODUCER, CONSUMER, FLAGS, ENTRIES = 0, 64, 128, 192


class Memory:
    """A ring's shared memory, and the far side's view of it."""

    def __init__(self, size: int, start: int = 0, itemsize: int = 8) -> None:
        self.bytes = bytearray(ENTRIES + size * itemsize)
        self.size = size
        self.producer = self.consumer = start

    def __getattr__(self, name: str) -> int:
        places = {"producer": PRODUCER, "consumer": CONSUMER, "flags": FLAGS}
        if name not in places:
            raise AttributeError(name)
        return int(struct.unpack_from("=I", self.bytes, places[name])[0])

    def __setattr__(self, name: str, value: object) -> None:
        places = {"producer": PRODUCER, "consumer": CONSUMER, "flags": FLAGS}
        if name in places:
            struct.pack_into("=I", self.bytes, places[name], value)
        else:
            object.__setattr__(self, name, value)

    def entry(self, index: int) -> int:
        return int(struct.unpack_from("=Q", self.bytes, ENTRIES + index % self.size * 8)[0])

    def set_entry(self, index: int, value: int) -> None:
        struct.pack_into("=Q", self.bytes, ENTRIES + index % self.size * 8, value)

    def ring(self, kind: type[ProducerRing] | type[ConsumerRing]):  # type: ignore[no-untyped-def]
        return kind(
            memoryview(self.bytes), ADDRESS, self.size, producer=PRODUCER, consumer=CONSUMER, entries=ENTRIES,
            flags=FLAGS, name="test ring",
        )  # fmt: skip


def addresses(*values: int) -> np.ndarray:
    return np.array(values, ADDRESS)


@pytest.fixture(params=[PlainIndex, NativeIndex], ids=["plain", "native"])
def index_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type:
    """Both ways of ordering, whatever this machine's own is."""
    monkeypatch.setattr("ebpfkit.xsk.ring.shared_index", request.param)
    return request.param


@pytest.mark.usefixtures("index_kind")
def test_producing_step_by_step() -> None:
    memory = Memory(4)
    ring = memory.ring(ProducerRing)
    assert ring.free() == 4
    assert ring.reserve(3) == 0
    ring.write(0, addresses(10, 11, 12))
    assert memory.producer == 0  # the kernel sees nothing before submit
    ring.submit(2)
    assert memory.producer == 2 and [memory.entry(i) for i in range(3)] == [10, 11, 12]
    ring.submit(1)
    assert len(ring) == 3
    assert ring.reserve(2) is None and ring.free() == 1
    memory.consumer = 2  # the kernel took two
    assert ring.reserve(2) == 3
    ring.write(3, addresses(13, 14))
    ring.submit(2)
    assert memory.producer == 5 and memory.entry(4) == 14 and memory.entry(0) == 14


@pytest.mark.usefixtures("index_kind")
def test_consuming_step_by_step() -> None:
    memory = Memory(4)
    ring = memory.ring(ConsumerRing)
    assert ring.peek(4) == (0, 0)
    for index in range(3):
        memory.set_entry(index, 20 + index)
    memory.producer = 3
    assert ring.peek(2) == (0, 2)
    assert ring.read(0, 2).tolist() == [20, 21]
    assert memory.consumer == 0  # the kernel may not write there yet
    assert ring.peek(2) == (2, 1)
    ring.release(2)
    assert memory.consumer == 2
    ring.cancel(1)
    assert ring.peek(4) == (2, 1)
    ring.release(1)
    assert len(ring) == 0 and memory.consumer == 3


@pytest.mark.parametrize("start", [0, 1, 3, 0xFFFF_FFFE, 0xFFFF_FFFF])
@pytest.mark.usefixtures("index_kind")
def test_full_and_empty_across_the_wrap_of_slots_and_of_u32(start: int) -> None:
    memory = Memory(4, start)
    ring = memory.ring(ProducerRing)
    assert ring.produce(addresses(1, 2, 3, 4))
    assert memory.producer == (start + 4) & 0xFFFF_FFFF
    assert not ring.produce(addresses(5)) and ring.free() == 0
    reader = memory.ring(ConsumerRing)
    assert reader.consume(9).tolist() == [1, 2, 3, 4]
    assert reader.consume(9).tolist() == []
    assert ring.free() == 4 and ring.produce(addresses(5))
    assert reader.consume(1).tolist() == [5]


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from([1, 2, 8]),
    st.sampled_from([0, 5, 0xFFFF_FFFA]),
    st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60),
)
def test_what_goes_in_comes_out_once_and_in_order(size: int, start: int, moves: list[tuple[bool, int]]) -> None:
    memory = Memory(size, start)
    producer, consumer = memory.ring(ProducerRing), memory.ring(ConsumerRing)
    sent: list[int] = []
    received: list[int] = []
    for produces, count in moves:
        if produces:
            values = list(range(len(sent), len(sent) + count))
            fits = count <= size - (len(sent) - len(received))
            assert producer.produce(addresses(*values)) is fits
            sent += values if fits else []
        else:
            received += consumer.consume(count).tolist()
        assert len(producer) == len(consumer) == len(sent) - len(received)
    received += consumer.consume(size).tolist()
    assert received == sent


def test_descriptors_keep_all_their_fields() -> None:
    memory = Memory(2, itemsize=16)
    arguments = {"producer": PRODUCER, "consumer": CONSUMER, "entries": ENTRIES}
    ring = ProducerRing(memoryview(memory.bytes), DESCRIPTOR, 2, **arguments)
    ring.produce(np.array([(0x1100, 60, 1), (0x2100, 1514, 0)], DESCRIPTOR))
    assert struct.unpack_from("=QIIQII", memory.bytes, ENTRIES) == (0x1100, 60, 1, 0x2100, 1514, 0)
    reader = ConsumerRing(memoryview(memory.bytes), DESCRIPTOR, 2, **arguments)
    taken = reader.consume(2)
    memory.bytes[ENTRIES:] = bytes(32)  # a copy: what the kernel writes later does not show
    assert taken["addr"].tolist() == [0x1100, 0x2100] and taken["options"].tolist() == [1, 0]


def test_the_wakeup_flag_is_the_kernels() -> None:
    memory = Memory(2)
    ring = memory.ring(ProducerRing)
    assert not ring.needs_wakeup
    memory.flags = 1
    assert ring.needs_wakeup
    no_flags = ProducerRing(memoryview(memory.bytes), ADDRESS, 2, producer=PRODUCER, consumer=CONSUMER, entries=ENTRIES)
    assert not no_flags.needs_wakeup


def test_misuse_is_refused() -> None:
    with pytest.raises(XskError, match="no power of 2"):
        Memory(3).ring(ProducerRing)
    producer, consumer = Memory(4).ring(ProducerRing), Memory(4).ring(ConsumerRing)
    producer.reserve(1)
    with pytest.raises(XskError, match="2 entries of the test ring were submitted, but fewer are reserved"):
        producer.submit(2)
    with pytest.raises(XskError, match="fewer are reserved"):
        producer.cancel(2)
    with pytest.raises(XskError, match="fewer were peeked at"):
        consumer.release(1)
    with pytest.raises(XskError, match="fewer were peeked at"):
        consumer.cancel(1)
    damaged = Memory(4)
    ring = damaged.ring(ConsumerRing)
    damaged.producer = 9
    with pytest.raises(XskError, match="damaged"):
        ring.peek(1)


def test_a_detached_ring_is_empty_and_harmless() -> None:
    memory = Memory(4)
    ring = memory.ring(ProducerRing)
    ring.produce(addresses(1))
    ring.detach()
    memory.producer = 77
    assert len(ring) == 0 and ring.free() == 4 and not ring.needs_wakeup


@pytest.mark.parametrize(
    ("triple", "features", "load", "store"),
    [
        ("aarch64-linux-gnu", "", r"ldar\s+w0, \[x0\]", r"stlr\s+w1, \[x0\]"),
        ("x86_64-linux-gnu", "", r"movl\s+\(%rdi\), %eax", r"movl\s+%esi, \(%rdi\)"),
        ("riscv64-linux-gnu", "+a", r"fence\s+r, rw", r"fence\s+rw, w"),
    ],
)
def test_other_machines_get_real_acquire_and_release(triple: str, features: str, load: str, store: str) -> None:
    text = native_assembly(ORDERING_IR, triple, features=features)
    loading, storing = text.split("ebpfkit_store_release:")
    assert re.search(load, loading) and re.search(store, storing)


def test_this_machines_kind_of_index_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = memoryview(bytearray(4))
    for machine, kind in (
        ("x86_64", PlainIndex),
        ("AMD64", PlainIndex),
        ("aarch64", NativeIndex),
        ("riscv64", NativeIndex),
    ):
        monkeypatch.setattr(ordering.platform, "machine", lambda machine=machine: machine)
        assert type(ordering.shared_index(cell)) is kind
