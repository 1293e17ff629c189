"""CO-RE: what an instruction must hold on a target kernel, computed from two sets of types.

A record names a local type, a path through it ("0:1:2": element, member, member) and a question (an offset, a size,
whether it exists). The path is followed by member names in the target's types of the same name. Putting the answer into
the instruction is `elf.core`'s. Facts: `enum bpf_core_relo_kind` in linux/bpf.h and its documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from ebpfkit.btf import types as t
from ebpfkit.btf.ext import CoreRelo
from ebpfkit.errors import ObjectError

__all__ = ["CoreAnswer", "Question", "answer", "candidates", "describe", "field_path"]


class Question(IntEnum):
    """What a record asks (`enum bpf_core_relo_kind`)."""

    FIELD_BYTE_OFFSET = 0
    FIELD_BYTE_SIZE = 1
    FIELD_EXISTS = 2
    FIELD_SIGNED = 3
    FIELD_LSHIFT_U64 = 4
    FIELD_RSHIFT_U64 = 5
    TYPE_ID_LOCAL = 6
    TYPE_ID_TARGET = 7
    TYPE_EXISTS = 8
    TYPE_SIZE = 9
    ENUMVAL_EXISTS = 10
    ENUMVAL_VALUE = 11
    TYPE_MATCHES = 12


# Questions that have an answer where the target lacks the type, field or constant.
_ABSENT_IS_ZERO = {
    Question.FIELD_EXISTS, Question.TYPE_EXISTS, Question.TYPE_SIZE, Question.TYPE_ID_TARGET, Question.ENUMVAL_EXISTS,
    Question.TYPE_MATCHES,
}  # fmt: skip
_FIELD = range(Question.FIELD_BYTE_OFFSET, Question.FIELD_RSHIFT_U64 + 1)
_ENUMVAL = (Question.ENUMVAL_EXISTS, Question.ENUMVAL_VALUE)
# Functions that take functions are followed only so far, or a crafted type would take exponential time.
MAX_PARAMS, MAX_FUNCTION_DEPTH = 16, 4
MAX_MATCH_STEPS = 100_000
MAX_CANDIDATES = 256  # types of one name in the target


@dataclass(frozen=True, slots=True)
class CoreAnswer:
    """The number for the target (None: the target has no such thing, so the instruction must never run).

    `local` is what the compiler wrote; None when it cannot be known. `local_size` and `size` are the field's bytes on
    either side, for loads and stores that must change their width; `signed` says that its sign would be lost by that.
    """

    value: int | None
    local: int | None = None
    local_size: int = 0
    size: int = 0
    signed: bool = False


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of a path: a member's name, or the index of an element where `name` is ""."""

    name: str
    index: int


@dataclass(frozen=True, slots=True)
class _Field:
    """Where a path ends: bits from the root's start, the type there, and the width of a bit-field (else 0)."""

    bits: int
    type_id: int
    bitfield_size: int = 0


def essential_name(name: str) -> str:
    """A name without its flavour: `xdp_buff___old` stands for `xdp_buff`."""
    return name.split("___", 1)[0] if "___" in name[1:] else name


def describe(local: t.Btf, relo: CoreRelo) -> str:
    """A record in words, for messages: `offset of xdp_buff.rxq`."""
    question = _question(relo).name.lower().replace("_", " ")
    name = local.name(relo.type_id) or f"type {relo.type_id}"
    if relo.kind in _FIELD:
        path = [step.name or f"[{step.index}]" for step in _parse_field(local, relo)[0][1:]]
        name = ".".join([name, *path])
    return f"{question} of {name}"


def _question(relo: CoreRelo) -> Question:
    try:
        return Question(relo.kind)
    except ValueError:
        raise ObjectError(f"CO-RE relocation kind {relo.kind} is not known", place=".BTF.ext core_relo") from None


