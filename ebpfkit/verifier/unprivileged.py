"""What the kernel refuses to users without capabilities: leaks of addresses, reads of memory that was never written,
and pointer arithmetic that speculation could abuse.

Steps of the walk are wrapped: `guarded` judges an instruction before and after the step that does its work. What the
kernel does on paths that only speculation takes never decides a verdict on the modelled kernel. From the first masking
of a variable on, states match only where all their numbers are the same (see `states`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit._bits import to_signed
from ebpfkit.abi.map_structs import MAP_STRUCTS
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.verifier import check
from ebpfkit.verifier.domain.pointer import (
    CTX,
    MAP_PTR,
    MAP_VALUE,
    MEM,
    OPAQUE,
    PACKET,
    PACKET_END,
    PACKET_META,
    STACK,
    Pointer,
)
from ebpfkit.verifier.instruction_set import check_back_edges
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.state import INVALID, SPILL

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Step, Walk

__all__ = ["MISSING", "PROGRAM_TYPES", "check_helper_stack", "check_program", "guarded", "released"]

PROGRAM_TYPES = frozenset({"socket_filter", "cgroup_skb"})
"""The program types that users without capabilities may load."""

MISSING = frozenset({"constant-array-key", "linked-sums", "linked-differences"})
"""Behaviours that only users with CAP_BPF get."""

_PACKETS = (PACKET, PACKET_META, PACKET_END)
_PLACES = {CTX: "ctx", MAP_VALUE: "map", MEM: "mem", PACKET: "packet", PACKET_META: "packet"}
_WHY = "pointer arithmetic with it prohibited for !root"
_STACK = 512
_NEVER_NULL = (MAP_VALUE, MEM, MAP_PTR, OPAQUE)
_TESTS = ("jeq", "jne")
_GONE = "released"
_PRIVILEGED_FIELDS = {"data", "data_end", "data_meta"}
_PRIVILEGED_WRITES = {"tstamp"}


def check_program(w: Walk) -> None:
    """Calls between functions need a capability, and loops too."""
    for index, insn in enumerate(w.code.insns):
        if insn.op.name in ("CALL_LOCAL", "LDDW_FUNC", "CALL_KFUNC"):
            message = "loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN"
            raise Rejection("helper-not-allowed", message, index=index)
    check_back_edges(w.code)


def guarded(w: Walk, index: int, insn: Instruction, step: Step) -> Step:
    """`step` between the checks that only this user's programs undergo."""
    before = _BEFORE.get(insn.op.kind)
    fills, jumps = insn.op.kind is Kind.LOAD, insn.op.kind is Kind.JUMP
    moves = insn.op.kind is Kind.ALU and insn.op.operation in ("add", "sub")

    def careful(vals: list[Any], ids: list[int]) -> int:
        if before is not None:
            before(w, index, insn)
        if not moves:
            waiting = w.waiting
            following = step(vals, ids)
            if jumps and w.waiting == waiting:
                w.mispredicts = True  # only one side is walked: speculation takes the other
            if fills and _is_gone(vals[int(insn.dst)]):
                vals[int(insn.dst)] = None
            return following
        left = vals[int(insn.dst)]
        right = vals[int(insn.src)] if insn.op.source == "reg" else None
        following = step(vals, ids)
        if left is not None:
            _sanitise(w, index, insn, left, right)
        return following

    return careful


def released(w: Walk) -> tuple[Any, Any]:
    """What registers and slots hold whose reference was given back: numbers, which are addresses to who may not see."""
    if w.profile.privileged:
        return w.values.unknown, w.values.unknown
    return None, w.values.pointer(OPAQUE, _GONE)


def _is_gone(value: Any) -> bool:
    return value is not None and value.kind == OPAQUE and value.target == _GONE


def _is_pointer(value: Any) -> bool:
    return value is not None and not value.is_scalar


def _refuse(rule: str, index: int, register: int, message: str) -> Rejection:
    return Rejection(rule, message, index=index, register=register)


# --- before the step --------------------------------------------------------------------------------------------------


def _exit(w: Walk, index: int, insn: Instruction) -> None:
    if _is_pointer(w.vals[0]) and not w.state.references:
        raise _refuse("pointer-leak", index, 0, "R0 leaks addr as return value")


