"""Kernel functions as the verifier sees them: prototype, flags, and what the suffixes of parameter names ask for.

Prototypes come from `abi/`'s table, which was read from a kernel's BTF; where the kernel's own types are at hand they
only tell which name a bare number stands for. What a call demands and does is `transfer/kfuncs`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ebpfkit.abi import kfunc_history
from ebpfkit.abi.kfunc_table import MEASURED_ON, PROTOTYPES
from ebpfkit.abi.kfuncs import FLAGS
from ebpfkit.asm.insn import Instruction, KfuncRef

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf

__all__ = ["KernelFunction", "Parameter", "function_of", "known_function", "name_of"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, or the result. `size`: bytes of the number, or of what the pointer points to (0: not known).

    `target` is "" for a number, else what a pointer points to: "void", "number", "func", "pointer", "struct NAME".
    `plain`: the structure holds numbers only.
    """

    name: str
    size: int
    target: str = ""
    plain: bool = True

    @property
    def is_pointer(self) -> bool:
        return bool(self.target)

    @property
    def struct(self) -> str:
        """The name of the structure that it points to, or ""."""
        return self.target.partition(" ")[2]

    def has(self, suffix: str) -> bool:
        """Whether its name ends so, which is how the kernel marks what a parameter is for."""
        return self.name.endswith(suffix)


@dataclass(frozen=True, slots=True)
class KernelFunction:
    """A kernel function: `result` None for none. `flags` is None where nothing models it."""

    name: str
    result: Parameter | None
    parameters: tuple[Parameter, ...]
    flags: frozenset[str] | None

    def is_any(self, *flags: str) -> bool:
        """Whether it has one of the flags."""
        return self.flags is not None and not self.flags.isdisjoint(flags)


def _read_type(name: str, text: str) -> Parameter | None:
    if text == "v":
        return None
    if not text.startswith("*"):
        return Parameter(name, int(text[1:]))
    target = text[1:]
    if target.startswith(("struct ", "union ")):
        kind, struct, size = target.split(" ")
        return Parameter(name, int(size.rstrip("!")), f"{kind} {struct}", not size.endswith("!"))
    if target in ("v", "func"):
        return Parameter(name, 0, "void" if target == "v" else target, False)
    if target.startswith("*"):
        return Parameter(name, 8, "pointer", False)
    return Parameter(name, int(target[1:]), "number")


@cache
def known_function(name: str, kernel: str = MEASURED_ON) -> KernelFunction | None:
    """The kernel function of this name as this kernel has it, None where the table has none."""
    text = kfunc_history.PROTOTYPES.get(kernel, {}).get(name) or PROTOTYPES.get(name)
    if text is None:
        return None
    result, *rest = text.split("|")
    parameters = []
    for part in rest:
        label, _, spelled = part.partition(":")
        found = _read_type(label, spelled)
        assert found is not None
        parameters.append(found)
    return KernelFunction(name, _read_type("", result), tuple(parameters), FLAGS.get(name))


def name_of(insn: Instruction, kernel_btf: Btf | None) -> str:
    """The name of the kernel function that the instruction calls, "" where only its number is known."""
    if isinstance(insn.ref, KfuncRef):
        return insn.ref.name
    if kernel_btf is None or insn.off or not 0 < insn.imm < len(kernel_btf):
        return ""
    return kernel_btf.name(insn.imm)


def function_of(insn: Instruction, kernel_btf: Btf | None, kernel: str = MEASURED_ON) -> KernelFunction | None:
    """The kernel function that the instruction calls, None for an unknown one."""
    return known_function(name_of(insn, kernel_btf), kernel)
