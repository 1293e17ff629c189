"""Calls of helpers and functions, and exits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ebpfkit.abi import limits
from ebpfkit.abi.helpers import ATTACH_TYPES_SINCE, BY_CONFIGURATION, OLDER_KINDS
from ebpfkit.abi.map_types import MAP_TYPES, SOCKMAP_UPDATERS
from ebpfkit.abi.model import ArgKind, ArgSpec, Effect, HelperSpec, RetKind
from ebpfkit.abi.versions import is_at_least
from ebpfkit.asm.insn import Instruction
from ebpfkit.verifier import arguments, check, functions, kptrs, obligations, strings
from ebpfkit.verifier.arguments import CallFacts
from ebpfkit.verifier.domain.pointer import MAP_VALUE, MEM, OPAQUE, PACKET, PACKET_END, PACKET_META, STACK
from ebpfkit.verifier.domain.scalar import Bounds
from ebpfkit.verifier.domain.stack_objects import PACKET_SLICE
from ebpfkit.verifier.operations import may_call_in_operation
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.state import SPILL, Frame, Slot, reference_word
from ebpfkit.verifier.transfer import callbacks, dynptrs, locks, repeats, sections, stack, stack_objects
from ebpfkit.verifier.transfer.graph import in_comparison
from ebpfkit.verifier.transfer.jumps import keeps_identity
from ebpfkit.verifier.typed_arguments import TYPED_RESULTS, give_object
from ebpfkit.verifier.unprivileged import released

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Step, Walk
    from ebpfkit.verifier.program import Subprogram

__all__ = ["ENDED", "SWITCHED", "UNMODELLED_HELPERS", "build_exit", "build_helper_call", "build_local_call"]

ENDED, SWITCHED = -1, -2
"""What a step returns instead of the next instruction: the path ended, or another frame is current (`Walk.next`)."""

_ELIDABLE = {"array", "percpu_array"}
_RDONLY_WRITERS = {"map_delete_elem", "map_update_elem", "map_push_elem", "map_pop_elem"}
_BPF_F_RDONLY_PROG = 1 << 7
_AT_SOME_FUNCTIONS = frozenset({"d_path"})
_CALLING_BACK = frozenset({Effect.CALLS_BACK, Effect.CALLS_BACK_LATER})
_LOCKING = frozenset({Effect.LOCKS, Effect.UNLOCKS})
_VALUES = {RetKind.MAP_VALUE, RetKind.MAP_VALUE_OR_NULL}
UNMODELLED_HELPERS = {"bprm_opts_set": "LSM programs"}
"""Helpers of which a call has no model, and why."""
_SOCKET_RESULTS = {
    RetKind.SOCKET_OR_NULL: "sock",
    RetKind.SOCK_COMMON_OR_NULL: "sock_common",
    RetKind.TCP_SOCK_OR_NULL: "tcp_sock",
}
_DERIVED_SOCKETS = {"sk_fullsock", "tcp_sock"}  # held by the reference of the socket that they were made from


def build_helper_call(w: Walk, index: int, insn: Instruction) -> Step:
    """A call of a helper function."""
    demands = obligations.of(insn)
    helper = w.code.helpers.get(insn.imm)
    following = index + 1
    if check.prove_static(index, demands) is not None:
        return w.guarded(index, demands, lambda vals, ids: following)
    if w.state.lock is not None and (helper is None or Effect.UNLOCKS not in helper.effects):
        raise Rejection("lock", "function calls are not allowed while holding a lock", index=index)
    # Whether the helper may be called depends on the program alone: settled at the first visit.
    spec = check_usable(w, index, insn.imm, helper)
    args = spec.args_in(w.prog_type.name)
    assert args is not None
    if "storage-of-null" not in w.behaviours:
        args = tuple(_older_argument(spec.name, number, arg) for number, arg in enumerate(args))
    checked = (number for number, arg in enumerate(args) if arg.kind is not ArgKind.UNCHECKED)
    tail_call = Effect.TAIL_CALL in spec.effects
    plans = [arguments.Plan(w, spec, args, number) for number in checked]
    if repeats.is_repeatable(w, spec, plans):
        return w.guarded(index, demands, _repeatable_call(w, index, spec, plans))

    def step(vals: list[Any], ids: list[int]) -> int:
        call_helper(w, index, spec, plans, vals, ids)
        if tail_call:
            return _behind_tail_call(w, index)
        return following

    return w.guarded(index, demands, step)


def _older_argument(name: str, number: int, arg: ArgSpec) -> ArgSpec:
    """The argument as the helper took it before 6.12."""
    kind = OLDER_KINDS.get((name, number))
    if kind is None or (kind is ArgKind.BTF_ID and arg.kind is not ArgKind.BTF_ID_OR_NULL):
        return arg
    return replace(arg, kind=kind)


def _repeatable_call(w: Walk, index: int, spec: HelperSpec, plans: list[arguments.Plan]) -> Step:
    """The step of a call without effects: what was proved of its arguments holds when they come again."""
    following = index + 1
    behind = 1 + len(plans)
    memo = w.values.new_memo()

    def step(vals: list[Any], ids: list[int]) -> int:
        key = tuple(vals[1:behind])
        known = memo.get(key)
        if known is not None and w.state.lock is None:
            known.apply(w, index, vals, ids)
            return following
        facts = call_helper(w, index, spec, plans, vals, ids)
        known = repeats.remember(w, spec, key, facts, vals)
        if known is not None:
            memo[key] = known
        return following

    return step


def check_usable(w: Walk, index: int, number: int, helper: HelperSpec | None) -> HelperSpec:
    """The helper exists in this kernel and may be called by this program."""
    if helper is None:
        raise Rejection("unknown-helper", f"invalid func unknown#{number}", index=index)
    name = f"bpf_{helper.name}#{number}"
    places = helper.attach_types.get(w.prog_type.name)
    attach_type = w.code.spec.attach_type
    elsewhere = places is not None and attach_type not in places
    elsewhere |= not is_at_least(w.profile.kernel, ATTACH_TYPES_SINCE.get((helper.name, attach_type or ""), ""))
    if not w.may_call(helper) or elsewhere or not may_call_in_operation(w.code.spec, helper.name):
        message = f"program of this type cannot use helper {name}"
        raise Rejection("helper-not-allowed", message, index=index)
    if helper.name in _AT_SOME_FUNCTIONS and w.code.spec.attach_type != "trace_iter":
        if w.prog_type.name != "tracing" or w.code.spec.attach_type != "trace_raw_tp":
            raise Unmodelled(f"helper {helper.name} at functions and hooks, of which few allow it", index=index)
        raise Rejection("helper-not-allowed", "helper call is not allowed in probe", index=index)
    known_to = BY_CONFIGURATION.get(helper.name)
    if known_to is not None and w.profile.helpers is None and w.profile.kernel not in known_to:
        raise Unmodelled(f"{name}, which a kernel's configuration decides (tell it with --host)", index=index)
    if helper.gpl_only and not w.is_gpl:
        message = "cannot call GPL-restricted function from non-GPL compatible program"
        raise Rejection("missing-licence", message, index=index)
    if Effect.MAY_SLEEP in helper.effects and not w.sleepable:
        raise Rejection("execution-context", "helper call might sleep in a non-sleepable prog", index=index)
    if helper.name == "set_retval" and w.prog_type.name == "lsm":
        raise Unmodelled("return values set by LSM programs", index=index)
    if helper.name in UNMODELLED_HELPERS:
        raise Unmodelled(f"{UNMODELLED_HELPERS[helper.name]} (helper {helper.name})", index=index)
    if helper.args is None:
        raise Unmodelled(f"helper {helper.name}", index=index)
    return helper


def call_helper(
    w: Walk, index: int, spec: HelperSpec, plans: list[arguments.Plan], vals: list[Any], ids: list[int]
) -> CallFacts:
    """Prove the arguments, then do to the state what the call does; returns what the arguments said."""
    facts = CallFacts()
    if w.state.lock is not None and Effect.UNLOCKS not in spec.effects:
        raise Rejection("lock", "function calls are not allowed while holding a lock", index=index)
    if Effect.MAY_SLEEP in spec.effects and (region := sections.where_nothing_sleeps(w)):
        message = f"sleepable helper bpf_{spec.name}#{spec.id} in {region} region"
        raise Rejection("execution-context", message, index=index)
    w.stack_liveness.note_write(w.frame.chain, index, 0, 0)
    for plan in plans:
        arguments.prove_argument(w, index, plan, facts)
    target = facts.target
    if target is not None:
        if spec.name == "for_each_map_elem" and spec.map_types and target.spec.type not in spec.map_types:
            raise Rejection("helper-map-type", "callback function not allowed for map", index=index)
        _check_map(index, spec, target.spec.type)
        _check_socket_map(w, index, spec, target.spec.type)
        if spec.name in _RDONLY_WRITERS and (target.spec.frozen or target.spec.flags & _BPF_F_RDONLY_PROG):
            raise Rejection("read-only-memory", "write into map forbidden", index=index)
        if spec.name == "tail_call":
            _note_tail_call(w, index, target.spec.max_entries, vals)
    if facts.blank is not None:
        register, pointer, size = facts.blank
        if size:
            stack.blank(w, index, register, pointer, size)
            stack.overwrite_bytes(w, index, pointer, 0, size)
    if spec.effects & _LOCKING:
        if in_comparison(w):
            raise Rejection("lock", "can't spin_{lock,unlock} in rbtree cb", index=index)
        locks.take_or_drop(w, index, 1, "spin", Effect.LOCKS in spec.effects)
    if facts.kptr is not None:
        if facts.reference:
            kptrs.give_up(w, facts.reference)
    elif Effect.RELEASES in spec.effects:
        _release(w, index, spec, facts)
    if Effect.TAIL_CALL in spec.effects:
        check.prove(w, index, [obligations.NoReferences("tail_call")])
    if spec.name == "get_local_storage" and vals[2].const != 0:
        message = "get_local_storage() doesn't support non-zero flags"
        raise Rejection("helper-argument", message, index=index, register=2)
    if spec.name == "dynptr_from_mem" and vals[1].kind != MAP_VALUE:
        message = f"Unsupported reg type {check.type_name(vals[1])} for bpf_dynptr_from_mem data"
        raise Rejection("dynptr", message, index=index, register=1)
    if spec.name == "snprintf":
        _check_snprintf(w, index, facts)
    if spec.effects & _CALLING_BACK:
        callbacks.call_helper_back(w, index, spec.name)
    for register in range(6):
        vals[register] = None
        ids[register] = 0
    _give_result(w, index, spec, facts, vals, ids)
    if Effect.CHANGES_PACKET in spec.effects or _writes_packet(spec, facts):
        forget_packet(w)
    return facts


def _check_snprintf(w: Walk, index: int, facts: CallFacts) -> None:
    size = w.vals[5]
    if size.value % 8:
        raise Rejection("helper-argument", "the arguments of bpf_snprintf are an array of u64", index=index, register=5)
    strings.check_format(w, index, facts.text, size.value // 8)


def _writes_packet(spec: HelperSpec, facts: CallFacts) -> bool:
    """Whether the call writes through a dynptr of a socket buffer, whose slices may move then."""
    return spec.name == "dynptr_write" and facts.dynptr[0].word in ("skb", "skb_meta")


def _behind_tail_call(w: Walk, index: int) -> int:
    """Where the walk goes on: in a function, what was called may return to its caller with any result."""
    if "tail-calls-return" not in w.behaviours:
        if "packet-dies-in-tail-call" in w.behaviours:
            forget_packet(w)
        return index + 1
    if len(w.state.frames) == 1:
        return index + 1
    w.push(index + 1, index)
    forget_packet(w)
    w.vals[0] = w.values.unknown
    return _return(w, index)


def _check_map(index: int, spec: HelperSpec, map_type: str) -> None:
    if spec.map_types is not None and map_type not in spec.map_types:
        message = f"cannot pass map_type {map_type} into func bpf_{spec.name}#{spec.id}"
        raise Rejection("helper-map-type", message, index=index)


def _check_socket_map(w: Walk, index: int, spec: HelperSpec, map_type: str) -> None:
    """Sockets are taken out of a map by few program types only."""
    if spec.name != "map_delete_elem" or map_type not in ("sockmap", "sockhash"):
        return
    if w.prog_type.name not in SOCKMAP_UPDATERS and w.code.spec.attach_type != "trace_iter":
        message = f"cannot pass map_type {MAP_TYPES[map_type].id} into func bpf_{spec.name}#{spec.id}"
        raise Rejection("helper-map-type", message, index=index)


def _note_tail_call(w: Walk, index: int, entries: int, vals: list[Any]) -> None:
    key = vals[3]
    if key.is_scalar and key.const is not None and key.const < entries:
        w.precision.demand_register(w.state, index, 3)


def _release(w: Walk, index: int, spec: HelperSpec, facts: CallFacts) -> None:
    reference = facts.reference
    if reference and any(held == reference for held, _ in w.state.references):
        release_reference(w, reference)
        if facts.dynptr is not None:
            dynptrs.release(w, index, facts.release_register, reference)
        return
    value = w.vals[facts.release_register] if facts.release_register else None
    if not reference and value is not None and value.is_scalar and value.const == 0:
        return
    message = f"func bpf_{spec.name}#{spec.id} reference has not been acquired before"
    raise Rejection("reference-misuse", message, index=index)


def release_reference(w: Walk, reference: int) -> None:
    """The reference is gone, and with it every pointer that carries it."""
    state = w.state
    left, left_in_slot = released(w)
    state.references = tuple(held for held in state.references if held[0] != reference)
    for frame in state.frames:
        for register in range(10):
            value = frame.vals[register]
            if value is not None and not value.is_scalar and frame.ids[register] >> 32 == reference:
                frame.vals[register] = left
                frame.ids[register] = 0
        for number, slot in list(frame.slots.items()):
            if slot.types[0] == SPILL and not slot.value.is_scalar and slot.id >> 32 == reference:
                frame.set_slot(number, Slot(slot.types, left_in_slot, 0))


def _give_result(w: Walk, index: int, spec: HelperSpec, facts: CallFacts, vals: list[Any], ids: list[int]) -> None:
    values = w.values
    kind = spec.ret
    if kind is RetKind.VOID:
        return
    if kind is RetKind.INTEGER:
        vals[0] = _bounded_result(w, spec, facts)
        return
    if kind in (RetKind.MAP_VALUE_OR_NULL, RetKind.MAP_VALUE):
        assert facts.target is not None
        map_spec = facts.target.spec
        present = kind is RetKind.MAP_VALUE or (
            facts.key is not None
            and facts.key < map_spec.max_entries
            and spec.name == "map_lookup_elem"
            and map_spec.type in _ELIDABLE
        )
        result = values.pointer(MAP_VALUE, facts.target, nullable=not present)
        acquires = map_spec.type in ("sockmap", "sockhash") and spec.name == "map_lookup_elem"
    elif kind is RetKind.RINGBUF_MEM_OR_NULL:
        result = values.pointer(MEM, facts.size, nullable=True, record=True)
        acquires = True
    elif kind is RetKind.DYNPTR_MEM_OR_NULL:
        result = dynptrs.memory_of(w, facts.dynptr, facts.size, readonly=False, nullable=True)
        vals[0], ids[0] = result, reference_word(w.new_id(), facts.dynptr[1] >> 32)
        return
    elif kind in _SOCKET_RESULTS:
        result = values.pointer(OPAQUE, _SOCKET_RESULTS[kind], nullable=True)
        acquires = Effect.ACQUIRES in spec.effects
        if spec.name in _DERIVED_SOCKETS:
            vals[0] = result
            ids[0] = reference_word(w.new_id(), facts.reference)
            return
    elif kind is RetKind.KPTR_OR_NULL:
        assert facts.kptr is not None
        result = kptrs.exchanged(w, facts.kptr)
        acquires = True
    elif kind in TYPED_RESULTS:
        result = give_object(w, index, spec, facts.variable)
        vals[0] = result
        # A socket seen as a wider one is held by the same reference.
        reference = facts.reference if spec.name.startswith("skc_to_") else 0
        ids[0] = reference_word(w.new_id() if result.nullable else 0, reference)
        return
    else:
        raise Unmodelled(f"results of kind {kind.value} (helper {spec.name})", index=index)
    vals[0] = result
    identity = w.new_id() if result.nullable or (kind in _VALUES and keeps_identity(w, result)) else 0
    if acquires:
        identity = w.new_id()
        w.state.references = (*w.state.references, (identity, index))
        ids[0] = reference_word(identity, identity)
    else:
        ids[0] = identity


def _bounded_result(w: Walk, spec: HelperSpec, facts: CallFacts) -> Any:
    low, high = None, None
    if spec.ret_range is not None:
        low, high = spec.ret_range
    elif spec.ret_bound == "cpus" and "cpu-id-range" in w.behaviours:
        low, high = 0, w.profile.cpus - 1
    elif spec.ret_bound == "size":
        low, high = -4095, facts.largest
    if low is None or high is None:
        return w.values.unknown
    d = Bounds.unknown()
    d.smin, d.smax = low, high
    d.s32_min, d.s32_max = low, high
    if low >= 0:
        d.umin, d.umax = low, high
        d.u32_min, d.u32_max = low, high
    return w.values.scalar(d.sync())


def forget_packet(w: Walk) -> None:
    """Every pointer into the packet, in every frame, becomes a number."""
    kinds = (PACKET, PACKET_END, PACKET_META)
    for frame in w.state.frames:
        for register in range(10):
            value = frame.vals[register]
            if value is not None and value.kind in kinds:
                frame.vals[register] = w.values.unknown
                frame.ids[register] = 0
        for number, slot in list(frame.slots.items()):
            if slot.value is not None and slot.value.kind in kinds and slot.types[0] == SPILL:
                frame.set_slot(number, Slot(slot.types, w.values.unknown, 0))
    stack_objects.drop_slices(w, lambda value: value.range & PACKET_SLICE)


# --- functions of the program ---------------------------------------------------------------------------------------


def build_local_call(w: Walk, index: int, insn: Instruction) -> Step:
    """A call of a function of the same program: walked in place with the arguments it is given."""
    demands = obligations.of(insn)
    target = w.code.targets[index]
    assert target is not None
    function = w.code.subprogram_at(target)

    def step(vals: list[Any], ids: list[int]) -> int:
        check.prove(w, index, demands)
        if w.state.lock is not None and "lock-over-static-calls" not in w.behaviours:
            raise Rejection("lock", "function calls are not allowed while holding a lock", index=index)
        if function.is_global:
            call_global(w, index, function, vals, ids)
            return index + 1
        frames = w.state.frames
        if len(frames) >= limits.MAX_FRAMES:
            message = f"the call stack of {len(frames) + 1} frames is too deep"
            raise Rejection("call-depth", message, index=index)
        w.stack_liveness.note_write(w.frame.chain, index, 0, 0)
        chain = w.stack_liveness.enter(frames[-1].chain, index, function)
        callee = Frame(len(frames), function, index, chain)
        callee.vals[1:6] = vals[1:6]
        callee.ids[1:6] = ids[1:6]
        callee.vals[10] = w.values.pointer(STACK, callee.number)
        for register in range(6):
            vals[register] = None
            ids[register] = 0
        frames.append(callee)
        w.next = target
        return SWITCHED

    return w.guarded(index, demands, step)


def call_global(w: Walk, index: int, function: Subprogram, vals: list[Any], ids: list[int]) -> None:
    """A call of a function that is verified apart: only its prototype and its effects count."""
    if w.state.lock is not None:
        raise Rejection("lock", "global function calls are not allowed while holding a lock", index=index)
    w.stack_liveness.note_write(w.frame.chain, index, 0, 0)
    effects = functions.prove_call(w, index, function)
    if Effect.CHANGES_PACKET in effects and "packet-dies-in-global-call" in w.behaviours:
        forget_packet(w)
    w.called.add(function.number)
    for register in range(6):
        vals[register] = None
        ids[register] = 0
    vals[0] = w.values.unknown


def build_exit(w: Walk, index: int, insn: Instruction) -> Step:
    """The end of a function, or of the path."""
    demands = obligations.of(insn)
    last: list[obligations.Obligation] = [
        obligations.NoReferences("BPF_EXIT instruction in main prog"),
        obligations.ReturnFits(),
    ]

    def step(vals: list[Any], ids: list[int]) -> int:
        check.prove(w, index, demands)
        frames = w.state.frames
        if len(frames) == 1:
            check.prove(w, index, last)
            return ENDED
        return _return(w, index)

    return w.guarded(index, demands, step)


def _return(w: Walk, index: int) -> int:
    """Leave the current frame for the one that called it."""
    if w.state.lock is not None and "lock-over-static-calls" not in w.behaviours:
        raise Rejection("lock", "bpf_spin_unlock is missing", index=index)
    w.update_stack_liveness()
    frames = w.state.frames
    frame = frames[-1]
    result, identity = frame.vals[0], frame.ids[0]
    if result is not None and result.kind == STACK:
        raise Rejection("pointer-leak", "cannot return stack pointer to the caller", index=index)
    if frame.callback is not None:
        callbacks.end_callback(w, index)
        return SWITCHED
    frames.pop()
    frames[-1].vals[0], frames[-1].ids[0] = result, identity
    w.next = frame.site + 1
    return SWITCHED
