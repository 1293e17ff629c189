"""Open-coded iterators: begun, advanced and ended by three kernel functions each.

The call that advances one is a place where the walk meets itself: it goes on once with the next element and once
without, and ends where nothing new is found (`checkpoints`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.verifier.domain.pointer import STACK
from ebpfkit.verifier.domain.stack_objects import ACTIVE, DRAINED, StackObject
from ebpfkit.verifier.kernel_functions import KernelFunction, Parameter
from ebpfkit.verifier.rejection import Rejection
from ebpfkit.verifier.state import ITER, Frame, reference_word
from ebpfkit.verifier.transfer import stack_objects
from ebpfkit.verifier.transfer.calls import release_reference

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = ["advance", "is_under_rcu", "prove"]

_IN_RCU, _LEFT_RCU = 1, 2


def prove(
    w: Walk, index: int, register: int, function: KernelFunction, parameter: Parameter, facts: Any
) -> tuple[Frame, int]:
    """The iterator argument is where and what the function wants; returns its frame and slot."""
    value = w.vals[register]
    name = parameter.struct.removeprefix("bpf_")
    slots = parameter.size // 8
    tracing = w.prog_type.name == "tracing" and w.code.spec.attach_type == "trace_iter"
    if function.name == "bpf_iter_css_task_new" and not (w.sleepable or tracing):
        message = "css_task_iter is only allowed in bpf_lsm, bpf_iter and sleepable progs"
        raise Rejection("iterator", message, index=index, register=register)
    if value is None or value.kind != STACK:
        message = f"arg#{register - 1} expected pointer to an iterator on stack"
        raise Rejection("iterator", message, index=index, register=register)
    if function.is_any("new"):
        return _begin(w, index, register, function, parameter.struct, slots)
    message = f"expected an initialized {name} as arg #{register - 1}"
    spot = stack_objects.find_spot(w, index, register, "iter", slots, message)
    made = _find(spot, slots, parameter.struct)
    if spot is None or made is None:
        raise Rejection("iterator", message, index=index, register=register)
    if made.rcu == _LEFT_RCU:
        message = f"expected an RCU CS when using {function.name}"
        raise Rejection("iterator", message, index=index, register=register)
    stack_objects.touch_slots(w, index, register, slots, write=False)
    facts.reference = spot[0].slots[spot[1]].id >> 32
    if function.is_any("destroy"):
        release_reference(w, facts.reference)
        stack_objects.remove_object(w, index, register, slots)
    return spot


def _find(spot: tuple[Frame, int] | None, slots: int, struct: str) -> StackObject | None:
    """The iterator in these slots, None unless all of them are its."""
    if spot is None:
        return None
    frame, first = spot
    for number in range(first, first - slots, -1):
        slot = frame.slots.get(number)
        made: Any = slot.value if slot is not None and slot.types[0] == ITER else None
        if made is None or made.word != struct or made.first != (number == first):
            return None
    found: Any = frame.slots[first].value
    return found if isinstance(found, StackObject) else None


def _begin(w: Walk, index: int, register: int, function: KernelFunction, struct: str, slots: int) -> tuple[Frame, int]:
    message = f"expected uninitialized {struct.removeprefix('bpf_')} as arg #{register - 1}"
    spot = stack_objects.find_spot(w, index, register, "iter", slots, message)
    if spot is not None:
        frame, first = spot
        for number in range(first, first - slots, -1):
            slot = frame.slots.get(number)
            if slot is not None and slot.types[0] == ITER:
                raise Rejection("iterator", message, index=index, register=register)
    rcu = 0
    if function.is_any("in_rcu"):
        rcu = _IN_RCU if w.in_rcu() else _LEFT_RCU
    reference = w.new_id()
    made = StackObject(struct, state=ACTIVE, rcu=rcu)
    stack_objects.place_object(w, index, register, ITER, slots, made, reference_word(0, reference), 0)
    w.state.references = (*w.state.references, (reference, index))
    frame, numbers = stack_objects.find_slots(w, register, slots)
    return frame, numbers[0]


def is_under_rcu(spot: tuple[Frame, int]) -> bool:
    """Whether the iterator gives objects that only RCU keeps alive."""
    made: Any = spot[0].slots[spot[1]].value
    return bool(made.rcu == _IN_RCU)


def advance(w: Walk, index: int, spot: tuple[Frame, int]) -> None:
    """Go on with another element later, and without one now."""
    frame, number = spot
    made: Any = frame.slots[number].value
    if made.state == ACTIVE:
        twin = w.push(index + 1, index)
        other = twin.frames[frame.number]
        stack_objects.replace_object(other, number, made.changed(depth=made.depth + 1))
        parent = w.state.parent
        earlier = w.checkpoints.find_open(index, w.frame, parent.depth) if parent is not None else None
        if earlier is not None:
            w.widen(earlier, twin)
        inner = twin.frames[-1]
        inner.vals[0] = w.values.change(inner.vals[0], nullable=False)
    stack_objects.replace_object(frame, number, made.changed(state=DRAINED))
    w.vals[0], w.ids[0] = w.values.zero, 0
