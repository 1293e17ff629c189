"""What can be tested: a decorated function, a file, an object, instructions. All become a `Subject`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.errors import EbpfError, UsageError

if TYPE_CHECKING:
    from ebpfkit.asm.insn import Instruction
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.dsl.program import Program
    from ebpfkit.maps.store import MapStore

__all__ = ["Subject", "Testable", "encode_entries", "put_entries", "subject_of"]

Testable = Any  # a decorated function, a path, an ObjectFile, a ProgramSpec, instructions, bytes, a Subject
_BUILT_TYPES = (bytes, bytearray, memoryview)


@dataclass(frozen=True, slots=True)
class Subject:
    """A program to test: its object, which of its programs it is, and the function where there is one."""

    object: ObjectFile
    spec: ProgramSpec
    program: Program | None = None
    facades: Mapping[str, MapFacade] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.spec.name

    def with_entries(self, entries: Mapping[str, Sequence[tuple[bytes, bytes]]]) -> Subject:
        """The same with further entries in its maps from the first packet on, as bytes by map."""
        maps = {
            name: spec.replace(contents=(*spec.contents, *entries.get(name, ())))
            for name, spec in self.object.maps.items()
        }
        return replace(self, object=self.object.replace(maps=maps))


def subject_of(
    x: Testable, name: str | None = None, *, prog_type: str = "xdp", maps: Sequence[MapSpec] = ()
) -> Subject:
    """Make a subject of what a user has; `name` chooses among several programs.

    `prog_type` and `maps` count for instructions and raw bytes, `prog_type` also for files of these. What user space
    put into the maps of a decorated function is in its maps from the first packet on. Raises EbpfError for what cannot
    be compiled, read or chosen.
    """
    from ebpfkit.dsl.program import Program

    if isinstance(x, Subject):
        return x
    if isinstance(x, Program):
        return _of_program(x, [x])
    if isinstance(x, (str, os.PathLike)):
        return _of_file(Path(x), name, prog_type)
    if isinstance(x, ObjectFile):
        return Subject(x, _choose(x, name))
    if isinstance(x, ProgramSpec):
        return _of_spec(x)
    return _of_code(x, prog_type, maps)


def _of_program(program: Program, programs: Sequence[Program]) -> Subject:
    from ebpfkit import pipeline

    obj = pipeline.build(programs)
    facades = {facade.name: facade for each in programs for facade in each.maps}
    return Subject(pipeline.with_contents(obj, facades), obj.programs[program.name], program, facades)


def _of_file(path: Path, name: str | None, prog_type: str) -> Subject:
    from ebpfkit import pipeline
    from ebpfkit.dsl.program import Program

    if path.suffix != ".py":
        obj = pipeline.open_source(path, prog_type=prog_type).object
        return Subject(obj, _choose(obj, name))
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    found = [value for value in vars(pipeline.import_file(path)).values() if isinstance(value, Program)]
    programs = {program.name: program for program in found}
    if name is None and len(programs) == 1:
        name = next(iter(programs))
    if name is None or name not in programs:
        there = ", ".join(programs) or "no program"
        raise UsageError(
            f"{path} holds {there}: choose one" if name is None else f"{path} has no {name!r}, but {there}"
        )
    return _of_program(programs[name], list(programs.values()))


def _of_spec(spec: ProgramSpec) -> Subject:
    return Subject(ObjectFile({spec.name: spec}, spec.maps, license=spec.license, btf=spec.btf), spec)


def _of_code(x: bytes | Sequence[Instruction], prog_type: str, maps: Sequence[MapSpec]) -> Subject:
    from ebpfkit.elf.raw import program_from_code

    if not isinstance(x, _BUILT_TYPES) and not isinstance(x, Sequence):
        raise UsageError(f"{x!r} cannot be tested: give a decorated function, a file, an object or instructions")
    return _of_spec(program_from_code(x, prog_type=prog_type, maps=maps))


def _choose(obj: ObjectFile, name: str | None) -> ProgramSpec:
    there = ", ".join(obj.programs) or "no program"
    if name is None:
        if len(obj.programs) != 1:
            raise UsageError(f"the object holds {there}: choose one")
        return next(iter(obj.programs.values()))
    if name not in obj.programs:
        if name in obj.problems:
            raise EbpfError(f"program {name!r} cannot be used: {obj.problems[name]}")
        raise UsageError(f"the object has no {name!r}, but {there}")
    return obj.programs[name]


def encode_entries(subject: Subject, name: str, entries: Mapping[Any, Any]) -> list[tuple[bytes, bytes]]:
    """Entries of a map as bytes: from values of its types where the map is one of the language, else they are bytes."""
    from ebpfkit.pipeline import encode_entry

    spec = subject.object.maps.get(name)
    if spec is None:
        raise UsageError(f"there is no map {name!r}; there are {', '.join(subject.object.maps) or 'none'}")
    facade = subject.facades.get(name)
    if facade is None:
        return [(bytes(key), bytes(value)) for key, value in entries.items()]
    return [encode_entry(facade, spec, key, value) for key, value in entries.items()]


def put_entries(store: MapStore, entries: Iterable[tuple[bytes, bytes]]) -> None:
    """Store entries; of a per-CPU map one CPU's worth goes to the first CPU, zeros to the others."""
    for key, value in entries:
        size = getattr(store, "value_bytes", len(value))
        store.set(key, value.ljust(size, b"\0"))
