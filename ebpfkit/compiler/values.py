"""What an expression is while it is compiled: a constant, a scalar, a view of memory, an optional one.

Belongs here: the kinds and their shapes. How they combine is `check.py`, how names hold them over control flow is
`state.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from ebpfkit.compiler.ir import Null, Operand
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType, TypeInfo

__all__ = [
    "BOOL",
    "HOLE",
    "INT",
    "Bytes",
    "Const",
    "ContextValue",
    "Location",
    "OptionalScalar",
    "OptionalView",
    "Scalar",
    "Space",
    "Tuple",
    "Value",
    "View",
    "Void",
    "chunks",
    "computed_high",
    "describe",
    "ir_type",
    "limits",
    "scalar",
    "shape_of",
    "type_text",
]

INT = IntType("int", 64, signed=True)
"""A plain Python integer that is only known at run time, such as the index of a `for ... in range(...)`."""
BOOL = IntType("bool", 8, is_bool=True)
HOLE = Null()
"""Stands for an operand in a shape."""


class Space(Enum):
    """Where memory is; the value is how a message calls it."""

    PACKET = "the packet"
    MAP = "a map value"
    STACK = "a local structure"
    RECORD = "a ring buffer record"
    CONTEXT = "the context"
    KERNEL = "the kernel's memory"
    OBJECT = "an allocated object"
    ADDRESS = "memory at an address of the kernel's"
    COPY = "a copy of the packet"
    CALLER = "the caller's memory"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a scalar was read from, for `atomic_add`."""

    pointer: Operand
    space: Space
    owner: int = 0


@dataclass(frozen=True, slots=True)
class Const:
    """Any Python object known at compile time. Plain integers are literals; instances of DSL types are typed."""

    value: Any


@dataclass(frozen=True, slots=True)
class Scalar:
    """An integer at run time; `lo` and `hi` bound it. Network-order types hold the number on the wire.

    `tested`: the bounds come from a comparison, not from how the value was computed. The optimiser may compare another
    copy than the one that is used, and then the verifier knows nothing of it.
    """

    op: Operand
    type: IntType
    lo: int
    hi: int
    place: Location | None = None
    tested: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A structure or array in memory.

    `align` is what its address is known to be a multiple of; `epoch` counts the calls that move the packet's bounds;
    `owner` is the ring buffer record it lies in (0: none); `facade` the map whose value it is, where that is known.
    """

    pointer: Operand
    type: StructType | ArrayType
    cls: Any
    space: Space
    align: int
    epoch: int = 0
    owner: int = 0
    nested: bool = False
    facade: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Bytes:
    """An address (MAC, IPv6Addr): a copied value in registers, cut into `chunks(type.size)` in memory order."""

    ops: tuple[Operand, ...]
    type: ArrayType
    cls: Any


@dataclass(frozen=True, slots=True)
class OptionalView:
    """A view whose pointer may be null."""

    view: View
    source: str


@dataclass(frozen=True, slots=True)
class OptionalScalar:
    """A copied scalar or address that is there when `pointer` is not null."""

    pointer: Operand
    scalar: Scalar | Bytes
    source: str


@dataclass(frozen=True, slots=True)
class Tuple:
    """A tuple written in the function, element by element."""

    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class ContextValue:
    """The program's context argument."""

    cls: Any


@dataclass(frozen=True, slots=True)
class Void:
    """What a call without a result gives; it may only stand as a statement. `what` names the call."""

    what: str


Value = Const | Scalar | Bytes | View | OptionalView | OptionalScalar | Tuple | ContextValue | Void


def limits(type: IntType) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    if type.is_bool:
        return 0, 1
    return (-(1 << (type.bits - 1)), (1 << (type.bits - 1)) - 1) if type.signed else (0, (1 << type.bits) - 1)


def chunks(size: int) -> list[tuple[int, int]]:
    """(offset, bytes) pieces of 8, 4, 2 and 1 bytes that make up `size` bytes."""
    out, offset = [], 0
    while offset < size:
        step = next(s for s in (8, 4, 2, 1) if s <= size - offset)
        out.append((offset, step))
        offset += step
    return out


def scalar(op: Operand, type: IntType, lo: int | None = None, hi: int | None = None) -> Scalar:
    """A run-time scalar, with the type's own bounds unless narrower ones are given."""
    low, high = limits(type)
    return Scalar(op, type, low if lo is None else max(lo, low), high if hi is None else min(hi, high))


def ir_type(type: IntType) -> str:
    """The IR type of a value in a register: truth values are i1 there and a byte in memory."""
    return "i1" if type.is_bool else f"i{type.bits}"


def shape_of(value: Value) -> Value:
    """The value without its operands: what two paths must agree on for a name to keep its meaning."""
    match value:
        case Scalar(place=place):
            keep = place if place is not None and place.space in (Space.MAP, Space.RECORD) else None
            return replace(value, op=HOLE, place=replace(keep, pointer=HOLE) if keep else None)
        case Bytes():
            return replace(value, ops=())
        case View():
            return replace(value, pointer=HOLE)
        case OptionalView(view=view):
            return replace(value, view=replace(view, pointer=HOLE))
        case OptionalScalar(scalar=inner):
            held = shape_of(inner)
            assert isinstance(held, (Scalar, Bytes))
            return replace(value, pointer=HOLE, scalar=held)
        case _:
            return value


def computed_high(value: Scalar) -> int:
    """The upper bound that the value's own computation gives it, tests aside."""
    return limits(value.type)[1] if value.tested and value.type != INT else value.hi


def type_text(info: TypeInfo) -> str:
    """How a message calls a type."""
    name = getattr(info, "name", "")
    if name:
        return str(name)
    if isinstance(info, ArrayType):
        return f"array[{type_text(info.element)}, {info.length}]"
    return f"bits of {info.size} bytes"


def describe(value: Value) -> str:
    """How a message calls the type of a value."""
    match value:
        case Const(value=None):
            return "None"
        case Const(value=constant):
            info = getattr(constant, "__ebpf_type__", None)
            if isinstance(constant, type):
                return f"the type {constant.__name__}"
            return type_text(info) if info is not None else type(constant).__name__
        case Scalar(type=kind):
            return kind.name
        case View(type=kind):
            return type_text(kind)
        case OptionalView(view=view):
            return f"{type_text(view.type)} | None"
        case Bytes(type=kind):
            return type_text(kind)
        case OptionalScalar(scalar=inner):
            return f"{type_text(inner.type)} | None"
        case Tuple():
            return "tuple"
        case ContextValue(cls=cls):
            return getattr(cls, "__name__", "the context")
        case Void(what=what):
            return f"the result of {what}, which has none"
