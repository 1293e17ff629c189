"""One program in the machine and in the kernel, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.loader.collection import Collection
from ebpfkit.verifier import Report
from ebpfkit.vm.machine import Machine


def object_of(asm: str, maps: Sequence[MapSpec] = (), prog_type: str = "xdp") -> ObjectFile:
    """An object with one program in assembly, which names its maps as `map[name]`."""
    by_name = {spec.name: spec for spec in maps}
    program = ProgramSpec("prog", prog_type, prog_type, tuple(parse(asm)), license="GPL", maps=by_name)
    return ObjectFile({"prog": program}, by_name, license="GPL")


def accepted(*names: str) -> Report:
    """What a verifier says that accepts these programs: for programs that the kernel's accepts, and ours cannot yet."""
    return cast("Report", SimpleNamespace(programs=[SimpleNamespace(name=name, verdict="accept") for name in names]))


def in_machine(
    obj: ObjectFile, packets: Sequence[bytes], program: str | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """(return value, packet with its metadata) of each run, and what the maps hold afterwards."""
    machine = Machine(obj, program=program)
    runs = [machine.run(packet) for packet in packets]
    held = {name: sorted(store.items()) for name, store in machine.maps.items() if _is_readable(store.spec)}
    return [(run.r0 & 0xFFFF_FFFF, run.meta + run.data) for run in runs], held


def in_kernel(
    obj: ObjectFile, packets: Sequence[bytes], program: str | None = None, load: Sequence[str] = ()
) -> tuple[list[Any], dict[str, Any]]:
    """The same from the kernel (maps with one value for all CPUs); `load` names all programs that have to be there."""
    name = program or next(iter(obj.programs))
    with Collection.load(obj, programs=load or [name]) as collection:
        runs = [collection.programs[name].test_run(packet) for packet in packets]
        held = {key: sorted(live.items()) for key, live in collection.maps.items() if _is_readable(live.spec)}
    return [(run.retval, run.meta + run.data) for run in runs], held


def _is_readable(spec: MapSpec) -> bool:
    """Maps that user space can read in the kernel, and whose values mean the same on both sides."""
    return spec.key_size > 0 and spec.type not in ("xskmap", "devmap", "prog_array", "array_of_maps")
