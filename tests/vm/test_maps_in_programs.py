"""Maps as programs use them: the same return values and the same contents as in the kernel."""

from __future__ import annotations

from itertools import product

import pytest

from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.vm.machine import Machine

from .both import in_kernel, in_machine, object_of

pytestmark = pytest.mark.kernel

PACKET = bytes(range(64))


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def key_of(*words: int) -> str:
    """Put a key of 32-bit words on the stack; r2 points to it."""
    stores = "".join(f"*(u32 *)(r10 {-16 + 4 * i}) = {word:#x}\n" for i, word in enumerate(words))
    return stores + "r2 = r10\nr2 += -16\n"


def step(operation: str, words: tuple[int, ...], flags: int, number: int) -> str:
    """One operation; its result is mixed into r8."""
    if operation == "update":
        call = f"*(u64 *)(r10 -24) = {number}\nr3 = r10\nr3 += -24\nr4 = {flags}\ncall bpf_map_update_elem#2\n"
    elif operation == "delete":
        call = "call bpf_map_delete_elem#3\n"
    else:
        call = f"call bpf_map_lookup_elem#1\nif r0 == 0 goto none{number}\nr0 = *(u64 *)(r0 +0)\nnone{number}:\n"
    return f"r1 = map[m] ll\n{key_of(*words)}{call}r8 *= 31\nr8 += r0\n"


def program(steps: list[tuple[str, tuple[int, ...], int]]) -> str:
    body = "".join(step(*one, number) for number, one in enumerate(steps, 1))
    return f"r8 = 7\n{body}r0 = r8\nexit"


KEYS: dict[str, list[tuple[int, ...]]] = {
    "plain": [(0,), (1,), (2,), (3,), (0xFFFF_FFFF,)],
    "prefix": [(0, 0), (8, 0x0A), (24, 0x02010A), (32, 0x0302010A), (33, 0x0A), (16, 0xFFFF)],
}
MAPS = {
    "hash": (MapSpec("m", "hash", 4, 8, 2), "plain"),
    "hash without preallocation": (MapSpec("m", "hash", 4, 8, 2, flags=1), "plain"),
    "percpu_hash": (MapSpec("m", "percpu_hash", 4, 8, 2), "plain"),
    "lru_hash": (MapSpec("m", "lru_hash", 4, 8, 1024), "plain"),
    "array": (MapSpec("m", "array", 4, 8, 3), "plain"),
    "percpu_array": (MapSpec("m", "percpu_array", 4, 8, 3), "plain"),
    "lpm_trie": (MapSpec("m", "lpm_trie", 8, 8, 3, flags=1), "prefix"),
}


@pytest.mark.parametrize("name", MAPS)
def test_updates_lookups_deletes(name: str) -> None:
    """Every operation on every key, with all update flags: E2BIG, ENOENT, EEXIST and EINVAL come out the same."""
    spec, keys = MAPS[name]
    words = KEYS[keys]
    rounds = [
        [("update", word, flags) for word in words] + [("lookup", word, 0) for word in words]
        for flags in (0, 1, 2, 3, 4, 9)
    ]
    rounds.append([("delete", word, 0) for word in words] * 2)
    rounds.append([("update", word, 1) for word in words] + [("update", word, 2) for word in words])
    rounds.append([(op, word, 0) for word, op in product(words[:3], ("delete", "update", "delete", "lookup"))])
    for steps in rounds:
        obj = object_of(program(steps), [spec])
        ours, our_maps = in_machine(obj, [PACKET, PACKET])
        theirs, their_maps = in_kernel(obj, [PACKET, PACKET])
        assert ours == theirs, steps
        if "percpu" not in name:  # the kernel's run is on whatever CPU this is
            assert our_maps == their_maps


@pytest.mark.parametrize("type", ["queue", "stack"])
def test_queues_and_stacks(type: str) -> None:
    push = "*(u64 *)(r10 -8) = {0}\nr1 = map[m] ll\nr2 = r10\nr2 += -8\nr3 = {1}\ncall bpf_map_push_elem#87\n"
    take = "r1 = map[m] ll\nr2 = r10\nr2 += -8\ncall bpf_map_{0}_elem#{1}\n"
    mix = "r8 *= 31\nr8 += r0\n"
    seen = mix + "r0 = *(u64 *)(r10 -8)\n" + mix
    asm = "r8 = 1\n"
    for value, flags in ((1, 0), (2, 0), (3, 0), (4, 2), (5, 1), (6, 4)):
        asm += push.format(value, flags) + mix
    for name, number in (("peek", 89), ("pop", 88), ("pop", 88), ("pop", 88), ("peek", 89)):
        asm += take.format(name, number) + seen
    obj = object_of(asm + "r0 = r8\nexit", [MapSpec("m", type, 0, 8, 2)])
    assert in_machine(obj, [PACKET])[0] == in_kernel(obj, [PACKET])[0]


