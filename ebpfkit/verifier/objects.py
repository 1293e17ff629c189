"""Accesses through typed pointers: structures by BTF, buffers, flow keys, sockets' public views, user memory.

`prove_access` says whether an access is allowed, `load` what it yields. Lookups in BTF are remembered per walk in
`Objects`, the room's one place that asks the kernel's types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebpfkit.abi.contexts import SOCKETS
from ebpfkit.abi.map_structs import MAP_STRUCTS
from ebpfkit.asm.isa import Kind
from ebpfkit.btf.types import Struct
from ebpfkit.errors import ObjectError
from ebpfkit.verifier.context import ContextTable
from ebpfkit.verifier.domain import objects as kinds
from ebpfkit.verifier.domain.objects import Buffer, Object
from ebpfkit.verifier.domain.pointer import Pointer
from ebpfkit.verifier.operations import check_written, writable_of
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.structures import Found, MissingMember, find_member, has_safe_member

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf
    from ebpfkit.verifier.explore import Walk
    from ebpfkit.verifier.obligations import Access

__all__ = [
    "Objects",
    "is_trusted",
    "load",
    "map_object",
    "prove_buffer",
    "prove_flow_keys",
    "prove_map",
    "prove_object",
    "prove_socket",
]

FLOW_KEYS_SIZE = 56
_SOCKET_VIEWS = {
    "sock": "bpf_sock/socket",
    "sock_common": "bpf_sock/common",
    "tcp_sock": "bpf_tcp_sock",
    "xdp_sock": "bpf_xdp_sock",
}
_NOT_IN_ARENA = frozenset({"fetch_and", "fetch_or", "fetch_xor"})


def is_trusted(w: Walk, p: Pointer, identity: int) -> bool:
    """Whether the kernel vouches for the object behind a pointer of kind BTF."""
    if identity >> 32:
        return True
    vouching = kinds.TRUSTED | kinds.ALLOC | kinds.NON_OWNING
    return bool(p.target.flags & vouching) and not p.nullable and not p.target.flags & ~vouching


class Objects:
    """What one verification knows of structures."""

    def __init__(self, w: Walk) -> None:
        self._walk = w
        self._members: dict[tuple[Object, int, int], Found | MissingMember] = {}
        self._views: dict[str, ContextTable] = {}

    def btf_of(self, target: Object) -> Btf:
        """The types that the object's id is in. Raises Unmodelled where they are not at hand."""
        code = self._walk.code
        found = code.spec.btf if target.local else code.kernel_btf
        if found is None:
            raise Unmodelled("structures of the kernel without its types (give them with --btf)")
        return found

    def kernel_object(self, name: str, flags: int = 0) -> Object:
        """The kernel's structure of that name."""
        btf = self._walk.code.kernel_btf
        if btf is None:
            raise Unmodelled(f"struct {name} without the kernel's types (give them with --btf)")
        number = btf.find_id(name, Struct)
        if not number:
            raise Unmodelled(f"struct {name}, which the given kernel does not have")
        return Object(number, name, flags)

    def member(self, target: Object, offset: int, size: int) -> Found:
        """What an access to the object hits. Raises MissingMember with the kernel's words."""
        key = (target, offset, size)
        found = self._members.get(key)
        if found is None:
            try:
                found = find_member(self.btf_of(target), target.type_id, offset, size)
            except MissingMember as missing:
                found = missing
            except ObjectError as error:
                found = MissingMember(str(error))
            self._members[key] = found
        if isinstance(found, MissingMember):
            raise found
        return found

    def is_listed(self, owner: Object, found: Found, suffix: str) -> bool:
        """Whether the kernel lists the member found among those that inherit trust in this way."""
        return has_safe_member(self.btf_of(owner), owner.name, found.member, found.type_id, suffix)

    def view(self, name: str) -> ContextTable:
        """The fields of a socket as programs see them."""
        table = self._views.get(name)
        if table is None:
            table = self._views[name] = ContextTable(SOCKETS[_SOCKET_VIEWS[name]], None)
        return table


