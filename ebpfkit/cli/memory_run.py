"""`ebpfkit run FILE --memory HEX`: a program without a type on plain memory, as instruction set tests want it.

The program may come as assembly, raw bytes or hex digits, from a file or stdin; what is printed is r0.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ebpfkit.asm.insn import Instruction
from ebpfkit.cli.status import print_json
from ebpfkit.elf.model import ObjectFile
from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.pipeline import Source

__all__ = ["run_on_memory"]

_HEX = re.compile(rb"[0-9a-fA-F\s]+")
_ELF = b"\x7fELF"


def run_on_memory(
    file: Path, memory: str, *, name: str | None, jit: str | None, big_endian: bool, as_json: bool
) -> None:
    """Run once with r1 = the memory's address and r2 = its length, and print r0 in hexadecimal."""
    from ebpfkit.vm import Machine

    if jit == "trusted":
        raise UsageError("--trusted needs the verifier, which judges programs with a type: take --jit")
    try:
        data = bytes.fromhex(memory)
    except ValueError as error:
        raise UsageError(f"--memory takes hex digits, two a byte: {error}") from error
    machine = Machine(_read(file, name), None, jit=jit, big_endian=big_endian or None)
    result = machine.run(data)
    if as_json:
        print_json({"r0": hex(result.r0), "memory": result.data.hex(), "insns": result.insns})
    else:
        click.echo(hex(result.r0))


def _read(file: Path, name: str | None) -> ObjectFile | bytes | list[Instruction]:
    """The program of a file or stdin: an object with one program left, code, or instructions."""
    from ebpfkit import pipeline
    from ebpfkit.asm.parser import parse

    if file.suffix == ".py":
        return _untyped(pipeline.open_source(file), name)
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    if data.startswith(_ELF):
        if str(file) == "-":
            raise UsageError("an object comes from a file, not from stdin")
        return _untyped(pipeline.open_source(file), name)
    if _HEX.fullmatch(data) and file.suffix not in (".s", ".S", ".asm"):
        try:
            return bytes.fromhex(data.decode())
        except ValueError as error:
            raise UsageError(f"{_shown(file)}: {error}") from error
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    # Code whose bytes all happen to be text holds zeros; assembly does not.
    return data if "\0" in text else parse(text, file=_shown(file))


def _shown(file: Path) -> str:
    return "<stdin>" if str(file) == "-" else str(file)


def _untyped(source: Source, name: str | None) -> ObjectFile:
    """The chosen program of an object, without its type."""
    spec = source.choose(name).replace(prog_type="")
    return source.object.replace(programs={spec.name: spec})
