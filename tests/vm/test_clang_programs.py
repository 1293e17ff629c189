"""Objects of clang: each program of `c/road.c` does the same to the same packets in the machine and in the kernel."""

from __future__ import annotations

import functools
import random
import subprocess
from pathlib import Path

import pytest

from ebpfkit.elf import open_object
from ebpfkit.elf.model import ObjectFile
from ebpfkit.verifier import Report, verify_program
from ebpfkit.vm.machine import Machine
from tests.conftest import require_tool

from .both import in_kernel, in_machine

SOURCE = Path(__file__).parent / "c" / "road.c"
PROGRAMS = ["firewall_impl", "answer_impl", "start", "callbacks", "nested_maps", "arithmetic", "strip"]
LEVELS = ["v1", "v2", "v3"]


@functools.cache
def road(cpu: str) -> ObjectFile:
    command = [require_tool("clang"), "--target=bpf", "-O2", "-g", f"-mcpu={cpu}", "-c", str(SOURCE), "-o", "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    obj = open_object(done.stdout, name="road.o")
    blocked = obj.maps["blocked"].replace(contents=((b"\x18\0\0\0\x0a\x09\x08\0", b"\x01\0\0\0"),))
    maps = {**obj.maps, "blocked": blocked}
    programs = {name: spec.replace(maps={m: maps[m] for m in spec.maps}) for name, spec in obj.programs.items()}
    return obj.replace(maps=maps, programs=programs)


def packets() -> list[bytes]:
    """Ethernet with IPv4 of some protocols, sizes and sources, cut ones, and noise."""
    dice = random.Random(20)
    made = []
    for i in range(40):
        source = dice.choice([b"\x0a\x09\x08\x07", b"\x0a\x09\x09\x07", b"\xc0\x00\x02\x01"])
        ihl = dice.choice([5, 5, 6, 15, 4])
        ip = bytes([0x40 | ihl, 0]) + dice.randbytes(6) + bytes([64, dice.choice([1, 6, 17, 47, 200])])
        ip += dice.randbytes(2) + source + b"\x0a\0\0\x01" + bytes(max(0, ihl * 4 - 20))
        ports = bytes([0, dice.choice([53, 80]), 1, dice.randint(0, 2)])
        frame = bytes([i % 4]) + dice.randbytes(11) + dice.choice([b"\x08\x00", b"\x08\x00", b"\x86\xdd"])
        whole = frame + ip + ports + dice.randbytes(dice.choice([8, 60, 700, 1400]))
        made.append(whole[: dice.choice([len(whole), len(whole), len(whole), 16, 33, 36])])
    return [*made, *(dice.randbytes(dice.randint(14, 200)) for _ in range(10))]


@pytest.mark.parametrize("cpu", LEVELS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_runs_in_the_machine(name: str, cpu: str) -> None:
    """The machine gives one result whatever instructions the compiler may use."""
    assert in_machine(road(cpu), packets(), name) == in_machine(road("v3"), packets(), name)


@pytest.mark.kernel
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_kernel_agrees(name: str) -> None:
    obj = road("v3")
    needed = [name, "firewall_impl", "answer_impl"] if name == "start" else [name]
    ours, theirs = in_machine(obj, packets(), name), in_kernel(obj, packets(), name, needed)
    assert ours[0] == theirs[0]
    assert {held: ours[1][held] for held in theirs[1]} == theirs[1]


@pytest.mark.parametrize("name", PROGRAMS)
def test_trusted_code_agrees(name: str) -> None:
    obj = road("v3")
    report = Report(tuple(verify_program(spec) for spec in obj.programs.values()))
    assert [one.name for one in report if not one.ok] == []
    ours = [Machine(obj, program=name, jit=jit, report=report) for jit in ("trusted", None)]
    runs = [[(run.r0 & 0xFFFF_FFFF, run.meta + run.data) for run in map(machine.run, packets())] for machine in ours]
    assert runs[0] == runs[1]


def test_the_programs_do_something() -> None:
    """The packets reach the interesting places, so that agreement means something."""
    verdicts = {name: {r0 for r0, _ in in_machine(road("v3"), packets(), name)[0]} for name in PROGRAMS}
    assert verdicts["firewall_impl"] >= {1, 2}
    assert verdicts["start"] >= {1, 2, 3, 77}
    assert verdicts["nested_maps"] == {1, 2}
    assert len(verdicts["callbacks"]) > 3 and len(verdicts["arithmetic"]) > 30
