"""Proves obligations against the current state, or rejects in the kernel's words.

Nothing here moves the state, with one exception that the kernel shares: looking at the stack notes how deep it is used.
What an access yields or leaves behind is `transfer/`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ebpfkit._bits import S64_MAX, S64_MIN, to_signed
from ebpfkit.abi import limits
from ebpfkit.verifier import objects, special
from ebpfkit.verifier import obligations as ob
from ebpfkit.verifier.domain.objects import ARENA, BTF, BUF, FLOW_KEYS, UNTRUSTED_MEM
from ebpfkit.verifier.domain.pointer import (
    CTX,
    MAP_KEY,
    MAP_PTR,
    MAP_VALUE,
    MEM,
    OPAQUE,
    PACKET,
    PACKET_META,
    STACK,
    Pointer,
)
from ebpfkit.verifier.domain.scalar import Scalar
from ebpfkit.verifier.rejection import Rejection

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk

__all__ = [
    "check_region",
    "check_resources",
    "check_return",
    "check_stack_bounds",
    "prove",
    "prove_static",
    "return_value_out",
    "type_name",
]

_FAR = limits.MAX_VARIABLE_OFFSET
_NEVER_ATOMIC = (CTX, PACKET, PACKET_META, OPAQUE, FLOW_KEYS)
_STATIC = (ob.FieldsClear, ob.OperandFits)
_BPF_F_RDONLY_PROG = 1 << 7
_BPF_F_WRONLY_PROG = 1 << 8


def type_name(value: Scalar | Pointer) -> str:
    """The kernel's word for the type of a value."""
    return value.type_name() if isinstance(value, Pointer) else "scalar"


def prove(w: Walk, index: int, demands: Sequence[ob.Obligation]) -> None:
    """Prove each obligation of the instruction in turn; the first that fails rejects the program."""
    for demand in demands:
        _PROVERS[type(demand)](w, index, demand)


def prove_static(index: int, demands: Sequence[ob.Obligation]) -> Rejection | None:
    """The first obligation that fails whatever the state is, None if there is none."""
    for demand in demands:
        if isinstance(demand, ob.FieldsClear) and demand.message:
            return Rejection(demand.rule, demand.message, index=index)
        if isinstance(demand, ob.OperandFits) and demand.message:
            return Rejection("invalid-immediate", demand.message, index=index)
        if isinstance(demand, ob.Readable | ob.Writable) and demand.register > 10:
            return Rejection("invalid-register", f"R{demand.register} is invalid", index=index)
        if isinstance(demand, ob.Writable) and demand.register == 10:
            return Rejection("frame-pointer-write", "frame pointer is read only", index=index, register=10)
    return None


def _fields(_: Walk, index: int, demand: ob.FieldsClear) -> None:
    if demand.message:
        raise Rejection(demand.rule, demand.message, index=index)


def _operand(_: Walk, index: int, demand: ob.OperandFits) -> None:
    if demand.message:
        raise Rejection("invalid-immediate", demand.message, index=index)


def _readable(w: Walk, index: int, demand: ob.Readable) -> None:
    register = demand.register
    if register > 10:
        raise Rejection("invalid-register", f"R{register} is invalid", index=index)
    if w.vals[register] is None:
        raise Rejection("uninitialised-register", f"R{register} !read_ok", index=index, register=register)


def _writable(_: Walk, index: int, demand: ob.Writable) -> None:
    if demand.register > 10:
        raise Rejection("invalid-register", f"R{demand.register} is invalid", index=index)
    if demand.register == 10:
        raise Rejection("frame-pointer-write", "frame pointer is read only", index=index, register=10)


def return_value_out(index: int, value: Any, allowed: tuple[int, int], where: str, register: int = 0) -> Rejection:
    """A program or callback returns what it must not."""
    low = "" if value.smin == S64_MIN else f" smin={value.smin}"
    high = "" if value.smax == S64_MAX else f" smax={value.smax}"
    has = f"{low}{high}" or " unknown scalar value"
    message = f"{where} the register R{register} has{has} should have been in [{allowed[0]}, {allowed[1]}]"
    return Rejection("return-value", message, index=index, register=register)


def check_resources(w: Walk, index: int, where: str) -> None:
    """No lock, reference or section is left open where the program ends."""
    state = w.state
    if state.lock is not None:
        raise Rejection("lock", f"{where} cannot be used inside bpf_spin_lock-ed region", index=index)
    references = state.references
    if references:
        held, acquired = references[-1]
        site = w.code.slot_of(acquired)
        message = f"Unreleased reference id={held} alloc_insn={site}; {where} would lead to reference leak"
        raise Rejection("reference-leak", message, index=index)
    for is_open, name in (
        (state.irqs, "bpf_local_irq_save"), (state.rcu, "bpf_rcu_read_lock"), (state.preempt, "bpf_preempt_disable"),
    ):  # fmt: skip
        if is_open:
            raise Rejection("execution-context", f"{where} cannot be used inside {name}-ed region", index=index)