def _move(w: Walk, index: int, insn: Instruction) -> None:
    if insn.op.source == "reg" and insn.op.width == 32 and int(insn.src) <= 10 and _is_pointer(w.vals[int(insn.src)]):
        raise _refuse("pointer-arithmetic", index, int(insn.src), f"R{int(insn.src)} partial copy of pointer")


def _extend(w: Walk, index: int, insn: Instruction) -> None:
    if int(insn.src) <= 10 and _is_pointer(w.vals[int(insn.src)]):
        raise _refuse("pointer-arithmetic", index, int(insn.src), f"R{int(insn.src)} sign-extension part of pointer")


def _swap(w: Walk, index: int, insn: Instruction) -> None:
    if int(insn.dst) <= 10 and _is_pointer(w.vals[int(insn.dst)]):
        raise _refuse("pointer-arithmetic", index, int(insn.dst), f"R{int(insn.dst)} pointer arithmetic prohibited")


def _arithmetic(w: Walk, index: int, insn: Instruction) -> None:
    dst = int(insn.dst)
    if insn.op.operation == "neg":
        _swap(w, index, insn)
        return
    src = int(insn.src) if insn.op.source == "reg" else -1
    if dst > 10 or src > 10 or w.vals[dst] is None or (src >= 0 and w.vals[src] is None):
        return  # the step says so
    left, right = _is_pointer(w.vals[dst]), src >= 0 and _is_pointer(w.vals[src])
    if insn.op.operation != "sub" or not (left or right):
        return
    if left and right:
        raise _refuse("pointer-arithmetic", index, dst, f"R{dst} pointer -= pointer prohibited")
    if insn.op.width == 32:
        raise _refuse("pointer-arithmetic", index, dst, f"R{dst} 32-bit pointer arithmetic prohibited")


def _load(w: Walk, index: int, insn: Instruction) -> None:
    p: Any = w.vals[int(insn.src)] if int(insn.src) <= 10 else None
    if not _is_pointer(p) or p.nullable:
        return
    if p.kind == STACK:
        _read_stack(w, index, int(insn.src), p, insn.off, insn.op.size)
    elif p.kind == MAP_PTR:
        raise _map_access(index, int(insn.src), p)
    elif p.kind == CTX and w.field_name(p.off + insn.off) in _PRIVILEGED_FIELDS:
        message = f"invalid bpf_context access off={p.off + insn.off} size={insn.op.size}"
        raise _refuse("invalid-context-access", index, int(insn.src), message)


def _map_access(index: int, register: int, p: Pointer) -> Rejection:
    struct = MAP_STRUCTS.get(p.target.spec.type, "bpf_map")
    message = f"'struct {struct}' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN"
    return _refuse("invalid-memory-access", index, register, message)


