"""What is known at a point of the program: which names hold what, which optional values were tested, what has died.

Belongs here: bindings, the state and how states of two paths join. Lowering asks and updates; nothing here emits code.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from ebpfkit.compiler.ir import Operand, Temp
from ebpfkit.compiler.values import (
    BOOL,
    HOLE,
    INT,
    Const,
    OptionalScalar,
    OptionalView,
    Scalar,
    Value,
    View,
    describe,
    limits,
)
from ebpfkit.dsl.typeinfo import IntType
from ebpfkit.span import Span

__all__ = ["Binding", "Conflict", "Known", "Record", "State", "constant_type", "join"]


class Known(Enum):
    """What a test has shown about an optional value."""

    UNTESTED = "untested"
    PRESENT = "present"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Binding:
    """A name's meaning: the shape of its value, and the stack slots that hold its operands."""

    shape: Value
    slots: tuple[Temp, ...]
    known: Known = Known.UNTESTED
    span: Span | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a name cannot be used here. `code` and `hint` as in a CompileError."""

    code: str
    message: str
    hint: str = field(default="", compare=False)


class Record(Enum):
    """What has become of a reserved ring buffer record."""

    MAYBE = "may be neither submitted nor discarded"
    OPEN = "is neither submitted nor discarded"
    ABSENT = "is not there"
    CLOSED = "was submitted or discarded"
    TORN = "is submitted or discarded on some paths only"

    @property
    def is_open(self) -> bool:
        """Whether it may still wait for its end."""
        return self in (Record.MAYBE, Record.OPEN, Record.TORN)


@dataclass(slots=True)
class State:
    """Names by (frame, name); records by number; the packet's epoch with the place of the call that began it."""

    names: dict[tuple[int, str], Binding | Conflict] = field(default_factory=dict)
    records: dict[int, tuple[Record, Span]] = field(default_factory=dict)
    epoch: int = 0
    epoch_span: Span | None = None
    lock: tuple[Operand, Span] | None = None
    """The spin lock that is held, and where it was taken: a `with` block, so that paths which meet agree."""

    def copy(self) -> State:
        return State(dict(self.names), dict(self.records), self.epoch, self.epoch_span, self.lock)

    def same(self, other: State) -> bool:
        return self.names == other.names and {k: v[0] for k, v in self.records.items()} == {
            k: v[0] for k, v in other.records.items()
        }


def constant_type(value: object) -> IntType | None:
    """The integer type that a constant would have in a variable: `int` for plain integers. None: not a scalar."""
    info = getattr(value, "__ebpf_type__", None)
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, type):
        return None
    if isinstance(info, IntType):
        return info
    if isinstance(value, int) and limits(INT)[0] <= value <= limits(INT)[1]:
        return INT
    return None


def _as_scalar(shape: Value) -> Scalar | None:
    if isinstance(shape, Scalar):
        return shape
    if isinstance(shape, Const):
        type = constant_type(shape.value)
        if type is not None:
            value = int(shape.value)
            return Scalar(HOLE, type, value, value)
    return None


def _join_shapes(left: Value, right: Value) -> Value | None:
    """The shape that covers both, or None."""
    if left == right and type(left) is type(right) and not _differ(left, right):
        return _of_one_map(left, right)
    one, two = _as_scalar(left), _as_scalar(right)
    if one is not None and two is not None and one.type == two.type:
        place = one.place if one.place == two.place else None
        return Scalar(HOLE, one.type, min(one.lo, two.lo), max(one.hi, two.hi), place, one.tested or two.tested)
    return None


def _of_one_map(left: Value, right: Value) -> Value:
    """Of equal shapes the one that knows its map only where both have the same."""
    if isinstance(left, View) and isinstance(right, View) and left.facade is not right.facade:
        return replace(left, facade=None)
    if isinstance(left, OptionalView) and isinstance(right, OptionalView):
        view = left.view if left.view.facade is right.view.facade else replace(left.view, facade=None)
        return replace(left, view=view)
    return left


def _differ(left: Value, right: Value) -> bool:
    """Constants compare equal across types in Python (True == 1); here they differ."""
    return isinstance(left, Const) and isinstance(right, Const) and type(left.value) is not type(right.value)


def _join_bindings(name: str, left: Binding | Conflict | None, right: Binding | Conflict | None) -> Binding | Conflict:
    if isinstance(left, Conflict):
        return left
    if isinstance(right, Conflict):
        return right
    if left is None or right is None:
        there = left or right
        where = f" (it is in line {there.span.line})" if there and there.span else ""
        return Conflict("maybe-unbound", f"{name} has no value on some paths to here{where}", "give it one before")
    optional = isinstance(left.shape, (OptionalView, OptionalScalar))
    shape = _join_shapes(left.shape, right.shape)
    slots = left.slots
    if isinstance(shape, Scalar) and shape.place is None:
        slots = left.slots[:1]
    if slots != right.slots[: len(slots)] or (len(slots) != len(right.slots) and not isinstance(shape, Scalar)):
        shape = None
    if shape is None or (not slots and not isinstance(shape, Const) and left.shape != right.shape):
        return Conflict(
            "type-conflict",
            f"{name} is {describe(left.shape)} on one path to here and {describe(right.shape)} on another",
            "use two names, or cast to one type on both paths",
        )
    known = left.known if left.known == right.known or not optional else Known.UNTESTED
    return Binding(shape, slots, known, left.span)


_RECORD_JOIN = {
    frozenset({Record.ABSENT, Record.CLOSED}): Record.CLOSED,
    frozenset({Record.MAYBE, Record.ABSENT}): Record.MAYBE,
    frozenset({Record.MAYBE, Record.OPEN}): Record.MAYBE,
    frozenset({Record.ABSENT, Record.OPEN}): Record.MAYBE,
}


def _join_records(
    left: dict[int, tuple[Record, Span]], right: dict[int, tuple[Record, Span]]
) -> dict[int, tuple[Record, Span]]:
    out = dict(left)
    for number, (status, span) in right.items():
        mine = left.get(number, (Record.ABSENT, span))[0]
        out[number] = (mine if mine == status else _RECORD_JOIN.get(frozenset({mine, status}), Record.TORN), span)
    for number, (status, span) in left.items():
        if number not in right and status != Record.ABSENT:
            out[number] = (_RECORD_JOIN.get(frozenset({status, Record.ABSENT}), status), span)
    return out


def join(states: list[State]) -> State | None:
    """What is known where these paths meet; None when there is no path."""
    if not states:
        return None
    result = states[0].copy()
    for other in states[1:]:
        names: dict[tuple[int, str], Binding | Conflict] = {}
        for key in dict.fromkeys([*result.names, *other.names]):
            left, right = result.names.get(key), other.names.get(key)
            names[key] = (
                left
                if left is not None and left == right and not _shapes_differ(left, right)
                else (_join_bindings(key[1], left, right))
            )
        result.names = names
        result.records = _join_records(result.records, other.records)
        if other.epoch > result.epoch:  # names of views that died on either path are conflicts already
            result.epoch, result.epoch_span = other.epoch, other.epoch_span
    return result


def _shapes_differ(left: Binding | Conflict, right: Binding | Conflict | None) -> bool:
    return isinstance(left, Binding) and isinstance(right, Binding) and _differ(left.shape, right.shape)
