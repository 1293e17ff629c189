"""Loads, stores and atomic operations, by what the pointer points into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit._bits import to_signed, to_unsigned
from ebpfkit.abi.model import FieldResult
from ebpfkit.asm.insn import Instruction, MapValueRef
from ebpfkit.asm.isa import Kind
from ebpfkit.elf.model import MapSpec
from ebpfkit.verifier import check, kptrs, objects, obligations
from ebpfkit.verifier.domain.objects import ARENA, BTF, BUF, FLOW_KEYS, Buffer
from ebpfkit.verifier.domain.pointer import (
    CTX,
    FUNC,
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
from ebpfkit.verifier.kptrs import field_at
from ebpfkit.verifier.program import has_function_types
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.transfer import stack

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Step, Walk
    from ebpfkit.verifier.program import Subprogram

__all__ = ["build_atomic", "build_load", "build_packet_load", "build_store", "build_wide"]

_PICKY = {CTX, OPAQUE, BTF, ARENA}
_PACKET_KINDS = {
    FieldResult.PACKET: PACKET,
    FieldResult.PACKET_END: PACKET_END,
    FieldResult.PACKET_META: PACKET_META,
}
_SOCKETS = {
    FieldResult.SOCKET: "sock",
    FieldResult.SOCKET_OR_NULL: "sock",
    FieldResult.SOCK_COMMON_OR_NULL: "sock_common",
}
_NULLABLE = {FieldResult.SOCKET_OR_NULL, FieldResult.SOCK_COMMON_OR_NULL}


class _SeenKinds:
    """Kinds of pointers that reached one instruction: the code that the kernel generates fits only one of some."""

    __slots__ = ("first",)

    def __init__(self) -> None:
        self.first = -1

    def note(self, index: int, p: Pointer) -> None:
        if self.first < 0:
            self.first = p.kind
        elif p.kind != self.first and (p.kind in _PICKY or self.first in _PICKY):
            message = "same insn cannot be used with different pointers"
            raise Rejection("mixed-pointer-types", message, index=index)


def is_constant_map(spec: MapSpec) -> bool:
    """Whether the map's contents cannot change any more, so that they are known."""
    return spec.frozen and spec.type == "array" and spec.max_entries == 1


def _constant_bytes(spec: MapSpec, offset: int, size: int) -> bytes:
    data = spec.data
    if data is None:
        data = spec.contents[0][1] if spec.contents else b""
    return data[offset : offset + size].ljust(size, b"\0")


def _loaded(w: Walk, index: int, p: Pointer, identity: int, offset: int, size: int, signed: bool) -> Any:
    """The value that a proved load gives, from anything but the stack."""
    values = w.values
    if p.kind == BTF:
        found = objects.load(w, p, identity, offset, size)
        return values.unknown_of(size, signed) if found is None else found
    if p.kind == MAP_PTR:
        view = values.pointer(BTF, objects.map_object(w, p))
        found = objects.load(w, view, 0, offset, size)
        return values.unknown_of(size, signed) if found is None else found
    if p.kind == MAP_VALUE:
        spec = p.target.spec
        if p.var.const is not None and is_constant_map(spec):
            at = p.off + offset + to_signed(p.var.const, 64)
            number = int.from_bytes(_constant_bytes(spec, at, size), "big" if w.big_endian else "little")
            return values.constant(to_unsigned(to_signed(number, 8 * size) if signed else number, 64))
        return values.unknown_of(size, signed)
    if p.kind == CTX:
        result = w.context_access(index, offset, size, False)
        if result in _PACKET_KINDS:
            if signed:
                raise Rejection("invalid-context-access", "sign-extending load of a pointer field", index=index)
            return values.pointer(_PACKET_KINDS[result])
        if result in _SOCKETS:
            return values.pointer(OPAQUE, _SOCKETS[result], nullable=result in _NULLABLE)
        if result is FieldResult.FLOW_KEYS:
            return values.pointer(FLOW_KEYS)
        if result is FieldResult.RECORD:
            return values.pointer(BUF, Buffer("tracepoint"))
        if result is FieldResult.BTF:
            return w.context_pointer(offset)
        if result is not FieldResult.SCALAR:
            raise Unmodelled(f"context fields of kind {result.value if result else '?'}", index=index)
    return values.unknown_of(size, signed)


