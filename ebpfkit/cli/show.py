"""`ebpfkit show`: what is in an object, what each program needs, and from which kernel on that is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ebpfkit.cli.status import print_json
from ebpfkit.errors import UsageError


@click.command(name="show", short_help="Show what an object holds and needs.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--diff", "other", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Show what OTHER has instead."
)
@click.option("--btf", metavar="BTF", help="Types of the kernel it is meant for, for CO-RE ('vmlinux': this one).")
@click.option("--legacy", is_flag=True, help="Read what objects of iproute2, aya and libbpf before 1.0 have.")
@click.option("--type", "prog_type", metavar="TYPE", help="With --legacy: the program type where a section says none.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(file: Path, other: Path | None, btf: str | None, legacy: bool, prog_type: str | None, as_json: bool) -> int:
    """Show the programs, maps, variables, relocations, externs and types of FILE, and what its programs need.

    With --diff: exit status 1 when the objects differ.
    """
    if prog_type is not None and not legacy:
        raise click.UsageError("--type is for sections of older objects that say no type: give --legacy too")
    shown = _describe(file, btf, legacy, prog_type)
    if other is None:
        if as_json:
            print_json(shown)
        else:
            for line in render(shown):
                click.echo(line)
        return 0
    from ebpfkit.elf.describe import diff_objects

    rows = diff_objects(shown, _describe(other, btf, legacy, prog_type))
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            click.echo(f"{row['place']}: {_brief(row['old'])} -> {_brief(row['new'])}")
        if not rows:
            click.echo("no difference")
    return 1 if rows else 0


def _describe(file: Path, btf: str | None, legacy: bool, prog_type: str | None) -> dict[str, Any]:
    from ebpfkit import pipeline
    from ebpfkit.elf.describe import describe_object

    target = pipeline.RUNNING_BTF if btf == "vmlinux" else btf
    if target is not None and not Path(target).is_file():
        raise UsageError(f"{target}: no such file")
    source = pipeline.open_source(file, btf=target, legacy=legacy, prog_type=prog_type or "xdp")
    return {**describe_object(source.object), "path": str(file)}


def render(shown: dict[str, Any]) -> Iterator[str]:
    """The description for a terminal."""
    yield f"{shown['path']}: {shown['byte_order']}-endian, licence {shown['license'] or 'none'}"
    for name, program in shown["programs"].items():
        flags = "" if program["autoload"] else ", not loaded by itself"
        yield f"program {name} ({program['section']}): {program['type']}, {program['slots']} slots{flags}"
        if len(program["functions"]) > 1:
            yield f"    functions: {', '.join(program['functions'])}"
        if program["maps"]:
            yield f"    maps: {', '.join(program['maps'])}"
        for kind, rows in program["needs"].items():
            yield f"    {kind}: {', '.join(f'{need} ({since})' for need, since in rows.items())}"
        yield f"    instruction level v{program['cpu']}, Linux {program['kernel']} or later"
    for name, why in shown["problems"].items():
        yield f"problem {name}: {why}"
    for name, row in shown["maps"].items():
        sizes = f"key {row['key_size']}, value {row['value_size']}, {row['max_entries']} entries"
        yield f"map {name}: {row['type']}, {sizes}"
    for name, row in shown["variables"].items():
        yield f"variable {name}: {row['map']}+{row['offset']:#x}, {row['size']} bytes"
    for name, row in shown["struct_ops"].items():
        functions = ", ".join(f"{member}={program}" for member, program in row["functions"].items())
        by_link = ", by link (6.4)" if row["link"] else ""
        yield f"operations {name}: {row['type']} {functions}".rstrip() + by_link
    for name, row in shown["externs"].items():
        yield f"extern {name}: {row['section'] or 'undefined'}{', weak' if row['weak'] else ''}"
    for name, count in shown["relocations"].items():
        core = shown["core_relocations"].get(name, 0)
        yield f"relocations of {name}: {count}" + (f", and {core} of CO-RE" if core else "")
    if shown["btf"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in shown["btf"]["kinds"].items())
        yield f"types: {shown['btf']['types']} ({kinds})"
    for warning in shown["warnings"]:
        yield f"warning: {warning}"


def _brief(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
