"""Structures of the kernel, declared by the fields that a program reads; their places are found at load time."""

from __future__ import annotations

from typing import Any, Self

from ebpfkit.dsl.integers import Integer
from ebpfkit.dsl.structs import Struct
from ebpfkit.errors import NotSupported

__all__ = ["Address", "Kernel"]


class Address(Integer, bits=64):
    """A pointer in a structure of the kernel's, as a number; `T.at(address)` looks where it points."""


class Kernel(Struct):
    """A structure of the kernel, with the fields that a program needs, by their names in any order.

        class task_struct(bpf.Kernel):
            pid: s32
            tgid: s32
            real_parent: bpf.Address

    Each access carries a CO-RE relocation: the loader asks the running kernel where the field is, so the same object
    fits every kernel that has it. `task_struct.at(address)` reads by bpf_probe_read_kernel, with zeros where nothing
    can be read; what a kernel function or helper gives is read directly. Only the kernel has such memory.
    """

    @classmethod
    def at(cls, address: Integer | int, /) -> Self:
        """The structure at an address of the kernel's."""
        raise NotSupported(f"{cls.__name__} of the kernel in plain Python", why='run on="kernel"')

    @classmethod
    def cast(cls, pointer: Kernel, /) -> Self:
        """What a helper or kernel function gave, of which the verifier knows better what it is."""
        raise NotSupported(f"{cls.__name__} of the kernel in plain Python", why='run on="kernel"')


def is_kernel(cls: Any) -> bool:
    """Whether a class stands for a structure of the kernel's."""
    return isinstance(cls, type) and issubclass(cls, Kernel)
