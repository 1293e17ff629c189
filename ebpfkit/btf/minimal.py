"""Minimal BTF: of a kernel's types only those that an object's CO-RE relocations ask for.

Such a file is a few kilobytes, and stands in for the kernel's own BTF where a kernel has none. Which types an object
asks for is `elf`'s to say; here they are cut out.
"""

from __future__ import annotations

from collections.abc import Iterable

from ebpfkit.btf import types as t
from ebpfkit.btf.core import Question, candidates, field_path
from ebpfkit.btf.ext import CoreRelo

__all__ = ["minimal_btf"]

_FIELD = range(Question.FIELD_BYTE_OFFSET, Question.FIELD_RSHIFT_U64 + 1)


def minimal_btf(target: t.Btf, needs: Iterable[tuple[t.Btf, CoreRelo]]) -> t.Btf:
    """The types of `target` that `needs` (an object's types and one of its relocations each) look at.

    Of structures only the members on a path that is asked for stay; what questions of whole types need stays whole.
    Raises ObjectError for malformed relocations.
    """
    chosen = _Chosen(target)
    for local, relo in needs:
        if relo.kind == Question.TYPE_ID_LOCAL:
            continue
        for type_id in candidates(local, relo.type_id, target):
            if relo.kind in _FIELD:
                chosen.add_path(type_id, field_path(local, relo, target, type_id))
            else:
                chosen.add_whole(type_id, relo.kind == Question.TYPE_MATCHES)
    return chosen.build()


class _Chosen:
    def __init__(self, target: t.Btf) -> None:
        self.target = target
        self.members: dict[int, set[int]] = {}
        self.whole: set[int] = set()

    def add_path(self, type_id: int, path: list[tuple[int, int]]) -> None:
        """Keep a type, and of each (structure, member index) on the path the member and its type."""
        self._reach(type_id)
        for struct_id, index in path:
            self.members.setdefault(struct_id, set()).add(index)
            struct_ = self.target.get(struct_id)
            if isinstance(struct_, t.Struct):
                self._reach(struct_.members[index].type)

    def add_whole(self, type_id: int, members: bool) -> None:
        """Keep a type; with `members` all of a structure's, one level deep."""
        self._reach(type_id)
        type_ = self.target.resolve(type_id)
        if members and isinstance(type_, t.Struct):
            struct_id = self.target.strip(type_id)
            self.members.setdefault(struct_id, set()).update(range(len(type_.members)))
            for member in type_.members:
                self._reach(member.type)
        if isinstance(type_, t.FuncProto | t.Ptr | t.Array | t.Func):
            for inner in t.referenced_ids(type_):
                self._reach(inner)

    def _reach(self, type_id: int) -> None:
        """Keep a type and what it cannot be understood without; of structures no member yet."""
        waiting = [type_id]
        while waiting:
            current = waiting.pop()
            if not current or current in self.whole:
                continue
            self.whole.add(current)
            type_ = self.target.get(current)
            if not isinstance(type_, t.Struct | t.Datasec):
                waiting.extend(t.referenced_ids(type_))

    def build(self) -> t.Btf:
        ids = sorted(self.whole)
        new_id = {0: 0} | {old: new for new, old in enumerate(ids, 1)}
        types: list[t.BtfType] = [t.VOID]
        for old in ids:
            type_ = self.target.get(old)
            if isinstance(type_, t.Struct):
                kept = self.members.get(old, set())
                members = tuple(member for index, member in enumerate(type_.members) if index in kept)
                type_ = type(type_)(type_.name, type_.size, members, type_.kind_flag)
            types.append(t.with_ids(type_, new_id.__getitem__))
        return t.Btf(types, big_endian=self.target.big_endian)
