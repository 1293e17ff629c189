"""Dynptrs: memory whose size is known at run time only, as helpers and kernel functions take, make and end them.

A dynptr takes two slots of the stack. Memory that it gives out (a slice) remembers it, and dies with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.verifier import check
from ebpfkit.verifier.domain.pointer import CONST_DYNPTR, MEM, STACK
from ebpfkit.verifier.domain.stack_objects import LASTING_SLICE, PACKET_SLICE, StackObject
from ebpfkit.verifier.kernel_functions import KernelFunction, Parameter
from ebpfkit.verifier.rejection import Rejection
from ebpfkit.verifier.state import DYNPTR, ID_MASK, Frame, reference_word
from ebpfkit.verifier.transfer import stack_objects

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = ["acquired_reference", "build", "initialised", "memory_of", "prove", "release", "slice_of"]

_SLOTS = 2
_OVER_PACKETS = {"skb", "xdp", "skb_meta"}
_MADE_BY = {"bpf_dynptr_from_skb": "skb", "bpf_dynptr_from_xdp": "xdp", "bpf_dynptr_from_skb_meta": "skb_meta"}
_COUNTED = {"ringbuf"}


def _refuse(index: int, register: int, message: str) -> Rejection:
    return Rejection("dynptr", message, index=index, register=register)


def _check_kind(index: int, register: int, value: Any) -> None:
    if value is None or value.kind not in (STACK, CONST_DYNPTR):
        message = f"arg#{register - 1} expected pointer to stack or const struct bpf_dynptr"
        raise _refuse(index, register, message)


def build(w: Walk, index: int, register: int, word: str, reference: int = 0) -> None:
    """Make a dynptr where the argument points; `reference`: that of the one it is a copy of, 0 for a fresh one."""
    value = w.vals[register]
    _check_kind(index, register, value)
    message = "Dynptr has to be an uninitialized dynptr"
    if value.kind == CONST_DYNPTR:
        raise _refuse(index, register, message)
    spot = stack_objects.find_spot(w, index, register, "dynptr", _SLOTS, message)
    if "dynptr-rules" not in w.behaviours and _is_taken(spot):
        raise _refuse(index, register, message)
    identity = w.new_id()
    if word in _COUNTED and not reference:
        reference = w.new_id()
        w.state.references = (*w.state.references, (reference, index))
    made = reference_word(identity, reference if word in _COUNTED else 0)
    stack_objects.place_object(w, index, register, DYNPTR, _SLOTS, StackObject(word), made, made)


def initialised(w: Walk, index: int, register: int, *, changes: bool = False) -> tuple[StackObject, int]:
    """The dynptr that the argument points to, with its identity word."""
    value = w.vals[register]
    _check_kind(index, register, value)
    if value.kind == CONST_DYNPTR:
        if changes:
            message = "cannot pass pointer to const bpf_dynptr, the helper mutates it"
            raise _refuse(index, register, message)
        check.check_unmoved(index, register, value)
        return value.target, w.ids[register]
    message = f"Expected an initialized dynptr as arg #{register - 1}"
    spot = stack_objects.find_spot(w, index, register, "dynptr", _SLOTS, message)
    found = _dynptr_at(spot)
    if found is None:
        raise _refuse(index, register, message)
    stack_objects.touch_slots(w, index, register, _SLOTS, write=False)
    return found


def _is_taken(spot: tuple[Frame, int] | None) -> bool:
    """Whether part of a dynptr is where one is to be built: older kernels refuse to overwrite any."""
    if spot is None:
        return False
    slots = (spot[0].slots.get(number) for number in (spot[1], spot[1] - 1))
    return any(slot is not None and slot.types[0] == DYNPTR for slot in slots)


def _dynptr_at(spot: tuple[Frame, int] | None) -> tuple[StackObject, int] | None:
    if spot is None:
        return None
    slots, number = spot[0].slots, spot[1]
    first, second = slots.get(number), slots.get(number - 1)
    if first is None or second is None or first.types[0] != DYNPTR or second.types[0] != DYNPTR:
        return None
    made: Any = first.value
    return (made, first.id) if made.first else None


def acquired_reference(w: Walk, index: int, register: int) -> int:
    """The reference of a dynptr that a helper gives back."""
    value = w.vals[register]
    _check_kind(index, register, value)
    if value.kind == CONST_DYNPTR:
        raise _refuse(index, register, "cannot release unowned const bpf_dynptr")
    message = f"arg {register} is an unacquired reference"
    spot = stack_objects.find_spot(w, index, register, "dynptr", _SLOTS, message)
    slot = spot[0].slots.get(spot[1]) if spot is not None else None
    if slot is None or slot.types[0] != DYNPTR or not slot.id >> 32:
        raise Rejection("reference-misuse", message, index=index, register=register)
    found, word = initialised(w, index, register)
    if found.word not in _COUNTED:
        message = f"Expected a dynptr of type ringbuf as arg #{register - 1}"
        raise _refuse(index, register, message)
    return word >> 32


def release(w: Walk, index: int, register: int, reference: int) -> None:
    """The dynptr is given back: its copies go too (what they gave out goes with the reference)."""
    frame, _ = stack_objects.find_slots(w, register, _SLOTS)
    stack_objects.drop_dynptrs(w, frame, reference)
    stack_objects.touch_slots(w, index, register, _SLOTS, write=True)


def prove(w: Walk, index: int, register: int, function: KernelFunction, parameter: Parameter, facts: Any) -> None:
    """A dynptr argument of a kernel function."""
    if not parameter.has("__uninit"):
        facts.dynptr = initialised(w, index, register, changes=False)
        return
    word, reference = _MADE_BY.get(function.name, ""), 0
    if not word:
        parent, identity = facts.dynptr
        word, reference = parent.word, identity >> 32
    build(w, index, register, word, reference)


def memory_of(
    w: Walk, dynptr: tuple[StackObject, int], size: int, marks: int = 0, *, readonly: bool, nullable: bool
) -> Any:
    """A pointer to `size` bytes of the dynptr."""
    found, word = dynptr
    mark = word & ID_MASK | marks | (PACKET_SLICE if found.word in _OVER_PACKETS else 0)
    return w.values.pointer(MEM, size, range_=mark, nullable=nullable, readonly=readonly)


def slice_of(w: Walk, index: int, function: KernelFunction, facts: Any, nullable: bool) -> Any:
    """What bpf_dynptr_slice and bpf_dynptr_slice_rdwr give."""
    readonly = not function.name.endswith("_rdwr")
    if not readonly and w.prog_type.direct_packet_access != "write":
        raise Rejection("read-only-memory", "the prog does not allow writes to packet data", index=index)
    return memory_of(w, facts.dynptr, facts.constant or 0, LASTING_SLICE, readonly=readonly, nullable=nullable)
