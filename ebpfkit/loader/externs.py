"""What a program borrows from the kernel (`.ksyms`): functions, variables and addresses, found by name.

The kernel's own types are searched first, then those of its modules. Putting the numbers into instructions is `load`'s.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ebpfkit.asm.insn import KfuncRef, VarRef
from ebpfkit.btf.types import Btf, Func, Var
from ebpfkit.btf.vmlinux import KERNEL_BTF, read_btf_file
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import LoadError, ObjectError
from ebpfkit.kernel import bpf
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.symbols import symbol_addresses

__all__ = ["Externs", "KernelSymbol", "find_symbols", "resolve_externs"]

_ENOENT = 2
KINDS = {"var": Var, "func": Func}


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
        for fd in self.modules.values():
            fd.close()


def find_symbols(names: Iterable[str], kind: type, kernel: Btf, modules: Mapping[str, Btf]) -> dict[str, KernelSymbol]:
    """Where each name is declared with that kind (Func or Var): in the kernel, else in the first module that has it."""
    found: dict[str, KernelSymbol] = {}
    for name in names:
        for module, btf in {"": kernel, **modules}.items():
            number = btf.find_id(name, kind)
            if number:
                found[name] = KernelSymbol(number, module)
                break
    return found


def resolve_externs(specs: Iterable[ProgramSpec]) -> Externs:
    """Look up everything that the programs borrow from the running kernel. Raises LoadError, KernelError."""
    wanted: dict[str, set[str]] = {"kfunc": set(), "func": set(), "var": set(), "address": set()}
    for spec in specs:
        for insn in spec.instructions:
            ref = insn.ref
            if isinstance(ref, KfuncRef | VarRef) and not ref.btf_id:
                wanted[ref.kind if isinstance(ref, VarRef) else "kfunc"].add(ref.name)
    if not any(wanted.values()):
        return Externs()
    functions: dict[str, KernelSymbol] = {}
    variables: dict[str, KernelSymbol] = {}
    if wanted["kfunc"] or wanted["func"] or wanted["var"]:
        try:
            kernel = read_btf_file()
        except ObjectError as error:
            raise LoadError(str(error), errno=_ENOENT) from error
        functions = find_symbols(wanted["kfunc"] | wanted["func"], Func, kernel, {})
        variables = find_symbols(wanted["var"], Var, kernel, {})
        lost = (wanted["kfunc"] | wanted["func"]) - functions.keys(), wanted["var"] - variables.keys()
        if any(lost):
            modules = _module_btfs(kernel)
            functions |= find_symbols(lost[0], Func, kernel, modules)
            variables |= find_symbols(lost[1], Var, kernel, modules)
    used = {symbol.module for symbol in [*functions.values(), *variables.values()] if symbol.module}
    return Externs(functions, variables, _addresses(wanted["address"]), _module_fds(used))


def _addresses(names: set[str]) -> dict[str, int]:
    if not names:
        return {}
    found = symbol_addresses(names)
    for name, addresses in found.items():
        if len(addresses) > 1:
            raise LoadError(f"the kernel has {len(addresses)} symbols called {name}, so its address is ambiguous")
    return {name: addresses.pop() for name, addresses in found.items()}


def _module_btfs(kernel: Btf) -> dict[str, Btf]:
    folder = Path(KERNEL_BTF).parent
    names = sorted(entry.name for entry in os.scandir(folder) if entry.name != "vmlinux") if folder.is_dir() else []
    return {name: read_btf_file(folder / name, base=kernel) for name in names}


def _module_fds(names: set[str]) -> dict[str, Fd]:
    """Descriptors of the modules' BTF: a walk over all BTF objects, since only their ids lead there."""
    found: dict[str, Fd] = {}
    if not names:
        return found
    for number in bpf.btf_ids():
        fd = bpf.btf_fd_by_id(number)
        name, is_kernel = bpf.btf_name(fd)
        if is_kernel and name in names and name not in found:
            found[name] = fd
        else:
            fd.close()
    if missing := names - found.keys():
        raise LoadError(f"the types of module {min(missing)} cannot be opened", errno=_ENOENT)
    return found
