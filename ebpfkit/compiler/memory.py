"""Reading and writing typed memory: fields, elements, bit fields, addresses, copies of structures.

Belongs here: byte offsets, alignment and byte order. Packet fields claim their natural alignment (the kernels that
matter allow unaligned packet access, and a claim of 1 costs byte loads); other memory claims what is known of it.
"""

from __future__ import annotations

import ast
import inspect
import math
from dataclasses import replace
from typing import Any

from ebpfkit.abi.limits import MAX_STACK
from ebpfkit.compiler.base import Base
from ebpfkit.compiler.ir import Imm, Operand, Temp
from ebpfkit.compiler.state import Record
from ebpfkit.compiler.values import (
    BOOL,
    Bytes,
    Const,
    Location,
    Scalar,
    Space,
    Value,
    View,
    chunks,
    describe,
    scalar,
    type_text,
)
from ebpfkit.dsl.typeinfo import ArrayType, BitsType, Field, IntType, StructType, TypeInfo
from ebpfkit.errors import CompileError

__all__ = ["Memory", "occupied", "unit_type"]

MOST_COPIED = 16_384
"""The largest structure that one assignment copies, in bytes: a load and a store for each eight of them."""


def unit_type(bits: IntType | BitsType) -> IntType:
    """The integer type of a bit field's value: unsigned, as wide as its unit."""
    assert isinstance(bits, BitsType)
    return IntType(f"u{bits.unit * 8}", bits.unit * 8)


def occupied(info: TypeInfo, base: int = 0) -> list[tuple[int, int]]:
    """(offset, bytes) of everything that is neither padding nor the kernel's."""
    if isinstance(info, StructType):
        if info.opaque:
            return []
        if info.packed:
            return [(base, info.size)]
        return [part for field in info.fields for part in occupied(field.type, base + field.offset)]
    if isinstance(info, ArrayType) and isinstance(info.element, StructType):
        size = info.element.size
        return [part for index in range(info.length) for part in occupied(info.element, base + index * size)]
    return [(base, info.size)]


