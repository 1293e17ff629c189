"""The running kernel's types and those of its modules, opened when the first name is looked up.

Which names a program borrows is `externs`'; what it attaches to is `targets`'.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ebpfkit.btf.types import Btf, BtfType
from ebpfkit.btf.vmlinux import KERNEL_BTF, read_btf_file
from ebpfkit.errors import LoadError, ObjectError
from ebpfkit.kernel import bpf
from ebpfkit.kernel.fd import Fd

__all__ = ["KernelTypes", "close_all", "open_module_types"]

_ENOENT = 2


class KernelTypes:
    """BTF of the kernel and, by name, of its modules; what is given stands in for the running kernel's."""

    def __init__(self, kernel: Btf | None = None, modules: Mapping[str, Btf] | None = None) -> None:
        self._kernel = kernel
        self._modules = {} if kernel is not None and modules is None else modules

    @property
    def kernel(self) -> Btf:
        """The kernel's own types. Raises LoadError where it has none."""
        if self._kernel is None:
            try:
                self._kernel = read_btf_file()
            except ObjectError as error:
                raise LoadError(str(error), errno=_ENOENT) from error
        return self._kernel

    @property
    def modules(self) -> Mapping[str, Btf]:
        """The types that each module adds to the kernel's."""
        if self._modules is None:
            folder, kernel = Path(KERNEL_BTF).parent, self.kernel
            names = sorted(entry.name for entry in os.scandir(folder) if entry.name != "vmlinux")
            self._modules = {name: read_btf_file(folder / name, base=kernel) for name in names}
        return self._modules

    def everywhere(self) -> Iterator[tuple[str, Btf]]:
        """("", the kernel's), then each module by its name; modules are read when the kernel did not suffice."""
        yield "", self.kernel
        yield from self.modules.items()

    def find_in(self, module: str, name: str, kind: type[BtfType]) -> int:
        """The type id of a name among those that the module itself has ("": the kernel); 0 when there is none."""
        btf = self.modules.get(module) if module else self.kernel
        if btf is None:
            return 0
        first = len(btf.base.types) if btf.base is not None else 1
        return next((i for i in btf.ids(name) if i >= first and isinstance(btf.types[i], kind)), 0)

    def find(self, name: str, kind: type[BtfType]) -> tuple[int, str] | None:
        """The type id of a name and the module that it is of ("" the kernel), or None."""
        for module, btf in self.everywhere():
            if number := btf.find_id(name, kind):
                return number, module
        return None


def open_module_types(names: set[str]) -> dict[str, Fd]:
    """Descriptors of the modules' BTF: a walk over all BTF objects, since only their ids lead there.

    Raises LoadError when one is missing; then none stays open.
    """
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
        close_all(found)
        raise LoadError(f"the types of module {min(missing)} cannot be opened", errno=_ENOENT)
    return found


def close_all(descriptors: Mapping[str, Fd]) -> None:
    """Close each of them."""
    for fd in descriptors.values():
        fd.close()
