"""The interpreter: the readable oracle of what programs do.

Every instruction becomes a step, a small function of the register list that returns the slot to go on with; a run is
the loop that calls one step after the other. The register list holds r0 to r10 as unsigned 64-bit numbers, and behind
them the immediates of the program, so that a register and an immediate operand are the same thing. What computing
instructions mean is in `semantics`, all others are in `steps`, memory is in `memory`, helpers are in `helpers`;
programs and maps are put together by `machine`. All programs of a machine share one numbering of slots, so that a tail
call is a jump.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from operator import length_hint
from types import MappingProxyType
from typing import Final, NoReturn, Protocol

from ebpfkit._bits import U64_MAX
from ebpfkit.asm.codec import resolve_labels
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.errors import MachineFault, NotSupported
from ebpfkit.vm.arena import ArenaWindow
from ebpfkit.vm.kfuncs_registry import Kfunc, Thrown
from ebpfkit.vm.memory import AddressSpace, MemoryFault, Region
from ebpfkit.vm.semantics import Step
from ebpfkit.vm.steps import STEPS, Finished, fault, refuse, written_register

__all__ = ["FRAME_BYTES", "MAX_FRAMES", "MAX_LOOPS", "Environment", "Interpreter"]

MAX_FRAMES: Final = 8
FRAME_BYTES: Final = 512
MAX_LOOPS: Final = 8 * 1024 * 1024  # may_goto's own limit in each frame
_R10 = 10
_REGISTERS = 11
_ZEROS = bytes(FRAME_BYTES)
_FORMATS = MappingProxyType({1: "B", 2: "H", 4: "I", 8: "Q"})
_SIGNED_FORMATS = MappingProxyType({1: "b", 2: "h", 4: "i"})
_ORDERS = MappingProxyType({"little": "<", "big": ">"})


class Environment(Protocol):
    """What linking needs to know: what wide loads and calls refer to."""

    memory: AddressSpace

    @property
    def prog_type(self) -> str: ...

    def map_address(self, insn: Instruction) -> int: ...

    def map_value_address(self, insn: Instruction) -> int: ...

    def helper(self, number: int) -> tuple[Callable[..., int], int] | None: ...

    def variable_address(self, insn: Instruction) -> int: ...

    def kfunc(self, insn: Instruction) -> Kfunc: ...

    @property
    def arena(self) -> ArenaWindow | None: ...

    def tail_call(self, context: int, array: int, index: int) -> int | None: ...

    def packet_word(self, context: int, offset: int, size: int) -> int | None: ...


Trace = Callable[[int, Instruction, list[int]], None]


class Interpreter:
    """Steps of all linked programs, registers, and the stack.

    `run` executes one program; helpers call functions of the program back through `call`.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.memory = environment.memory
        self.registers: list[int] = [0] * _REGISTERS
        self._constants: dict[int, int] = {}
        self.instructions: list[Instruction | None] = [None]
        self.slots: list[int] = [0]
        self._code: list[Step] = [fault("no program starts here")]  # slot 0: what an outermost frame returns to
        self.frames: list[tuple[int, int, int, int, int, int]] = []
        self._stack: list[Region] = [
            self.memory.add(f"stack of frame {depth}", bytearray(FRAME_BYTES)) for depth in range(MAX_FRAMES)
        ]
        self.loops = [MAX_LOOPS] * (MAX_FRAMES + 1)
        self._function_region = self.memory.add("function address", bytearray())
        self._steps = iter(range(0))  # what is left of the budget; callbacks draw on the same
        self._budget = 0
        self.base = 1  # the first slot of the program that is being linked
        self.trace: Trace | None = None

    # Linking.

    def link(self, instructions: Sequence[Instruction]) -> int:
        """Make the steps of a program; the slot where it starts. Messages keep its own numbering."""
        base = self.base = len(self._code)
        program = resolve_labels(instructions)
        total = sum(insn.slots for insn in program)
        slot = 0
        for insn in program:
            here = base + slot
            self._code.append(self._checked_step(insn, here, base, base + total))
            self.instructions.append(insn)
            self.slots.append(slot)
            for extra in range(1, insn.slots):
                self._append_fault("the second half of a wide load is no instruction", insn, slot + extra)
            slot += insn.slots
        self._append_fault("control runs past the last instruction: a program ends with exit", None, total)
        return base

    def _append_fault(self, message: str, insn: Instruction | None, slot: int) -> None:
        self._code.append(fault(message))
        self.instructions.append(insn)
        self.slots.append(slot)

    def _checked_step(self, insn: Instruction, here: int, base: int, end: int) -> Step:
        for register in (insn.dst, insn.src):
            if register > _R10:
                return fault(f"register r{int(register)} does not exist")
        if written_register(insn) == _R10:
            return fault("register r10 is read-only: it is the frame pointer")
        if insn.op.kind is Kind.INVALID:
            return fault(f"no instruction: {insn.imm & U64_MAX:#018x}")
        try:
            return STEPS[insn.op.kind](self, insn, here, base, end)
        except MemoryFault as problem:  # a map that is not there: an error when control comes by
            return fault(problem.message, problem.region)
        except NotSupported as refusal:
            if insn.op.name.startswith("LDDW_MAP"):
                raise
            return refuse(refusal)

    def operand(self, insn: Instruction) -> int:
        """Where the second operand stands in the register list."""
        return int(insn.src) if insn.op.source == "reg" else self._constant(insn.imm)

    def _constant(self, value: int) -> int:
        value &= U64_MAX
        index = self._constants.get(value)
        if index is None:
            index = self._constants[value] = len(self.registers)
            self.registers.append(value)
        return index

    def codec(self, size: int, *, signed: bool = False) -> struct.Struct:
        """How a number of `size` bytes is in memory."""
        return struct.Struct(_ORDERS[self.memory.order] + (_SIGNED_FORMATS if signed else _FORMATS)[size])

    def function_address(self, slot: int) -> int:
        return self._function_region.base + slot

    def function_at(self, address: int) -> int:
        """The slot of a function from its address. Raises MemoryFault."""
        slot = address - self._function_region.base
        if not 0 < slot < len(self._code):
            raise MemoryFault(f"{address:#x} is no function address")
        return slot

    # Running.

    def run(self, start: int, arguments: Sequence[int], budget: int) -> tuple[int, int]:
        """Run from `start` with r1, r2, ... = `arguments`; (r0, instructions executed). Raises MachineFault."""
        registers = self.registers
        registers[:_REGISTERS] = [0] * _REGISTERS
        registers[1 : 1 + len(arguments)] = arguments
        stack = self._stack[0]
        stack.data[:] = _ZEROS
        registers[_R10] = stack.base + FRAME_BYTES
        self.frames = [(0, 0, 0, 0, 0, 0)]
        self.loops[1] = MAX_LOOPS
        self._steps, self._budget = iter(range(budget)), budget
        try:
            self._execute(start)
        except Thrown as thrown:
            return thrown.cookie, self.executed
        return registers[0], self.executed

    @property
    def executed(self) -> int:
        """How many instructions the run has executed."""
        return self._budget - length_hint(self._steps)

    def call(self, function: int, *arguments: int) -> int:
        """Call a function of the program from a helper, at its slot; its r0."""
        registers = self.registers
        self.enter(0)
        registers[1 : 1 + len(arguments)] = arguments
        self._execute(function)
        return registers[0]

    def enter(self, return_to: int) -> None:
        """Open a frame for a call."""
        frames, registers = self.frames, self.registers
        depth = len(frames)
        if depth >= MAX_FRAMES:
            raise MemoryFault(f"call stack of more than {MAX_FRAMES} frames", "stack")
        frames.append((return_to, registers[6], registers[7], registers[8], registers[9], registers[10]))
        stack = self._stack[depth]
        stack.data[:] = _ZEROS
        registers[_R10] = stack.base + FRAME_BYTES
        self.loops[depth + 1] = MAX_LOOPS

    def _execute(self, slot: int) -> None:
        """The loop: until the frame that is on top now returns."""
        if self.trace is not None:
            self._execute_traced(slot, self.trace)
            return
        code, registers = self._code, self.registers
        try:
            for _ in self._steps:
                slot = code[slot](registers)
        except Finished:
            return
        except MemoryFault as fault:
            self._stop(fault, slot)
        self._out_of_budget(slot)

    def _execute_traced(self, slot: int, trace: Trace) -> None:
        code, registers = self._code, self.registers
        try:
            for _ in self._steps:
                insn = self.instructions[slot]
                if insn is not None:
                    trace(self.slots[slot], insn, registers)
                slot = code[slot](registers)
        except Finished:
            return
        except MemoryFault as fault:
            self._stop(fault, slot)
        self._out_of_budget(slot)

    def _stop(self, fault: MemoryFault, slot: int) -> NoReturn:
        insn = self.instructions[slot]
        raise MachineFault(
            f"instruction {self.slots[slot]}: {fault.message}",
            insn=self.slots[slot],
            span=insn.span if insn is not None else None,
            region=fault.region,
        ) from None

    def _out_of_budget(self, slot: int) -> NoReturn:
        self._stop(MemoryFault("the instruction budget is used up: an endless loop, or raise `budget`", "budget"), slot)
