"""Instructions as steps: functions of the register list that return the slot to go on with.

Belongs here: what each kind of instruction does with registers, memory, frames and calls. What computing instructions
mean is in `semantics`; linking and running steps is in `interpreter`.
"""

from __future__ import annotations

from collections.abc import Callable
from mmap import mmap
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from ebpfkit._bits import U32_MAX, U64_MAX, to_signed
from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import Kind
from ebpfkit.errors import NotSupported
from ebpfkit.maps.base import ORDER, Cell
from ebpfkit.vm.arena import ArenaWindow
from ebpfkit.vm.memory import MemoryFault
from ebpfkit.vm.semantics import Step, condition_maker, step_maker

if TYPE_CHECKING:
    from ebpfkit.vm.interpreter import Interpreter

__all__ = ["STEPS", "Finished", "fault", "refuse", "written_register"]

_R10 = 10
_TAIL_CALL = 12


class Finished(Exception):
    """A run, or a callback, came to its end."""


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


def fault(message: str, region: str = "program") -> Step:
    def step(registers: list[int]) -> int:
        raise MemoryFault(message, region)

    return step


def refuse(refusal: NotSupported) -> Step:
    def step(registers: list[int]) -> int:
        raise refusal

    return step


# --- how each kind of instruction becomes a step ----------------------------------------------------------------------
# Each takes (interpreter, instruction, its slot, first slot of the program, slot behind the program).


def _compute(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    order = vm.memory.order if insn.op.kind is Kind.SWAP else ORDER
    return step_maker(insn.op, order)(int(insn.dst), vm.operand(insn), here + 1)


def _target(insn: Instruction, here: int, base: int, end: int, distance: int) -> int:
    """Where a jump goes; a place outside the program is the step behind its end, which faults."""
    target = here + 1 + distance
    return target if base <= target < end else end


def _jump(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    target = _target(insn, here, base, end, insn.off)
    return condition_maker(insn.op)(int(insn.dst), vm.operand(insn), target, here + 1)


def _goto(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    target = _target(insn, here, base, end, insn.off)

    def step(registers: list[int]) -> int:
        return target

    return step


def _may_goto(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    target, following = _target(insn, here, base, end, insn.off), here + 1

    def step(registers: list[int]) -> int:
        depth = len(vm.frames)
        if not vm.loops[depth]:
            return target
        vm.loops[depth] -= 1
        return following

    return step


def _exit(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    def step(registers: list[int]) -> int:
        return_to, *registers[6:11] = vm.frames.pop()
        if not return_to:
            raise Finished
        return return_to

    return step


def _load(vm: Interpreter, insn: Instruction, here: int, base: int, end: int) -> Step:
    signed = insn.op.kind is Kind.LOADSX
    size, off, following = insn.op.size, insn.off, here + 1
    dst, src = int(insn.dst), int(insn.src)
    unpack = vm.codec(size, signed=signed).unpack_from
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
    dst, src = int(insn.dst), vm.operand(insn)
    mask = (1 << size * 8) - 1
    pack = vm.codec(size).pack_into
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
    codec = vm.codec(size)
    unpack, pack = codec.unpack_from, codec.pack_into
    find, search, wrong = vm.memory.regions.get, vm.memory.find, vm.memory.fault
    operation = insn.op.operation
    fetches = operation.startswith("fetch_") or operation == "xchg"
    compute = _ATOMICS.get(operation.removeprefix("fetch_"))

    def step(registers: list[int]) -> int:
        address = registers[dst] + off
        region = find(address >> 32) or search(address)
        if region is None:
            raise wrong(address, size, "write")
        offset = address - region.base
        # A place that cannot be written faults even when a comparison fails: the kernel stores in either case.
        data: Cell | mmap = region.data
        if offset < region.low or offset + size > region.write_high:
            if not isinstance(region.fields, ArenaWindow):
                raise wrong(address, size, "write")
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
        return fault(f"there is no helper {insn.imm}")
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
        return fault(f"register r{register} does not exist")

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
    enter = vm.enter

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


_Maker = Callable[["Interpreter", Instruction, int, int, int], Step]
STEPS: Final[MappingProxyType[Kind, _Maker]] = MappingProxyType(
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
