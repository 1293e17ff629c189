"""What `abi/`'s rows do not say and the walk needs: special fields in map values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ebpfkit.abi.versions import DEFAULT_KERNEL, is_at_least, is_in_force
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.verifier.rejection import Rejection, Unmodelled

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf

__all__ = [
    "KPTRS",
    "LOCK",
    "LOCKS",
    "ONLY_IN_MAPS",
    "SpecialField",
    "check_program_type",
    "fields_of",
    "special_fields",
]

_SPECIAL = (
    "bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_wq", "bpf_task_work", "bpf_list_head", "bpf_list_node",
    "bpf_rb_root", "bpf_rb_node", "bpf_refcount",
)  # fmt: skip
LOCK = "bpf_spin_lock"
_SLEEPABLE = 1 << 4
_SIZES = {
    LOCK: 4,
    "bpf_res_spin_lock": 4,
    "bpf_timer": 16,
    "bpf_wq": 16,
    "bpf_list_head": 16,
    "bpf_list_node": 24,
    "bpf_rb_root": 16,
    "bpf_rb_node": 32,
    "bpf_refcount": 4,
}
_ROOTS = {"bpf_list_head": "bpf_list_node", "bpf_rb_root": "bpf_rb_node"}
_LOCKABLE_MAPS = frozenset({"hash", "array"})
_TRACING = frozenset({"kprobe", "tracepoint", "perf_event", "raw_tracepoint", "raw_tracepoint_writable"})
LOCKS = frozenset({LOCK, "bpf_res_spin_lock"})
_NEVER_TRACED = {
    LOCK: LOCK,
    "bpf_res_spin_lock": LOCK,
    "bpf_timer": "bpf_timer",
    "bpf_wq": "bpf_wq",
    "bpf_list_head": "bpf_{list_head,rb_root}",
    "bpf_rb_root": "bpf_{list_head,rb_root}",
}
"""Fields that programs of tracing types must not even see in a map, and the kernel's words for them."""
_TAGS = {"kptr": "kptr", "kptr_untrusted": "kptr", "percpu_kptr": "percpu_kptr", "uptr": "uptr", "kptr_ref": "kptr"}
KPTRS = frozenset(_TAGS.values())
"""Kinds of fields that are pointers to objects."""
_SINGLE = frozenset({LOCK, "bpf_res_spin_lock", "bpf_timer", "bpf_wq", "bpf_refcount"})
ONLY_IN_MAPS = frozenset({"bpf_timer", "bpf_wq", "bpf_task_work"})
"""Fields that are plain memory in allocated objects."""
_OLD_TAGS = {"kptr": "kptr_untrusted", "kptr_ref": "kptr"}
"""What the tags of kernels before 6.2 are called since."""
_SINCE = {
    LOCK: "5.1", "bpf_timer": "5.15", "kptr": "5.19", "kptr_ref": "5.19", "kptr_untrusted": "6.2",
    "bpf_list_head": "6.2", "bpf_list_node": "6.2",
    "bpf_rb_root": "6.3", "bpf_rb_node": "6.3", "bpf_refcount": "6.4", "percpu_kptr": "6.7",
    "bpf_wq": "6.10", "uptr": "6.13", "bpf_res_spin_lock": "6.15", "bpf_task_work": "6.18",
}  # fmt: skip
"""The first kernel to which a field, or the tag of a pointer, is special."""
_MAX_FIELDS = 11
_DEPTH = 16


@dataclass(frozen=True, slots=True)
class SpecialField:
    """A lock, timer or kptr in a value: programs may only hand it to its helpers. Offset and size in bytes.

    `kind` is the kernel's word in messages. A kptr has its type tag (`tag`) and the program's type it points to,
    the head of a list or the root of a tree the type of what is in it.
    """

    kind: str
    offset: int
    size: int
    tag: str = ""
    type_id: int = 0
    node_offset: int = 0  # of a list's head or a tree's root: where the node is in the structure `type_id`


def special_fields(
    spec: MapSpec, btf: Btf | None, kernel: str = DEFAULT_KERNEL, kernel_btf: Btf | None = None
) -> tuple[SpecialField, ...]:
    """The special fields of the map's values, by the type of the value. Raises Unmodelled for the rarer ones.

    What this kernel does not know as special is plain memory for it.
    """
    if btf is None or not _has_any(spec, btf):
        return ()
    try:
        found = _known_to(kernel, fields_of(btf, spec.btf_value_type), btf, kernel_btf)
    except Unmodelled:
        raise Unmodelled(f"special fields in the values of map {spec.name}") from None
    for field in found:
        if field.kind not in KPTRS and field.kind not in _ROOTS and spec.type not in _LOCKABLE_MAPS:
            raise Unmodelled(f"special fields in the values of map {spec.name}")
    return found


def _known_to(
    kernel: str, fields: tuple[SpecialField, ...], btf: Btf, kernel_btf: Btf | None
) -> tuple[SpecialField, ...]:
    from ebpfkit.btf.types import Struct

    known = tuple(field for field in fields if is_at_least(kernel, _SINCE[field.tag or field.kind]))
    if is_in_force("kptr-tags", kernel):
        return tuple(field for field in known if field.tag != "kptr_ref")
    if not any(field.tag for field in known):
        return known
    # Here a kptr is one without a reference, kptr_ref one with it; one that the kernel has no type for spoils all.
    if kernel_btf is None:
        raise Unmodelled("kptrs without the kernel's types")
    loose = tuple(replace(field, tag=_OLD_TAGS.get(field.tag, field.tag)) for field in known)
    if all(kernel_btf.find_id(btf.name(field.type_id), Struct) for field in loose if field.tag):
        return loose
    return tuple(field for field in loose if not field.tag)


