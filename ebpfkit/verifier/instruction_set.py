"""Which instructions a kernel knows: an instruction that is younger than the kernel is rejected as that kernel would.

The versions are the `since` of the opcode table's rows. What an instruction does belongs in `transfer/`.
"""

from __future__ import annotations

from ebpfkit.abi.versions import has_instruction, is_in_force
from ebpfkit.asm.isa import Kind, Opcode
from ebpfkit.verifier.program import Code, is_known_byte
from ebpfkit.verifier.rejection import Rejection

__all__ = ["check_instruction_set", "check_loops", "unknown_when_walked"]

_MAX_INSNS_BEFORE_LARGE = 4_096


_CLASSES = {
    0: "BPF_LD",
    1: "BPF_LDX",
    2: "BPF_ST",
    3: "BPF_STX",
    4: "BPF_ALU",
    5: "BPF_JMP",
    6: "BPF_JMP",
    7: "BPF_ALU",
}


def _refusal(op: Opcode, kernel: str) -> tuple[str, str] | None:
    """Rule and message for an instruction that this kernel does not know; None when it says so only on the walk."""
    if op.kind is Kind.WIDE:
        return "invalid-wide-load", "unrecognized bpf_ld_imm64 insn"
    if not is_known_byte(op.code, kernel):
        return "unknown-opcode", f"unknown opcode {op.code:02x}"
    if op.kind is Kind.LOADSX:
        return "reserved-field", "BPF_LDX uses reserved fields"
    return None


def unknown_when_walked(op: Opcode, kernel: str) -> str:
    """What this kernel says of an instruction that came after it when its walk gets there; empty for known ones."""
    if not op.since or has_instruction(kernel, op.name, op.since):
        return ""
    name = (
        "BPF_MOV"
        if op.kind in (Kind.MOV, Kind.MOVSX)
        else "BPF_CALL"
        if op.kind is Kind.CALL
        else _CLASSES[op.code & 7]
    )
    return f"{name} uses reserved fields"


def check_instruction_set(code: Code, kernel: str) -> None:
    """Raise Rejection at the first instruction that came after this kernel, or for more of them than it takes."""
    if not is_in_force("large-programs", kernel) and code.slot_count > _MAX_INSNS_BEFORE_LARGE:
        raise Rejection("too-large", f"{code.slot_count} instructions are more than {_MAX_INSNS_BEFORE_LARGE}")
    for index, insn in enumerate(code.insns):
        op = insn.op
        if op.since and not has_instruction(kernel, op.name, op.since):
            refusal = _refusal(op, kernel)
            if refusal is not None:
                raise Rejection(*refusal, index=index)


def check_loops(code: Code, kernel: str) -> None:
    """Raise Rejection for a loop where the kernel walks none (below 5.3); wants the loops of `code` computed."""
    if is_in_force("bounded-loops", kernel):
        return
    for index, loop in enumerate(code.loops):
        target = code.targets[index]
        if loop and target is not None and target <= index and code.loops[target] == loop:
            message = f"back-edge from insn {code.slots[index]} to {code.slots[target]}"
            raise Rejection("back-edge", message, index=index)