def build_load(w: Walk, index: int, insn: Instruction) -> Step:
    """LDX, sign-extending or not, and load-acquire."""
    demands = obligations.of(insn)
    following = index + 1
    dst, src, offset, size = int(insn.dst), int(insn.src), insn.off, insn.op.size
    signed = insn.op.kind is Kind.LOADSX
    memo = w.values.new_memo()
    proved = w.values.new_memo()
    seen = _SeenKinds()

    def slow(vals: list[Any], ids: list[int]) -> int:
        p = vals[src]
        if p not in proved or p is None:
            check.prove(w, index, demands)
            seen.note(index, p)
        if p.kind == STACK:
            proved[p] = True
            if p.var.const != 0 or w.state.frames[p.target].depth < -(p.off + offset):
                check.prove(w, index, demands)
            vals[dst], ids[dst] = stack.fill(w, index, p, offset, size, dst, signed)
            return following
        kept = field_at(w, p, offset)
        if kept is not None:
            vals[dst], ids[dst] = kptrs.load(w, index, insn, kept), w.new_id()
            return following
        result = _loaded(w, index, p, ids[src], offset, size, signed)
        if result.nullable:
            vals[dst] = result
            ids[dst] = w.new_id()
            return following
        if p.kind != BTF:
            # How far a member is trusted depends on more than the pointer.
            memo[p] = result
        vals[dst] = result
        ids[dst] = 0
        return following

    def step(vals: list[Any], ids: list[int]) -> int:
        result = memo.get(vals[src])
        if result is None:
            return slow(vals, ids)
        vals[dst] = result
        ids[dst] = 0
        return following

    return w.guarded(index, demands, step)


def build_store(w: Walk, index: int, insn: Instruction) -> Step:
    """ST, STX and store-release."""
    demands = obligations.of(insn)
    following = index + 1
    dst, src, offset, size = int(insn.dst), int(insn.src), insn.off, insn.op.size
    from_register = insn.op.source == "reg"
    constant = None if from_register else w.values.constant(to_unsigned(insn.imm, 64))
    proved = w.values.new_memo()
    elsewhere = w.values.new_memo()
    frames = w.values.new_memo()  # pointers to the stack that were proved, with their frame
    seen = _SeenKinds()
    writes = w.stack_liveness.note_write

    def slow(vals: list[Any], ids: list[int]) -> int:
        p = vals[dst]
        if p not in proved or (from_register and vals[src] is None):
            check.prove(w, index, demands)
            seen.note(index, p)
            proved[p] = True
        elif p.kind == STACK and (p.var.const != 0 or w.state.frames[p.target].depth < -(p.off + offset)):
            check.prove(w, index, demands)
        if p.kind != STACK:
            kept = field_at(w, p, offset)
            if kept is not None:
                kptrs.prove_store(w, index, insn, kept)
                writes(w.frame.chain, index, 0, 0)
                return following
            elsewhere[p] = True
            return step(vals, ids)
        if p.var.const == 0:
            frames[p] = p.target
        if from_register:
            stack.spill(w, index, p, offset, size, vals[src], ids[src], src)
        else:
            stack.spill(w, index, p, offset, size, constant, 0, -1)
        return following

    def step(vals: list[Any], ids: list[int]) -> int:
        p = vals[dst]
        value = vals[src] if from_register else constant
        if value is None:
            return slow(vals, ids)
        if p in elsewhere:
            chain = w.frame.chain
            if chain.writes.get(index, chain) is not None:
                writes(chain, index, 0, 0)
            return following
        number = frames.get(p)
        if number is None:
            return slow(vals, ids)
        frame = w.state.frames[number]
        at = p.off + offset
        if frame.depth < -at:
            return slow(vals, ids)
        if from_register:
            stack.spill_at(w, index, frame, at, size, value, ids[src], src)
        else:
            stack.spill_at(w, index, frame, at, size, value, 0, -1)
        return following

    return w.guarded(index, demands, step)


