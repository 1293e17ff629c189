"""The JIT: the interpreter's programs as native code, with the interpreter behind it.

Belongs here: linking and compiling programs, entering native code and what comes back from it. Native code and the
interpreter share one state: registers, budget, frames. So native code may stop anywhere between two instructions and
the interpreter goes on, which is how faults, the end of the budget and odd entries keep the interpreter's meaning to
the letter. Does not belong here: what instructions become (`jit_emit`), and LLVM itself (`ebpfkit.llvm`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from operator import length_hint
from typing import TYPE_CHECKING, Any, Final

from ebpfkit._bits import U64_MAX, to_signed
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.errors import NotSupported
from ebpfkit.maps.base import MemoryStore
from ebpfkit.maps.native import layout_of
from ebpfkit.vm.arena import ArenaWindow
from ebpfkit.vm.contexts import Context, Part
from ebpfkit.vm.interpreter import FRAME_BYTES, MAX_FRAMES, MAX_LOOPS, Interpreter
from ebpfkit.vm.jit_emit import Emitter, MapPlace, Target
from ebpfkit.vm.jit_flow import OTHER, UNKNOWN, Fact, Flow, Linked, calls_back, walk
from ebpfkit.vm.jit_text import FINISHED, FRAME_WORDS, OUT_OF_BUDGET, RETURNED, STOPPED, TAIL, State
from ebpfkit.vm.kfuncs_registry import Thrown
from ebpfkit.vm.memory import MemoryFault
from ebpfkit.vm.native_memory import NativeRegion, NativeSpace, SafeSpace, TrustedSpace, place_of
from ebpfkit.vm.steps import written_register

if TYPE_CHECKING:
    from ebpfkit.llvm.native import NativeModule
    from ebpfkit.vm.machine import Machine

__all__ = ["MODES", "Jit", "Unit", "native_space"]

MODES: Final = ("safe", "trusted")
_R10 = 10
_NO_BUDGET = (1 << 62) - 1
_Slow = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
_Program = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)


def native_space(mode: str) -> NativeSpace:
    """The address space for a mode of the JIT."""
    return SafeSpace() if mode == "safe" else TrustedSpace()


class Unit:
    """A linked program and, once it has been entered, its native code. `speed` is LLVM's level, as in -O2."""

    speed = 2

    def __init__(self, linked: Linked) -> None:
        self.linked = linked
        self.entries: frozenset[int] = frozenset()
        self.function: Any = None
        self.text = ""
        self._module: NativeModule | None = None

    def compile(self, text: str, entries: Sequence[int]) -> None:
        from ebpfkit.llvm.native import compile_native

        self.text = text
        self._module = compile_native(text, speed=self.speed)
        self.function = _Program(self._module.address("program"))
        self.entries = frozenset(entries)

    @property
    def address(self) -> int:
        """Where its native code is."""
        assert self._module is not None
        return self._module.address("program")


