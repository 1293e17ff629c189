"""Structures of kernel operations (`.struct_ops`) in the kernel: the map that holds one, and registering it.

How a structure fits the kernel's own is `elf.structops`'; its programs are loaded by `collection`.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ebpfkit.abi import uapi
from ebpfkit.abi.attach_types import ATTACH_TYPES
from ebpfkit.abi.versions import parse_version
from ebpfkit.btf.types import Btf
from ebpfkit.elf.model import MapSpec, StructOpsSpec
from ebpfkit.elf.structops import FittedOperations, fit_operations
from ebpfkit.errors import AttachError, KernelError, LoadError, NotSupported, UsageError
from ebpfkit.host.errnos import describe_errno, explain_map_create, explain_permission
from ebpfkit.host.pins import explain_pin
from ebpfkit.kernel import bpf
from ebpfkit.kernel.elements import Elements
from ebpfkit.kernel.fd import Fd
from ebpfkit.kernel.version import kernel_version
from ebpfkit.loader.kernel_types import KernelTypes
from ebpfkit.loader.links.base import BpfLink

if TYPE_CHECKING:
    from ebpfkit.loader.program import Program

__all__ = [
    "Fitted",
    "Operations",
    "Registration",
    "create_operations",
    "fit_all",
    "is_registration",
    "open_registration",
]

_KEY = bytes(4)

Fitted = tuple[FittedOperations, str]
"""A structure in the kernel's layout, and the module whose types it is of ("" the kernel)."""


def fit_all(specs: Iterable[StructOpsSpec], local: Btf | None, types: KernelTypes) -> dict[str, Fitted]:
    """Each structure in the layout of the running kernel, or of the first module that has it. Raises NotSupported."""
    found: dict[str, Fitted] = {}
    for spec in specs:
        assert local is not None  # without types an object has no structures
        for module, btf in types.everywhere():
            fitted = fit_operations(spec, local, btf)
            if fitted is not None:
                found[spec.name] = fitted, module
                break
        else:
            why = f"this kernel has no operations of type {spec.type_name}"
            raise NotSupported(f"registering {spec.name!r}", why=why)
    return found


def create_operations(spec: StructOpsSpec, fitted: FittedOperations, btf: Fd, module: Fd | None) -> Operations:
    """The empty map of a structure; `btf` is the object's, `module` that of the module it is of. Raises LoadError."""
    shape = MapSpec(spec.name, "struct_ops", len(_KEY), len(fitted.value), 1)
    if spec.link:
        shape = shape.replace(flags=uapi.BPF_F_LINK)
    try:
        fd = bpf.map_create(
            uapi.ENUMS["bpf_map_type"]["BPF_MAP_TYPE_STRUCT_OPS"],
            shape.key_size, shape.value_size, shape.max_entries, flags=shape.flags, name=spec.name, btf=btf,
            kernel_value_type=fitted.value_type_id, kernel_value_btf=module,
        )  # fmt: skip
    except KernelError as error:
        number = error.errno or 0
        since = ATTACH_TYPES["struct_ops"].since
        if spec.link and number == errno.EINVAL and kernel_version() < parse_version(since):
            why = f"Linux {since} brought links of kernel operations; put it into .struct_ops instead of {spec.section}"
            raise NotSupported(f"registering {spec.name!r} by a link", why=why) from error
        raise LoadError(explain_map_create(shape, number), errno=number) from error
    return Operations(spec, fd, fitted)


