"""What `abi/`'s rows do not say and the walk needs: special fields in map values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfkit.elf.model import MapSpec
from ebpfkit.verifier.rejection import Rejection, Unmodelled

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf

__all__ = ["LOCK", "SpecialField", "check_program_type", "special_fields"]

_SPECIAL = (
    "bpf_spin_lock", "bpf_res_spin_lock", "bpf_timer", "bpf_wq", "bpf_task_work", "bpf_list_head", "bpf_list_node",
    "bpf_rb_root", "bpf_rb_node", "bpf_refcount",
)  # fmt: skip
LOCK = "bpf_spin_lock"
_SIZES = {LOCK: 4, "bpf_timer": 16}
_LOCKABLE_MAPS = frozenset({"hash", "array"})
_TRACING = frozenset({"kprobe", "tracepoint", "perf_event", "raw_tracepoint", "raw_tracepoint_writable"})
_TAGS = ("kptr", "kptr_untrusted", "percpu_kptr", "uptr")


@dataclass(frozen=True, slots=True)
class SpecialField:
    """A lock or timer in a map's values: programs may only hand it to its helpers. Offset and size in bytes."""

    kind: str
    offset: int
    size: int


def special_fields(spec: MapSpec, btf: Btf | None) -> tuple[SpecialField, ...]:
    """The special fields of the map's values, by the type of the value. Raises Unmodelled for the rarer ones."""
    if btf is None or not _has_any(spec, btf):
        return ()
    from ebpfkit.btf.types import Struct, Union

    unmodelled = Unmodelled(f"special fields in the values of map {spec.name}")
    value = btf.resolve(spec.btf_value_type)
    if not isinstance(value, Struct) or isinstance(value, Union) or spec.type not in _LOCKABLE_MAPS:
        raise unmodelled
    found: list[SpecialField] = []
    for member in value.members:
        if not _reaches_special(member.type, btf):
            continue
        type_ = btf.get(member.type)
        size = _SIZES.get(type_.name)
        at, odd = divmod(member.bit_offset, 8)
        if size is None or odd or at % min(size, 8) or not isinstance(type_, Struct) or type_.size != size:
            raise unmodelled
        found.append(SpecialField(type_.name, at, size))
    if len({field.kind for field in found}) != len(found):
        raise unmodelled
    return tuple(found)


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


def check_program_type(spec: MapSpec, btf: Btf | None, prog_type: str, index: int) -> None:
    """Whether programs of this type may use a map with such values at all."""
    if prog_type not in _TRACING and prog_type != "socket_filter":
        return
    for field in special_fields(spec, btf):
        if prog_type in _TRACING or field.kind == LOCK:
            who = "tracing" if prog_type in _TRACING else "socket filter"
            raise Rejection("special-field", f"{who} progs cannot use {field.kind} yet", index=index)
