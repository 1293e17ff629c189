"""Object files: read, link, relocate; objects, programs, maps and variables as plain data.

Belongs here: everything between the bytes of an ELF object and finished `ProgramSpec`s. Does not belong here: the types
themselves (`btf/`), instructions (`asm/`), and the kernel (`loader/`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebpfkit.elf.linker import open_object as open_object
    from ebpfkit.elf.model import MapSpec as MapSpec
    from ebpfkit.elf.model import ObjectFile as ObjectFile
    from ebpfkit.elf.model import ProgramSpec as ProgramSpec
    from ebpfkit.elf.model import VarSpec as VarSpec
    from ebpfkit.elf.structops import set_operation as set_operation
    from ebpfkit.elf.variables import get_variable as get_variable
    from ebpfkit.elf.variables import set_variable as set_variable

__all__ = [
    "MapSpec",
    "ObjectFile",
    "ProgramSpec",
    "VarSpec",
    "get_variable",
    "open_object",
    "set_operation",
    "set_variable",
]

_HOMES = {
    "MapSpec": "model", "ObjectFile": "model", "ProgramSpec": "model", "VarSpec": "model",
    "open_object": "linker", "set_variable": "variables", "get_variable": "variables", "set_operation": "structops",
}  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"ebpfkit.elf.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ebpfkit.elf' has no attribute {name!r}")
