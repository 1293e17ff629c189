"""Programs written in Python, one call an instruction, with labels; `build` gives the list that everyone else takes.

A thin layer: it chooses the opcode and checks nothing that `codec` checks. Text is `parser`'s.
"""

from __future__ import annotations

from typing import Self

from ebpfkit._bits import U64_MAX, to_signed
from ebpfkit.asm.codec import encode, resolve_labels
from ebpfkit.asm.insn import R0, Instruction, KfuncRef, Label, MapRef, MapValueRef, Register, VarRef
from ebpfkit.asm.isa import OPCODES, Opcode
from ebpfkit.asm.parser import helper_numbers
from ebpfkit.asm.scanner import is_label_name
from ebpfkit.errors import AsmError

__all__ = ["Builder"]

_LETTERS = {1: "B", 2: "H", 4: "W", 8: "DW"}
Operand = Register | int


class Builder:
    """Collects instructions. Operands are registers or integers (immediates); jumps take labels or distances in slots.

    >>> from ebpfkit.asm.insn import R0, R1
    >>> Builder().load(4, R0, R1, 16).jump("jgt", R0, 5, "out").mov(R0, 1).label("out").exit().build()[1]
    Instruction(JGT64_IMM, off=1, imm=5, ref=Label(name='out'))
    """

    def __init__(self) -> None:
        self._insns: list[Instruction] = []
        self._labels: list[str] = []

    def build(self) -> list[Instruction]:
        """The instructions, labels resolved. Raises AsmError for a label that is missing, doubled or behind the end."""
        if self._labels:
            raise AsmError(f"label {self._labels[0]!r} stands behind the last instruction")
        return resolve_labels(self._insns)

    def to_bytes(self, *, big_endian: bool = False) -> bytes:
        """The encoded program."""
        return encode(self.build(), big_endian=big_endian)

    def emit(self, *insns: Instruction) -> Self:
        """Instructions as they are; waiting labels go to the first."""
        for insn in insns:
            self._insns.append(insn.replace(labels=(*self._labels, *insn.labels)) if self._labels else insn)
            self._labels.clear()
        return self

    def label(self, name: str) -> Self:
        """Names the next instruction."""
        if not is_label_name(name):
            raise AsmError(f"{name!r} cannot be a label")
        self._labels.append(name)
        return self

    def alu(self, operation: str, dst: Register, operand: Operand = 0, *, width: int = 64) -> Self:
        """`dst OP= operand` for add, sub, mul, div, sdiv, mod, smod, and, or, xor, lsh, rsh, arsh, mov; `neg` alone."""
        if operation == "neg":
            return self.emit(Instruction(self._opcode(f"NEG{width}"), dst))
        stem = f"{operation.upper()}{width}"
        if isinstance(operand, Register):
            return self.emit(Instruction(self._opcode(f"{stem}_REG"), dst, operand))
        return self.emit(Instruction(self._opcode(f"{stem}_IMM"), dst, imm=operand))

    def mov(self, dst: Register, operand: Operand, *, width: int = 64) -> Self:
        """`dst = operand`; an immediate is sign-extended from 32 bits."""
        return self.alu("mov", dst, operand, width=width)

    def add(self, dst: Register, operand: Operand, *, width: int = 64) -> Self:
        """`dst += operand`."""
        return self.alu("add", dst, operand, width=width)

    def sign_extend(self, dst: Register, src: Register, bits: int, *, width: int = 64) -> Self:
        """`dst = (sBITS)src` (CPU v4)."""
        return self.emit(Instruction(self._opcode(f"MOVSX{width}_{bits}"), dst, src))

    def swap(self, operation: str, dst: Register, bits: int) -> Self:
        """`to_le`, `to_be` or (CPU v4) `bswap` of the low `bits` of `dst`."""
        return self.emit(Instruction(self._opcode(f"{operation.upper()}{bits}"), dst))

    def load(self, size: int, dst: Register, base: Register, off: int = 0, *, signed: bool = False) -> Self:
        """`dst = *(base + off)`, `size` bytes."""
        return self.emit(Instruction(self._opcode(f"LDX{'S' if signed else ''}{_letters(size)}"), dst, base, off))

    def store(self, size: int, base: Register, off: int, value: Operand) -> Self:
        """`*(base + off) = value`, `size` bytes."""
        if isinstance(value, Register):
            return self.emit(Instruction(self._opcode(f"STX{_letters(size)}"), base, value, off))
        return self.emit(Instruction(self._opcode(f"ST{_letters(size)}"), base, off=off, imm=value))

    def atomic(self, operation: str, size: int, base: Register, off: int, src: Register) -> Self:
        """A read-modify-write: add, or, and, xor, their `fetch_` forms, xchg, cmpxchg (with r0); 4 or 8 bytes."""
        return self.emit(Instruction(self._opcode(f"ATOMIC{size * 8}_{operation.upper()}"), base, src, off))

    def load_acquire(self, size: int, dst: Register, base: Register, off: int = 0) -> Self:
        """`dst = load_acquire(base + off)`, `size` bytes (Linux 6.15)."""
        return self.emit(Instruction(self._opcode(f"LOAD_ACQ_{_letters(size)}"), dst, base, off))

    def store_release(self, size: int, base: Register, off: int, src: Register) -> Self:
        """`store_release(base + off, src)`, `size` bytes (Linux 6.15)."""
        return self.emit(Instruction(self._opcode(f"STORE_REL_{_letters(size)}"), base, src, off))

    def load_packet(self, size: int, off: int, index: Register | None = None) -> Self:
        """The legacy load `r0 = skb[off]`, or `skb[index + off]`; 1, 2 or 4 bytes in network order."""
        if index is None:
            return self.emit(Instruction(self._opcode(f"LD_ABS_{_letters(size)}"), imm=off))
        return self.emit(Instruction(self._opcode(f"LD_IND_{_letters(size)}"), src=index, imm=off))

    def addr_space_cast(self, dst: Register, src: Register, to: int, source: int) -> Self:
        """`dst = addr_space_cast(src, to, source)` between the kernel's addresses (0) and an arena's (1)."""
        if not 0 <= to <= 0xFFFF or not 0 <= source <= 0xFFFF:
            raise AsmError(f"address spaces {to} and {source} are not within 0..65535")
        return self.emit(Instruction(OPCODES["ADDR_SPACE_CAST"], dst, src, imm=to_signed(to << 16 | source, 32)))

    def load_imm64(self, dst: Register, value: int) -> Self:
        """`dst = value ll`; a negative value is taken as two's complement."""
        if not -(1 << 63) <= value <= U64_MAX:
            raise AsmError(f"{value} does not fit 64 bits")
        return self.emit(Instruction(OPCODES["LDDW"], dst, imm=value & U64_MAX))

    def load_map(self, dst: Register, map_: str | int, *, by_index: bool = False) -> Self:
        """The address of a map, by name, by file descriptor or by its place in the array of descriptors."""
        if isinstance(map_, str):
            return self.emit(Instruction(OPCODES["LDDW_MAP_FD"], dst, ref=MapRef(map_)))
        return self.emit(Instruction(OPCODES["LDDW_MAP_IDX" if by_index else "LDDW_MAP_FD"], dst, imm=map_))

    def load_map_value(self, dst: Register, map_: str | int, offset: int = 0, *, by_index: bool = False) -> Self:
        """The address `offset` bytes into the first value of an array map, which is named as in `load_map`."""
        op = OPCODES["LDDW_MAP_IDX_VALUE" if by_index and not isinstance(map_, str) else "LDDW_MAP_VALUE"]
        if isinstance(map_, str):
            return self.emit(Instruction(op, dst, imm=offset << 32, ref=MapValueRef(map_, offset)))
        return self.emit(Instruction(op, dst, imm=map_ | offset << 32))

    def load_function(self, dst: Register, label: str) -> Self:
        """The address of a local function, for a callback."""
        return self.emit(Instruction(OPCODES["LDDW_FUNC"], dst, ref=Label(label)))

    def load_variable(self, dst: Register, name: str, btf_id: int = 0) -> Self:
        """The address of a kernel variable (`.ksyms`), by name or by BTF id."""
        return self.emit(Instruction(OPCODES["LDDW_VAR"], dst, imm=btf_id, ref=VarRef(name, btf_id)))

    def jump(self, operation: str, dst: Register, operand: Operand, target: str | int, *, width: int = 64) -> Self:
        """`if dst OP operand goto target` for jeq, jne, jgt, jge, jlt, jle, jset, jsgt, jsge, jslt, jsle."""
        off, ref = _target(target)
        stem = f"{operation.upper()}{width}"
        if isinstance(operand, Register):
            return self.emit(Instruction(self._opcode(f"{stem}_REG"), dst, operand, off, ref=ref))
        return self.emit(Instruction(self._opcode(f"{stem}_IMM"), dst, off=off, imm=operand, ref=ref))

    def goto(self, target: str | int, *, long: bool = False) -> Self:
        """An unconditional jump; `long` has a 32-bit distance (CPU v4)."""
        off, ref = _target(target)
        return self.emit(Instruction(OPCODES["JA32" if long else "JA"], off=off, ref=ref))

    def may_goto(self, target: str | int) -> Self:
        """Jumps when the loop budget of the kernel is spent (Linux 6.9)."""
        off, ref = _target(target)
        return self.emit(Instruction(OPCODES["MAY_GOTO"], off=off, ref=ref))

    def goto_indirect(self, target: Register) -> Self:
        """`gotox target` (Linux 6.19)."""
        return self.emit(Instruction(OPCODES["JA_INDIRECT"], target))

    def call_indirect(self, function: Register) -> Self:
        """`callx function`, which no Linux takes."""
        return self.emit(Instruction(OPCODES["CALLX"], function))

    def call(self, helper: str | int) -> Self:
        """Calls a helper by name (with `bpf_`) or number."""
        if isinstance(helper, str):
            number = helper_numbers().get(helper)
            if number is None:
                raise AsmError(f"{helper!r} is no helper; helpers are named as bpf_map_lookup_elem")
            helper = number
        return self.emit(Instruction(OPCODES["CALL"], imm=helper))

    def call_local(self, label: str) -> Self:
        """Calls a function of this program."""
        return self.emit(Instruction(OPCODES["CALL_LOCAL"], ref=Label(label)))

    def call_kfunc(self, name: str, btf_id: int, *, btf_index: int = 0) -> Self:
        """Calls a kernel function by BTF id; `btf_index` chooses the module's BTF."""
        return self.emit(Instruction(OPCODES["CALL_KFUNC"], R0, R0, btf_index, btf_id, KfuncRef(name, btf_id)))

    def exit(self) -> Self:
        """Returns r0."""
        return self.emit(Instruction(OPCODES["EXIT"]))

    def _opcode(self, name: str) -> Opcode:
        op = OPCODES.get(name)
        if op is None:
            raise AsmError(f"there is no instruction {name}")
        return op


def _letters(size: int) -> str:
    letters = _LETTERS.get(size)
    if letters is None:
        raise AsmError(f"memory is accessed in 1, 2, 4 or 8 bytes, not {size}")
    return letters


def _target(target: str | int) -> tuple[int, Label | None]:
    return (0, Label(target)) if isinstance(target, str) else (target, None)
