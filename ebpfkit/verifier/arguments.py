"""Helper arguments: what each kind of `abi/`'s rows demands of a register.

Facts that later arguments or the result need (the map, its key, a size, a reference) are gathered in `CallFacts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.abi import limits
from ebpfkit.abi.contexts import AS_WRITTEN
from ebpfkit.abi.model import ArgKind, ArgSpec, Effect, HelperSpec
from ebpfkit.verifier import check, fields, kptrs, strings
from ebpfkit.verifier.domain.objects import ALLOC, BTF, BUF, NON_OWNING, TRUSTED
from ebpfkit.verifier.domain.pointer import (
    CONST_DYNPTR,
    CTX,
    FUNC,
    MAP_KEY,
    MAP_PTR,
    MAP_VALUE,
    MEM,
    PACKET,
    PACKET_META,
    STACK,
    MapTarget,
    Pointer,
)
from ebpfkit.verifier.objects import prove_buffer, prove_object
from ebpfkit.verifier.obligations import Access
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.transfer import dynptrs
from ebpfkit.verifier.transfer.stack import StackRead, find_constant_key
from ebpfkit.verifier.typed_arguments import TYPED, prove_typed

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Walk
    from ebpfkit.verifier.special import SpecialField

__all__ = ["CallFacts", "Plan", "check_size_pair", "prove_argument"]

_FAR = limits.MAX_VARIABLE_OFFSET
_A = ArgKind
_MEMORY_KINDS = {STACK, PACKET, PACKET_META, MAP_VALUE, MAP_KEY, MEM, BUF}
_MEMORY_NAMES = "fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_"
_ELIDABLE = {"array", "percpu_array"}
_NUMBERS = {_A.ANYTHING, _A.SCALAR}
_DYNPTRS = {_A.DYNPTR, _A.DYNPTR_UNINIT}
_SIZES = {_A.SIZE: False, _A.SIZE_OR_ZERO: True}
_NULL_OK = {
    _A.MEM_OR_NULL, _A.MEM_UNINIT_OR_NULL, _A.MAP_VALUE_OR_NULL, _A.CTX_OR_NULL, _A.STACK_OR_NULL, _A.BTF_ID_OR_NULL,
    _A.KPTR_VALUE, _A.SOCKET_OR_NULL,
}  # fmt: skip
_WRITES = {_A.MEM_UNINIT, _A.MEM_UNINIT_OR_NULL, _A.MEM_RW, _A.MEM_FIXED_UNINIT, _A.MEM_FIXED_RW, _A.MAP_VALUE_UNINIT}
_BLANK = {_A.MEM_UNINIT, _A.MEM_UNINIT_OR_NULL, _A.MEM_FIXED_UNINIT, _A.MAP_VALUE_UNINIT}
_MEMORY = {
    _A.MEM, _A.MEM_OR_NULL, _A.MEM_UNINIT, _A.MEM_UNINIT_OR_NULL, _A.MEM_RW, _A.MEM_FIXED, _A.MEM_FIXED_UNINIT,
    _A.MEM_FIXED_RW, _A.MAP_KEY, _A.MAP_VALUE, _A.MAP_VALUE_UNINIT, _A.MAP_VALUE_OR_NULL,
}  # fmt: skip
MODELLED_KINDS = (
    frozenset(_MEMORY) | _NUMBERS | set(_SIZES) | TYPED
    | {
        _A.CONST, _A.ALLOC_SIZE_OR_ZERO, _A.CTX, _A.CTX_OR_NULL, _A.CONST_MAP_PTR, _A.FUNC, _A.STACK_OR_NULL, _A.KPTR,
        _A.KPTR_VALUE, _A.TIMER, _A.CONST_STR, _A.DYNPTR, _A.DYNPTR_UNINIT, _A.RINGBUF_MEM, _A.SPIN_LOCK,
    }
)  # fmt: skip
"""Kinds of arguments that are judged."""
_SOCKETS = {_A.SOCK_COMMON, _A.SOCKET, _A.SOCKET_OR_NULL, _A.BTF_SOCK_COMMON}
_SOCKET_MAPS = {"sockmap", "sockhash"}


class CallFacts:
    """What the arguments of one call say."""

    __slots__ = (
        "blank", "demands", "dynptr", "key", "kptr", "largest", "reads", "reference", "release_register", "size",
        "stack_key", "target", "text", "variable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.target: MapTarget | None = None
        self.key: int | None = None  # a known constant key
        self.size = 0  # of the memory that the helper returns
        self.largest = 0  # the largest value of the last size argument
        self.blank: tuple[int, Pointer, int] | None = None  # stack memory that the helper writes without reading
        self.reference = 0
        self.release_register = 0
        self.text = b""  # a constant string
        self.dynptr: Any = None  # an initialised dynptr: object and identity word
        self.kptr: SpecialField | None = None
        self.variable: Any = None  # a per-CPU variable
        # What the call asked of the path besides the values: stack memory read, registers relied on, a key looked for.
        self.reads: list[StackRead] = []
        self.demands: list[int] = []
        self.stack_key: tuple[Pointer, int] | None = None


class Plan:
    """One argument of one helper, with what its kind demands looked up once."""

    __slots__ = (
        "acquires",
        "arg",
        "by_map",
        "constant",
        "gives_back",
        "is_map",
        "kind",
        "memory",
        "null_ok",
        "number",
        "packet_ok",
        "previous",
        "register",
        "releases",
        "typed",
        "zero_ok",
    )  # fmt: skip

    def __init__(self, w: Walk, spec: HelperSpec, args: tuple[ArgSpec, ...], number: int) -> None:
        arg = args[number]
        kind = arg.kind
        self.arg = arg
        self.kind = kind
        self.register = number + 1
        self.number = kind in _NUMBERS
        self.null_ok = kind in _NULL_OK
        self.memory = kind in _MEMORY
        self.zero_ok = _SIZES.get(kind)  # None: no size
        self.previous = args[number - 1].kind
        self.releases = kind in (_A.RINGBUF_MEM, _A.KPTR_VALUE) or (kind in _SOCKETS and spec.name == "sk_release")
        self.is_map = kind is _A.CONST_MAP_PTR
        self.constant = kind in (_A.ALLOC_SIZE_OR_ZERO, _A.CONST)
        self.packet_ok = bool(w.prog_type.direct_packet_access) and spec.packet_access
        self.typed = kind in TYPED
        self.gives_back = kind is _A.DYNPTR and Effect.RELEASES in spec.effects
        # The same argument for maps of which the helper wants another.
        others = spec.variants_by_map
        self.by_map: dict[str, Plan] = (
            {} if args in others.values() else {name: Plan(w, spec, other, number) for name, other in others.items()}
        )
        self.acquires = Effect.DYNPTR_ACQUIRES in spec.effects


def prove_argument(w: Walk, index: int, plan: Plan, facts: CallFacts) -> None:
    """The register of the argument fits."""
    if plan.by_map and facts.target is not None:
        plan = plan.by_map.get(facts.target.spec.type, plan)
    register = plan.register
    value = w.vals[register]
    if value is None:
        raise Rejection("uninitialised-register", f"R{register} !read_ok", index=index, register=register)
    if plan.number:
        if not w.profile.privileged and not value.is_scalar:
            message = f"R{register} leaks addr into helper function"
            raise Rejection("pointer-leak", message, index=index, register=register)
        return
    if value.kind in (PACKET, PACKET_META) and not plan.packet_ok:
        message = "helper access to the packet is not allowed"
        raise Rejection("helper-argument", message, index=index, register=register)
    is_null = value.is_scalar and value.const == 0
    if not (is_null and plan.null_ok):
        if plan.kind is _A.KPTR_VALUE and facts.kptr is not None:
            kptrs.prove_exchanged(w, index, register, facts.kptr)
        elif plan.typed:
            prove_typed(w, index, register, value, plan.arg, plan.releases)
        else:
            _check_type(w, index, register, value, plan.kind, facts)
    if plan.releases and not (is_null and plan.null_ok):
        _check_release(w, index, register, value, facts)
    elif w.ids[register] >> 32 and not value.is_scalar:
        facts.reference = w.ids[register] >> 32
    if plan.zero_ok is not None:
        _check_size(w, index, register, plan.previous, plan.zero_ok, facts)
    elif plan.is_map:
        if facts.target is not None and facts.target is not value.target:
            message = f"timer pointer in R{register - 1} map_uid=0 doesn't match map pointer in R{register} map_uid=0"
            raise Rejection("helper-argument", message, index=index, register=register)
        facts.target = value.target
    elif plan.kind is _A.TIMER:
        fields.check_place(w, index, register, "bpf_timer")
        facts.target = value.target
    elif plan.kind is _A.CONST_STR:
        facts.text = strings.prove_constant_string(w, index, register, "")
    elif plan.kind is _A.DYNPTR:
        if plan.gives_back:
            facts.reference = dynptrs.acquired_reference(w, index, register)
            facts.release_register = register
        facts.dynptr = dynptrs.initialised(w, index, register)
    elif plan.kind is _A.DYNPTR_UNINIT:
        dynptrs.build(w, index, register, "ringbuf" if plan.acquires else "local")
    elif plan.kind is _A.PERCPU_BTF_ID:
        facts.variable = value
    elif plan.kind is _A.KPTR:
        facts.kptr = kptrs.prove_destination(w, index)
    elif plan.constant:
        _take_constant(w, index, register, facts)
    elif plan.memory:
        _check_sized_memory(w, index, register, plan.arg, value, is_null, facts)


def _expected(index: int, register: int, value: Any, wanted: str) -> Rejection:
    message = f"R{register} type={check.type_name(value)} expected={wanted}"
    rule = "null-map-value" if value.nullable and value.kind == MAP_VALUE else "helper-argument"
    return Rejection(rule, message, index=index, register=register)


def _check_type(w: Walk, index: int, register: int, value: Any, kind: ArgKind, facts: CallFacts) -> None:
    if kind in _MEMORY:
        nullable_ok = kind in _NULL_OK
        wanted = _MEMORY_NAMES
        fits = value.kind in _MEMORY_KINDS and (nullable_ok or not value.nullable)
        target = facts.target
        if value.kind == BTF:
            fits = value.target.flags == TRUSTED and not value.nullable
            if fits and kind in _WRITES:
                message = f"() may write into memory pointed by R{register} type={value.type_name()}"
                raise Rejection("helper-argument", message, index=index, register=register)
        if fits and kind in (_A.MAP_VALUE, _A.MAP_VALUE_OR_NULL) and target is not None:
            if target.spec.type in _SOCKET_MAPS:
                raise Unmodelled("sockets as map values", index=index)
        elif fits and value.readonly and kind in _WRITES:
            raise _expected(index, register, value, wanted)
    elif kind in _SIZES or kind in (_A.CONST, _A.ALLOC_SIZE_OR_ZERO):
        fits, wanted = value.is_scalar, "scalar"
    elif kind in (_A.CTX, _A.CTX_OR_NULL):
        fits, wanted = value.kind == CTX, "ctx"
        if fits:
            check.check_unmoved(index, register, value)
    elif kind is _A.CONST_MAP_PTR:
        fits, wanted = value.kind == MAP_PTR, "map_ptr"
        if fits:
            check.check_unmoved(index, register, value)
    elif kind is _A.FUNC:
        fits, wanted = value.kind == FUNC, "func"
    elif kind is _A.STACK_OR_NULL:
        fits, wanted = value.kind == STACK, "fp"
    elif kind is _A.KPTR:
        allocated = value.kind == BTF and value.target.flags & ~NON_OWNING == ALLOC
        fits, wanted = (value.kind == MAP_VALUE or allocated) and not value.nullable, "map_value, ptr_"
    elif kind is _A.TIMER or kind is _A.CONST_STR:
        fits, wanted = value.kind == MAP_VALUE and not value.nullable, "map_value"
    elif kind in _DYNPTRS:
        fits, wanted = value.kind in (STACK, CONST_DYNPTR), "fp, dynptr_ptr"
    elif kind is _A.RINGBUF_MEM:
        fits, wanted = value.kind == MEM and value.record and not value.nullable, "ringbuf_mem"
    elif kind is _A.SPIN_LOCK:
        allocated = value.kind == BTF and value.target.flags == ALLOC
        fits, wanted = (value.kind == MAP_VALUE or allocated) and not value.nullable, "map_value, ptr_"
    else:
        raise Unmodelled(f"arguments of kind {kind.value}", index=index)
    if not fits:
        raise _expected(index, register, value, wanted)


def _check_release(w: Walk, index: int, register: int, value: Any, facts: CallFacts) -> None:
    if value.off:
        message = f"R{register} must have zero offset when passed to release func or trusted arg to kfunc"
        raise Rejection("reference-misuse", message, index=index, register=register)
    check.check_unmoved(index, register, value)
    reference = w.ids[register] >> 32
    if not reference:
        message = f"R{register} must be referenced when passed to release function"
        raise Rejection("reference-misuse", message, index=index, register=register)
    facts.release_register = register
    facts.reference = reference


def _take_constant(w: Walk, index: int, register: int, facts: CallFacts) -> None:
    value = w.vals[register]
    if value.const is None:
        raise Rejection("helper-argument", f"R{register} is not a known constant'", index=index, register=register)
    facts.size = value.const
    w.precision.demand_register(w.state, index, register)


def _check_sized_memory(
    w: Walk, index: int, register: int, arg: ArgSpec, value: Any, is_null: bool, facts: CallFacts
) -> None:
    """Memory whose size the row or the map says."""
    kind = arg.kind
    if kind in (_A.MEM_FIXED, _A.MEM_FIXED_RW, _A.MEM_FIXED_UNINIT):
        size = arg.size
        if size in (4, 8):
            _check_aligned(index, register, value, size)
        check_memory(w, index, register, value, size, kind is not _A.MEM_FIXED, False, facts, kind)
        return
    if kind not in (_A.MAP_KEY, _A.MAP_VALUE, _A.MAP_VALUE_UNINIT, _A.MAP_VALUE_OR_NULL):
        return  # the size argument that follows checks it
    target = facts.target
    if target is None:
        raise Unmodelled("map keys without a map", index=index)
    if kind is _A.MAP_KEY:
        size = target.spec.key_size
        check_memory(w, index, register, value, size, False, False, facts, kind)
        if target.spec.type in _ELIDABLE and "constant-array-key" in w.behaviours and not value.is_scalar:
            facts.key = find_constant_key(w, index, value, size)
            facts.stack_key = (value, size) if value.kind == STACK else None
        return
    if is_null and kind is _A.MAP_VALUE_OR_NULL:
        return
    check_memory(w, index, register, value, target.spec.value_size, kind in _WRITES, False, facts, kind)


def _check_aligned(index: int, register: int, p: Pointer, size: int) -> None:
    """Fixed-size results are written in one piece: the place must be aligned."""
    base = 2 if p.kind in (PACKET, PACKET_META) else 0
    if (base + p.off + p.var.value) % size or p.var.mask % size:
        message = f"misaligned {'stack ' if p.kind == STACK else ''}access off {p.var.value}+{p.off}+0 size {size}"
        rule = "stack-misaligned" if p.kind == STACK else "misaligned-access"
        raise Rejection(rule, message, index=index, register=register)


def _check_size(w: Walk, index: int, register: int, memory_kind: ArgKind, zero_ok: bool, facts: CallFacts) -> None:
    """A size, and with it the memory in the register before."""
    size = w.vals[register]
    facts.largest = size.umax
    if size.smin < 0:
        message = f"R{register} min value is negative, either use unsigned or 'var &= const'"
        raise Rejection("unbounded-size", message, index=index, register=register)
    if not size.umin and not zero_ok:
        message = f"R{register} invalid zero-sized read: u64=[{size.umin},{size.umax}]"
        raise Rejection("unbounded-size", message, index=index, register=register)
    if size.umax >= _FAR:
        message = f"R{register} unbounded memory access, use 'var &= const' or 'if (var < const)'"
        raise Rejection("unbounded-size", message, index=index, register=register)
    memory = w.vals[register - 1]
    # Only a known size lets the helper write memory that was not initialised.
    kind = memory_kind if size.const is not None else _A.MEM
    check_memory(w, index, register - 1, memory, size.umax, memory_kind in _WRITES, zero_ok, facts, kind)
    w.precision.demand_register(w.state, index, register)
    facts.demands.append(register)


def check_size_pair(w: Walk, index: int, register: int, write: bool) -> None:
    """A size and the memory in the register before, as kernel functions take them."""
    _check_size(w, index, register, _A.MEM_RW if write else _A.MEM, True, CallFacts())


def check_memory(
    w: Walk,
    index: int,
    register: int,
    value: Any,
    size: int,
    write: bool,
    zero_ok: bool,
    facts: CallFacts,
    kind: ArgKind,
) -> None:
    """The helper may read, or with `write` write, `size` bytes at the pointer."""
    if value.kind in (PACKET, PACKET_META):
        check.check_packet(w, index, register, value, 0, size, zero_ok)
    elif value.kind == MAP_VALUE:
        check.check_map_permission(index, register, value, write)
        check.check_region(index, register, value, 0, size, value.target.spec.value_size, "map value", zero_ok)
        check.check_special_fields(w, index, register, value, 0, size)
    elif value.kind == MAP_KEY:
        if write:
            message = f"R{register} cannot write into {value.type_name()}"
            raise Rejection("read-only-memory", message, index=index, register=register)
        check.check_region(index, register, value, 0, size, value.target.spec.key_size, "map key", zero_ok)
    elif value.kind == MEM:
        if write and value.readonly:
            message = f"R{register} cannot write into {value.type_name()}"
            raise Rejection("read-only-memory", message, index=index, register=register)
        check.check_region(index, register, value, 0, size, value.target, "memory", zero_ok)
    elif value.kind in (BTF, BUF):
        _check_typed_memory(w, index, register, value, size, write)
    elif value.kind == STACK:
        _check_stack_memory(w, index, register, value, size, write, zero_ok, facts, kind)
    elif value.kind == CTX and w.prog_type.name in AS_WRITTEN:
        # The program sees the kernel's own memory there, of which the last byte asked for stands for all.
        if size:
            check.prove(w, index, [Access(register, size - 1, 1, write)])
        elif not zero_ok:
            raise Rejection("unbounded-size", "invalid zero-sized read", index=index, register=register)
    elif not (zero_ok and not size and value.is_scalar and value.const == 0):
        raise _expected(index, register, value, "fp")


def _check_typed_memory(w: Walk, index: int, register: int, value: Any, size: int, write: bool) -> None:
    """Memory in a structure of the kernel, or of a size that only attaching checks."""
    demand = Access(register, 0, size, write)
    if value.kind == BTF:
        prove_object(w, index, demand, value)
    else:
        prove_buffer(w, index, demand, value)


def _check_stack_memory(
    w: Walk,
    index: int,
    register: int,
    p: Pointer,
    size: int,
    write: bool,
    zero_ok: bool,
    facts: CallFacts,
    kind: ArgKind,
) -> None:
    if not size and not zero_ok:
        raise Rejection("unbounded-size", "invalid zero-sized read", index=index, register=register)
    if kind in _BLANK and p.var.const is not None:
        check.check_stack_bounds(w, index, register, p, 0, size, "write to")
        facts.blank = (register, p, size)
        return
    read = StackRead(register, p, size, write)
    read.again(w, index)
    facts.reads.append(read)
