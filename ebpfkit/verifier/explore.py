"""The walk: depth first over every path, with checkpoints, pruning and loop detection where the kernel has them.

`Walk` holds what one verification needs; the steps built by `transfer/` work on its current frame. The order of paths,
the places and the frequency of checkpoints and their eviction follow the kernel, because they decide how many
instructions are walked, and the limit on those decides verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from ebpfkit.abi import limits
from ebpfkit.abi.licenses import GPL_COMPATIBLE
from ebpfkit.abi.model import Effect, FieldResult, HelperSpec, HostProfile, ProgTypeSpec
from ebpfkit.abi.versions import BEHAVIOURS, is_at_least, is_in_force
from ebpfkit.asm.isa import Kind
from ebpfkit.elf.model import MapSpec
from ebpfkit.verifier import causes, check, functions, special, unprivileged
from ebpfkit.verifier.attach import SLEEPABLE, check_attachment, make_context, return_range_of, returns_nothing
from ebpfkit.verifier.checkpoints import Checkpoints
from ebpfkit.verifier.domain.objects import BTF, TRUSTED, Object
from ebpfkit.verifier.domain.older import scalar_type
from ebpfkit.verifier.domain.pointer import CTX, STACK, MapTarget
from ebpfkit.verifier.domain.values import Values
from ebpfkit.verifier.instruction_set import unknown_when_walked
from ebpfkit.verifier.liveness import StackLiveness, compute_loops, compute_register_liveness
from ebpfkit.verifier.objects import Objects
from ebpfkit.verifier.obligations import FieldsClear, Obligation
from ebpfkit.verifier.precision import Precision
from ebpfkit.verifier.program import JUMP_CLASS, JUMP_POINT, PRUNE_POINT, Code, Subprogram
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.state import SPILL, Checkpoint, Frame, History, Note, Slot, State
from ebpfkit.verifier.states import NOT_EXACT, Comparison, IdMap
from ebpfkit.verifier.transfer import alu, calls, jumps, kfuncs, memory
from ebpfkit.verifier.transfer.calls import ENDED
from ebpfkit.verifier.typed_context import TypedContext

__all__ = ["Step", "Walk"]

Step = Callable[[list[Any], list[int]], int]

_STRICT_ALIGNMENT = 1 << 0


class Walk:
    """One verification of a program: its main function, then each global function that a walk reached."""

    def __init__(
        self, code: Code, prog_type: ProgTypeSpec, profile: HostProfile, allowed: frozenset[int], max_insns: int
    ) -> None:
        spec = code.spec
        self.code = code
        self.profile = profile
        self.behaviours = frozenset(name for name in BEHAVIOURS if is_in_force(name, profile.kernel))
        if not profile.privileged:
            self.behaviours -= unprivileged.MISSING
        self.prog_type = prog_type
        self.allowed = allowed
        self.max_insns = max_insns
        self.values = Values(scalar_type=scalar_type(profile.kernel))
        code.live = compute_register_liveness(code)
        self.comparison = Comparison(self.values, profile.privileged, code.live)
        code.loops = compute_loops(code)
        # Registers live before each instruction, for kernels whose links leave the dead ones out.
        self.live = code.live if is_in_force("dead-registers-unlinked", profile.kernel) else None
        self.precision = Precision(code, "precision-over-calls" in self.behaviours)
        self.stack_liveness = StackLiveness(code)
        self.strict_alignment = bool(spec.flags & _STRICT_ALIGNMENT)
        self.is_gpl = spec.license in GPL_COMPATIBLE
        self.big_endian = spec.big_endian
        self.objects = Objects(self)
        check_attachment(spec, prog_type, profile.kernel)
        self.sleepable = bool(spec.flags & SLEEPABLE)
        self._context = make_context(code, prog_type, self.values, "whole-arguments" in self.behaviours)
        self.return_range = return_range_of(spec, prog_type, self._context, "hook-returns" in self.behaviours)
        self.returns_nothing = returns_nothing(prog_type, self._context)
        self.narrow_memo = self.values.new_memo()
        self.distance_memo = self.values.new_memo()
        self.sum_memo = self.values.new_memo()
        self._inner: dict[MapTarget, MapTarget] = {}
        self._object_fields: dict[int, tuple[special.SpecialField, ...]] = {}
        self._special: dict[int, tuple[special.SpecialField, ...]] = {}
        self._ids = 0
        self.next = 0
        self.processed = 0
        self._pending: list[tuple[State, int]] = []
        self.checkpoints = Checkpoints(code, self.comparison, self.precision, self.stack_liveness)
        if "exact-infinite-loop" not in self.behaviours:
            self.checkpoints.same = NOT_EXACT
        self.masked: dict[int, tuple[Any, ...]] = {}  # without privilege: how speculation is kept in bounds
        self.mispredicts = False  # without privilege: a branch was decided
        self.prototypes: dict[int, tuple[functions.Parameter, ...]] = {}
        self.function_effects: dict[int, frozenset[Effect]] = {}
        self.inlined: dict[int, Subprogram | None] = {}  # calls of bpf_loop that the kernel may turn into loops
        self.called: set[int] = set()  # global functions that a walk reached a call of
        self._begin(code.subprograms[0])
        self.walked = bytearray(len(code.insns))
        self.steps: list[Step] = [self._lazy(index) for index in range(len(code.insns))]
        # Steps from an instruction to the next one with a flag, where all of them were walked before.
        self._runs: list[tuple[Step, ...] | None] = [None] * len(code.insns)

    # -- what transfer needs ---------------------------------------------------------------------------------------

    def new_id(self) -> int:
        self._ids += 1
        return self._ids

    def guarded(self, index: int, demands: Sequence[Obligation], step: Step) -> Step:
        """`step`, or one that always rejects when an obligation fails whatever the state is."""
        failure = check.prove_static(index, demands)
        if failure is None:
            return step

        def reject(vals: list[Any], ids: list[int]) -> int:
            check.prove(self, index, demands)
            raise failure

        return reject

    def may_call(self, helper: HelperSpec) -> bool:
        return helper.id in self.allowed

    def context_pointer(self, offset: int) -> Any:
        """What a load of a context field that is a typed pointer yields."""
        if isinstance(self._context, TypedContext):
            return self._context.pointer(offset)
        return self.values.pointer(BTF, self.objects.kernel_object(self._context.struct_at(offset), TRUSTED))

    def field_name(self, offset: int) -> str:
        """The name of the context's field at the offset, "" for none."""
        if isinstance(self._context, TypedContext):
            return ""
        fields = self._context.spec.fields
        return next((f.name for f in fields if f.offset <= offset < f.offset + f.size * f.count), "")

    def in_rcu(self) -> bool:
        """Whether objects protected by RCU stay alive here: everywhere but in sleepable programs."""
        return not self.sleepable or self.state.lock is not None or self.state.rcu > 0

    def object_fields(self, target: Object) -> tuple[special.SpecialField, ...]:
        """The special fields of an object of the program's own type."""
        btf = self.code.spec.btf
        if not target.local or btf is None:
            return ()
        found = self._object_fields.get(target.type_id)
        if found is None:
            fields = special.fields_of(btf, target.type_id)
            found = tuple(field for field in fields if field.kind not in special.ONLY_IN_MAPS)
            self._object_fields[target.type_id] = found
        return found

    def context_access(self, index: int, offset: int, size: int, write: bool) -> FieldResult | None:
        return self._context.access(offset, size, write)

    def stores_constant(self, index: int) -> bool:
        op = self.code.insns[index].op
        return op.kind is Kind.STORE and op.source != "reg"

    def is_update(self, index: int) -> bool:
        return self.code.insns[index].op.kind is Kind.ATOMIC

    def inner_target(self, outer: MapTarget) -> MapTarget:
        """The map that a map of maps holds."""
        found = self._inner.get(outer)
        if found is None:
            inner = outer.spec.inner
            assert inner is not None
            found = self._inner[outer] = MapTarget(-1, inner)
        return found

    def special_fields(self, spec: MapSpec) -> tuple[special.SpecialField, ...]:
        """The locks and timers in the values of a map."""
        found = self._special.get(id(spec))
        if found is None:
            found = self._special[id(spec)] = special.special_fields(
                spec, self.code.spec.btf, self.profile.kernel, self.code.kernel_btf
            )
        return found

    def lock_of(self, spec: MapSpec) -> special.SpecialField | None:
        """The spin lock in the values of a map."""
        return next((field for field in self.special_fields(spec) if field.kind in special.LOCKS), None)

    def push(self, target: int, previous: int) -> State:
        """A copy of the current state that will be walked from `target` later."""
        twin = self.state.copy()
        parent = twin.parent
        if parent is not None:
            parent.branches += 1
        twin.previous = previous
        pending = self._pending
        if len(pending) < limits.MAX_PENDING:
            pending.append((twin, target))
        else:
            self.push_state(twin, target, previous)
        return twin

    def push_state(self, state: State, target: int, previous: int, what: str = "") -> None:
        """A state that will be walked from `target` later."""
        state.previous = previous
        self._pending.append((state, target))
        if len(self._pending) > limits.MAX_PENDING:
            message = f"The sequence of {len(self._pending)} jumps is too complex{what}."
            raise Rejection("too-complex", message, index=previous)

    def record(self, index: int) -> Note:
        """The path's note for this instruction, new if there is none yet."""
        history = self.state.history
        if history is None or history.index != index:
            note = Note(history, index, index - 1)
        elif isinstance(history, Note):
            return history
        else:
            note = Note(history.before, index, history.previous)
        self.state.history = note
        return note

    def record_stack(self, index: int, frame: int, slot: int) -> None:
        """The instruction stored or filled a spilled register."""
        history = self.state.history
        if history is None or history.index != index:
            self.state.history = Note(history, index, index - 1, frame, slot)
            return
        entry = self.record(index)
        entry.frame = frame
        entry.slot = slot

    def find_open(self, index: int, depth: int) -> Checkpoint | None:
        """The latest checkpoint at this place on the current path with fewer than `depth` checkpoints above it."""
        return self.checkpoints.find_open(index, self.frame, depth)

    def widen(self, earlier: Checkpoint, state: State) -> None:
        """Numbers that changed since `earlier` and that nothing relied on become unknown, so that loops converge."""
        ids = IdMap()
        for number, (old, new) in enumerate(zip(earlier.frames, state.frames)):
            registers, slots = earlier.marks[number]
            for register in range(10):
                was, now = old.vals[register], new.vals[register]
                if was is None or now is None or not was.is_scalar or not now.is_scalar or registers >> register & 1:
                    continue
                if was is not now or not ids.match_exact(old.ids[register], new.ids[register]):
                    new.vals[register], new.ids[register] = self.values.unknown, 0
            for place, slot in list(new.slots.items()):
                before = old.slots.get(place)
                if before is None or before.types[0] != SPILL or slot.types[0] != SPILL or slots >> place & 1:
                    continue
                was, now = before.value, slot.value
                if was is None or now is None or not was.is_scalar or not now.is_scalar:
                    continue
                if was is not now or not ids.match_exact(before.id, slot.id):
                    new.set_slot(place, Slot(slot.types, self.values.unknown, 0))

    def update_stack_liveness(self) -> None:
        """Let what was seen of the stack flow backwards through every function on the path."""
        update = self.stack_liveness.update
        for frame in reversed(self.state.frames):
            update(frame.chain)

    @property
    def waiting(self) -> int:
        """How many paths are still to be walked."""
        return len(self._pending)

    def release(self) -> None:
        """Let go of everything: steps refer to each other and to the walk, and would keep it for the collector."""
        self.values.release()
        self.__dict__.clear()

    # -- building ----------------------------------------------------------------------------------------------------

    def _begin(self, function: Subprogram) -> None:
        """The state in which the function is walked on its own; states stored for other functions are gone."""
        frame = Frame(0, function, -1, self.stack_liveness.root(function))
        if function.number:
            parameters = functions.prototype_of(self, function)
            if function is self.code.handler:
                functions.check_handler(parameters)
            functions.enter_global(self, frame, parameters)
        else:
            frame.vals[1] = self.values.pointer(CTX)
        frame.vals[10] = self.values.pointer(STACK, 0)
        self.state = State([frame])
        self.state.first = function.start
        self.frame = frame
        self.vals = frame.vals
        self.ids = frame.ids
        self.checkpoints.forget()

    def _lazy(self, index: int) -> Step:
        """A step that builds the real one when the walk first gets there."""

        def first(vals: list[Any], ids: list[int]) -> int:
            self.walked[index] = 1
            step = self.steps[index] = self._build(index)
            return step(vals, ids)

        return first

    def _run_from(self, index: int) -> tuple[Step, ...] | None:
        """The steps of the straight line that begins here, None while one of them waits for its first visit."""
        flags, walked = self.code.flags, self.walked
        end = index
        while not flags[end]:
            if not walked[end]:
                return None
            end += 1
        run = self._runs[index] = tuple(self.steps[index:end])
        return run

    def _build(self, index: int) -> Step:
        insn = self.code.insns[index]
        unknown = unknown_when_walked(insn.op, self.profile.kernel)
        if unknown:
            return self.guarded(index, [FieldsClear(unknown)], lambda vals, ids: index + 1)
        builder = _BUILDERS.get(insn.op.kind)
        if insn.op.kind is Kind.CALL:
            builder = _CALL_BUILDERS.get(insn.op.operation)
        if builder is None:
            if insn.op.kind is Kind.INVALID:
                return self._undefined(index, insn.imm)
            raise Unmodelled(f"instruction {insn.op.name}", index=index)
        step: Step = builder(self, index, insn)
        return step if self.profile.privileged else unprivileged.guarded(self, index, insn, step)

    def _undefined(self, index: int, bits: int) -> Step:
        code, imm = bits & 0xFF, bits >> 32
        klass = code & 7
        if klass in (0, 1, 2, 3):
            atomic = klass == 3 and code & 0xE0 == 0xC0
            message = (
                f"BPF_ATOMIC uses invalid atomic opcode {imm & 0xFF:02x}" if atomic else f"unknown opcode {code:02x}"
            )
            rule = "unknown-opcode"
        else:
            is_jump = klass in (5, 6)
            name = _FIELD_NAMES.get((is_jump, code & 0xF0), "BPF_JMP/JMP32" if is_jump else "BPF_ALU")
            message, rule = f"{name} uses reserved fields", "reserved-field"

        def reject(vals: list[Any], ids: list[int]) -> int:
            raise Rejection(rule, message, index=index)

        return reject

    # -- the walk ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Walk every path of every function that is verified apart; raises Rejection at the first violation."""
        self._run_function(self.code.subprograms[0])
        if not is_at_least(self.profile.kernel, functions.LAZY_SINCE):
            self.called.update(function.number for function in self.code.subprograms if function.is_global)
        if self.code.handler is not None:
            self.called.add(self.code.handler.number)
        done: set[int] = set()
        while todo := self.called - done:
            # Ascending, and what a walk newly reaches may wait for the next round: the kernel's order.
            for function in self.code.subprograms:
                if function.number in self.called and function.number not in done:
                    done.add(function.number)
                    self._begin(function)
                    self._run_function(function)
            assert todo <= done

    def _run_function(self, function: Subprogram) -> None:
        flags, steps, runs = self.code.flags, self.steps, self._runs
        limit = self.max_insns
        room = limit - len(flags)  # up to here the longest straight line fits into the limit
        processed = self.processed
        begun = -1  # where a straight line that is not finished began
        index, previous = function.start, -1
        state = self.state
        frame, vals, ids = self.frame, self.vals, self.ids
        checkpoints = self.checkpoints
        visit = checkpoints.visit
        try:
            while True:
                flag = flags[index]
                if not flag:
                    run = runs[index] or self._run_from(index)
                    if run is not None and processed < room:
                        begun = index
                        for step in run:
                            index = step(vals, ids)
                        processed += index - begun
                        begun = -1
                        previous = index - 1
                        continue
                processed += 1
                if processed > limit:
                    message = f"BPF program is too large. Processed {processed} insn"
                    raise Rejection("too-complex", message, index=index)
                if not flag:
                    following = steps[index](vals, ids)
                else:
                    state.previous = previous
                    if flag & PRUNE_POINT and visit(state, frame, index, flag, processed):
                        following = ENDED
                    else:
                        if flag & JUMP_POINT:
                            state.history = History(state.history, index, previous)
                        if flag & JUMP_CLASS:
                            checkpoints.jumps += 1
                        following = steps[index](vals, ids)
                if following >= 0:
                    previous = index
                    index = following
                    continue
                if following == ENDED:
                    self._end_path(state)
                    if not self._pending:
                        break
                    state, index = self._pending.pop()
                    self.state = state
                    previous = state.previous
                else:
                    previous = index
                    index = self.next
                frame = self.frame = state.frames[-1]
                vals = self.vals = frame.vals
                ids = self.ids = frame.ids
        finally:
            self.processed = processed if begun < 0 else processed + index - begun + 1

    def _end_path(self, state: State) -> None:
        """What the path read of the stack counts from now on, and the states above it have one branch less."""
        for frame in reversed(state.frames):
            if frame.chain.dirty:
                self.stack_liveness.update(frame.chain)
        parent = state.parent
        if parent is not None and parent.branches > 1:
            parent.branches -= 1
        else:
            self.checkpoints.finish(parent)

    def follow(self, function: Subprogram, path: Sequence[int]) -> list[causes.Seen]:
        """Walk one path again, up to but without its last instruction, in a walk of its own, and note every step."""
        twin = Walk(self.code, self.prog_type, self.profile, self.allowed, self.max_insns)
        twin._begin(function)
        seen: list[causes.Seen] = []
        for index, wanted in pairwise(path):
            state = twin.state
            state.parent, state.history, state.first = None, None, index
            depth, before = len(state.frames), twin.vals[:]
            following = twin.steps[index](twin.vals, twin.ids)
            if following < 0:
                following = twin.next if following != ENDED else -1
            if following != wanted:
                other = next((pushed for pushed, target in twin._pending if target == wanted), None)
                if other is None:
                    raise Rejection("other", "the path does not repeat", index=index)
                twin.state = other
            twin._pending.clear()
            twin.frame = twin.state.frames[-1]
            twin.vals, twin.ids = twin.frame.vals, twin.frame.ids
            seen.append(causes.Seen(index, depth, before, len(twin.state.frames), twin.vals[:]))
        return seen