def answer(local: t.Btf, relo: CoreRelo, target: t.Btf) -> CoreAnswer:
    """The answer to one record for a target.

    Raises ObjectError for a malformed record and where the target's types of that name disagree.
    """
    question = _question(relo)
    if question is Question.TYPE_ID_LOCAL:
        return CoreAnswer(relo.type_id, relo.type_id)
    name = local.name(relo.type_id)
    if not name:
        raise ObjectError(f"type {relo.type_id} has no name to look for", place=".BTF.ext core_relo")
    find = _field_answer if question in _FIELD else _enum_answer if question in _ENUMVAL else _type_answer
    found = {}
    for candidate in candidates(local, relo.type_id, target):
        result = find(local, relo, target, candidate, question)
        if result is not None:
            found[result] = candidate
    if len(found) > 1:
        ids = ", ".join(str(candidate) for candidate in found.values())
        raise ObjectError(
            f"{describe(local, relo)} differs between the target's types {ids}", place=".BTF.ext core_relo"
        )
    if found:
        return next(iter(found))
    local_answer = _local_value(local, _parse_field(local, relo)[1], question) if question in _FIELD else None
    return CoreAnswer(0 if question in _ABSENT_IS_ZERO else None, local_answer)


def candidates(local: t.Btf, type_id: int, target: t.Btf) -> Iterator[int]:
    """The target's types that a local type may stand for: the same kind and name, flavours left aside."""
    kind = _family(local.get(type_id))
    name = essential_name(local.name(type_id))
    found = [candidate for candidate in target.ids(name) if _family(target.get(candidate)) == kind]
    if len(found) > MAX_CANDIDATES:
        raise ObjectError(f"the target has {len(found)} types called {name!r}", place=".BTF.ext core_relo")
    yield from found


def _family(type_: t.BtfType) -> int:
    return t.Enum.kind if isinstance(type_, t.Enum) else type_.kind


def _indices(relo: CoreRelo) -> list[int]:
    parts = relo.access.split(":")
    if len(parts) > t.MAX_DEPTH or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise ObjectError(f"access {relo.access[:80]!r} is no path of numbers", place=".BTF.ext core_relo")
    return [int(part) for part in parts]


def _parse_field(local: t.Btf, relo: CoreRelo) -> tuple[list[_Step], _Field]:
    """The path by names, and the field it reaches in the local types."""
    indices = _indices(relo)
    bad = ObjectError(f"access {relo.access!r} does not fit {local.name(relo.type_id)!r}", place=".BTF.ext core_relo")
    type_id = local.strip(relo.type_id)
    bits = indices[0] * local.size_of(type_id) * 8
    steps = [_Step("", indices[0])]
    bitfield = 0
    for index in indices[1:]:
        type_id = local.strip(type_id)
        type_ = local.get(type_id)
        if isinstance(type_, t.Struct):
            if index >= len(type_.members):
                raise bad
            member = type_.members[index]
            bits += member.bit_offset
            bitfield = member.bitfield_size
            type_id = member.type
            if member.name:
                steps.append(_Step(member.name, index))
        elif isinstance(type_, t.Array):
            if type_.nelems and index >= type_.nelems:
                raise bad
            type_id = type_.type
            bits += index * local.size_of(type_id) * 8
            steps.append(_Step("", index))
        else:
            raise bad
    return steps, _Field(bits, type_id, bitfield)


def _field_answer(local: t.Btf, relo: CoreRelo, target: t.Btf, candidate: int, question: Question) -> CoreAnswer | None:
    steps, field = _parse_field(local, relo)
    type_id = target.strip(candidate)
    found = _Field(steps[0].index * target.size_of(type_id) * 8, type_id)
    for step in steps[1:]:
        inner = target.resolve(found.type_id)
        if step.name:
            member = _find_member(target, found.type_id, step.name, set())
            if member is None:
                return None
            found = _Field(found.bits + member.bits, member.type_id, member.bitfield_size)
        elif isinstance(inner, t.Array) and (not inner.nelems or step.index < inner.nelems):
            found = _Field(found.bits + step.index * target.size_of(inner.type) * 8, inner.type)
        else:
            return None
    if not _fields_fit(local, field.type_id, target, found.type_id, 0):
        return None
    return CoreAnswer(
        _field_values(target, found, question),
        _local_value(local, field, question),
        _size(local, field.type_id),
        _size(target, found.type_id),
        _is_signed(local, field.type_id) or _is_signed(target, found.type_id),
    )


