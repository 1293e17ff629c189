"""Sections that kernel functions open and close: RCU, no preemption, no interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.verifier.domain import objects as kinds
from ebpfkit.verifier.domain.objects import BTF
from ebpfkit.verifier.domain.pointer import STACK
from ebpfkit.verifier.domain.stack_objects import StackObject
from ebpfkit.verifier.kernel_functions import KernelFunction
from ebpfkit.verifier.rejection import Rejection
from ebpfkit.verifier.state import ID_MASK, IRQ, ITER, SPILL, Frame, Slot
from ebpfkit.verifier.transfer import stack_objects

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = ["enter_or_leave", "prove_flag", "where_nothing_sleeps"]

_LEFT_RCU = 2


def _refuse(index: int, message: str) -> Rejection:
    return Rejection("execution-context", message, index=index)


def enter_or_leave(w: Walk, index: int, function: KernelFunction) -> None:
    """Count sections, and refuse what must not stand in one."""
    state, name = w.state, function.name
    sleeps = function.is_any("sleeps")
    if name == "bpf_rcu_read_lock":
        if state.rcu:
            raise _refuse(index, f"nested rcu read lock (kernel function {name})")
        state.rcu = 1
    elif name == "bpf_rcu_read_unlock":
        if not state.rcu:
            raise _refuse(index, f"unmatched rcu read unlock (kernel function {name})")
        state.rcu = 0
        _leave_rcu(w)
    elif state.rcu and sleeps:
        raise _refuse(index, f"kernel func {name} is sleepable within rcu_read_lock region")
    if name == "bpf_preempt_disable":
        state.preempt += 1
    elif name == "bpf_preempt_enable":
        if not state.preempt:
            raise _refuse(index, f"unmatched attempt to enable preemption (kernel function {name})")
        state.preempt -= 1
    elif state.preempt and sleeps:
        raise _refuse(index, f"kernel func {name} is sleepable within non-preemptible region")
    if state.irqs and sleeps:
        raise _refuse(index, f"kernel func {name} is sleepable within IRQ-disabled region")


def where_nothing_sleeps(w: Walk) -> str:
    """The section that the walk is in and in which nothing may sleep, in the kernel's words; "" outside of any."""
    state = w.state
    if state.rcu:
        return "rcu_read_lock"
    if state.preempt:
        return "non-preemptible"
    return "IRQ-disabled" if state.irqs else ""


def _left(w: Walk, value: Any) -> Any:
    """What a pointer protected by RCU is behind the section."""
    if value is None or value.kind != BTF or not value.target.flags & kinds.RCU:
        return None
    flags = value.target.flags & ~kinds.RCU | kinds.UNTRUSTED
    return w.values.change(value, target=value.target.with_flags(flags), nullable=False)


def _leave_rcu(w: Walk) -> None:
    for frame in w.state.frames:
        for register in range(10):
            changed = _left(w, frame.vals[register])
            if changed is not None:
                frame.vals[register] = changed
        for number, slot in list(frame.slots.items()):
            made: Any = slot.value
            if slot.types[0] == SPILL:
                changed = _left(w, made)
                if changed is not None:
                    frame.set_slot(number, Slot(slot.types, changed, slot.id))
            elif slot.types[0] == ITER and made.rcu:
                stack_objects.replace_object(frame, number, made.changed(rcu=_LEFT_RCU))


def prove_flag(w: Walk, index: int, register: int, function: KernelFunction) -> None:
    """Save or restore the interrupt flags in a stack slot."""
    value = w.vals[register]
    if value is None or value.kind != STACK:
        message = f"arg#{register - 1} doesn't point to an irq flag on stack"
        raise Rejection("kfunc-argument", message, index=index, register=register)
    saving = function.name.endswith(("_save", "_irqsave"))
    word = "lock" if function.name.startswith("bpf_res_") else "native"
    message = f"expected {'uninitialized' if saving else 'an initialized'} irq flag as arg#{register - 1}"
    spot = stack_objects.find_spot(w, index, register, "irq_flag", 1, message)
    slot = spot[0].slots.get(spot[1]) if spot is not None else None
    is_flag = slot is not None and slot.types[0] == IRQ
    if saving == is_flag:
        raise Rejection("execution-context", message, index=index, register=register)
    if saving:
        identity = w.new_id()
        stack_objects.place_object(w, index, register, IRQ, 1, StackObject(word), identity << 32, 0)
        w.state.irqs = (*w.state.irqs, (identity, index))
        return
    assert spot is not None and slot is not None
    if slot.value.word != word:
        message = f"irq flag acquired by {slot.value.word} kfuncs cannot be restored with {word} kfuncs"
        raise Rejection("execution-context", message, index=index, register=register)
    _restore(w, index, register, spot)


def _restore(w: Walk, index: int, register: int, spot: tuple[Frame, int]) -> None:
    frame, number = spot
    identity = frame.slots[number].id >> 32 & ID_MASK
    irqs = w.state.irqs
    last, acquired = irqs[-1] if irqs else (0, 0)
    if last != identity:
        message = (
            f"cannot restore irq state out of order, expected id={last} acquired at insn_idx={w.code.slot_of(acquired)}"
        )
        raise Rejection("execution-context", message, index=index, register=register)
    w.state.irqs = irqs[:-1]
    stack_objects.remove_object(w, index, register, 1)
