"""Which accesses to the context a program type allows, and what a load from it gives: a look-up over `abi/`'s rows."""

from __future__ import annotations

from ebpfkit.abi.model import ContextField, ContextSpec, FieldResult

__all__ = ["ContextTable"]


class ContextTable:
    """The context of one program; answers are remembered."""

    def __init__(self, spec: ContextSpec, attach_type: str | None) -> None:
        self.spec = spec
        self.attach_type = attach_type
        self._known: dict[tuple[int, int, bool], FieldResult | None] = {}

    def struct_at(self, offset: int) -> str:
        """The kernel's structure that the pointer at the offset points to."""
        return next(field.btf_type for field in self.spec.fields if field.offset == offset)

    def access(self, offset: int, size: int, write: bool) -> FieldResult | None:
        """What an access of `size` bytes at `offset` gives (a store: SCALAR), None where it is not allowed."""
        key = (offset, size, write)
        if key not in self._known:
            self._known[key] = self._find(offset, size, write)
        return self._known[key]

    def _find(self, offset: int, size: int, write: bool) -> FieldResult | None:
        spec = self.spec
        if offset < 0 or offset + size > spec.size or offset % size:
            return None
        if spec.raw:
            named = next((field for field in spec.fields if field.offset == offset), None)
            if named is not None:
                return self._field(named, offset, size, write)
            allowed = offset >= spec.start and size in spec.raw_sizes and (spec.writable or not write)
            return FieldResult.SCALAR if allowed else None
        for field in spec.fields:
            if field.offset <= offset < field.offset + field.size * field.count:
                return self._field(field, offset, size, write)
        return None

    def _field(self, field: ContextField, offset: int, size: int, write: bool) -> FieldResult | None:
        if field.attach_types is not None and self.attach_type not in field.attach_types:
            return None
        if write:
            if not field.writable:
                return None
            if field.write_attach_types is not None and self.attach_type not in field.write_attach_types:
                return None
            if field.write_first_only and offset != field.offset:
                return None
        elif not field.readable:
            return None
        inside = offset - field.offset
        if size == field.size:
            return field.result if inside % field.size == 0 else None
        if size > field.size:
            if not write and size in field.wider_sizes:
                return field.result if inside == 0 else None
            fits = field.wide and size == 8 and inside + size <= field.size * field.count
            return field.result if fits else None
        if write:
            return field.result if field.write_narrow else None
        if field.narrow_sizes:
            return field.result if size in field.narrow_sizes else None
        fits = field.narrow and (not field.narrow_at_start or inside % field.size == 0)
        return field.result if fits else None
