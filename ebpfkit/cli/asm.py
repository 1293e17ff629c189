"""`ebpfkit asm`: text to instruction bytes, or a whole `.s` to an object."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ebpfkit.cli.status import print_json, write_output
from ebpfkit.errors import UsageError


@click.command(name="asm", short_help="Assemble text into instruction bytes or an object.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path),
    help="Write here: an ELF object if the name ends in .o, else the bare instructions.",
)  # fmt: skip
@click.option("--big-endian", is_flag=True, help="For a big-endian machine.")
@click.option("--json", "as_json", is_flag=True, help="Print instructions and bytes as JSON.")
def command(file: Path, output: Path | None, big_endian: bool, as_json: bool) -> None:
    """Assemble FILE (- is stdin). Without -o, the bytes are printed in hexadecimal.

    Read are the kernel's spelling (verifier logs and dumps of bpftool and llvm-objdump as they stand), LLVM's .s and
    uBPF's mnemonics. A .s with its sections, maps and type information becomes an object that loads: -o prog.o.
    `ebpfkit disasm --isa` lists the instructions.
    """
    from ebpfkit.asm.codec import encode
    from ebpfkit.asm.parser import read_text

    name = "<stdin>" if str(file) == "-" else str(file)
    text = _read(file, name)
    if output is not None and output.suffix == ".o":
        if as_json:
            raise UsageError("--json shows instructions: leave it out, or write to a name that does not end in .o")
        _write_object(text, name, output, big_endian)
        return
    reader = read_text(text, file=name)
    insns = reader.finish()
    for gap in reader.not_shown:
        shown = f"slot {gap.start} is" if len(gap) == 1 else f"slots {gap.start} to {gap.stop - 1} are"
        click.echo(f"ebpfkit: note: {shown} not in this log (never walked): `goto pc-1` stands there", err=True)
    code = encode(insns, big_endian=big_endian)
    if output is not None:
        write_output(output, code)
    if as_json:
        print_json({"insns": len(insns), "slots": len(code) // 8, "bytes": code.hex()})
    elif output is None:
        for start in range(0, len(code), 8):
            click.echo(code[start : start + 8].hex(" "))


def _read(file: Path, name: str) -> str:
    from ebpfkit.errors import AsmError

    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise AsmError(f"{name}: byte {error.start} is not UTF-8 text; assembly is text") from error


def _write_object(text: str, name: str, output: Path, big_endian: bool) -> None:
    from ebpfkit.asm.unit import assemble
    from ebpfkit.elf.assembled import object_from_unit

    write_output(output, object_from_unit(assemble(text, file=name, big_endian=big_endian)))
