"""How C lays a structure out, against where BTF says its members are: what must be padded, packed or aligned.

Whoever writes types in another language (`dump` as C, `python` as classes) asks here. Facts: the System V ABI's rules
for alignment and bit-fields, which clang follows for BPF.
"""

from __future__ import annotations

from dataclasses import dataclass

from ebpfkit._bits import round_up
from ebpfkit.btf import types as t
from ebpfkit.errors import ObjectError

__all__ = ["Gap", "Layout", "Layouts"]

MAX_DEPTH = 100  # structures inside structures
MAX_GAP = 1 << 24  # bits of padding in one place
_UNITS = (64, 32, 16, 8)


@dataclass(frozen=True, slots=True)
class Gap:
    """Padding of `bits` from bit `start`, before the member with index `before` (the number of members: at the end)."""

    before: int
    start: int
    bits: int

    def units(self) -> list[tuple[int, int]]:
        """(unit, width) in bits of the unnamed bit-fields that fill it, none of which crosses its unit."""
        found = []
        at, end = self.start, self.start + self.bits
        while at < end:
            if not at % 64 and end - at >= 64:
                found += [(64, 64)] * ((end - at) // 64)
                at += (end - at) // 64 * 64
                continue
            if at % 8:
                width = min(8 - at % 8, end - at)
                found.append((8, width))
            else:
                width = next((unit for unit in _UNITS if at % unit == 0 and end - at >= unit), end - at)
                found.append((width if width in _UNITS else 8, width))
            at += width
        return found


@dataclass(frozen=True, slots=True)
class Layout:
    """`align` in bytes as C will see it; `aligned` is an alignment to ask for (0: none).

    `filler` is the size in bytes of a member that a union needs besides its own to have its size."""

    align: int
    packed: bool
    gaps: tuple[Gap, ...]
    aligned: int = 0
    filler: int = 0


class Layouts:
    """The layouts of one set of types, each computed once."""

    def __init__(self, btf: t.Btf) -> None:
        self.btf = btf
        self._known: dict[int, Layout] = {}
        self._sizes: dict[int, int] = {}
        self._aligns: dict[int, int] = {}

    def of(self, type_id: int, depth: int = 0) -> Layout:
        """The layout of a structure or union. Raises ObjectError for one that C cannot express."""
        found = self._known.get(type_id)
        if found is None:
            if depth > MAX_DEPTH:
                raise ObjectError(f"structures nest too deeply or in a circle at id {type_id}", place=".BTF")
            struct_ = self.btf.get(type_id)
            if not isinstance(struct_, t.Struct):
                raise ObjectError(f"type {type_id} is no structure", place=".BTF")
            make = self._union if isinstance(struct_, t.Union) else self._struct
            natural = make(struct_, False, depth)
            found = natural if natural is not None else make(struct_, True, depth)
            if found is None:
                raise ObjectError(f"{struct_.name or type_id} has a layout that C cannot express", place=".BTF")
            self._known[type_id] = found
        return found

    def align_of(self, type_id: int, depth: int = 0) -> int:
        """The alignment of a type in bytes, as C will see it."""
        found = self._aligns.get(type_id)
        if found is None:
            found = self._aligns[type_id] = self._align_of(type_id, depth)
        return found

    def _align_of(self, type_id: int, depth: int) -> int:
        for _ in range(t.MAX_DEPTH):
            type_id = self.btf.strip(type_id)
            type_ = self.btf.get(type_id)
            if isinstance(type_, t.Array):
                type_id = type_.type
                continue
            if isinstance(type_, t.Struct):
                return self.of(type_id, depth + 1).align
            if isinstance(type_, t.Int | t.Enum | t.Float):
                size = type_.size
                return size if size in (1, 2, 4, 8, 16) else 16 if size > 8 else 1
            return t.POINTER_SIZE if isinstance(type_, t.Ptr) else 1
        raise ObjectError(f"arrays nest too deeply at id {type_id}", place=".BTF")

    def _size_bits(self, type_id: int) -> int:
        found = self._sizes.get(type_id)
        if found is None:
            found = self._sizes[type_id] = self.btf.size_of(type_id) * 8
        return found

    def _struct(self, struct_: t.Struct, packed: bool, depth: int) -> Layout | None:
        at = 0
        align = 1
        gaps = []
        sizes, aligns = self._sizes, self._aligns
        for index, member in enumerate(struct_.members):
            _, type_id, offset, bits = member
            own = 1 if packed else aligns.get(type_id) or self.align_of(type_id, depth)
            if own > align:
                align = own
            width = bits or sizes.get(type_id) or self._size_bits(type_id)
            if not bits and at <= offset < at + own * 8 and not offset % (own * 8):
                at = offset + width  # right behind the last one, which is how it is with nearly all
                continue
            place = self._next(at, member, own, width, packed)
            if place < member.bit_offset:
                if member.bit_offset - at > MAX_GAP:
                    raise ObjectError(f"{struct_.name!r} has a gap of {member.bit_offset - at} bits", place=".BTF")
                gaps.append(Gap(index, at, member.bit_offset - at))
                place = self._next(member.bit_offset, member, own, width, packed)
            if place != member.bit_offset:
                return None
            at = place + width
        return self._end(struct_, at, align, packed, gaps)

    def _next(self, at: int, member: t.Member, align: int, width: int, packed: bool) -> int:
        if not member.bitfield_size:
            return round_up(at, align * 8)
        unit = self._size_bits(member.type)
        return at if packed or not unit or at // unit == (at + width - 1) // unit else round_up(at, unit)

    def _end(self, struct_: t.Struct, at: int, align: int, packed: bool, gaps: list[Gap]) -> Layout | None:
        natural, size = round_up(at, align * 8), struct_.size * 8
        if natural > size:
            return None
        if natural < size:
            if size - at > MAX_GAP:
                raise ObjectError(f"{struct_.name!r} has a gap of {size - at} bits", place=".BTF")
            gaps.append(Gap(len(struct_.members), at, size - at))
        return Layout(align, packed, tuple(gaps))

    def _union(self, union: t.Struct, packed: bool, depth: int) -> Layout | None:
        align, end = 1, 0
        for member in union.members:
            align = max(align, 1 if packed else self.align_of(member.type, depth))
            end = max(end, round_up(member.bitfield_size, 8) if member.bitfield_size else self._size_bits(member.type))
            if member.bit_offset:
                return None
        natural, size = round_up(end, align * 8) // 8, union.size
        if size % align:
            return None
        if natural > size:
            return None
        if natural == size:
            return Layout(align, packed, ())
        wanted = next((1 << n for n in range(13) if round_up(natural, 1 << n) == size and 1 << n > align), 0)
        return Layout(wanted, packed, (), wanted) if wanted else Layout(align, packed, (), 0, size)
