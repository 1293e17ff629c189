"""Which instructions a kernel knows: an instruction that is younger than the kernel is rejected as that kernel would.

The versions are the `since` of the opcode table's rows. What an instruction does belongs in `transfer/`.
"""

from __future__ import annotations

from ebpfkit.abi.versions import has_instruction, is_in_force
from ebpfkit.asm.isa import Kind, Opcode
from ebpfkit.verifier.program import Code, is_known_byte, successors
from ebpfkit.verifier.rejection import Rejection

__all__ = ["check_back_edges", "check_instruction_set", "check_loops", "unknown_when_walked"]

_MAX_INSNS_BEFORE_LARGE = 4_096
_LOOPING = frozenset({Kind.JUMP, Kind.GOTO, Kind.MAY_GOTO, Kind.WIDE})
"""What may lead back where loops are walked but not every edge may close one (a wide load names a callback)."""


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
    """Raise Rejection for a loop that this kernel does not take: any below 5.3, one closed by no jump below 6.12."""
    if is_in_force("back-edges-anywhere", kernel):
        return
    permitted = _LOOPING if is_in_force("bounded-loops", kernel) else frozenset[Kind]()
    check_back_edges(code, permitted)


def check_back_edges(code: Code, permitted: frozenset[Kind] = frozenset()) -> None:
    """Raise Rejection at the first edge back that a depth-first search meets, falling through before jumping.

    Instructions of the `permitted` kinds may lead back.
    """
    met, open_ = {0}, {0}
    path = [(0, _edges(code, 0))]
    while path:
        at, edges = path[-1]
        if not edges:
            path.pop()
            open_.discard(at)
            continue
        following = edges.pop()
        if following not in met:
            met.add(following)
            open_.add(following)
            path.append((following, _edges(code, following)))
        elif following in open_ and code.insns[at].op.kind not in permitted:
            message = f"back-edge from insn {code.slots[at]} to {code.slots[following]}"
            raise Rejection("back-edge", message, index=at)


def _edges(code: Code, index: int) -> list[int]:
    """Where control goes after the instruction, the edge looked at first last; a call also enters its function."""
    found = successors(code, index)[::-1]
    target = code.targets[index]
    if target is not None and target not in found:
        found.insert(0, target)
    return found
