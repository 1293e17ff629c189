"""The intern table of one verification: equal abstract values are one object, so identity is equality.

Results of arithmetic are kept here too, so that the same sum at another instruction is a look-up. Bounded: when the
table outgrows its limit, all memos are emptied and the values that nothing else holds are dropped; those in use stay
the same objects, so no outcome depends on it.
"""

from __future__ import annotations

import sys
from typing import Any

from ebpfkit._bits import U32_MAX
from ebpfkit.verifier.domain.arithmetic import compute, compute_exactly
from ebpfkit.verifier.domain.pointer import Pointer
from ebpfkit.verifier.domain.scalar import Bounds, Scalar, sign32, sign64

__all__ = ["Value", "Values"]

Value = Scalar | Pointer

_LIMIT = 200_000


class Values:
    """Interns scalars and pointers, and keeps the few that everyone needs."""

    def __init__(self, limit: int = _LIMIT, scalar_type: type[Scalar] = Scalar) -> None:
        self._scalar = scalar_type
        self._scalars: dict[Any, Scalar] = {}
        self._pointers: dict[Any, Pointer] = {}
        self._constants: dict[int, Scalar] = {}
        self._limit = limit
        self._memos: list[dict[Any, Any]] = []
        self._computed = self.new_memo()
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
            if len(self._scalars) >= self._limit:
                self._sweep()
            found = self._scalars[key] = self._scalar(key)
        return found

    def new_memo(self) -> dict[Any, Any]:
        """A table keyed by values, emptied when the values are swept."""
        memo: dict[Any, Any] = {}
        self._memos.append(memo)
        return memo

    def _sweep(self) -> None:
        """Drop the values that nobody outside holds. Those left may be many: then the next sweep comes later."""
        for memo in self._memos:
            memo.clear()
        for number in self._scalars.values():
            number.fits = number.misfits = None
        for pointer in self._pointers.values():
            pointer.fits = pointer.misfits = None
        self._constants.clear()
        count = sys.getrefcount
        for key in list(self._pointers):
            # The table and the argument of the call are two; the rest are states and steps.
            if count(self._pointers[key]) <= 2:
                del self._pointers[key]
        for bounds in list(self._scalars):
            if count(self._scalars[bounds]) <= 2:
                del self._scalars[bounds]
        self._limit = max(self._limit, 2 * len(self._scalars), 2 * len(self._pointers))

    def release(self) -> None:
        """Nobody asks again: what the memos hold is free."""
        for memo in self._memos:
            memo.clear()

    def compute(self, operation: str, width: int, a: Scalar, b: Scalar) -> Scalar:
        """`a operation b` in `width` bits, zero-extended to 64: what `arithmetic.compute` says."""
        if a.const is not None and b.const is not None:
            number = compute_exactly(operation, width, a.const, b.const)
            if number is not None:
                return self.constant(number)
        key = (operation, width, a, b)
        found: Scalar | None = self._computed.get(key)
        if found is None:
            found = self._computed[key] = self.scalar(compute(operation, width, a, b))
        return found

    def constant(self, value: int) -> Scalar:
        """The one Scalar that is exactly `value` (64 bits)."""
        found = self._constants.get(value)
        if found is None:
            low, signed = value & U32_MAX, sign64(value)
            signed_low = sign32(low)
            key = (value, 0, value, value, signed, signed, low, low, signed_low, signed_low)
            found = self._scalars.get(key)
            if found is None:
                if len(self._scalars) >= self._limit:
                    self._sweep()
                found = self._scalars[key] = self._scalar(key)
            self._constants[value] = found
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
            if len(self._pointers) >= self._limit:
                self._sweep()
            found = self._pointers[key] = Pointer(kind, target, off, part, range_, nullable, readonly, record)
        return found

    def with_range(self, p: Pointer, range_: int) -> Pointer:
        """`p` with another number of bytes proved."""
        found: Pointer | None = self._computed.get((p, range_))
        if found is None:
            found = self.pointer(p.kind, p.target, p.off, p.var, range_, p.nullable, p.readonly, p.record)
            self._computed[p, range_] = found
        return found

    def non_null(self, p: Pointer) -> Pointer:
        """`p` known not to be null."""
        found: Pointer | None = self._computed.get(p)
        if found is None:
            found = self._computed[p] = self.change(p, nullable=False)
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
