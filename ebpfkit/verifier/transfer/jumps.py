"""Jumps: deciding them, splitting the path, and what each side learns about every copy of the operands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ebpfkit._bits import U32_MAX, U64_MAX, to_signed, to_unsigned
from ebpfkit.asm.insn import Instruction
from ebpfkit.verifier import check, obligations
from ebpfkit.verifier.domain import arithmetic
from ebpfkit.verifier.domain.objects import BTF
from ebpfkit.verifier.domain.pointer import (
    AT_END,
    BEYOND_END,
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
from ebpfkit.verifier.domain.scalar import Bounds, Scalar
from ebpfkit.verifier.objects import is_trusted
from ebpfkit.verifier.refine import FLIPPED, NEGATED, decide, refine
from ebpfkit.verifier.special import LOCKS
from ebpfkit.verifier.state import ID_MASK, LINK32, LINK64, SPILL, Frame, Slot, State, link_offset

if TYPE_CHECKING:
    from ebpfkit.verifier.explore import Step, Walk

__all__ = ["build_goto", "build_jump", "build_may_goto", "resolve_null"]

_LINKS = LINK32 | LINK64
_MAX_LINKED = 6
_MAX_PACKET = 0xFFFF
_NEVER_NULL = {MAP_VALUE, MEM, OPAQUE, MAP_PTR, BTF}
_TESTS = ("jeq", "jne")


def build_goto(w: Walk, index: int, insn: Instruction) -> Step:
    """An unconditional jump."""
    demands = obligations.of(insn)
    target = w.code.targets[index]
    assert target is not None

    def step(vals: list[Any], ids: list[int]) -> int:
        return target

    return w.guarded(index, demands, step)


def build_may_goto(w: Walk, index: int, insn: Instruction) -> Step:
    """A jump that the kernel bounds by itself: falling through is pushed, and walking goes on with the jump."""
    demands = obligations.of(insn)
    target = w.code.targets[index]
    assert target is not None
    if not insn.off and "may-goto-anywhere" not in w.behaviours:
        demands = [obligations.FieldsClear("invalid may_goto off 0 imm 0")]

    def step(vals: list[Any], ids: list[int]) -> int:
        earlier = w.find_open(index, w.state.parent.depth) if w.state.parent is not None else None
        twin = w.push(index + 1, index)
        twin.goto_depth += 1
        if earlier is not None:
            w.widen(earlier, twin)
        return target

    return w.guarded(index, demands, step)


def build_jump(w: Walk, index: int, insn: Instruction) -> Step:
    """A conditional jump."""
    demands = obligations.of(insn)
    following = index + 1
    target = w.code.targets[index]
    assert target is not None
    operation, width, dst = insn.op.operation, insn.op.width, int(insn.dst)
    src = int(insn.src) if insn.op.source == "reg" else -1
    constant = None if src >= 0 else w.values.constant(to_unsigned(to_signed(insn.imm, 32), 64))
    # Per pair of operands (the left one alone, beside a constant): the side when it is decided, else what both sides
    # know of both operands, or how pointers part.
    memo = w.values.new_memo()

    def split(vals: list[Any], ids: list[int], known: Any) -> int:
        """Both sides may happen and both operands are numbers."""
        left_id, right_id = ids[dst], ids[src] if src >= 0 else 0
        if not left_id and not right_id:
            other = w.push(target, index).frames[-1]
            if src >= 0 and src != dst:
                vals[src] = known[1]
                other.vals[src] = known[3]
            vals[dst] = known[0]
            other.vals[dst] = known[2]
            return following
        linked: list[tuple[int, int]] = []
        if right_id:
            collect_linked(w, index, right_id, linked)
        if ids[dst]:
            collect_linked(w, index, ids[dst], linked)
        if len(linked) > 1:
            w.record(index).linked = tuple(linked)
        left_id, right_id = ids[dst], ids[src] if src >= 0 else 0
        twin = w.push(target, index)
        other = twin.frames[-1]
        vals[dst] = known[0]
        other.vals[dst] = known[2]
        if src >= 0:
            if src != dst:
                vals[src] = known[1]
                other.vals[src] = known[3]
            if right_id and len(linked) > 1:
                spread(w, w.state, src, linked)
                spread(w, twin, src, linked)
        if left_id and len(linked) > 1:
            spread(w, w.state, dst, linked)
            spread(w, twin, dst, linked)
        return following

    def slow(vals: list[Any], ids: list[int]) -> int:
        left = vals[dst]
        right: Any = constant if constant is not None else vals[src]
        if left is None or right is None:
            check.prove(w, index, demands)
        known: Any = None
        if left.is_scalar and right.is_scalar:
            known = _decide_numbers(w, operation, width, left, right, dst == src)
        elif width == 64:
            known = _known_parting(w, index, operation, dst, src, left, right, target)
        if known is None:
            return _compare_pointers(w, index, insn, operation, width, dst, src, left, right, target)
        memo[left if constant is not None else (left, right)] = known
        return step(vals, ids) if constant is None else step_constant(vals, ids)

    def step(vals: list[Any], ids: list[int]) -> int:
        known = memo.get((vals[dst], vals[src]))
        if known is None:
            return slow(vals, ids)
        if known is True or known is False:
            precision = w.precision
            precision.demand_register(w.state, index, dst)
            precision.demand_register(w.state, index, src)
            return target if known else following
        return split(vals, ids, known) if known.__class__ is tuple else known.part(w, vals, ids)

    def step_constant(vals: list[Any], ids: list[int]) -> int:
        known = memo.get(vals[dst])
        if known is None:
            return slow(vals, ids)
        if known is True or known is False:
            w.precision.demand_register(w.state, index, dst)
            return target if known else following
        return split(vals, ids, known) if known.__class__ is tuple else known.part(w, vals, ids)

    return w.guarded(index, demands, step if constant is None else step_constant)


def _decide_numbers(w: Walk, operation: str, width: int, left: Scalar, right: Scalar, same: bool) -> Any:
    """The side that is taken, or what is known of both operands on either: (left, right) behind and at the target."""
    taken = decide(operation, width, left, right)
    if taken is not None:
        return taken
    values = w.values
    stay = refine(NEGATED[operation], width, left, right, same)
    go = refine(operation, width, left, right, same)
    return values.scalar(stay[0]), values.scalar(stay[1]), values.scalar(go[0]), values.scalar(go[1])


def _known_parting(
    w: Walk, index: int, operation: str, dst: int, src: int, left: Any, right: Any, target: int
) -> NullTest | PacketTest | None:
    """The frequent comparisons of pointers, 64 bits wide, whose outcome their values alone decide."""
    if src < 0:
        plain = left.kind == MAP_VALUE and left.nullable and right.const == 0 and operation in _TESTS
        return None if not plain or keeps_identity(w, left) else NullTest(w, index, operation, dst, left, target)
    if left.is_scalar or right.is_scalar or _decide_packet(operation, left, right) is not None:
        return None
    if _is_measured(left, right):
        return PacketTest(w, index, operation, dst, left, target)
    if _is_measured(right, left):
        return PacketTest(w, index, FLIPPED.get(operation, ""), src, right, target)
    return None


# --- copies of a number ---------------------------------------------------------------------------------------------


def collect_linked(w: Walk, index: int, identity: int, linked: list[tuple[int, int]]) -> None:
    """Where numbers with this id stand: (frame, register or -1 - slot). Beyond six places the surplus lose their id.

    Registers that nothing reads any more do not count, where the kernel knows them.
    """
    identity &= ID_MASK
    place_of_frame = index
    for frame in reversed(w.state.frames):
        vals, ids = frame.vals, frame.ids
        live = w.live[place_of_frame] if w.live is not None else 0x3FF
        place_of_frame = frame.site
        for register in range(10):
            word = ids[register]
            if (
                word
                and word & ID_MASK == identity
                and live >> register & 1
                and vals[register] is not None
                and vals[register].is_scalar
            ):
                place = (frame.number, register)
                if len(linked) < _MAX_LINKED:
                    linked.append(place)
                else:
                    ids[register] = 0
        same = [(number, slot) for number, slot in frame.slots.items() if slot.id and slot.id & ID_MASK == identity]
        for number, slot in sorted(same) if len(same) > 1 else same:
            if slot.types[0] == SPILL:
                value = slot.value
                if value is None or not value.is_scalar:
                    continue
                place = (frame.number, -1 - number)
                if len(linked) < _MAX_LINKED:
                    linked.append(place)
                else:
                    frame.set_slot(number, Slot(slot.types, value, 0))


def spread(w: Walk, state: State, register: int, linked: list[tuple[int, int]]) -> None:
    """What is now known of `register` holds for its copies too, at their distance."""
    frame = state.frames[-1]
    known, identity = frame.vals[register], frame.ids[register]
    for number, place in linked:
        owner = state.frames[number]
        if place >= 0:
            if owner is frame and place == register:
                continue
            result = _copied(w, known, identity, owner.vals[place], owner.ids[place])
            if result is not None:
                owner.vals[place], owner.ids[place] = result
        else:
            slot = owner.slots[-1 - place]
            result = _copied(w, known, identity, slot.value, slot.id)
            if result is not None:
                owner.set_slot(-1 - place, Slot(slot.types, result[0], result[1]))


def _copied(w: Walk, known: Any, identity: int, value: Any, mine: int) -> tuple[Any, int] | None:
    if value is None or not value.is_scalar or (mine ^ identity) & ID_MASK:
        return None
    both = mine & _LINKS, identity & _LINKS
    if both[0] and both[1] and both[0] != both[1]:
        return None  # a 32-bit distance and a 64-bit one do not compose
    if (not both[0] and not both[1]) or link_offset(mine) == link_offset(identity):
        return known, identity
    distance = link_offset(mine) - link_offset(identity)
    width = 32 if (mine | identity) & LINK32 else 64
    key = (known, distance, width)
    found = w.distance_memo.get(key)
    if found is None:
        constant = w.values.constant(distance & U64_MAX)
        if "linked-differences" in w.behaviours:
            shifted = arithmetic.compute("add", 64, known, constant)
        else:
            shifted = arithmetic.add_loosely(known, constant)
        if width == 32:
            shifted = _add32(known, distance)
        found = w.distance_memo[key] = w.values.scalar(shifted)
    return found, mine


def _add32(known: Scalar, distance: int) -> Bounds:
    constant = Scalar(Bounds.constant(distance & U64_MAX).key)
    return arithmetic.compute("add", 32, known, constant)


# --- pointers -------------------------------------------------------------------------------------------------------


def _compare_pointers(
    w: Walk,
    index: int,
    insn: Instruction,
    operation: str,
    width: int,
    dst: int,
    src: int,
    left: Any,
    right: Any,
    target: int,
) -> int:
    never_null = not (left.kind == BTF and not is_trusted(w, left, w.ids[dst]))
    if src >= 0 and right.kind == BTF:
        never_null = is_trusted(w, right, w.ids[src])
    taken = None
    if _is_decidable(w, width, left, right):
        taken = _decide_pointers(operation, width, left, right, never_null)
    if taken is not None:
        if left.is_scalar:
            w.precision.demand_register(w.state, index, dst)
        if src >= 0 and right.is_scalar:
            w.precision.demand_register(w.state, index, src)
        return target if taken else index + 1
    if src >= 0 and (left.kind == STACK or right.kind == STACK):
        w.record(index).stack_operands |= (left.kind == STACK) | (right.kind == STACK) << 1
    elif left.kind == STACK:
        w.record(index).stack_operands |= 1
    linked: list[tuple[int, int]] = []
    for register, value in ((src, right), (dst, left)):
        if register >= 0 and value.is_scalar and w.ids[register]:
            collect_linked(w, index, w.ids[register], linked)
    if len(linked) > 1:
        w.record(index).linked = tuple(linked)
    twin = w.push(target, index)
    here, there = w.state, twin
    # A pointer to a structure of the kernel may be null whatever its type says.
    pointers = not left.is_scalar and not right.is_scalar and BTF not in (left.kind, right.kind)
    pointers = pointers and "null-by-comparison" in w.behaviours
    if width == 64 and src >= 0 and operation in _TESTS and pointers and left.nullable != right.nullable:
        equal = there if operation == "jeq" else here
        _drop_null(w, equal.frames[-1], dst if left.nullable else src)
    if width == 64 and src < 0 and insn.imm == 0 and operation in _TESTS and left.nullable:
        resolve_null(w, here, dst, operation == "jne")
        resolve_null(w, there, dst, operation == "jeq")
    return index + 1


def _is_decidable(w: Walk, width: int, left: Any, right: Any) -> bool:
    """Whether this kernel asks at all if the pointer can be null."""
    if width == 32 and "pointer-zero-32-undecided" in w.behaviours:
        return False
    if "null-by-pointer-kind" in w.behaviours:
        return True
    if not left.is_scalar and not right.is_scalar:
        return True  # a packet and its end
    return bool(right.is_scalar and (left.kind == MAP_VALUE or left.kind == OPAQUE))


def _decide_pointers(operation: str, width: int, left: Any, right: Any, never_null: bool) -> bool | None:
    if not left.is_scalar and not right.is_scalar:
        return _decide_packet(operation, left, right) if width == 64 else None
    pointer, number = (right, left) if left.is_scalar else (left, right)
    limit = U64_MAX if width == 64 else U32_MAX
    if number.mask & limit or number.value & limit:
        return None
    # 32-bit operands that are no numbers are never decided by anything else.
    if (
        pointer.nullable
        or pointer.kind not in _NEVER_NULL
        or operation not in _TESTS
        or pointer.target == "xdp_sock"
        or not never_null
    ):
        return None
    return operation == "jne"


def _decide_packet(operation: str, left: Pointer, right: Pointer) -> bool | None:
    if right.kind == PACKET_END and left.kind == PACKET:
        packet = left
    elif left.kind == PACKET_END and right.kind == PACKET:
        packet, operation = right, FLIPPED.get(operation, operation)
    else:
        return None
    if packet.range >= 0:
        return None
    if operation in ("jle", "jgt") and packet.range == BEYOND_END:
        return operation == "jgt"
    if operation in ("jlt", "jge"):
        return operation == "jge"
    return None


class NullTest:
    """The test of a map value that may be null, at one jump: the path parts."""

    __slots__ = ("following", "index", "is_null_there", "present", "register", "target")

    def __init__(self, w: Walk, index: int, operation: str, register: int, tested: Pointer, target: int) -> None:
        self.index = index
        self.following = index + 1
        self.target = target
        self.register = register
        self.is_null_there = operation == "jeq"
        self.present = non_null(w, tested)

    def part(self, w: Walk, vals: list[Any], ids: list[int]) -> int:
        """Push the side of the jump, go on with the other."""
        register = self.register
        word = ids[register]
        state = w.state
        twin = w.push(self.target, self.index)
        if not 0 < word <= ID_MASK or not _stands_once(state, word):
            resolve_null(w, state, register, not self.is_null_there)
            resolve_null(w, twin, register, self.is_null_there)
            return self.following
        other = twin.frames[-1]
        ids[register] = other.ids[register] = 0
        if self.is_null_there:
            vals[register], other.vals[register] = self.present, w.values.zero
        else:
            vals[register], other.vals[register] = w.values.zero, self.present
        return self.following


def _stands_once(state: State, word: int) -> bool:
    """Whether only one register, and no slot, has this identity."""
    count = 0
    for frame in state.frames:
        count += frame.ids.count(word)
        for slot in frame.slots.values():
            if slot.id == word:
                return False
    return count == 1


class PacketTest:
    """A comparison with the packet's end (or of metadata with its start) at one jump: it proves bytes on one side."""

    __slots__ = (
        "following", "index", "inside_here", "kind", "outside", "proved", "raised", "register", "target",
    )  # fmt: skip

    def __init__(self, w: Walk, index: int, operation: str, register: int, measured: Pointer, target: int) -> None:
        """It reads `measured operation end`."""
        self.index = index
        self.following = index + 1
        self.target = target
        self.register = register
        self.kind = measured.kind
        self.inside_here = operation in ("jgt", "jge")
        open_end = operation in ("jge", "jlt")
        self.proved = -1  # bytes behind the packet's start, -1: nothing is learnt
        self.raised: dict[Any, Any] = {}  # pointers of this kind, and what they are with so many bytes proved
        self.outside: Any = None  # what is known of the pointer where the packet is too short
        if operation not in ("jgt", "jge", "jlt", "jle"):
            return
        fits = measured.var.umax <= _MAX_PACKET and measured.var.umax + measured.off <= _MAX_PACKET
        if fits and (measured.off > 0 or (not measured.off and not open_end)):
            self.proved = measured.off + open_end
        if measured.kind == PACKET:
            self.outside = w.values.with_range(measured, AT_END if open_end else BEYOND_END)

    def part(self, w: Walk, vals: list[Any], ids: list[int]) -> int:
        """Push the side of the jump, go on with the other."""
        state = w.state
        twin = w.push(self.target, self.index)
        inside, outside = (state, twin) if self.inside_here else (twin, state)
        if self.proved >= 0:
            self._prove_range(w, inside, ids[self.register])
        if self.outside is not None:
            outside.frames[-1].vals[self.register] = self.outside
        return self.following

    def _prove_range(self, w: Walk, state: State, identity: int) -> None:
        """Pointers of this kind and identity have so many bytes behind the packet's start."""
        kind, proved, raised = self.kind, self.proved, self.raised
        for frame in state.frames:
            vals, ids = frame.vals, frame.ids
            for number, value in enumerate(vals):
                if value is not None and value.kind == kind and ids[number] == identity and value.range < proved:
                    vals[number] = raised.get(value) or self._raise(w, value)
            places = [number for number, slot in frame.slots.items() if slot.id == identity and slot.types[0] == SPILL]
            for number in places:
                slot = frame.slots[number]
                value = slot.value
                if value is not None and value.kind == kind and value.range < proved:
                    value = raised.get(value) or self._raise(w, value)
                    frame.set_slot(number, Slot(slot.types, value, slot.id))

    def _raise(self, w: Walk, value: Pointer) -> Pointer:
        found = self.raised[value] = w.values.with_range(value, self.proved)
        return found


