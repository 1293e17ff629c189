"""What a program attaches to, as the id that the kernel wants at load: a function, a hook, an operation.

Only programs whose type says so have one (`abi.attach_types.BTF_TARGETS`, and members of kernel structures). The target
is looked for in the kernel's types, then in its modules'; a name may say where: "nf_nat:nf_nat_setup_info".
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ebpfkit.abi.attach_types import BTF_TARGETS
from ebpfkit.btf.types import Btf, BtfType, Func, Typedef
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.elf.structops import FittedOperations
from ebpfkit.errors import LoadError, UsageError
from ebpfkit.kernel import bpf
from ebpfkit.kernel.fd import Fd
from ebpfkit.loader.kernel_types import KernelTypes, close_all, open_module_types

__all__ = ["Target", "Targets", "find_function", "resolve_targets"]

_KINDS: Mapping[str, type[BtfType]] = {"func": Func, "typedef": Typedef}


@dataclass(frozen=True, slots=True)
class Target:
    """`btf_id` in the kernel's types, in those of `module`, or in those of the program `fd`.

    `index` is the member of a structure of operations, which takes the place of the attach type.
    """

    btf_id: int
    module: str = ""
    fd: bpf.HasFileno | None = None
    index: int | None = None


@dataclass(slots=True)
class Targets:
    """The targets of programs by name, and descriptors of the modules' types that they are in."""

    by_program: Mapping[str, Target] = field(default_factory=dict)
    modules: Mapping[str, Fd] = field(default_factory=dict)

    def get(self, name: str) -> Target | None:
        """The program's target, with the descriptor that goes along."""
        target = self.by_program.get(name)
        if target is None or not target.module:
            return target
        return Target(target.btf_id, target.module, self.modules[target.module], target.index)

    def close(self) -> None:
        """Close the modules' descriptors."""
        close_all(self.modules)


def resolve_targets(
    specs: Iterable[ProgramSpec],
    types: KernelTypes,
    *,
    programs: Mapping[str, bpf.HasFileno] | None = None,
    operations: Mapping[str, tuple[FittedOperations, str]] | None = None,
) -> Targets:
    """The target of each program that has one.

    `programs` are live programs to trace or to replace a function of, by the name of the program that does;
    `operations` the structures that are registered, with the module that each is of. Raises LoadError, UsageError.
    """
    found: dict[str, Target] = {}
    for spec in specs:
        row = BTF_TARGETS.get(spec.attach_type or spec.prog_type)
        if spec.prog_type == "struct_ops":
            found[spec.name] = _operation(spec, operations or {})
        elif programs and spec.name in programs:
            if row is None:
                raise UsageError(f"program {spec.name!r} is of type {spec.prog_type}, which has no target program")
            found[spec.name] = _in_program(spec, programs[spec.name])
        elif row is not None:
            found[spec.name] = _in_kernel(spec, row, types)
    return Targets(found, open_module_types({target.module for target in found.values() if target.module}))


def _operation(spec: ProgramSpec, operations: Mapping[str, tuple[FittedOperations, str]]) -> Target:
    for fitted, module in operations.values():
        index = fitted.indices.get(spec.name)
        if index is not None:
            return Target(fitted.type_id, module, index=index)
    raise UsageError(
        f"program {spec.name!r} is no function of a structure that is registered, so its type is not known; "
        "leave it out, or name it in a structure of .struct_ops"
    )


def _name_of(spec: ProgramSpec) -> str:
    if not spec.attach_target:
        raise UsageError(
            f"program {spec.name!r} ({spec.section}) does not say what it attaches to; "
            f'write SEC("{spec.section}/NAME"), or load spec.replace(attach_target="NAME")'
        )
    return spec.attach_target


def _in_program(spec: ProgramSpec, program: bpf.HasFileno) -> Target:
    try:
        return Target(find_function(program, _name_of(spec)), fd=program)
    except LoadError as error:
        raise LoadError(f"program {spec.name!r}: {error.message}", errno=errno.ENOENT) from error


def find_function(program: bpf.HasFileno, name: str) -> int:
    """The id of a function among the types of a live program. Raises LoadError."""
    number = bpf.prog_info(program).btf_id
    btf_id = 0
    if number:
        with bpf.btf_fd_by_id(number) as fd:
            btf_id = Btf.from_bytes(bpf.btf_data(fd), lazy=True).find_id(name, Func)
    if not btf_id:
        why = f"has no function {name!r}" if number else "has no types (compile it with -g)"
        raise LoadError(f"its target program {why}", errno=errno.ENOENT)
    return btf_id


def _in_kernel(spec: ProgramSpec, row: tuple[str, str], types: KernelTypes) -> Target:
    name = _name_of(spec)
    if spec.prog_type == "ext":
        raise UsageError(
            f"program {spec.name!r} replaces the function {name!r} of a program: say which, "
            f"targets={{{spec.name!r}: program}}"
        )
    prefix, kind = row
    wanted, colon, function = name.partition(":")
    module = wanted.replace("-", "_") if colon and wanted != "vmlinux" else ""
    text = prefix + (function if colon else name)
    if colon:
        number = types.find_in(module, text, _KINDS[kind])
        found = (number, module) if number else None
    else:
        found = types.find(text, _KINDS[kind])
    if found is None:
        where = f"module {module!r}" if module else "this kernel"
        if module and module not in types.modules:
            where = f"no module {module!r} is loaded, and this kernel"
        what = "function" if kind == "func" else kind
        raise LoadError(
            f"program {spec.name!r} ({spec.section}): {where} has no {what} {text!r} among its types",
            errno=errno.ENOENT,
            span=spec.instructions[0].span if spec.instructions else None,
        )
    return Target(*found)
