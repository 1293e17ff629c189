"""What a program borrows from the kernel (`.ksyms`): functions, variables and addresses, found by name.

The kernel's own types are searched first, then those of its modules. Putting the numbers into instructions is `load`'s.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ebpfkit.asm.insn import KfuncRef, VarRef
from ebpfkit.btf.types import BtfType, Func, Var
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import LoadError
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.symbols import symbol_addresses
from ebpfkit.loader.kernel_types import KernelTypes, close_all, open_module_types

__all__ = ["Externs", "KernelSymbol", "find_symbols", "resolve_externs"]


@dataclass(frozen=True, slots=True)
class KernelSymbol:
    """A type id in the kernel's BTF (`module` "") or in a module's."""

    btf_id: int
    module: str = ""


@dataclass(slots=True)
class Externs:
    """What names stand for in the running kernel; a name that is missing is not there.

    `modules` has a descriptor of each module's BTF that is used, and its place (from 1) in `fd_array`.
    """

    functions: Mapping[str, KernelSymbol] = field(default_factory=dict)
    variables: Mapping[str, KernelSymbol] = field(default_factory=dict)
    addresses: Mapping[str, int] = field(default_factory=dict)
    modules: Mapping[str, Fd] = field(default_factory=dict)

    def place(self, module: str) -> int:
        """The index of a module in `fd_array`; 0 is the kernel itself."""
        return list(self.modules).index(module) + 1 if module else 0

    def fd_array(self) -> bytes:
        """Descriptors as the kernel takes them, the first unused; empty when no module is."""
        if not self.modules:
            return b""
        return struct.pack(f"={len(self.modules) + 1}i", 0, *(fd.fileno() for fd in self.modules.values()))

    def close(self) -> None:
        """Close the modules' descriptors."""
        close_all(self.modules)


def find_symbols(names: Iterable[str], kind: type[BtfType], types: KernelTypes) -> dict[str, KernelSymbol]:
    """Where each name is declared with that kind (Func or Var): in the kernel, else in the first module that has it.

    What follows three underscores tells several declarations of one name apart, and is no part of it.
    """
    found = {name: types.find(name.partition("___")[0] or name, kind) for name in names}
    return {name: KernelSymbol(*place) for name, place in found.items() if place is not None}


def resolve_externs(specs: Iterable[ProgramSpec], types: KernelTypes | None = None) -> Externs:
    """Look up everything that the programs borrow from the running kernel. Raises LoadError, KernelError."""
    wanted: dict[str, set[str]] = {"kfunc": set(), "func": set(), "var": set(), "address": set()}
    for spec in specs:
        for insn in spec.instructions:
            ref = insn.ref
            if isinstance(ref, KfuncRef | VarRef) and not ref.btf_id:
                wanted[ref.kind if isinstance(ref, VarRef) else "kfunc"].add(ref.name)
    if not any(wanted.values()):
        return Externs()
    types = types or KernelTypes()
    functions = find_symbols(wanted["kfunc"] | wanted["func"], Func, types)
    variables = find_symbols(wanted["var"], Var, types)
    used = {symbol.module for symbol in [*functions.values(), *variables.values()] if symbol.module}
    return Externs(functions, variables, _addresses(wanted["address"]), open_module_types(used))


def _addresses(names: set[str]) -> dict[str, int]:
    if not names:
        return {}
    found = symbol_addresses(names)
    for name, addresses in found.items():
        if len(addresses) > 1:
            raise LoadError(f"the kernel has {len(addresses)} symbols called {name}, so its address is ambiguous")
    return {name: addresses.pop() for name, addresses in found.items()}
