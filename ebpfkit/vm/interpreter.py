"""The interpreter: the readable oracle of what programs do.

Every instruction becomes a step, a small function of the register list that returns the slot to go on with; a run is
the loop that calls one step after the other. The register list holds r0 to r10 as unsigned 64-bit numbers, and behind
them the immediates of the program, so that a register and an immediate operand are the same thing. What computing
instructions mean is in `semantics`, memory is in `memory`, helpers are in `helpers`; programs and maps are put
together by `machine`. All programs of a machine share one numbering of slots, so that a tail call is a jump.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from mmap import mmap
from operator import length_hint
from types import MappingProxyType
from typing import Final, NoReturn, Protocol

from ebpfkit._bits import U32_MAX, U64_MAX, to_signed
from ebpfkit.asm.codec import resolve_labels
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.errors import MachineFault, NotSupported
from ebpfkit.maps.base import ORDER, Cell
from ebpfkit.vm.arena import ArenaWindow
from ebpfkit.vm.kfuncs_registry import Kfunc
from ebpfkit.vm.memory import AddressSpace, MemoryFault, Region
from ebpfkit.vm.semantics import Step, condition_maker, step_maker

__all__ = ["FRAME_BYTES", "MAX_FRAMES", "Environment", "Interpreter", "written_register"]

MAX_FRAMES: Final = 8
FRAME_BYTES: Final = 512
MAX_LOOPS: Final = 8 * 1024 * 1024  # may_goto's own limit in each frame
_R10 = 10
_TAIL_CALL = 12
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


class _Finished(Exception):
    """A run, or a callback, came to its end."""


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
        self._code: list[Step] = [_fault("no program starts here")]  # slot 0: what an outermost frame returns to
        self._frames: list[tuple[int, int, int, int, int, int]] = []
        self._stack: list[Region] = [
            self.memory.add(f"stack of frame {depth}", bytearray(FRAME_BYTES)) for depth in range(MAX_FRAMES)
        ]
        self._loops = [MAX_LOOPS] * (MAX_FRAMES + 1)
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
        self._code.append(_fault(message))
        self.instructions.append(insn)
        self.slots.append(slot)

    def _checked_step(self, insn: Instruction, here: int, base: int, end: int) -> Step:
        for register in (insn.dst, insn.src):
            if register > _R10:
                return _fault(f"register r{int(register)} does not exist")
        if written_register(insn) == _R10:
            return _fault("register r10 is read-only: it is the frame pointer")
        if insn.op.kind is Kind.INVALID:
            return _fault(f"no instruction: {insn.imm & U64_MAX:#018x}")
        try:
            return _STEPS[insn.op.kind](self, insn, here, base, end)
        except MemoryFault as fault:  # a map that is not there: an error when control comes by
            return _fault(fault.message, fault.region)
        except NotSupported as refusal:
            if insn.op.name.startswith("LDDW_MAP"):
                raise
            return _refuse(refusal)

    def _operand(self, insn: Instruction) -> int:
        """Where the second operand stands in the register list."""
        return int(insn.src) if insn.op.source == "reg" else self._constant(insn.imm)

    def _constant(self, value: int) -> int:
        value &= U64_MAX
        index = self._constants.get(value)
        if index is None:
            index = self._constants[value] = len(self.registers)
            self.registers.append(value)
        return index

    def _codec(self, size: int, *, signed: bool = False) -> struct.Struct:
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
        self._frames = [(0, 0, 0, 0, 0, 0)]
        self._loops[1] = MAX_LOOPS
        self._steps, self._budget = iter(range(budget)), budget
        self._execute(start)
        return registers[0], self.executed

    @property
    def executed(self) -> int:
        """How many instructions the run has executed."""
        return self._budget - length_hint(self._steps)

    def call(self, function: int, *arguments: int) -> int:
        """Call a function of the program from a helper, at its slot; its r0."""
        registers = self.registers
        self._enter(0)
        registers[1 : 1 + len(arguments)] = arguments
        self._execute(function)
        return registers[0]

    def _enter(self, return_to: int) -> None:
        """Open a frame for a call."""
        frames, registers = self._frames, self.registers
        depth = len(frames)
        if depth >= MAX_FRAMES:
            raise MemoryFault(f"call stack of more than {MAX_FRAMES} frames", "stack")
        frames.append((return_to, registers[6], registers[7], registers[8], registers[9], registers[10]))
        stack = self._stack[depth]
        stack.data[:] = _ZEROS
        registers[_R10] = stack.base + FRAME_BYTES
        self._loops[depth + 1] = MAX_LOOPS

    def _execute(self, slot: int) -> None:
        """The loop: until the frame that is on top now returns."""
        if self.trace is not None:
            self._execute_traced(slot, self.trace)
            return
        code, registers = self._code, self.registers
        try:
            for _ in self._steps:
                slot = code[slot](registers)
        except _Finished:
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
        except _Finished:
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


def written_register(insn: Instruction) -> int | None:
    """The register that an instruction names as its result."""
    if insn.op.kind in _WRITES_DST:
        return int(insn.dst)
    fetches = insn.op.operation == "xchg" or insn.op.operation.startswith("fetch_")
    return int(insn.src) if insn.op.kind is Kind.ATOMIC and fetches else None


_WRITES_DST: Final = frozenset(
    {
        Kind.ALU,
        Kind.MOV,
        Kind.MOVSX,
        Kind.SWAP,
        Kind.LOAD,
        Kind.LOADSX,
        Kind.LOAD_ACQUIRE,
        Kind.WIDE,
        Kind.ADDR_SPACE,
    }
)


def _fault(message: str, region: str = "program") -> Step:
    def step(registers: list[int]) -> int:
        raise MemoryFault(message, region)

    return step


def _refuse(refusal: NotSupported) -> Step:
    def step(registers: list[int]) -> int:
        raise refusal

    return step


# --- how each kind of instruction becomes a step ----------------------------------------------------------------------
# Each takes (interpreter, instruction, its slot, first slot of the program, slot behind the program).


def _compute(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    order = vm.memory.order if insn.op.kind is Kind.SWAP else ORDER
    return step_maker(insn.op, order)(int(insn.dst), vm._operand(insn), here + 1)


def _target(insn: Instruction, here: int, base: int, end: int, distance: int) -> int:
    """Where a jump goes; a place outside the program is the step behind its end, which faults."""
    target = here + 1 + distance
    return target if base <= target < end else end


def _jump(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    target = _target(insn, here, base, end, insn.off)
    return condition_maker(insn.op)(int(insn.dst), vm._operand(insn), target, here + 1)


def _goto(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    target = _target(insn, here, base, end, insn.off)

    def step(registers: list[int]) -> int:
        return target

    return step


def _may_goto(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    target, following = _target(insn, here, base, end, insn.off), here + 1

    def step(registers: list[int]) -> int:
        depth = len(vm._frames)
        if not vm._loops[depth]:
            return target
        vm._loops[depth] -= 1
        return following

    return step


def _exit(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    def step(registers: list[int]) -> int:
        return_to, *registers[6:11] = vm._frames.pop()
        if not return_to:
            raise _Finished
        return return_to

    return step


def _load(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    signed = insn.op.kind is Kind.LOADSX
    size, off, following = insn.op.size, insn.off, here + 1
    dst, src = int(insn.dst), int(insn.src)
    unpack = vm._codec(size, signed=signed).unpack_from
    find, slow = vm.memory.regions.get, vm.memory.load

    def step(registers: list[int]) -> int:
        address = registers[src] + off
        region = find(address >> 32)
        if region is not None:
            offset = address - region.base
            if region.low <= offset and offset + size <= region.high:
                registers[dst] = unpack(region.data, offset)[0]
                return following
            if region.fields is not None:  # a context: no memory, but what most programs read first
                registers[dst] = region.fields.load(offset, size)
                return following
        registers[dst] = slow(address, size)
        return following

    def step_signed(registers: list[int]) -> int:
        address = registers[src] + off
        region = find(address >> 32)
        if region is not None:
            offset = address - region.base
            if region.low <= offset and offset + size <= region.high:
                registers[dst] = unpack(region.data, offset)[0] & U64_MAX
                return following
        registers[dst] = to_signed(slow(address, size), size * 8) & U64_MAX
        return following

    return step_signed if signed else step


def _store(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    size, off, following = insn.op.size, insn.off, here + 1
    dst, src = int(insn.dst), vm._operand(insn)
    mask = (1 << size * 8) - 1
    pack = vm._codec(size).pack_into
    find, slow = vm.memory.regions.get, vm.memory.store

    def step(registers: list[int]) -> int:
        address = registers[dst] + off
        region = find(address >> 32)
        if region is not None:
            offset = address - region.base
            if region.low <= offset and offset + size <= region.write_high:
                pack(region.data, offset, registers[src] & mask)
                return following
        slow(address, size, registers[src])
        return following

    return step


_ATOMICS: Final[MappingProxyType[str, Callable[[int, int], int]]] = MappingProxyType(
    {
        "add": lambda old, operand: old + operand,
        "or": lambda old, operand: old | operand,
        "and": lambda old, operand: old & operand,
        "xor": lambda old, operand: old ^ operand,
        "xchg": lambda old, operand: operand,
    }
)


def _atomic(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    """Read-modify-write. Fetching forms leave the old value, zero-extended, in src (cmpxchg: in r0)."""
    size, off, following = insn.op.size, insn.off, here + 1
    dst, src = int(insn.dst), int(insn.src)
    mask = U32_MAX if size == 4 else U64_MAX
    codec = vm._codec(size)
    unpack, pack = codec.unpack_from, codec.pack_into
    find, search, fault = vm.memory.regions.get, vm.memory.find, vm.memory.fault
    operation = insn.op.operation
    fetches = operation.startswith("fetch_") or operation == "xchg"
    compute = _ATOMICS.get(operation.removeprefix("fetch_"))

    def step(registers: list[int]) -> int:
        address = registers[dst] + off
        region = find(address >> 32) or search(address)
        if region is None:
            raise fault(address, size, "write")
        offset = address - region.base
        # A place that cannot be written faults even when a comparison fails: the kernel stores in either case.
        data: Cell | mmap = region.data
        if offset < region.low or offset + size > region.write_high:
            if not isinstance(region.fields, ArenaWindow):
                raise fault(address, size, "write")
            place = region.fields.place(offset, size)
            if place is None:  # nobody allocated the page: nothing happens
                return following
            data, offset = region.fields.pages.memory, place
        old: int = unpack(data, offset)[0]
        if compute is None:  # cmpxchg
            if old == registers[0] & mask:
                pack(data, offset, registers[src] & mask)
            registers[0] = old
            return following
        pack(data, offset, compute(old, registers[src]) & mask)
        if fetches:
            registers[src] = old
        return following

    return step


def _call(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    if insn.op.operation == "local":
        return _call_local(vm, insn, here, base, end)
    following = here + 1
    if insn.op.operation == "kfunc":
        return _call_kfunc(vm, insn, following)
    if insn.imm == _TAIL_CALL:  #: the only helper that is a jump
        return _tail_call(vm, following)
    found = vm.environment.helper(insn.imm)
    if found is None:
        return _fault(f"there is no helper {insn.imm}")
    function, reads = found
    end_of_arguments = 1 + reads

    def step(registers: list[int]) -> int:
        registers[0] = function(*registers[1:end_of_arguments]) & U64_MAX
        return following

    return step


def _call_kfunc(vm: Interpreter, insn: Instruction, following: int) -> Step:
    function, reads, mask = vm.environment.kfunc(insn)
    end_of_arguments, machine = 1 + reads, vm.environment

    def step(registers: list[int]) -> int:
        registers[0] = function(machine, *registers[1:end_of_arguments]) & mask
        return following

    return step


def _call_by_number(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    """The helper whose number is in the register; a program that runs as such nowhere else may do that."""
    if vm.environment.prog_type:
        why = "no Linux takes it: name the function, or call the helper by number (it runs with prog_type=None)"
        raise NotSupported("CALLX in the virtual machine", why=why, span=insn.span)
    register, following, helper = int(insn.dst or insn.imm), here + 1, vm.environment.helper
    if not 0 <= register <= _R10:
        return _fault(f"register r{register} does not exist")

    def step(registers: list[int]) -> int:
        number = registers[register]
        found = helper(number) if number != _TAIL_CALL else None
        if found is None:
            raise MemoryFault(f"there is no helper {number}", "program")
        registers[0] = found[0](*registers[1 : 1 + found[1]]) & U64_MAX
        return following

    return step


def _cast(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    """Between the two forms of an arena pointer."""
    dst, src, kind, following = int(insn.dst), int(insn.src), insn.imm & U32_MAX, here + 1
    window = vm.environment.arena
    if window is None:
        raise MemoryFault("a cast between address spaces in a program without an arena", "program")
    cast = window.cast

    def step(registers: list[int]) -> int:
        registers[dst] = cast(registers[src], kind)
        return following

    return step


def _goto_indirect(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    """To the instruction whose address is in the register; it has to be of this program."""
    dst = int(insn.dst)

    def step(registers: list[int]) -> int:
        target = vm.function_at(registers[dst])
        if not base <= target <= end:
            raise MemoryFault(f"a jump to {registers[dst]:#x}, which is in another program", "program")
        return target

    return step


def _tail_call(vm: Interpreter, following: int) -> Step:
    """The target takes over this frame; when there is none, the program goes on."""
    enter = vm.environment.tail_call

    def step(registers: list[int]) -> int:
        target = enter(registers[1], registers[2], registers[3] & U32_MAX)
        return following if target is None else target

    return step


def _call_local(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    target, following = _target(insn, here, base, end, insn.imm), here + 1
    enter = vm._enter

    def step(registers: list[int]) -> int:
        enter(following)
        return target

    return step


def _wide(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    operation = insn.op.operation
    if operation == "imm":
        value = insn.imm
    elif operation in ("map_fd", "map_idx"):
        value = vm.environment.map_address(insn)
    elif operation in ("map_value", "map_idx_value"):
        value = vm.environment.map_value_address(insn)
    elif operation == "var":
        value = vm.environment.variable_address(insn)
    else:  # the address of a function; its distance counts from the slot that follows the first half
        value = vm.function_address(_target(insn, here, base, end, to_signed(insn.imm, 32)))
    dst, constant, following = int(insn.dst), value & U64_MAX, here + 2

    def step(registers: list[int]) -> int:
        registers[dst] = constant
        return following

    return step


def _packet(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    """LD_ABS and LD_IND: r0 = a number in network order from the packet of the context in r6; outside, 0 and exit."""
    size, imm, following = insn.op.size, insn.imm, here + 1
    index = int(insn.src) if insn.op.operation == "ind" else None
    word = vm.environment.packet_word
    leave = _exit(vm, insn, here, base, end)

    def step(registers: list[int]) -> int:
        offset = to_signed(imm + (registers[index] if index is not None else 0), 32)
        value = word(registers[6], offset, size)
        registers[0] = value or 0
        return following if value is not None else leave(registers)

    return step


_Maker = Callable[[Interpreter, Instruction, int, int, int], Step]
_STEPS: Final[MappingProxyType[Kind, _Maker]] = MappingProxyType(
    {
        Kind.ALU: _compute,
        Kind.MOV: _compute,
        Kind.MOVSX: _compute,
        Kind.SWAP: _compute,
        Kind.LOAD: _load,
        Kind.LOADSX: _load,
        Kind.STORE: _store,
        Kind.LOAD_ACQUIRE: _load,
        Kind.STORE_RELEASE: _store,
        Kind.ATOMIC: _atomic,
        Kind.JUMP: _jump,
        Kind.GOTO: _goto,
        Kind.MAY_GOTO: _may_goto,
        Kind.CALL: _call,
        Kind.CALL_INDIRECT: _call_by_number,
        Kind.GOTO_INDIRECT: _goto_indirect,
        Kind.ADDR_SPACE: _cast,
        Kind.EXIT: _exit,
        Kind.WIDE: _wide,
        Kind.PACKET: _packet,
    }
)
