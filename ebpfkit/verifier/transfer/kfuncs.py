"""Calls of kernel functions: arguments by their prototypes and suffixes, what the call does, and its result.

Sections (RCU, preemption, interrupts) are here too. Iterators and dynptrs have files of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebpfkit.abi.kfuncs import has_kfunc, may_call_kfunc
from ebpfkit.abi.model import ArgKind
from ebpfkit.asm.insn import Instruction
from ebpfkit.btf.types import Func, FuncProto, Ptr, Void
from ebpfkit.verifier import arguments, check, fields, functions, obligations, strings
from ebpfkit.verifier.domain import objects as kinds
from ebpfkit.verifier.domain.objects import BTF, Object
from ebpfkit.verifier.domain.pointer import CONST_DYNPTR, CTX, FUNC, MAP_PTR, MAP_VALUE, MEM, OPAQUE, PACKET_END, STACK
from ebpfkit.verifier.kernel_functions import KernelFunction, Parameter, function_of, name_of
from ebpfkit.verifier.objects import is_trusted
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.state import reference_word
from ebpfkit.verifier.structures import holds_struct
from ebpfkit.verifier.transfer import callbacks, dynptrs, graph, iterators, locks, sections
from ebpfkit.verifier.transfer.calls import ENDED, forget_packet, release_reference

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Step, Walk

__all__ = ["build_kfunc_call"]

_NOT_FOLLOWED = frozenset({"6.1"})
"""Kernels whose few functions take their arguments by rules that are not followed here."""
_OBJECTS_UNDER_LOCK = ("bpf_list_", "bpf_rbtree_", "bpf_refcount_acquire")
_UNDER_LOCK = (*_OBJECTS_UNDER_LOCK, "bpf_iter_num_", "bpf_res_spin_", "bpf_arena_")
_WRITABLE_RESULTS = frozenset({"bpf_session_cookie"})
_UNTRUSTED_RESULTS = frozenset({"bpf_get_kmem_cache"})
_SOCKETS = frozenset({"sock", "sock_common", "tcp_sock"})
_UNMOVED = frozenset({CTX, MAP_PTR, FUNC, OPAQUE, PACKET_END, CONST_DYNPTR})


@dataclass(slots=True)
class KfuncFacts:
    """What the arguments of one call say."""

    reference: int = 0
    release: int = 0  # the register whose reference is given up
    constant: int | None = None
    callback: Any = None
    iterator: Any = None  # (frame, slot) of the iterator argument
    dynptr: Any = None  # the initialised dynptr: object and identity word


def build_kfunc_call(w: Walk, index: int, insn: Instruction) -> Step:
    """A call of a kernel function."""
    following = index + 1
    kernel = w.profile.kernel
    function = function_of(insn, w.code.kernel_btf, kernel)
    name = name_of(insn, w.code.kernel_btf)
    if has_kfunc(name, kernel) is False and (function is not None or _is_missing(w, name)):
        message = f"Linux {kernel} has no kernel function {name or 0}"
        raise Rejection("not-in-kernel", message, index=index)
    if function is None or has_kfunc(name, kernel) is None or kernel in _NOT_FOLLOWED:
        where = f" on Linux {kernel}" if function is not None else ""
        raise Unmodelled(f"kernel function {name or insn.imm}{where}", index=index)
    known = function

    def step(vals: list[Any], ids: list[int]) -> int:
        if known.name in graph.CALLS:
            _check_allowed(w, index, known)
            w.stack_liveness.note_write(w.frame.chain, index, 0, 0)
            graph.call_object_function(w, index, known.name)
            return following
        _call(w, index, known)
        return ENDED if known.name == "bpf_throw" else following

    return w.guarded(index, obligations.of(insn), step)


def _is_missing(w: Walk, name: str) -> bool:
    """Whether the kernel's types have no function of this name; what loaders leave without a number has none."""
    btf = w.code.kernel_btf
    return btf is not None and (not name or not btf.find_id(name, Func))


