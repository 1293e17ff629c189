"""Functions of the program that are verified apart (global ones): their prototypes by BTF, what a call of one demands
and leaves, and the state in which one is walked on its own.

Static functions are walked in place (`transfer/calls`). A kind of parameter that is not here is unsupported by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ebpfkit.abi.model import ArgKind, ArgSpec, Effect
from ebpfkit.abi.versions import is_at_least
from ebpfkit.errors import ObjectError
from ebpfkit.verifier import check
from ebpfkit.verifier.arguments import CallFacts, check_memory
from ebpfkit.verifier.domain import objects as kinds
from ebpfkit.verifier.domain.objects import Object
from ebpfkit.verifier.domain.pointer import CONST_DYNPTR, CTX, MEM, OPAQUE, PACKET, PACKET_META
from ebpfkit.verifier.domain.stack_objects import StackObject
from ebpfkit.verifier.program import Code, Subprogram
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.typed_arguments import prove_typed

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf, BtfType, Func
    from ebpfkit.verifier.explore import Walk
    from ebpfkit.verifier.state import Frame

__all__ = [
    "CONTEXT_STRUCTS",
    "LAZY_SINCE",
    "check_handler",
    "Parameter",
    "ParameterKind",
    "effects_of",
    "enter_global",
    "prove_call",
    "prototype_of",
]

_MAX_PARAMETERS = 5
LAZY_SINCE = "6.8"
"""The first kernel that verifies only global functions that are reached, and that knows tags of parameters."""
CONTEXT_STRUCTS = {
    "xdp": "xdp_md",
    "socket_filter": "__sk_buff",
    "sched_cls": "__sk_buff",
    "sched_act": "__sk_buff",
    "cgroup_skb": "__sk_buff",
    "lwt_in": "__sk_buff",
    "lwt_out": "__sk_buff",
    "lwt_xmit": "__sk_buff",
    "lwt_seg6local": "__sk_buff",
    "sk_skb": "__sk_buff",
    "flow_dissector": "__sk_buff",
    "sk_msg": "sk_msg_md",
    "sk_reuseport": "sk_reuseport_md",
    "sk_lookup": "bpf_sk_lookup",
    "sock_ops": "bpf_sock_ops",
    "cgroup_sock": "bpf_sock",
    "cgroup_sock_addr": "bpf_sock_addr",
    "cgroup_device": "bpf_cgroup_dev_ctx",
    "cgroup_sysctl": "bpf_sysctl",
    "cgroup_sockopt": "bpf_sockopt",
}
"""The C structure that the kernel takes for the context of a program type."""

_OTHER_CONTEXTS = {"pt_regs", "user_pt_regs", "bpf_user_pt_regs_t", "bpf_perf_event_data", "bpf_raw_tracepoint_args"}


_TAGS = {"ctx", "nonnull", "nullable", "trusted", "untrusted", "arena"}


class ParameterKind(Enum):
    """What a parameter of a global function is."""

    NUMBER = "number"
    CONTEXT = "context"
    MEMORY = "memory"
    DYNPTR = "dynptr"
    OBJECT = "object"  # of the kernel, which vouches for it
    ANYTHING = "anything"  # read with care, as the kernel's structure or as plain memory
    ARENA = "arena"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter; `size` in bytes for memory, `nullable` for memory and objects, `target` the kernel's structure."""

    kind: ParameterKind
    size: int = 0
    nullable: bool = False
    target: Object | None = None


def prototype_of(w: Walk, function: Subprogram, index: int | None = None) -> tuple[Parameter, ...]:
    """The parameters of a global function. Raises Rejection for a prototype that the kernel refuses."""
    found = w.prototypes.get(function.number)
    if found is None:
        found = w.prototypes[function.number] = _read_prototype(w, function, index)
    return found


def _refuse(index: int | None, message: str) -> Rejection:
    return Rejection("global-function-argument", message, index=index)


