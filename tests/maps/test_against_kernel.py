"""In-memory stores against the kernel's own maps: the same operations, the same results and error numbers."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MapError
from ebpfkit.loader.maps import Map
from ebpfkit.maps.memory import create_store
from ebpfkit.maps.store import MapStore

pytestmark = pytest.mark.kernel

LAW = settings(derandomize=True, max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def prefix(length: int, address: str) -> bytes:
    return u32(length) + bytes(map(int, address.split(".")))


ARRAY_KEYS = [u32(i) for i in (0, 1, 2, 3, 4, 0xFFFF_FFFF)]
VALUES = [bytes(8), b"\x01" * 8, b"abcdefgh"]


@dataclass(frozen=True)
class Kind:
    """A map to try, the keys and values of its operations, and what cannot be compared."""

    spec: MapSpec
    keys: Sequence[bytes]
    values: Sequence[bytes] = field(default_factory=lambda: VALUES)
    reads: bool = True


def spec(type: str, key: int = 4, value: int = 8, entries: int = 3, flags: int = 0) -> MapSpec:
    return MapSpec(name="m", type=type, key_size=key, value_size=value, max_entries=entries, flags=flags)


HASH_KEYS = [u32(i) for i in range(5)]
LPM_KEYS = [
    prefix(0, "0.0.0.0"), prefix(8, "10.0.0.0"), prefix(8, "10.9.9.9"), prefix(16, "10.1.0.0"), prefix(24, "10.1.2.0"),
    prefix(32, "10.1.2.3"), prefix(31, "10.1.2.2"), prefix(33, "10.1.2.3"), prefix(32, "11.0.0.1"),
    prefix(9, "10.128.0.0"),
]  # fmt: skip
KINDS = {
    "hash": Kind(spec("hash"), HASH_KEYS),
    "hash without preallocation": Kind(spec("hash", flags=1), HASH_KEYS),
    "hash with odd sizes": Kind(spec("hash", key=3, value=5), [b"abc", b"abd", b"xyz"], [b"12345", bytes(5)]),
    "percpu_hash": Kind(spec("percpu_hash"), HASH_KEYS),
    "lru_hash with room": Kind(spec("lru_hash", entries=1024), HASH_KEYS),
    "lru_percpu_hash with room": Kind(spec("lru_percpu_hash", entries=1024), HASH_KEYS),
    "array": Kind(spec("array"), ARRAY_KEYS),
    "percpu_array": Kind(spec("percpu_array", value=5), ARRAY_KEYS, [b"12345", bytes(5)]),
    "lpm_trie": Kind(spec("lpm_trie", key=8, entries=4, flags=1), LPM_KEYS),
    "queue": Kind(spec("queue", key=0), [b""]),
    "stack": Kind(spec("stack", key=0), [b""]),
    "devmap": Kind(spec("devmap", value=4), ARRAY_KEYS, [u32(1), u32(0)]),
    "devmap_hash": Kind(spec("devmap_hash", value=4), [*ARRAY_KEYS, u32(77)], [u32(1), u32(0)]),
    "cpumap": Kind(spec("cpumap", value=4, entries=2), [u32(0), u32(2), u32(9)], [u32(64), u32(0), u32(20_000)]),
    "read-only for user space": Kind(spec("hash", flags=1 << 3), HASH_KEYS),
    "write-only for user space": Kind(spec("hash", flags=1 << 4), HASH_KEYS),
}


def outcome(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except MapError as error:
        return type(error).__name__, error.errno


def perform(store: MapStore, step: tuple[str, bytes, bytes, int], width: int) -> Any:
    name, key, value, flags = step
    if name == "set":
        return outcome(lambda: store.set(key, (value + bytes(-len(value) % 8)) * width if width else value, flags))
    if name == "get":
        return outcome(lambda: store.get(key))
    if name == "delete":
        return outcome(lambda: store.delete(key))
    return outcome(lambda: store.pop(key))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", KINDS)
def test_same_results(name: str) -> None:
    from ebpfkit.kernel.cpus import possible_cpus

    kind = KINDS[name]
    cpus = possible_cpus()
    steps = st.tuples(
        st.sampled_from(["set", "set", "set", "get", "delete", "pop"]),
        st.sampled_from(kind.keys),
        st.sampled_from(kind.values),
        st.sampled_from([0, 0, 1, 2, 3, 4, 8]),
    )

    @LAW
    @given(st.lists(steps, min_size=1, max_size=25))
    def law(program: list[tuple[str, bytes, bytes, int]]) -> None:
        memory = create_store(kind.spec, cpus=cpus)
        with Map.create(kind.spec) as kernel:
            for position, step in enumerate(program):
                width = cpus if memory.per_cpu else 0
                assert perform(memory, step, width) == perform(kernel, step, width), (position, step)
            if kind.spec.key_size:
                assert outcome(lambda: sorted(memory.items())) == outcome(lambda: sorted(kernel.items()))

    law()


def test_lru_forgets_but_never_refuses() -> None:
    """Which entry goes is the kernel's secret; that the newest stays and the map never overflows is not."""
    for type in ("lru_hash", "lru_percpu_hash"):
        from ebpfkit.kernel.cpus import possible_cpus

        model = spec(type, entries=16)
        memory = create_store(model, cpus=possible_cpus())
        with Map.create(model) as kernel:
            for store in (memory, kernel):
                for i in range(200):
                    store.set(u32(i), bytes(memory.value_bytes))
                    assert store.get(u32(i)) is not None
                assert len(list(store.keys())) <= 16


