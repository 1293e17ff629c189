"""Native code for arm64: emitted from the same text as for this machine, its instructions looked at."""

from __future__ import annotations

import re

import pytest

from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.llvm.native import native_assembly
from ebpfkit.vm.jit import Jit
from ebpfkit.vm.machine import Machine

from .both import object_of
from .cases import all_cases

MAPS = [
    MapSpec("hash", "hash", 4, 8, 16),
    MapSpec("trie", "lpm_trie", 8, 8, 16, flags=1),
    MapSpec("lru", "lru_hash", 4, 8, 4),
]


def arm64(asm: str) -> str:
    """The assembly of one program."""
    machine = Machine(object_of(asm, MAPS), jit="safe")
    engine = machine.interpreter
    assert isinstance(engine, Jit)
    text, _ = engine.emit(engine.unit_of(machine.entry))
    return native_assembly(text, "aarch64-linux-gnu", features="+lse")


@pytest.mark.parametrize(
    ("asm", "instructions"),
    [
        ("r0 = r1\nr0 /= r2\nr0 %= r3\nexit", ["udiv", "msub"]),
        ("r0 = r1\nr0 s/= r2\nexit", ["sdiv"]),
        ("r0 = r1\nr0 = be16 r0\nr1 = bswap64 r1\nr0 += r1\nexit", ["rev"]),
        ("r0 = r1\nr0 s>>= r3\nw1 >>= w2\nr0 ^= r1\nexit", ["lsr", "asr"]),
        ("r0 = (s8)r1\nexit", ["sxtb|ldrsb"]),
        ("*(u64 *)(r10 -8) = 1\nr0 = 5\nr0 = atomic64_fetch_add((u64 *)(r10 -8), r0)\nexit", ["ldaddal"]),
        ("*(u64 *)(r10 -8) = 1\nr0 = 5\nr0 = atomic64_xchg((u64 *)(r10 -8), r0)\nexit", ["swpal"]),
        ("*(u64 *)(r10 -8) = 1\nr0 = 1\nr1 = 2\nr0 = atomic64_cmpxchg((u64 *)(r10 -8), r0, r1)\nexit", ["casal"]),
        ("*(u64 *)(r10 -8) = 1\nr0 = load_acquire((u64 *)(r10 -8))\nexit", ["dmb\tishld"]),
        ("r1 = 7\nstore_release((u64 *)(r10 -8), r1)\nr0 = 0\nexit", ["dmb\tish"]),
        ("r1 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r1 +0)\nexit", ["ldrb", "b.lo|b.hs|cmp", "blr"]),
    ],
)
def test_instructions(asm: str, instructions: list[str]) -> None:
    text = arm64(asm)
    for pattern in instructions:
        assert re.search(pattern, text), f"{pattern} is not in\n{text}"


def test_map_lookups_are_part_of_the_program() -> None:
    for name in ("hash", "lru", "trie"):
        asm = f"*(u64 *)(r10 -8) = 1\nr1 = map[{name}] ll\nr2 = r10\nr2 += -8\ncall bpf_map_lookup_elem#1\nexit"
        text = arm64(asm)
        assert "ldar" in text or "ldapr" in text  # indices of nodes are loaded with acquire order


def test_every_case_of_the_table_becomes_arm64_code() -> None:
    for case in all_cases()[::12]:
        machine = Machine(parse(case.asm), prog_type=None, jit="safe")
        engine = machine.interpreter
        assert isinstance(engine, Jit)
        text, _ = engine.emit(engine.unit_of(machine.entry))
        assert "ret" in native_assembly(text, "aarch64-linux-gnu", speed=0)
