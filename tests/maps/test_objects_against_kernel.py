"""Maps of sockets, of control groups, and of values that belong to objects: the same operations as in the kernel."""

from __future__ import annotations

import errno
import mmap
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebpfkit.btf.build import BtfBuilder
from ebpfkit.elf.model import MapSpec, ObjectFile
from ebpfkit.errors import MapError
from ebpfkit.loader.collection import Collection
from ebpfkit.loader.maps import Map
from ebpfkit.maps.locks import lock_offset
from ebpfkit.maps.memory import ArenaStore, ObjectStorageStore, UserRingBufferStore, create_store
from ebpfkit.maps.native import create_native_store
from ebpfkit.maps.store import MapStore

LAW = settings(derandomize=True, max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
SO_COOKIE = 57


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def outcome(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except MapError as error:
        return type(error).__name__, error.errno


@pytest.fixture
def listeners() -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        made = []
        for _ in range(3):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", 0))
            one.listen()
            made.append(one)
        yield made


def cgroup_directory() -> str:
    """Where the second version of control groups is mounted."""
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next(fields[1] for fields in mounts if fields[2] == "cgroup2")


SOCKET_MAPS = {
    "sockmap": MapSpec("m", "sockmap", 4, 8, 2),
    "sockmap with short values": MapSpec("m", "sockmap", 4, 4, 2),
    "sockhash": MapSpec("m", "sockhash", 4, 8, 2),
    "reuseport_sockarray": MapSpec("m", "reuseport_sockarray", 4, 8, 2),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", SOCKET_MAPS)
def test_maps_of_sockets(name: str, listeners: list[socket.socket]) -> None:
    """User space stores descriptors in the kernel and cookies here; cookies come back where values have 8 bytes."""
    spec = SOCKET_MAPS[name]
    numbers = [one.fileno() for one in listeners]
    cookies = [int.from_bytes(one.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little") for one in listeners]
    readable = spec.value_size == 8
    step = st.tuples(
        st.sampled_from(["set", "set", "get", "delete", "pop"]),
        st.sampled_from([0, 1, 2, 9]),
        st.sampled_from([0, 1, 2]),
        st.sampled_from([0, 0, 1, 2, 3, 4]),
    )

    def perform(store: Any, values: list[int], step: tuple[str, int, int, int]) -> Any:
        action, key, which, flags = step
        if action == "set":
            return outcome(lambda: store.set(u32(key), values[which].to_bytes(spec.value_size, "little"), flags))
        if action == "get" and not readable:
            return None
        return outcome(lambda: getattr(store, action)(u32(key)))

    @LAW
    @given(st.lists(step, min_size=1, max_size=20))
    def law(program: list[tuple[str, int, int, int]]) -> None:
        memory = create_store(spec)
        with Map.create(spec) as kernel:
            for one in program:
                assert perform(memory, cookies, one) == perform(kernel, numbers, one), one
            if readable:
                assert sorted(memory.items()) == sorted(kernel.items())
            for key in range(spec.max_entries):
                outcome(lambda: kernel.delete(u32(key)))  # noqa: B023 (a map that is closed lets go of sockets later)

    law()


def storage_object(type: str) -> tuple[ObjectFile, MapSpec]:
    """An object whose map has the BTF that storage of objects needs."""
    btf = BtfBuilder()
    key, value = btf.integer("int", 4, signed=True), btf.integer("unsigned long", 8)
    spec = MapSpec("m", type, 4, 8, 0, 1, btf_key_type=key, btf_value_type=value)
    return ObjectFile({}, {"m": spec}, license="GPL", btf=btf.build()), spec


@pytest.mark.kernel
@pytest.mark.parametrize("type", ["sk_storage", "task_storage", "cgrp_storage", "inode_storage"])
def test_storage_of_objects(type: str) -> None:
    """Named by descriptors in the kernel, by numbers here; only objects that exist can be compared."""
    obj, spec = storage_object(type)
    with ExitStack() as stack:
        if type == "sk_storage":
            descriptor = stack.enter_context(socket.socket()).fileno()
        elif type == "task_storage":
            descriptor = os.pidfd_open(os.getpid())
        else:
            descriptor = os.open(cgroup_directory() if type == "cgrp_storage" else "/", os.O_RDONLY)
        if type != "sk_storage":
            stack.callback(os.close, descriptor)
        step = st.tuples(st.sampled_from(["set", "set", "get", "delete"]), st.sampled_from([0, 0, 1, 2, 3, 4, 8]))

        def perform(store: MapStore, key: bytes, step: tuple[str, int]) -> Any:
            if step[0] == "set":
                return outcome(lambda: store.set(key, step[1].to_bytes(8, "little"), step[1]))
            return outcome(lambda: getattr(store, step[0])(key))

        kernel = stack.enter_context(Collection.load(obj)).maps["m"]

        @LAW
        @given(st.lists(step, min_size=1, max_size=12))
        def law(program: list[tuple[str, int]]) -> None:
            memory = create_store(spec)
            outcome(lambda: kernel.delete(u32(descriptor)))
            for one in program:
                assert perform(memory, u32(7), one) == perform(kernel, u32(descriptor), one), one

        law()


@pytest.mark.kernel
@pytest.mark.parametrize("type", ["cgroup_storage", "percpu_cgroup_storage", "cgroup_array", "user_ringbuf", "arena"])
def test_what_user_space_cannot_do(type: str) -> None:
    """Where there is no entry and never will be one by itself, every operation fails as the kernel's."""
    from ebpfkit.kernel.cpus import possible_cpus

    sizes = {"user_ringbuf": (0, 0, 4096, 0), "arena": (0, 0, 4, 1024), "cgroup_array": (4, 4, 2, 0)}
    key_size, value_size, entries, flags = sizes.get(type, (16, 8, 0, 0))
    spec = MapSpec("m", type, key_size, value_size, entries, flags)
    memory = create_store(spec, cpus=possible_cpus())
    with Map.create(spec) as kernel:
        for store in (memory, kernel):
            assert isinstance(store, MapStore)
        key, value = bytes(key_size), bytes(memory.value_bytes)
        for flags in range(1 if type == "cgroup_array" else 0, 5):
            ours, theirs = (outcome(lambda: store.set(key, value, flags)) for store in (memory, kernel))  # noqa: B023
            assert ours == theirs, flags
        for action in ("get", "delete", "pop"):
            if (type, action) != ("cgroup_array", "get"):  # numbers can be read here
                assert outcome(lambda: getattr(memory, action)(key)) == outcome(lambda: getattr(kernel, action)(key))  # noqa: B023


BAD_SPECS = {
    "sockmap with values of 6": MapSpec("m", "sockmap", 4, 6, 2),
    "sockmap with a long key": MapSpec("m", "sockmap", 8, 4, 2),
    "reuseport_sockarray without entries": MapSpec("m", "reuseport_sockarray", 4, 4, 0),
    "cgroup_array with long values": MapSpec("m", "cgroup_array", 4, 8, 2),
    "cgroup_storage with entries": MapSpec("m", "cgroup_storage", 16, 8, 1),
    "cgroup_storage with a key of 4": MapSpec("m", "cgroup_storage", 4, 8, 0),
    "user_ringbuf with values": MapSpec("m", "user_ringbuf", 0, 4, 4096),
    "arena without the mappable flag": MapSpec("m", "arena", 0, 0, 4, 0),
    "arena with keys": MapSpec("m", "arena", 4, 0, 4, 1024),
    "arena at an odd address": MapSpec("m", "arena", 0, 0, 4, 1024, map_extra=5),
    "arena across a boundary": MapSpec("m", "arena", 0, 0, 10, 1024, map_extra=(1 << 44) - 4096),
    "arena that is too large": MapSpec("m", "arena", 0, 0, (1 << 20) + 1, 1024),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", BAD_SPECS)
def test_sizes_that_both_refuse(name: str) -> None:
    from ebpfkit.errors import LoadError

    with pytest.raises(MapError) as ours:
        create_store(BAD_SPECS[name])
    with pytest.raises(LoadError) as kernels:
        Map.create(BAD_SPECS[name])
    assert ours.value.errno == kernels.value.errno


def test_storage_lists_who_has_a_value() -> None:
    store = create_store(storage_object("sk_storage")[1])
    assert isinstance(store, ObjectStorageStore)
    assert store.set_of(1 << 40, bytes(8)) == 0 and store.set_of(3, b"x" * 8) == 0
    assert len(store) == 2 and store.get(u32(3)) == b"x" * 8


def test_a_user_ring_holds_what_fits() -> None:
    ring = create_store(MapSpec("ring", "user_ringbuf", 0, 0, 4096))
    assert isinstance(ring, UserRingBufferStore)
    ring.write(bytes(4080))
    ring.write(b"")
    assert ring.available == 4096
    with pytest.raises(MapError) as full:
        ring.write(b"")
    with pytest.raises(MapError) as large:
        ring.write(bytes(4089))
    assert (full.value.errno, large.value.errno) == (errno.ENOSPC, errno.E2BIG)
    assert ring.next_sample() == bytes(4080) and ring.next_sample() == b"" and ring.next_sample() is None
    ring.write(bytes(4088))


def test_pages_of_an_arena() -> None:
    arena = create_store(MapSpec("a", "arena", 0, 0, 4, 1024))
    assert isinstance(arena, ArenaStore)
    assert arena.allocate(2) == 0 and arena.allocate(1, at=1) is None and arena.allocate(1, at=3) == 3
    assert arena.allocate(2) is None and arena.allocate(1) == 2 and arena.allocate(5) is None
    arena.memory[mmap.PAGESIZE] = 7
    arena.free(0, 2)
    assert not arena.has(1) and arena.memory[mmap.PAGESIZE] == 0 and len(arena) == 2
    assert arena.touch(0) and arena.has(0) and not arena.touch(4)
    strict = create_store(MapSpec("a", "arena", 0, 0, 4, 1024 | 1 << 17))
    assert isinstance(strict, ArenaStore) and not strict.touch(0)


def with_lock(type: str) -> tuple[ObjectFile, MapSpec]:
    """An object with a map whose values are a number, a lock and a number."""
    btf = BtfBuilder()
    key, word = btf.integer("int", 4, signed=True), btf.integer("unsigned int", 4)
    lock = btf.struct("bpf_spin_lock", 4, [("val", word, 0)])
    value = btf.struct("value", 12, [("a", word, 0), ("lock", lock, 4), ("b", word, 8)])
    entries, flags = (0, 1) if type == "sk_storage" else (2, 0)
    spec = MapSpec("m", type, 4, 12, entries, flags, btf_key_type=key, btf_value_type=value)
    return ObjectFile({}, {"m": spec}, license="GPL", btf=btf.build()), spec


@pytest.mark.kernel
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("type", ["array", "hash", "sk_storage"])
def test_values_with_a_lock(type: str, native: bool) -> None:
    """The flag BPF_F_LOCK is good for them, and what user space writes over the lock is not kept."""
    obj, spec = with_lock(type)
    step = st.tuples(st.sampled_from(["set", "set", "get", "delete"]), st.sampled_from([0, 1, 2]), st.integers(0, 8))
    with ExitStack() as stack:
        owner = stack.enter_context(socket.socket())
        kernel = stack.enter_context(Collection.load(obj)).maps["m"]

        def perform(store: MapStore, key: int, step: tuple[str, int, int]) -> Any:
            if step[0] == "set":
                return outcome(lambda: store.set(u32(key), bytes(range(step[2], step[2] + 12)), step[2]))
            return outcome(lambda: getattr(store, step[0])(u32(key)))

        @LAW
        @given(st.lists(step, min_size=1, max_size=15))
        def law(program: list[tuple[str, int, int]]) -> None:
            memory = create_native_store(spec) if native else create_store(spec)
            memory.lock_at = lock_offset(spec, obj.btf)
            assert memory.lock_at == 4
            for key in range(3):
                outcome(lambda: kernel.set(u32(key), bytes(12)) if type == "array" else kernel.delete(u32(key)))  # noqa: B023
            outcome(lambda: kernel.delete(u32(owner.fileno())))
            for one in program:
                theirs = owner.fileno() if type == "sk_storage" else one[1]
                ours = 0 if type == "sk_storage" else one[1]
                assert perform(memory, ours, one) == perform(kernel, theirs, one), one

        law()