def build_atomic(w: Walk, index: int, insn: Instruction) -> Step:
    """Read-modify-write: the memory is read and written, the old value may come back in a register."""
    demands = obligations.of(insn)
    following = index + 1
    dst, src, offset, size = int(insn.dst), int(insn.src), insn.off, insn.op.size
    operation = insn.op.operation
    returns = 0 if operation == "cmpxchg" else src if operation.startswith("fetch") or operation == "xchg" else -1
    seen = _SeenKinds()

    def step(vals: list[Any], ids: list[int]) -> int:
        check.prove(w, index, demands)
        p = vals[dst]
        seen.note(index, p)
        value: Any
        if p.kind == STACK:
            value, identity = stack.fill(w, index, p, offset, size, -1, False)
            if returns >= 0:
                value, identity = stack.fill(w, index, p, offset, size, returns, False)
            stack.spill(w, index, p, offset, size, None, 0, -1)
        else:
            kept = field_at(w, p, offset)
            if kept is not None:
                kptrs.prove_store(w, index, insn, kept)
            w.stack_liveness.note_write(w.frame.chain, index, 0, 0)
            value, identity = _loaded(w, index, p, ids[dst], offset, size, False), 0
        if returns >= 0:
            vals[returns] = value
            ids[returns] = identity
            if returns == dst:
                # The write is judged by what the address register holds by then: an unknown number.
                message = f"misaligned access off (0x0; 0xffffffffffffffff)+0+{offset} size {size}"
                raise Rejection("misaligned-access", message, index=index, register=dst)
        return following

    return w.guarded(index, demands, step)


def _callback(w: Walk, index: int) -> Subprogram:
    """The function whose address is loaded: a static one, whose type the kernel was told."""
    place = w.code.targets[index]
    assert place is not None
    if not has_function_types(w.code.spec):
        raise Rejection("btf-mismatch", "missing btf func_info", index=index)
    function = w.code.subprogram_at(place)
    if function.is_global:
        raise Rejection("invalid-call", "callback function not static", index=index)
    return function


def _symbol(w: Walk, index: int) -> Any:
    """What a wide load of a symbol of the kernel yields."""
    symbol = w.code.symbols[index]
    if symbol.missing:
        return w.values.zero
    if symbol.target is not None:
        return w.values.pointer(BTF, symbol.target)
    return w.values.unknown if symbol.size is None else w.values.pointer(MEM, symbol.size, readonly=True)


def build_wide(w: Walk, index: int, insn: Instruction) -> Step:
    """Wide loads: numbers, maps, and addresses of global data."""
    demands = obligations.of(insn)
    following = index + 1
    dst = int(insn.dst)
    operation = insn.op.operation
    target = w.code.maps[index]
    if operation == "imm":
        value: Any = w.values.constant(to_unsigned(insn.imm, 64))
    elif operation == "func" and check.prove_static(index, demands) is not None:
        value = None
    elif operation == "func":
        value = w.values.pointer(FUNC, _callback(w, index))
    elif operation == "var":
        value = _symbol(w, index)
    elif target is None:
        raise Unmodelled(f"wide loads of kind {operation}", index=index)
    elif target.spec.type == "arena" and operation in ("map_value", "map_idx_value"):
        value = w.values.unknown
    elif operation in ("map_value", "map_idx_value"):
        offset = insn.ref.offset if isinstance(insn.ref, MapValueRef) else insn.imm >> 32
        value = w.values.pointer(MAP_VALUE, target, offset)
    else:
        value = w.values.pointer(MAP_PTR, target)

    def step(vals: list[Any], ids: list[int]) -> int:
        vals[dst] = value
        ids[dst] = 0
        return following

    return w.guarded(index, demands, step)


def build_packet_load(w: Walk, index: int, insn: Instruction) -> Step:
    """The old LD_ABS and LD_IND: R6 is the context, the result comes in R0, the path may end instead."""
    demands = obligations.of(insn)
    following = index + 1

    def step(vals: list[Any], ids: list[int]) -> int:
        check.prove(w, index, demands)
        if len(w.state.frames) > 1 or w.frame.function.number:
            raise Unmodelled("LD_ABS and LD_IND in functions", index=index)
        context = vals[6]
        if context.is_scalar or context.kind != CTX:
            message = "at the time of BPF_LD_ABS|IND R6 != pointer to skb"
            raise Rejection("execution-context", message, index=index, register=6)
        check.check_unmoved(index, 6, context)
        for register in range(6):
            vals[register] = None
            ids[register] = 0
        vals[0] = w.values.unknown
        return following

    return w.guarded(index, demands, step)