def field_path(local: t.Btf, relo: CoreRelo, target: t.Btf, candidate: int) -> list[tuple[int, int]]:
    """(structure id, member index) of each step of a record's path in a candidate, as far as it goes there."""
    found: list[tuple[int, int]] = []
    type_id = target.strip(candidate)
    for step in _parse_field(local, relo)[0][1:]:
        inner = target.resolve(type_id)
        if step.name:
            steps = _member_path(target, type_id, step.name, set())
            if steps is None:
                break
            found += steps
            struct_ = target.get(steps[-1][0])
            assert isinstance(struct_, t.Struct)
            type_id = struct_.members[steps[-1][1]].type
        elif isinstance(inner, t.Array):
            type_id = inner.type
        else:
            break
    return found


def _member_path(btf: t.Btf, type_id: int, name: str, seen: set[int]) -> list[tuple[int, int]] | None:
    """The steps to a member by name, through anonymous structures and unions."""
    type_id = btf.strip(type_id)
    type_ = btf.get(type_id)
    if not isinstance(type_, t.Struct) or type_id in seen or len(seen) > MAX_CANDIDATES:
        return None
    seen.add(type_id)
    for index, member in enumerate(type_.members):
        if member.name == name:
            return [(type_id, index)]
        if not member.name:
            inner = _member_path(btf, member.type, name, seen)
            if inner is not None:
                return [(type_id, index), *inner]
    return None


def _find_member(btf: t.Btf, type_id: int, name: str, seen: set[int]) -> _Field | None:
    """A member by name, also inside anonymous structures and unions, each of which is searched once."""
    type_id = btf.strip(type_id)
    type_ = btf.get(type_id)
    if not isinstance(type_, t.Struct) or type_id in seen or len(seen) > MAX_CANDIDATES:
        return None
    seen.add(type_id)
    for member in type_.members:
        if member.name == name:
            return _Field(member.bit_offset, member.type, member.bitfield_size)
        if not member.name:
            inner = _find_member(btf, member.type, name, seen)
            if inner is not None:
                return _Field(member.bit_offset + inner.bits, inner.type_id, inner.bitfield_size)
    return None


def _fields_fit(local: t.Btf, local_id: int, target: t.Btf, target_id: int, depth: int) -> bool:
    """Whether a field may stand for the other: same sort of thing, whatever its width."""
    mine, theirs = local.resolve(local_id), target.resolve(target_id)
    if isinstance(mine, t.Struct) and isinstance(theirs, t.Struct):
        return True
    if _family(mine) != _family(theirs):
        return False
    if isinstance(mine, t.Enum) or mine.kind == t.Fwd.kind:
        names = essential_name(mine.name), essential_name(theirs.name)
        return not all(names) or names[0] == names[1]
    if isinstance(mine, t.Int) and isinstance(theirs, t.Int):
        return not mine.bit_offset and not theirs.bit_offset
    if isinstance(mine, t.Array) and isinstance(theirs, t.Array):
        return depth < t.MAX_DEPTH and _fields_fit(local, mine.type, target, theirs.type, depth + 1)
    return mine.kind in (t.Ptr.kind, t.Float.kind)


def _size(btf: t.Btf, type_id: int) -> int:
    type_ = btf.resolve(type_id)
    return btf.size_of(type_id) if not isinstance(type_, t.Void | t.Fwd | t.FuncProto) else 0