BAD_SPECS = {
    "hash without key": spec("hash", key=0),
    "hash without value": spec("hash", value=0),
    "hash without entries": spec("hash", entries=0),
    "array with a long key": spec("array", key=8),
    "array without value": spec("array", value=0),
    "array without entries": spec("array", entries=0),
    "percpu_array with a short key": spec("percpu_array", key=2),
    "lpm_trie with preallocation": spec("lpm_trie", key=8),
    "lpm_trie with a short key": spec("lpm_trie", key=4, flags=1),
    "lpm_trie with a long key": spec("lpm_trie", key=261, flags=1),
    "queue with a key": spec("queue", key=4),
    "queue without value": spec("queue", key=0, value=0),
    "stack without entries": spec("stack", key=0, entries=0),
    "prog_array with long values": spec("prog_array", value=8),
    "xskmap with long values": spec("xskmap", value=8),
    "devmap with values of 6": spec("devmap", value=6),
    "cpumap with values of 2": spec("cpumap", value=2),
    "ringbuf with a key": spec("ringbuf", key=4, value=0, entries=4096),
    "bloom filter with a key": spec("bloom_filter", key=4),
    "bloom filter without value": spec("bloom_filter", key=0, value=0),
}


@pytest.mark.parametrize("name", BAD_SPECS)
def test_sizes_that_both_refuse(name: str) -> None:
    from ebpfkit.errors import LoadError

    with pytest.raises(MapError) as ours:
        create_store(BAD_SPECS[name])
    with pytest.raises(LoadError) as kernels:
        Map.create(BAD_SPECS[name])
    assert ours.value.errno == kernels.value.errno == errno.EINVAL


STEPS = [
    ("get", 0, 0), ("set", 0, 0), ("set", 1, 2), ("set", 1, 1), ("set", 9, 0), ("set", 8, 0), ("get", 0, 0),
    ("delete", 0, 0), ("get", 0, 0), ("delete", 0, 0), ("delete", 7, 0), ("set", 0, 5),
]  # fmt: skip


@pytest.mark.parametrize("type", ["array_of_maps", "hash_of_maps"])
def test_maps_of_maps(type: str) -> None:
    """Presence and error numbers agree; the numbers stored are each side's own."""
    inner_spec = MapSpec("inner", "array", 4, 8, 1)
    outer_spec = MapSpec("outer", type, 4, 4, 2, inner=inner_spec)
    from ebpfkit.loader.load import create_map

    with Map.create(inner_spec) as inner_kernel:
        inner_memory = create_store(inner_spec)
        memory = create_store(outer_spec)
        with Map(outer_spec, create_map(outer_spec, inner=inner_kernel.fd)) as kernel:
            sides = [(memory, u32(inner_memory.id)), (kernel, u32(inner_kernel.fileno()))]
            for name, key, flags in STEPS:
                results = []
                for store, value in sides:
                    if name == "get":
                        results.append(outcome(lambda: store.get(u32(key)) is not None))  # noqa: B023
                    elif name == "set":
                        results.append(outcome(lambda: store.set(u32(key), value, flags)))  # noqa: B023
                    else:
                        results.append(outcome(lambda: store.delete(u32(key))))  # noqa: B023
                assert results[0] == results[1], (name, key, flags)