def _read_prototype(w: Walk, function: Subprogram, index: int | None) -> tuple[Parameter, ...]:
    from ebpfkit.btf.types import Enum as BtfEnum
    from ebpfkit.btf.types import Func, FuncProto, Int

    btf = w.code.spec.btf
    assert btf is not None
    try:
        func = btf.get(function.type_id)
        proto = btf.get(func.type) if isinstance(func, Func) else None
        if not isinstance(func, Func) or not isinstance(proto, FuncProto):
            raise Unmodelled(f"a function without a prototype ({function.name})", index=index)
        if len(proto.params) > _MAX_PARAMETERS:
            message = f"Global function {function.name}() with {len(proto.params)} > {_MAX_PARAMETERS} args."
            raise _refuse(index, message)
        if not isinstance(btf.resolve(proto.ret), Int | BtfEnum):
            message = f"Global function {function.name}() doesn't return scalar. Only those are supported."
            raise _refuse(index, message)
        tags = _tags(btf, func, function.type_id)
        return tuple(
            _read_parameter(w, btf, number, param.type, tags.get(number, set()), index)
            for number, param in enumerate(proto.params)
        )
    except ObjectError as error:
        raise _refuse(index, f"the types of global function {function.name}() are broken: {error}") from None


def _tags(btf: Btf, func: Func, type_id: int) -> dict[int, set[str]]:
    from ebpfkit.btf.types import DeclTag

    result: dict[int, set[str]] = {}
    for _, tag in btf.iter_kind(DeclTag):
        if tag.type == type_id and tag.component >= 0 and tag.name.startswith("arg:"):
            result.setdefault(tag.component, set()).add(tag.name[4:])
    return result


def _read_parameter(w: Walk, btf: Btf, number: int, type_id: int, tags: set[str], index: int | None) -> Parameter:
    from ebpfkit.btf.types import Enum as BtfEnum
    from ebpfkit.btf.types import Int, Ptr, Struct, Void

    type_ = btf.resolve(type_id)
    if tags and not is_at_least(w.profile.kernel, LAZY_SINCE):
        raise Unmodelled(f"tagged parameters before Linux {LAZY_SINCE}", index=index)
    if tags - _TAGS:
        raise _refuse(index, f"arg#{number} has unsupported set of tags")
    if not isinstance(type_, Ptr):
        if tags:
            raise _refuse(index, f"arg#{number} has pointer tag, but is not a pointer type")
        if isinstance(type_, Int | BtfEnum):
            if type_.size > 8:
                raise Unmodelled("parameters wider than a register", index=index)
            return Parameter(ParameterKind.NUMBER)
        raise _refuse(index, f"Arg#{number} type is not supported in a global function")
    target = btf.resolve(type_.type)
    struct = target.name if isinstance(target, Struct) else ""
    own = CONTEXT_STRUCTS.get(w.prog_type.name)
    if own is None and ("ctx" in tags or {struct, btf.get(type_.type).name} & _OTHER_CONTEXTS):
        raise Unmodelled(f"contexts as parameters in programs of type {w.prog_type.name}", index=index)
    is_context = "ctx" in tags or (own is not None and struct == own)
    allowed = {"ctx"} if is_context else set() if struct == "bpf_dynptr" else _allowed_with(tags)
    if tags - allowed:
        if "untrusted" in tags:
            raise _refuse(index, f"arg#{number} untrusted cannot be combined with any other tags")
        raise _refuse(index, f"arg#{number} has invalid combination of tags")
    if own is not None and struct == own:
        return Parameter(ParameterKind.CONTEXT)
    if "ctx" in tags:
        if type_.type:
            raise _refuse(index, f"arg#{number} should be `struct {own} *`")
        return Parameter(ParameterKind.CONTEXT)
    if struct == "bpf_dynptr":
        return Parameter(ParameterKind.DYNPTR)
    if "arena" in tags:
        return Parameter(ParameterKind.ARENA)
    if "untrusted" in tags and isinstance(target, Void | Int | BtfEnum):
        return Parameter(ParameterKind.ANYTHING)
    if tags & {"trusted", "untrusted"}:
        return _object_parameter(w, number, target, struct, tags, index)
    try:
        size = btf.size_of(type_.type)
    except ObjectError:
        message = f"arg#{number} reference type('{target.name}') size cannot be determined"
        raise _refuse(index, message) from None
    return Parameter(ParameterKind.MEMORY, size, "nonnull" not in tags)