def _call(w: Walk, index: int, function: KernelFunction) -> None:
    _check_usable(w, index, function)
    locks.fail_to_take(w, index, function)
    facts = KfuncFacts()
    w.stack_liveness.note_write(w.frame.chain, index, 0, 0)
    _prove_arguments(w, index, function, facts)
    if function.name == "bpf_wq_set_callback_impl":
        callbacks.call_back_later(w, index, facts.callback, callbacks.enter_timer)
    sections.enter_or_leave(w, index, function)
    if function.is_any("in_rcu") and not w.in_rcu():
        message = f"kernel func {function.name} requires RCU critical section protection"
        raise Rejection("execution-context", message, index=index)
    if facts.release:
        _release(w, index, function, facts)
    if function.name == "bpf_throw":
        _throw(w, index)
        return
    for register in range(6):
        w.vals[register] = None
        w.ids[register] = 0
    _give_result(w, index, function, facts)
    if function.is_any("changes_packet"):
        forget_packet(w)
    if function.is_any("next"):
        iterators.advance(w, index, facts.iterator)


def _check_usable(w: Walk, index: int, function: KernelFunction) -> None:
    _check_allowed(w, index, function)
    if function.name == "__bpf_trap":
        message = "unexpected __bpf_trap() due to uninitialized variable?"
        raise Rejection("kfunc-not-allowed", message, index=index)
    if function.flags is None:
        raise Unmodelled(f"kernel function {function.name}", index=index)


def _check_allowed(w: Walk, index: int, function: KernelFunction) -> None:
    """Programs of this type may call the function here."""
    name = function.name
    under_lock = _UNDER_LOCK if "counting-under-locks" in w.behaviours else _OBJECTS_UNDER_LOCK
    if w.state.lock is not None and not name.startswith(under_lock):
        raise Rejection("lock", "function calls are not allowed while holding a lock", index=index)
    allowed = may_call_kfunc(name, w.prog_type.name, w.code.spec.attach_type, w.profile.kernel)
    if allowed is None:
        raise Unmodelled(f"kernel functions in programs of type {w.prog_type.name}", index=index)
    if not allowed:
        message = f"calling kernel function {name} is not allowed"
        raise Rejection("kfunc-not-allowed", message, index=index)
    if function.is_any("sleeps") and not w.sleepable:
        message = f"program must be sleepable to call sleepable kfunc {name}"
        raise Rejection("execution-context", message, index=index)


def _throw(w: Walk, index: int) -> None:
    if w.code.handler is None and not w.frame.function.number:
        check.check_return(w, index, 1)
    check.check_resources(w, index, "bpf_throw")


def _release(w: Walk, index: int, function: KernelFunction, facts: KfuncFacts) -> None:
    reference = w.ids[facts.release] >> 32
    if not any(held == reference for held, _ in w.state.references):
        message = f"kfunc {function.name} reference has not been acquired before"
        raise Rejection("reference-misuse", message, index=index)
    release_reference(w, reference)


# --- arguments --------------------------------------------------------------------------------------------------------


def _refuse(index: int, register: int, message: str, rule: str = "kfunc-argument") -> Rejection:
    return Rejection(rule, message, index=index, register=register)


def _prove_arguments(w: Walk, index: int, function: KernelFunction, facts: KfuncFacts) -> None:
    parameters = function.parameters
    skip = False
    for number, parameter in enumerate(parameters):
        register = number + 1
        if skip:
            skip = False
            continue
        if parameter.has("__ign") or parameter.has("__prog"):
            continue
        following = parameters[number + 1] if number + 1 < len(parameters) else None
        sized = following is not None and _is_size(following, w.vals[register + 1])
        if not parameter.is_pointer:
            _prove_number(w, index, register, parameter, facts)
            continue
        _prove_pointer(w, index, function, number, sized, facts)
        if sized and _is_memory(w, parameter, number):
            assert following is not None
            _prove_sized_memory(w, index, number, parameter, following, facts)
            skip = True
    if function.is_any("release") and not facts.release:
        message = f"release kernel function {function.name} expects refcounted PTR_TO_BTF_ID"
        raise Rejection("reference-misuse", message, index=index)