def _no_references(w: Walk, index: int, demand: ob.NoReferences) -> None:
    check_resources(w, index, demand.where)


def _allowed(w: Walk, index: int, demand: ob.Allowed) -> None:
    if w.prog_type.name not in ("socket_filter", "sched_cls", "sched_act"):
        message = f"{demand.what} instructions not allowed for this program type"
        raise Rejection("execution-context", message, index=index)


def _return_fits(w: Walk, index: int, _: ob.ReturnFits) -> None:
    check_return(w, index, 0)


def check_return(w: Walk, index: int, register: int) -> None:
    """What the program returns (or throws) fits its type."""
    value = w.vals[register]
    callback = w.frame.callback
    if w.returns_nothing and callback is None and not w.state.frames[0].function.number:
        return
    if value is None:
        raise Rejection("uninitialised-register", f"R{register} !read_ok", index=index, register=register)
    if callback is not None:
        where = "At async callback return"
        if not value.is_scalar:
            message = f"{where} the register R{register} is not a known value ({type_name(value)})"
            raise Rejection("return-value", message, index=index, register=register)
        w.precision.demand_register(w.state, index, register)
        if value.smin < callback.low or value.smax > callback.high:
            raise return_value_out(index, value, (callback.low, callback.high), where, register)
        return
    function = w.state.frames[0].function
    if function.number and function is not w.code.handler:
        if not value.is_scalar:
            message = f"At subprogram exit the register R{register} is not a scalar value ({type_name(value)})"
            raise Rejection("return-value", message, index=index, register=register)
        return
    allowed = w.return_range
    if allowed is None:
        return
    if not value.is_scalar:
        message = f"At program exit the register R{register} is not a known value ({type_name(value)})"
        raise Rejection("return-value", message, index=index, register=register)
    w.precision.demand_register(w.state, index, register)
    # Hooks of security modules return an int, other programs all 64 bits.
    is_int = w.prog_type.name == "lsm"
    low, high = (value.s32_min, value.s32_max) if is_int else (value.smin, value.smax)
    if low < allowed[0] or high > allowed[1]:
        raise return_value_out(index, value, allowed, "At program exit", register)


def _access(w: Walk, index: int, demand: ob.Access) -> None:
    value = w.vals[demand.register]
    register = demand.register
    if value.is_scalar:
        raise Rejection(
            "invalid-memory-access", f"R{register} invalid mem access 'scalar'", index=index, register=register
        )
    if demand.atomic and value.kind in _NEVER_ATOMIC:
        verb = "stores into" if demand.write or w.is_update(index) else "loads from"
        message = f"BPF_ATOMIC {verb} R{register} {type_name(value)} is not allowed"
        raise Rejection("invalid-memory-access", message, index=index, register=register)
    if demand.write and value.kind == CTX and w.stores_constant(index) and "context-constants" not in w.behaviours:
        message = f"BPF_ST stores into R{register} ctx is not allowed"
        raise Rejection("invalid-memory-access", message, index=index, register=register)
    _check_alignment(w, index, demand, value)
    if value.nullable:
        message = f"R{register} invalid mem access '{value.type_name()}'"
        raise Rejection("null-map-value", message, index=index, register=register)
    checker = _KINDS.get(value.kind)
    if checker is None:
        message = f"R{register} invalid mem access '{value.type_name()}'"
        raise Rejection("invalid-memory-access", message, index=index, register=register)
    checker(w, index, demand, value)


def _check_alignment(w: Walk, index: int, demand: ob.Access, p: Pointer) -> None:
    if p.kind in (PACKET, PACKET_META):
        # Headers behind an Ethernet header: the kernel counts the two bytes that make them aligned.
        strict, base, what = w.strict_alignment, 2, "packet "
    elif p.kind == STACK:
        strict, base, what = True, 0, "stack "
    else:
        strict, base = w.strict_alignment or demand.atomic, 0
        what = {MAP_VALUE: "value ", CTX: "context "}.get(p.kind, "")
    size = demand.size
    if not strict or size == 1:
        return
    offset = base + p.off + demand.offset + p.var.value
    if offset % size or p.var.mask % size:
        part = f"{p.var.value}+" if p.var.const is not None else f"({p.var.value:#x}; {p.var.mask:#x})+"
        ahead = f"{base}+" if base else ""
        message = f"misaligned {what}access off {ahead}{part}{p.off}+{demand.offset} size {size}"
        rule = "stack-misaligned" if p.kind == STACK else "misaligned-access"
        raise Rejection(rule, message, index=index, register=demand.register)


