"""`ebpfkit disasm`: instructions as text with the source lines they came from, or drawn as basic blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfkit.cli.status import print_json
from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.asm.insn import Instruction
    from ebpfkit.elf.model import ProgramSpec


@click.command(name="disasm", short_help="Print the instructions of an object or of raw bytes.")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--prog", "names", multiple=True, metavar="NAME", help="Only this program (may be repeated).")
@click.option("--raw", is_flag=True, help="FILE holds bare instruction bytes, no ELF.")
@click.option("--big-endian", is_flag=True, help="With --raw: the bytes are for a big-endian machine.")
@click.option("--no-source", is_flag=True, help="Leave the source lines out.")
@click.option("--legacy", is_flag=True, help="Read what objects of iproute2, aya and libbpf before 1.0 have.")
@click.option("--opcodes", is_flag=True, help="Show the opcode byte of each instruction.")
@click.option(
    "--style", type=click.Choice(["kernel", "llvm", "ubpf"]), default="kernel", show_default=True, help="The spelling."
)
@click.option(
    "--cfg", "drawing", type=click.Choice(["svg", "dot", "mermaid"]), help="Draw the basic blocks of one program."
)
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the drawing here, not to stdout."
)
@click.option("--isa", is_flag=True, help="List the instruction set instead: opcodes, conformance groups, kernels.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of programs as JSON.")
def command(
    file: Path | None,
    names: tuple[str, ...],
    raw: bool,
    big_endian: bool,
    no_source: bool,
    legacy: bool,
    opcodes: bool,
    style: str,
    drawing: str | None,
    output: Path | None,
    isa: bool,
    as_json: bool,
) -> None:
    """Print the programs of FILE (Python or object), jump targets as labels; `ebpfkit asm` reads it back."""
    from ebpfkit import pipeline
    from ebpfkit.asm.labels import label_targets
    from ebpfkit.asm.printer import format_program
    from ebpfkit.elf.raw import program_from_code

    if isa:
        from ebpfkit.cli.isa_table import show_isa

        show_isa(as_json)
        return
    if file is None:
        raise UsageError(
            "FILE is missing: an object, a Python file, or with --raw instruction bytes (or ask for --isa)"
        )
    if big_endian and not raw:
        raise UsageError("--big-endian goes with --raw: an object says its byte order itself")
    if output is not None and drawing is None:
        raise UsageError("-o goes with --cfg: text goes to stdout")
    variables: dict[tuple[str, int], str] = {}
    if raw:
        specs = [program_from_code(file.read_bytes(), name=file.stem, big_endian=big_endian)]
    else:
        source = pipeline.open_source(file, legacy=legacy)
        specs = source.select(names)
        variables = {(row.map_name, row.offset): row.name for row in source.object.variables.values()}
    if drawing is not None:
        _draw(specs, drawing, output)
        return
    if as_json:
        print_json([_as_json(spec) for spec in specs])
        return
    for position, spec in enumerate(specs):
        if position:
            click.echo()
        click.echo(f"; {spec.name} ({spec.section or 'raw'})")
        labelled = label_targets(spec.instructions, _functions(spec))
        text = format_program(
            labelled, slots=True, opcodes=opcodes, source=not no_source, spell=_spelling(style, variables)
        )  # fmt: skip
        click.echo(text, nl=False)


def _functions(spec: ProgramSpec) -> dict[int, str]:
    return {info.slot: info.name for info in spec.func_infos}


def _spelling(style: str, variables: Mapping[tuple[str, int], str]) -> Callable[[Instruction, int], str]:
    """How an instruction is written, a variable whose address it loads behind it.

    The kernel's spelling fills in where the chosen one has none.
    """
    from ebpfkit.asm.insn import MapValueRef
    from ebpfkit.asm.llvm_spelling import format_llvm
    from ebpfkit.asm.mnemonics import format_mnemonic
    from ebpfkit.asm.printer import format_instruction

    write = {"llvm": format_llvm, "ubpf": format_mnemonic}.get(style)

    def spell(insn: Instruction, slot: int) -> str:
        try:
            text = write(insn) if write else format_instruction(insn, slot)
        except KeyError:
            text = format_instruction(insn, slot)
        name = variables.get((insn.ref.name, insn.ref.offset)) if isinstance(insn.ref, MapValueRef) else None
        return f"{text} ; &{name}" if name else text

    return spell


def _draw(specs: list[ProgramSpec], format: str, output: Path | None) -> None:
    from ebpfkit.asm.drawing import draw_cfg

    if len(specs) != 1:
        raise UsageError(f"--cfg draws one program: choose with --prog among {', '.join(spec.name for spec in specs)}")
    spec = specs[0]
    title = f"{spec.name} ({spec.section or 'raw'})"
    text = draw_cfg(spec.instructions, format, title=title, functions=_functions(spec))
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text)
    except OSError as error:
        raise UsageError(f"{output}: {error.strerror or error}") from error


def _as_json(spec: ProgramSpec) -> dict[str, Any]:
    from ebpfkit.asm.codec import slot_starts
    from ebpfkit.asm.labels import label_targets
    from ebpfkit.asm.printer import format_instruction

    labelled = label_targets(spec.instructions, _functions(spec))
    return {
        "name": spec.name,
        "section": spec.section,
        "insns": [
            {
                "slot": slot,
                "text": format_instruction(insn, slot),
                "op": insn.op.name,
                "labels": list(insn.labels),
                "file": insn.span.file if insn.span else None,
                "line": insn.span.line if insn.span else None,
            }
            for slot, insn in zip(slot_starts(labelled), labelled, strict=True)
        ],
    }
