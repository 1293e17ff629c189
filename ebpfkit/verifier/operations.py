"""Programs that are functions of a structure of kernel operations, and writes into the kernel's structures.

The target of such a program is `STRUCT/MEMBER`; which structures there are, and what may be written, are rows of
`abi/struct_ops`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ebpfkit.abi.licenses import GPL_COMPATIBLE
from ebpfkit.abi.struct_ops import OPERATIONS, WRITABLE_MEMBERS, OperationsSpec, WritableSpec
from ebpfkit.btf.types import Array, FuncProto, Ptr, Struct
from ebpfkit.verifier.rejection import Rejection, Unmodelled

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf
    from ebpfkit.elf.model import ProgramSpec

__all__ = [
    "check_operation",
    "check_written",
    "may_call_in_operation",
    "operations_of",
    "prototype_of_member",
    "writable_of",
]


def _split(spec: ProgramSpec) -> tuple[str, str]:
    struct, slash, member = (spec.attach_target or "").partition("/")
    if not slash:
        raise Unmodelled(f"the operation {spec.name}, which no structure of .struct_ops names")
    return struct, member


def operations_of(spec: ProgramSpec) -> tuple[OperationsSpec, str]:
    """The row of the structure that the program is a function of, and the member. Raises Unmodelled."""
    struct, member = _split(spec)
    row = OPERATIONS.get(struct)
    if row is None:
        raise Unmodelled(f"operations of struct {struct}")
    return row, member


def check_operation(spec: ProgramSpec, sleepable: bool) -> None:
    """The program may be this function of its structure."""
    if spec.license not in GPL_COMPATIBLE:
        raise Rejection("missing-licence", "struct ops programs must have a GPL compatible license")
    row, member = operations_of(spec)
    wrong_sleep = sleepable and row.sleepable is not None and member not in row.sleepable
    if member in row.unsupported or wrong_sleep:
        raise Rejection("attach-target", f"attach to unsupported member {member} of struct {row.name}")


def prototype_of_member(spec: ProgramSpec, btf: Btf) -> FuncProto:
    """The prototype of the member that the program becomes."""
    struct, name = _split(spec)
    found = btf.find(struct, Struct)
    member = found.member(name) if found is not None else None
    if member is None:
        raise Unmodelled(f"{struct}.{name}, which the given kernel's types do not have")
    pointer = btf.resolve(member.type)
    proto = btf.resolve(pointer.type) if isinstance(pointer, Ptr) else pointer
    if not isinstance(proto, FuncProto):
        raise Rejection("attach-target", f"attach to invalid member {name} of struct {struct}")
    return proto


def may_call_in_operation(spec: ProgramSpec, helper: str) -> bool:
    """Whether the structure that the program is for has the helper. True for other programs."""
    if spec.prog_type != "struct_ops":
        return True
    row, member = operations_of(spec)
    mine = helper in row.helpers or all(helper not in other.helpers for other in OPERATIONS.values())
    return mine and helper not in dict(row.hidden).get(member, ())


def writable_of(spec: ProgramSpec) -> WritableSpec | None:
    """What programs like this one may write into the kernel's structures."""
    if spec.prog_type == "struct_ops":
        return operations_of(spec)[0].writable
    return WRITABLE_MEMBERS.get(spec.prog_type)


def check_written(row: WritableSpec, btf: Btf, struct: str, offset: int, size: int) -> str:
    """Why these bytes of the structure may not be written, in the kernel's words; "" where they may."""
    if struct != row.struct:
        return row.only
    if not row.members:
        whole = btf.find(struct, Struct)
        fits = whole is not None and offset + size <= whole.size
        return "" if fits else f"write access at off {offset} with size {size}"
    for start, end, anywhere in _places(btf, row.members):
        if offset == start or (anywhere and start <= offset < end):
            if offset + size <= end:
                return ""
            beyond = f"beyond the member of {struct} ended at {end}"
            return f"write access at off {offset} with size {size} {beyond}"
    return f"no write support to {struct} at off {offset}"


@lru_cache(maxsize=16)
def _places(btf: Btf, members: tuple[str, ...]) -> tuple[tuple[int, int, bool], ...]:
    """Start and end of each member, and whether a write may begin anywhere in it, as it may in arrays."""
    places = []
    for path in members:
        name, *steps = path.split(".")
        type_id, at = btf.find_id(name, Struct), 0
        for step in steps:
            found = btf.resolve(type_id)
            member = found.member(step) if isinstance(found, Struct) else None
            if member is None:
                raise Unmodelled(f"{path}, which the given kernel's types do not have")
            at, type_id = at + member.offset, member.type
        places.append((at, at + btf.size_of(type_id), isinstance(btf.resolve(type_id), Array)))
    return tuple(places)