def check_region(
    index: int, register: int, p: Pointer, offset: int, size: int, region: int, kind: str, zero_ok: bool = False
) -> None:
    """`size` bytes at `p` + `offset` lie inside a region of `region` bytes. `kind`: "map value" or "memory"."""
    rule = "map-value-out-of-bounds" if kind == "map value" else "memory-out-of-bounds"
    name = {"map value": "value_size", "map key": "key_size"}.get(kind, "mem_size")
    at = offset + p.off
    low = p.var.smin

    def fits(start: int) -> bool:
        return start >= 0 and (size > 0 or (zero_ok and size == 0)) and start + size <= region

    if low < 0 and (low == S64_MIN or not -(1 << 31) <= at + low < 1 << 31 or low + at < 0):
        message = f"R{register} min value is negative, either use unsigned index or do a if (index >=0) check."
        raise Rejection("unbounded-variable-offset", message, index=index, register=register)
    if not fits(low + at):
        where = "" if p.var.const is not None else f" R{register} min value is outside of the allowed memory range"
        message = f"invalid access to {kind}, {name}={region} off={low + at} size={size}{where}"
        raise Rejection(rule, message, index=index, register=register)
    high = p.var.umax
    if high >= _FAR:
        message = f"R{register} unbounded memory access, make sure to bounds check any such access"
        raise Rejection("unbounded-variable-offset", message, index=index, register=register)
    if not fits(high + at):
        message = (
            f"invalid access to {kind}, {name}={region} off={high + at} size={size}"
            f" R{register} max value is outside of the allowed memory range"
        )
        raise Rejection(rule, message, index=index, register=register)


def check_map_permission(index: int, register: int, p: Pointer, write: bool) -> None:
    """The map's flags let the program read or write its values."""
    spec = p.target.spec
    if write and (spec.frozen or spec.flags & _BPF_F_RDONLY_PROG):
        message = f"write into map forbidden, value_size={spec.value_size}"
        raise Rejection("read-only-memory", message, index=index, register=register)
    if not write and spec.flags & _BPF_F_WRONLY_PROG:
        message = f"read from map forbidden, value_size={spec.value_size}"
        raise Rejection("write-only-memory", message, index=index, register=register)


def check_special_fields(
    w: Walk, index: int, register: int, p: Pointer, offset: int, size: int, direct: bool = False
) -> None:
    """None of the bytes in reach belongs to a lock or timer, nor to a kptr but as a whole by a plain access."""
    for field in w.special_fields(p.target.spec):
        low, high = p.var.smin + p.off + offset, p.var.umax + p.off + offset + size
        if not (low < field.offset + field.size and field.offset < high):
            continue
        if field.kind not in special.KPTRS:
            message = f"{field.kind} cannot be accessed directly by load/store"
        elif not direct:
            message = f"{field.kind} cannot be accessed indirectly by helper"
        elif p.var.const is None:
            message = f"{field.kind} access cannot have variable offset"
        elif low != field.offset:
            message = f"{field.kind} access misaligned expected={field.offset} off={low}"
        elif size != 8:
            message = f"{field.kind} access size must be BPF_DW"
        else:
            continue
        raise Rejection("special-field", message, index=index, register=register)


def check_fixed(index: int, register: int, p: Pointer) -> None:
    """The pointer may stand at a fixed offset behind its start, nowhere else."""
    name = p.type_name()
    if p.off < 0:
        message = f"negative offset {name} ptr R{register} off={p.off} disallowed"
    elif p.var.const != 0:
        message = f"variable {name} access var_off=({p.var.value:#x}; {p.var.mask:#x}) disallowed"
    else:
        return
    raise Rejection("helper-argument", message, index=index, register=register)


def _map_value(w: Walk, index: int, demand: ob.Access, p: Pointer) -> None:
    check_map_permission(index, demand.register, p, demand.write)
    check_region(index, demand.register, p, demand.offset, demand.size, p.target.spec.value_size, "map value")
    check_special_fields(w, index, demand.register, p, demand.offset, demand.size, True)


def _map_key(_: Walk, index: int, demand: ob.Access, p: Pointer) -> None:
    if demand.write:
        message = f"write to change key R{demand.register} not allowed"
        raise Rejection("read-only-memory", message, index=index, register=demand.register)
    check_region(index, demand.register, p, demand.offset, demand.size, p.target.spec.key_size, "map key")


def _memory(_: Walk, index: int, demand: ob.Access, p: Pointer) -> None:
    if demand.write and p.readonly:
        message = f"R{demand.register} cannot write into {p.type_name()}"
        raise Rejection("read-only-memory", message, index=index, register=demand.register)
    check_region(index, demand.register, p, demand.offset, demand.size, p.target, "memory")


