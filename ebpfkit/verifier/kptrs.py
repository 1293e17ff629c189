"""Pointers to objects kept in map values and allocated objects (kptrs): loading, storing and exchanging them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit._bits import to_signed
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.btf.types import Struct
from ebpfkit.verifier import check
from ebpfkit.verifier.domain import objects as kinds
from ebpfkit.verifier.domain.objects import Object
from ebpfkit.verifier.domain.pointer import MAP_VALUE, Pointer
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.special import KPTRS, SpecialField
from ebpfkit.verifier.state import ID_MASK, SPILL, Slot
from ebpfkit.verifier.structures import holds_struct

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = [
    "exchanged", "field_at", "give_up", "load", "prove_destination", "prove_exchanged", "prove_store", "prove_value",
    "target_of",
]  # fmt: skip

_RCU_PROTECTED = frozenset({"cgroup", "bpf_cpumask", "task_struct", "bpf_crypto_ctx"})
"""Structures of the kernel that RCU keeps alive while a section lasts."""


def field_at(w: Walk, p: Pointer, offset: int) -> SpecialField | None:
    """The kptr in a map value that an access at the offset hits exactly."""
    if p.kind != MAP_VALUE or p.var.const is None:
        return None
    at = p.off + offset + to_signed(p.var.const, 64)
    fields = w.special_fields(p.target.spec)
    return next((field for field in fields if field.kind in KPTRS and field.offset == at), None)


def target_of(w: Walk, field: SpecialField) -> Object:
    """The structure that the kptr points to: the kernel's of that name, else the program's own."""
    local = w.code.spec.btf
    assert local is not None
    name = local.name(field.type_id)
    kernel = w.code.kernel_btf
    if kernel is None:
        raise Unmodelled(f"a pointer to struct {name} in a map without the kernel's types (give them with --btf)")
    number = kernel.find_id(name, Struct)
    return Object(number, name) if number else Object(field.type_id, name, 0, True)


def load(w: Walk, index: int, insn: Instruction, field: SpecialField) -> Any:
    """What a load of the kptr yields."""
    if insn.op.kind is not Kind.LOAD:
        raise _refuse(index, "kptr in map can only be accessed using BPF_MEM instruction mode")
    if field.kind == "uptr":
        raise Unmodelled("pointers to memory of user space in maps (uptr)", index=index)
    target = target_of(w, field)
    counted = field.tag == "percpu_kptr" or (field.tag == "kptr" and (target.local or target.name in _RCU_PROTECTED))
    if counted and w.in_rcu():
        flags = kinds.RCU
        if field.tag == "percpu_kptr":
            flags |= kinds.PERCPU
        elif target.local:
            flags |= kinds.ALLOC
    else:
        flags = kinds.UNTRUSTED
    return w.values.pointer(kinds.BTF, target.with_flags(flags), nullable=True)


def prove_store(w: Walk, index: int, insn: Instruction, field: SpecialField) -> None:
    """The store fits the kptr: only one without a reference may be stored to, and only with the right type or 0."""
    if insn.op.kind is not Kind.STORE:
        raise _refuse(index, "kptr in map can only be accessed using BPF_MEM instruction mode")
    if field.kind == "uptr":
        raise _refuse(index, "store to uptr disallowed")
    if field.tag != "kptr_untrusted":
        raise _refuse(index, "store to referenced kptr disallowed")
    if insn.op.source == "imm":
        if insn.imm:
            raise _refuse(index, f"BPF_ST imm must be 0 when storing to kptr at off={field.offset}")
        return
    register = int(insn.src)
    value = w.vals[register]
    if not (value.is_scalar and value.const == 0):
        prove_value(w, index, register, field)


def prove_value(w: Walk, index: int, register: int, field: SpecialField) -> None:
    """The register holds a pointer of the kptr's type."""
    value, target = w.vals[register], target_of(w, field)
    loose = field.tag == "kptr_untrusted"
    fits = value.kind == kinds.BTF
    if fits:
        if value.target.local:
            allowed = kinds.ALLOC | (kinds.PERCPU if field.tag == "percpu_kptr" else 0)
        else:
            allowed = kinds.TRUSTED | kinds.RCU | (kinds.UNTRUSTED if loose else 0)
        fits = not value.target.flags & ~allowed
    if fits:
        check.check_fixed(index, register, value)
        fits = value.target.local == target.local
    if fits:
        if loose:
            btf = w.objects.btf_of(value.target)
            fits = holds_struct(btf, value.target.type_id, value.off, target.type_id)
        else:
            fits = not value.off and value.target.type_id == target.type_id
    if not fits:
        shown = check.type_name(value) + (value.target.name if value.kind == kinds.BTF else "")
        message = f"invalid kptr access, R{register} type={shown} expected=ptr_{target.name}"
        if loose:
            message += f" or untrusted_ptr_{target.name}"
        raise Rejection("special-field", message, index=index, register=register)


