"""`ebpfkit link`: several objects become one."""

from __future__ import annotations

from pathlib import Path

import click

from ebpfkit.cli.status import print_json


@click.command(name="link", short_help="Join several eBPF objects into one.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The new object.")
@click.option("--json", "as_json", is_flag=True, help="Print what the new object holds as JSON.")
def command(files: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Join FILES, as a static linker does: extern and weak symbols resolved, duplicate types removed."""
    from ebpfkit.elf import open_object
    from ebpfkit.elf.static import link_objects
    from ebpfkit.elf.writer import write_bytes

    joined = link_objects([(str(file), file.read_bytes()) for file in files])
    write_bytes(joined, output)
    obj = open_object(joined, name=str(output))
    shown = {
        "path": str(output), "bytes": len(joined), "programs": list(obj.programs), "maps": list(obj.maps),
        "types": len(obj.btf.types) if obj.btf else 0, "problems": dict(obj.problems),
    }  # fmt: skip
    if as_json:
        print_json(shown)
        return
    click.echo(f"{output}: {len(joined)} bytes, programs {', '.join(obj.programs) or 'none'}")
    for name, why in obj.problems.items():
        click.echo(f"{name}: {why}")
