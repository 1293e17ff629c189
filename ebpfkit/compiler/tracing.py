"""`trace(f"...")`: an f-string as the format and the values of the kernel's printing helpers.

Belongs here: what of Python's format language the kernel's has, so that both print the same text.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from ebpfkit.abi.helpers import HELPERS_BY_NAME
from ebpfkit.compiler.helper_calls import HelperCalls
from ebpfkit.compiler.ir import Imm, Operand
from ebpfkit.compiler.values import Bytes, Const, Scalar, Space, Value, View, Void, chunks, describe
from ebpfkit.dsl.addresses import MAC, IPv4Addr
from ebpfkit.dsl.typeinfo import ArrayType, IntType

__all__ = ["Tracing"]

_FEW = 3  # values that bpf_trace_printk takes
_MOST = 12  # and bpf_trace_vprintk
_LONGEST = 256  # bytes of a format: it stands on the stack
_SPEC = re.compile(r"(0?)([1-9][0-9]?)?([dxX]?)")


@dataclass(slots=True)
class _Line:
    """The format so far, and the values that it prints."""

    text: str = ""
    values: list[Operand] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.text += text.replace("%", "%%")


class Tracing(HelperCalls):
    """Evaluation of `trace`."""

    def trace(self, node: ast.Call) -> Value:
        """`trace(f"...")`."""
        if len(node.args) != 1 or node.keywords:
            raise self.error(node, "bad-call", "trace() takes one f-string")
        text = node.args[0]
        line = _Line()
        parts = text.values if isinstance(text, ast.JoinedStr) else [text]
        for part in parts:
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                line.say(part.value)
            elif isinstance(part, ast.FormattedValue):
                self._formatted(part, line)
            else:
                raise self.error(part, "bad-type", "trace() takes an f-string", 'write trace(f"length {n}")')
        data = line.text.encode() + b"\0"
        if not line.text.isascii() or "\0" in line.text or len(data) > _LONGEST:
            raise self.error(text, "bad-format", f"the kernel prints at most {_LONGEST - 1} ASCII characters")
        if len(line.values) > _MOST:
            message = f"{len(line.values)} values in a line, and the kernel prints {_MOST} (a MAC address is 6)"
            raise self.error(text, "bad-format", message, "write two lines")
        self._print(data, line.values, node)
        return Void("trace()")

    def _print(self, data: bytes, values: list[Operand], node: ast.Call) -> None:
        name = "trace_printk" if len(values) <= _FEW else "trace_vprintk"
        self.require_licence(HELPERS_BY_NAME[name], node)
        bytes_ = ArrayType(IntType("u8", 8), len(data))
        place = self.new_local(bytes_, None, "the text of trace()", zeroed=False)
        self.store_bytes(place, data)
        size = Imm(len(data), "i64")
        if name == "trace_printk":
            self.call(name, "i64", place.pointer, size, *values, *[Imm(0, "i64")] * (_FEW - len(values)))
            return
        row = ArrayType(IntType("u64", 64), len(values))
        array = self.new_local(row, None, "the values of trace()", zeroed=False)
        for number, value in enumerate(values):
            self.builder.store(value, self.builder.gep(array.pointer, 8 * number), 8)
        self.call(name, "i64", place.pointer, size, array.pointer, Imm(8 * len(values), "i64"))

    def _formatted(self, part: ast.FormattedValue, line: _Line) -> None:
        """`{value:spec}`."""
        spec = self._spec(part)
        if part.conversion != -1:
            raise self.error(part, "bad-format", "!r, !s and !a have no meaning here", "remove them")
        value = self.expr(part.value)
        if isinstance(value, Const):
            try:
                line.say(format(value.value, spec))
            except (TypeError, ValueError) as error:
                raise self.error(part, "bad-format", f"this format has no meaning: {error}") from None
            return
        if isinstance(value, Bytes) and value.cls is MAC and not spec:
            line.text += ":".join(["%02x"] * 6)
            line.values += self._bytes_of(value)
            return
        if not isinstance(value, Scalar) or value.type.is_bool:
            hint = "write u8(...)" if isinstance(value, Scalar) else "write out its parts"
            raise self.error(part.value, "bad-format", f"a {describe(value)} cannot be printed", hint)
        self._number(value, spec, part, line)

    def _spec(self, part: ast.FormattedValue) -> str:
        if part.format_spec is None:
            return ""
        pieces = part.format_spec.values if isinstance(part.format_spec, ast.JoinedStr) else [part.format_spec]
        if not all(isinstance(piece, ast.Constant) for piece in pieces):
            raise self.error(part, "bad-format", "a width is a number known here", "write {n:08x}")
        return "".join(str(piece.value) for piece in pieces if isinstance(piece, ast.Constant))

    def _bytes_of(self, value: Bytes) -> list[Operand]:
        out: list[Operand] = []
        for (_, size), op in zip(chunks(value.type.size), value.ops, strict=True):
            for at in range(size):
                moved = self.builder.binary("lshr", op, Imm(8 * at, op.type)) if at else op
                byte = self.builder.convert("trunc", moved, "i8")
                out.append(self.builder.convert("zext", byte, "i64"))
        return out

    def _number(self, value: Scalar, spec: str, part: ast.FormattedValue, line: _Line) -> None:
        kind = value.type
        if kind.name == IPv4Addr.__name__ and not spec:
            place = self.new_local(ArrayType(kind, 1), None, "an address of trace()", zeroed=False)
            self.store_place(View(place.pointer, place.type, None, Space.STACK, 8), 0, kind, None, value, part)
            line.text += "%pI4"
            line.values.append(place.pointer)
            return
        found = _SPEC.fullmatch(spec)
        if found is None:
            raise self.error(
                part, "bad-format", f"the kernel has no format {spec!r}", "write a width, d, x or X: {n:08x}"
            )
        zero, width, base = found.groups()
        if kind.signed and base in ("x", "X"):
            raise self.error(part, "bad-format", f"{base} of a signed {kind.name}", f"cast it: u{kind.bits}(...)")
        letters = base if base in ("x", "X") else "d" if kind.signed else "u"
        line.text += f"%{zero}{width or ''}{'ll' if kind.bits == 64 else ''}{letters}"
        line.values.append(self.builder.convert("sext" if kind.signed else "zext", value.op, "i64"))
