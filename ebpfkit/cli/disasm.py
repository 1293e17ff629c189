"""`ebpfkit disasm`: instructions as text, with the source lines they came from."""

from __future__ import annotations

from pathlib import Path

import click

from ebpfkit.cli.status import print_json


@click.command(name="disasm", short_help="Print the instructions of an object or of raw bytes.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prog", "names", multiple=True, metavar="NAME", help="Only this program (may be repeated).")
@click.option("--raw", is_flag=True, help="FILE holds bare instruction bytes, no ELF.")
@click.option("--no-source", is_flag=True, help="Leave the source lines out.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of programs as JSON.")
def command(file: Path, names: tuple[str, ...], raw: bool, no_source: bool, as_json: bool) -> None:
    """Print the programs of FILE (Python or object) in the kernel's spelling."""
    from ebpfkit import pipeline
    from ebpfkit.asm.codec import slot_starts
    from ebpfkit.asm.printer import format_instruction, format_program
    from ebpfkit.elf.raw import program_from_code

    specs = [program_from_code(file.read_bytes(), name=file.stem)] if raw else pipeline.open_source(file).select(names)
    if as_json:
        print_json(
            [
                {
                    "name": spec.name,
                    "section": spec.section,
                    "insns": [
                        {
                            "slot": slot,
                            "text": format_instruction(insn, slot),
                            "op": insn.op.name,
                            "file": insn.span.file if insn.span else None,
                            "line": insn.span.line if insn.span else None,
                        }
                        for slot, insn in zip(slot_starts(spec.instructions), spec.instructions, strict=True)
                    ],
                }
                for spec in specs
            ]
        )
        return
    for position, spec in enumerate(specs):
        if position:
            click.echo()
        click.echo(f"{spec.name} ({spec.section or 'raw'}):")
        click.echo(format_program(spec.instructions, slots=True, source=not no_source), nl=False)
