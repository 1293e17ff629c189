"""What operators, comparisons, casts and assignments mean for each pair of types, and what they refuse.

The rules are those of the scalar types when they run as plain Python: `T op T` and `T op literal` give T, everything
else is refused with the cast to write; comparisons and assignments widen within one signedness.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ebpfkit.compiler.base import MOST_BITS
from ebpfkit.compiler.conversions import Conversions, is_plain_int
from ebpfkit.compiler.ir import Imm, Operand
from ebpfkit.compiler.memory import merged, occupied
from ebpfkit.compiler.state import constant_type
from ebpfkit.compiler.values import (
    BOOL,
    INT,
    Bytes,
    Const,
    OptionalScalar,
    OptionalView,
    Scalar,
    Tuple,
    Value,
    View,
    Void,
    chunks,
    computed_high,
    describe,
    ir_type,
    limits,
    scalar,
)
from ebpfkit.dsl.typeinfo import ArrayType, IntType, StructType
from ebpfkit.dsl.variables import Var
from ebpfkit.errors import CompileError

__all__ = ["Operators"]

SYMBOLS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.Div: "/",
    ast.Pow: "**",
    ast.MatMult: "@",
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_FOLD: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
    "**": operator.pow,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SIMPLE = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor"}
_COMPARE = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_FLIP = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""Plain integers beyond this many bits are not worth folding (and `1 << 10**9` would never end)."""


def _most(symbol: str, one: int, two: int, highest: int) -> int:
    """The most that an operation on unsigned values up to `one` and `two` gives, or `highest` where it may wrap."""
    match symbol:
        case "&":
            return min(one, two)
        case "|" | "^":
            return (1 << max(one.bit_length(), two.bit_length())) - 1
        case "+" | "*":
            most = one + two if symbol == "+" else one * two
            return most if most <= highest else highest
        case _:
            return highest


