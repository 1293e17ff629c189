"""Split BTF against its base: what a module's types repeat of the kernel's becomes a reference to it.

A type of the module is the base's when nothing can tell them apart by following references. A named structure is held
against the base's of that name by walking both, which copes with circles; whatever only refers to others (pointers,
arrays, prototypes) follows from these. What is left is joined among itself, as `dedup` does for whole sets.
"""

from __future__ import annotations

from collections.abc import Iterable

from ebpfkit.btf import types as t
from ebpfkit.btf.dedup import Deduplicated, join, without_ids
from ebpfkit.errors import ObjectError

__all__ = ["deduplicate_split"]

MAX_WALK = 100_000  # pairs of types that one comparison may look at
_NAMED = (t.Struct, t.Enum, t.Int, t.Float, t.Fwd)


def deduplicate_split(split: t.Btf) -> Deduplicated:
    """The split BTF without what its base has, or it has twice; `ids` has the new id of every old one.

    `types` begin with the base's, which keep their ids. Raises ObjectError when it extends nothing.
    """
    base = split.base
    if base is None:
        raise ObjectError("these types extend no others, so there is nothing to hold them against", place=".BTF")
    matcher = _Matcher(split, base)
    first = len(base.types)
    found = {type_id: matcher.match(type_id) for type_id in range(first, len(split.types))}
    kept = [type_id for type_id, same in found.items() if not same]
    place = {type_id: number for number, type_id in enumerate(kept, 1)}
    # Those of the base count as things of their own, below zero; variables and sections never match.
    refs = [(), *(tuple(place.get(i) or -(found.get(i) or i) for i in _refs(split, type_id)) for type_id in kept)]
    joined, new = join([t.VOID, *(split.types[type_id] for type_id in kept)], refs, offset=first - 1)
    ids = [*range(first), *(found[i] or new[place[i]] for i in range(first, len(split.types)))]
    return Deduplicated([*list(base.types), *joined[1:]], (tuple(ids),), split.big_endian, base)


def _refs(btf: t.Btf, type_id: int) -> Iterable[int]:
    return t.referenced_ids(btf.types[type_id])


class _Matcher:
    """Finds the base's type that a type of the split set is."""

    def __init__(self, split: t.Btf, base: t.Btf) -> None:
        self.split = split
        self.base = base
        self._first = len(base.types)
        self._found: dict[int, int] = {}
        self._different: set[tuple[int, int]] = set()
        self._waiting: set[int] = set()
        self._by_reference: dict[object, int] | None = None

    def match(self, type_id: int) -> int:
        """The id of the same type in the base, 0 when there is none."""
        if type_id < self._first:
            return type_id
        if type_id in self._found:
            return self._found[type_id]
        if type_id in self._waiting:
            return 0
        self._waiting.add(type_id)
        type_ = self.split.types[type_id]
        if isinstance(type_, t.Var | t.Datasec):
            found = 0
        elif type_.name and isinstance(type_, _NAMED):
            found = next((i for i in self.base.ids(type_.name) if self._same(type_id, i)), 0)
        else:
            refs = [self.match(i) if i else 0 for i in t.referenced_ids(type_)]
            known = all(new or not old for new, old in zip(refs, t.referenced_ids(type_)))
            found = self._references.get((without_ids(type_), tuple(refs)), 0) if known else 0
        self._waiting.discard(type_id)
        self._found[type_id] = found
        return found

    @property
    def _references(self) -> dict[object, int]:
        """The base's types that have no name to be found by, by what they say and refer to."""
        if self._by_reference is None:
            index: dict[object, int] = {}
            for type_id, type_ in enumerate(self.base.types):
                if type_id and not (type_.name and isinstance(type_, _NAMED)):
                    index.setdefault((without_ids(type_), tuple(t.referenced_ids(type_))), type_id)
            self._by_reference = index
        return self._by_reference

    def _same(self, split_id: int, base_id: int) -> bool:
        """Whether walking both finds no difference; a declaration stands for the definition that the base has.

        Then every pair on the way is one of the same types, which is kept.
        """
        pairs, waiting = {(split_id, base_id)}, [(split_id, base_id)]
        while waiting:
            ours_id, theirs_id = waiting.pop()
            if self._found.get(ours_id) == theirs_id:
                continue
            if (ours_id, theirs_id) in self._different:
                return False
            if ours_id < self._first:
                if ours_id != theirs_id:
                    return False
                continue
            ours, theirs = self.split.types[ours_id], self.base.types[theirs_id]
            if isinstance(ours, t.Fwd) and isinstance(theirs, t.Struct) and ours.name == theirs.name:
                if isinstance(theirs, t.Union) != ours.is_union:
                    return False
                continue
            if without_ids(ours) != without_ids(theirs):
                self._different.add((ours_id, theirs_id))
                return False
            for pair in zip(t.referenced_ids(ours), t.referenced_ids(theirs)):
                if pair not in pairs:
                    pairs.add(pair)
                    waiting.append(pair)
            if len(pairs) > MAX_WALK:
                return False
        for ours_id, theirs_id in pairs:
            if ours_id >= self._first and not self._found.get(ours_id):
                self._found[ours_id] = theirs_id
        return True
