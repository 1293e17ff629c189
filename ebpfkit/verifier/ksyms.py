"""Variables and functions of the kernel that a program refers to (`.ksyms` externs): what a wide load of one yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfkit._bits import to_signed
from ebpfkit.asm.insn import Instruction, VarRef
from ebpfkit.btf.types import Datasec, Func, Struct, Var
from ebpfkit.errors import ObjectError
from ebpfkit.verifier.domain.objects import PERCPU, Object
from ebpfkit.verifier.rejection import Rejection, Unmodelled

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf

__all__ = ["Symbol", "find_symbol"]

_PERCPU_SECTION = ".data..percpu"


@dataclass(frozen=True, slots=True)
class Symbol:
    """A structure or per-CPU variable (`target`), else `size` bytes that may be read; both None: some number."""

    target: Object | None = None
    size: int | None = None
    missing: bool = False  # a weak symbol that this kernel does not have: the number 0


def find_symbol(insn: Instruction, btf: Btf | None, index: int) -> Symbol:
    """The symbol of a wide load. Raises Rejection in the kernel's words, Unmodelled where types are not at hand."""
    ref = insn.ref if isinstance(insn.ref, VarRef) else None
    if ref is not None and ref.kind == "address":
        return Symbol()
    if btf is None:
        raise Unmodelled("kernel variables (.ksyms) without the kernel's types (give them with --btf)", index=index)
    if ref is None:
        number = to_signed(insn.imm, 32)
        if insn.imm >> 32:
            raise Unmodelled("variables of kernel modules", index=index)
    else:
        number = ref.btf_id or btf.find_id(ref.name, Func if ref.kind == "func" else Var)
        if not number:
            if ref.weak:
                return Symbol(missing=True)
            raise Unmodelled(f"kernel symbol {ref.name}, which the given types do not have", index=index)
    if not 0 < number < len(btf):
        message = f"ldimm64 insn specifies invalid btf_id {number}."
        raise Rejection("invalid-wide-load", message, index=index)
    return _symbol(btf, number, index)


def _symbol(btf: Btf, number: int, index: int) -> Symbol:
    found = btf.get(number)
    if isinstance(found, Func):
        return Symbol(size=0)
    if not isinstance(found, Var):
        message = f"pseudo btf_id {number} in ldimm64 isn't KIND_VAR or KIND_FUNC"
        raise Rejection("invalid-wide-load", message, index=index)
    target = btf.strip(found.type)
    type_ = btf.get(target)
    if _is_percpu(btf, number):
        return Symbol(Object(target, type_.name, PERCPU))
    if isinstance(type_, Struct):
        return Symbol(Object(target, type_.name))
    try:
        return Symbol(size=btf.size_of(target))
    except ObjectError:
        message = f"ldimm64 unable to resolve the size of type '{type_.name}'"
        raise Rejection("invalid-wide-load", message, index=index) from None


def _is_percpu(btf: Btf, number: int) -> bool:
    section = btf.find(_PERCPU_SECTION, Datasec)
    return section is not None and any(variable.type == number for variable in section.vars)