def merged(parts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Byte ranges with neighbours joined (bit fields of one unit repeat their unit)."""
    out: list[tuple[int, int]] = []
    for offset, size in sorted(set(parts)):
        if out and out[-1][0] + out[-1][1] >= offset:
            out[-1] = (out[-1][0], max(out[-1][1], offset + size - out[-1][0]))
        else:
            out.append((offset, size))
    return out


def _known_align(base: int, offset: int) -> int:
    return math.gcd(base, offset) if offset else base


def constant_bytes(constant: Any, kind: type | None = None) -> bytes | None:
    """The bytes of a constant address, or None when it is none."""
    info = getattr(constant, "__ebpf_type__", None)
    if isinstance(info, ArrayType) and info.name and not isinstance(constant, type):
        return bytes(constant)
    return None


class Memory(Base):
    """Loads and stores of typed places."""

    def align(self, view: View, offset: int, size: int) -> int:
        """The alignment to claim for an access of `size` bytes at `offset` of a view."""
        if view.space is Space.PACKET:
            return size
        return min(size, _known_align(view.align, offset))

    def check_alive(self, view: View, node: ast.AST) -> None:
        """Refuse a view whose memory has gone."""
        state = self.live
        if view.space is Space.PACKET and view.epoch != state.epoch:
            line = state.epoch_span.line if state.epoch_span else 0
            raise self.error(
                node,
                "dead-view",
                f"this view of the packet died in line {line}, where the packet's bounds moved",
                "read the header again",
            )
        status = state.records.get(view.owner)
        if status is not None and status[0] in (Record.CLOSED, Record.TORN):
            raise self.error(
                node, "dead-view", f"the record reserved in line {status[1].line} was submitted or discarded"
            )

    def check_writable(self, view: View, node: ast.AST) -> None:
        """Refuse to write where this type of program may only read; `contexts` knows."""
        raise NotImplementedError

    # Reading

    def _fetch(self, view: View, node: ast.AST) -> Value:
        return self.load_place(view, 0, view.type, view.cls, node)

    def load_place(self, view: View, offset: int, info: TypeInfo, cls: Any, node: ast.AST) -> Value:
        """The value at `offset` of a view: scalars and addresses are copied, structures and arrays are views."""
        self.check_alive(view, node)
        if isinstance(info, IntType):
            return self._load_int(view, offset, info)
        if isinstance(info, BitsType):
            return self._load_bits(view, offset, info)
        if isinstance(info, ArrayType) and info.name:
            return Bytes(self._load_chunks(view, offset, info.size), info, cls)
        return replace(
            view,
            pointer=self.builder.gep(view.pointer, offset),
            type=info,
            cls=cls,
            align=_known_align(view.align, offset),
            nested=True,
        )

    def _load_chunks(self, view: View, offset: int, size: int) -> tuple[Operand, ...]:
        return tuple(
            self.builder.load(
                f"i{n * 8}", self.builder.gep(view.pointer, offset + at), self.align(view, offset + at, n)
            )
            for at, n in chunks(size)
        )

    def _load_int(self, view: View, offset: int, info: IntType) -> Scalar:
        pointer = self.builder.gep(view.pointer, offset)
        raw: Operand = self.builder.load(f"i{info.bits}", pointer, self.align(view, offset, info.size))
        if info.is_bool:
            return scalar(self.builder.compare("ne", raw, Imm(0, "i8")), BOOL)
        if info.network:
            raw = self.builder.bswap(raw)
        return replace(scalar(raw, info), place=Location(pointer, view.space, view.owner))

    def _load_bits(self, view: View, offset: int, info: BitsType) -> Scalar:
        kind = f"i{info.unit * 8}"
        pointer = self.builder.gep(view.pointer, offset)
        unit: Operand = self.builder.load(kind, pointer, self.align(view, offset, info.unit))
        unit = self.builder.bswap(unit)
        if info.shift:
            unit = self.builder.binary("lshr", unit, Imm(info.shift, kind))
        mask = (1 << info.width) - 1
        if info.width + info.shift < info.unit * 8:
            unit = self.builder.binary("and", unit, Imm(mask, kind))
        return scalar(unit, unit_type(info), 0, mask)

    # Writing

    def store_place(self, view: View, offset: int, info: TypeInfo, cls: Any, value: Value, node: ast.AST) -> None:
        """Store a value at `offset` of a view, widened within its signedness; anything else is refused."""
        self.check_alive(view, node)
        self.check_writable(view, node)
        if isinstance(info, StructType) and info.opaque:
            if isinstance(value, Const) and isinstance(value.value, bytes):
                return  # a field that nobody names: storing the whole structure leaves it out
            raise self.error(node, "read-only", f"a {info.name} cannot be assigned")
        if isinstance(info, IntType):
            self._store_int(view, offset, info, value, node)
        elif isinstance(info, BitsType):
            self._store_bits(view, offset, info, value, node)
        elif isinstance(info, ArrayType) and info.name:
            self.store_chunks(view, offset, self.address(value, info, node), info.size)
        else:
            self._store_block(view, offset, info, value, node)

    def address(self, value: Value, info: ArrayType, node: ast.AST) -> tuple[Operand, ...]:
        """The chunks of a MAC or IPv6 address."""
        if isinstance(value, Bytes) and value.type == info:
            return value.ops
        if isinstance(value, Const):
            data = constant_bytes(value.value)
            if data is not None and getattr(value.value, "__ebpf_type__", None) == info:
                return tuple(
                    Imm(int.from_bytes(data[at : at + n], "little"), f"i{n * 8}") for at, n in chunks(info.size)
                )
            if isinstance(value.value, (str, bytes)):
                raise self.error(
                    node,
                    "bad-type",
                    f"a {type(value.value).__name__} is not a {info.name}",
                    f"write {info.name}({value.value!r})",
                )
        raise self.wrong_kind(value, node, f"a {info.name}")

    def store_chunks(self, view: View, offset: int, ops: tuple[Operand, ...], size: int) -> None:
        for (at, n), op in zip(chunks(size), ops, strict=True):
            self.builder.store(op, self.builder.gep(view.pointer, offset + at), self.align(view, offset + at, n))

    def _store_int(self, view: View, offset: int, info: IntType, value: Value, node: ast.AST) -> None:
        op = self.coerce(value, info, node, f"this {info.name}")
        if info.is_bool:
            op = self.builder.convert("zext", op, "i8")
        if info.network:
            op = self.swap(op)
        pointer = self.builder.gep(view.pointer, offset)
        self.builder.store(op, pointer, self.align(view, offset, info.size))

    def swap(self, op: Operand) -> Operand:
        """The bytes of an operand in the opposite order; constants are swapped here."""
        if isinstance(op, Imm):
            size = int(op.type[1:]) // 8
            value = op.value & ((1 << size * 8) - 1)
            return Imm(int.from_bytes(value.to_bytes(size, "big"), "little"), op.type)
        return self.builder.bswap(op)

    def _store_bits(self, view: View, offset: int, info: BitsType, value: Value, node: ast.AST) -> None:
        unit = unit_type(info)
        kind = f"i{unit.bits}"
        mask = (1 << info.width) - 1
        if isinstance(value, Const) and type(value.value) is int and not 0 <= value.value <= mask:
            raise self.error(node, "does-not-fit", f"{value.value} does not fit a field of {info.width} bits")
        op = self.coerce(value, unit, node, f"these {info.width} bits")
        pointer = self.builder.gep(view.pointer, offset)
        align = self.align(view, offset, info.unit)
        if info.width < unit.bits:
            op = self.builder.binary("and", op, Imm(mask, kind))
            if info.shift:
                op = self.builder.binary("shl", op, Imm(info.shift, kind))
            old = self.builder.bswap(self.builder.load(kind, pointer, align))
            keep = ((1 << unit.bits) - 1) & ~(mask << info.shift)
            op = self.builder.binary("or", self.builder.binary("and", old, Imm(keep, kind)), op)
        self.builder.store(self.swap(op), pointer, align)

    def _store_block(self, view: View, offset: int, info: TypeInfo, value: Value, node: ast.AST) -> None:
        target = replace(view, pointer=self.builder.gep(view.pointer, offset), align=_known_align(view.align, offset))
        if isinstance(value, Const) and isinstance(value.value, bytes) and isinstance(info, ArrayType):
            if len(value.value) != info.size:
                raise self.error(node, "bad-type", f"{len(value.value)} bytes do not fill {type_text(info)}")
            self.store_bytes(target, value.value)
            return
        if not isinstance(value, View) or value.type != info:
            raise self.wrong_kind(value, node, f"a {type_text(info)}")
        self.check_alive(value, node)
        self.copy(target, value, info)

    def store_bytes(self, view: View, data: bytes) -> None:
        """Store constant bytes, in pieces as large as the alignment allows."""
        at = 0
        while at < len(data):
            most = 8 if view.space is Space.PACKET else _known_align(view.align, at)
            size = next(s for s in (8, 4, 2, 1) if s <= most and at + s <= len(data))
            value = Imm(int.from_bytes(data[at : at + size], "little"), f"i{size * 8}")
            self.builder.store(value, self.builder.gep(view.pointer, at), size)
            at += size

    def copy(self, target: View, source: View, info: TypeInfo) -> None:
        """Copy a structure or array without its padding, in pieces that suit the alignment of both sides."""
        if info.size > MOST_COPIED:
            what = f"a copy of {info.size} bytes would be {info.size // 4} instructions"
            raise CompileError(
                what, span=self.builder.place.span, code="too-large", hint="copy its parts, or the elements in a loop"
            )
        for start, length in merged(occupied(info)):
            at = start
            while at < start + length:
                sides = [8 if side.space is Space.PACKET else _known_align(side.align, at) for side in (target, source)]
                size = next(s for s in (8, 4, 2, 1) if s <= min(sides) and at + s <= start + length)
                piece = self.builder.load(f"i{size * 8}", self.builder.gep(source.pointer, at), size)
                self.builder.store(piece, self.builder.gep(target.pointer, at), size)
                at += size

    def new_local(self, info: StructType | ArrayType, cls: Any, name: str, *, zeroed: bool) -> View:
        """Stack memory for a structure; `zeroed` clears all of it, else its padding alone."""
        size = -(-info.size // 8) * 8
        pointer = self.block_on_stack(size, name)
        view = View(pointer, info, cls, Space.STACK, 8)
        parts = merged(occupied(info))
        if zeroed or parts != [(0, info.size)]:
            self.builder.memset(pointer, size, 8)
        return view

    def block_on_stack(self, size: int, name: str) -> Temp:
        """Stack memory, refused where one block is already more than the whole stack."""
        if size > MAX_STACK:
            what = f"{name} has {size} bytes, and BPF's stack {MAX_STACK}"
            hint = "keep large structures in a map (a PerCpuArray of one entry), and change them there"
            raise CompileError(what, span=self.builder.place.span, code="stack-too-large", hint=hint)
        return self.builder.alloca(size, name)

    # Fields and elements

    def field(self, view: View, name: str, node: ast.AST) -> tuple[Field, Any] | None:
        """A structure's field by name with the class of its values; None when there is no such field."""
        if not isinstance(view.type, StructType):
            return None
        found = view.type.field(name)
        if found is None:
            return None
        descriptor = inspect.getattr_static(view.cls, name, None)
        return found, getattr(descriptor, "type_class", None)

    def no_field(self, view: View, name: str, node: ast.AST) -> CompileError:
        """The refusal of a field that is not there, naming the near ones."""
        import difflib

        fields = [f.name for f in view.type.fields] if isinstance(view.type, StructType) else []
        near = difflib.get_close_matches(name, fields, 1)
        hint = (
            f"write {near[0]}"
            if near
            else f"it has {', '.join(fields[:8])}{', ...' if len(fields) > 8 else ''}"
            if fields
            else ""
        )
        return self.error(node, "no-such-field", f"{describe(view)} has no field {name}", hint)

    def coerce(self, value: Value, target: IntType, node: ast.AST, what: str) -> Operand:
        """A value as an operand of an integer type: literals that fit, types that widen. Refuses anything else."""
        raise NotImplementedError