def check_packet(w: Walk, index: int, register: int, p: Pointer, offset: int, size: int, zero_ok: bool = False) -> None:
    """`size` bytes at `p` + `offset` lie inside what was proved of the packet."""
    if p.var.smin < 0:
        message = f"R{register} min value is negative, either use unsigned index or do a if (index >=0) check."
        raise Rejection("unbounded-packet-access", message, index=index, register=register)
    at = offset + p.off
    if p.range < 0 or at < 0 or not (size > 0 or zero_ok) or at + size > p.range:
        identity = w.ids[register] & 0xFFFF_FFFF
        message = (
            f"invalid access to packet, off={at} size={size}, R{register}(id={identity},off={p.off},r={p.range})"
            f" R{register} offset is outside of the packet"
        )
        raise Rejection("unbounded-packet-access", message, index=index, register=register)


def _packet(w: Walk, index: int, demand: ob.Access, p: Pointer) -> None:
    if demand.write and w.prog_type.direct_packet_access != "write":
        raise Rejection("read-only-memory", "cannot write into packet", index=index, register=demand.register)
    check_packet(w, index, demand.register, p, demand.offset, demand.size)


def check_unmoved(index: int, register: int, p: Pointer) -> None:
    """The pointer still is where it started."""
    name = p.type_name()
    if p.off < 0:
        message = f"negative offset {name} ptr R{register} off={p.off} disallowed"
    elif p.off:
        message = f"dereference of modified {name} ptr R{register} off={p.off} disallowed"
    elif p.var.const != 0:
        message = f"variable {name} access var_off=({p.var.value:#x}; {p.var.mask:#x}) disallowed"
    else:
        return
    raise Rejection("modified-context", message, index=index, register=register)


def _context(w: Walk, index: int, demand: ob.Access, p: Pointer) -> None:
    check_unmoved(index, demand.register, p)
    if w.context_access(index, demand.offset, demand.size, demand.write) is None:
        message = f"invalid bpf_context access off={demand.offset} size={demand.size}"
        raise Rejection("invalid-context-access", message, index=index, register=demand.register)


def check_stack_bounds(
    w: Walk, index: int, register: int, p: Pointer, offset: int, size: int, word: str
) -> tuple[int, int]:
    """The first and last start of an access of `size` bytes to the stack; notes how deep the frame reaches.

    `word` is "read from" or "write to".
    """
    known = p.var.const
    if known is not None:
        low = high = to_signed(known, 64) + p.off + offset
    else:
        if p.var.smax >= _FAR or p.var.smin <= -_FAR:
            message = f"invalid unbounded variable-offset {word} stack R{register}"
            raise Rejection("stack-out-of-bounds", message, index=index, register=register)
        low, high = p.var.smin + p.off + offset, p.var.smax + p.off + offset
    if low < -limits.MAX_STACK or low > -1 or high + size > 0:
        if known is not None:
            message = f"invalid {word} stack R{register} off={low} size={size}"
        else:
            message = (
                f"invalid variable-offset {word} stack R{register}"
                f" var_off=({p.var.value:#x}; {p.var.mask:#x}) off={p.off + offset} size={size}"
            )
        raise Rejection("stack-out-of-bounds", message, index=index, register=register)
    frame = w.state.frames[p.target]
    depth = (-low + 7) // 8 * 8
    if depth > frame.depth:
        frame.depth = depth
    if depth > frame.function.depth:
        frame.function.depth = depth
    return low, high


def _stack(w: Walk, index: int, demand: ob.Access, p: Pointer) -> None:
    word = "write to" if demand.write else "read from"
    check_stack_bounds(w, index, demand.register, p, demand.offset, demand.size, word)


def _map_pointer(w: Walk, index: int, demand: ob.Access, p: Pointer) -> None:
    objects.prove_map(w, index, demand, p)


_KINDS: dict[int, Callable[[Any, int, ob.Access, Pointer], None]] = {
    MAP_VALUE: _map_value,
    MEM: _memory,
    PACKET: _packet,
    PACKET_META: _packet,
    CTX: _context,
    STACK: _stack,
    MAP_PTR: _map_pointer,
    MAP_KEY: _map_key,
    OPAQUE: objects.prove_socket,
    BTF: objects.prove_object,
    BUF: objects.prove_buffer,
    FLOW_KEYS: objects.prove_flow_keys,
    UNTRUSTED_MEM: objects.prove_untrusted,
    ARENA: objects.prove_arena,
}

_PROVERS: dict[type, Callable[[Any, int, Any], None]] = {
    ob.FieldsClear: _fields,
    ob.OperandFits: _operand,
    ob.Readable: _readable,
    ob.Writable: _writable,
    ob.Access: _access,
    ob.NoReferences: _no_references,
    ob.Allowed: _allowed,
    ob.ReturnFits: _return_fits,
}