def _is_signed(btf: t.Btf, type_id: int) -> bool:
    type_ = btf.resolve(type_id)
    return type_.is_signed if isinstance(type_, t.Int) else isinstance(type_, t.Enum) and type_.signed


def _local_value(btf: t.Btf, field: _Field, question: Question) -> int | None:
    """What the compiler wrote; None where compilers choose another unit to load a bit-field by."""
    free = question in (Question.FIELD_BYTE_OFFSET, Question.FIELD_BYTE_SIZE, Question.FIELD_LSHIFT_U64)
    return None if free and field.bitfield_size else _field_values(btf, field, question)


def _field_values(btf: t.Btf, field: _Field, question: Question) -> int | None:
    """The answer to a question about a field, from the types it lies in."""
    if question is Question.FIELD_EXISTS:
        return 1
    if question is Question.FIELD_SIGNED:
        return int(_is_signed(btf, field.type_id))
    size = _size(btf, field.type_id)
    offset = field.bits // 8
    width = field.bitfield_size or size * 8
    if field.bitfield_size:
        # The smallest aligned unit of the field's type, or twice as wide, that holds all its bits.
        while size:
            offset = field.bits // 8 // size * size
            if field.bits + width - offset * 8 <= size * 8:
                break
            size *= 2
            if size > 8:
                raise ObjectError("a bit-field is spread over more than 8 bytes", place=".BTF.ext core_relo")
    if question is Question.FIELD_BYTE_OFFSET:
        return offset
    if question is Question.FIELD_BYTE_SIZE:
        return size
    if question is Question.FIELD_RSHIFT_U64:
        return 64 - width
    if btf.big_endian:
        return (8 - size) * 8 + (field.bits - offset * 8)
    return 64 - (field.bits + width - offset * 8)


def _type_answer(local: t.Btf, relo: CoreRelo, target: t.Btf, candidate: int, question: Question) -> CoreAnswer | None:
    if question is Question.TYPE_MATCHES:
        return CoreAnswer(1, 1) if _Matcher(local, target).match(relo.type_id, candidate, False, 0) else None
    if not _types_fit(local, relo.type_id, target, candidate, 0):
        return None
    if question is Question.TYPE_EXISTS:
        return CoreAnswer(1, 1)
    if question is Question.TYPE_SIZE:
        return CoreAnswer(target.size_of(candidate), local.size_of(relo.type_id))
    return CoreAnswer(candidate)


def _types_fit(local: t.Btf, local_id: int, target: t.Btf, target_id: int, depth: int) -> bool:
    """Whether two types are the same sort of thing; names and members inside do not count."""
    mine, theirs = local.resolve(local_id), target.resolve(target_id)
    if _family(mine) != _family(theirs) or depth > t.MAX_DEPTH // 2:
        return False
    if isinstance(mine, t.Int) and isinstance(theirs, t.Int):
        return not mine.bit_offset and not theirs.bit_offset
    if isinstance(mine, t.Ptr | t.Array) and isinstance(theirs, t.Ptr | t.Array):
        return _types_fit(local, mine.type, target, theirs.type, depth + 1)
    if isinstance(mine, t.FuncProto) and isinstance(theirs, t.FuncProto):
        if len(mine.params) != len(theirs.params) or len(mine.params) > MAX_PARAMS or depth > MAX_FUNCTION_DEPTH:
            return False
        pairs = [(mine.ret, theirs.ret), *((a.type, b.type) for a, b in zip(mine.params, theirs.params))]
        return all(_types_fit(local, a, target, b, depth + 1) for a, b in pairs)
    return mine.kind != t.Func.kind


