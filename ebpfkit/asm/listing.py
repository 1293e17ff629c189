"""What dumps have around their instructions: headers, symbols, byte columns, relocations, the noise of a verifier log.

Known are the kernel's verifier log, `bpftool prog dump xlated` and `llvm-objdump -d` with its options. What an
instruction looks like is `statement`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ebpfkit.asm.codec import decode
from ebpfkit.asm.insn import Instruction, KfuncRef, Label
from ebpfkit.asm.isa import Kind
from ebpfkit.asm.scanner import Scanner
from ebpfkit.errors import AsmError
from ebpfkit.span import Span

__all__ = ["as_bytes", "decode_bytes", "header_label", "instructions_of_log", "reconcile", "relocation_of"]

_OBJDUMP_HEADER = re.compile(r".*:\s+file format \S+$", re.ASCII)
_OBJDUMP_SECTION = re.compile(r"Disassembly of section .*:$", re.ASCII)
_OBJDUMP_SYMBOL = re.compile(r"[0-9a-f]{8,16} <(.+)>:$", re.ASCII)
_OBJDUMP_LABEL = re.compile(r"<([A-Za-z_.$][\w.$]*)>:$", re.ASCII)
_PROTOTYPE = re.compile(r"[A-Za-z_][\w ]*[ *]+([A-Za-z_]\w*)\(.*\):$", re.ASCII)
_RELOCATION = re.compile(r"[0-9a-f]{8,16}:\s+R_BPF_\w+\s+(\S+)$", re.ASCII)
_BYTES = re.compile(r"(?:[0-9a-f]{2} ){7}[0-9a-f]{2}(?: (?:[0-9a-f]{2} ){7}[0-9a-f]{2})?$", re.ASCII)

_DUMP_LENGTHS = (23, 47)  # characters of one slot, and of two

_LOG_INSN = re.compile(r"\s*(\d+): (?:[.0-9]{10,11} )?(\([0-9a-f]{2}\) .*)$", re.ASCII)
_LOG_MARK = re.compile(
    r"(?:processed \d+ insns|func#\d+ @\d+|Live regs before insn:|\d+: (?:frame\d+: )?R\d+=|from \d+ to \d+:"
    r"|last_idx \d+ first_idx|mark_precise:|-- (?:BEGIN|END) PROG LOAD LOG --)",
    re.ASCII,
)
_LOG_STATE = re.compile(r"\s+;\s*(?:frame\d+: )?(?:R\d+(?:_\w+)?=|fp-?\d+(?:_\w+)?=|refs=).*$", re.ASCII)


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


def instructions_of_log(lines: Sequence[str], file: str) -> list[tuple[int, str]] | None:
    """The instruction lines of a verifier log in program order, with their line numbers; None for other text.

    A log follows paths: instructions come out of order and again and again. Raises AsmError where it shows two
    instructions at one slot, or leaves one out.
    """
    if not any(_LOG_MARK.match(line) for line in lines):
        return None
    found: dict[int, tuple[int, str]] = {}
    wide: set[int] = set()
    for number, raw in enumerate(lines, 1):
        shown = _LOG_INSN.match(raw.rstrip("\r"))
        if not shown:
            continue
        slot, text = int(shown[1]), _LOG_STATE.sub("", shown[2]).rstrip()
        known = found.setdefault(slot, (number, text))
        if known[1] != text:
            message = f"slot {slot} is {known[1]!r} in line {known[0]} and {text!r} here: paste the log of one program"
            raise AsmError(message, span=Span(file, number, 1, text=raw))
        if text.startswith("(18)"):
            wide.add(slot)
    if not found:
        raise AsmError("this verifier log shows no instruction; ask for one of level 2", span=Span(file, 1, 1))
    expected = 0
    for slot in sorted(found):
        if slot != expected:
            number, text = found[slot]
            raise AsmError(
                f"slot {expected} is not in this log, which shows what was walked only; "
                "take `bpftool prog dump xlated` instead",
                span=Span(file, number, 1, text=lines[number - 1]),
            )
        expected = slot + (2 if slot in wide else 1)
    return [(number, f"{slot}: {text}") for slot, (number, text) in sorted(found.items())]


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
