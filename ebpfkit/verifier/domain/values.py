"""The intern table of one verification: equal abstract values are one object, so identity is equality.

Bounded: a table that outgrew its limit is emptied, which only costs shared memos, since values stay valid on their own.
"""

from __future__ import annotations

from typing import Any

from ebpfkit.verifier.domain.pointer import Pointer
from ebpfkit.verifier.domain.scalar import Bounds, Scalar

__all__ = ["Value", "Values"]

Value = Scalar | Pointer

_LIMIT = 2_000_000


class Values:
    """Interns scalars and pointers, and keeps the few that everyone needs."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._scalars: dict[Any, Scalar] = {}
        self._pointers: dict[Any, Pointer] = {}
        self._constants: dict[int, Scalar] = {}
        self._limit = limit
        self.unknown = self.scalar(Bounds.unknown())
        self.zero = self.constant(0)
        self._sized = {size: self.scalar(Bounds.unknown().truncate(size)) for size in (1, 2, 4)} | {8: self.unknown}
        self._signed = {size: self.scalar(Bounds.unknown().sign_extend(size)) for size in (1, 2, 4)}

    def __len__(self) -> int:
        return len(self._scalars) + len(self._pointers)

    def scalar(self, bounds: Bounds) -> Scalar:
        """The one Scalar with these bounds."""
        key = bounds.key
        found = self._scalars.get(key)
        if found is None:
            found = self._scalars[key] = Scalar(key)
        return found

    def constant(self, value: int) -> Scalar:
        """The one Scalar that is exactly `value` (64 bits)."""
        found = self._constants.get(value)
        if found is None:
            found = self._constants[value] = self.scalar(Bounds.constant(value))
        return found

    def unknown_of(self, size: int, signed: bool = False) -> Scalar:
        """What a load of `size` bytes of unknown memory gives."""
        return self._signed[size] if signed and size < 8 else self._sized[size]

    def pointer(
        self,
        kind: int,
        target: Any = None,
        off: int = 0,
        var: Scalar | None = None,
        range_: int = 0,
        nullable: bool = False,
        readonly: bool = False,
        record: bool = False,
    ) -> Pointer:
        """The one Pointer with these parts."""
        part = self.zero if var is None else var
        key = (kind, target, off, part, range_, nullable, readonly, record)
        found = self._pointers.get(key)
        if found is None:
            found = self._pointers[key] = Pointer(kind, target, off, part, range_, nullable, readonly, record)
        return found

    def change(self, p: Pointer, **parts: Any) -> Pointer:
        """`p` with some parts changed: off, var, range_, nullable."""
        return self.pointer(
            p.kind,
            parts.get("target", p.target),
            parts.get("off", p.off),
            parts.get("var", p.var),
            parts.get("range_", p.range),
            parts.get("nullable", p.nullable),
            p.readonly,
            parts.get("record", p.record),
        )
