"""`ebpfkit btf`: the types of an object, a BTF file or the running kernel; as C, as Python, as JSON; cut down."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfkit.cli.status import print_json
from ebpfkit.errors import ObjectError, UsageError

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf, BtfType


@click.group(name="btf", short_help="Show types as C or Python, or cut a kernel's types down.")
def command() -> None:
    """Types in BPF Type Format."""


@command.command(name="dump", short_help="Write types as text, C, Python or JSON.")
@click.argument("file")
@click.option("--c", "style", flag_value="c", help="A C header that compiles, as `vmlinux.h`.")
@click.option("--python", "style", flag_value="python", help="Python classes for programs.")
@click.option("--pyi", "style", flag_value="pyi", help="The stub file of those classes.")
@click.option("--json", "style", flag_value="json", help="One JSON document.")
@click.option("--type", "names", multiple=True, metavar="NAME", help="Only this type and what it needs (repeatable).")
@click.option("--base", metavar="BTF", help="The types that FILE extends, for a kernel module's (default: vmlinux).")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write there (--python: and .pyi)."
)
def dump(file: str, style: str | None, names: tuple[str, ...], base: str | None, output: Path | None) -> None:
    """Show the types of FILE: an eBPF object, a file of BTF, or `vmlinux` for the running kernel."""
    btf = read_types(file, base)
    first = len(btf.base.types) if btf.base is not None else 1
    roots = [_find(btf, name) for name in names] or list(range(first, len(btf.types)))
    if style == "c":
        from ebpfkit.btf.dump import dump_c

        text = dump_c(btf, roots)
    elif style in ("python", "pyi"):
        from ebpfkit.btf.python import dump_python

        text = dump_python(btf, roots, stub=style == "pyi", source=file)
        if style == "python" and output is not None:
            _write(output.with_suffix(".pyi"), dump_python(btf, roots, stub=True, source=file))
    elif style == "json":
        print_json({"types": [to_json(btf, type_id) for type_id in roots]})
        return
    else:
        text = "".join(_line(btf, type_id) + "\n" for type_id in roots)
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(output, text)


@command.command(name="min", short_help="Cut a kernel's types down to what objects need.")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--btf", "target", default="vmlinux", show_default=True, metavar="BTF", help="The kernel's types.")
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The new BTF file."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def minimal(files: tuple[Path, ...], target: str, output: Path, as_json: bool) -> None:
    """Write the part of a kernel's BTF that the CO-RE relocations of FILES ask for."""
    from ebpfkit.btf.minimal import minimal_btf
    from ebpfkit.elf.reader import read_elf
    from ebpfkit.elf.types import read_raw_types

    needs = []
    for file in files:
        local, ext = read_raw_types(read_elf(file.read_bytes()))
        if local is not None:
            needs += [(local, relo) for relos in ext.relos.values() for relo in relos]
    cut = minimal_btf(read_types(target, None), needs)
    data = cut.to_bytes()
    _write(output, data)
    shown = {"path": str(output), "bytes": len(data), "types": len(cut.types) - 1, "relocations": len(needs)}
    if as_json:
        print_json(shown)
    else:
        click.echo(f"{output}: {shown['bytes']} bytes, {shown['types']} types for {shown['relocations']} relocations")


@command.command(name="dedup", short_help="Remove duplicate types, also those that a base has.")
@click.argument("file")
@click.option("--base", metavar="BTF", help="The types that FILE extends (split BTF), such as vmlinux.")
@click.option(
    "-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The new BTF file."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def dedup(file: str, base: str | None, output: Path, as_json: bool) -> None:
    """Write the types of FILE with each of them once; what it repeats of its base becomes a reference there."""
    from ebpfkit.btf.dedup import deduplicate
    from ebpfkit.btf.split import deduplicate_split

    btf = read_types(file, base)
    joined = deduplicate([btf]) if btf.base is None else deduplicate_split(btf)
    cut = joined.to_btf()
    data = cut.to_bytes()
    _write(output, data)
    first = len(btf.base.types) if btf.base is not None else 1
    shown = {
        "path": str(output), "bytes": len(data), "types": len(cut.types) - first,
        "removed": len(btf.types) - len(cut.types),
    }  # fmt: skip
    if as_json:
        print_json(shown)
    else:
        click.echo(f"{output}: {shown['bytes']} bytes, {shown['types']} types, {shown['removed']} removed")


def read_types(file: str, base: str | None) -> Btf:
    """The types of an object, a BTF file, or (`vmlinux`, a module's name) of the running kernel."""
    from ebpfkit.btf.vmlinux import KERNEL_BTF, read_btf_file

    folder = Path(KERNEL_BTF).parent
    path = Path(file)
    if not path.exists() and "/" not in file and (folder / file).exists():
        path = folder / file
    if not path.is_file():
        raise UsageError(f"{file}: no such file, and the running kernel has no types of that name")
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic == b"\x7fELF":
        from ebpfkit.elf.reader import read_elf
        from ebpfkit.elf.types import read_raw_types

        try:
            btf, _ = read_raw_types(read_elf(path.read_bytes()))
        except ObjectError as error:
            raise ObjectError(error.message.removeprefix(f"{error.place}: "), place=f"{file}: {error.place}") from None
        if btf is None:
            raise UsageError(f"{file} has no types; compile it with -g")
        return btf
    is_module = path.parent == folder and path.name != "vmlinux"
    extended = None if base is None and not is_module else read_types(base or "vmlinux", None)
    try:
        return read_btf_file(path, base=extended)
    except ObjectError as error:
        raise ObjectError(error.message.removeprefix(f"{error.place}: "), place=f"{file}: {error.place}") from None


def _find(btf: Btf, name: str) -> int:
    found = btf.ids(name)
    if not found:
        raise UsageError(f"there is no type called {name!r}")
    return found[0]


def _write(path: Path, text: str | bytes) -> None:
    try:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def to_json(btf: Btf, type_id: int) -> dict[str, Any]:
    """A type with its fields under their names here."""
    from ebpfkit.btf.types import KIND_NAMES

    type_ = btf.get(type_id)
    shown: dict[str, Any] = {"id": type_id, "kind": KIND_NAMES[type_.kind], "name": type_.name}
    for field in fields(type_):
        value = getattr(type_, field.name)
        shown[field.name] = [row._asdict() for row in value] if isinstance(value, tuple) else value
    return shown


def _line(btf: Btf, type_id: int) -> str:
    """One type as a line, its elements indented below."""
    type_: BtfType = btf.get(type_id)
    shown = to_json(btf, type_id)
    rows = [value for value in shown.values() if isinstance(value, list)]
    plain = {k: v for k, v in shown.items() if k not in ("id", "kind", "name") and not isinstance(v, list)}
    head = f"[{type_id}] {shown['kind']} '{type_.name or '(anon)'}'"
    lines = [" ".join([head, *(f"{key}={int(value)}" for key, value in plain.items())])]
    for row in [row for group in rows for row in group]:
        name = row.pop("name", None)
        lines.append("\t" + " ".join([*([f"'{name or '(anon)'}'"] if name is not None else []),
                                      *(f"{key}={value}" for key, value in row.items())]))  # fmt: skip
    return "\n".join(lines)
