"""What dumps have around their instructions: headers, symbols, byte columns, relocations, a terminal's prompt.

Known are `bpftool prog dump xlated` and `llvm-objdump -d`, each with its options. Verifier logs are `verifier_log`'s;
what an instruction looks like is `statement`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ebpfkit.asm.codec import decode
from ebpfkit.asm.insn import Instruction, KfuncRef, Label
from ebpfkit.asm.isa import Kind
from ebpfkit.asm.scanner import Scanner

__all__ = [
    "as_bytes",
    "begins_object",
    "decode_bytes",
    "header_label",
    "instructions_of_graph",
    "is_prompt",
    "reconcile",
    "relocation_of",
]

_OBJDUMP_HEADER = re.compile(r".*:\s+file format \S+$", re.ASCII)
_OBJDUMP_SECTION = re.compile(r"Disassembly of section .*:$", re.ASCII)
_OBJDUMP_SYMBOL = re.compile(r"[0-9a-f]{8,16} <(.+)>:$", re.ASCII)
_OBJDUMP_LABEL = re.compile(r"<([A-Za-z_.$][\w.$]*)>:$", re.ASCII)
_PROTOTYPE = re.compile(r"[A-Za-z_][\w ]*[ *]+([A-Za-z_]\w*)\(.*\):$", re.ASCII)
_RELOCATION = re.compile(r"[0-9a-f]{8,16}:\s+R_BPF_\w+\s+(\S+)$", re.ASCII)
_BYTES = re.compile(r"(?:[0-9a-f]{2} ){7}[0-9a-f]{2}(?: (?:[0-9a-f]{2} ){7}[0-9a-f]{2})?$", re.ASCII)

_USER_PROMPT = re.compile(r"(?:\([\w.-]+\) ?)?\[?[\w.-]{1,32}@[\w.-]{1,64}[: ][^#$%>]{0,200}[#$%>](?: .*)?$", re.ASCII)
_PROMPT = re.compile(r"[$%>](?: .*)?$")

_GRAPH = 'digraph "DOT graph for eBPF program'
_GRAPH_INSN = re.compile(r'\s*(?:\w+ \[[^"]*label="\{| ?\|)( *\d+: \([0-9a-f]{2}\) .*?)(?:\\l\\?)?$', re.ASCII)
_GRAPH_ESCAPE = re.compile(r"\\(.)")
_NEW_COUNT = "Disassembly of section :"  # a line behind which slots are counted anew

_DUMP_LENGTHS = (23, 47)  # characters of one slot, and of two


def begins_object(line: str) -> bool | None:
    """Whether a line begins what llvm-objdump prints of an object (True) or its instructions (False); None: neither."""
    if "file format" in line and _OBJDUMP_HEADER.match(line):
        return True
    return False if line.startswith("Disassembly of section") else None


def is_prompt(line: str) -> bool:
    """Whether a line is a shell's prompt, with or without the command, that was copied with the dump."""
    return _PROMPT.match(line) is not None or _USER_PROMPT.match(line) is not None


def instructions_of_graph(lines: Sequence[str]) -> list[tuple[int, str]] | None:
    """The instruction lines of `bpftool prog dump xlated visual` with their numbers; None for other text."""
    if not any(line.startswith(_GRAPH) for line in lines):
        return None
    program = []
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("subgraph "):
            program.append((number, _NEW_COUNT))
        elif found := _GRAPH_INSN.match(line):
            program.append((number, _GRAPH_ESCAPE.sub(r"\1", found[1])))
    return program


def header_label(line: str) -> str | None:
    """The label that a header of a dump sets, "" for a header without one, None for a line that is none."""
    if not line.endswith(":") and "file format" not in line:
        return None
    if _OBJDUMP_HEADER.match(line) or _OBJDUMP_SECTION.match(line):
        return ""
    found = _OBJDUMP_SYMBOL.match(line) or _OBJDUMP_LABEL.match(line) or _PROTOTYPE.match(line)
    return found[1] if found else None


def relocation_of(line: str) -> str | None:
    """The symbol of a relocation that `llvm-objdump -r` puts below an instruction."""
    found = _RELOCATION.match(line) if "R_BPF_" in line else None
    return found[1] if found else None


def as_bytes(line: str) -> bytes | None:
    """The bytes of a line that holds one slot, or two, in hexadecimal and nothing else."""
    return bytes.fromhex(line) if len(line) in _DUMP_LENGTHS and _BYTES.match(line) else None


def decode_bytes(line: Scanner, data: bytes) -> list[Instruction]:
    """The instructions that a byte dump stands for. Raises AsmError where it is half a wide load."""
    insns = decode(data, strict=False)
    if len(data) == 16 and len(insns) != 1:
        raise line.error("sixteen bytes stand for one wide load, and these are none")
    return insns


def reconcile(line: Scanner, insn: Instruction, data: bytes) -> Instruction:
    """The instruction that text and bytes agree on; bytes tell what the text leaves open.

    Open are the kind of a call (helpers, local and kernel functions look alike in some dumps), what a wide load refers
    to, a field that the kernel uses for itself, and operations that the tool was too old to know.

    Raises AsmError where they contradict one another.
    """
    for big_endian in (False, True):
        (given, *more) = decode(data, strict=False, big_endian=big_endian)
        if more:
            continue
        if given == insn.replace(ref=None, labels=(), span=None):
            return insn
        code = given.imm & 0xFF if given.op.kind is Kind.INVALID else given.op.code
        if code != insn.op.code:
            continue
        kinds = (given.op.kind, insn.op.kind)
        if given.op.name == insn.op.name == "CALL_LOCAL" and given.off == insn.imm:
            return given  # translated: the distance is in `off`
        if kinds == (Kind.CALL, Kind.CALL) and (given.imm == insn.imm or isinstance(insn.ref, Label)):
            is_kfunc = given.op.name == "CALL_KFUNC"
            return given.replace(ref=insn.ref if is_kfunc and isinstance(insn.ref, KfuncRef) else None)
        if (
            kinds == (Kind.WIDE, Kind.WIDE)
            and given.dst == insn.dst
            and (insn.op.name != "LDDW" or insn.imm == given.imm)
        ):
            return given.replace(ref=insn.ref if given.op is insn.op else None)
        if kinds == (Kind.CALL_INDIRECT, Kind.CALL_INDIRECT) and (given.dst, given.imm) == (0, insn.dst):
            return given  # LLVM before 19 kept the register in the immediate
        if given.op is insn.op and all(getattr(given, name) == getattr(insn, name) for name in insn.op.operands):
            return given  # with reserved fields that the text leaves out
        if given.op.off_code and (given.dst, given.src, given.imm) == (insn.dst, insn.src, insn.imm):
            return given  # an older tool printed sdiv as div, a move with sign extension as a move
        if given.op.kind is Kind.INVALID and _differs_in_offset_only(insn, given.imm):
            return given
    from ebpfkit.asm.printer import format_instruction

    shown = format_instruction(decode(data, strict=False)[0])
    raise line.error(f"text and bytes contradict one another: the bytes are `{shown}`", at=line.start)


def _differs_in_offset_only(insn: Instruction, bits: int) -> bool:
    """The kernel marks moves of per-CPU addresses with an offset of -1."""
    from ebpfkit.asm.codec import encode

    return int.from_bytes(encode([insn]), "little") | 0xFFFF_0000 == bits and insn.op.name == "MOV64_REG"