class Operations:
    """One structure of operations whose programs are loaded; `register` hands it to its subsystem."""

    def __init__(self, spec: StructOpsSpec, fd: Fd, fitted: FittedOperations) -> None:
        self.spec = spec
        self.fd = fd
        self._fitted = fitted
        self._value = b""
        self._stored = False

    def fill(self, programs: Mapping[str, bpf.HasFileno]) -> None:
        """Say which live programs its functions are."""
        value = bytearray(self._fitted.value)
        for offset, name in self._fitted.slots.items():
            if name not in programs:
                raise UsageError(f"{self.spec.name!r} needs program {name!r}, which is not loaded")
            struct.pack_into("=Q", value, offset, programs[name].fileno())
        self._value = bytes(value)

    def register(self) -> Registration:
        """Hand it to the subsystem that calls it; leaving a `with` block takes it back. Raises AttachError."""
        self.store()
        if not self.spec.link:
            return Registration(self.spec.name, self.fd.duplicate(), is_link=False)
        try:
            fd = bpf.link_create(self.fd, 0, uapi.ENUMS["bpf_attach_type"]["BPF_STRUCT_OPS"])
        except KernelError as error:
            raise AttachError(self.explain(error.errno or 0), errno=error.errno or 0) from error
        return Registration(self.spec.name, fd, is_link=True)

    def store(self) -> None:
        """Put the structure into its map, which registers one that has no link. Raises AttachError."""
        if self._stored:
            return
        result = Elements(self.fd, len(_KEY), len(self._value)).update(_KEY, self._value)
        if result < 0:
            raise AttachError(self.explain(-result), errno=-result)
        self._stored = self.spec.link

    def explain(self, number: int) -> str:
        """Why the kernel refused to register it."""
        head = f"cannot register {self.spec.name!r} ({self.spec.type_name}): "
        if number == errno.EEXIST:
            return head + "operations of that name are registered already"
        if number == errno.EBUSY:
            return head + "it is registered already, or was and is still in use"
        if number == errno.EPERM:
            return head + explain_permission(("CAP_BPF", "CAP_NET_ADMIN"), "not permitted by this system's policy")
        if number == errno.EINVAL:
            return head + "its subsystem refuses the values, or misses a function that it must have"
        return head + describe_errno(number)

    def fileno(self) -> int:
        return self.fd.fileno()

    def close(self) -> None:
        """Let go of the map; what is registered stays so."""
        self.fd.close()

    def __repr__(self) -> str:
        return f"<Operations {self.spec.name} {self.spec.type_name} {self.fd!r}>"


class Registration(BpfLink):
    """Operations that their subsystem has. Through a link they go with the last descriptor, unless it is pinned;
    without one (`.struct_ops`) they stay until `detach`, even when the process ends.
    """

    def __init__(self, name: str, fd: Fd, *, is_link: bool, pinned: bool = False) -> None:
        super().__init__(fd)
        self.name = name
        self.is_link = is_link
        self._pinned = pinned

    @property
    def program_id(self) -> int:
        """0: it is no program that is in place."""
        return 0

    def update(self, program: Program) -> None:
        raise UsageError(f"operations {self.name!r} are replaced by others, not by a program: replace(operations)")

    def replace(self, operations: Operations) -> None:
        """Put other operations of the same type in their place, atomically (links only). Raises AttachError."""
        if not self.is_link:
            raise UsageError(f"{self.name!r} is registered without a link and cannot be replaced; use .struct_ops.link")
        operations.store()
        try:
            bpf.link_update(self.fd, operations)
        except KernelError as error:
            raise AttachError(operations.explain(error.errno or 0), errno=error.errno or 0) from error

    def detach(self) -> None:
        if self.is_link:
            super().detach()
            return
        result = Elements(self.fd, len(_KEY), int(bpf.map_info(self.fd).value_size)).delete(_KEY)
        if result < 0 and result != -errno.ENOENT:
            raise AttachError(f"cannot unregister {self.name!r}: {describe_errno(-result)}", errno=-result)

    def pin(self, path: str | Path) -> None:
        super().pin(path)
        self._pinned = True

    def close(self) -> None:
        """Take it away, unless it is pinned."""
        if not self.is_link and not self._pinned:
            self.detach()
        self.fd.close()


def is_registration(path: str | Path) -> bool:
    """Whether what is pinned there are kernel operations. Raises AttachError when nothing is."""
    with _open(path) as fd:
        return bool(_kind(fd))


def open_registration(path: str | Path) -> Registration:
    """What was pinned with `Registration.pin`. Raises AttachError when it is something else."""
    fd = _open(path)
    kind = _kind(fd)
    if not kind:
        fd.close()
        raise AttachError(f"{path} holds no kernel operations", errno=errno.EINVAL)
    return Registration(Path(path).name, fd, is_link=kind == "link", pinned=True)


def _open(path: str | Path) -> Fd:
    try:
        return bpf.obj_get(str(path), what=f"operations {path}")
    except KernelError as error:
        number = error.errno or 0
        raise AttachError(explain_pin("open", "link", str(path), number), errno=number) from error


def _kind(fd: Fd) -> str:
    """ "link" or "map" when it is one of kernel operations."""
    kind = bpf.object_kind(fd)
    if kind == "link" and bpf.link_info(fd).type == uapi.ENUMS["bpf_link_type"]["BPF_LINK_TYPE_STRUCT_OPS"]:
        return kind
    if kind == "map" and bpf.map_info(fd).type == uapi.ENUMS["bpf_map_type"]["BPF_MAP_TYPE_STRUCT_OPS"]:
        return kind
    return ""
