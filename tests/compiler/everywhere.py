"""Programs of one object in every executor, with all that they leave: verdicts, bytes, maps, records, variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ebpfkit.compiler.driver import Compiled, compile_programs
from ebpfkit.dsl.execute import run_python
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.special_maps import RingBuf
from ebpfkit.elf import open_object
from ebpfkit.vm.machine import Machine
from tests.compiler.support import Outcome, _contents, _has_entries, _waiting, on_one_cpu

__all__ = ["EXECUTORS", "differences", "outcomes"]

EXECUTORS = ("python", "interpreter", "jit", "kernel")
Programs = Sequence[Program[Any]]


def _facades(progs: Programs) -> dict[str, Any]:
    return {facade.name: facade for prog in progs for facade in prog.maps}


def _collect(progs: Programs, out: Outcome, maps: Any, records: Callable[[Any], list[bytes]]) -> None:
    """What the maps hold in the end."""
    for name, facade in _facades(progs).items():
        if name not in maps:
            continue
        store = maps[name]
        if isinstance(facade, RingBuf):
            out.maps[name] = records(store)
        elif facade.map_type in ("queue", "stack"):
            out.maps[name] = _waiting(store)
        elif _has_entries(facade):
            out.maps[name] = _contents(list(store.items()), "percpu" in facade.map_type, facade.spec.value_size)


def _read(store: Any) -> list[bytes]:
    return [bytes(record) for record in store.read()]


def _python(progs: Programs, frames: Sequence[bytes]) -> Outcome:
    out = Outcome()
    for prog in progs:
        for frame in frames:
            ran = run_python(prog, frame)
            out.results.append((int(ran.action), ran.data))
    stores = {name: facade.memory_store for name, facade in _facades(progs).items()}
    _collect(progs, out, stores, _read)
    for prog in progs:
        out.maps |= {f"variable {variable.name}": bytes(variable.memory) for variable in prog.variables}
    return out


def _fill(maps: Any, contents: Any) -> None:
    for name, entries in contents.items():
        if name in maps:
            for key, value in entries:
                maps[name].set(key, value)


def _machine(progs: Programs, compiled: Compiled, contents: Any, frames: Sequence[bytes], jit: str | None) -> Outcome:
    obj = open_object(compiled.elf)
    machine = Machine(obj, program=progs[0].name, jit=jit)
    _fill(machine.maps, contents)
    out = Outcome()
    for number, prog in enumerate(progs):
        if number:
            machine = Machine(obj, program=prog.name, jit=jit, maps=list(machine.maps.values()))
        for frame in frames:
            ran = machine.run(frame)
            out.results.append((ran.r0, bytes(ran.data)))
    _collect(progs, out, machine.maps, _read)
    for name, spec in obj.variables.items():
        if spec.map_name != ".rodata":
            cell = machine.maps[spec.map_name].lookup(bytes(4))
            out.maps[f"variable {name}"] = bytes(cell[spec.offset : spec.offset + spec.size])
    return out


def _kernel(progs: Programs, compiled: Compiled, contents: Any, frames: Sequence[bytes]) -> Outcome:
    from ebpfkit.loader.collection import Collection
    from ebpfkit.loader.ringbuf import RingBuffer

    def records(live: Any) -> list[bytes]:
        with RingBuffer(live) as reader:
            return [bytes(record) for record in reader.poll(0)]

    out = Outcome()
    with on_one_cpu(), Collection.load(open_object(compiled.elf)) as live:
        _fill(live.maps, contents)
        for prog in progs:
            for frame in frames:
                ran = live.programs[prog.name].test_run(frame)
                out.results.append((ran.retval, ran.data))
        _collect(progs, out, live.maps, records)
        for name, spec in live.object.variables.items():
            if spec.map_name != ".rodata":
                out.maps[f"variable {name}"] = live.variable(name).read()
    return out


def outcomes(progs: Programs, frames: Sequence[bytes], executors: Sequence[str] = EXECUTORS) -> dict[str, Outcome]:
    """What became of the frames in each executor, by its name; the programs become one object and share its maps."""
    compiled = compile_programs(progs)
    contents = {name: list(facade.initial_contents()) for name, facade in _facades(progs).items()}
    found = {"python": _python(progs, frames)}
    if "interpreter" in executors:
        found["interpreter"] = _machine(progs, compiled, contents, frames, None)
    if "jit" in executors:
        found["jit"] = _machine(progs, compiled, contents, frames, "safe")
    if "kernel" in executors:
        found["kernel"] = _kernel(progs, compiled, contents, frames)
    return found


def differences(found: dict[str, Outcome], frames: Sequence[bytes]) -> list[str]:
    """Where executors disagree with plain Python, in words."""
    wanted = found["python"]
    wrong = []
    for where, got in found.items():
        for number, (mine, python) in enumerate(zip(got.results, wanted.results, strict=True)):
            if mine != python:
                kind = "verdict" if mine[0] != python[0] else "bytes"
                place = f"{where}: {kind} of program {number // len(frames)}, frame {number % len(frames)}"
                wrong.append(f"{place}: {mine[0]} {mine[1].hex()} python {python[0]} {python[1].hex()}")
        wrong += [
            f"{where}: {name}: {entries!r} python {wanted.maps.get(name)!r}"
            for name, entries in got.maps.items()
            if entries != wanted.maps.get(name)
        ]
    return wrong
