"""Small objects for the loader's tests, assembled by hand and compiled from C."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ebpfkit.asm import isa
from ebpfkit.asm.insn import R0, R1, R2, R3, R4, R10, Instruction, MapRef
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from tests.conftest import require_tool

I = Instruction  # noqa: E741

COUNTS = MapSpec("counts", "array", 4, 8, 4)
EVENTS = MapSpec("events", "ringbuf", 0, 0, 4096)


def program(name: str, *instructions: Instruction, maps: tuple[MapSpec, ...] = (), **fields: object) -> ProgramSpec:
    """An XDP program of these instructions, followed by exit."""
    spec = ProgramSpec(name, "xdp", "xdp", (*instructions, I(isa.EXIT)), license="GPL", maps={m.name: m for m in maps})
    return spec.replace(**fields)


def returns(verdict: int, name: str = "verdict") -> ProgramSpec:
    """A program that gives every packet the same verdict."""
    return program(name, I(isa.MOV64_IMM, dst=R0, imm=verdict))


def counts(name: str = "counter", slot: int = 1, verdict: int = 2) -> ProgramSpec:
    """A program that adds one to `counts[slot]` for every packet."""
    return program(
        name,
        I(isa.STW, dst=R10, off=-4, imm=slot),
        I(isa.MOV64_REG, dst=R2, src=R10),
        I(isa.ADD64_IMM, dst=R2, imm=-4),
        I(isa.LDDW_MAP_FD, dst=R1, ref=MapRef("counts")),
        I(isa.CALL, imm=1),
        I(isa.JEQ64_IMM, dst=R0, imm=0, off=2),
        I(isa.MOV64_IMM, dst=R1, imm=1),
        I(isa.ATOMIC64_ADD, dst=R0, src=R1),
        I(isa.MOV64_IMM, dst=R0, imm=verdict),
        maps=(COUNTS,),
    )


def sends(value: int = 0x1122334455667788) -> ProgramSpec:
    """A program that sends 8 bytes through the ring buffer `events` for every packet."""
    return program(
        "sender",
        I(isa.LDDW, dst=R3, imm=value),
        I(isa.STXDW, dst=R10, src=R3, off=-8),
        I(isa.LDDW_MAP_FD, dst=R1, ref=MapRef("events")),
        I(isa.MOV64_REG, dst=R2, src=R10),
        I(isa.ADD64_IMM, dst=R2, imm=-8),
        I(isa.MOV64_IMM, dst=R3, imm=8),
        I(isa.MOV64_IMM, dst=R4, imm=0),
        I(isa.CALL, imm=130),
        I(isa.MOV64_IMM, dst=R0, imm=2),
        maps=(EVENTS,),
    )


def object_of(*programs: ProgramSpec, maps: tuple[MapSpec, ...] = ()) -> ObjectFile:
    """An object of these programs with their maps and some more."""
    every = {m.name: m for p in programs for m in p.maps.values()} | {m.name: m for m in maps}
    return ObjectFile({p.name: p for p in programs}, every, license="GPL")


HEADER = """
#include <linux/bpf.h>
#define SEC(n) __attribute__((section(n), used))
#define __uint(n, v) int (*n)[v]
#define __type(n, t) t *n
#define __array(n, t) __typeof__(t) *n[]
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_tail_call)(void *ctx, void *map, __u32 i) = (void *)12;
char _license[] SEC("license") = "GPL";
"""


def compile_c(source: str, folder: Path, name: str = "prog") -> Path:
    """An object that clang makes of the source, whose first (empty) line becomes the include of `HEADER`."""
    clang = require_tool("clang")
    path, out = folder / f"{name}.c", folder / f"{name}.o"
    (folder / "header.h").write_text(HEADER)
    path.write_text(f'#include "header.h"{source}')
    include = "/usr/include/x86_64-linux-gnu"
    command = [clang, "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-I", include, "-c", str(path), "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder)
    return out
