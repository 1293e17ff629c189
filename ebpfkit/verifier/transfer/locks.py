"""Spin locks in map values and allocated objects: taken and dropped, by helpers and (resilient ones) kernel functions.

One plain lock may be held at a time; resilient ones nest and are dropped in the opposite order. Taking a resilient one
may fail, which is a path of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit._bits import to_signed
from ebpfkit.verifier.domain.objects import ALLOC, BTF
from ebpfkit.verifier.domain.pointer import MAP_VALUE
from ebpfkit.verifier.domain.scalar import Bounds
from ebpfkit.verifier.kernel_functions import KernelFunction
from ebpfkit.verifier.rejection import Rejection
from ebpfkit.verifier.special import LOCK
from ebpfkit.verifier.state import ID_MASK, Lock
from ebpfkit.verifier.transfer.graph import OBJECTS, drop_borrowed

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = ["fail_to_take", "prove_resilient", "take_or_drop"]

_MAX_ERRNO = 4095
_RESILIENT = "bpf_res_spin_lock"


def take_or_drop(w: Walk, index: int, register: int, kind: str, acquire: bool) -> None:
    """Take or drop the spin lock that the register points to. `kind` is that of `Lock`."""
    field_kind = LOCK if kind == "spin" else _RESILIENT
    name = field_kind.removesuffix("_lock")
    p = w.vals[register]

    def refuse(message: str) -> Rejection:
        return Rejection("lock", message, index=index, register=register)

    home: Any = OBJECTS if p.kind == BTF else p.target
    if p.var.const is None:
        message = f"R{register} doesn't have constant offset. {field_kind} has to be at the constant offset"
        raise refuse(message)
    if p.kind == MAP_VALUE and not p.target.spec.btf_value_type:
        raise refuse(f"map '{p.target.spec.name}' has to have BTF in order to use {field_kind}")
    fields = w.object_fields(p.target) if p.kind == BTF else w.special_fields(p.target.spec)
    field = next((field for field in fields if field.kind == field_kind), None)
    if field is None:
        where = "local 'kptr'" if p.kind == BTF else f"map '{p.target.spec.name}'"
        raise refuse(f"{where} has no valid {field_kind}")
    at = p.off + to_signed(p.var.const, 64)
    if at != field.offset:
        raise refuse(f"off {at} doesn't point to 'struct {field_kind}' that is at {field.offset}")
    identity = w.ids[register] & ID_MASK
    held = w.state.lock
    if acquire:
        if held is not None and kind == "spin":
            raise refuse("Locking two bpf_spin_locks are not allowed")
        if held is not None and any(held.find(identity, home, other) for other in ("res", "res_irq")):
            raise refuse("Acquiring the same lock again, AA deadlock detected")
        w.state.lock = Lock(identity, home, kind, held)
        return
    if held is None:
        raise refuse(f"{name}_unlock without taking a lock")
    if not held.find(identity, home, kind):
        raise refuse(f"{name}_unlock of different lock")
    if held.identity != identity or held.home is not home:
        raise refuse(f"{name}_unlock cannot be out of order")
    w.state.lock = held.outer
    drop_borrowed(w)


def prove_resilient(w: Walk, index: int, register: int, function: KernelFunction) -> None:
    """The argument of the kernel functions for resilient locks, and what they do."""
    value = w.vals[register]
    allocated = value is not None and value.kind == BTF and value.target.flags == ALLOC
    if value is None or value.nullable or not (value.kind == MAP_VALUE or allocated):
        message = f"arg#{register - 1} doesn't point to map value or allocated object"
        raise Rejection("lock", message, index=index, register=register)
    kind = "res_irq" if "irq" in function.name else "res"
    take_or_drop(w, index, register, kind, "unlock" not in function.name)


def fail_to_take(w: Walk, index: int, function: KernelFunction) -> None:
    """The path on which a resilient lock is not taken: a negative error number, and nothing else happens."""
    if not function.name.startswith(_RESILIENT):
        return
    frame = w.push(index + 1, index).frames[-1]
    for register in range(6):
        frame.vals[register] = None
        frame.ids[register] = 0
    failed = Bounds.unknown()
    failed.smin = failed.s32_min = -_MAX_ERRNO
    failed.smax = failed.s32_max = -1
    frame.vals[0] = w.values.scalar(failed.sync())
