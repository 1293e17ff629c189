"""Members of structures by BTF, as the kernel looks them up: what lies at an offset, and what a load of it yields.

Works on the kernel's types and on the program's own. Messages are the kernel's; whether a pointer may be followed at
all is `objects`'s to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfkit.btf.types import Array, Enum, Int, Ptr, Struct, TypeTag, Union
from ebpfkit.errors import ObjectError
from ebpfkit.verifier.domain.objects import PERCPU, RCU, UNTRUSTED, USER

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf, Member

__all__ = ["Found", "MissingMember", "find_member", "has_safe_member", "holds_struct", "struct_pointer"]

_TAGS = {"user": USER, "percpu": PERCPU, "rcu": RCU}
_DEPTH = 64
_ANONYMOUS = "(anon)"


class MissingMember(Exception):
    """The access hits no member as a whole; the message is the kernel's."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an access hits: "scalar"; "pointer" to the structure `type_id`; "opaque": a pointer to something else.

    `flags` come from tags and unions on the way, `member` is the name of the pointer.
    """

    kind: str
    type_id: int = 0
    flags: int = 0
    member: str = ""


_SCALAR = Found("scalar")


def find_member(btf: Btf, type_id: int, offset: int, size: int) -> Found:
    """What `size` bytes at `offset` of the structure are. Raises MissingMember."""
    flags = 0
    for _ in range(_DEPTH):
        struct = btf.resolve(type_id)
        if not isinstance(struct, Struct):
            raise MissingMember(f"Type '{struct.name}' is not a struct")
        if isinstance(struct, Union) and len(struct.members) != 1:
            flags |= UNTRUSTED
        if offset + size > struct.size:
            element = _flexible_element(btf, struct, offset)
            if element is None:
                name = struct.name or _ANONYMOUS
                raise MissingMember(f"access beyond struct {name} at off {offset} size {size}")
            start, inner = element
            if isinstance(btf.resolve(inner), Int):
                return _SCALAR
            found = btf.resolve(inner)
            assert isinstance(found, Struct)
            offset = (offset - start) % found.size
            type_id = inner
            continue
        step = _step(btf, struct, offset, size, flags)
        if isinstance(step, Found):
            return step
        type_id, offset = step
    raise ObjectError(f"structures nest too deeply at type {type_id}", place=".BTF")


def _flexible_element(btf: Btf, struct: Struct, offset: int) -> tuple[int, int] | None:
    """Offset and element type of the array of unknown length at the end that the access lies in."""
    if not struct.members:
        return None
    last = struct.members[-1]
    array = btf.resolve(last.type)
    if not isinstance(array, Array) or array.nelems or offset < last.offset:
        return None
    element = btf.resolve(array.type)
    if isinstance(element, Int) or (isinstance(element, Struct) and element.size):
        return last.offset, array.type
    return None


def _linear(btf: Btf, type_id: int) -> tuple[int, int, int]:
    """Element type, size of one element and number of elements of a type (1 of what is no array)."""
    count = 1
    for _ in range(_DEPTH):
        type_id = btf.strip(type_id)
        found = btf.get(type_id)
        if not isinstance(found, Array):
            break
        count *= found.nelems
        type_id = found.type
    return type_id, btf.size_of(type_id) if count else 0, count


def _step(btf: Btf, struct: Struct, offset: int, size: int, flags: int) -> Found | tuple[int, int]:
    """The member at the offset: what it is, or the structure inside to go on with."""
    for member in struct.members:
        start = member.offset
        if offset + size <= start:
            break
        if member.bitfield_size:
            end = -(-(member.bit_offset + member.bitfield_size) // 8)
            if offset <= start and end <= offset + size:
                return _SCALAR
            continue
        if offset < start:
            break
        element, width, count = _linear(btf, member.type)
        end = start + width * count
        if offset >= end:
            continue
        if count != 1 or isinstance(btf.resolve(member.type), Array):
            start += (offset - start) // width * width
        found = btf.get(element)
        if isinstance(found, Struct):
            return element, offset - start
        if isinstance(found, Ptr):
            return _pointer(btf, struct, member, found, (start, width), (offset, size), flags)
        if offset + size > end and not flags & UNTRUSTED:
            raise MissingMember(
                f"access beyond the end of member {member.name} (mend:{end}) in struct {struct.name or _ANONYMOUS}"
                f" with off {offset} size {size}"
            )
        return _SCALAR
    raise MissingMember(f"struct {struct.name or _ANONYMOUS} doesn't have field at offset {offset}")


def _pointer(
    btf: Btf, struct: Struct, member: Member, pointer: Ptr, place: tuple[int, int], access: tuple[int, int], flags: int
) -> Found:
    start, width = place
    offset, size = access
    if width != size or offset != start:
        raise MissingMember(
            f"cannot access ptr member {member.name} with moff {start} in struct {struct.name or _ANONYMOUS}"
            f" with off {offset} size {size}"
        )
    tagged = btf.get(pointer.type)
    tag = _TAGS.get(tagged.name, 0) if isinstance(tagged, TypeTag) else 0
    target = btf.strip(pointer.type)
    if isinstance(btf.get(target), Struct):
        return Found("pointer", target, flags | tag, member.name)
    return Found("opaque", 0, 0, member.name)


def holds_struct(btf: Btf, type_id: int, offset: int, wanted: int) -> bool:
    """Whether the structure is the wanted one, or has it at the offset, however deep inside."""
    type_id = btf.strip(type_id)
    if not offset and type_id == wanted:
        return True
    for _ in range(_DEPTH):
        struct = btf.get(type_id)
        if not isinstance(struct, Struct) or offset >= struct.size:
            return False
        try:
            step = _step(btf, struct, offset, 1, 0)
        except MissingMember:
            return False
        if isinstance(step, Found):
            return False
        type_id, offset = step
        if not offset and type_id == wanted:
            return True
    return False


def struct_pointer(btf: Btf, type_id: int) -> tuple[int, int] | None:
    """The structure that a pointer type points to, and the flags of its tag; None for any other type."""
    pointer = btf.resolve(type_id)
    if not isinstance(pointer, Ptr):
        return None
    tagged = btf.get(pointer.type)
    target = btf.strip(pointer.type)
    if not isinstance(btf.get(target), Struct):
        return None
    return target, _TAGS.get(tagged.name, 0) & (USER | PERCPU) if isinstance(tagged, TypeTag) else 0


def has_safe_member(btf: Btf, struct: str, member: str, target: int, suffix: str) -> bool:
    """Whether the kernel lists the member as one that inherits trust: in `struct STRUCT__safe_rcu` and the like."""
    listed = btf.find(struct + suffix, Struct)
    if listed is None:
        listed = btf.find(struct + suffix, Union)
    if listed is None:
        return False
    for row in listed.members:
        if row.name == member:
            pointer = btf.resolve(row.type)
            if isinstance(pointer, Ptr) and btf.strip(pointer.type) == target:
                return True
    return False


def is_number(btf: Btf, type_id: int) -> bool:
    """Whether the type is an integer or an enumeration."""
    return isinstance(btf.resolve(type_id), Int | Enum)