class Jit(Interpreter):
    """The interpreter, with native code for whole programs."""

    def __init__(self, machine: Machine, space: NativeSpace) -> None:
        super().__init__(machine)
        self.machine = machine
        self.space = space
        self.trusted = space.trusted
        self._units: list[Unit] = []
        self._words: Any = (ctypes.c_uint64 * State.WORDS)()
        self.state = ctypes.addressof(self._words)
        self.walking: Callable[[], int] | None = None
        self._walked = 0
        self._pending: BaseException | None = None
        self._context_start = 0
        self._fields: dict[Part, int] = {}
        self._maps: dict[int, MapPlace | None] = {}
        self._slow_callback = _Slow(self._slow)
        block = bytearray(FRAME_BYTES * MAX_FRAMES)
        whole = memoryview(block)
        self.stack_place, self._stack_held = place_of(block)
        for depth, region in enumerate(self._stack):
            region.data = whole[depth * FRAME_BYTES : (depth + 1) * FRAME_BYTES]
            region.set_window(0, FRAME_BYTES)

    # Linking and compiling.

    def link(self, instructions: Sequence[Instruction]) -> int:
        base = super().link(instructions)
        end = len(self._code) - 1
        table = {
            slot: insn
            for slot in range(base, end)
            if (insn := self.instructions[slot]) is not None
            and (slot == base or self.instructions[slot - 1] is not insn or insn.slots == 1)
        }
        targets = self.machine.symbols.targets.get(base, set())
        inside = tuple(sorted(target for target in targets if base <= target < end))
        self._units.append(Unit(Linked(base, end, self._without_halves(table), inside)))
        return base

    @staticmethod
    def _without_halves(table: dict[int, Instruction]) -> dict[int, Instruction]:
        kept: dict[int, Instruction] = {}
        skip = -1
        for slot, insn in table.items():
            if slot == skip:
                continue
            kept[slot] = insn
            skip = slot + 1 if insn.slots == 2 else -1
        return kept

    def unit_of(self, slot: int) -> Unit:
        """The linked program that a slot belongs to."""
        return next(unit for unit in self._units if unit.linked.base <= slot <= unit.linked.end)

    def prepare(self, unit: Unit) -> None:
        """Compile a program now, not when it is first entered."""
        if unit.function is None:
            text, flow = self.emit(unit)
            unit.compile(text, flow.entries)

    def emit(self, unit: Unit) -> tuple[str, Flow]:
        """The LLVM IR of a program, and what was found out about it."""
        arena = self._arena()
        constants: dict[int, int] = {}
        facts: dict[int, Fact] = {}
        bad: set[int] = set()
        for slot, insn in unit.linked.instructions.items():
            if self._is_fault(insn) or (insn.op.kind is Kind.ADDR_SPACE and arena is None):
                bad.add(id(insn))
            elif insn.op.kind is Kind.WIDE:
                try:
                    constants[slot], facts[id(insn)] = self._constant_of(unit.linked, slot, insn)
                except (MemoryFault, NotSupported):
                    bad.add(id(insn))
        first = Fact("context") if self.machine.context is not None else OTHER
        start = (*(OTHER,), first, *(OTHER,) * 8, Fact("stack"))
        flow = walk(unit.linked, start, lambda insn: facts[id(insn)], lambda insn: id(insn) in bad)
        emitter = Emitter(unit.linked, flow, self._target(arena), constants, lambda insn: id(insn) in bad)
        return emitter.module(), flow

    def _is_fault(self, insn: Instruction) -> bool:
        """Instructions that always stop: their steps say why."""
        if insn.dst > _R10 or insn.src > _R10 or insn.op.kind is Kind.INVALID:
            return True
        return written_register(insn) == _R10

    def _constant_of(self, linked: Linked, slot: int, insn: Instruction) -> tuple[int, Fact]:
        operation = insn.op.operation
        if operation == "imm":
            return insn.imm & U64_MAX, OTHER
        if operation in ("map_fd", "map_idx"):
            address = self.machine.map_address(insn) & U64_MAX
            store = self.memory.store_at(address)
            return address, Fact("map", self._register_map(store))
        if operation in ("map_value", "map_idx_value"):
            address = self.machine.map_value_address(insn) & U64_MAX
            region = self.memory.find(address)
            if region is not None and isinstance(region.fields, ArenaWindow):
                return address, UNKNOWN
            if region is None or not self.space.is_kept(region):  # an offset may lead to some other region
                return address, OTHER
            return address, Fact("place", region.base, address - region.base)
        if operation == "var":
            return self.machine.variable_address(insn) & U64_MAX, OTHER
        target = linked.target(slot, to_signed(insn.imm, 32))
        return self.function_address(target) & U64_MAX, OTHER

    def _register_map(self, store: MemoryStore) -> int:
        """Give a native store its slot; the number by which facts name it."""
        if store.id not in self._maps:
            layout = layout_of(store)
            slot = self.space.register_store(store, layout) if layout is not None else None
            self._maps[store.id] = None if layout is None or slot is None else MapPlace(store, layout, slot)
        return store.id

    def _arena(self) -> ArenaWindow | None:
        try:
            return self.machine.arena
        except NotSupported:  # the instructions that need it say so
            return None

    def _target(self, arena: ArenaWindow | None) -> Target:
        callback = ctypes.cast(self._slow_callback, ctypes.c_void_p).value
        assert callback is not None
        safe = self.space if isinstance(self.space, SafeSpace) else None
        return Target(
            trusted=self.trusted,
            order=self.memory.order,
            stack=self.stack_place,
            stack_base=self._stack[0].base,
            slow=callback,
            table=safe.table_address if safe else 0,
            stores=self.space.stores_address,
            fields=self.space.fields_address if isinstance(self.space, TrustedSpace) else 0,
            arity=self._arity,
            place=self._place,
            field=self._field,
            map=self._maps.get,
            has_stores=bool(self.space.slots),
            arena=arena,
            functions=self.function_address(0),
        )

    def _arity(self, number: int) -> int:
        found = self.machine.helper(number)
        return 0 if found is None else found[1]

    def _place(self, address: int) -> tuple[int, int, int] | None:
        region = self.memory.find(address)
        if not isinstance(region, NativeRegion) or region.low or not region.place:
            return None
        return region.place, region.high, region.write_high

    def _field(self, offset: int, size: int) -> int | None:
        """The word of the state that holds a field of the context, cut to its size."""
        context = self.machine.context
        if context is None:
            return None
        try:
            part = context.find(offset, size, "read")
        except MemoryFault:
            return None
        if part.place:
            return _PLACES[part.place]
        if part.is_refused or not part.readable:
            return None
        word = self._fields.get(part)
        if word is None:
            if len(self._fields) >= State.FIELD_COUNT:
                return None
            word = self._fields[part] = State.FIELDS + len(self._fields)
            self._words[word] = context.value_of(part)
        return word

    # Running.

    def run(self, start: int, arguments: Sequence[int], budget: int) -> tuple[int, int]:
        if self.trace is not None:
            return super().run(start, arguments, budget)
        words = self._words
        words[0:11] = [0] * 11
        words[1 : 1 + len(arguments)] = arguments
        self._stack[0].data[:] = bytes(FRAME_BYTES)
        self._budget = budget
        words[State.LEFT] = _NO_BUDGET if self.trusted else budget
        words[State.DEPTH] = 1
        words[State.FRAMES] = 0
        words[State.FRAMES + 5] = MAX_LOOPS
        words[State.CPU] = self.machine.cpu
        self.publish_context()
        try:
            self._enter_native(start)
        except Thrown as thrown:
            words[0] = thrown.cookie
        return int(words[0]), self.executed

    def call(self, function: int, *arguments: int) -> int:
        if self.trace is not None or self._interpreting:
            return super().call(function, *arguments)
        words = self._words
        depth = words[State.DEPTH]
        if depth >= MAX_FRAMES:
            raise MemoryFault(f"call stack of more than {MAX_FRAMES} frames", "stack")
        record = State.FRAMES + depth * FRAME_WORDS
        words[record] = 0
        words[record + 1 : record + 5] = words[6:10]
        words[record + 5] = MAX_LOOPS
        words[State.DEPTH] = depth + 1
        words[1 : 1 + len(arguments)] = [argument & U64_MAX for argument in arguments]
        self._stack[depth].data[:] = bytes(FRAME_BYTES)
        self._enter_native(function)
        words[6:10] = words[record + 1 : record + 5]
        return int(words[0])

    _interpreting = False

    def _enter_native(self, slot: int) -> None:
        """Run native code from `slot` until the frame that is on top now returns."""
        words = self._words
        while True:
            unit = self.unit_of(slot)
            first = unit.linked.instructions.get(slot)
            if unit.function is None and (first is None or self._is_fault(first)):
                self._interpret(slot)  # it stops here: not worth compiling
                return
            self.prepare(unit)
            is_start = slot == unit.linked.base
            if slot not in unit.entries or (is_start and not self._starts_well()):
                self._interpret(slot)
                return
            status = unit.function(self.state, slot)
            if self._is_over(status):
                return
            slot = words[State.NEXT]

    def _is_over(self, status: int) -> bool:
        """What native code answered: False when it is to be entered again, at the next slot."""
        if status == STOPPED:
            problem, self._pending = self._pending, None
            assert problem is not None
            raise problem
        if status == OUT_OF_BUDGET:
            self._interpret(self._words[State.NEXT])
            return True
        assert status in (FINISHED, TAIL, RETURNED)
        return bool(status == FINISHED)

    @property
    def executed(self) -> int:
        """How many instructions the run has executed; 0 in trusted code, which does not count."""
        if self.trace is not None:
            return super().executed
        return 0 if self.trusted else self._budget - int(self._words[State.LEFT])

    # What loops in native code need.

    def budget_of(self, budget: int) -> int:
        """The budget as native code counts it."""
        return _NO_BUDGET if self.trusted else budget

    def finish(self, status: int) -> None:
        """Bring a run to its end that native code could not finish."""
        self._adopt()
        try:
            if not self._is_over(status):
                self._enter_native(self._words[State.NEXT])
        except Thrown as thrown:
            self._words[0] = thrown.cookie

    def result(self) -> int:
        """r0 of the last run."""
        return int(self._words[0])

    def left(self) -> int:
        """What the last run left of its budget."""
        return int(self._words[State.LEFT])

    def packet(self) -> bytes:
        """The packet of the last run."""
        self._adopt()
        return self.machine.frame.packet

    def _adopt(self) -> None:
        """In a walk over a capture, native code sets packets up: what Python knows about them follows."""
        if self.walking is None:
            return
        number = self.walking()
        if number != self._walked:
            self._walked = number
            self.machine.start_run()
        frame, words = self.machine.frame, self._words
        base = frame.region.base
        edges = [(place - base) & U64_MAX for place in words[State.DATA : State.DATA_META + 1]]
        if edges != [frame.data, frame.data_end, frame.data_meta]:
            frame.data, frame.data_end, frame.data_meta = edges
            frame.region.set_window(frame.data_meta, frame.data_end)

    def _starts_well(self) -> bool:
        """Whether r1 is what the code of a program takes it for at its start."""
        context = self.machine.context
        return context is None or self._words[1] == context.region.base

    def _interpret(self, slot: int) -> None:
        """The interpreter goes on here, and gives its state back when the frame on top returns."""
        words = self._words
        self.registers[:11] = words[:11]
        depth = words[State.DEPTH]
        self.frames = []
        for at in range(depth):
            record = State.FRAMES + at * FRAME_WORDS
            back, *kept = words[record : record + 5]
            r10 = self._stack[max(at - 1, 0)].base + FRAME_BYTES
            self.frames.append((back, kept[0], kept[1], kept[2], kept[3], r10))
            self.loops[at + 1] = words[record + 5]
        self.registers[_R10] = self._stack[depth - 1].base + FRAME_BYTES
        self._steps = iter(range(words[State.LEFT]))
        was, self._interpreting = self._interpreting, True
        try:
            self._execute(slot)
        finally:
            self._interpreting = was
            words[State.LEFT] = length_hint(self._steps)
        words[:11] = self.registers[:11]
        words[State.DEPTH] = len(self.frames)

    def _slow(self, state: int, slot: int) -> int:
        """One instruction that native code does not do: called from there. Returns what to do next."""
        try:
            return self._step(slot)
        except MemoryFault as fault:
            try:
                self._stop(fault, slot)
            except BaseException as problem:
                self._pending = problem
        except BaseException as problem:  # whatever it is, it has to get past native code
            self._pending = problem
        return STOPPED

    def _step(self, slot: int) -> int:
        words, registers = self._words, self.registers
        insn = self.instructions[slot]
        registers[:11] = words[:11]
        if self.walking is not None:
            self._adopt()
        if insn is not None and insn.op.kind is Kind.PACKET and not self._is_fault(insn):
            return self._load_packet(insn)
        if insn is not None and insn.op.name == "CALL_LOCAL":
            self.frames = [(0, 0, 0, 0, 0, 0)] * words[State.DEPTH]
        following = self._code[slot](registers)
        if insn is not None and calls_back(insn):
            words[0] = registers[0]
        else:
            words[:11] = registers[:11]
        self.publish_context()
        assert insn is not None
        if following == slot + insn.slots and insn.op.kind is not Kind.GOTO_INDIRECT:
            return FINISHED
        words[State.NEXT] = following
        return TAIL

    def _load_packet(self, insn: Instruction) -> int:
        words = self._words
        index = words[insn.src] if insn.op.operation == "ind" else 0
        value = self.machine.packet_word(words[6], to_signed(insn.imm + index, 32), insn.op.size)
        words[0] = value or 0
        return RETURNED if value is None else FINISHED

    def publish_context(self) -> None:
        """Tell generated code where the packet is and what the fields of the context hold."""
        context: Context | None = self.machine.context
        if context is None:
            return
        words, frame = self._words, self.machine.frame
        base = frame.region.base
        words[State.DATA : State.DATA_META + 1] = [base + frame.data, base + frame.data_end, base + frame.data_meta]
        for part, word in self._fields.items():
            words[word] = context.value_of(part)


_PLACES: Final = {
    "data": State.DATA,
    "data_end": State.DATA_END,
    "data_meta": State.DATA_META,
}
