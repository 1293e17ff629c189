# ruff: noqa: E501 (rows of a table stay on one line)
"""What native code leaves to Python gives the same in all of them: interpreter, safe and trusted code, the kernel.

Callbacks are in `test_clang_programs`.
"""

from __future__ import annotations

from typing import Any

import pytest

from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.verifier import Report, verify_program
from ebpfkit.vm.machine import Machine

from .both import in_kernel, object_of

PACKETS = [bytes(range(64)), bytes(range(40, 90)), bytes([1, 2, 3, 4]) * 20]
COUNTS = MapSpec("counts", "array", 4, 8, 8)
HASH = MapSpec("hash", "hash", 4, 8, 8)
JUMPS = MapSpec("jumps", "prog_array", 4, 4, 4, value_slots=("self", None, "next"))

CLASSIFIERS = {
    "LD_ABS of every width": "r6 = r1\nr7 = 0\nr0 = *(u8 *)skb[1]\nr7 += r0\nr0 = *(u16 *)skb[2]\nr7 += r0\n"
    "r0 = *(u32 *)skb[5]\nr0 += r7\nexit",
    "LD_IND of every width": "r6 = r1\nr7 = 3\nr8 = 0\nr0 = *(u8 *)skb[r7 + 1]\nr8 += r0\nr0 = *(u16 *)skb[r7 + 2]\n"
    "r8 += r0\nr0 = *(u32 *)skb[r7 + 5]\nr0 += r8\nexit",
    "LD_ABS outside ends the program": "r6 = r1\nr0 = *(u32 *)skb[62]\nr0 = 7\nexit",
    "LD_ABS from the network header": "r6 = r1\nr0 = *(u16 *)skb[-1048570]\nexit",
    "LD_IND that is negative": "r6 = r1\nr7 = -1\nr0 = *(u8 *)skb[r7 + 0]\nr0 += 5\nexit",
    "stores to the context": "*(u32 *)(r1 +8) = 77\n*(u32 *)(r1 +48) = 5\nr2 = 9\n*(u32 *)(r1 +52) = r2\n*(u8 *)(r1 +56) = 3\n"
    "r0 = *(u32 *)(r1 +8)\nr2 = *(u32 *)(r1 +48)\nr0 += r2\nr2 = *(u32 *)(r1 +52)\nr0 += r2\nr2 = *(u32 *)(r1 +56)\n"
    "r0 += r2\nexit",
    "stores to the context on two ways": "r2 = *(u32 *)(r1 +0)\nif r2 > 60 goto more\n*(u32 *)(r1 +48) = 1\ngoto out\nmore:\n"
    "*(u32 *)(r1 +48) = 2\nout:\nr0 = *(u32 *)(r1 +48)\nexit",
}  # fmt: skip
XDP = {
    "an iterator": "r1 = r10\nr1 += -8\nr2 = 2\nr3 = 6\ncall bpf_iter_num_new\nr7 = 0\nmore: r1 = r10\nr1 += -8\n"
    "call bpf_iter_num_next\nif r0 == 0 goto out\nr1 = *(u32 *)(r0 +0)\nr7 += r1\ngoto more\nout: r1 = r10\nr1 += -8\n"
    "call bpf_iter_num_destroy\nr0 = r7\nexit",
    "maps that Python keeps": "*(u32 *)(r10 -4) = 1\n*(u64 *)(r10 -16) = 5\nr1 = map[hash] ll\nr2 = r10\nr2 += -4\nr3 = r10\n"
    "r3 += -16\nr4 = 1\ncall bpf_map_update_elem#2\nr6 = r0\nr1 = map[hash] ll\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem#1\n"
    "if r0 == 0 goto out\nr0 = *(u64 *)(r0 +0)\nr0 += r6\nout: r0 += 1\nexit",
}  # fmt: skip
PROGRAMS = {name: ("sched_cls", asm) for name, asm in CLASSIFIERS.items()} | {
    name: ("xdp", asm) for name, asm in XDP.items()
}


def object_for(name: str) -> ObjectFile:
    kind, asm = PROGRAMS[name]
    return object_of(asm, [COUNTS, HASH], kind)


def chain() -> ObjectFile:
    """A program that calls itself until that is too often, then another."""
    count = "*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\nr1 = map[counts] ll\ncall bpf_map_lookup_elem#1\nif r0 == 0 goto out\n"
    itself = f"r6 = r1\n{count}r1 = 1\nlock *(u64 *)(r0 +0) += r1\n"
    itself += "".join(f"r1 = r6\nr2 = map[jumps] ll\nr3 = {index}\ncall bpf_tail_call#12\n" for index in (0, 1, 2, 9))
    maps = {"counts": COUNTS, "jumps": JUMPS}
    programs = {
        name: ProgramSpec(name, "xdp", "xdp", tuple(parse(asm)), license="GPL", maps=maps)
        for name, asm in (("self", f"{itself}out: r0 = 3\nexit"), ("next", "r0 = 44\nexit"))
    }
    return ObjectFile(programs, maps, license="GPL")


def ran(obj: ObjectFile, jit: str | None, program: str = "prog") -> list[Any]:
    report = Report(tuple(verify_program(spec) for spec in obj.programs.values())) if jit == "trusted" else None
    machine = Machine(obj, program=program, jit=jit, report=report)
    runs = [machine.run(packet) for packet in PACKETS]
    held = [sorted(store.items()) for store in machine.maps.values() if store.spec.type in ("array", "hash")]
    counted = [run.insns for run in runs] if jit != "trusted" else None
    return [[(run.r0 & 0xFFFF_FFFF, run.data) for run in runs], held, counted]


@pytest.mark.parametrize("name", PROGRAMS)
def test_safe_code(name: str) -> None:
    assert ran(object_for(name), "safe") == ran(object_for(name), None)


@pytest.mark.parametrize("name", PROGRAMS)
def test_trusted_code(name: str) -> None:
    assert ran(object_for(name), "trusted")[:2] == ran(object_for(name), None)[:2]


@pytest.mark.kernel
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_kernel(name: str) -> None:
    assert in_kernel(object_for(name), PACKETS)[0] == ran(object_for(name), None)[0]


@pytest.mark.parametrize("jit", ["safe", "trusted"])
def test_tail_calls(jit: str) -> None:
    ours, theirs = ran(chain(), jit, "self"), ran(chain(), None, "self")
    assert ours[:2] == theirs[:2]
    assert {r0 for r0, _ in ours[0]} == {3} and ours[1][0][0][1] == (34 * 3).to_bytes(8, "little")


@pytest.mark.kernel
def test_tail_calls_in_the_kernel() -> None:
    assert in_kernel(chain(), PACKETS, "self", ["self", "next"])[0] == ran(chain(), None, "self")[0]