_FIELD_NAMES = {
    (False, 0xB0): "BPF_MOV", (False, 0xD0): "BPF_END", (False, 0x80): "BPF_NEG",
    (True, 0x00): "BPF_JA", (True, 0x80): "BPF_CALL", (True, 0x90): "BPF_EXIT",
}  # fmt: skip
"""What the kernel calls an instruction with fields that it does not use: by class (a jump or not) and operation."""

_BUILDERS: dict[Kind, Callable[..., Step]] = {
    Kind.ALU: alu.build_alu,
    Kind.MOV: alu.build_move,
    Kind.MOVSX: alu.build_move_sign_extended,
    Kind.SWAP: alu.build_swap,
    Kind.ADDR_SPACE: alu.build_address_cast,
    Kind.LOAD: memory.build_load,
    Kind.LOADSX: memory.build_load,
    Kind.LOAD_ACQUIRE: memory.build_load,
    Kind.STORE: memory.build_store,
    Kind.STORE_RELEASE: memory.build_store,
    Kind.ATOMIC: memory.build_atomic,
    Kind.WIDE: memory.build_wide,
    Kind.PACKET: memory.build_packet_load,
    Kind.JUMP: jumps.build_jump,
    Kind.GOTO: jumps.build_goto,
    Kind.MAY_GOTO: jumps.build_may_goto,
    Kind.EXIT: calls.build_exit,
}
_CALL_BUILDERS: dict[str, Callable[..., Step]] = {
    "helper": calls.build_helper_call,
    "local": calls.build_local_call,
    "kfunc": kfuncs.build_kfunc_call,
}