class _Matcher:
    """Whether a local type matches a target's (TYPE_MATCHES): its members and constants are all there, of like types.

    Structures match when the target has every local member, by name and matching type; behind a pointer only kind and
    name count. Integers match in size and sign, enumerations when every local constant is there, arrays in length.
    """

    def __init__(self, local: t.Btf, target: t.Btf) -> None:
        self.local = local
        self.target = target
        self.steps = 0

    def match(self, local_id: int, target_id: int, behind_pointer: bool, depth: int) -> bool:
        self.steps += 1
        if depth > t.MAX_DEPTH // 2 or self.steps > MAX_MATCH_STEPS:
            raise ObjectError("the types to be matched nest too deeply", place=".BTF.ext core_relo")
        mine, theirs = self.local.resolve(local_id), self.target.resolve(target_id)
        names = essential_name(mine.name), essential_name(theirs.name)
        # Of names only those of integers may differ: "long int" and "unsigned long" are told apart by size and sign.
        if all(names) and names[0] != names[1] and not isinstance(mine, t.Int):
            return False
        kinds = {_family(mine), _family(theirs)}
        if behind_pointer and t.Fwd.kind in kinds:
            wanted = kinds - {t.Fwd.kind} or {t.Struct.kind}
            forwards = [type_ for type_ in (mine, theirs) if isinstance(type_, t.Fwd)]
            return all(wanted <= {t.Union.kind if f.is_union else t.Struct.kind} or len(wanted) == 0 for f in forwards)
        if len(kinds) > 1:
            return False
        return self._same_kind(mine, theirs, behind_pointer, depth + 1)

    def _same_kind(self, mine: t.BtfType, theirs: t.BtfType, behind_pointer: bool, depth: int) -> bool:
        match mine, theirs:
            case t.Int(), t.Int():
                same = mine.size == theirs.size and mine.is_signed == theirs.is_signed
                return same and not mine.bit_offset and not theirs.bit_offset
            case t.Struct(), t.Struct():
                return behind_pointer or self._members(mine, theirs, depth)
            case t.Enum(), t.Enum():
                values = {essential_name(value.name) for value in theirs.values}
                return all(essential_name(value.name) in values for value in mine.values)
            case t.Array(), t.Array():
                return mine.nelems == theirs.nelems and self.match(mine.type, theirs.type, behind_pointer, depth)
            case t.Ptr(), t.Ptr():
                return self.match(mine.type, theirs.type, True, depth)
            case t.FuncProto(), t.FuncProto():
                pairs = [(mine.ret, theirs.ret), *((a.type, b.type) for a, b in zip(mine.params, theirs.params))]
                same = len(mine.params) == len(theirs.params)
                return same and all(self.match(a, b, behind_pointer, depth) for a, b in pairs)
            case t.Fwd(), t.Fwd():
                return mine.is_union == theirs.is_union
        return mine.kind in (0, t.Float.kind)

    def _members(self, mine: t.Struct, theirs: t.Struct, depth: int) -> bool:
        if len(mine.members) > len(theirs.members):
            return False
        by_name: dict[str, list[t.Member]] = {}
        for member in theirs.members:
            by_name.setdefault(essential_name(member.name), []).append(member)
        return all(
            any(
                self.match(member.type, other.type, False, depth)
                for other in by_name.get(essential_name(member.name), ())
            )
            for member in mine.members
        )


def _enum_answer(local: t.Btf, relo: CoreRelo, target: t.Btf, candidate: int, question: Question) -> CoreAnswer | None:
    mine, theirs = local.resolve(relo.type_id), target.resolve(candidate)
    (index, *rest) = _indices(relo)
    if not isinstance(mine, t.Enum) or not isinstance(theirs, t.Enum) or rest or index >= len(mine.values):
        raise ObjectError(f"access {relo.access!r} is no constant of {mine.name!r}", place=".BTF.ext core_relo")
    wanted = mine.values[index]
    value = next((v.value for v in theirs.values if essential_name(v.name) == essential_name(wanted.name)), None)
    if value is None:
        return None
    return CoreAnswer(1, 1) if question is Question.ENUMVAL_EXISTS else CoreAnswer(value, wanted.value)
