"""Realistic programs, written from the language reference alone: one meaning for every CPU version and executor.

Each module of `cases/` holds one program of its own name. It is compiled for v2, v3 and v4, verified, loaded into the
kernel, and run on packets of its own, on packets of every other kind, and on both cut short: verdict, bytes, maps and
ring buffer records are those of plain Python.
"""

from __future__ import annotations

import importlib.util
import linecache
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ebpfkit.compiler.driver import Options, compile_programs
from ebpfkit.dsl.execute import run_python
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.typeinfo import StructType
from ebpfkit.elf import open_object
from ebpfkit.verifier import verify_program
from ebpfkit.vm.machine import Machine
from tests.compiler.support import initial, on_one_cpu
from tests.programs.contents import prepare
from tests.programs.packets import frames_of

CASES = Path(__file__).parent / "cases"
PROGRAMS = Path(__file__).parents[2] / "programs"
EXAMPLES = ("gre_decap", "ipip_lb", "too_big", "vlan_pop", "vlan_push", "vxlan_decap")
"""Example programs that move the packet's ends and write headers anew."""
NAMES = sorted(path.stem for path in CASES.glob("*.py"))
TIMES = {"first", "last", "stamp"}
"""Fields that hold a clock's time, which no two runs share."""

ALWAYS_PASS = {"dns_name_key", "dscp", "flows", "histogram", "mss_clamp", "sample_payload", "vlan_push"}
"""Cases that let every packet pass: what they do is in the packet and in maps."""


def load_case(name: str) -> ModuleType:
    path = path_of(name)
    spec = importlib.util.spec_from_file_location(f"case_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    linecache.checkcache(str(path))
    spec.loader.exec_module(module)
    prepare(name, module)
    return module


def path_of(name: str) -> Path:
    return (PROGRAMS if name in EXAMPLES else CASES) / f"{name}.py"


def entries(facade: MapFacade, items: Any) -> dict[bytes, bytes]:
    """What a map holds, without times, zeros, and the shares of other CPUs (programs run on one)."""
    info, size = facade.value_type.__ebpf_type__, facade.spec.value_size
    hidden = [f for f in info.fields if f.name in TIMES] if isinstance(info, StructType) else []
    out = {}
    for key, value in items:
        shown = bytearray(bytes(value))
        if facade.is_per_cpu:
            assert not any(shown[-(-size // 8) * 8 :]), "a value of another CPU"
        del shown[size:]
        for field in hidden:
            shown[field.offset : field.offset + field.type.size] = bytes(field.type.size)
        if any(shown) or not facade.map_type.endswith("array"):
            out[bytes(key)] = bytes(shown)
    return out


Outcome = tuple[list[tuple[int, bytes]], dict[str, Any]]


def in_python(prog: Program, frames: Sequence[bytes]) -> Outcome:
    ran = [run_python(prog, frame, ingress_ifindex=1) for frame in frames]
    maps: dict[str, Any] = {}
    for facade in prog.maps:
        if facade.map_type == "ringbuf":
            maps[facade.name] = [bytes(record) for record in facade.memory_store.read()]
        elif facade.map_type != "xskmap":
            maps[facade.name] = entries(facade, facade.memory_store.items())
    return [(int(r.action), r.data) for r in ran], maps


def in_the_vm(prog: Program, elf: bytes, contents: Any, frames: Sequence[bytes]) -> Outcome:
    machine = Machine(open_object(elf), program=prog.name)
    for name, items in contents.items():
        for key, value in items:
            machine.maps[name].set(key, value)
    ran = [machine.run(frame) for frame in frames]
    maps: dict[str, Any] = {}
    for facade in prog.maps:
        store: Any = machine.maps[facade.name]
        if facade.map_type == "ringbuf":
            maps[facade.name] = [bytes(record) for record in store.read()]
        elif facade.map_type != "xskmap":
            maps[facade.name] = entries(facade, store.items())
    return [(r.r0, bytes(r.data)) for r in ran], maps


def in_the_kernel(prog: Program, elf: bytes, contents: Any, frames: Sequence[bytes]) -> Outcome:
    from ebpfkit.loader.collection import Collection
    from ebpfkit.loader.ringbuf import RingBuffer

    with on_one_cpu(), Collection.load(open_object(elf)) as live:
        for name, items in contents.items():
            for key, value in items:
                live.maps[name].set(key, value)
        ran = []
        records: dict[str, list[bytes]] = {f.name: [] for f in prog.maps if f.map_type == "ringbuf"}
        readers = {name: RingBuffer(live.maps[name]) for name in records}
        for frame in frames:
            ran.append(live.programs[prog.name].test_run(frame))
            for name, reader in readers.items():
                records[name] += [bytes(record) for record in reader.poll(0)]
        for reader in readers.values():
            reader.close()
        maps: dict[str, Any] = dict(records)
        for facade in prog.maps:
            if facade.map_type not in ("ringbuf", "xskmap"):
                maps[facade.name] = entries(facade, list(live.maps[facade.name].items()))
    return [(r.retval, r.data) for r in ran], maps


def differ(got: Outcome, wanted: Outcome, frames: Sequence[bytes], where: str) -> None:
    for number, (mine, python) in enumerate(zip(got[0], wanted[0], strict=True)):
        assert mine == python, f"{where}: frame {number} {frames[number].hex()}"
    assert got[1] == wanted[1], where


@pytest.mark.parametrize("name", [*NAMES, *EXAMPLES])
@pytest.mark.kernel
def test_a_case_means_the_same_everywhere(name: str) -> None:
    module = load_case(name)
    prog: Program = getattr(module, name)
    contents = initial(prog)
    frames = frames_of(name)
    assert len(frames) >= 30
    compiled = {cpu: compile_programs([prog], options=Options(mcpu=cpu)).elf for cpu in cpus_of(name)}
    wanted = in_python(prog, frames)
    assert len({action for action, _ in wanted[0]}) > 1 or name in ALWAYS_PASS, "every packet had the same verdict"
    for cpu, elf in compiled.items():
        report = verify_program(open_object(elf).programs[name])
        assert (report.verdict, report.message) == ("accept", ""), cpu
        differ(in_the_kernel(prog, elf, contents, frames), wanted, frames, f"kernel {cpu}")
    differ(in_the_vm(prog, compiled["v3"], contents, frames), wanted, frames, "vm")


def cpus_of(name: str) -> tuple[str, ...]:
    """Every CPU version, but v2 for those that want the result of an atomic operation."""
    wants_result = re.search(r"= .*atomic_add|atomic_add\(.*\) [%<>=]", path_of(name).read_text())
    return ("v3", "v4") if wants_result else ("v2", "v3", "v4")


def test_there_are_enough() -> None:
    assert len(NAMES) >= 30