def _allowed_with(tags: set[str]) -> set[str]:
    """The tags that may stand together with the one that says most."""
    for main, others in (("trusted", {"nullable"}), ("untrusted", set[str]()), ("arena", set[str]())):
        if main in tags:
            return {main, *others}
    return {"nonnull"}


def _object_parameter(
    w: Walk, number: int, target: BtfType, struct: str, tags: set[str], index: int | None
) -> Parameter:
    """A structure of the kernel, found by its name (what follows three underscores tells flavours apart)."""
    btf = w.code.kernel_btf
    if btf is None:
        raise Unmodelled("structures of the kernel without its types (give them with --btf)", index=index)
    name = struct.split("___")[0]
    type_id = btf.find_id(name, type(target)) if name else 0
    if not type_id:
        kind = type(target).__name__.upper()
        raise _refuse(index, f"arg#{number} reference type('{kind} {struct}') has no matches")
    trusted = "trusted" in tags
    thing = Object(type_id, name, kinds.TRUSTED if trusted else kinds.UNTRUSTED)
    return Parameter(ParameterKind.OBJECT if trusted else ParameterKind.ANYTHING, 0, "nullable" in tags, thing)


def effects_of(w: Walk, function: Subprogram) -> frozenset[Effect]:
    """What a call of the function may do besides its result, by the helpers that it and its callees call."""
    found = w.function_effects.get(function.number)
    if found is None:
        found = w.function_effects[function.number] = _collect_effects(w, w.code, function)
    return found


def _collect_effects(w: Walk, code: Code, function: Subprogram) -> frozenset[Effect]:
    result: set[Effect] = set()
    pending, seen = [function.number], {function.number}
    while pending:
        sub = code.subprograms[pending.pop()]
        for index in range(sub.start, sub.end):
            helper = code.helper_of(index)
            if helper is not None:
                effects = helper.effects
                # The program tail-called may do anything to the packet and return here.
                if effects & {Effect.CHANGES_PACKET, Effect.TAIL_CALL}:
                    result.add(Effect.CHANGES_PACKET)
                if Effect.MAY_SLEEP in effects and w.may_call(helper):
                    result.add(Effect.MAY_SLEEP)
            elif code.insns[index].op.name == "CALL_KFUNC":
                kfunc = code.kfunc_of(index)
                if kfunc is None:
                    raise Unmodelled("an unknown kernel function called by a global function", index=index)
                if kfunc.is_any("changes_packet"):
                    result.add(Effect.CHANGES_PACKET)
                if kfunc.is_any("sleeps"):
                    result.add(Effect.MAY_SLEEP)
        for _, number in sub.callees:
            if number not in seen:
                seen.add(number)
                pending.append(number)
    return frozenset(result)


def prove_call(w: Walk, index: int, function: Subprogram) -> frozenset[Effect]:
    """The arguments of a call of a global function fit its prototype; returns what the call may do."""
    parameters = prototype_of(w, function, index)
    for number, parameter in enumerate(parameters):
        _prove_argument(w, index, number, parameter)
    effects = effects_of(w, function)
    if Effect.MAY_SLEEP in effects and (not w.sleepable or w.state.rcu or w.state.preempt or w.state.irqs):
        message = "global functions that may sleep are not allowed in non-sleepable context"
        raise Rejection("execution-context", message, index=index)
    return effects


