"""Entries through system calls, singly and in batches."""

from __future__ import annotations

import errno
import threading

import pytest

from ebpfkit.kernel import bpf
from ebpfkit.kernel.cpus import parse_cpu_list, possible_cpus
from ebpfkit.kernel.elements import Elements

pytestmark = pytest.mark.kernel


def key(number: int) -> bytes:
    return number.to_bytes(4, "little")


def test_one_entry() -> None:
    with bpf.map_create(1, 4, 8, 10) as created:
        elements = Elements(created, 4, 8)
        assert elements.lookup(key(1)) == -errno.ENOENT
        assert elements.update(key(1), b"12345678") == 0
        assert elements.lookup(key(1)) == b"12345678"
        assert elements.update(key(1), b"other   ", 1) == -errno.EEXIST  # BPF_NOEXIST
        assert elements.update(key(2), b"other   ", 2) == -errno.ENOENT  # BPF_EXIST
        assert elements.next_key(None) == key(1)
        assert elements.next_key(key(1)) == -errno.ENOENT
        assert elements.delete(key(1)) == 0
        assert elements.delete(key(1)) == -errno.ENOENT


def test_a_wrong_size_is_our_own_bug_not_the_kernels() -> None:
    with bpf.map_create(1, 4, 8, 10) as created:
        with pytest.raises(ValueError):
            Elements(created, 4, 8).update(key(1), b"short")


def test_batches() -> None:
    count = 1000
    keys = b"".join(key(i) for i in range(count))
    values = b"".join(key(i * 3) for i in range(count))
    with bpf.map_create(1, 4, 4, count) as created:
        elements = Elements(created, 4, 4)
        assert elements.update_batch(keys, values, count).result == 0
        seen: dict[bytes, bytes] = {}
        position = None
        while True:
            batch = elements.lookup_batch(position, 128)
            seen.update((batch.keys[i : i + 4], batch.values[i : i + 4]) for i in range(0, 4 * batch.count, 4))
            if batch.result:
                break
            position = batch.position
        assert batch.result == -errno.ENOENT
        assert seen == {key(i): key(i * 3) for i in range(count)}
        assert elements.delete_batch(keys[: 4 * 600], 600).result == 0
        assert elements.lookup(key(599)) == -errno.ENOENT
        assert elements.lookup(key(600)) == key(1800)


def test_a_batch_that_overfills_says_how_far_it_came() -> None:
    with bpf.map_create(1, 4, 4, 4) as created:
        batch = Elements(created, 4, 4).update_batch(b"".join(map(key, range(10))), bytes(40), 10)
    assert batch.result == -errno.E2BIG
    assert batch.count == 4


@pytest.mark.parametrize(
    ("text", "cpus"), [("0\n", (0,)), ("0-3", (0, 1, 2, 3)), ("0,2-3,8", (0, 2, 3, 8)), ("5-5", (5,))]
)
def test_cpu_lists(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cpus


def test_possible_cpus_is_the_size_of_per_cpu_entries() -> None:
    size = 8 * possible_cpus()
    with bpf.map_create(6, 4, 8, 1) as created:
        elements = Elements(created, 4, size)
        value = b"".join(key(i + 1) + bytes(4) for i in range(possible_cpus()))
        assert elements.update(bytes(4), value) == 0
        assert elements.lookup(bytes(4)) == value


def test_threads_share_one_map() -> None:
    """The block of memory behind the calls belongs to one call at a time."""
    wrong: list[int] = []
    with bpf.map_create(1, 4, 8, 64) as created:
        elements = Elements(created, 4, 8)

        def hammer(number: int) -> None:
            value = number.to_bytes(8, "little")
            for _ in range(300):
                elements.update(key(number), value)
                if elements.lookup(key(number)) != value:
                    wrong.append(number)

        threads = [threading.Thread(target=hammer, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
