"""Records that user space sends: `commands.drain(visit, state)`.

Belongs here: the callback's record, a copy of what user space wrote.
"""

from __future__ import annotations

import ast

from ebpfkit.compiler.callbacks import Callbacks, Role
from ebpfkit.compiler.ir import Arg, Imm, Operand, Param
from ebpfkit.compiler.maps import S64
from ebpfkit.compiler.subprograms import Formal, Subprograms
from ebpfkit.compiler.values import Value, scalar
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.typeinfo import StructType
from ebpfkit.dsl.user_rings import UserRingBuf

__all__ = ["UserRings"]


class UserRings(Callbacks):
    """Operations on user ring buffers."""

    def map_method(
        self, facade: MapFacade, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        if isinstance(facade, UserRingBuf) and name == "drain":
            return self._drain(facade, args, kwargs, node)
        return super().map_method(facade, name, args, kwargs, node)

    def _drain(self, facade: MapFacade, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """`m.drain(visit, state)`."""
        self.arguments("drain", args, kwargs, ("visit", "state"), node)
        function = self.function_argument("drain", args[0], node.args[0])
        state, pointer = self._state("drain", args[1], node.args[1])
        visit = self.callback(function, [self._record_role(facade), state], node.args[0], stops=True)
        assert isinstance(node.func, ast.Attribute)
        reference = self.map_ref(facade, node.func.value)
        return scalar(self.call("user_ringbuf_drain", "i64", reference, visit, pointer, Imm(0, "i64")), S64)

    def _record_role(self, facade: MapFacade) -> Role:
        """A copy of the record, which user space may change while the program looks; shorter ones are passed over."""
        info, cls = facade.value_type.__ebpf_type__, facade.value_type
        assert isinstance(info, StructType)

        def inside(low: Subprograms, op: Operand) -> Value:
            copy = low.new_local(info, cls, "the record", zeroed=True)
            size = Imm(info.size, "i64")
            result = low.call("dynptr_read", "i64", copy.pointer, size, op, Imm(0, "i64"), Imm(0, "i64"))
            too_short, whole = low.builder.label("short"), low.builder.label("whole")
            low.builder.condbr(low.builder.compare("ne", result, Imm(0, "i64")), too_short, whole)
            low.builder.start(too_short)
            low.builder.ret(Imm(0, low.builder.function.result))
            low.builder.start(whole)
            return copy

        return Role("the record", Formal("", inside, Param(Arg("record"), info, pointee=True), facade))
