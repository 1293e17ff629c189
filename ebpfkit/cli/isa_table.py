"""The table of instructions as `ebpfkit disasm --isa` shows it: one row an instruction, with an example of its text.

What the rows are is `asm/isa.py`'s.
"""

from __future__ import annotations

from typing import Any

import click

from ebpfkit.cli.status import print_json

__all__ = ["show_isa"]


def show_isa(as_json: bool) -> None:
    """Print every instruction with its opcode byte, conformance group, CPU level and first kernel."""
    rows = _rows()
    if as_json:
        print_json(rows)
        return
    columns = ("name", "opcode", "fixed", "group", "cpu", "kernel", "text")
    widths = [max(len(str(row[name])) for row in [*rows, {name: name}]) for name in columns]
    for row in [dict(zip(columns, columns, strict=True)), *rows]:
        cells = (f"{row[name]!s:{width}}" for name, width in zip(columns, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _rows() -> list[dict[str, Any]]:
    from ebpfkit.asm.insn import R1, R2, Instruction, Register
    from ebpfkit.asm.isa import OPCODES, Kind, Opcode
    from ebpfkit.asm.printer import format_instruction

    def example(op: Opcode) -> str:
        uses = op.operands
        dst, src = (R1 if "dst" in uses else Register(0)), (R2 if "src" in uses else Register(0))
        is_kfunc = op.name == "CALL_KFUNC"
        off = 4 if "off" in uses and not is_kfunc else 0
        return format_instruction(Instruction(op, dst, src, off, 1 if "imm" in uses else 0))

    return [
        {
            "name": op.name,
            "opcode": f"{op.code:#04x}",
            "fixed": _fixed(op.off_code, op.imm_code, op.src_code),
            "group": op.group.value,
            "cpu": f"v{op.cpu}",
            "kernel": (op.since or "all") if op.in_linux else "none",
            "text": example(op),
        }
        for op in OPCODES.values()
        if op.kind is not Kind.INVALID
    ]


def _fixed(off: int | None, imm: int | None, src: int | None) -> str:
    """The field whose value tells rows of one opcode byte apart, as `imm=0x41`."""
    found = next(
        ((name, value) for name, value in (("off", off), ("imm", imm), ("src", src)) if value is not None), None
    )
    return f"{found[0]}={found[1]:#x}" if found else ""
