"""Making BTF from Python: types of map keys and values, functions, sections.

Equal types share one id, so that building the same thing twice costs nothing. Wire details are in `wire`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ebpfkit.btf import types as t

__all__ = ["BtfBuilder"]


class BtfBuilder:
    """Collects types and gives their ids; `build` makes the `Btf`.

    >>> builder = BtfBuilder()
    >>> u32 = builder.integer("unsigned int", 4)
    >>> point = builder.struct("point", 8, [("x", u32, 0), ("y", u32, 4)])
    >>> builder.build().size_of(point)
    8
    """

    def __init__(self, base: t.Btf | None = None, *, big_endian: bool = False) -> None:
        self._types: list[t.BtfType] = list(base.types) if base else [t.VOID]
        self._strings = base.strings if base else b"\0"
        self._big_endian = base.big_endian if base else big_endian
        self._ids: dict[t.BtfType, int] = {type_: i for i, type_ in reversed(list(enumerate(self._types)))}

    def add(self, type_: t.BtfType) -> int:
        """The id of a type, which is added unless an equal one is there."""
        found = self._ids.get(type_)
        if found is None:
            found = self._ids[type_] = len(self._types)
            self._types.append(type_)
        return found

    def integer(self, name: str, size: int, *, signed: bool = False, char: bool = False, boolean: bool = False) -> int:
        """An integer of `size` bytes."""
        encoding = t.Int.SIGNED * signed | t.Int.CHAR * char | t.Int.BOOL * boolean
        return self.add(t.Int(name, size, encoding, size * 8))

    def pointer(self, type_id: int) -> int:
        """A pointer to a type (0: void)."""
        return self.add(t.Ptr(type=type_id))

    def array(self, type_id: int, nelems: int) -> int:
        """`nelems` elements of a type."""
        index = self.integer("__ARRAY_SIZE_TYPE__", 4)
        return self.add(t.Array(type=type_id, index_type=index, nelems=nelems))

    def struct(self, name: str, size: int, members: Iterable[tuple[str, int, int]], *, union: bool = False) -> int:
        """A structure of `size` bytes; members are (name, type id, offset in bytes)."""
        fields = tuple(t.Member(name, type_id, offset * 8) for name, type_id, offset in members)
        return self.add((t.Union if union else t.Struct)(name, size, fields))

    def enum(self, name: str, values: Sequence[tuple[str, int]], size: int = 4) -> int:
        """An enumeration; constants beyond 32 bits make it an ENUM64."""
        signed = any(value < 0 for _, value in values)
        kind = t.Enum64 if size == 8 else t.Enum
        return self.add(kind(name, size, tuple(t.Enumerator(n, v) for n, v in values), signed))

    def typedef(self, name: str, type_id: int) -> int:
        """Another name for a type."""
        return self.add(t.Typedef(name, type_id))

    def func_proto(self, ret: int, params: Iterable[tuple[str, int]] = ()) -> int:
        """A signature: the type returned, and (name, type id) of each parameter."""
        return self.add(t.FuncProto(ret=ret, params=tuple(t.Param(n, i) for n, i in params)))

    def func(self, name: str, proto: int, linkage: int = t.Linkage.GLOBAL) -> int:
        """A function with a signature."""
        return self.add(t.Func(name, proto, linkage))

    def var(self, name: str, type_id: int, linkage: int = t.Linkage.GLOBAL) -> int:
        """A variable."""
        return self.add(t.Var(name, type_id, linkage))

    def datasec(self, name: str, size: int, variables: Iterable[tuple[int, int, int]]) -> int:
        """A section of `size` bytes; variables are (VAR id, offset, size) and are put in order of offset."""
        rows = sorted((t.VarSecinfo(*row) for row in variables), key=lambda row: row.offset)
        return self.add(t.Datasec(name, size, tuple(rows)))

    def decl_tag(self, value: str, type_id: int, component: int = -1) -> int:
        """`btf_decl_tag(value)` on a type, or on its member or parameter number `component`."""
        return self.add(t.DeclTag(value, type_id, component))

    def build(self) -> t.Btf:
        """The types so far as a `Btf`."""
        return t.Btf(list(self._types), self._strings, big_endian=self._big_endian)
