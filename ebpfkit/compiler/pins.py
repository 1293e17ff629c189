"""Bounds that the verifier can see: what an index is masked by stands where the index is used, and stays there.

The optimiser drops a mask that it can prove needless, from what it knows of divisions, stores and tests before; the
verifier knows less, and then refuses the access. Behind a barrier the optimiser knows nothing either.
"""

from __future__ import annotations

from ebpfkit.compiler.ir import Imm, Instr, Operand, Temp
from ebpfkit.compiler.operators import Operators
from ebpfkit.compiler.values import INT, Scalar

__all__ = ["Pins"]

_LOOK_BACK = 64
_KEEPS_BOUNDS = frozenset({"add", "mul", "shl", "or", "zext", "sext", "trunc"})
_LOSES_BOUNDS = frozenset({"udiv", "urem"})


class Pins(Operators):
    """Indices and sizes on their way into an address."""

    def pinned(self, index: Scalar) -> Operand | None:
        """The same number, with its masks behind a barrier; None when its bounds must be made visible by new ones."""
        if index.tested:
            return None
        if index.type == INT or isinstance(index.op, Imm):
            return index.op
        return self._pin(index.op, 4)

    def _pin(self, op: Operand, depth: int) -> Operand | None:
        made = self._definition(op)
        if made is None or made.op in _LOSES_BOUNDS or depth == 0:
            return None
        if made.op == "and" and isinstance(made.args[1], Imm):
            return self.builder.binary("and", self.builder.opaque(made.args[0]), made.args[1])
        if made.op not in _KEEPS_BOUNDS or made.result is None:
            return op
        first = self._pin(made.args[0], depth - 1)
        if first is None:
            return None
        if made.op in ("zext", "sext", "trunc"):
            return self.builder.convert(made.op, first, made.result.type)
        second: Operand | None = made.args[1]
        if not isinstance(second, Imm):
            second = self._pin(made.args[1], depth - 1)
        return None if second is None else self.builder.binary(made.op, first, second)

    def _definition(self, op: Operand) -> Instr | None:
        """The instruction that made a number, if it is near; a load from a variable tells nothing."""
        if not isinstance(op, Temp):
            return None
        for instr in reversed(self.builder.current.instrs[-_LOOK_BACK:]):
            if instr.result == op:
                return None if instr.op == "load" and self._is_slot(instr.args[0]) else instr
        return None

    def _is_slot(self, pointer: Operand) -> bool:
        return any(pointer == slot for slot in self.slots.values())