REDIRECTS = {
    "devmap": (MapSpec("m", "devmap", 4, 4, 3, contents=((u32(1), u32(1)),)), (0, 1, 2, 3, 4)),
    "devmap with programs": (MapSpec("m", "devmap", 4, 8, 3, contents=((u32(1), u32(1) + bytes(4)),)), (0, 1)),
    "devmap_hash": (MapSpec("m", "devmap_hash", 4, 4, 3, contents=((u32(77), u32(1)),)), (0, 77)),
    "cpumap": (MapSpec("m", "cpumap", 4, 4, 2, contents=((u32(0), u32(64)),)), (0, 1, 2)),
    "xskmap": (MapSpec("m", "xskmap", 4, 4, 2), (0, 1, 2)),
}


@pytest.mark.parametrize("name", REDIRECTS)
def test_redirects(name: str) -> None:
    """Every flag with a target and without: what the program gets back, and what is recorded."""
    spec, keys = REDIRECTS[name]
    for key, flags in product(keys, (0, 1, 2, 3, 4, 8, 10, 16, 24, 32)):
        asm = f"r1 = map[m] ll\nr2 = {key}\nr3 = {flags}\ncall bpf_redirect_map#51\nexit"
        obj = object_of(asm, [spec])
        (ours,), _ = in_machine(obj, [PACKET])
        (theirs,), _ = in_kernel(obj, [PACKET])
        assert (key, flags, *ours) == (key, flags, *theirs)
        recorded = Machine(obj).run(PACKET).redirect
        assert (recorded is not None) == (ours[0] == 4)
        if recorded is not None:
            assert recorded[:2] == ("m", key)


COUNT = """
    r6 = r1
    *(u32 *)(r10 -4) = 0
    r1 = map[counts] ll
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem#1
    if r0 == 0 goto out
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
    r1 = r6
    r2 = map[jumps] ll
    r3 = {index}
    call bpf_tail_call#12
    out:
    r0 = {verdict}
    exit
"""


def test_tail_calls_end_after_33() -> None:
    counts = MapSpec("counts", "array", 4, 8, 1)
    jumps = MapSpec("jumps", "prog_array", 4, 4, 3, value_slots=("ping", "pong"))
    maps = {"counts": counts, "jumps": jumps}
    programs = {
        name: ProgramSpec(
            name, "xdp", "xdp", tuple(parse(COUNT.format(index=index, verdict=verdict))), license="GPL", maps=maps
        )
        for name, index, verdict in [("ping", 1, 1), ("pong", 0, 2), ("nowhere", 2, 3), ("outside", 9, 4)]
    }
    obj = ObjectFile(programs, maps, license="GPL")
    for name, runs in (("ping", 34), ("nowhere", 1), ("outside", 1)):
        ours, our_maps = in_machine(obj, [PACKET], name)
        theirs, their_maps = in_kernel(obj, [PACKET], name, load=list(programs))
        assert ours == theirs
        assert our_maps["counts"] == their_maps["counts"] == [(u32(0), runs.to_bytes(8, "little"))]


@pytest.mark.parametrize("key", [0, 1, 2, 9])
def test_maps_in_maps(key: int) -> None:
    inner = MapSpec("inner", "array", 4, 8, 2)
    filled = inner.replace(name="filled", contents=((u32(1), (6).to_bytes(8, "little")),))
    outer = MapSpec("outer", "array_of_maps", 4, 4, 3, inner=inner, value_slots=(None, "filled"))
    asm = f"""
        *(u32 *)(r10 -4) = {key}
        r1 = map[outer] ll
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem#1
        if r0 == 0 goto out
        *(u32 *)(r10 -4) = 1
        r1 = r0
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem#1
        if r0 == 0 goto out
        r0 = *(u64 *)(r0 +0)
        r0 += 100
        out:
        exit
    """
    obj = object_of(asm, [outer, filled])
    assert in_machine(obj, [PACKET])[0] == in_kernel(obj, [PACKET])[0]


@pytest.mark.parametrize("jit", [None, "safe"])
def test_walking_an_lru_table_makes_no_entry_younger(jit: str | None) -> None:
    entries = tuple((bytes([number, 0, 0, 0]), bytes(8)) for number in range(3))
    lru = MapSpec("m", "lru_hash", 4, 8, 3, contents=entries)
    walk = """
        r1 = map[m] ll
        r2 = each ll
        r3 = 0
        r4 = 0
        call bpf_for_each_map_elem#164
        exit
        each:
        r0 = 0
        exit
    """
    machine = Machine(object_of(walk, [lru]), jit=jit)
    assert machine.run(PACKET).r0 == 3
    machine.maps["m"].set(bytes([9, 0, 0, 0]), bytes(8))
    assert {key[0] for key, _ in machine.maps["m"].items()} == {1, 2, 9}
