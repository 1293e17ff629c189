"""Moves, arithmetic and byte swaps.

Each builder makes the step of one instruction: a closure with a memo of its own, keyed by the operands' identity. What
is in the memo was proved and computed before; a miss goes through the obligations and the exact domain functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit._bits import U32_MAX, U64_MAX, to_signed, to_unsigned
from ebpfkit.abi import limits
from ebpfkit.asm.insn import Instruction
from ebpfkit.verifier import check, obligations
from ebpfkit.verifier.domain import arithmetic, tnum
from ebpfkit.verifier.domain.objects import ARENA, BTF, BUF, FLOW_KEYS, UNTRUSTED_MEM
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
    Pointer,
)
from ebpfkit.verifier.domain.scalar import Bounds, Scalar
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.state import ID_MASK, LINK32, LINK64, link

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Step, Walk

__all__ = ["build_address_cast", "build_alu", "build_move", "build_move_sign_extended", "build_swap"]

_FAR = limits.MAX_VARIABLE_OFFSET
_S64_MIN, _S64_MAX = -(1 << 63), (1 << 63) - 1
_LINKS = LINK32 | LINK64
_MOVABLE = {CTX, STACK, PACKET, PACKET_META, MAP_VALUE, MAP_KEY, MEM, FUNC, BTF, BUF, CONST_DYNPTR}
_INTO_ARENA, _OUT_OF_ARENA = 1, 1 << 16  # destination and source space, 16 bits each
_SYMBOLS = {
    "add": "+=", "sub": "-=", "mul": "*=", "div": "/=", "mod": "%=", "or": "|=", "and": "&=", "xor": "^=",
    "lsh": "<<=", "rsh": ">>=", "arsh": "s>>=", "sdiv": "/=", "smod": "%=",
}  # fmt: skip


def give_id(w: Walk, vals: list[Any], ids: list[int], register: int) -> None:
    """Make sure the number in `register` has an id that a copy can share; a linked one starts anew."""
    if ids[register] & _LINKS:
        ids[register] = 0
    if not ids[register] and vals[register].const is None:
        ids[register] = w.new_id()


def build_move(w: Walk, index: int, insn: Instruction) -> Step:
    """MOV of a register or an immediate, 64 and 32 bits wide."""
    demands = obligations.of(insn)
    following = index + 1
    dst, src = int(insn.dst), int(insn.src)
    if insn.op.source == "imm":
        number = w.values.constant(to_unsigned(insn.imm, insn.op.width))

        def move_number(vals: list[Any], ids: list[int]) -> int:
            vals[dst] = number
            ids[dst] = 0
            return following

        return w.guarded(index, demands, move_number)
    if insn.op.width == 64:

        def move(vals: list[Any], ids: list[int]) -> int:
            value = vals[src]
            if value is None:
                check.prove(w, index, demands)
            identity = ids[src]
            if value.is_scalar and (identity > ID_MASK or not identity):
                give_id(w, vals, ids, src)
                identity = ids[src]
            vals[dst] = value
            ids[dst] = identity
            return following

        return w.guarded(index, demands, move)
    memo = w.values.new_memo()
    linked = "moves-32-linked" in w.behaviours

    def move32(vals: list[Any], ids: list[int]) -> int:
        value = vals[src]
        result = memo.get(value)
        if result is None:
            check.prove(w, index, demands)
            result = w.values.scalar(arithmetic.move32(value)) if value.is_scalar else w.values.unknown_of(4)
            memo[value] = result
        if value.is_scalar and value.width <= 32 and linked:
            give_id(w, vals, ids, src)
            ids[dst] = ids[src]
        else:
            ids[dst] = 0
        vals[dst] = result
        return following

    return w.guarded(index, demands, move32)


def build_move_sign_extended(w: Walk, index: int, insn: Instruction) -> Step:
    """MOVSX: the low bytes of the source, sign-extended."""
    demands = obligations.of(insn)
    following = index + 1
    dst, src, size, width = int(insn.dst), int(insn.src), insn.op.size, insn.op.width
    positive = 1 << (8 * size - 1)
    memo = w.values.new_memo()

    def step(vals: list[Any], ids: list[int]) -> int:
        value = vals[src]
        result = memo.get(value)
        if result is None:
            check.prove(w, index, demands)
            if value.is_scalar:
                result = w.values.scalar(arithmetic.move_sign_extended(value, size, width))
            else:
                result = w.values.unknown if width == 64 else w.values.unknown_of(4)
            memo[value] = result
        if value.is_scalar and value.umax < positive:
            give_id(w, vals, ids, src)
            ids[dst] = ids[src]
        else:
            ids[dst] = 0
        vals[dst] = result
        return following

    return w.guarded(index, demands, step)


def build_swap(w: Walk, index: int, insn: Instruction) -> Step:
    """Byte swaps and truncations to a byte order."""
    demands = obligations.of(insn)
    following = index + 1
    dst, size = int(insn.dst), insn.op.size
    # To the machine's own order: only a truncation.
    swaps = insn.op.operation != ("to_be" if w.big_endian else "to_le")
    memo = w.values.new_memo()

    def step(vals: list[Any], ids: list[int]) -> int:
        value = vals[dst]
        result = memo.get(value)
        if result is None:
            check.prove(w, index, demands)
            if value.is_scalar:
                result = w.values.scalar(arithmetic.byte_swap(value, size, swaps))
            else:
                result = w.values.unknown
            memo[value] = result
        vals[dst] = result
        ids[dst] = 0
        return following

    return w.guarded(index, demands, step)


def build_address_cast(w: Walk, index: int, insn: Instruction) -> Step:
    """A cast between the address spaces of the program and of its arena."""
    demands = obligations.of(insn)
    following = index + 1
    dst, src, spaces = int(insn.dst), int(insn.src), insn.imm

    def step(vals: list[Any], ids: list[int]) -> int:
        if w.code.arena is None:
            message = "addr_space_cast insn can only be used in a program that has an associated arena"
            raise Rejection("arena-access", message, index=index)
        if spaces not in (_INTO_ARENA, _OUT_OF_ARENA):
            message = "addr_space_cast insn can only convert between address space 0 and 1"
            raise Rejection("arena-access", message, index=index)
        check.prove(w, index, demands)
        assert vals[src] is not None
        vals[dst] = w.values.pointer(ARENA) if spaces == _INTO_ARENA else w.values.unknown
        ids[dst] = 0
        return following

    return w.guarded(index, demands, step)


def build_alu(w: Walk, index: int, insn: Instruction) -> Step:
    """Arithmetic on numbers, and the little of it that pointers allow."""
    if insn.op.operation not in arithmetic.OPERATIONS:
        raise Unmodelled(f"operation {insn.op.name}", index=index)
    if insn.op.operation == "neg":
        return _build_negation(w, index, insn)
    if insn.op.source == "imm":
        return _build_immediate(w, index, insn)
    return _build_register(w, index, insn)


def _build_negation(w: Walk, index: int, insn: Instruction) -> Step:
    demands = obligations.of(insn)
    following = index + 1
    dst, width = int(insn.dst), insn.op.width
    memo = w.values.new_memo()

    def step(vals: list[Any], ids: list[int]) -> int:
        value = vals[dst]
        result = memo.get(value)
        if result is None:
            check.prove(w, index, demands)
            if value.is_scalar:
                result = w.values.scalar(arithmetic.compute("neg", width, value, value))
            else:
                result = w.values.unknown
            memo[value] = result
        vals[dst] = result
        ids[dst] = 0
        return following

    return w.guarded(index, demands, step)


def _linking(w: Walk, insn: Instruction) -> int | None:
    """The constant distance that the instruction puts between its operand and the result, None if it does not."""
    distance = to_signed(insn.imm, 32)
    if not _links_by(w, insn.op.operation, insn.op.width, distance):
        return None
    if insn.op.operation == "add":
        return distance
    if insn.op.operation == "sub" and distance != -(1 << 31):
        return -distance
    return None


def _forks(w: Walk, insn: Instruction, value: Scalar) -> bool:
    """Whether the operand is exactly "0 or all ones", where `and` and `or` with a constant split the path."""
    if "forked-masks" not in w.behaviours or insn.op.operation not in ("and", "or"):
        return False
    if insn.op.width == 64:
        return value.smin == -1 and value.smax == 0
    return value.s32_min == -1 and value.s32_max == 0


def _build_immediate(w: Walk, index: int, insn: Instruction) -> Step:
    demands = obligations.of(insn)
    following = index + 1
    dst, operation, width = int(insn.dst), insn.op.operation, insn.op.width
    constant = w.values.constant(to_unsigned(to_signed(insn.imm, 32), 64))
    distance = _linking(w, insn)
    memo = w.values.new_memo()
    moved = w.values.new_memo()

    def slow(vals: list[Any], ids: list[int]) -> int:
        value = vals[dst]
        if value is None:
            check.prove(w, index, demands)
        if value.is_scalar:
            if _forks(w, insn, value):
                value = fork_zero_or_ones(w, index, dst, width)
                vals[dst] = w.values.compute(operation, width, value, constant)
                ids[dst] = 0
                return following
            memo[value] = w.values.compute(operation, width, value, constant)
        elif value.kind == ARENA:
            return following  # whatever is computed, it stays inside
        else:
            result, fresh = move_pointer(w, index, insn, value, constant, dst)
            if result.is_scalar or fresh:
                vals[dst] = result
                ids[dst] = w.new_id() if fresh else 0
                return following
            moved[value] = result
        return step(vals, ids)

    def step(vals: list[Any], ids: list[int]) -> int:
        value = vals[dst]
        result = memo.get(value)
        if result is not None:
            vals[dst] = result
            identity = ids[dst]
            if identity:
                # A 32-bit sum says nothing of an upper half that it cuts off.
                if distance is None or identity & _LINKS or (width == 32 and value.width > 32):
                    ids[dst] = 0
                else:
                    ids[dst] = link(identity, distance, width)
            return following
        result = moved.get(value)
        if result is not None:
            vals[dst] = result
            return following
        return slow(vals, ids)

    return w.guarded(index, demands, step)


def _build_register(w: Walk, index: int, insn: Instruction) -> Step:
    demands = obligations.of(insn)
    following = index + 1
    dst, src, operation, width = int(insn.dst), int(insn.src), insn.op.operation, insn.op.width
    memo = w.values.new_memo()
    moved = w.values.new_memo()

    def with_pointer(vals: list[Any], ids: list[int]) -> int:
        left, right = vals[dst], vals[src]
        if left.kind == ARENA:
            return following  # whatever is computed, it stays inside
        if not left.is_scalar and not right.is_scalar:
            if operation == "sub":
                vals[dst] = w.values.unknown
                ids[dst] = 0
                return following
            message = f"R{dst} pointer {_SYMBOLS[operation]} pointer prohibited"
            raise Rejection("pointer-arithmetic", message, index=index, register=dst)
        reverse = left.is_scalar
        pointer, offset = (right, left) if reverse else (left, right)
        w.precision.demand_register(w.state, index, dst if reverse else src)
        key = (left, right)
        found = moved.get(key)
        if found is None:
            found = moved[key] = move_pointer(w, index, insn, pointer, offset, dst, reverse)
        result, fresh = found
        vals[dst] = result
        if result.is_scalar:
            ids[dst] = 0
        else:
            identity = ids[src] if reverse else ids[dst]
            ids[dst] = w.new_id() if fresh else identity
        return following

    def slow(vals: list[Any], ids: list[int]) -> int:
        left, right = vals[dst], vals[src]
        if left is None or right is None:
            check.prove(w, index, demands)
        if not left.is_scalar or not right.is_scalar:
            return with_pointer(vals, ids)
        if _is_constant(right, width) and _forks(w, insn, left):
            left = fork_zero_or_ones(w, index, dst, width)
            right = vals[src]
            vals[dst] = w.values.compute(operation, width, left, right)
            ids[dst] = 0
            return following
        memo[left, right] = w.values.compute(operation, width, left, right)
        return step(vals, ids)

    def step(vals: list[Any], ids: list[int]) -> int:
        left, right = vals[dst], vals[src]
        result = memo.get((left, right))
        if result is None:
            return slow(vals, ids)
        vals[dst] = result
        identity = ids[dst]
        if identity:
            ids[dst] = 0 if width == 32 and left.width > 32 else _linked(w, identity, right, operation, width)
        return following

    return w.guarded(index, demands, step)


def _is_constant(value: Scalar, width: int) -> bool:
    return value.const is not None if width == 64 else not value.mask & U32_MAX


def _links_by(w: Walk, operation: str, width: int, distance: int) -> bool:
    """Whether this kernel follows a number over such a sum."""
    if "linked-differences" in w.behaviours:
        return True
    return "linked-sums" in w.behaviours and operation == "add" and width == 64 and distance >= 0


def _linked(w: Walk, identity: int, right: Scalar, operation: str, width: int) -> int:
    """The identity of a sum with a constant register: linked at that distance, or none."""
    if operation not in ("add", "sub") or identity & _LINKS or not _is_constant(right, width):
        return 0
    number = to_signed(right.value, 64)
    if width == 64 and not -(1 << 31) <= number < 1 << 31:
        return 0
    distance = to_signed(number, 32)
    if not _links_by(w, operation, width, distance):
        return 0
    if operation == "sub":
        if distance == -(1 << 31):
            return 0
        distance = -distance
    return link(identity & ID_MASK, distance, width)


def fork_zero_or_ones(w: Walk, index: int, register: int, width: int) -> Scalar:
    """Split the path at an operand that is 0 or all ones: the pushed path has 0, this one all ones."""
    twin = w.push(index, index)
    frame = twin.frames[-1]
    frame.vals[register] = _half_known(w, frame.vals[register], 0, width)
    frame.ids[register] = 0
    w.vals[register] = _half_known(w, w.vals[register], U64_MAX, width)
    w.ids[register] = 0
    result = w.vals[register]
    assert isinstance(result, Scalar)
    return result


def _half_known(w: Walk, value: Scalar, number: int, width: int) -> Scalar:
    if width == 64:
        return w.values.constant(number)
    d = value.bounds()
    low = number & U32_MAX
    d.set_tnum(tnum.with_low32((d.value, d.mask), (low, 0)))
    d.u32_min = d.u32_max = low
    d.s32_min = d.s32_max = to_signed(low, 32)
    return w.values.scalar(d)


def _is_movable(p: Pointer, offset: Scalar, operation: str) -> bool:
    """Whether numbers may be added to a pointer of this kind."""
    if p.kind == FLOW_KEYS:
        return offset.const is not None
    return p.kind in _MOVABLE or (p.kind == MAP_PTR and offset.const == 0 and operation == "add")


def move_pointer(
    w: Walk, index: int, insn: Instruction, p: Pointer, offset: Scalar, dst: int, reverse: bool = False
) -> tuple[Any, bool]:
    """`p` plus or minus a number. Returns the result and whether it needs an id of its own."""
    operation = insn.op.operation
    if offset.smin > offset.smax or offset.umin > offset.umax:
        return w.values.unknown, False
    if insn.op.width == 32:
        if operation == "sub":
            return w.values.unknown, False
        message = f"R{dst} 32-bit pointer arithmetic prohibited"
        raise Rejection("pointer-arithmetic", message, index=index, register=dst)
    if p.nullable:
        message = f"R{dst} pointer arithmetic on {p.type_name()} prohibited, null-check it first"
        raise Rejection("null-map-value", message, index=index, register=dst)
    if p.kind == UNTRUSTED_MEM:
        return p, False
    if not _is_movable(p, offset, operation):
        message = f"R{dst} pointer arithmetic on {p.type_name()} prohibited"
        raise Rejection("pointer-arithmetic", message, index=index, register=dst)
    _check_sane(index, dst, p, offset, 0)
    _check_sane(index, dst, p, p.var, p.off)
    if operation == "add":
        result, fresh = _add(w, p, offset)
    elif operation == "sub":
        if reverse:
            message = f"R{dst} tried to subtract pointer from scalar"
            raise Rejection("pointer-arithmetic", message, index=index, register=dst)
        if p.kind == STACK:
            message = f"R{dst} subtraction from stack pointer prohibited"
            raise Rejection("pointer-arithmetic", message, index=index, register=dst)
        result, fresh = _subtract(w, p, offset)
    else:
        kind = "bitwise operator" if operation in ("and", "or", "xor") else "pointer arithmetic with"
        tail = "on pointer" if operation in ("and", "or", "xor") else "operator"
        message = f"R{dst} {kind} {_SYMBOLS[operation]} {tail} prohibited"
        raise Rejection("pointer-arithmetic", message, index=index, register=dst)
    _check_sane(index, dst, p, result.var, result.off)
    return result, fresh


def _check_sane(index: int, dst: int, p: Pointer, number: Scalar, fixed: int) -> None:
    """Offsets stay within what the verifier follows."""
    if -_FAR < number.smin < _FAR and -_FAR < fixed < _FAR and (number.const is None or number.smax < _FAR):
        return
    name = p.type_name()
    known = None if number.const is None else to_signed(number.const, 64)
    rule = "value-out-of-range"
    if known is not None and not -_FAR < known < _FAR:
        message = f"math between {name} pointer and {known} is not allowed"
    elif not -_FAR < fixed < _FAR:
        message = f"{name} pointer offset {fixed} is not allowed"
    elif number.smin == _S64_MIN:
        message = f"math between {name} pointer and register with unbounded min value is not allowed"
        rule = "unbounded-variable-offset"
    elif not -_FAR < number.smin < _FAR:
        message = f"value {number.smin} makes {name} pointer be out of bounds"
    else:
        return
    raise Rejection(rule, message, index=index, register=dst)


def _add(w: Walk, p: Pointer, offset: Scalar) -> tuple[Pointer, bool]:
    if offset.const is not None and -(1 << 31) <= p.off + offset.smin < 1 << 31:
        off = p.off + offset.smin
        return w.values.pointer(p.kind, p.target, off, p.var, p.range, p.nullable, p.readonly, p.record), False
    var = w.sum_memo.get((p.var, offset))
    if var is None:
        var = w.sum_memo[p.var, offset] = w.values.scalar(_sum_of_parts(p.var, offset))
    if p.kind in (PACKET, PACKET_META):
        return w.values.pointer(p.kind, p.target, p.off, var, 0, p.nullable, p.readonly, p.record), True
    return w.values.change(p, var=var), False


def _sum_of_parts(var: Scalar, offset: Scalar) -> Bounds:
    """The variable part of a pointer after a number is added: not quite the sum of two numbers."""
    d = Bounds(var.key)
    d.forget32()
    low, high = var.smin + offset.smin, var.smax + offset.smax
    d.smin, d.smax = (low, high) if low >= _S64_MIN and high <= _S64_MAX else (_S64_MIN, _S64_MAX)
    high = var.umax + offset.umax
    d.umin, d.umax = (var.umin + offset.umin, high) if high <= U64_MAX else (0, U64_MAX)
    d.set_tnum(tnum.add(var.tnum, offset.tnum))
    return d.sync()


def _subtract(w: Walk, p: Pointer, offset: Scalar) -> tuple[Pointer, bool]:
    if offset.const is not None and -(1 << 31) <= p.off - offset.smin < 1 << 31:
        return w.values.change(p, off=p.off - offset.smin), False
    d = Bounds(p.var.key)
    d.forget32()
    low, high = p.var.smin - offset.smax, p.var.smax - offset.smin
    d.smin, d.smax = (low, high) if low >= _S64_MIN and high <= _S64_MAX else (_S64_MIN, _S64_MAX)
    if p.var.umin < offset.umax:
        d.umin, d.umax = 0, U64_MAX
    else:
        d.umin, d.umax = p.var.umin - offset.umax, p.var.umax - offset.umin
    d.set_tnum(tnum.sub(p.var.tnum, offset.tnum))
    var = w.values.scalar(d.sync())
    if p.kind in (PACKET, PACKET_META):
        return w.values.change(p, var=var, range_=0 if offset.smin < 0 else p.range), True
    return w.values.change(p, var=var), False
