"""Values in another type: as scalars, by casts, and by assignment, which widens within one signedness and no more.

Belongs here: what fits where, and the refusal with the cast to write. What two operands give is `operators.py`.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from enum import IntEnum

from ebpfkit.compiler.ir import Imm, Operand
from ebpfkit.compiler.memory import Memory
from ebpfkit.compiler.state import constant_type
from ebpfkit.compiler.values import INT, Const, Scalar, Value, ir_type, limits, scalar
from ebpfkit.dsl.typeinfo import IntType

__all__ = ["Conversions", "is_plain_int"]


def is_plain_int(value: object) -> bool:
    """A literal of the language: a plain integer or a member of an integer enumeration."""
    return isinstance(value, int) and (type(value) is int or isinstance(value, IntEnum))


class Conversions(Memory):
    """Conversions of values."""

    def scalar_of(self, value: Value, node: ast.AST, wanted: str = "a number") -> Scalar:
        """A value as a scalar; constants become immediate operands of their own type."""
        if isinstance(value, Scalar):
            return value
        if isinstance(value, Const):
            type = constant_type(value.value)
            if type is not None:
                number = int(value.value)
                return Scalar(Imm(number, ir_type(type)), type, number, number)
            if isinstance(value.value, int):
                raise self.error(node, "does-not-fit", f"{value.value} does not fit 64 bits")
            if isinstance(value.value, float):
                raise self.error(node, "float", "the machine has no fractions", "scale it to an integer")
        raise self.wrong_kind(value, node, wanted)

    def cast(self, type: IntType, value: Value, node: ast.AST) -> Scalar:
        """`T(x)`: the low bits of x, sign-extended or cut; network order is refused."""
        one = self.scalar_of(value, node)
        if one.type.network:
            raise self.error(
                node,
                "network-order",
                f"{type.name}(...) of a {one.type.name} would reinterpret network order",
                "write .to_host() and cast that",
            )
        kind = ir_type(type)
        low, high = limits(type)
        fits = low <= one.lo and one.hi <= high
        lo, hi = (one.lo, one.hi) if fits else (low, high)
        if isinstance(one.op, Imm):
            number = one.op.value & ((1 << type.bits) - 1)
            number = number - (1 << type.bits) if type.signed and number >> (type.bits - 1) else number
            return Scalar(Imm(number, kind), type, number, number)
        bits = 1 if one.op.type == "i1" else one.type.bits
        if bits > type.bits:
            return replace(scalar(self.builder.convert("trunc", one.op, kind), type, lo, hi), tested=one.tested)
        widen = "sext" if one.type.signed else "zext"
        return replace(scalar(self.builder.convert(widen, one.op, kind), type, lo, hi), tested=one.tested)

    def coerce(self, value: Value, target: IntType, node: ast.AST, what: str) -> Operand:
        """A value as an operand of an integer type: literals that fit, types that widen. Refuses anything else."""
        kind = ir_type(target)
        if target.is_bool:
            if isinstance(value, Const) and isinstance(value.value, int) and value.value in (0, 1):
                return Imm(int(value.value), "i1")
            if isinstance(value, Scalar) and value.type.is_bool:
                return value.op
            if isinstance(value, Scalar):
                raise self.error(node, "bad-type", f"a {value.type.name} is not a truth value", "compare it: x != 0")
            raise self.wrong_kind(value, node, "a truth value")
        low, high = limits(target)
        if (
            isinstance(value, Const)
            and isinstance(value.value, int)
            and (is_plain_int(value.value) or isinstance(value.value, bool))
        ):
            number = int(value.value)
            if target.network and isinstance(value.value, bool):
                raise self.error(node, "bad-type", f"a bool is not a {target.name}")
            if not low <= number <= high:
                hint = "" if target.network or target.enum else f"write {target.name}({number}) to wrap it"
                raise self.error(node, "does-not-fit", f"{number} does not fit {target.name}", hint)
            return Imm(number, kind)
        if isinstance(value, Const):
            on_wire = self._network_constant(value.value)
            if on_wire is not None:
                type = value.value.__ebpf_type__
                return self._widen(Scalar(Imm(on_wire, ir_type(type)), type, on_wire, on_wire), target, node)
        return self._widen(self.scalar_of(value, node, f"a {target.name}"), target, node)

    @staticmethod
    def _network_constant(value: object) -> int | None:
        info = getattr(value, "__ebpf_type__", None)
        if isinstance(info, IntType) and info.network and not isinstance(value, type):
            return int(value)  # type: ignore[call-overload, no-any-return]
        return None

    def _widen(self, one: Scalar, target: IntType, node: ast.AST) -> Operand:
        kind = ir_type(target)
        low, high = limits(target)
        if one.type.is_bool:
            if target.network:
                raise self.error(node, "bad-type", f"a bool is not a {target.name}", f"write u{target.bits}(...)")
            return self.builder.convert("zext", one.op, kind)
        if one.type == INT:
            if not (low <= one.lo and one.hi <= high):
                raise self.error(
                    node,
                    "narrowing",
                    f"an int between {one.lo} and {one.hi} may not fit {target.name}",
                    f"write the cast {target.name}(...)",
                )
            return self.builder.convert("trunc", one.op, kind)
        if one.type.network and not target.network:
            raise self.error(node, "network-order", f"a {one.type.name} is not a {target.name}", "write .to_host()")
        if one.type.network and one.type.bits != target.bits:
            raise self.error(
                node, "bad-type", f"a {one.type.name} is not a {target.name}", f"write {target.name}(x.to_host())"
            )
        cast = f"u{target.bits}" if target.network or target.enum else target.name
        if one.type.signed != target.signed:
            raise self.error(
                node,
                "narrowing",
                f"{target.name} and {one.type.name} differ in signedness",
                f"write the cast {cast}(...)",
            )
        if one.type.bits > target.bits:
            raise self.error(
                node, "narrowing", f"{target.name} is narrower than {one.type.name}", f"write the cast {cast}(...)"
            )
        return self.builder.convert("sext" if one.type.signed else "zext", one.op, kind)
