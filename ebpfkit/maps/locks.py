"""Where a map's values keep their bpf_spin_lock, by their type in BTF."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfkit.abi.map_types import WITH_SPIN_LOCKS
from ebpfkit.btf.types import Struct
from ebpfkit.elf.model import MapSpec

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf

__all__ = ["LOCK_BYTES", "lock_offset"]

LOCK_BYTES = 4
_NAME = "bpf_spin_lock"


def lock_offset(spec: MapSpec, btf: Btf | None) -> int | None:
    """The offset in bytes of the lock in a value, None without one: a member of the value's structure itself."""
    if btf is None or not spec.btf_value_type or spec.type not in WITH_SPIN_LOCKS:
        return None
    value = btf.resolve(spec.btf_value_type)
    if not isinstance(value, Struct):
        return None
    for member in value.members:
        kind = btf.resolve(member.type)
        if isinstance(kind, Struct) and btf.name(kind) == _NAME:
            return member.bit_offset // 8
    return None
