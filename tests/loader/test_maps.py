"""Live maps: each type's round trip, batches, refusals, pins, and the same laws as the stores in memory."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.btf.build import BtfBuilder
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import KernelError, LoadError, MapError, MapKeyError, NotSupported, UsageError
from ebpfkit.kernel import bpf
from ebpfkit.kernel.bpffs import find_bpffs
from ebpfkit.kernel.cpus import possible_cpus
from ebpfkit.kernel.fd import Fd
from ebpfkit.loader import Collection, Map, Program, load
from ebpfkit.loader.maps import stored_value_size
from ebpfkit.maps.memory import create_store
from ebpfkit.maps.store import BPF_EXIST, BPF_NOEXIST, MapStore
from tests.conftest import require_tool
from tests.loader import objects

pytestmark = pytest.mark.kernel

NO_PREALLOC, MMAPABLE = 1, 1 << 10

SPECS = {
    "hash": MapSpec("m", "hash", 4, 8, 64),
    "lru_hash": MapSpec("m", "lru_hash", 4, 8, 64),
    "percpu_hash": MapSpec("m", "percpu_hash", 4, 12, 64),
    "array": MapSpec("m", "array", 4, 8, 16),
    "percpu_array": MapSpec("m", "percpu_array", 4, 4, 16),
    "lpm_trie": MapSpec("m", "lpm_trie", 8, 8, 64, flags=NO_PREALLOC),
    "no_prealloc": MapSpec("m", "hash", 16, 1, 64, flags=NO_PREALLOC),
    "mmapable": MapSpec("m", "array", 4, 100, 16, flags=MMAPABLE),
}


def key_of(spec: MapSpec, number: int) -> bytes:
    if spec.type == "lpm_trie":  # prefix length, then the address in network order
        return struct.pack("<I", 32) + struct.pack(">I", number)
    return number.to_bytes(spec.key_size, "little")


def value_of(spec: MapSpec, number: int) -> bytes:
    """A value of the right size; per CPU each part is padded to 8 bytes, and the padding reads back as zeros."""
    one = (number * 0x0101_0101).to_bytes(max(8, spec.value_size), "little")[: spec.value_size]
    whole = stored_value_size(spec)
    if whole == spec.value_size:
        return one
    step = whole // possible_cpus()
    return one.ljust(step, b"\0") * possible_cpus()


@pytest.fixture(params=SPECS, ids=str)
def live(request: pytest.FixtureRequest) -> Iterator[Map]:
    with Map.create(SPECS[request.param]) as created:
        yield created


def test_it_is_a_map_store(live: Map) -> None:
    assert isinstance(live, MapStore)


def test_round_trip(live: Map) -> None:
    key, value = key_of(live.spec, 3), value_of(live.spec, 3)
    live.set(key, value_of(live.spec, 1))
    live.set(key, value)
    assert live.get(key) == value
    assert (key, value) in set(live.items())
    assert key in set(live.keys())


def test_deletion(live: Map) -> None:
    key = key_of(live.spec, 3)
    live.set(key, value_of(live.spec, 3))
    if "array" in live.spec.type:
        with pytest.raises(MapError) as refused:
            live.delete(key)
        assert refused.value.errno == errno.EINVAL
        return
    live.delete(key)
    assert live.get(key) is None
    with pytest.raises(MapKeyError) as gone:
        live.delete(key)
    assert gone.value.errno == errno.ENOENT


def test_many_entries_in_and_out(live: Map) -> None:
    entries = {key_of(live.spec, i): value_of(live.spec, i) for i in range(16)}
    assert live.set_many(entries.items()) == 16
    assert dict(live.items()) == entries
    assert set(live.keys()) == set(entries)
    keys, values = live.get_arrays()
    assert {k.tobytes(): v.tobytes() for k, v in zip(keys, values, strict=True)} == entries


def test_arrays_in(live: Map) -> None:
    keys = numpy.frombuffer(b"".join(key_of(live.spec, i) for i in range(10)), numpy.uint8).reshape(10, -1)
    values = numpy.frombuffer(b"".join(value_of(live.spec, i) for i in range(10)), numpy.uint8).reshape(10, -1)
    assert live.set_arrays(keys, values) == 10
    assert live.get(key_of(live.spec, 9)) == value_of(live.spec, 9)
    with pytest.raises(UsageError, match="the arrays have"):
        live.set_arrays(keys, values[:, :-1])


def test_every_entry_may_be_deleted_while_walking() -> None:
    with Map.create(SPECS["hash"]) as live:
        live.set_many((key_of(live.spec, i), value_of(live.spec, i)) for i in range(50))
        for key in live.keys():  # noqa: SIM118
            live.delete(key)
        assert list(live.items()) == []


def test_more_entries_than_one_batch_holds() -> None:
    spec = MapSpec("big", "hash", 4, 4, 20_000)
    entries = {i.to_bytes(4, "little"): (i * 7).to_bytes(4, "little") for i in range(20_000)}
    with Map.create(spec) as live:
        assert live.set_many(entries.items()) == 20_000
        assert dict(live.items()) == entries
        assert live.delete_many(list(entries)[:10_000]) == 10_000
        assert live.delete_many(list(entries)[:10_000]) == 0
        assert len(list(live.keys())) == 10_000


def test_large_values_come_in_bounded_batches() -> None:
    spec = MapSpec("large", "hash", 4, 1 << 20, 100, flags=NO_PREALLOC)
    with Map.create(spec) as live:
        entries = {u32(i): bytes([i]) * (1 << 20) for i in range(70)}  # more than one call may bring
        assert live.set_many(entries.items()) == 70
        assert dict(live.items()) == entries


def test_per_cpu_values() -> None:
    with Map.create(SPECS["percpu_array"]) as live:
        step = 8
        live.set(key_of(live.spec, 2), b"".join((cpu + 5).to_bytes(step, "little") for cpu in range(possible_cpus())))
        values = live.per_cpu(key_of(live.spec, 2))
        assert values == tuple((cpu + 5).to_bytes(4, "little") for cpu in range(possible_cpus()))
    with Map.create(SPECS["hash"]) as live, pytest.raises(UsageError, match="one value for all CPUs"):
        live.per_cpu(bytes(4))


@pytest.mark.parametrize(("kind", "first"), [("queue", b"\1\0\0\0"), ("stack", b"\3\0\0\0")])
def test_queue_and_stack(kind: str, first: bytes) -> None:
    with Map.create(MapSpec("line", kind, 0, 4, 4)) as live:
        for number in (1, 2, 3):
            live.set(b"", number.to_bytes(4, "little"))
        assert live.get(b"") == first
        assert live.pop() == first
        assert [live.pop(), live.pop()][-1] is not None
        assert live.pop() is None
        with pytest.raises(NotSupported, match="iterating a"):
            list(live.keys())


def test_pop_takes_an_entry_out_of_a_hash() -> None:
    with Map.create(SPECS["hash"]) as live:
        live.set(key_of(live.spec, 1), value_of(live.spec, 9))
        assert live.pop(key_of(live.spec, 1)) == value_of(live.spec, 9)
        assert live.pop(key_of(live.spec, 1)) is None


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


# A spec and a value, for types whose values mean something to the kernel.
REDIRECTS = [
    (MapSpec("m", "devmap", 4, 4, 4), u32(1)),
    (MapSpec("m", "devmap", 4, 8, 4), u32(1) + u32(0)),
    (MapSpec("m", "devmap_hash", 4, 8, 4), u32(1) + u32(0)),
    (MapSpec("m", "cpumap", 4, 4, possible_cpus()), u32(128)),
    (MapSpec("m", "cpumap", 4, 8, possible_cpus()), u32(128) + u32(0)),
]


@pytest.mark.parametrize(("spec", "value"), REDIRECTS, ids=[f"{spec.type}-{spec.value_size}" for spec, _ in REDIRECTS])
def test_redirect_maps(spec: MapSpec, value: bytes) -> None:
    key = u32(possible_cpus() - 1)
    with Map.create(spec) as live:
        live.set(key, value)
        assert live.get(key) == value
        assert list(live.items()) == [(key, value)]
        live.delete(key)
        assert list(live.items()) == []


def test_program_arrays_take_descriptors_and_give_ids() -> None:
    with Program.load(objects.returns(2)) as program, Map.create(MapSpec("m", "prog_array", 4, 4, 4)) as live:
        live.set(u32(2), u32(program.fileno()))
        assert dict(live.items()) == {u32(2): u32(program.id)}


@pytest.mark.parametrize("kind", ["array_of_maps", "hash_of_maps"])
def test_maps_of_maps_take_descriptors_and_give_ids(kind: str) -> None:
    inner = SPECS["array"]
    outer = MapSpec("outer", kind, 4, 4, 4, inner=inner)
    with Collection.load(objects.object_of(maps=(outer,))) as loaded, Map.create(inner) as first:
        loaded.maps["outer"].set(u32(2), u32(first.fileno()))
        assert dict(loaded.maps["outer"].items()) == {u32(2): u32(first.info.id)}
        with Map.create(inner.replace(value_size=16)) as other, pytest.raises(MapError) as refused:
            loaded.maps["outer"].set(u32(2), u32(other.fileno()))
        assert refused.value.errno == errno.EINVAL


def test_bloom_filters_answer_one_question() -> None:
    with Map.create(MapSpec("m", "bloom_filter", 0, 4, 100)) as live:
        live.set(b"", b"here")
        assert live.contains(b"here")
        assert not live.contains(b"gone")
        with pytest.raises(NotSupported, match="answers contains only"):
            live.get(b"")
    with Map.create(SPECS["hash"]) as live, pytest.raises(UsageError, match="no bloom_filter"):
        live.contains(bytes(8))


UNREADABLE = [
    (MapSpec("m", "xskmap", 4, 4, 4), errno.EOPNOTSUPP, "user space cannot read entries"),
    (MapSpec("m", "perf_event_array", 4, 4, 0), 524, "user space cannot read entries"),
    (MapSpec("m", "sockmap", 4, 4, 4), errno.ENOSPC, "only if it was made with values of 8 bytes"),
]


@pytest.mark.parametrize(("spec", "number", "words"), UNREADABLE, ids=[s.type for s, _, _ in UNREADABLE])
def test_maps_that_user_space_cannot_read(spec: MapSpec, number: int, words: str) -> None:
    with Map.create(spec) as live:
        for look in (lambda: live.get(u32(1)), lambda: list(live.items())):
            with pytest.raises(MapError) as refused:
                look()
            assert (refused.value.errno, words in str(refused.value)) == (number, True)
        with pytest.raises(MapError, match="its values are descriptors of"):
            live.set(u32(1), u32(0x7FFF_FFFF))


REFUSALS = [
    # map, action, errno, words
    ("hash", lambda m: m.set(bytes(3), bytes(8)), errno.EINVAL, "keys of 4 bytes, not 3"),
    ("hash", lambda m: m.set(bytes(4), bytes(7)), errno.EINVAL, "values of 8 bytes, not 7"),
    ("percpu_array", lambda m: m.set(bytes(4), bytes(4)), errno.EINVAL, "for each CPU, padded to 8"),
    ("hash", lambda m: m.set(bytes(4), bytes(8), BPF_EXIST), errno.ENOENT, "the key is not there"),
    ("array", lambda m: m.set(bytes(4), bytes(8), BPF_NOEXIST), errno.EEXIST, "already there"),
    ("array", lambda m: m.set(b"\x10\0\0\0", bytes(8)), errno.E2BIG, "beyond it (16 entries)"),
    ("array", lambda m: m.set_many([(b"\x10\0\0\0", bytes(8))]), errno.E2BIG, "beyond it"),
    ("hash", lambda m: m.set_many((i.to_bytes(4, "little"), bytes(8)) for i in range(100)), errno.E2BIG, "is full"),
    ("lpm_trie", lambda m: m.set(struct.pack("<II", 33, 0), bytes(8)), errno.EINVAL, "not valid"),
]


@pytest.mark.parametrize(("name", "action", "number", "words"), REFUSALS, ids=[f"{r[0]}-{r[3]}" for r in REFUSALS])
def test_refusals_carry_errno_and_cause(name: str, action, number: int, words: str) -> None:  # type: ignore[no-untyped-def]
    with Map.create(SPECS[name]) as live, pytest.raises(MapError) as refused:
        action(live)
    assert refused.value.errno == number
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_frozen_map_says_so() -> None:
    with Map.create(SPECS["array"]) as live:
        live.freeze()
        with pytest.raises(MapError, match="frozen") as refused:
            live.set(bytes(4), bytes(8))
        assert refused.value.errno == errno.EPERM


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (MapSpec("bad", "hash", 0, 4, 4), "does not accept its shape"),
        (MapSpec("huge", "array", 4, 1 << 20, 1 << 30), "make"),
        (MapSpec("trie", "lpm_trie", 8, 8, 4), "does not accept its shape"),
        (MapSpec("wide", "hash", 4, 4, 1 << 32), "max_entries 4294967296 does not fit 32 bits"),
        (MapSpec("negative", "hash", -4, 4, 1), "key_size -4 does not fit 32 bits"),
    ],
)
def test_maps_that_cannot_be(spec: MapSpec, words: str) -> None:
    with pytest.raises(LoadError) as refused:
        Map.create(spec)
    assert f"cannot create map '{spec.name}'" in str(refused.value)
    assert words in str(refused.value)


def test_an_unknown_type_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no map type"):
        Map.create(MapSpec("m", "btree", 4, 4, 4))


@pytest.mark.parametrize(("asked", "made"), [(1, 4096), (4096, 4096), (5000, 8192), (3 * 4096, 16384)])
def test_ring_buffers_are_rounded_up(asked: int, made: int) -> None:
    with Map.create(MapSpec("ring", "ringbuf", 0, 0, asked)) as live:
        assert live.info.max_entries == made


U32, U64, PREFIX = 1, 2, 3  # type ids
SHAPES = {
    # key size, value size, max_entries, flags: what the kernel takes of each type
    "hash": (4, 8, 4, 0), "array": (4, 8, 4, 0), "prog_array": (4, 4, 4, 0), "perf_event_array": (4, 4, 2, 0),
    "percpu_hash": (4, 8, 4, 0), "percpu_array": (4, 8, 4, 0), "stack_trace": (4, 8, 4, 0),
    "cgroup_array": (4, 4, 4, 0), "lru_hash": (4, 8, 4, 0), "lru_percpu_hash": (4, 8, 4, 0),
    "lpm_trie": (8, 8, 4, NO_PREALLOC), "devmap": (4, 4, 4, 0), "devmap_hash": (4, 4, 4, 0), "cpumap": (4, 4, 2, 0),
    "xskmap": (4, 4, 4, 0), "sockmap": (4, 4, 4, 0), "sockhash": (4, 4, 4, 0), "reuseport_sockarray": (4, 4, 4, 0),
    "queue": (0, 8, 4, 0), "stack": (0, 8, 4, 0), "ringbuf": (0, 0, 4096, 0), "user_ringbuf": (0, 0, 4096, 0),
    "bloom_filter": (0, 8, 4, 0), "arena": (0, 0, 4, MMAPABLE),
}  # fmt: skip


@pytest.fixture(scope="module")
def types() -> Iterator[Fd]:
    builder = BtfBuilder()
    assert (builder.integer("u32", 4), builder.integer("u64", 8)) == (U32, U64)
    assert builder.struct("prefix", 8, [("length", U32, 0), ("address", U32, 4)]) == PREFIX
    with load.load_btf(builder.build()) as btf:
        yield btf


@pytest.mark.parametrize("kind", SHAPES)
def test_types_go_where_the_kernel_takes_them(kind: str, types: Fd) -> None:
    """The loader's table of types without BTF is the kernel's: it creates each map with types, or refuses just that."""
    key, value, entries, flags = SHAPES[kind]
    key_type, value_type = {0: 0, 4: U32, 8: PREFIX}[key], {0: U32, 4: U32, 8: U64}[value]
    number, shape = load.map_type_number(kind), (key, value, entries)
    bpf.map_create(number, *shape, flags=flags).close()
    try:
        bpf.map_create(number, *shape, flags=flags, btf=types, btf_key_type=key_type, btf_value_type=value_type).close()
    except KernelError:
        refused = True
    else:
        refused = False
    assert refused == (kind in load._MAPS_WITHOUT_BTF)


def test_types_that_do_not_fit_are_left_out(types: Fd) -> None:
    fitting = MapSpec("fits", "hash", 4, 8, 4, btf_key_type=U32, btf_value_type=U64)
    with load.create_map(fitting, btf=types) as created:
        assert bpf.map_info(created).btf_id != 0
    with load.create_map(fitting.replace(key_size=5), btf=types) as created:
        assert (bpf.map_info(created).btf_id, bpf.map_info(created).key_size) == (0, 5)
    with pytest.raises(LoadError, match="does not accept its shape"):
        load.create_map(fitting.replace(max_entries=0), btf=types)


def test_perf_event_arrays_have_a_slot_per_cpu() -> None:
    with Map.create(MapSpec("perf", "perf_event_array", 4, 4, 0)) as live:
        assert live.info.max_entries == possible_cpus()


def test_pin_open_and_refuse() -> None:
    path = Path(f"{find_bpffs()}/ebpfkit_test_map_{os.getpid()}")
    with Map.create(SPECS["hash"]) as live:
        live.set(key_of(live.spec, 1), value_of(live.spec, 1))
        live.pin(path)
        try:
            with Map.open_pinned(path) as again, Map.open_id(live.info.id) as by_id:
                assert again.info == by_id.info == live.info
                assert again.get(key_of(live.spec, 1)) == value_of(live.spec, 1)
            with pytest.raises(MapError, match="pinned there already"):
                live.pin(path)
        finally:
            path.unlink()
        with pytest.raises(MapError, match="nothing is pinned there"):
            Map.open_pinned(path)
        with pytest.raises(MapError, match="not on a bpffs"):
            live.pin("/tmp/not_a_bpffs")


def test_the_same_to_bpftool() -> None:
    bpftool = require_tool("bpftool")
    with Map.create(MapSpec("shown", "hash", 2, 4, 8)) as live:
        live.set_many([(b"\1\2", b"abcd"), (b"\3\4", b"efgh")])
        dump = subprocess.run(
            [bpftool, "-j", "map", "dump", "id", str(live.info.id)], check=True, capture_output=True, text=True
        )
        rows = json.loads(dump.stdout)
    seen = {bytes(int(b, 16) for b in row["key"]): bytes(int(b, 16) for b in row["value"]) for row in rows}
    assert seen == {b"\1\2": b"abcd", b"\3\4": b"efgh"}


STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "new", "replace", "delete", "get"]), st.integers(0, 9), st.integers(0, 255)),
    max_size=25,
)


@pytest.mark.parametrize("name", ["hash", "array", "lpm_trie", "no_prealloc"])
@settings(derandomize=True, max_examples=25, deadline=None)
@given(steps=STEPS)
def test_memory_and_kernel_stores_agree(name: str, steps: list[tuple[str, int, int]]) -> None:
    """The same operations on the store in memory and on the kernel's map: the same results, errnos and entries."""
    spec = SPECS[name].replace(max_entries=6)
    memory = create_store(spec)
    with Map.create(spec) as kernel:
        for action, number, fill in steps:
            assert outcome(memory, action, number, fill) == outcome(kernel, action, number, fill), (action, number)
        assert dict(memory.items()) == dict(kernel.items())


def outcome(store: MapStore, action: str, number: int, fill: int) -> object:
    key, value = key_of(store.spec, number), bytes([fill]) * store.spec.value_size
    try:
        if action == "get":
            return store.get(key)
        if action == "delete":
            return store.delete(key)
        return store.set(key, value, {"set": 0, "new": BPF_NOEXIST, "replace": BPF_EXIST}[action])
    except MapError as error:
        return type(error).__name__, error.errno
