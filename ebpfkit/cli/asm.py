"""`ebpfkit asm`: text to instruction bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ebpfkit.cli.status import print_json, write_output


@click.command(name="asm", short_help="Assemble text into instruction bytes.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the raw bytes here.")
@click.option("--json", "as_json", is_flag=True, help="Print instructions and bytes as JSON.")
def command(file: Path, output: Path | None, as_json: bool) -> None:
    """Assemble FILE (the kernel's spelling, labels and comments allowed; - is stdin). Without -o, hex is printed."""
    from ebpfkit.asm.codec import encode
    from ebpfkit.asm.parser import parse
    from ebpfkit.errors import AsmError

    name = "<stdin>" if str(file) == "-" else str(file)
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise AsmError(f"{name}: byte {error.start} is not UTF-8 text; assembly is text") from error
    insns = parse(text, file=name)
    code = encode(insns)
    if output is not None:
        write_output(output, code)
    if as_json:
        print_json({"insns": len(insns), "slots": len(code) // 8, "bytes": code.hex()})
    elif output is None:
        for start in range(0, len(code), 8):
            click.echo(code[start : start + 8].hex(" "))
