"""In-memory stores where there is no kernel to ask: live cells, per-CPU values, data maps, rings, and completeness."""

from __future__ import annotations

import errno

import pytest

from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MapError, MapKeyError, NotSupported
from ebpfkit.maps import memory
from ebpfkit.maps.memory import create_store, store_by_id
from ebpfkit.maps.store import BPF_EXIST, BPF_NOEXIST, MapStore


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def spec(type: str, key: int = 4, value: int = 8, entries: int = 4, **more: object) -> MapSpec:
    return MapSpec("m", type, key, value, entries, **more)  # type: ignore[arg-type]


def test_every_map_type_is_either_here_or_refused_with_a_reason() -> None:
    here, refused = set(memory.STORES), set(memory.UNSUPPORTED)
    assert not here & refused
    assert set(MAP_TYPES) - {"unspec"} <= here | refused
    assert here <= set(MAP_TYPES)


@pytest.mark.parametrize("type", sorted(memory.UNSUPPORTED))
def test_refused_types_name_themselves(type: str) -> None:
    with pytest.raises(NotSupported, match=type):
        create_store(spec(type))


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(NotSupported, match="no such map type"):
        create_store(spec("hashh"))


@pytest.mark.parametrize("type", ["hash", "array", "lru_hash"])
def test_the_live_cell_is_one_object(type: str) -> None:
    store = create_store(spec(type))
    assert isinstance(store, MapStore)
    store.set(u32(1), b"A" * 8)
    cell = store.lookup(u32(1))
    assert cell is not None and store.lookup(u32(1)) is cell
    cell[0] = 0x43
    assert store.get(u32(1)) == b"CAAAAAAA"
    store.set(u32(1), b"B" * 8)
    assert store.get(u32(1)) == b"B" * 8
    assert (bytes(cell) == b"B" * 8) == (type == "array")  # hashes put a new element in place of the old


def test_reads_are_copies() -> None:
    store = create_store(spec("array"))
    before = store.get(u32(0))
    store.set(u32(0), b"x" * 8)
    assert before == bytes(8)


@pytest.mark.parametrize("type", ["percpu_hash", "percpu_array", "lru_percpu_hash"])
def test_per_cpu_values(type: str) -> None:
    store = create_store(spec(type, value=3), cpus=3)
    assert store.value_bytes == 24
    assert store.update(u32(2), b"abc", 0, cpu=1) == 0
    assert store.get(u32(2)) == bytes(8) + b"abc".ljust(8, b"\0") + bytes(8)
    store.set(u32(2), b"".join(c * 3 + bytes(5) for c in (b"x", b"y", b"z")))
    cells = [store.lookup(u32(2), cpu) for cpu in range(3)]
    assert [bytes(cell or b"") for cell in cells] == [b"xxx", b"yyy", b"zzz"]
    with pytest.raises(MapError) as caught:
        store.set(u32(2), b"abc")
    assert caught.value.errno == errno.EINVAL


def test_lru_forgets_what_programs_used_longest_ago() -> None:
    store = create_store(spec("lru_hash", entries=3))
    for i in range(3):
        store.set(u32(i), bytes(8))
    store.lookup(u32(0))
    store.set(u32(3), bytes(8))
    assert list(store.keys()) == [u32(2), u32(0), u32(3)]
    assert store.get(u32(2)) is not None  # a read from user space is no use
    store.set(u32(4), bytes(8))
    assert set(store.keys()) == {u32(0), u32(3), u32(4)}


def test_lpm_longest_prefix() -> None:
    store = create_store(spec("lpm_trie", key=8, flags=1))
    key = lambda length, *parts: u32(length) + bytes(parts)  # noqa: E731
    for length, name in [(0, b"default."), (8, b"ten....."), (24, b"ten.1.2.")]:
        store.set(key(length, 10, 1, 2, 0), name)
    assert store.get(key(32, 10, 1, 2, 3)) == b"ten.1.2."
    assert store.get(key(32, 10, 1, 3, 3)) == b"ten....."
    assert store.get(key(32, 11, 1, 2, 3)) == b"default."
    assert store.get(key(16, 10, 1, 2, 3)) == b"ten....."
    store.delete(key(24, 10, 1, 2, 99))
    assert store.get(key(32, 10, 1, 2, 3)) == b"ten....."
    store.delete(key(0, 0, 0, 0, 0))
    assert store.get(key(32, 11, 1, 2, 3)) is None


