"""Native stores answer as the stores in pure Python do, and may be used while native code runs."""

from __future__ import annotations

import random
import threading

import pytest

from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.maps.memory import create_store
from ebpfkit.maps.native import NATIVE, create_native_store, layout_of
from ebpfkit.vm.jit_loop import repeat
from ebpfkit.vm.machine import Machine

SIZES = [("hash", 4, 8), ("hash", 7, 13), ("hash", 40, 1), ("lru_hash", 4, 8), ("lru_hash", 16, 64)]
SIZES += [("lpm_trie", 8, 8), ("lpm_trie", 5, 13), ("lpm_trie", 20, 16)]


def keys_of(dice: random.Random, kind: str, size: int) -> list[bytes]:
    if kind != "lpm_trie":
        return [dice.randbytes(size) for _ in range(16)]
    longest = (size - 4) * 8 + 1  # one more than there is
    return [
        dice.randint(0, longest).to_bytes(4, "little") + bytes(dice.choice([0, 255, 128]) for _ in range(size - 4))
        for _ in range(24)
    ]


@pytest.mark.parametrize(("kind", "key_size", "value_size"), SIZES)
def test_same_answers(kind: str, key_size: int, value_size: int) -> None:
    spec = MapSpec("m", kind, key_size, value_size, 9, flags=1 if kind == "lpm_trie" else 0)
    plain, native = create_store(spec), create_native_store(spec)
    assert isinstance(native, NATIVE[kind]) and layout_of(native) is not None
    dice = random.Random(f"{kind}{key_size}{value_size}")
    keys = keys_of(dice, kind, key_size)
    for _ in range(1500):
        key, value, flags = dice.choice(keys), dice.randbytes(value_size), dice.choice([0, 0, 0, 1, 2, 3, 9])
        action = dice.randrange(5)
        answers = []
        for store in (plain, native):
            if action == 0:
                answers.append(store.update(key, value, flags))
            elif action == 1:
                answers.append(store.remove(key))
            elif action == 2:
                cell = store.lookup(key)
                answers.append(None if cell is None else bytes(cell))
            elif action == 3:
                answers.append(store.get(key))
            else:
                answers.append((sorted(store.items()), len(store)))
        assert answers[0] == answers[1]


def test_a_held_value_survives_an_update() -> None:
    for kind in ("hash", "lru_hash"):
        store = create_native_store(MapSpec("m", kind, 4, 4, 2))
        store.set(b"abcd", b"old!")
        held = store.lookup(b"abcd")
        store.set(b"abcd", b"new!")
        assert held is not None and bytes(held) == b"old!"
        assert store.get(b"abcd") == b"new!"


def test_what_is_too_large_stays_in_python() -> None:
    spec = MapSpec("m", "hash", 4, 1 << 20, 1 << 20)
    assert type(create_native_store(spec)) is type(create_store(spec))


@pytest.mark.parametrize("entries", [2, 64])  # in a table of two buckets nearly every entry shares a chain
def test_read_and_written_while_a_program_runs(entries: int) -> None:
    """A program counts in a hash table in one thread; another one reads the count and changes other entries."""
    asm = """
        *(u32 *)(r10 -4) = 1
        r1 = map[counts] ll
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem#1
        if r0 == 0 goto missing
        r1 = 1
        lock *(u64 *)(r0 +0) += r1
        r0 = 2
        exit
        missing:
        r0 = 0
        exit
    """
    spec = MapSpec("counts", "hash", 4, 8, entries)
    obj = ObjectFile(
        {"p": ProgramSpec("p", "xdp", "xdp", tuple(parse(asm)), license="GPL", maps={"counts": spec})},
        {"counts": spec},
        license="GPL",
    )
    machine = Machine(obj, jit="safe")
    counts = machine.maps["counts"]
    one = (1).to_bytes(4, "little")
    counts.set(one, bytes(8))
    assert repeat(machine, bytes(64), 10) == 2
    runs = 1_000_000
    thread = threading.Thread(target=lambda: repeat(machine, bytes(64), runs))
    seen = []
    thread.start()
    turn = 0
    while thread.is_alive():
        turn += 1
        other = (2 + turn % 50).to_bytes(4, "little")
        counts.set(other, turn.to_bytes(8, "little"))
        assert counts.get(other) == turn.to_bytes(8, "little")
        counts.delete(other)
        seen.append(int.from_bytes(counts.get(one) or b"", "little"))
    thread.join()
    assert seen == sorted(seen)
    assert int.from_bytes(counts.get(one) or b"", "little") == runs + 12
