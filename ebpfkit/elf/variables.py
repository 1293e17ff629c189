"""Global variables of an object that is not loaded yet: reading and setting their initial values."""

from __future__ import annotations

import difflib

from ebpfkit.btf import types as t
from ebpfkit.elf.model import ObjectFile, VarSpec
from ebpfkit.errors import UsageError

__all__ = ["get_variable", "set_variable"]


def get_variable(obj: ObjectFile, name: str) -> bytes:
    """The initial value of a global variable as bytes in the object's byte order. Raises UsageError."""
    var, data = _find(obj, name)
    return data[var.offset : var.offset + var.size]


def set_variable(obj: ObjectFile, name: str, value: bytes | int) -> ObjectFile:
    """A copy of the object in which a global variable begins with another value.

    An integer takes the variable's width and the object's byte order; bytes must have exactly its size. Raises
    UsageError for an unknown name, and for a value that does not fit.

    >>> from ebpfkit.elf import MapSpec, ObjectFile, VarSpec
    >>> data = MapSpec(".data", "array", 4, 4, 1, data=bytes(4))
    >>> obj = ObjectFile({}, {".data": data}, {"port": VarSpec("port", ".data", 0, 4)})
    >>> set_variable(obj, "port", 80).maps[".data"].data
    b'P\\x00\\x00\\x00'
    """
    var, data = _find(obj, name)
    encoded = _encode(obj, var, value)
    changed = data[: var.offset] + encoded + data[var.offset + var.size :]
    spec = obj.maps[var.map_name].replace(data=changed)
    programs = {
        key: program.replace(maps={**program.maps, spec.name: spec}) if spec.name in program.maps else program
        for key, program in obj.programs.items()
    }
    return obj.replace(maps={**obj.maps, spec.name: spec}, programs=programs)


def _find(obj: ObjectFile, name: str) -> tuple[VarSpec, bytes]:
    var = obj.variables.get(name)
    if var is None:
        near = difflib.get_close_matches(name, list(obj.variables), n=1)
        known = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(obj.variables)) or 'none'}"
        raise UsageError(f"no global variable is called {name!r}; {known}")
    data = obj.maps[var.map_name].data
    if data is None:
        raise UsageError(f"map {var.map_name!r} of variable {name!r} has no initial data")
    return var, data


def _encode(obj: ObjectFile, var: VarSpec, value: bytes | int) -> bytes:
    if not isinstance(value, int):
        if len(value) != var.size:
            raise UsageError(f"variable {var.name!r} has {var.size} bytes, and {len(value)} were given")
        return bytes(value)
    type_ = obj.btf.resolve(var.type_id) if obj.btf and var.type_id else None
    if isinstance(type_, t.Struct | t.Array | t.Float) or var.size not in (1, 2, 4, 8):
        kind = t.KIND_NAMES[type_.kind].lower() if type_ else "value"
        raise UsageError(f"variable {var.name!r} is a {kind} of {var.size} bytes, so its value is given as bytes")
    bits = var.size * 8
    signed = isinstance(type_, t.Int | t.Enum) and (type_.is_signed if isinstance(type_, t.Int) else type_.signed)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if isinstance(type_, t.Int) and type_.is_bool:
        high = 1
    if type_ is None:
        low = -(1 << (bits - 1))
    if not low <= value <= high:
        raise UsageError(f"{value} is not within {low}..{high}, the range of variable {var.name!r}")
    return (value & ((1 << bits) - 1)).to_bytes(var.size, "big" if obj.big_endian else "little")
