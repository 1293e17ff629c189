"""BPF Type Format: the types of a program and of a kernel, on the wire, in Python, and rendered as C.

Belongs here: the kinds, the wire format, `.BTF.ext`, building, rendering, the kernel's own BTF and CO-RE arithmetic.
Does not belong here: ELF (where the sections come from) and patching of instructions, which are `elf/`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ebpfkit.btf.build import BtfBuilder as BtfBuilder
    from ebpfkit.btf.ext import BtfExt as BtfExt
    from ebpfkit.btf.types import Btf as Btf

__all__ = ["Btf", "BtfBuilder", "BtfExt"]

_HOMES = {"Btf": "types", "BtfBuilder": "build", "BtfExt": "ext"}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"ebpfkit.btf.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ebpfkit.btf' has no attribute {name!r}")
