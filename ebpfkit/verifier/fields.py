"""Special fields of map values as arguments: the pointer stands exactly at the lock, timer or work asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfkit._bits import to_signed
from ebpfkit.verifier.rejection import Rejection, Unmodelled

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = ["check_place"]

_RULES = {"bpf_spin_lock": "lock", "bpf_res_spin_lock": "lock"}


def check_place(w: Walk, index: int, register: int, kind: str) -> None:
    """The register points to the field of this kind in a value of its map."""
    p = w.vals[register]
    spec = p.target.spec
    rule = _RULES.get(kind, "special-field")
    if p.target.index < 0:
        raise Unmodelled(f"{kind} in an inner map", index=index)
    if p.var.const is None:
        message = f"R{register} doesn't have constant offset. {kind} has to be at the constant offset"
        raise Rejection(rule, message, index=index, register=register)
    if not spec.btf_value_type:
        message = f"map '{spec.name}' has to have BTF in order to use {kind}"
        raise Rejection(rule, message, index=index, register=register)
    field = next((field for field in w.special_fields(spec) if field.kind == kind), None)
    if field is None:
        raise Rejection(rule, f"map '{spec.name}' has no valid {kind}", index=index, register=register)
    at = p.off + to_signed(p.var.const, 64)
    if at != field.offset:
        message = f"off {at} doesn't point to 'struct {kind}' that is at {field.offset}"
        raise Rejection(rule, message, index=index, register=register)
