"""Definitions of maps in an object: BTF structures whose members carry numbers and types, as libbpf reads them.

Belongs here: which members a map has. How BTF nodes are written is `debuginfo.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.compiler.debuginfo import DebugInfo
from ebpfkit.compiler.ir import Function
from ebpfkit.dsl.maps_of_maps import MapOfMaps
from ebpfkit.dsl.prog_arrays import ProgArray
from ebpfkit.dsl.typeinfo import ArrayType, IntType

if TYPE_CHECKING:
    from ebpfkit.dsl.maps import MapFacade

__all__ = ["define_map"]


def define_map(debug: DebugInfo, facade: MapFacade, function: Function) -> tuple[int, int, tuple[str | None, ...]]:
    """The size of a map's definition variable, its debug node, and what its slots hold at first, by name."""
    spec = facade.spec
    members = _members(debug, facade)
    file, line = (spec.span.file, spec.span.line) if spec.span else (function.scope.file, function.scope.line)
    slots: tuple[str | None, ...] = ()
    values = None
    if isinstance(facade, ProgArray) and facade.programs:
        names = {index: program.name for index, program in facade.programs.items()}
        slots = tuple(names.get(index) for index in range(max(names) + 1))
        values = debug.program_pointers()
    elif isinstance(facade, MapOfMaps):
        values = debug.map_pointers(_members(debug, facade.inner))
    return 8 * len(members), debug.map_variable(spec.name, file, line, members, values), slots


def _members(debug: DebugInfo, facade: MapFacade) -> list[tuple[str, int]]:
    """The members of a definition and the nodes of the types that they point to."""
    spec = facade.definition("map")
    members = [("type", debug.number(MAP_TYPES[spec.type].id))]
    if spec.max_entries:
        members.append(("max_entries", debug.number(spec.max_entries)))
    if spec.key_size:
        members.append(("key", _key_type(debug, facade)))
    if spec.value_size:
        members.append(("value", debug.type(facade.stored_types[1].__ebpf_type__)))
    if spec.flags:
        members.append(("map_flags", debug.number(spec.flags)))
    return members


def _key_type(debug: DebugInfo, facade: MapFacade) -> int:
    info = facade.stored_types[0].__ebpf_type__
    if facade.map_type != "lpm_trie":
        return debug.type(info)
    # The kernel wants a prefix length before the address, and BTF that says so.
    assert isinstance(info, (IntType, ArrayType))
    length = debug.integer("u32", 32)
    members = [("prefixlen", length, 4, 0), ("data", debug.type(info), info.size, 4)]
    return debug.structure(f"{info.name}_prefix", members, 4 + info.size)