# --- what is allowed --------------------------------------------------------------------------------------------------


def _refuse(index: int, register: int, message: str, rule: str) -> Rejection:
    return Rejection(rule, message, index=index, register=register)


def prove_object(w: Walk, index: int, demand: Access, p: Pointer) -> None:
    """An access to a structure by BTF."""
    register, target = demand.register, p.target
    if not target.local and not w.is_gpl:
        message = f"Cannot access kernel 'struct {target.name}' from non-GPL compatible program"
        raise Rejection("missing-licence", message, index=index, register=register)
    where = f"R{register} is ptr_{target.name}"
    offset = p.off + demand.offset
    if offset < 0:
        message = f"{where} invalid negative access: off={offset}"
        raise _refuse(index, register, message, "untrusted-pointer")
    if p.var.const != 0:
        var = f"({p.var.value:#x}; {p.var.mask:#x})" if p.var.const is None else f"{p.var.value:#x}"
        message = f"{where} invalid variable offset: off={offset}, var_off={var}"
        raise _refuse(index, register, message, "untrusted-pointer")
    for flag, word in ((kinds.USER, "user"), (kinds.PERCPU, "percpu")):
        if target.flags & flag:
            message = f"{where} access {word} memory: off={offset}"
            raise _refuse(index, register, message, "untrusted-pointer")
    allocated = bool(target.flags & kinds.ALLOC)
    if demand.write and not (allocated and not target.flags & kinds.UNTRUSTED):
        row = writable_of(w.code.spec) if not target.local and not allocated else None
        why = "only read is supported"
        if row is not None and not target.flags & kinds.UNTRUSTED:
            why = check_written(row, w.objects.btf_of(target), target.name, offset, demand.size)
        if why:
            raise _refuse(index, register, why, "read-only-memory")
        return
    if allocated:
        _check_special(w, index, register, target, offset, demand.size)
    try:
        w.objects.member(target, offset, demand.size)
    except MissingMember as missing:
        raise _refuse(index, register, str(missing), "untrusted-pointer") from None


def _check_special(w: Walk, index: int, register: int, target: Object, offset: int, size: int) -> None:
    for field in w.object_fields(target):
        if offset < field.offset + field.size and field.offset < offset + size:
            message = f"direct access to {field.kind} is disallowed"
            raise _refuse(index, register, message, "special-field")


def prove_buffer(w: Walk, index: int, demand: Access, p: Pointer) -> None:
    """An access to memory whose size is checked when the program is attached."""
    register, buffer = demand.register, p.target
    assert isinstance(buffer, Buffer)
    if demand.write and p.readonly:
        message = f"R{register} cannot write into {p.type_name()}"
        raise _refuse(index, register, message, "read-only-memory")
    offset = p.off + demand.offset
    if offset < 0:
        message = f"R{register} invalid {buffer.word} buffer access: off={offset}, size={demand.size}"
        raise _refuse(index, register, message, "memory-out-of-bounds")
    if p.var.const != 0:
        message = (
            f"R{register} invalid variable buffer offset: off={offset}, var_off=({p.var.value:#x}; {p.var.mask:#x})"
        )
        raise _refuse(index, register, message, "unbounded-variable-offset")


def prove_flow_keys(w: Walk, index: int, demand: Access, p: Pointer) -> None:
    """An access to the flow keys of a flow dissector."""
    offset = p.off + demand.offset
    if offset < 0 or offset + demand.size > FLOW_KEYS_SIZE:
        message = f"invalid access to flow keys off={offset} size={demand.size}"
        raise _refuse(index, demand.register, message, "memory-out-of-bounds")


def prove_socket(w: Walk, index: int, demand: Access, p: Pointer) -> None:
    """An access to a socket's public view."""
    register = demand.register
    if demand.write:
        message = f"R{register} cannot write into {p.type_name()}"
        raise _refuse(index, register, message, "read-only-memory")
    if w.objects.view(p.target).access(demand.offset, demand.size, False) is None:
        message = f"R{register} invalid {p.type_name()} access off={demand.offset} size={demand.size}"
        raise _refuse(index, register, message, "invalid-context-access")


