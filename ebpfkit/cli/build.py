"""`ebpfkit build`: a Python file to an object, or to the text of one stage."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import click

from ebpfkit.cli.status import print_json, write_output
from ebpfkit.errors import UsageError

STAGES = ("ast", "ir", "llvm", "asm", "btf", "elf")


@click.command(name="build", short_help="Compile a Python file to an eBPF object.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Where the object goes.")
@click.option("--kernel", metavar="V", help="Oldest kernel to run on, such as 5.10; chooses the CPU level.")
@click.option("--mcpu", type=click.Choice(["v1", "v2", "v3", "v4"]), help="CPU level (default v3).")
@click.option("--emit", type=click.Choice(STAGES), help="Print one stage instead of building.")
@click.option("--json", "as_json", is_flag=True, help="Say what was built as JSON.")
def command(
    file: Path, output: Path | None, kernel: str | None, mcpu: str | None, emit: str | None, as_json: bool
) -> None:
    """Compile FILE (Python) to an ordinary eBPF object that libbpf, bpftool and iproute2 load too."""
    from ebpfkit import pipeline

    if file.suffix != ".py":
        raise UsageError(f"{file} is not a Python file; build compiles Python")
    if output is None and emit is None:
        raise UsageError("say where the object goes with -o OBJ, or which stage to print with --emit")
    module = pipeline.import_file(file)
    compiled = pipeline.compile_stages(module, kernel=kernel, mcpu=mcpu)
    if emit is not None:
        stage = compiled.stages[emit]
        if output is not None:
            write_output(output, stage.encode() if isinstance(stage, str) else stage)
        elif as_json:
            print_json({"stage": emit, "text" if isinstance(stage, str) else "hex": _text_of(stage)})
        elif isinstance(stage, bytes):
            sys.stdout.buffer.write(stage)
        else:
            click.echo(stage.rstrip("\n"))
        return
    assert output is not None
    pipeline.refuse_initial_contents(module)
    write_output(output, compiled.elf)
    built = pipeline.open_source(output).object
    if as_json:
        print_json(
            {
                "output": str(output),
                "bytes": len(compiled.elf),
                "sha256": hashlib.sha256(compiled.elf).hexdigest(),
                "mcpu": compiled.options.cpu,
                "programs": [
                    {"name": spec.name, "section": spec.section, "insns": sum(i.slots for i in spec.instructions)}
                    for spec in built.programs.values()
                ],
                "maps": [{"name": spec.name, "type": spec.type} for spec in built.maps.values()],
            }
        )
        return
    for spec in built.programs.values():
        click.echo(f"{output}: {spec.name} ({spec.section}), {sum(i.slots for i in spec.instructions)} instructions")


def _text_of(stage: str | bytes) -> str:
    return stage if isinstance(stage, str) else stage.hex()