class Operators(Conversions):
    """Operators over values."""

    def literal(self, value: Const, type: IntType, node: ast.AST, symbol: str) -> Scalar:
        """A plain integer as an operand of `type`, which it must fit."""
        number = int(value.value)
        low, high = limits(type)
        if not low <= number <= high:
            hint = f"write {type.name}({number}) to wrap it"
            if number < 0 and symbol in "+-":
                hint = f"write {'-' if symbol == '+' else '+'} {-number}"
            raise self.error(node, "does-not-fit", f"{number} does not fit {type.name}", hint)
        return Scalar(Imm(number, ir_type(type)), type, number, number)

    def binary(self, symbol: str, left: Value, right: Value, node: ast.AST) -> Value:
        """`left symbol right`."""
        if symbol == "/":
            raise self.error(node, "float", "/ gives a fraction, and the machine has none", "write //")
        if symbol == "@":
            raise self.error(node, "unsupported-operator", "@ multiplies matrices, and there are none here")
        for side in (left, right):
            if isinstance(side, Const) and isinstance(side.value, Var):
                raise self.wrong_kind(side, node, "a number")
        if isinstance(left, Const) and isinstance(right, Const):
            return self.fold(symbol, left, right, node)
        if symbol == "**":
            raise self.error(node, "power", "** has no instruction", "multiply, or shift for powers of two")
        one, two = self.operands(symbol, left, right, node)
        if one.type == INT:
            return self._int_arithmetic(symbol, one, two, node)
        if symbol in ("<<", ">>"):
            return self._shift(symbol, one, two, isinstance(right, Const), node)
        if symbol in ("//", "%"):
            return self._divide(symbol, one, two, isinstance(right, Const), node)
        result = self.builder.binary(_SIMPLE[symbol], one.op, two.op)
        if one.type.is_bool:
            return scalar(result, BOOL)
        lo, hi = limits(one.type)
        if not one.type.signed:
            hi = min(hi, _most(symbol, computed_high(one), computed_high(two), hi))
        return scalar(result, one.type, lo, hi)

    def fold(self, symbol: str, left: Const, right: Const, node: ast.AST) -> Const:
        """Two constants: Python itself computes, with the language's own classes."""
        one, two = left.value, right.value
        if isinstance(one, float) or isinstance(two, float):
            raise self.error(node, "float", "the machine has no fractions", "scale it to an integer")
        if symbol == "*" and not (isinstance(one, int) and isinstance(two, int)):
            self._check_repetition(one, two, node)
        if symbol in ("<<", "**") and is_plain_int(one) and is_plain_int(two):
            size = int(two) if symbol == "<<" else int(one).bit_length() * max(int(two), 0)
            if size > MOST_BITS:
                raise self.error(node, "too-large", f"this constant has more than {MOST_BITS} bits")
            if int(two) < 0:
                raise self.error(
                    node, "bad-shift" if symbol == "<<" else "float", f"{symbol} by the negative {int(two)}"
                )
        try:
            result = _FOLD[symbol](one, two)
        except CompileError as error:
            raise self.error(node, error.code, error.message.removesuffix(f"; {error.hint}"), error.hint) from None
        except ZeroDivisionError:
            raise self.error(node, "division-by-zero", f"{symbol} by the constant 0") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise self.error(
                node, "bad-type", f"{describe(left)} {symbol} {describe(right)} has no meaning: {error}"
            ) from None
        return self.constant(result, node)

    def _check_repetition(self, one: Any, two: Any, node: ast.AST) -> None:
        """Refuse a constant that is too long before it is made."""
        times = one if isinstance(one, int) else two
        held = two if isinstance(one, int) else one
        if isinstance(times, int) and isinstance(held, (str, bytes, tuple, list)) and times * len(held) > MOST_BITS:
            raise self.error(node, "too-large", f"this constant has more than {MOST_BITS} elements")

    def operands(self, symbol: str, left: Value, right: Value, node: ast.AST) -> tuple[Scalar, Scalar]:
        """Both operands in the one type that the rule gives, or a refusal with the cast to write."""
        for side in (left, right):
            if isinstance(side, (Bytes, View)) or (isinstance(side, Const) and not isinstance(side.value, int)):
                network = getattr(getattr(side, "value", None), "__ebpf_type__", None)
                if not (isinstance(network, IntType) and network.network):
                    raise self.wrong_operands(symbol, left, right, node)
        one, two = self._either(left, right, node), self._either(right, left, node)
        for side in (one, two):
            if side.type.network:
                raise self.error(node, "network-order", f"arithmetic on a {side.type.name}", "write .to_host() first")
        if isinstance(left, Const) and is_plain_int(left.value) and two.type != INT:
            one = self._fitting(left, two.type, one, node, symbol)
        elif isinstance(right, Const) and is_plain_int(right.value) and one.type != INT:
            two = self._fitting(right, one.type, two, node, symbol)
        elif one.type == INT and two.type != INT:
            one = self._index_as(one, two.type, node, symbol)
        elif two.type == INT and one.type != INT:
            two = self._index_as(two, one.type, node, symbol)
        if one.type != two.type:
            raise self._mixed(symbol, one.type, two.type, node)
        if one.type.is_bool and symbol not in ("&", "|", "^"):
            raise self.error(node, "bool-arithmetic", f"{symbol} on truth values", "cast: u32(x)")
        if one.type.enum:
            raise self.error(node, "enum-arithmetic", f"{symbol} on {one.type.name}", "cast: u32(x)")
        return one, two

    def _either(self, value: Value, other: Value, node: ast.AST) -> Scalar:
        """An operand as a scalar; a literal beyond 63 bits is one beside a u64 alone."""
        large = isinstance(value, Const) and is_plain_int(value.value) and constant_type(value.value) is None
        if large and isinstance(other, Scalar) and other.type.bits == 64 and not other.type.signed:
            assert isinstance(value, Const)
            return self.literal(value, other.type, node, "")
        return self.scalar_of(value, node)

    def wrong_operands(self, symbol: str, left: Value, right: Value, node: ast.AST) -> CompileError:
        for side in (left, right):
            if isinstance(side, (OptionalView, OptionalScalar, Void, Tuple)) or side == Const(None):
                return self.wrong_kind(side, node, "a number")
            if isinstance(side, Const) and isinstance(side.value, float):
                return self.error(node, "float", "the machine has no fractions", "scale it to an integer")
        return self.error(node, "bad-type", f"{describe(left)} {symbol} {describe(right)} has no meaning")

    def _fitting(self, value: Const, type: IntType, as_is: Scalar, node: ast.AST, symbol: str) -> Scalar:
        if type.is_bool:
            raise self.error(node, "mixed-types", f"bool {symbol} int mixes types", "cast: u32(x)")
        if type.enum:
            raise self.error(node, "enum-arithmetic", f"{symbol} on {type.name}", "cast: u32(x)")
        if type.network:
            return as_is
        if symbol in ("<<", ">>") and not 0 <= int(value.value) < type.bits:
            raise self.error(
                node, "bad-shift", f"a {type.name} is shifted by 0 to {type.bits - 1}, not by {int(value.value)}"
            )
        return self.literal(value, type, node, symbol)

    def _index_as(self, value: Scalar, type: IntType, node: ast.AST, symbol: str) -> Scalar:
        """A run-time plain integer as `type`, when its known range fits."""
        low, high = limits(type)
        if type.is_bool or type.enum or not (low <= value.lo and value.hi <= high):
            raise self.error(
                node,
                "mixed-types",
                f"{symbol} of {type.name} and an int between {value.lo} and {value.hi}, which may not fit",
                f"write the cast {type.name}(...)",
            )
        op = self.builder.convert("trunc", value.op, ir_type(type))
        return Scalar(op, type, value.lo, value.hi, tested=value.tested)

    def _mixed(self, symbol: str, one: IntType, two: IntType, node: ast.AST) -> CompileError:
        if one.is_bool or two.is_bool:
            other = two if one.is_bool else one
            return self.error(
                node, "mixed-types", f"{one.name} {symbol} {two.name} mixes types", f"write the cast {other.name}(...)"
            )
        wide = one if one.bits >= two.bits else two
        other_name = "left" if wide is two else "right"
        return self.error(
            node,
            "mixed-types",
            f"{one.name} {symbol} {two.name} mixes types",
            f"write the cast {wide.name}(...) around the {other_name} operand",
        )

    def _int_arithmetic(self, symbol: str, one: Scalar, two: Scalar, node: ast.AST) -> Value:
        """Plain integers at run time: exact, because the result's range is known and fits 64 bits."""
        try:
            bounds = self._int_bounds(symbol, one, two, node)
        except OverflowError:
            bounds = None
        low, high = limits(INT)
        if bounds is None or bounds[0] < low or bounds[1] > high:
            raise self.error(
                node,
                "no-width",
                f"the int that {symbol} gives here may leave 64 bits",
                "give the variable a width where it begins, as in n = u64(0)",
            )
        names = {**_SIMPLE, "//": "udiv", "%": "urem", "<<": "shl", ">>": "ashr"}
        tested = one.tested or two.tested
        return Scalar(self.builder.binary(names[symbol], one.op, two.op), INT, *bounds, tested=tested)

    def _int_bounds(self, symbol: str, one: Scalar, two: Scalar, node: ast.AST) -> tuple[int, int] | None:
        if symbol in ("//", "%"):
            if two.lo <= 0 or one.lo < 0:
                raise self.error(
                    node,
                    "signed-division" if one.lo < 0 else "division-by-zero",
                    f"{symbol} on ints that may be {'negative' if one.lo < 0 or two.lo < 0 else 'zero'}",
                    "cast to an unsigned type",
                )
            return (one.lo // two.hi, one.hi // two.lo) if symbol == "//" else (0, min(one.hi, two.hi - 1))
        if symbol in ("<<", ">>") and not 0 <= two.lo <= two.hi < 64:
            raise self.error(node, "bad-shift", "an int is shifted by 0 to 63", "cast to a type of the language")
        if symbol in ("&", "|", "^"):
            if one.lo < 0 or two.lo < 0:
                return limits(INT)
            top = (1 << max(one.hi.bit_length(), two.hi.bit_length())) - 1
            return 0, min(one.hi, two.hi) if symbol == "&" else top
        ends = [_FOLD[symbol](a, b) for a in (one.lo, one.hi) for b in (two.lo, two.hi)]
        return min(ends), max(ends)

    def _shift(self, symbol: str, one: Scalar, two: Scalar, constant: bool, node: ast.AST) -> Scalar:
        """Shifts: an amount known beforehand is below the width, any other is taken modulo the width."""
        kind = ir_type(one.type)
        amount: Operand = two.op
        if constant:
            assert isinstance(amount, Imm)
            amount = Imm(amount.value % one.type.bits, kind)
        elif not (two.lo >= 0 and two.hi < one.type.bits):
            amount = self.builder.binary("and", amount, Imm(one.type.bits - 1, kind))
        name = "shl" if symbol == "<<" else "ashr" if one.type.signed else "lshr"
        low, high = limits(one.type)
        if symbol == ">>" and not one.type.signed:
            low, high = 0, computed_high(one) >> (amount.value if isinstance(amount, Imm) else 0)
        if symbol == "<<" and not one.type.signed and isinstance(amount, Imm):
            high = _most("*", computed_high(one), 1 << amount.value, high)
        return scalar(self.builder.binary(name, one.op, amount), one.type, low, high)

    def _divide(self, symbol: str, one: Scalar, two: Scalar, constant: bool, node: ast.AST) -> Scalar:
        """Unsigned // and %; by a run-time zero they give 0 and the dividend, as the machine does."""
        if one.type.signed:
            raise self.error(
                node,
                "signed-division",
                f"{symbol} on {one.type.name}: Python rounds down, the machine towards zero",
                f"cast to u{one.type.bits} when the values cannot be negative",
            )
        kind = ir_type(one.type)
        if isinstance(two.op, Imm) and two.op.value == 0 and constant:
            raise self.error(node, "division-by-zero", f"{symbol} by the constant 0")
        if symbol == "%" and isinstance(two.op, Imm) and two.op.value > 0 and two.op.value & (two.op.value - 1) == 0:
            mask = two.op.value - 1  # an `and` bounds its result for the verifier as well
            return scalar(
                self.builder.binary("and", one.op, Imm(mask, kind)), one.type, 0, min(mask, computed_high(one))
            )
        divisor, zero = two.op, None
        if two.lo <= 0:
            zero = self.builder.compare("eq", two.op, Imm(0, kind))
            divisor = self.builder.select(zero, Imm(1, kind), two.op)
        result: Operand = self.builder.binary("udiv" if symbol == "//" else "urem", one.op, divisor)
        if zero is not None:
            result = self.builder.select(zero, Imm(0, kind) if symbol == "//" else one.op, result)
        top, divisor_top = computed_high(one), computed_high(two)
        if symbol == "//":
            return scalar(result, one.type, 0, top // (1 if two.tested else max(two.lo, 1)))
        high = min(top, divisor_top - 1) if two.lo > 0 and not two.tested else top
        return scalar(result, one.type, 0, high)

    def unary(self, symbol: str, value: Value, node: ast.AST) -> Value:
        """`-x`, `+x`, `~x` (not is control flow's)."""
        if isinstance(value, Const):
            if not isinstance(value.value, int) or isinstance(value.value, bool):
                raise self.error(node, "bad-type", f"{symbol} of {describe(value)} has no meaning")
            number = value.value
            return Const(-number if symbol == "-" else ~number if symbol == "~" else +number)
        one = self.scalar_of(value, node)
        if one.type.network:
            raise self.error(node, "network-order", f"arithmetic on a {one.type.name}", "write .to_host() first")
        if one.type.is_bool or one.type.enum:
            raise self.error(node, "bool-arithmetic", f"{symbol} of {one.type.name}", "cast: u32(x)")
        if symbol == "+":
            return replace(one, place=None)
        kind = ir_type(one.type)
        if one.type == INT:
            if symbol == "-":
                return self._int_arithmetic("-", Scalar(Imm(0, "i64"), INT, 0, 0), one, node)
            return replace(one, op=self.builder.binary("xor", one.op, Imm(-1, kind)), lo=~one.hi, hi=~one.lo)
        if symbol == "-":
            return scalar(self.builder.binary("sub", Imm(0, kind), one.op), one.type)
        return scalar(self.builder.binary("xor", one.op, Imm(-1, kind)), one.type)

    # Comparison

    def compare(self, symbol: str, left: Value, right: Value, node: ast.AST) -> Value:
        """A comparison; operands widen within one signedness, network-order values compare as numbers."""
        if isinstance(left, Const) and isinstance(right, Const):
            return self.fold(symbol, left, right, node)
        for side in (left, right):
            if isinstance(side, (OptionalView, OptionalScalar)) or side == Const(None):
                if isinstance(side, Const):
                    raise self.error(node, "none-comparison", f"{symbol} with None", "write is None or is not None")
                raise self.wrong_kind(side, node, "a value")
        if isinstance(left, Bytes) or isinstance(right, Bytes):
            return self._compare_bytes(symbol, left, right, node)
        if isinstance(left, View) or isinstance(right, View):
            return self._compare_views(symbol, left, right, node)
        if isinstance(left, Const) and not isinstance(right, Const):
            return self.compare(_FLIP[symbol], right, left, node)
        if isinstance(right, Const) and not self._is_number(right.value):
            raise self.wrong_operands(symbol, left, right, node)
        one = self.scalar_of(left, node)
        if isinstance(right, Const) and is_plain_int(right.value):
            return self._compare_literal(symbol, one, int(right.value))
        return self._compare_scalars(symbol, one, self.scalar_of(right, node), node)

    @staticmethod
    def _is_number(value: object) -> bool:
        return constant_type(value) is not None or is_plain_int(value)

    def _compare_literal(self, symbol: str, one: Scalar, number: int) -> Value:
        low, high = limits(one.type)
        if not low <= number <= high:  # Python's answer, known beforehand
            return Const(_FOLD[symbol](low if number > high else high, number))
        return self._icmp(symbol, one.op, Imm(number, ir_type(one.type)), one.type.signed)

    def _compare_scalars(self, symbol: str, one: Scalar, two: Scalar, node: ast.AST) -> Value:
        if one.type.network and two.type.network and one.type.bits != two.type.bits:
            raise self.error(node, "mixed-types", f"{one.type.name} {symbol} {two.type.name} mixes widths")
        if INT in (one.type, two.type):
            return self._compare_with_int(symbol, one, two, node)
        if one.type.signed != two.type.signed:
            raise self.error(
                node,
                "mixed-signedness",
                f"{one.type.name} {symbol} {two.type.name} compares across signedness",
                f"cast one of them: {one.type.name}(...)",
            )
        kind = max(ir_type(one.type), ir_type(two.type), key=lambda name: int(name[1:]))
        widen = "sext" if one.type.signed else "zext"
        ops = [self.builder.convert("zext" if s.op.type == "i1" else widen, s.op, kind) for s in (one, two)]
        return self._icmp(symbol, ops[0], ops[1], one.type.signed)

    def _compare_with_int(self, symbol: str, one: Scalar, two: Scalar, node: ast.AST) -> Value:
        """A plain integer against a typed value: exact in 64 bits, unless large and of different signedness."""
        for side, other in ((one, two), (two, one)):
            if side.type != INT and side.type.bits == 64 and not side.type.signed and other.lo < 0:
                raise self.error(
                    node, "mixed-signedness", f"{symbol} of a u64 and an int that may be negative", "cast: u64(...)"
                )
        unsigned = any(s.type != INT and s.type.bits == 64 and not s.type.signed for s in (one, two))
        ops = [
            self.builder.convert("sext" if s.type.signed and s.op.type != "i1" else "zext", s.op, "i64")
            for s in (one, two)
        ]
        return self._icmp(symbol, ops[0], ops[1], not unsigned)

    def _icmp(self, symbol: str, one: Operand, two: Operand, signed: bool) -> Scalar:
        name = _COMPARE[symbol]
        if symbol not in ("==", "!="):
            name = ("s" if signed else "u") + name
        return self.boolean(self.builder.compare(name, one, two))

    def _compare_bytes(self, symbol: str, left: Value, right: Value, node: ast.AST) -> Value:
        held = left if isinstance(left, Bytes) else right
        assert isinstance(held, Bytes)
        if symbol not in ("==", "!="):
            raise self.error(node, "bad-type", f"{held.type.name} has no order", "compare with == or !=")
        one, two = self.address(left, held.type, node), self.address(right, held.type, node)
        return self._all_equal(symbol, list(zip(one, two, strict=True)))

    def _all_equal(self, symbol: str, pairs: list[tuple[Operand, Operand]]) -> Scalar:
        """Whether all pairs are equal (or, for !=, not all), without a branch."""
        kind = pairs[0][0].type
        widest = max((a.type for a, _ in pairs), key=lambda name: int(name[1:]))
        total: Operand | None = None
        for a, b in pairs:
            differ = self.builder.convert("zext", self.builder.binary("xor", a, b), widest)
            total = differ if total is None else self.builder.binary("or", total, differ)
        assert total is not None and kind
        return self.boolean(self.builder.compare("eq" if symbol == "==" else "ne", total, Imm(0, widest)))

    def _compare_views(self, symbol: str, left: Value, right: Value, node: ast.AST) -> Value:
        if symbol not in ("==", "!="):
            raise self.error(node, "bad-type", f"{describe(left)} {symbol} {describe(right)} has no meaning")
        if not isinstance(left, View):
            left, right = right, left
        assert isinstance(left, View)
        if isinstance(right, Const) and isinstance(right.value, bytes) and isinstance(left.type, ArrayType):
            if len(right.value) != left.type.size:
                return Const(symbol == "!=")
            self.check_alive(left, node)
            ops = self._load_chunks(left, 0, left.type.size)
            pieces = [right.value[at : at + n] for at, n in chunks(left.type.size)]
            imms = [Imm(int.from_bytes(p, "little"), f"i{len(p) * 8}") for p in pieces]
            return self._all_equal(symbol, list(zip(ops, imms, strict=True)))
        if not isinstance(right, View) or right.type != left.type:
            raise self.wrong_operands(symbol, left, right, node)
        self.check_alive(left, node)
        self.check_alive(right, node)
        return self._all_equal(symbol, self._pairs(left, right))

    def _pairs(self, left: View, right: View) -> list[tuple[Operand, Operand]]:
        pairs: list[tuple[Operand, Operand]] = []
        for start, length in merged(occupied(left.type)):
            for at, n in chunks(length):
                ops = [
                    self.builder.load(
                        f"i{n * 8}", self.builder.gep(v.pointer, start + at), self.align(v, start + at, n)
                    )
                    for v in (left, right)
                ]
                pairs.append((ops[0], ops[1]))
        return pairs

    # Truth

    def truth(self, value: Value, node: ast.AST) -> Const | Scalar:
        """Whether a value counts as true, as a constant or an i1."""
        match value:
            case Const(value=constant):
                try:
                    return Const(bool(constant))
                except CompileError as error:
                    raise self.error(node, error.code, error.message) from None
            case Scalar(op=op, type=type):
                if type.is_bool:
                    return value
                return self.boolean(self.builder.compare("ne", op, Imm(0, ir_type(type))))
            case Bytes(ops=ops):
                return self._all_equal("!=", [(op, Imm(0, op.type)) for op in ops])
            case OptionalView(view=view):
                return self.boolean(self.builder.compare("ne", view.pointer, self.null()))
            case OptionalScalar():
                raise self.error(
                    node,
                    "optional-truth",
                    f"the truth of {describe(value)} mixes None with 0",
                    "write `is not None`",
                )
            case View(type=StructType()):
                return Const(True)
            case View(type=ArrayType()):
                return Const(True)
            case _:
                raise self.wrong_kind(value, node, "a condition")