def map_object(w: Walk, p: Pointer) -> Object:
    """The kernel's structure of the map that the pointer stands for."""
    name = MAP_STRUCTS.get(p.target.spec.type)
    if name is None:
        raise Unmodelled(f"reading the structure of maps of type {p.target.spec.type}")
    return w.objects.kernel_object(name)


def prove_map(w: Walk, index: int, demand: Access, p: Pointer) -> None:
    """A read of the kernel's structure behind a map, through the map's address."""
    register = demand.register
    target = map_object(w, p)
    if demand.offset < 0:
        message = f"R{register} is {target.name} invalid negative access: off={demand.offset}"
        raise _refuse(index, register, message, "untrusted-pointer")
    if demand.write:
        raise _refuse(index, register, f"only read from {target.name} is supported", "read-only-memory")
    try:
        w.objects.member(target, demand.offset, demand.size)
    except MissingMember as missing:
        raise _refuse(index, register, str(missing), "untrusted-pointer") from None


def prove_untrusted(w: Walk, index: int, demand: Access, p: Pointer) -> None:
    """Memory that the kernel reads with care: any address, never written."""
    if demand.write:
        message = f"R{demand.register} cannot write into {p.type_name()}"
        raise _refuse(index, demand.register, message, "read-only-memory")


def prove_arena(w: Walk, index: int, demand: Access, p: Pointer) -> None:
    """Memory of the arena: any address, since the machine keeps it inside. Three atomics are missing there."""
    insn = w.code.insns[index]
    if demand.atomic and insn.op.operation in _NOT_IN_ARENA and insn.op.kind is Kind.ATOMIC:
        message = f"BPF_ATOMIC stores into R{demand.register} {p.type_name()} is not allowed"
        raise _refuse(index, demand.register, message, "arena-access")


# --- what a load yields -----------------------------------------------------------------------------------------------


def load(w: Walk, p: Pointer, identity: int, offset: int, size: int) -> Any:
    """What a proved load through a pointer of kind BTF yields; None for a number."""
    found = w.objects.member(p.target, p.off + offset, size)
    if found.kind == "scalar" or p.target.flags & kinds.ALLOC:
        return None
    if found.kind == "opaque":
        if "untrusted-memory" not in w.behaviours:
            return None
        return w.values.pointer(kinds.UNTRUSTED_MEM, None, readonly=True)
    flags, nullable = _flags_of(w, p, identity, found)
    name = w.objects.btf_of(p.target).name(found.type_id)
    return w.values.pointer(kinds.BTF, Object(found.type_id, name, flags, p.target.local), nullable=nullable)


def _flags_of(w: Walk, p: Pointer, identity: int, found: Found) -> tuple[int, bool]:
    """Flags of a pointer that was read out of a structure, and whether it may be null."""
    owner = p.target
    flags = found.flags
    deprecated = flags & ~(kinds.TRUSTED | kinds.RCU)
    if owner.flags & kinds.UNTRUSTED:
        return kinds.UNTRUSTED, False
    if not (is_trusted(w, p, identity) or owner.flags & kinds.RCU):
        return deprecated, False
    listed = w.objects.is_listed
    if listed(owner, found, "__safe_trusted"):
        return flags | kinds.TRUSTED, False
    if listed(owner, found, "__safe_trusted_or_null"):
        return flags | kinds.TRUSTED, True
    if not w.in_rcu() or p.nullable:
        return kinds.UNTRUSTED, False
    if listed(owner, found, "__safe_rcu"):
        return flags | kinds.RCU, False
    or_null = listed(owner, found, "__safe_rcu_or_null")
    if flags & kinds.RCU or or_null:
        return (flags & ~kinds.UNTRUSTED if or_null else flags) | kinds.RCU, True
    if flags & (kinds.PERCPU | kinds.USER):
        return flags, False
    return deprecated, False