def _is_size(parameter: Parameter, value: Any) -> bool:
    """Whether the parameter is the size of the memory before it: by its name, and a number in its register."""
    return (parameter.has("__sz") or parameter.has("__szk")) and value is not None and bool(value.is_scalar)


def _prove_number(w: Walk, index: int, register: int, parameter: Parameter, facts: KfuncFacts) -> None:
    value = w.vals[register]
    if value is None or not value.is_scalar:
        raise _refuse(index, register, f"R{register} is not a scalar")
    if parameter.has("__k"):
        if value.const is None:
            raise _refuse(index, register, f"R{register} must be a known constant")
        w.precision.demand_register(w.state, index, register)
        facts.constant = value.const


def _is_null(value: Any) -> bool:
    return value is not None and value.is_scalar and value.const == 0


def _is_context(w: Walk, parameter: Parameter) -> bool:
    return bool(parameter.struct) and parameter.struct == functions.CONTEXT_STRUCTS.get(w.prog_type.name)


def _is_memory(w: Walk, parameter: Parameter, number: int) -> bool:
    """Whether the argument is plain memory, and not something that its type or register says it is."""
    value = w.vals[number + 1]
    if _is_context(w, parameter) or parameter.struct in _OBJECTS:
        return False
    return not _is_object(value)


def _is_object(value: Any) -> bool:
    """Whether the kernel takes the pointer for one to a structure of its own."""
    if value is None or value.kind != OPAQUE:
        return value is not None and value.kind in (BTF, MAP_PTR)
    return value.target in _SOCKETS


def _prove_pointer(w: Walk, index: int, function: KernelFunction, number: int, sized: bool, facts: KfuncFacts) -> None:
    parameter, register = function.parameters[number], number + 1
    value = w.vals[register]
    null = _is_null(value)
    nullable_ok = parameter.has("__nullable")
    picky = function.is_any("trusted", "rcu", "release")
    if picky and not nullable_ok and (null or (value is not None and value.nullable)):
        raise _refuse(index, register, f"Possibly NULL pointer passed to trusted arg{number}")
    if value is not None and not value.is_scalar and w.ids[register] >> 32 and value.kind != STACK:
        facts.reference = w.ids[register] >> 32
        if function.is_any("release"):
            facts.release = register
    if _is_context(w, parameter):
        _check_offset(index, register, value)
        if value is None or value.kind != CTX:
            got = check.type_name(value) if value is not None else ""
            raise _refuse(index, register, f"arg#{number} expected pointer to ctx, but got {got}")
        check.check_unmoved(index, register, value)
        return
    if nullable_ok and null and not sized:
        return
    prover = _OBJECTS.get(parameter.struct)
    if _takes_offset_apart(parameter):
        _check_offset(index, register, value)
    if parameter.struct == "bpf_dynptr":
        dynptrs.prove(w, index, register, function, parameter, facts)
    elif parameter.struct.startswith("bpf_iter_"):
        facts.iterator = iterators.prove(w, index, register, function, parameter, facts)
    elif parameter.struct == "bpf_res_spin_lock":
        locks.prove_resilient(w, index, register, function)
    elif prover is not None:
        prover(w, index, register, facts)
    elif parameter.has("__irq_flag"):
        sections.prove_flag(w, index, register, function)
    elif parameter.has("__map"):
        _prove_map(w, index, register, facts)
    elif parameter.has("__str"):
        strings.prove_constant_string(w, index, register, f"arg#{number} doesn't point to a const string")
    elif _is_object(value):
        _prove_object(w, index, register, function, number)
    elif parameter.target == "func":
        if value is None or value.kind != FUNC:
            raise _refuse(index, register, f"arg{number} expected pointer to func")
        facts.callback = value.target
    elif not sized:
        _prove_memory(w, index, register, function, number)
    elif parameter.target != "void" and not parameter.plain:
        raise _wrong_memory(w, index, register, function, number, "void, ")