def _read_stack(w: Walk, index: int, register: int, p: Pointer, offset: int, size: int) -> None:
    if p.var.const is None:
        message = f"R{register} variable offset stack access prohibited for !root, var_off="
        raise _refuse("stack-out-of-bounds", index, register, message)
    at = p.off + offset + to_signed(p.var.const, 64)
    if not -_STACK <= at <= -size or at % size:
        return  # the step says so
    frame = w.state.frames[p.target]
    if at < -frame.depth:
        message = f"invalid read from stack R{register} off={at} size={size}"
        raise _refuse("stack-out-of-bounds", index, register, message)
    slot = frame.slots.get((-at - 1) // 8)
    for number in range(size):
        kind = slot.types[(at + number) & 7] if slot is not None else INVALID
        if kind == INVALID:
            message = f"invalid read from stack off {at}+{number} size {size}"
            raise _refuse("uninitialised-stack", index, register, message)


def _store(w: Walk, index: int, insn: Instruction) -> None:
    p: Any = w.vals[int(insn.dst)] if int(insn.dst) <= 10 else None
    if not _is_pointer(p) or p.nullable:
        return
    src = int(insn.src)
    leaks = insn.op.source == "reg" and src <= 10 and _is_pointer(w.vals[src])
    if p.kind == STACK:
        _write_stack(w, index, int(insn.dst), p, insn.off, insn.op.size)
    elif p.kind == MAP_PTR:
        raise _map_access(index, int(insn.dst), p)
    elif leaks:
        place = _PLACES.get(p.kind)
        if place is None:
            raise Unmodelled(f"a pointer stored through {p.type_name()} without privilege", index=index)
        raise _refuse("pointer-leak", index, src, f"R{src} leaks addr into {place}")
    elif p.kind == CTX and w.field_name(p.off + insn.off) in _PRIVILEGED_WRITES:
        message = f"invalid bpf_context access off={p.off + insn.off} size={insn.op.size}"
        raise _refuse("invalid-context-access", index, int(insn.dst), message)


def _write_stack(w: Walk, index: int, register: int, p: Pointer, offset: int, size: int) -> None:
    if p.var.const is None:
        message = f"R{register} variable offset stack access prohibited for !root, var_off="
        raise _refuse("stack-out-of-bounds", index, register, message)
    at = p.off + offset + to_signed(p.var.const, 64)
    slot = w.state.frames[p.target].slots.get((-at - 1) // 8) if at < 0 else None
    if slot is not None and size != 8 and slot.value is not None and slot.types[0] == SPILL and _is_pointer(slot.value):
        raise _refuse("stack-pointer-corruption", index, register, "attempt to corrupt spilled pointer on stack")


def _atomic(w: Walk, index: int, insn: Instruction) -> None:
    src = int(insn.src)
    for register in (src, 0) if insn.op.operation == "cmpxchg" else (src,):
        if register <= 10 and _is_pointer(w.vals[register]):
            raise _refuse("pointer-leak", index, register, f"R{register} leaks addr into mem")
    p: Any = w.vals[int(insn.dst)] if int(insn.dst) <= 10 else None
    if not _is_pointer(p) or p.nullable or p.kind != STACK:
        return
    _read_stack(w, index, int(insn.dst), p, insn.off, insn.op.size)
    at = p.off + insn.off + to_signed(p.var.const, 64)
    slot = w.state.frames[p.target].slots.get((-at - 1) // 8) if at < 0 else None
    if slot is not None and slot.types[0] == SPILL and _is_pointer(slot.value):
        raise _refuse("pointer-leak", index, int(insn.dst), f"leaking pointer from stack off {at}")


def _jump(w: Walk, index: int, insn: Instruction) -> None:
    dst, src = int(insn.dst), int(insn.src) if insn.op.source == "reg" else -1
    if dst > 10 or src > 10 or w.vals[dst] is None or (src >= 0 and w.vals[src] is None):
        return
    left, right = w.vals[dst], w.vals[src] if src >= 0 else None
    packets = left.kind in _PACKETS and right is not None and right.kind in _PACKETS
    if _is_pointer(right) and not packets:
        raise _refuse("pointer-comparison", index, src, f"R{src} pointer comparison prohibited")
    if not _is_pointer(left) or packets:
        return
    zero = right.const == 0 if right is not None else insn.imm == 0
    null_test = insn.op.width == 64 and zero and insn.op.operation in _TESTS
    # A null test of what may be null splits the path, of what never is is decided.
    if null_test and ((left.nullable and src < 0) or (not left.nullable and left.kind in _NEVER_NULL)):
        return
    raise _refuse("pointer-comparison", index, dst, f"R{dst} pointer comparison prohibited")


_BEFORE = {
    Kind.EXIT: _exit,
    Kind.MOV: _move,
    Kind.MOVSX: _extend,
    Kind.SWAP: _swap,
    Kind.ALU: _arithmetic,
    Kind.LOAD: _load,
    Kind.LOADSX: _load,
    Kind.LOAD_ACQUIRE: _load,
    Kind.STORE: _store,
    Kind.STORE_RELEASE: _store,
    Kind.ATOMIC: _atomic,
    Kind.JUMP: _jump,
}


def check_helper_stack(w: Walk, index: int, register: int, p: Pointer, size: int) -> None:
    """Every byte of the stack that a helper reads was written, and none is of a pointer."""
    if p.var.const is None:
        raise Unmodelled("a helper's memory at a variable place on the stack without privilege", index=index)
    start = p.off + to_signed(p.var.const, 64)
    frame = w.state.frames[p.target]
    if start < -frame.depth:
        message = f"invalid read from stack R{register} off={start} size={size}"
        raise _refuse("stack-out-of-bounds", index, register, message)
    slots = frame.slots
    for number in range(size):
        at = start + number
        slot = slots.get((-at - 1) // 8)
        kind = slot.types[at & 7] if slot is not None else INVALID
        spilled = slot is not None and kind == SPILL and slot.value is not None and not slot.value.is_scalar
        if kind == INVALID or spilled:
            message = f"invalid read from stack R{register} off {start}+{number} size {size}"
            raise _refuse("uninitialised-stack", index, register, message)


# --- arithmetic and speculation ---------------------------------------------------------------------------------------


def _sanitise(w: Walk, index: int, insn: Instruction, left: Any, right: Any) -> None:
    """The masking of a variable that is added to a pointer is possible, and the sum stays inside its object."""
    dst = int(insn.dst)
    constant = insn.op.source == "imm"
    if left.is_scalar and (right is None or right.is_scalar):
        if not constant:
            _note_masking(w, index, insn, ("scalar",))
        return
    pointer, number = (left, right) if not left.is_scalar else (right, left)
    result = w.vals[dst]
    leftwards, before = False, 0
    if not constant:
        leftwards, before = _direction(index, insn, pointer, number, pointer is left)
        if number.const is None:
            w.comparison.strict = True
    if result is None or result.is_scalar:
        return
    if result.kind == STACK:
        _check_stack_sum(w, index, dst, result)
    elif result.kind == MAP_VALUE:
        try:
            check.check_region(index, dst, result, 0, 1, result.target.spec.value_size, "map value")
            check.check_special_fields(w, index, dst, result, 0, 1)
        except Rejection:
            message = f"R{dst} pointer arithmetic of map value goes out of range, prohibited for !root"
            raise _refuse("map-value-out-of-bounds", index, dst, message) from None
    if not constant:
        # The room for the mask is what the pointer really moved by, at most.
        moved = abs(before - _limit(index, insn, result, leftwards, dst))
        _note_masking(w, index, insn, ("pointer", number.smin < 0, number.const is not None, pointer is left, moved))


def _direction(index: int, insn: Instruction, pointer: Any, number: Any, reads_pointer_first: bool) -> tuple[bool, int]:
    """Whether the pointer moves to lower addresses, and how far it stands from the end that it moves away from."""
    register = int(insn.src) if reads_pointer_first else int(insn.dst)
    negative = number.smin < 0
    if number.const is None and negative != (number.smax < 0):
        message = f"R{register} has unknown scalar with mixed signed bounds, {_WHY}"
        raise _refuse("pointer-arithmetic", index, register, message)
    leftwards = negative if insn.op.operation == "add" else not negative
    return leftwards, _limit(index, insn, pointer, leftwards, int(insn.dst) if reads_pointer_first else int(insn.src))


def _limit(index: int, insn: Instruction, pointer: Any, leftwards: bool, register: int) -> int:
    limit: int
    if pointer.kind == STACK:
        room = _STACK + leftwards
        limit = -(to_signed(pointer.var.value, 64) + pointer.off)
    elif pointer.kind == MAP_VALUE:
        room = pointer.target.spec.value_size
        limit = (pointer.var.smin if leftwards else pointer.var.umax) + pointer.off
    else:
        message = f"R{register} has pointer with unsupported alu operation, {_WHY}"
        raise _refuse("pointer-arithmetic", index, register, message)
    if limit >= room or limit < 0:
        dst = int(insn.dst)
        message = f"R{dst} tried to {insn.op.operation} beyond pointer bounds, {_WHY}"
        raise _refuse("pointer-arithmetic", index, dst, message)
    return limit


def _note_masking(w: Walk, index: int, insn: Instruction, how: tuple[Any, ...]) -> None:
    """One instruction is masked in one way only."""
    if w.masked.setdefault(index, how) != how:
        if w.mispredicts:
            # A path of speculation that fails here makes the kernel put a barrier, and then no mask is needed.
            what = "pointer arithmetic by different amounts behind a decided branch, without privilege"
            raise Unmodelled(what, index=index)
        dst = int(insn.dst)
        message = f"R{dst} tried to {insn.op.operation} from different maps, paths or scalars, {_WHY}"
        raise _refuse("pointer-arithmetic", index, dst, message)


def _check_stack_sum(w: Walk, index: int, dst: int, p: Pointer) -> None:
    if p.var.const is None:
        message = f"R{dst} variable stack access prohibited for !root, var_off="
        raise _refuse("stack-out-of-bounds", index, dst, message)
    at = p.off + to_signed(p.var.const, 64)
    if not -_STACK <= at < 0:
        message = f"R{dst} stack pointer arithmetic goes out of range, prohibited for !root; off={at}"
        raise _refuse("stack-out-of-bounds", index, dst, message)
