"""Arenas: pointers in both forms, pages, and accesses where no page is, as in the kernel."""

from __future__ import annotations

import functools
import importlib.util
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ebpfkit.asm.insn import Instruction, KfuncRef
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.parser import parse
from ebpfkit.elf import open_object
from ebpfkit.elf.model import MapSpec, ObjectFile
from ebpfkit.errors import MachineFault, NotSupported
from ebpfkit.kernel import bpf
from ebpfkit.loader.collection import Collection
from ebpfkit.maps.memory import ArenaStore, create_store
from ebpfkit.vm.machine import Machine
from tests.conftest import skip_or_fail

from .both import accepted

SOURCE = Path(__file__).parent / "c" / "arena.c"
START = 0x1000_0000_8000
ARENA = MapSpec("arena", "arena", 0, 0, 4, flags=1024, map_extra=START)


@functools.cache
def pages() -> ObjectFile:
    if importlib.util.find_spec("ziglang") is None:
        skip_or_fail("the ziglang package is not installed")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "bpfel-freestanding", "-O2", "-g", "-mcpu=v3", "-w"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "arena.o"
        done = subprocess.run([*command, "-c", str(SOURCE), "-o", str(out)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return open_object(out.read_bytes(), name="arena.o")


def words(data: bytes) -> list[str]:
    return [hex(word) for word in struct.unpack("<32Q", data[:256])]


@pytest.mark.kernel
def test_the_kernel_agrees() -> None:
    with Collection.load(pages(), programs=["pages"]) as collection:
        run = bpf.test_run(collection.programs["pages"], b"", context=bytes(256), room=0, repeat=0, bare=True)
    ours = Machine(pages(), program="pages").run(bytes(256))
    assert ours.r0 == run.retval == 0
    assert words(ours.data) == words(run.context)
    assert words(ours.data)[0] == hex(START) and len(set(words(ours.data))) > 12


@pytest.mark.parametrize("jit", ["safe", "trusted"])
def test_native_code_does_the_same(jit: str) -> None:
    ours = Machine(pages(), program="pages", jit=jit, report=accepted("pages")).run(bytes(256))
    theirs = Machine(pages(), program="pages").run(bytes(256))
    assert (ours.r0, words(ours.data)) == (theirs.r0, words(theirs.data))
    assert ours.insns in (theirs.insns, None)


def run(asm: str, jit: str | None, store: ArenaStore | None = None) -> int:
    program = parse(f"r1 = map[arena] ll\nr0 = 0\n{asm}\nexit")
    return Machine(program, None, [store or ARENA], jit=jit, report=accepted("prog")).run().r0


ALLOCATED = f"r3 = {START} ll\nr2 = r3\nr2 = addr_space_cast(r2, 0, 1)\n"
CASES = [
    ("to what may be followed", f"{ALLOCATED}r0 = r2", START & 0xFFFF_FFFF),
    ("and back", f"{ALLOCATED}r0 = addr_space_cast(r2, 1, 0)", START),
    ("null stays null", "r2 = 0\nr0 = addr_space_cast(r2, 1, 0)", 0),
    ("the upper half is forgotten", "r2 = 0x1234500000000007 ll\nr0 = addr_space_cast(r2, 0, 1)", 7),
    ("a store and a load", f"{ALLOCATED}*(u32 *)(r2 +4) = 77\nr0 = *(u32 *)(r2 +4)", 77),
    ("sign extension", f"{ALLOCATED}*(u8 *)(r2 +4) = 200\nr0 = *(s8 *)(r2 +4)", 2**64 - 56),
    ("no page: 0", f"{ALLOCATED}*(u32 *)(r2 +4096) = 77\nr0 = *(u32 *)(r2 +4096)", 0),
    ("before the arena: 0", f"{ALLOCATED}r0 = 5\nr0 = *(u64 *)(r2 -8)", 0),
    ("before the window: 0", "r2 = 0\nr2 = addr_space_cast(r2, 0, 1)\nr0 = 5\nr0 = *(u64 *)(r2 -8)", 0),
    ("behind the window: 0", "w2 = -4\nr2 = addr_space_cast(r2, 0, 1)\nr0 = 5\nr0 = *(u64 *)(r2 +0)", 0),
    ("half on a page: nothing", f"{ALLOCATED}*(u64 *)(r2 +4092) = -1\nr0 = *(u32 *)(r2 +4092)", 0),
    ("an atomic operation", f"{ALLOCATED}r4 = 3\nlock *(u32 *)(r2 +8) += r4\nr0 = *(u32 *)(r2 +8)", 3),
    ("an exchange where no page is", f"{ALLOCATED}r4 = 3\nr4 = xchg_64(r2 +4096, r4)\nr0 = r4", 3),
    ("what user space wrote", f"{ALLOCATED}r0 = *(u64 *)(r2 +16)", 0x55),
    ("by its own address", f"{ALLOCATED}r0 = *(u64 *)(r3 +16)", 0x55),
]


@pytest.mark.parametrize("jit", [None, "safe", "trusted"])
@pytest.mark.parametrize(("asm", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_casts_and_accesses(asm: str, expected: int, jit: str | None) -> None:
    store = create_store(ARENA)
    assert isinstance(store, ArenaStore) and store.touch(0)
    store.memory[16:24] = (0x55).to_bytes(8, "little")
    assert hex(run(asm, jit, store)) == hex(expected)


@pytest.mark.parametrize("jit", [None, "safe"])
def test_what_cannot_be(jit: str | None) -> None:
    with pytest.raises(MachineFault, match="without an arena"):
        Machine(parse("r1 = addr_space_cast(r1, 0, 1)\nexit"), None, jit=jit).run()
    with pytest.raises(MachineFault, match="there are 0 and 1"):
        run("r2 = 1\nr2 = addr_space_cast(r2, 2, 1)", jit)
    two = [ARENA, MapSpec("more", "arena", 0, 0, 1, flags=1024)]
    with pytest.raises(NotSupported, match="'arena' and 'more' at once"):
        Machine(parse("r1 = addr_space_cast(r1, 0, 1)\nexit"), None, two, jit=jit).run()
    with pytest.raises(MachineFault, match="no memory there"):
        run("r2 = r10\nr2 += 0x1000000\nr2 <<= 20\n*(u8 *)(r2 +0) = 1", jit)


@pytest.mark.parametrize("jit", [None, "safe"])
def test_reserved_pages_belong_to_nobody(jit: str | None) -> None:
    reserve = Instruction(OPCODES["CALL_KFUNC"], ref=KfuncRef("bpf_arena_reserve_pages"))
    head = parse(f"r6 = map[arena] ll\nr1 = r6\nr2 = {START + 4096} ll\nr3 = 2")
    again = parse(f"r7 = r0\nr1 = r6\nr2 = {START} ll\nr3 = 2")
    allocate = Instruction(OPCODES["CALL_KFUNC"], ref=KfuncRef("bpf_arena_alloc_pages"))
    last = parse("r8 = r0\nr1 = r6\nr2 = 0\nr3 = 2\nr4 = -1\nr5 = 0")
    out = parse("r0 <<= 1\nr8 <<= 32\nr8 s>>= 32\nr0 += r7\nr0 -= r8\nexit")
    machine = Machine([*head, reserve, *again, reserve, *last, allocate, *out], None, [ARENA], jit=jit)
    assert machine.run().r0 == 16


def test_pages_are_found_in_one_walk_over_a_large_arena() -> None:
    store = create_store(ARENA.replace(max_entries=1 << 18, map_extra=0))
    assert isinstance(store, ArenaStore)
    for page in range(0, 1 << 18, 2):
        store.touch(page)
    assert store.allocate(2) is None and store.allocate(1 << 17) is None
    assert store.allocate(1) == 1
    store.free(10, 3)
    assert store.allocate(5) == 9 and store.allocate(2, 8) is None and store.allocate(1, -1) is None