def _takes_offset_apart(parameter: Parameter) -> bool:
    """Whether the kernel looks at the pointer's offset before it looks what the pointer is."""
    return (
        parameter.struct == "bpf_dynptr"
        or parameter.struct.startswith("bpf_iter_")
        or any(parameter.has(suffix) for suffix in ("__irq_flag", "__str"))
        or parameter.struct in (*_OBJECTS, "bpf_res_spin_lock")
    )


def _check_offset(index: int, register: int, value: Any) -> None:
    """Pointers to what has no inside for programs have not been moved."""
    if value is None:
        message = "variable ? access var_off=(0x0; 0xffffffffffffffff) disallowed"
        raise _refuse(index, register, message, "uninitialised-register")
    if value.kind in _UNMOVED:
        check.check_unmoved(index, register, value)


def _wrong_memory(w: Walk, index: int, register: int, function: KernelFunction, number: int, extra: str) -> Rejection:
    message = f"arg#{number} pointer type {_spell_target(w, function, number)} must point to {extra}scalar"
    return _refuse(index, register, f"{message}, or struct with scalar")


def _prove_memory(w: Walk, index: int, register: int, function: KernelFunction, number: int) -> None:
    """Memory whose size the prototype says."""
    parameter, value = function.parameters[number], w.vals[register]
    if not parameter.plain or not parameter.size:
        raise _wrong_memory(w, index, register, function, number, "")
    _check_offset(index, register, value)
    if _is_null(value):
        return
    facts = arguments.CallFacts()
    sure = w.values.change(value, nullable=False) if value.nullable else value
    for write in (False, True):
        arguments.check_memory(w, index, register, sure, parameter.size, write, True, facts, ArgKind.MEM)


def _prove_sized_memory(
    w: Walk, index: int, number: int, parameter: Parameter, size: Parameter, facts: KfuncFacts
) -> None:
    register = number + 1
    buffer, length = w.vals[register], w.vals[register + 1]
    if not (_is_null(buffer) and parameter.has("__opt")):
        _check_offset(index, register, buffer)
        for write in (False, True):
            arguments.check_size_pair(w, index, register + 1, write)
    if size.has("__szk"):
        if length is None or length.const is None:
            raise _refuse(index, register + 1, f"R{register + 1} must be a known constant")
        facts.constant = length.const


def _prove_map(w: Walk, index: int, register: int, facts: KfuncFacts) -> None:
    value = w.vals[register]
    if value is None or value.kind != MAP_PTR:
        raise _refuse(index, register, f"pointer in R{register} isn't map pointer")
    known = facts.dynptr
    # Only a map that could hold such a thing is compared with the one where it is (measured).
    holds = any(field.kind in ("bpf_wq", "bpf_task_work") for field in w.special_fields(value.target.spec))
    if known is not None and known is not value.target and holds:
        message = f"workqueue pointer in R{register - 1} map_uid=0 doesn't match map pointer in R{register} map_uid=0"
        raise _refuse(index, register, message)


def _prove_work(w: Walk, index: int, register: int, facts: KfuncFacts) -> None:
    value = w.vals[register]
    if value is None or value.kind != MAP_VALUE:
        raise _refuse(index, register, f"arg#{register - 1} doesn't point to a map value")
    if value.nullable:
        raise Unmodelled("a work queue that may be missing", index=index)
    fields.check_place(w, index, register, "bpf_wq")
    facts.dynptr = value.target


_OBJECTS = {"bpf_wq": _prove_work}


def _spell_target(w: Walk, function: KernelFunction, number: int) -> str:
    """Kind and name of what the parameter points to, as the kernel's types have them: "INT char"."""
    btf = w.code.kernel_btf
    func = btf.find(function.name, Func) if btf is not None else None
    proto = btf.get(func.type) if btf is not None and func is not None else None
    if btf is None or not isinstance(proto, FuncProto):
        return function.parameters[number].target
    pointer = btf.resolve(proto.params[number].type)
    target = btf.resolve(pointer.type) if isinstance(pointer, Ptr) else pointer
    kind = "UNKNOWN" if isinstance(target, Void) else target.__class__.__name__.upper()
    return f"{kind} {btf.name(target)}"


