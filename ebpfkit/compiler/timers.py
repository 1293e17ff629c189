"""Timers in map values: the helper calls behind `init`, `set_callback`, `start` and `cancel`.

Belongs here: where a timer may lie and which map its function is called with. The function itself is `callbacks.py`'s.
"""

from __future__ import annotations

import ast

from ebpfkit.compiler.callbacks import Callbacks
from ebpfkit.compiler.ir import Imm
from ebpfkit.compiler.maps import S64
from ebpfkit.compiler.values import Const, Space, Value, View, scalar
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.timers import CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, TIMER_ABSOLUTE, Timer
from ebpfkit.dsl.typeinfo import IntType

__all__ = ["Timers"]

U64 = IntType("u64", 64)
_CLOCKS = (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME)
_TAKES = {"init": ("entries", "clock"), "set_callback": ("function",), "start": ("nanoseconds", "flags"), "cancel": ()}
_OPTIONAL = {"init": Const(CLOCK_MONOTONIC), "start": Const(0)}


class Timers(Callbacks):
    """Methods of timers."""

    def is_timer(self, owner: View) -> bool:
        return owner.cls is Timer

    def timer_method(
        self, owner: View, name: str, args: list[Value], kwargs: dict[str, Value], node: ast.Call
    ) -> Value:
        """`value.timer.NAME(...)`."""
        wanted = _TAKES.get(name)
        if wanted is None:
            raise self.error(node, "no-such-attribute", f"a timer has no method {name}", f"it has {', '.join(_TAKES)}")
        places = list(node.args)
        if name in _OPTIONAL and len(args) == len(wanted) - 1:
            args, places = [*args, _OPTIONAL[name]], [*places, node]
        self.arguments(name, args, kwargs, wanted, node)
        if owner.space is not Space.MAP:
            what = f"this timer lies in {owner.space.value}"
            raise self.error(node, "bad-timer", what, "use the one of a value that a map gave")
        self.check_alive(owner, node)
        if name == "init":
            return self._init(owner, args, places)
        if name == "set_callback":
            return self._set_callback(owner, args, places)
        if name == "start":
            return self._start(owner, args, places)
        return scalar(self.call("timer_cancel", "i64", owner.pointer), S64)

    def _init(self, owner: View, args: list[Value], places: list[ast.expr]) -> Value:
        facade = args[0].value if isinstance(args[0], Const) else None
        if not isinstance(facade, MapFacade):
            raise self.wrong_kind(args[0], places[0], "the map that has the value")
        if owner.facade is not facade:
            message = f"this timer is in no value of the map {facade.name}"
            raise self.error(places[0], "bad-timer", message, "name the map that has the value")
        clock = self.constant_index(args[1])
        if clock not in _CLOCKS:
            hint = "CLOCK_MONOTONIC, CLOCK_BOOTTIME or CLOCK_REALTIME"
            raise self.error(places[1], "bad-flags", "the clock of a timer is a constant", hint)
        reference = self.map_ref(facade, places[0])
        return scalar(self.call("timer_init", "i64", owner.pointer, reference, Imm(clock, "i64")), S64)

    def _set_callback(self, owner: View, args: list[Value], places: list[ast.expr]) -> Value:
        function = self.function_argument("set_callback", args[0], places[0])
        if not isinstance(owner.facade, MapFacade):
            message = "which map has the value of this timer is not known here"
            raise self.error(places[0], "bad-timer", message, "look the value up in this function")
        address = self.callback(function, self.entry_roles(owner.facade), places[0], stops=False)
        return scalar(self.call("timer_set_callback", "i64", owner.pointer, address), S64)

    def _start(self, owner: View, args: list[Value], places: list[ast.expr]) -> Value:
        nanoseconds = self.coerce(args[0], U64, places[0], "the time")
        flags = self.constant_index(args[1])
        if flags not in (0, TIMER_ABSOLUTE):
            raise self.error(places[1], "bad-flags", "the flags of start() are a constant", "0 or TIMER_ABSOLUTE")
        return scalar(self.call("timer_start", "i64", owner.pointer, nanoseconds, Imm(flags, "i64")), S64)
