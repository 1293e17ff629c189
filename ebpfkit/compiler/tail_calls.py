"""Tail calls: `table.tail_call(pkt, index)`.

Belongs here: the jump and where it may stand. Which programs an object holds for it is `driver.py`.
"""

from __future__ import annotations

import ast

from ebpfkit.compiler.ir import Arg
from ebpfkit.compiler.packet import U32
from ebpfkit.compiler.subprograms import Subprograms
from ebpfkit.compiler.values import ContextValue, Value, Void
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.prog_arrays import ProgArray

__all__ = ["TailCalls"]


class TailCalls(Subprograms):
    """The jump to another program."""

    def tail_call(self, facade: ProgArray, args: list[Value], kwargs: dict[str, Value], node: ast.Call) -> Value:
        """Go on in another program; where there is none, go on here."""
        self.arguments("tail_call", args, kwargs, ("pkt", "index"), node)
        if not isinstance(args[0], ContextValue):
            raise self.wrong_kind(args[0], node.args[0], "the packet")
        if self.subprogram is not None:
            name = self.frame.function.__name__
            message = f"a tail call ends the program, and {name}() is a function of its own"
            raise self.error(
                node, "tail-call-place", message, f"remove the decorator of {name}(), or jump in the program"
            )
        for status, span in self.live.records.values():
            if status.is_open:
                message = f"the record reserved in line {span.line} {status.value} at this tail call"
                raise self.error(node, "record-leak", message, "call .submit() or .discard() before")
        index = self.builder.convert("zext", self.coerce(args[1], U32, node.args[1], "the index"), "i64")
        assert isinstance(node.func, ast.Attribute)
        self.call("tail_call", "void", Arg(), self.map_ref(facade, node.func.value), index)
        return Void("tail_call()")

    def map_method(
        self, facade: MapFacade, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        if isinstance(facade, ProgArray) and name == "tail_call":
            return self.tail_call(facade, args, kwargs, node)
        return super().map_method(facade, name, args, kwargs, node)
