"""Where a function's arguments, its result and the usual registers are in `struct pt_regs`, by machine.

The order of arguments is the calling convention's of functions in the kernel; those of system calls differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ebpfkit.abi.model import RegistersSpec

__all__ = ["PT_REGS"]

_ROWS = (
    RegistersSpec("x86_64", 168, parameters=(112, 104, 96, 88, 72, 64), result=80, ip=128, sp=152, fp=32),
    RegistersSpec("aarch64", 272, parameters=(0, 8, 16, 24, 32, 40, 48, 56), result=0, ip=256, sp=248, fp=232),
    RegistersSpec("riscv64", 256, parameters=(80, 88, 96, 104, 112, 120, 128, 136), result=80, ip=0, sp=16, fp=64),
)

PT_REGS: Mapping[str, RegistersSpec] = MappingProxyType({row.machine: row for row in _ROWS})
"""The registers of each machine that probes can be written for, by the name that `uname -m` gives."""
