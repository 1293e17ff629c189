"""Where the fields of a structure lie: C's rules, bit fields, unions, and the padding between.

Belongs here: offsets and sizes. What fields do when they are read is `structs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ebpfkit._bits import round_up
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.typeinfo import ArrayType, BitsType, Field, HeaderLength, IntType, StructType, TypeInfo
from ebpfkit.dsl.types import encode, info_of

__all__ = ["BitsBody", "PaddingWarning", "lay_out", "padding_of"]


class PaddingWarning(UserWarning):
    """Keys of a map have bytes between their fields; the text names them."""


class BitsBody:
    """What `bits(...)` leaves in the class body until the layout is made."""

    def __init__(self, width: int, default: int | None) -> None:
        self.width = width
        self.default = default


class _Layout:
    """The running state of laying fields out."""

    def __init__(self, name: str, inherited: StructType, packed: bool, union: bool) -> None:
        self.name = name
        self.packed = packed
        self.union = union
        self.fields: list[Field] = list(inherited.fields)
        self.end = inherited.size
        self.align = inherited.align
        self.unit = 0  # bytes of the bit-field unit that is being filled, and the bits it has left
        self.left = 0

    def add(self, name: str, kind: Any, body: Any) -> None:
        if isinstance(body, BitsBody):
            self._add_bits(name, kind, body)
            return
        self.finish_bits()
        info = info_of(kind)
        default = None
        if isinstance(info, StructType) and info.opaque:  # what stands behind = is for type checkers
            default = bytes(info.size)
        elif body is not None:
            default = encode(kind, body)
        if self.union:
            self._overlay(name, info, default)
        else:
            self._place(name, info, default)

    def _overlay(self, name: str, info: TypeInfo, default: bytes | None) -> None:
        if default is not None:
            refuse("bad-union", f"{self.name}.{name}: a member of a union has no default", "set it where it is made")
        self.fields.append(Field(name, info, 0))
        self.end = max(self.end, info.size)
        self.align = max(self.align, info.align)

    def _place(self, name: str, info: TypeInfo, default: bytes | None) -> None:
        align = 1 if self.packed else info.align
        offset = round_up(self.end, align)
        self.fields.append(Field(name, info, offset, default))
        self.end = offset + info.size
        self.align = max(self.align, align)

    def _add_bits(self, name: str, kind: Any, body: BitsBody) -> None:
        info = info_of(kind)
        if self.union:
            refuse("bad-bits", f"{self.name}.{name}: a union has no bit fields", "put a structure of them into it")
        if not isinstance(info, IntType) or info.signed or info.network or info.is_bool:
            refuse("bad-bits", f"{self.name}.{name}: the unit of a bit field is u8, u16, u32 or u64")
        if not 0 < body.width <= info.bits:
            refuse("bad-bits", f"{self.name}.{name}: {body.width} bits in a {info.name}")
        if self.left == 0 or self.unit != info.size or self.left < body.width:
            self.finish_bits()
            align = 1 if self.packed else info.align
            self.end = round_up(self.end, align) + info.size
            self.align = max(self.align, align)
            self.unit, self.left = info.size, info.bits
        self.left -= body.width
        layout = BitsType(body.width, self.left, self.unit)
        self.fields.append(Field(name, layout, self.end - self.unit, body.default))

    def finish_bits(self) -> None:
        if self.left:
            where = f"{self.name}: the {self.unit * 8}-bit unit of '{self.fields[-1].name}'"
            hint = f"add reserved: u{self.unit * 8} = bits({self.left})"
            refuse("bad-bits", f"{where} has {self.left} bits without a name", hint)
        self.unit = self.left = 0


def lay_out(
    name: str,
    inherited: StructType,
    fields: Mapping[str, tuple[Any, Any]],
    packed: bool,
    header: HeaderLength | None,
    *,
    union: bool = False,
) -> StructType:
    """The layout of a structure: `fields` are the type and what stands behind `=`, by name."""
    layout = _Layout(name, inherited, packed, union)
    for field, (kind, body) in fields.items():
        layout.add(field, kind, body)
    layout.finish_bits()
    size = round_up(layout.end, layout.align)
    info = StructType(name, tuple(layout.fields), size, layout.align, packed, header, union=union)
    for field in header.fields if header is not None else ():
        if info.field(field) is None:
            refuse("no-such-field", f"{name}: header_length names the field '{field}', which it lacks")
    return info


def padding_of(info: TypeInfo, base: int = 0) -> list[tuple[int, int, str]]:
    """(offset, bytes, the field in front) of every hole, those in nested structures too."""
    if isinstance(info, ArrayType):
        return padding_of(info.element, base)
    if not isinstance(info, StructType) or info.opaque or info.union:
        return []
    holes: list[tuple[int, int, str]] = []
    end, before = 0, ""
    for field in info.fields:
        if field.offset > end:
            holes.append((base + end, field.offset - end, before))
        holes += padding_of(field.type, base + field.offset)
        end, before = max(end, field.offset + field.type.size), field.name
    if info.size > end and info.fields:
        holes.append((base + end, info.size - end, before))
    return holes