def _is_measured(p: Any, end: Any) -> bool:
    if p.kind == PACKET:
        return bool(end.kind == PACKET_END)
    return bool(p.kind == PACKET_META and end.kind == PACKET and not end.off and end.var.const == 0)


def _drop_null(w: Walk, frame: Frame, register: int) -> None:
    value = frame.vals[register]
    frame.vals[register] = non_null(w, value)
    if not keeps_identity(w, value):
        frame.ids[register] &= ~ID_MASK


def keeps_identity(w: Walk, p: Pointer) -> bool:
    """Whether it matters which value this is after the null test too: one with a lock in it."""
    if p.kind == BTF:
        return bool(p.target.local) and any(field.kind in LOCKS for field in w.object_fields(p.target))
    return p.kind == MAP_VALUE and p.target.spec.inner is None and w.lock_of(p.target.spec) is not None


def non_null(w: Walk, p: Pointer) -> Any:
    """What the pointer is once it is known not to be null."""
    if p.kind == MAP_VALUE:
        spec = p.target.spec
        if spec.inner is not None:
            return w.values.pointer(MAP_PTR, w.inner_target(p.target))
        if spec.type == "xskmap":
            return w.values.pointer(OPAQUE, "xdp_sock")
        if spec.type in ("sockmap", "sockhash"):
            return w.values.pointer(OPAQUE, "sock")
    return w.values.non_null(p)