def _prove_argument(w: Walk, index: int, number: int, parameter: Parameter) -> None:
    register = number + 1
    value = w.vals[register]

    def refuse(message: str) -> Rejection:
        return Rejection("global-function-argument", message, index=index, register=register)

    if parameter.kind is ParameterKind.NUMBER:
        if value is None or not value.is_scalar:
            raise refuse(f"R{register} is not a scalar")
        return
    if value is None:
        raise Rejection("uninitialised-register", f"R{register} !read_ok", index=index, register=register)
    if parameter.kind is ParameterKind.ANYTHING:
        return
    if parameter.kind is ParameterKind.CONTEXT:
        if value.kind != CTX:
            raise refuse(f"arg#{number} expects pointer to ctx")
        check.check_unmoved(index, register, value)
        return
    if parameter.kind is ParameterKind.ARENA:
        if not value.is_scalar and value.kind != kinds.ARENA:
            raise refuse(f"R{register} is not a pointer to arena or scalar.")
        return
    if parameter.kind is ParameterKind.DYNPTR:
        from ebpfkit.verifier.transfer import dynptrs

        dynptrs.initialised(w, index, register)
        return
    if parameter.kind is ParameterKind.OBJECT:
        assert parameter.target is not None
        if not (parameter.nullable and value.is_scalar and value.const == 0):
            kind = ArgKind.BTF_ID_OR_NULL if parameter.nullable else ArgKind.BTF_ID
            prove_typed(w, index, register, value, ArgSpec(f"arg{number}", kind, btf_type=parameter.target.name), False)
        return
    if value.is_scalar and value.const == 0:
        return  # for memory tagged nonnull too (measured on 6.18)
    _prove_memory(w, index, register, value, parameter)
    if not parameter.nullable and value.nullable:
        raise refuse(f"arg#{number} is expected to be non-NULL")


def _prove_memory(w: Walk, index: int, register: int, value: Any, parameter: Parameter) -> None:
    if value.kind in (PACKET, PACKET_META) and w.prog_type.direct_packet_access != "write":
        raise Unmodelled("packet memory as an argument where packets are read-only", index=index)
    if value.kind == OPAQUE or (value.kind == CTX and w.prog_type.name not in CONTEXT_STRUCTS):
        raise Unmodelled(f"{value.type_name()} as memory of a function", index=index)
    facts = CallFacts()
    for write in (False, True):
        check_memory(w, index, register, value, parameter.size, write, True, facts, ArgKind.MEM)


def check_handler(parameters: tuple[Parameter, ...]) -> None:
    """What a program may name as its handler of exceptions."""
    if len(parameters) != 1 or parameters[0].kind is not ParameterKind.NUMBER:
        raise Rejection("callback", "exception cb only supports single integer argument")


def enter_global(w: Walk, frame: Frame, parameters: tuple[Parameter, ...]) -> None:
    """Put into the registers what a global function may be called with."""
    for number, parameter in enumerate(parameters):
        register = number + 1
        if parameter.kind is ParameterKind.NUMBER:
            frame.vals[register] = w.values.unknown
        elif parameter.kind is ParameterKind.CONTEXT:
            frame.vals[register] = w.values.pointer(CTX)
        elif parameter.kind is ParameterKind.DYNPTR:
            frame.vals[register], frame.ids[register] = w.values.pointer(CONST_DYNPTR, StackObject("local")), w.new_id()
        elif parameter.kind is ParameterKind.ARENA:
            frame.vals[register] = w.values.unknown
        elif parameter.target is not None:
            frame.vals[register] = w.values.pointer(kinds.BTF, parameter.target, nullable=parameter.nullable)
            frame.ids[register] = w.new_id()
        elif parameter.kind is ParameterKind.ANYTHING:
            frame.vals[register] = w.values.pointer(kinds.UNTRUSTED_MEM, None, readonly=True)
        else:
            frame.vals[register] = w.values.pointer(MEM, parameter.size, nullable=parameter.nullable)
            frame.ids[register] = w.new_id() if parameter.nullable else 0