def fields_of(btf: Btf, type_id: int) -> tuple[SpecialField, ...]:
    """The special fields of a structure or data section, those of its members and their elements included."""
    found = sorted(_collect(btf, type_id, 0, (0, -1)), key=lambda field: field.offset)
    single = [field.kind for field in found if field.kind in _SINGLE]
    if len(set(single)) < len(single) or len(found) > _MAX_FIELDS:
        raise Unmodelled("several special fields of one kind")
    return tuple(found)


def _collect(btf: Btf, type_id: int, base: int, home: tuple[int, int], depth: int = 0) -> Iterator[SpecialField]:
    """The fields in a type that starts at `base`. `home`: what declares it, a type and the number of its member."""
    from ebpfkit.btf.types import Array, Datasec, Ptr, Struct, TypeTag, Union

    type_id = btf.strip(type_id)
    found = btf.get(type_id)
    if depth > _DEPTH:
        raise Unmodelled("special fields deep inside others")
    if isinstance(found, Datasec):
        for variable in found.vars:
            inner = getattr(btf.get(variable.type), "type", 0)
            yield from _collect(btf, inner, base + variable.offset, (variable.type, -1), depth + 1)
    elif isinstance(found, Array):
        if found.nelems and _reaches_special(found.type, btf):
            size = btf.size_of(found.type)
            if found.nelems > _MAX_FIELDS:
                raise Unmodelled("special fields in long arrays")
            for number in range(found.nelems):
                yield from _collect(btf, found.type, base + number * size, (0, -1), depth + 1)
    elif isinstance(found, Ptr):
        tag = btf.get(found.type)
        if isinstance(tag, TypeTag):
            target = btf.strip(tag.type)
            if tag.name not in _TAGS or base % 8 or not isinstance(btf.get(target), Struct):
                raise Unmodelled("type tags of pointers in maps")
            yield SpecialField(_TAGS[tag.name], base, 8, tag.name, target)
    elif isinstance(found, Struct):
        name = btf.name(found)
        if name in _SPECIAL:
            size = _SIZES.get(name, 0)
            if not size or size != found.size or base % min(size, 8):
                raise Unmodelled(f"{name} of another shape")
            held, node = _contents(btf, home, _ROOTS[name]) if name in _ROOTS else (0, 0)
            yield SpecialField(name, base, size, "", held, node)
            return
        for position, member in enumerate(found.members):
            if not _reaches_special(member.type, btf):
                continue
            at, odd = divmod(member.bit_offset, 8)
            if odd or isinstance(found, Union):
                raise Unmodelled("special fields in unions")
            yield from _collect(btf, member.type, base + at, (type_id, position), depth + 1)


def _contents(btf: Btf, home: tuple[int, int], node: str) -> tuple[int, int]:
    """What a list or tree holds, by the tag of its declaration: the structure, and where its node is."""
    from ebpfkit.btf.types import DeclTag, Struct

    for _, tag in btf.iter_kind(DeclTag):
        if (tag.type, tag.component) == home and tag.name.startswith("contains:"):
            _, struct, member = [*tag.name.split(":"), "", ""][:3]
            type_id = btf.find_id(struct, Struct)
            found = btf.get(type_id) if type_id else None
            inner = found.member(member) if isinstance(found, Struct) else None
            if inner is not None and btf.name(btf.strip(inner.type)) == node:
                return type_id, inner.offset
    raise Unmodelled("a list or tree that does not say what it holds")


def _has_any(spec: MapSpec, btf: Btf) -> bool:
    return bool(spec.btf_value_type) and _reaches_special(spec.btf_value_type, btf)


def _reaches_special(type_id: int, btf: Btf) -> bool:
    """Whether the type holds a lock, timer, kernel pointer, list or tree anywhere."""
    from ebpfkit.btf.types import Array, Datasec, Ptr, Struct, TypeTag

    pending, seen = [type_id], set()
    while pending:
        number = pending.pop()
        if number in seen or not 0 < number < len(btf.types):
            continue
        seen.add(number)
        found = btf.types[number]
        name = btf.name(found)
        if isinstance(found, Struct):
            if name in _SPECIAL:
                return True
            pending += [member.type for member in found.members]
        elif isinstance(found, Datasec):
            pending += [variable.type for variable in found.vars]
        elif isinstance(found, Ptr):
            target = btf.types[found.type] if 0 < found.type < len(btf.types) else None
            if isinstance(target, TypeTag) and btf.name(target) in _TAGS:
                return True
        else:
            following = getattr(found, "type", 0)
            if isinstance(found, Array) or following:
                pending.append(following)
    return False


def check_program_type(program: ProgramSpec, spec: MapSpec, kernel: str, kernel_btf: Btf | None, index: int) -> None:
    """Whether such programs may use a map with such values at all."""
    prog_type = program.prog_type
    awake = not program.flags & _SLEEPABLE or is_in_force("locks-while-sleeping", kernel)
    if prog_type not in _TRACING and prog_type != "socket_filter" and awake:
        return
    for field in special_fields(spec, program.btf, kernel, kernel_btf):
        if field.kind in _NEVER_TRACED and prog_type in _TRACING:
            what, who = _NEVER_TRACED[field.kind], "tracing"
        elif field.kind in LOCKS and prog_type == "socket_filter":
            what, who = LOCK, "socket filter"
        elif field.kind in LOCKS and not awake:
            what, who = LOCK, "sleepable"
        else:
            continue
        raise Rejection("special-field", f"{who} progs cannot use {what} yet", index=index)