def _holders(state: State) -> Iterator[tuple[Frame, int, Any, int]]:
    """Every pointer in the state: (frame, register or -1 - slot, value, identity)."""
    for frame in state.frames:
        for register in range(10):
            value = frame.vals[register]
            if value is not None and not value.is_scalar:
                yield frame, register, value, frame.ids[register]
        for number, slot in list(frame.slots.items()):
            if slot.types[0] == SPILL and slot.value is not None and not slot.value.is_scalar:
                yield frame, -1 - number, slot.value, slot.id


def resolve_null(w: Walk, state: State, register: int, is_null: bool) -> None:
    """The null test of `register` decided: every copy by id becomes zero, or loses its doubt."""
    word = state.frames[-1].ids[register]
    identity, reference = word & ID_MASK, word >> 32
    if is_null and reference and reference == identity:
        state.references = tuple(held for held in state.references if held[0] != reference)
    for frame, place, value, mine in _holders(state):
        if not value.nullable or mine & ID_MASK != identity:
            continue
        result: Any
        if is_null:
            result, new_id = w.values.zero, 0
        else:
            result = non_null(w, value)
            new_id = mine if keeps_identity(w, value) else mine & ~ID_MASK
        if place >= 0:
            frame.vals[place], frame.ids[place] = result, new_id
        else:
            slot = frame.slots[-1 - place]
            frame.set_slot(-1 - place, Slot(slot.types, result, new_id))