def test_errors_are_typed() -> None:
    store = create_store(spec("hash", entries=1))
    with pytest.raises(MapKeyError):
        store.delete(u32(1))
    with pytest.raises(KeyError):
        store.set(u32(1), bytes(8), BPF_EXIST)
    store.set(u32(1), bytes(8))
    for key, flags, code in [(1, BPF_NOEXIST, errno.EEXIST), (2, 0, errno.E2BIG), (1, 99, errno.EINVAL)]:
        with pytest.raises(MapError) as caught:
            store.set(u32(key), bytes(8), flags)
        assert caught.value.errno == code
    for key, value in [(b"abc", bytes(8)), (u32(1), bytes(7))]:
        with pytest.raises(MapError, match="bytes, not"):
            store.set(key, value)


def test_data_maps_start_with_their_data() -> None:
    store = create_store(spec("array", value=12, entries=1, data=b"hello", frozen=True))
    assert store.get(u32(0)) == b"hello" + bytes(7)
    store.set(u32(0), b"x" * 12)  # until it is frozen, user space may set variables
    store.freeze()
    with pytest.raises(MapError) as caught:
        store.set(u32(0), bytes(12))
    assert caught.value.errno == errno.EPERM


def test_initial_contents() -> None:
    store = create_store(spec("hash", contents=((u32(7), b"12345678"),)))
    assert list(store.items()) == [(u32(7), b"12345678")]
    assert store.set_many([(u32(1), bytes(8)), (u32(2), bytes(8))]) == 2
    assert len(store) == 3


def test_a_huge_array_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(MapError) as caught:
        create_store(spec("array", value=1 << 20, entries=1 << 20))
    assert caught.value.errno == errno.ENOMEM


def test_queue_and_stack() -> None:
    for type, first in (("queue", b"1"), ("stack", b"3")):
        store = create_store(spec(type, key=0, value=1, entries=3))
        for value in (b"1", b"2", b"3"):
            store.set(b"", value)
        with pytest.raises(MapError) as caught:
            store.set(b"", b"4")
        assert caught.value.errno == errno.E2BIG
        assert store.get(b"") == first and store.pop() == first
        store.set(b"", b"5")
        store.set(b"", b"6", BPF_EXIST)  # the oldest makes room
        assert len(store) == 3
        with pytest.raises(NotSupported):
            store.keys()
    assert create_store(spec("queue", key=0)).pop() is None


def test_bloom_filter_never_denies() -> None:
    store = create_store(spec("bloom_filter", key=0, value=4, entries=100))
    assert isinstance(store, memory.BloomFilterStore)
    for i in range(100):
        store.set(b"", u32(i))
    assert all(store.contains(u32(i)) for i in range(100))
    assert sum(store.contains(u32(i)) for i in range(1000, 3000)) < 200


def test_ring_buffer_order_positions_and_overflow() -> None:
    ring = create_store(spec("ringbuf", key=0, value=0, entries=4000))
    assert isinstance(ring, memory.RingBufferStore) and ring.spec.max_entries == 4096
    first, second, third = ring.reserve(5), ring.reserve(8), ring.reserve(0)
    assert first and second and third
    assert ring.producer_position == 16 + 16 + 8
    second.data[:] = b"2" * 8
    ring.finish(second)
    assert ring.read() == []  # the first is still being written
    ring.finish(first, discard=True)
    ring.finish(third)
    assert ring.read() == [b"2" * 8, b""]
    assert ring.available == 0
    assert ring.output(bytes(4088)) == -errno.EAGAIN
    assert ring.output(bytes(4080)) == 0
    assert ring.output(b"") == -errno.EAGAIN


def test_maps_of_maps_keep_their_inner_maps() -> None:
    inner_spec = spec("array", entries=1)
    outer = create_store(spec("array_of_maps", value=4, inner=inner_spec))
    assert isinstance(outer, memory.ArrayOfMapsStore)
    inner = create_store(inner_spec)
    number = inner.id
    outer.set_store(u32(0), inner)
    del inner
    assert store_by_id(number) is outer.inner(u32(0))
    assert outer.get(u32(0)) == u32(number)
    with pytest.raises(MapError) as caught:
        outer.set_store(u32(1), create_store(spec("hash")))
    assert caught.value.errno == errno.EINVAL
