"""Bytes of a BTF type as plain Python values, for people and JSON to read."""

from __future__ import annotations

import struct
from typing import Any

from ebpfkit._bits import to_signed
from ebpfkit.btf.types import Array, Btf, Datasec, Enum, Enum64, Float, Int, Member, Ptr, Struct, Union, Var
from ebpfkit.errors import ObjectError

__all__ = ["decode_value"]


def decode_value(btf: Btf, type_id: int, data: bytes) -> Any:
    """The value of type `type_id` at the start of `data`.

    Integers and enumerations become int (bool for `bool`), pointers int, arrays lists (of `char`: text up to the first
    zero, when it is printable), structures, unions and data sections dictionaries by member or variable. Raises
    ObjectError for types that have no value, or when `data` is too short.
    """
    order = "big" if btf.big_endian else "little"
    kind = btf.resolve(type_id)
    if isinstance(kind, (Struct, Union)):
        return {member.name: _member(btf, member, data) for member in kind.members}
    if isinstance(kind, Datasec):
        sections = ((btf.get(entry.type), entry) for entry in kind.vars)
        return {var.name: decode_value(btf, entry.type, data[entry.offset :]) for var, entry in sections}
    if isinstance(kind, Var):
        return decode_value(btf, kind.type, data)
    if isinstance(kind, Array):
        return _array(btf, kind, data)
    size = btf.size_of(type_id)
    if len(data) < size:
        raise ObjectError(f"a value of type {btf.name(kind) or kind} has {size} bytes, and there are {len(data)}")
    number = int.from_bytes(data[:size], "big" if order == "big" else "little")
    if isinstance(kind, Int):
        if kind.is_bool:
            return bool(number)
        return to_signed(number, size * 8) if kind.is_signed else number
    if isinstance(kind, (Enum, Enum64)):
        return to_signed(number, size * 8) if kind.signed else number
    if isinstance(kind, Ptr):
        return number
    if isinstance(kind, Float) and size in (4, 8):
        return struct.unpack(("<" if order == "little" else ">") + ("f" if size == 4 else "d"), data[:size])[0]
    raise ObjectError(f"BTF type {type_id} ({type(kind).__name__}) has no value")


def _member(btf: Btf, member: Member, data: bytes) -> Any:
    if not member.bitfield_size:
        return decode_value(btf, member.type, data[member.bit_offset // 8 :])
    start, bits = member.bit_offset, member.bitfield_size
    unit = data[start // 8 : (start + bits + 7) // 8]
    if btf.big_endian:
        number = int.from_bytes(unit, "big") >> (len(unit) * 8 - start % 8 - bits)
    else:
        number = int.from_bytes(unit, "little") >> (start % 8)
    number &= (1 << bits) - 1
    kind = btf.resolve(member.type)
    return to_signed(number, bits) if isinstance(kind, Int) and kind.is_signed else number


def _array(btf: Btf, kind: Array, data: bytes) -> Any:
    element = btf.resolve(kind.type)
    size = btf.size_of(kind.type)
    if isinstance(element, Int) and size == 1 and element.name == "char":
        text = data[: kind.nelems].partition(b"\0")[0]
        if text.isascii() and text.decode("ascii").isprintable():
            return text.decode("ascii")
    return [
        decode_value(btf, kind.type, data[start : start + size]) for start in range(0, size * kind.nelems, size or 1)
    ]
