"""Bytecode to LLVM IR: one function for each linked program.

The function has a block for each leader, registers are variables, a local call pushes a record onto the frames of the
state and jumps, so that all control flow of a program stays in one function. What is rare or wrong is not translated:
the instruction is handed to the interpreter's step for its slot (`slow`), which does it or faults in the interpreter's
own words. Computing is in `jit_alu`, memory in `jit_access`, maps in `jit_maps`; running the result is `jit`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ebpfkit._bits import U32_MAX
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.elf.model import MapSpec
from ebpfkit.maps.base import ORDER, ByteOrder, MemoryStore
from ebpfkit.maps.native import Layout
from ebpfkit.vm import jit_access, jit_alu, jit_maps
from ebpfkit.vm.arena import TO_KERNEL, TO_USER, ArenaWindow
from ebpfkit.vm.interpreter import FRAME_BYTES, MAX_FRAMES, MAX_LOOPS
from ebpfkit.vm.jit_flow import Facts, Flow, Linked, calls_back
from ebpfkit.vm.jit_text import (
    FINISHED,
    FRAME_WORDS,
    METADATA,
    METADATA_LIKELY,
    OUT_OF_BUDGET,
    RETURNED,
    STOPPED,
    TAIL,
    State,
    Text,
)

__all__ = ["Emitter", "MapPlace", "Target"]

_SCRATCH = range(6)
_KEPT = range(6, 10)
_ALL = range(11)


@dataclass(frozen=True)
class MapPlace:
    """A native store as generated code sees it: its layout and its first slot in the address space."""

    store: MemoryStore
    layout: Layout
    slot: int

    @property
    def spec(self) -> MapSpec:
        return self.store.spec


@dataclass(frozen=True)
class Target:
    """What the code is for: addresses of this process, and what the machine knows about places.

    `fields` is where pointers to contexts and sockets are in trusted mode.

    `arena` is the programs' arena, `functions` the address that stands for slot 0.

    `stack` is the bottom of the frames in the process, `stack_base` what the program sees of it, `slow` the address of
    the function that does one instruction in Python, `place` gives (address in the process, bytes, writable bytes) of
    a constant address, `field` the word of the state that holds a field of the context (offset, size).
    """

    trusted: bool
    order: ByteOrder
    stack: int
    stack_base: int
    slow: int
    table: int
    stores: int
    fields: int
    arity: Callable[[int], int]
    place: Callable[[int], tuple[int, int, int] | None]
    field: Callable[[int, int], int | None]
    map: Callable[[int], MapPlace | None]
    has_stores: bool
    arena: ArenaWindow | None
    functions: int


class Emitter(Text):
    """Writes one program."""

    def __init__(
        self,
        linked: Linked,
        flow: Flow,
        target: Target,
        constants: dict[int, int],
        faults: Callable[[Instruction], bool],
    ) -> None:
        super().__init__()
        self.linked = linked
        self.flow = flow
        self.target = target
        self.is_swapped = target.order != ORDER
        self.constants = constants
        self.faults = faults
        self.needed: set[str] = set()
        self.returns: list[int] = []

    def module(self) -> str:
        """The text of the module with the function `program`."""
        slots = sorted(self.flow.facts)
        self.returns = [
            slot + 1
            for slot in slots
            if (insn := self.linked.instructions.get(slot)) is not None and insn.op.name == "CALL_LOCAL"
        ]
        self._head()
        for position, slot in enumerate(slots):
            falls = self._instruction(slot)
            following = slots[position + 1] if position + 1 < len(slots) else None
            if falls is not None:
                assert falls in self.flow.facts
                if falls != following or falls in self.flow.leaders:
                    self.go(f"L{falls}")
        body = "\n".join(self.lines)
        parts = [
            "define i64 @program(ptr noalias %st, i64 %entry) nounwind {",
            body,
            "}",
            *sorted(self.needed),
            _DECLARATIONS,
            METADATA,
            METADATA_LIKELY,
        ]
        return "\n".join(parts)

    def _head(self) -> None:
        self.label("begin")
        for register in _ALL:
            self.line(f"%r{register} = alloca i64")
        self.line("%left = alloca i64")
        self.line("%depth = alloca i64")
        self.line("%sp = alloca i64")
        self.line("%at = alloca i64")
        self.line("%before = alloca i64")
        self.fill(*range(10))
        self.line(f"store i64 {self.read(State.LEFT)}, ptr %left")
        self.line(f"store i64 {self.read(State.DEPTH)}, ptr %depth")
        self._place_frame(self.op("load i64, ptr %depth"))
        cases = " ".join(f"i64 {slot}, label %L{slot}" for slot in self.flow.entries)
        self.line(f"switch i64 %entry, label %nowhere [{cases}]")
        self.label("nowhere")
        self.line("unreachable")
        self.label("stop")
        self.line(f"ret i64 {STOPPED}")
        if not self.target.trusted:
            self._leave_poor()

    def _place_frame(self, depth: str) -> None:
        """Point r10 to the end of the frame of this depth (1 is the first)."""
        top = self.op(f"add i64 {self.op(f'mul i64 {depth}, {FRAME_BYTES}')}, {self.target.stack}")
        self.line(f"store i64 {top}, ptr %sp")
        if self.target.trusted:
            self.set(10, top)
            return
        number = self.op(f"shl i64 {self.op(f'sub i64 {depth}, 1')}, 32")
        self.set(10, self.op(f"add i64 {number}, {self.target.stack_base + FRAME_BYTES}"))

    # Blocks and the budget.

    def _instruction(self, slot: int) -> int | None:
        """One instruction; the slot that follows when control can get there."""
        if slot in self.flow.leaders:
            self.label(f"L{slot}")
            if not self.target.trusted:
                self._charge(slot)
        insn = self.linked.instructions.get(slot)
        if insn is None or self.faults(insn):
            self.spill(*range(1, 6))
            self._call_slow(slot)
            self.go("stop")
            return None
        return self._translate(slot, insn, self.flow.facts[slot])

    def _charge(self, slot: int) -> None:
        """Take the instructions of a block from the budget; where it does not suffice, the interpreter goes on."""
        count = 0
        at: int | None = slot
        while at is not None:
            count += 1
            insn = self.linked.instructions.get(at)
            if insn is None or self.faults(insn) or insn.op.kind in _ENDS or insn.op.name == "CALL_LOCAL":
                break
            at += insn.slots
            if at in self.flow.leaders or at not in self.flow.facts:
                break
        left = self.op("load i64, ptr %left")
        rest = self.op(f"sub i64 {left}, {count}")
        self.line(f"store i64 {rest}, ptr %left")
        self.line(f"store i64 {left}, ptr %before")
        self.line(f"store i64 {slot}, ptr %at")
        inside = self.name("in")
        self.branch(self.op(f"icmp sge i64 {rest}, 0"), inside, "poor", likely=True)
        self.label(inside)

    def _leave_poor(self) -> None:
        """The end of the budget, for all blocks: give everything back to Python, which goes on at the block's slot."""
        self.label("poor")
        self.spill(*_ALL)
        self.write(State.LEFT, self.op("load i64, ptr %before"))
        self.write(State.NEXT, self.op("load i64, ptr %at"))
        self.line(f"ret i64 {OUT_OF_BUDGET}")

    def turned(self, value: str, size: int) -> str:
        """A number from or for memory, when that is in the other byte order."""
        if not self.is_swapped or size == 1:
            return value
        return self.op(f"call i{size * 8} @llvm.bswap.i{size * 8}(i{size * 8} {value})")

    # Slow ways.

    def _call_slow(self, slot: int) -> str:
        function = f"inttoptr (i64 {self.target.slow} to ptr)"
        return self.op(f"call i64 {function}(ptr %st, i64 {slot})")

    def slow(self, slot: int, *, reads: tuple[int, ...] = (), writes: tuple[int, ...] = ()) -> None:
        """Do the instruction in Python: it reads and writes these registers."""
        self.spill(*reads)
        status = self._call_slow(slot)
        done = self.name("done")
        self.branch(self.op(f"icmp eq i64 {status}, {FINISHED}"), done, "stop", likely=True)
        self.label(done)
        self.fill(*writes)

    # Instructions.

    def _translate(self, slot: int, insn: Instruction, facts: Facts) -> int | None:
        kind, following = insn.op.kind, slot + insn.slots
        if kind in (Kind.ALU, Kind.MOV, Kind.MOVSX, Kind.SWAP):
            jit_alu.compute(self, insn, self.target.order)
        elif kind in jit_access.KINDS:
            jit_access.access(self, slot, insn, facts)
        elif kind is Kind.WIDE:
            self.set(insn.dst, self.constants[slot])
        elif kind is Kind.JUMP:
            condition = jit_alu.condition(self, insn)
            self.branch(condition, f"L{self.linked.target(slot, insn.off)}", f"L{following}")
            return None
        elif kind is Kind.GOTO:
            self.go(f"L{self.linked.target(slot, insn.off)}")
            return None
        elif kind is Kind.MAY_GOTO:
            self._may_goto(slot, insn)
            return None
        elif kind is Kind.EXIT:
            self._exit()
            return None
        elif kind is Kind.PACKET:
            self._packet(slot, insn)
        elif kind is Kind.ADDR_SPACE:
            self._cast(slot, insn)
        elif kind is Kind.GOTO_INDIRECT:
            self._goto_indirect(slot, insn)
            return None
        elif insn.op.name == "CALL_LOCAL":
            self._call_local(slot, insn)
            return None
        else:
            self._call_helper(slot, insn, facts)
        return following

    def _may_goto(self, slot: int, insn: Instruction) -> None:
        depth = self.op("load i64, ptr %depth")
        index = self.op(f"add i64 {self.op(f'mul i64 {depth}, {FRAME_WORDS}')}, {State.FRAMES - FRAME_WORDS + 5}")
        loops = self.read(index)
        more = self.name("more")
        self.branch(self.op(f"icmp eq i64 {loops}, 0"), f"L{self.linked.target(slot, insn.off)}", more)
        self.label(more)
        self.write(index, self.op(f"sub i64 {loops}, 1"))
        self.go(f"L{slot + 1}")

    def _cast(self, slot: int, insn: Instruction) -> None:
        """Between the two forms of an arena pointer."""
        window = self.target.arena
        if window is None or insn.imm not in (TO_KERNEL, TO_USER):
            self.slow(slot, reads=(int(insn.src),), writes=(int(insn.dst),))
            return
        low = self.op(f"and i64 {self.get(insn.src)}, {U32_MAX}")
        if insn.imm == TO_USER and window.converts:
            whole = self.op(f"or i64 {low}, {window.high}")
            low = self.op(f"select i1 {self.op(f'icmp eq i64 {low}, 0')}, i64 0, i64 {whole}")
        self.set(insn.dst, low)

    def _goto_indirect(self, slot: int, insn: Instruction) -> None:
        """To one of the slots that the program's arrays name; what else the register holds is Python's to judge."""
        other = self.name("other")
        cases = " ".join(f"i64 {target}, label %L{target}" for target in self.linked.targets)
        target = self.op(f"sub i64 {self.get(insn.dst)}, {self.target.functions}")
        self.line(f"switch i64 {target}, label %{other} [{cases}]")
        self.label(other)
        self.spill(*_ALL)
        self.write(State.LEFT, self.op("load i64, ptr %left"))
        status = self._call_slow(slot)
        self.line(f"ret i64 {status}")

    def _record(self, depth: str) -> str:
        """The first word of the frame record at this depth (0 is the first)."""
        return self.op(f"add i64 {self.op(f'mul i64 {depth}, {FRAME_WORDS}')}, {State.FRAMES}")

    def _call_local(self, slot: int, insn: Instruction) -> None:
        depth = self.op("load i64, ptr %depth")
        enter, full = self.name("enter"), self.name("full")
        self.branch(self.op(f"icmp ult i64 {depth}, {MAX_FRAMES}"), enter, full, likely=True)
        self.label(full)
        self._call_slow(slot)
        self.go("stop")
        self.label(enter)
        record = self._record(depth)
        self.write(record, slot + 1)
        for place, register in enumerate(_KEPT, 1):
            self.write(self.op(f"add i64 {record}, {place}"), self.get(register))
        self.write(self.op(f"add i64 {record}, 5"), MAX_LOOPS)
        deeper = self.op(f"add i64 {depth}, 1")
        self.line(f"store i64 {deeper}, ptr %depth")
        self.write(State.DEPTH, deeper)
        self._place_frame(deeper)
        target = self.linked.target(slot, insn.imm)
        if not self.target.trusted:
            bottom = self.pointer(self.op(f"sub i64 {self.op('load i64, ptr %sp')}, {FRAME_BYTES}"))
            self.line(f"call void @llvm.memset.p0.i64(ptr align 8 {bottom}, i8 0, i64 {FRAME_BYTES}, i1 false)")
        self.go(f"L{target}")

    def _exit(self) -> None:
        """Return to the caller; without one in this program, to Python."""
        depth = self.op(f"sub i64 {self.op('load i64, ptr %depth')}, 1")
        record = self._record(depth)
        back = self.read(record)
        self.line(f"store i64 {depth}, ptr %depth")
        self.write(State.DEPTH, depth)
        out, away = self.name("out"), self.name("away")
        cases = f"i64 0, label %{out} "
        if self.returns:
            for place, register in enumerate(_KEPT, 1):
                self.set(register, self.read(self.op(f"add i64 {record}, {place}")))
            self._place_frame(depth)
            cases += " ".join(f"i64 {slot}, label %L{slot}" for slot in self.returns if slot in self.flow.facts)
        self.line(f"switch i64 {back}, label %{away} [{cases}]")
        self.label(out)
        self.spill(*_SCRATCH)
        self.write(State.LEFT, self.op("load i64, ptr %left"))
        self.line(f"ret i64 {FINISHED}")
        self.label(away)
        self.spill(*_SCRATCH)
        for place, register in enumerate(_KEPT, 1):
            self.write(register, self.read(self.op(f"add i64 {record}, {place}")))
        self.write(State.LEFT, self.op("load i64, ptr %left"))
        self.write(State.NEXT, back)
        self.line(f"ret i64 {RETURNED}")

    def _packet(self, slot: int, insn: Instruction) -> None:
        reads = (6, int(insn.src)) if insn.op.operation == "ind" else (6,)
        self.spill(*reads)
        status = self._call_slow(slot)
        outside, inside = self.name("outside"), self.name("inside")
        self.line(
            f"switch i64 {status}, label %stop [i64 {FINISHED}, label %{inside} i64 {RETURNED}, label %{outside}]"
        )
        self.label(outside)
        self.set(0, 0)
        self._exit()
        self.label(inside)
        self.fill(0)

    def _call_helper(self, slot: int, insn: Instruction, facts: Facts) -> None:
        if insn.op.name == "CALL" and insn.imm == 12:
            self._tail_call(slot)
        elif calls_back(insn):
            self.write(State.LEFT, self.op("load i64, ptr %left"))
            self.slow(slot, reads=tuple(_ALL), writes=tuple(_SCRATCH))
            self.line(f"store i64 {self.read(State.LEFT)}, ptr %left")
        elif insn.op.name == "CALL_KFUNC":
            self.slow(slot, reads=tuple(range(1, 6)), writes=(0,))
        elif not jit_maps.call(self, slot, insn, facts):
            self.slow(slot, reads=tuple(range(1, 1 + self.target.arity(insn.imm))), writes=(0,))

    def _tail_call(self, slot: int) -> None:
        self.spill(*_ALL)
        self.write(State.LEFT, self.op("load i64, ptr %left"))
        status = self._call_slow(slot)
        through, away = self.name("through"), self.name("away")
        self.line(f"switch i64 {status}, label %stop [i64 {FINISHED}, label %{through} i64 {TAIL}, label %{away}]")
        self.label(away)
        self.line(f"ret i64 {TAIL}")
        self.label(through)


_ENDS = frozenset({Kind.GOTO_INDIRECT, Kind.JUMP, Kind.GOTO, Kind.MAY_GOTO, Kind.EXIT, Kind.INVALID})
_DECLARATIONS = "\n".join(
    [
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
        *(f"declare i{bits} @llvm.bswap.i{bits}(i{bits})" for bits in (16, 32, 64)),
    ]
)
