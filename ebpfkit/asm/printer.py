"""Instructions as text, in the spelling of the kernel's verifier log and of `bpftool prog dump xlated`.

`parser` reads every line of it back. Where the kernel's spelling loses something, it is added so that nothing is: wide
loads end in `ll`, reserved fields that are set follow in braces, as in `exit {imm=3}`. Names of maps, kernel functions
and variables come from the instruction's reference, or from a `Resolver`; source lines from spans.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from ebpfkit._bits import to_signed
from ebpfkit.asm.insn import FuncRef, Instruction, KfuncRef, Label, MapRef, MapValueRef, VarRef
from ebpfkit.asm.isa import Kind

if TYPE_CHECKING:
    from ebpfkit.abi.model import HelperSpec

__all__ = ["Resolver", "format_instruction", "format_program", "helpers"]

ALU_SYMBOLS = {
    "add": "+=", "sub": "-=", "mul": "*=", "div": "/=", "sdiv": "s/=", "or": "|=", "and": "&=", "lsh": "<<=",
    "rsh": ">>=", "mod": "%=", "smod": "s%=", "xor": "^=", "arsh": "s>>=",
}  # fmt: skip
JUMP_SYMBOLS = {
    "jeq": "==", "jgt": ">", "jlt": "<", "jge": ">=", "jle": "<=", "jset": "&", "jne": "!=", "jsgt": "s>",
    "jslt": "s<", "jsge": "s>=", "jsle": "s<=",
}  # fmt: skip
SWAP_WORDS = {"to_le": "le", "to_be": "be", "bswap": "bswap"}
LOCK_SYMBOLS = {name: ALU_SYMBOLS[name] for name in ("add", "or", "and", "xor")}


@cache
def helpers() -> Mapping[int, HelperSpec]:
    """The helper rows by number."""
    from ebpfkit.abi.helpers import HELPERS

    return HELPERS


class Resolver:
    """Names that instructions alone do not carry; override what is known. None means unknown."""

    def helper_name(self, number: int) -> str | None:
        """The name of a helper, `bpf_` included."""
        row = helpers().get(number)
        return f"bpf_{row.name}" if row else None

    def kfunc_name(self, insn: Instruction) -> str | None:
        """The kernel function that a CALL_KFUNC calls: `imm` is its BTF id, `off` the index of its BTF."""
        return None

    def map_name(self, insn: Instruction) -> str | None:
        """What stands in the brackets of `map[...]`, as `id:7` or a name; `imm` has the number in its low half."""
        return None

    def function_name(self, slot: int) -> str | None:
        """The function that starts at a slot of the program."""
        return None


_DEFAULT = Resolver()

# What the kernel puts into programs for itself, seen in dumps: a move of a per-CPU address, a barrier.
_REGISTERS_BITS, _PER_CPU_MOVE, _NOSPEC, _R11 = 0xFF00, 0xFFFF_00BF, 0xC2, 11


def format_instruction(insn: Instruction, slot: int = 0, resolver: Resolver | None = None) -> str:
    """One instruction in the kernel's spelling. `slot` is where it stands, for names of local functions.

    >>> from ebpfkit.asm import isa
    >>> from ebpfkit.asm.insn import R1, R2
    >>> format_instruction(Instruction(isa.LDXW, R2, R1, off=4))
    'r2 = *(u32 *)(r1 +4)'
    """
    text = _FORMATS[insn.op.kind](insn, slot, resolver or _DEFAULT)
    operands = insn.op.operands
    extra = [
        f"{name}={int(value)}"
        for name, value in (("dst", insn.dst), ("src", insn.src), ("off", insn.off), ("imm", insn.imm))
        if value and name not in operands
    ]
    if insn.op.name == "CALL_LOCAL" and insn.off:
        extra = [f"imm={insn.imm}"]
    if insn.op.name == "CALL_KFUNC" and insn.off:
        extra.append(f"off={insn.off}")
    if insn.op.operation in _LOW_HALF_ONLY and insn.imm >> 32:
        extra.append(f"high={insn.imm >> 32:#x}")
    return f"{text} {{{' '.join(extra)}}}" if extra else text


_LOW_HALF_ONLY = {"map_fd", "map_idx", "func"}


def format_program(
    insns: Sequence[Instruction],
    *,
    resolver: Resolver | None = None,
    slots: bool = False,
    opcodes: bool = False,
    source: bool = False,
    spell: Callable[[Instruction, int], str] | None = None,
) -> str:
    """A program, one instruction a line, with its labels; the text ends in a newline unless it is empty.

    `slots` prefixes the slot number (`12: `), `opcodes` the opcode byte (`(b7) `), both as the kernel's log has them;
    `source` puts the source line before the instructions that came from it, as a comment. `spell` writes one
    instruction of a slot in another spelling.
    """
    lines = []
    slot = 0
    shown = None
    for insn in insns:
        span = insn.span
        if source and span and span.text and (span.file, span.line) != shown:
            lines.append(f"; {span.text.strip()} @ {span.file}:{span.line}")
            shown = (span.file, span.line)
        lines.extend(f"{label}:" for label in insn.labels)
        number = f"{slot}: " if slots else ""
        code = f"({insn.op.code:02x}) " if opcodes and insn.op.kind is not Kind.INVALID else ""
        text = spell(insn, slot) if spell is not None else format_instruction(insn, slot, resolver)
        lines.append(number + code + text)
        slot += insn.op.slots
    return "".join(f"{line}\n" for line in lines)


def _letter(insn: Instruction) -> str:
    return "w" if insn.op.width == 32 else "r"


def _operand(insn: Instruction) -> str:
    return f"{_letter(insn)}{int(insn.src)}" if insn.op.source == "reg" else str(insn.imm)


def _memory(insn: Instruction, base: int, sign: str = "u") -> str:
    return f"({sign}{insn.op.size * 8} *)(r{int(base)} {insn.off:+d})"


def _format_alu(insn: Instruction, slot: int, names: Resolver) -> str:
    register = f"{_letter(insn)}{int(insn.dst)}"
    if insn.op.operation == "neg":
        return f"{register} = -{register}"
    return f"{register} {ALU_SYMBOLS[insn.op.operation]} {_operand(insn)}"


def _format_mov(insn: Instruction, slot: int, names: Resolver) -> str:
    return f"{_letter(insn)}{int(insn.dst)} = {_operand(insn)}"


def _format_movsx(insn: Instruction, slot: int, names: Resolver) -> str:
    return f"{_letter(insn)}{int(insn.dst)} = (s{insn.op.size * 8}){_letter(insn)}{int(insn.src)}"


def _format_swap(insn: Instruction, slot: int, names: Resolver) -> str:
    return f"r{int(insn.dst)} = {SWAP_WORDS[insn.op.operation]}{insn.op.size * 8} r{int(insn.dst)}"


def _format_addr_space(insn: Instruction, slot: int, names: Resolver) -> str:
    spaces = f"{insn.imm >> 16 & 0xFFFF}, {insn.imm & 0xFFFF}"
    return f"r{int(insn.dst)} = addr_space_cast(r{int(insn.src)}, {spaces})"


def _format_load(insn: Instruction, slot: int, names: Resolver) -> str:
    sign = "s" if insn.op.kind is Kind.LOADSX else "u"
    return f"r{int(insn.dst)} = *{_memory(insn, insn.src, sign)}"


def _format_store(insn: Instruction, slot: int, names: Resolver) -> str:
    value = f"r{int(insn.src)}" if insn.op.source == "reg" else str(insn.imm)
    return f"*{_memory(insn, insn.dst)} = {value}"


def _format_atomic(insn: Instruction, slot: int, names: Resolver) -> str:
    operation = insn.op.operation
    memory = _memory(insn, insn.dst)
    if operation in LOCK_SYMBOLS:
        return f"lock *{memory} {LOCK_SYMBOLS[operation]} r{int(insn.src)}"
    name = f"atomic{'64' if insn.op.size == 8 else ''}_{operation}"
    if operation == "cmpxchg":
        return f"r0 = {name}({memory}, r0, r{int(insn.src)})"
    return f"r{int(insn.src)} = {name}({memory}, r{int(insn.src)})"


def _format_load_acquire(insn: Instruction, slot: int, names: Resolver) -> str:
    return f"r{int(insn.dst)} = load_acquire({_memory(insn, insn.src)})"


def _format_store_release(insn: Instruction, slot: int, names: Resolver) -> str:
    return f"store_release({_memory(insn, insn.dst)}, r{int(insn.src)})"


def _target(insn: Instruction) -> str:
    return insn.ref.name if isinstance(insn.ref, Label) else f"pc{insn.off:+d}"


def _format_jump(insn: Instruction, slot: int, names: Resolver) -> str:
    letter = _letter(insn)
    value = f"{letter}{int(insn.src)}" if insn.op.source == "reg" else f"{insn.imm & 0xFFFF_FFFF:#x}"
    return f"if {letter}{int(insn.dst)} {JUMP_SYMBOLS[insn.op.operation]} {value} goto {_target(insn)}"


def _format_goto(insn: Instruction, slot: int, names: Resolver) -> str:
    return f"{'goto' if insn.op.operation == 'ja' else 'gotol'} {_target(insn)}"


def _format_goto_indirect(insn: Instruction, slot: int, names: Resolver) -> str:
    return f"gotox r{int(insn.dst)}"


def _format_call_indirect(insn: Instruction, slot: int, names: Resolver) -> str:
    return f"callx r{int(insn.dst)}"


def _format_may_goto(insn: Instruction, slot: int, names: Resolver) -> str:
    return f"may_goto {_target(insn)}"


def _format_call(insn: Instruction, slot: int, names: Resolver) -> str:
    operation, ref = insn.op.operation, insn.ref
    if operation == "helper":
        return f"call {names.helper_name(insn.imm) or 'unknown'}#{insn.imm}"
    if operation == "kfunc":
        name = ref.name if isinstance(ref, KfuncRef) else names.kfunc_name(insn)
        return f"call {name or 'kernel-function'}#{insn.imm}"
    if isinstance(ref, Label):
        return f"call {ref.name}"
    distance = insn.off or insn.imm  # once translated, the kernel keeps the distance in `off`, a number in `imm`
    function = ref.name if isinstance(ref, FuncRef) else names.function_name(slot + 1 + distance)
    return f"call pc{distance:+d}{f'#{function}' if function else ''}"


def _format_exit(insn: Instruction, slot: int, names: Resolver) -> str:
    return "exit"


def _format_wide(insn: Instruction, slot: int, names: Resolver) -> str:
    return f"r{int(insn.dst)} = {_wide_value(insn, slot, names)} ll"


def _wide_value(insn: Instruction, slot: int, names: Resolver) -> str:
    operation, ref = insn.op.operation, insn.ref
    low, high = insn.imm & 0xFFFF_FFFF, insn.imm >> 32
    if operation == "imm":
        return f"{insn.imm:#x}"
    if operation == "func":
        if isinstance(ref, Label):
            return f"subprog[{ref.name}]"
        distance = to_signed(low, 32)
        name = ref.name if isinstance(ref, FuncRef) else names.function_name(slot + 1 + distance)
        return f"subprog[{distance:+d}]{f'#{name}' if name else ''}"
    if operation == "var":
        if isinstance(ref, VarRef):
            return f"var[{ref.name}]" if not insn.imm else f"var[{_btf(low, high)}]#{ref.name}"
        return f"var[{_btf(low, high)}]"
    offset = ""
    if isinstance(ref, MapValueRef) and insn.imm in (0, ref.offset << 32) and operation == "map_value":
        return f"map[{ref.name}][0]+{ref.offset}"
    if isinstance(ref, MapRef) and not insn.imm and operation == "map_fd":
        return f"map[{ref.name}]"
    if operation in ("map_value", "map_idx_value"):
        offset = f"{'[0]' if operation == 'map_value' else ''}+{high}"
    kind = "fd" if operation in ("map_fd", "map_value") else "idx"
    number = names.map_name(insn) or f"{kind}:{low}"
    name = f"#{ref.name}" if isinstance(ref, MapRef | MapValueRef) else ""
    return f"map[{number}]{offset}{name}"


def _btf(low: int, high: int) -> str:
    return f"btf:{low} fd:{high}" if high else f"btf:{low}"


def _format_packet(insn: Instruction, slot: int, names: Resolver) -> str:
    where = f"{insn.imm}" if insn.op.operation == "abs" else f"r{int(insn.src)} + {insn.imm}"
    return f"r0 = *(u{insn.op.size * 8} *)skb[{where}]"


def _format_invalid(insn: Instruction, slot: int, names: Resolver) -> str:
    if insn.imm & ~_REGISTERS_BITS == _PER_CPU_MOVE and insn.imm >> 12 & 15 <= _R11 and insn.imm >> 8 & 15 <= _R11:
        return f"r{insn.imm >> 8 & 15} = &(void __percpu *)(r{insn.imm >> 12 & 15})"
    return "nospec" if insn.imm == _NOSPEC else f".8byte {insn.imm:#018x}"


_FORMATS: dict[Kind, Callable[[Instruction, int, Resolver], str]] = {
    Kind.ALU: _format_alu,
    Kind.MOV: _format_mov,
    Kind.MOVSX: _format_movsx,
    Kind.SWAP: _format_swap,
    Kind.ADDR_SPACE: _format_addr_space,
    Kind.LOAD: _format_load,
    Kind.LOADSX: _format_load,
    Kind.STORE: _format_store,
    Kind.ATOMIC: _format_atomic,
    Kind.LOAD_ACQUIRE: _format_load_acquire,
    Kind.STORE_RELEASE: _format_store_release,
    Kind.JUMP: _format_jump,
    Kind.GOTO: _format_goto,
    Kind.GOTO_INDIRECT: _format_goto_indirect,
    Kind.MAY_GOTO: _format_may_goto,
    Kind.CALL: _format_call,
    Kind.CALL_INDIRECT: _format_call_indirect,
    Kind.EXIT: _format_exit,
    Kind.WIDE: _format_wide,
    Kind.PACKET: _format_packet,
    Kind.INVALID: _format_invalid,
}