def prove_destination(w: Walk, index: int) -> SpecialField:
    """R1 points to a kptr with a reference, for an exchange."""
    p = w.vals[1]
    if p.kind != MAP_VALUE:
        raise Unmodelled("kptrs in allocated objects", index=index)
    spec = p.target.spec
    if not spec.btf_value_type:
        raise _refuse(index, f"map '{spec.name}' has to have BTF in order to use bpf_kptr_xchg")
    if p.var.const is None:
        message = "R1 doesn't have constant offset. kptr has to be at the constant offset"
        raise Rejection("special-field", message, index=index, register=1)
    if not any(field.kind in KPTRS for field in w.special_fields(spec)):
        raise Rejection("special-field", "R1 has no valid kptr", index=index, register=1)
    field = field_at(w, p, 0)
    at = p.off + to_signed(p.var.const, 64)
    if field is None:
        raise Rejection("special-field", f"off={at} doesn't point to kptr", index=index, register=1)
    if field.tag == "kptr_untrusted":
        raise Rejection("special-field", f"off={at} kptr isn't referenced kptr", index=index, register=1)
    return field


def prove_exchanged(w: Walk, index: int, register: int, field: SpecialField) -> None:
    """The register holds what may be put into the kptr by an exchange."""
    value = w.vals[register]
    flags = value.target.flags & ~(kinds.ALLOC | kinds.PERCPU) if value.kind == kinds.BTF else None
    if flags not in (0, kinds.TRUSTED, kinds.RCU):
        message = f"R{register} type={check.type_name(value)} expected=ptr_, trusted_ptr_, rcu_ptr_"
        raise Rejection("helper-argument", message, index=index, register=register)
    if value.nullable and not value.target.flags & kinds.ALLOC:
        message = f"Possibly NULL pointer passed to helper arg{register}"
        raise Rejection("helper-argument", message, index=index, register=register)
    if value.nullable:
        message = "verifier bug: invalid PTR_TO_BTF_ID register for type match"
        raise Rejection("verifier-bug", message, index=index, register=register)
    prove_value(w, index, register, field)


def give_up(w: Walk, reference: int) -> None:
    """The object now belongs to the map: its reference is gone, and with it every pointer that carries it."""
    state = w.state
    state.references = tuple(held for held in state.references if held[0] != reference)
    per_cpu = kinds.ALLOC | kinds.PERCPU
    in_rcu = w.in_rcu()

    def after(value: Any, identity: int) -> tuple[Any, int] | None:
        if value is None or value.is_scalar or identity >> 32 != reference:
            return None
        if in_rcu and value.kind == kinds.BTF and value.target.flags & per_cpu == per_cpu:
            flags = value.target.flags & ~kinds.ALLOC | kinds.RCU
            return w.values.change(value, target=value.target.with_flags(flags)), identity & ID_MASK
        return w.values.unknown, 0

    for frame in state.frames:
        for register in range(10):
            changed = after(frame.vals[register], frame.ids[register])
            if changed is not None:
                frame.vals[register], frame.ids[register] = changed
        for number, slot in list(frame.slots.items()):
            changed = after(slot.value, slot.id) if slot.types[0] == SPILL else None
            if changed is not None:
                frame.set_slot(number, Slot(slot.types, *changed))


def exchanged(w: Walk, field: SpecialField) -> Any:
    """What an exchange yields: the object that was there, referenced, or null."""
    target = target_of(w, field)
    flags = kinds.ALLOC if target.local else 0
    if target.local and field.tag == "percpu_kptr":
        flags |= kinds.PERCPU
    return w.values.pointer(kinds.BTF, target.with_flags(flags), nullable=True)


def _refuse(index: int, message: str) -> Rejection:
    return Rejection("special-field", message, index=index)
