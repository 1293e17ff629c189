"""Joining several sets of types into one without duplicates.

Two types are the same when nothing can tell them apart by following references: classes of types are split until no
member differs from the others in what it refers to. A forward declaration stands for the one definition of its name,
where there is one. Variables and sections are never joined: each is a thing of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ebpfkit.btf import types as t
from ebpfkit.errors import ObjectError

__all__ = ["Deduplicated", "deduplicate", "join", "without_ids"]


@dataclass(frozen=True, slots=True)
class Deduplicated:
    """`types` of the joined set, and for each input the new id of every old one."""

    types: list[t.BtfType]
    ids: tuple[tuple[int, ...], ...]
    big_endian: bool = False
    base: t.Btf | None = None

    def to_btf(self, strings: bytes = b"\0") -> t.Btf:
        """The types as a Btf, whose string table begins with `strings` (split BTF: with nothing)."""
        own = strings if self.base is None or strings != b"\0" else b""
        return t.Btf(self.types, own, big_endian=self.big_endian, base=self.base)


def deduplicate(inputs: Sequence[t.Btf]) -> Deduplicated:
    """Join sets of types, in order of first appearance.

    Raises ObjectError when their byte orders differ or one extends another (split BTF).
    """
    if len({btf.big_endian for btf in inputs}) > 1:
        raise ObjectError("types of both byte orders cannot be joined", place=".BTF")
    if any(btf.base is not None for btf in inputs):
        raise ObjectError("types that extend a kernel's (split BTF) cannot be joined", place=".BTF")
    flat: list[t.BtfType] = [t.VOID]
    starts = []
    for btf in inputs:
        starts.append(len(flat) - 1)
        flat.extend(list(btf.types)[1:])
    refs: list[tuple[int, ...]] = [()]
    for start, btf in zip(starts, inputs):
        refs += [tuple(i + start if i else 0 for i in t.referenced_ids(btf.types[n])) for n in range(1, len(btf.types))]
    types, new_ids = join(flat, refs)
    ids = tuple((0, *new_ids[start + 1 : start + len(btf.types)]) for start, btf in zip(starts, inputs))
    return Deduplicated(types, ids, bool(inputs) and inputs[0].big_endian)


def join(
    flat: Sequence[t.BtfType], refs: Sequence[tuple[int, ...]], *, offset: int = 0
) -> tuple[list[t.BtfType], list[int]]:
    """The types (the first is void) without duplicates, and the new id of each old one.

    `refs` are the indices that each refers to; one below zero is the id, negated, of a type outside the set. New ids
    begin behind `offset`.
    """
    classes = _classes(flat, refs)
    new_ids = [0] * len(flat)
    first: dict[int, int] = {}
    chosen = []
    for index in range(1, len(flat)):
        number = classes[index]
        if number not in first and not _stands_for_another(flat[index], flat, classes, index):
            first[number] = len(first) + 1 + offset
            chosen.append(index)
    # A forward declaration of a known type comes before its definition perhaps: every class has its id by now.
    for index in range(1, len(flat)):
        new_ids[index] = first[classes[index]]
    types: list[t.BtfType] = [t.VOID]
    for index in chosen:
        numbers = iter([new_ids[i] if i >= 0 else -i for i in refs[index]])
        types.append(t.with_ids(flat[index], lambda _, numbers=numbers: next(numbers)))  # type: ignore[misc]
    return types, new_ids


def without_ids(type_: t.BtfType) -> tuple[object, ...]:
    """What a type says by itself, whatever it refers to."""
    return (type_.kind, t.with_ids(type_, lambda _: 0))


def _is_forward(type_: t.BtfType) -> bool:
    return type_.kind == t.Fwd.kind or (isinstance(type_, t.Enum) and not type_.values and bool(type_.name))


def _key(type_: t.BtfType) -> tuple[str, int]:
    """Name and kind of what a type declares or defines; enumerations of either width are one kind."""
    if isinstance(type_, t.Fwd):
        return type_.name, t.Union.kind if type_.is_union else t.Struct.kind
    return type_.name, t.Enum.kind if isinstance(type_, t.Enum) else type_.kind


def _stands_for_another(type_: t.BtfType, flat: Sequence[t.BtfType], classes: Sequence[int], index: int) -> bool:
    return _is_forward(type_) and classes[index] != index and not _is_forward(flat[classes[index]])


def _classes(flat: Sequence[t.BtfType], refs: Sequence[tuple[int, ...]]) -> list[int]:
    """The class of each type, as the index of its first member."""
    definitions: dict[tuple[str, int], list[int]] = {}
    for index, type_ in enumerate(flat):
        if isinstance(type_, t.Struct | t.Enum) and type_.name and not _is_forward(type_):
            definitions.setdefault(_key(type_), []).append(index)
    ambiguous: set[tuple[str, int]] = set()
    while True:
        target = list(range(len(flat)))
        for index, type_ in enumerate(flat):
            key = _key(type_)
            if _is_forward(type_) and key in definitions and key not in ambiguous:
                target[index] = definitions[key][0]
        classes = _refine(flat, refs, target)
        # A name with several definitions: a declaration does not say which, so it stays one.
        found = {
            key for key, rows in definitions.items() if key not in ambiguous and len({classes[i] for i in rows}) > 1
        }
        declared = {_key(type_) for type_ in flat if _is_forward(type_)}
        if not found & declared:
            return classes
        ambiguous |= found


def _refine(flat: Sequence[t.BtfType], refs: Sequence[tuple[int, ...]], target: Sequence[int]) -> list[int]:
    """Split classes by what their members refer to, until nothing changes."""
    seen: dict[object, int] = {}
    classes = [0] * len(flat)
    for index, type_ in enumerate(flat):
        own = isinstance(type_, t.Var | t.Datasec)
        classes[index] = seen.setdefault(index if own else without_ids(type_), index)
    count = len(seen)
    active = [index for index in range(len(flat)) if target[index] == index]
    while True:
        groups: dict[tuple[int, ...], int] = {}
        changed = list(classes)
        for index in active:
            signature = (classes[index], *(classes[target[i]] if i >= 0 else i for i in refs[index]))
            changed[index] = groups.setdefault(signature, index)
        classes = changed
        if len(groups) == count:
            break
        count = len(groups)
    return [classes[target[index]] for index in range(len(flat))]
