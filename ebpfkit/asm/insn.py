"""The logical instruction, registers, and what an instruction may refer to.

Encoding quirks (SDIV as DIV with offset 1, MOVSX as MOV with offset 8/16/32, atomics in the immediate, wide loads in
two slots) are folded into the opcode by the codec: nobody else sees them. References and the source span ride on the
instruction. Encoding lives in `codec`, the table of opcodes in `isa`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ebpfkit.asm.isa import Opcode
from ebpfkit.span import Span

__all__ = [
    "R0", "R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10",
    "FuncRef", "Instruction", "KfuncRef", "Label", "MapRef", "MapValueRef", "Reference", "Register", "VarRef",
]  # fmt: skip


class Register(int):
    """A register number 0 to 10 (11 is the kernel's own, seen in dumps)."""

    __slots__ = ()

    def __new__(cls, number: int) -> Register:
        if not 0 <= number <= 15:
            raise ValueError(f"register number {number} is not within 0..15")
        return super().__new__(cls, number)

    def __repr__(self) -> str:
        return f"R{int(self)}" if self <= 10 else f"Register({int(self)})"


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = (Register(i) for i in range(11))


@dataclass(frozen=True, slots=True)
class Label:
    """A jump target by name; the codec turns it into an offset."""

    name: str


@dataclass(frozen=True, slots=True)
class MapRef:
    """A wide load of a map by name: the loader puts the descriptor, the VM its own handle."""

    name: str


@dataclass(frozen=True, slots=True)
class MapValueRef:
    """A wide load of the address `offset` bytes into the first value of the map (global data)."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class FuncRef:
    """A call of, or the address of, a function of the same program by name."""

    name: str


@dataclass(frozen=True, slots=True)
class KfuncRef:
    """A call of a kernel function by name (`btf_id` once resolved). `weak`: a kernel without it is no error."""

    name: str
    btf_id: int = 0
    weak: bool = False


@dataclass(frozen=True, slots=True)
class VarRef:
    """A wide load of what a kernel symbol stands for (`.ksyms` extern), by name.

    `kind`: "var", "func" (a kernel function's address, by its type) or "address" (declared without a type: the number
    that the kernel's symbol table has). `weak`: a kernel without it gives 0.
    """

    name: str
    btf_id: int = 0
    weak: bool = False
    kind: str = "var"


Reference = Label | MapRef | MapValueRef | FuncRef | KfuncRef | VarRef


@dataclass(frozen=True, slots=True)
class Instruction:
    """One logical instruction.

    `off` is the memory displacement, or a jump distance in 8-byte slots behind the following slot (also for gotol,
    whose distance the codec keeps in the immediate; for calls of local functions it stays in `imm`). `imm` is the
    signed 32-bit immediate; for wide loads the unsigned 64-bit value (for map values: descriptor in the low, offset in
    the high half). `ref`, when present, names what those numbers stand for. `labels` are the names that jumps and calls
    may use for this place. `span` does not count in comparisons.
    """

    op: Opcode
    dst: Register = R0
    src: Register = R0
    off: int = 0
    imm: int = 0
    ref: Reference | None = None
    span: Span | None = field(default=None, compare=False, repr=False)
    labels: tuple[str, ...] = ()

    @property
    def slots(self) -> int:
        """How many 8-byte slots it takes: 2 for wide loads, else 1."""
        return self.op.slots

    def replace(self, **changes: Any) -> Instruction:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        parts = [self.op.name]
        if self.dst:
            parts.append(f"dst={self.dst!r}")
        if self.src:
            parts.append(f"src={self.src!r}")
        if self.off:
            parts.append(f"off={self.off}")
        if self.imm:
            parts.append(f"imm={self.imm}")
        if self.ref is not None:
            parts.append(f"ref={self.ref!r}")
        if self.labels:
            parts.append(f"labels={self.labels!r}")
        return f"Instruction({', '.join(parts)})"
