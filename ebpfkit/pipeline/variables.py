"""Global variables of a module: into the place where programs run, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebpfkit.dsl.program import Program
    from ebpfkit.dsl.variables import Var
    from ebpfkit.elf.model import ObjectFile
    from ebpfkit.loader.collection import Collection
    from ebpfkit.vm import Machine

__all__ = ["decoded", "first_values", "in_machine", "variables_of"]


def variables_of(programs: Iterable[Program], obj: ObjectFile) -> dict[str, Var[Any]]:
    """The variables that programs mention, by name, as far as the object has them.

    It has none that are named only where nothing runs, as behind `if DEBUG:`.
    """
    found = {variable.name: variable for program in programs for variable in program.variables}
    return {name: variable for name, variable in found.items() if name in obj.variables}


def first_values(variables: Iterable[Var[Any]]) -> dict[str, int | bytes]:
    """What the variables hold in memory, as the loader takes it."""
    return {variable.name: bytes(variable.memory) for variable in variables}


@contextmanager
def in_machine(machine: Machine, obj: ObjectFile, variables: Iterable[Var[Any]]) -> Iterator[None]:
    """Run with what the variables hold; what the run did to them stays."""
    places = []
    for variable in variables:
        spec = obj.variables[variable.name]
        cell: Any = machine.maps[spec.map_name].lookup(bytes(4))  # a store in memory
        places.append((variable, cell, slice(spec.offset, spec.offset + spec.size)))
    for variable, cell, place in places:
        cell[place] = bytes(variable.memory)
    yield
    for variable, cell, place in places:
        variable.memory[:] = cell[place]


def decoded(collection: Collection, variables: Iterable[Var[Any]]) -> dict[str, Any]:
    """The variables of a loaded object in their own types."""
    return {variable.name: variable.decode(collection.variable(variable.name).read()) for variable in variables}
