"""Functions of the program that the kernel calls: how such a walk begins, and how it comes back.

A synchronous callback is walked in a frame of its own on top of the caller's and returns to the very call that asked
for it, which then asks again: the walk ends when a visit finds nothing new. An asynchronous one (a timer's) begins with
an empty stack. Which registers it begins with depends on who calls it and is one function each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ebpfkit.abi import limits
from ebpfkit.verifier import check
from ebpfkit.verifier.domain.objects import BTF
from ebpfkit.verifier.domain.pointer import CONST_DYNPTR, MAP_KEY, MAP_PTR, MAP_VALUE, STACK
from ebpfkit.verifier.domain.stack_objects import StackObject
from ebpfkit.verifier.liveness import Chain
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.state import Callback, Frame, State

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk
    from ebpfkit.verifier.program import Subprogram

__all__ = ["call_back", "call_back_later", "call_helper_back", "end_callback", "enter_timer"]

Enter = Callable[["Walk", Frame, Frame], None]

_STOP_OR_GO_ON = (0, 1)


def _enter_loop(w: Walk, caller: Frame, callee: Frame) -> None:
    callee.vals[1] = w.values.unknown
    callee.vals[2], callee.ids[2] = caller.vals[3], caller.ids[3]


def _enter_for_each(w: Walk, caller: Frame, callee: Frame) -> None:
    target = caller.vals[1].target
    callee.vals[1], callee.ids[1] = caller.vals[1], caller.ids[1]
    callee.vals[2] = w.values.pointer(MAP_KEY, target)
    callee.vals[3] = w.values.pointer(MAP_VALUE, target)
    callee.vals[4], callee.ids[4] = caller.vals[3], caller.ids[3]


def enter_timer(w: Walk, caller: Frame, callee: Frame) -> None:
    target = caller.vals[1].target
    callee.vals[1] = w.values.pointer(MAP_PTR, target)
    callee.vals[2] = w.values.pointer(MAP_KEY, target)
    callee.vals[3] = w.values.pointer(MAP_VALUE, target)


def _enter_drain(w: Walk, caller: Frame, callee: Frame) -> None:
    callee.vals[1], callee.ids[1] = w.values.pointer(CONST_DYNPTR, StackObject("local")), w.new_id()
    callee.vals[2], callee.ids[2] = caller.vals[3], caller.ids[3]


def _enter_find_vma(w: Walk, caller: Frame, callee: Frame) -> None:
    callee.vals[1], callee.ids[1] = caller.vals[1], caller.ids[1]
    callee.vals[2] = w.values.pointer(BTF, w.objects.kernel_object("vm_area_struct"))
    callee.vals[3], callee.ids[3] = caller.vals[4], caller.ids[4]


_SYNCHRONOUS: dict[str, tuple[int, Enter]] = {
    "loop": (2, _enter_loop),
    "for_each_map_elem": (2, _enter_for_each),
    "find_vma": (3, _enter_find_vma),
    "user_ringbuf_drain": (2, _enter_drain),
}
"""Helper: the register with the function, and what it begins with."""


def call_helper_back(w: Walk, index: int, name: str) -> None:
    """The helper may call the function it was given, any number of times from none on."""
    if name == "timer_set_callback":
        call_back_later(w, index, w.vals[2].target, enter_timer)
        return
    if name not in _SYNCHRONOUS:
        raise Unmodelled(f"callbacks (helper {name})", index=index)
    register, enter = _SYNCHRONOUS[name]
    function = w.vals[register].target
    if name == "loop":
        _note_inlining(w, index, function)
        if not w.vals[1].is_scalar:
            raise Unmodelled("bpf_loop with a pointer as its number of rounds", index=index)
        w.precision.demand_register(w.state, index, 1)
        least = 0 if "callbacks-from-none" in w.behaviours else 1
        if w.frame.rounds >= max(least, w.vals[1].umax):
            w.frame.rounds = 0
            return
    call_back(w, index, function, enter)


def _note_inlining(w: Walk, index: int, function: Subprogram) -> None:
    """The kernel writes the loop out where every visit has the same function and flags 0: the flags count then."""
    if index in w.inlined and w.inlined[index] is None:
        return
    flags = w.vals[4]
    clear = flags.is_scalar and flags.const == 0
    if clear:
        w.precision.demand_register(w.state, index, 4)
    w.inlined[index] = function if clear and w.inlined.get(index, function) is function else None


def call_back(w: Walk, index: int, function: Subprogram, enter: Enter) -> None:
    """Walk the callback later; the current path goes on behind the call."""
    if len(w.state.frames) >= limits.MAX_FRAMES:
        message = f"the call stack of {len(w.state.frames) + 1} frames is too deep"
        raise Rejection("call-depth", message, index=index)
    function.is_callback = True
    state = w.push(function.start, index)
    caller = state.frames[-1]
    callee = Frame(len(state.frames), function, index, w.stack_liveness.enter(caller.chain, index, function))
    callee.callback = Callback(*_STOP_OR_GO_ON)
    callee.vals[10] = w.values.pointer(STACK, callee.number)
    enter(w, caller, callee)
    state.frames.append(callee)
    state.unrolled += 1
    caller.rounds += 1
    w.frame.rounds = 0


def call_back_later(w: Walk, index: int, function: Subprogram, enter: Enter) -> None:
    """Walk the function on its own later: nothing of the current state is there when it runs."""
    function.is_async = function.is_callback = True
    callback = w.frame.callback
    entries = callback.entries if callback is not None else 0
    chain: Chain = w.stack_liveness.root(function)
    callee = Frame(0, function, -1, chain)
    callee.callback = Callback(0, 0, is_async=True, entries=entries + 1)
    callee.vals[10] = w.values.pointer(STACK, 0)
    enter(w, w.frame, callee)
    state = State([callee])
    state.first = function.start
    w.push_state(state, function.start, index, " for async cb")


def end_callback(w: Walk, index: int) -> None:
    """The callback's result fits; its frame goes and the call that asked for it is walked again."""
    value: Any = w.vals[0]
    callback = w.frame.callback
    assert callback is not None
    if value is None or not value.is_scalar:
        raise Rejection("return-value", "R0 not a scalar value", index=index, register=0)
    w.precision.demand_register(w.state, index, 0)
    if value.smin < callback.low or value.smax > callback.high:
        raise check.return_value_out(index, value, (callback.low, callback.high), "At callback return")
    site = w.frame.site
    w.state.frames.pop()
    w.frame = w.state.frames[-1]
    earlier = w.find_open(site, w.state.depth)
    if earlier is not None:
        w.widen(earlier, w.state)
    w.next = site