def _struct_of(w: Walk, value: Any) -> Object | None:
    """The kernel's (or the program's) structure that a pointer stands for where kernel functions take one."""
    if value is None or value.kind == BTF:
        return value.target if value is not None else None
    if value.kind == MAP_PTR:
        return w.objects.kernel_object("bpf_map")
    return w.objects.kernel_object(value.target) if value.kind == OPAQUE and value.target in _SOCKETS else None


def _prove_object(w: Walk, index: int, register: int, function: KernelFunction, number: int) -> None:
    """A structure of the kernel by its type."""
    parameter, value = function.parameters[number], w.vals[register]
    target, typed = _struct_of(w, value), value.kind == BTF
    assert target is not None
    if not parameter.struct:
        message = f"kernel function {function.name} args#{number} pointer type {_spell_target(w, function, number)}"
        message += " is not supported"
        raise _refuse(index, register, message)
    in_rcu = typed and bool(target.flags & kinds.RCU)
    if function.is_any("trusted", "rcu", "release") and typed and not is_trusted(w, value, w.ids[register]):
        if not function.is_any("rcu"):
            raise _refuse(index, register, f"R{register} must be referenced or trusted")
        if not in_rcu:
            raise _refuse(index, register, f"R{register} must be a rcu pointer")
    if function.is_any("release") and value.off:
        message = f"R{register} must have zero offset when passed to release func or trusted arg to kfunc"
        raise _refuse(index, register, message, "reference-misuse")
    if typed:
        check.check_fixed(index, register, value)
    else:
        check.check_unmoved(index, register, value)
    unsafe = value.nullable or target.flags & ~(kinds.TRUSTED | kinds.ALLOC | kinds.NON_OWNING)
    if typed and unsafe and not in_rcu:
        message = f"arg#{number} is {value.type_name()} expected ptr_ or socket"
        raise _refuse(index, register, message)
    wanted = w.objects.kernel_object(parameter.struct).type_id
    strict = (function.is_any("release") and w.ids[register] >> 32) or parameter.struct.endswith("___init")
    if not target.local:
        if target.type_id == wanted and not value.off:
            return
        btf = w.objects.btf_of(target)
        if not strict and holds_struct(btf, target.type_id, value.off, wanted):
            return
    message = (
        f"kernel function {function.name} args#{number} expected pointer to STRUCT {parameter.struct}"
        f" but R{register} has a pointer to STRUCT {target.name}"
    )
    raise _refuse(index, register, message)


# --- results ----------------------------------------------------------------------------------------------------------


def _give_result(w: Walk, index: int, function: KernelFunction, facts: KfuncFacts) -> None:
    result = function.result
    if result is None:
        return
    vals, ids = w.vals, w.ids
    reference = 0
    if function.name.startswith("bpf_res_spin_lock"):
        vals[0] = w.values.zero
        return
    if not result.is_pointer or (result.target == "void" and not function.name.startswith("bpf_dynptr_slice")):
        vals[0] = w.values.unknown
        return
    nullable = function.is_any("ret_null")
    if result.target == "void":
        pointer = dynptrs.slice_of(w, index, function, facts, nullable)
    elif not result.struct:
        readonly = function.name not in _WRITABLE_RESULTS
        pointer = w.values.pointer(MEM, result.size, nullable=nullable, readonly=readonly)
        reference = facts.reference
    else:
        pointer = w.values.pointer(
            BTF, w.objects.kernel_object(result.struct, _result_flags(function, facts)), nullable=nullable
        )
    identity = w.new_id() if nullable else 0
    if function.is_any("acquire"):
        identity = reference = w.new_id()
        w.state.references = (*w.state.references, (identity, index))
    vals[0], ids[0] = pointer, reference_word(identity, reference)


def _result_flags(function: KernelFunction, facts: KfuncFacts) -> int:
    if function.is_any("next"):
        return kinds.RCU if iterators.is_under_rcu(facts.iterator) else kinds.TRUSTED
    if function.name in _UNTRUSTED_RESULTS:
        return kinds.UNTRUSTED
    return kinds.RCU if function.is_any("in_rcu") else 0
