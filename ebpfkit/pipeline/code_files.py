"""Files that hold instructions and no object: assembly text, raw bytes."""

from __future__ import annotations

import re
from pathlib import Path

from ebpfkit.elf.model import ObjectFile
from ebpfkit.errors import AsmError, UsageError

__all__ = ["read_code"]

_TEXT = (".s", ".S", ".asm")
_OBJECT_LINE = re.compile(r"^\s*\.(section|text|data|maps|globa?l)\b", re.MULTILINE)
_MAGIC = b"\x7fELF"
_SLOT = 8
_MAX_BYTES = 8 * (1 << 24)


def read_code(path: Path, *, prog_type: str = "xdp") -> ObjectFile | None:
    """The object around the instructions of a file; None for a file that is an object itself.

    A text with sections becomes what the assembler makes of it; a text or bytes without are one program of `prog_type`,
    named after the file. Raises AsmError for what is no assembly or no instructions.
    """
    if path.suffix in _TEXT:
        return _of_text(path, prog_type)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    if data.startswith(_MAGIC):
        return None
    if not data or len(data) % _SLOT or len(data) > _MAX_BYTES:
        return None  # the reader of objects says what is wrong
    from ebpfkit.asm.codec import decode
    from ebpfkit.elf.raw import program_from_code

    try:
        decode(data)
    except AsmError as error:
        raise AsmError(f"{path}: neither an object, which begins with ELF's magic, nor code: {error}") from error
    spec = program_from_code(data, prog_type=prog_type, name=_name_of(path))
    return ObjectFile({spec.name: spec}, {}, license=spec.license)


def _of_text(path: Path, prog_type: str) -> ObjectFile:
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise AsmError(f"{path}: byte {error.start} is not UTF-8 text; assembly is text") from error
    if _OBJECT_LINE.search(text):
        from ebpfkit.asm.unit import assemble
        from ebpfkit.elf import open_object
        from ebpfkit.elf.assembled import object_from_unit

        return open_object(object_from_unit(assemble(text, file=str(path))), name=path.name)
    from ebpfkit.asm.parser import parse
    from ebpfkit.elf.raw import program_from_code

    spec = program_from_code(parse(text, file=str(path)), prog_type=prog_type, name=_name_of(path))
    return ObjectFile({spec.name: spec}, {}, license=spec.license)


def _name_of(path: Path) -> str:
    return re.sub(r"\W", "_", path.stem) or "prog"
