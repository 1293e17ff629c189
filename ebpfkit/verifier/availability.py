"""What a program needs that came with some kernel: its type, its attach type, its maps.

A kernel refuses these before its verifier sees the program (EINVAL, without a log). Instructions are
`instruction_set`'s, helpers the walk's.
"""

from __future__ import annotations

from ebpfkit.abi.attach_types import ATTACH_TYPES
from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.abi.model import ProgTypeSpec
from ebpfkit.abi.versions import is_at_least, is_in_force
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.verifier.rejection import Rejection

__all__ = ["check_available"]

# Attach types that change what the program may do; the others are told the kernel only where it knows them.
_DISTINCT = frozenset({"xdp_devmap", "xdp_cpumap", "lsm_cgroup", "sk_skb_verdict", "trace_iter", "modify_return"})


def check_available(spec: ProgramSpec, prog_type: ProgTypeSpec, kernel: str) -> None:
    """Raise Rejection for what this kernel does not have."""
    if not is_at_least(kernel, prog_type.since):
        _refuse(f"programs of type {prog_type.name}", kernel, prog_type.since)
    attach = ATTACH_TYPES.get(spec.attach_type or "")
    matters = prog_type.needs_attach_type or spec.attach_type in _DISTINCT
    if attach is not None and matters and not is_at_least(kernel, attach.since):
        _refuse(f"the attach type {spec.attach_type}", kernel, attach.since)
    for shape in spec.maps.values():
        row = MAP_TYPES.get(shape.type)
        if row is not None and not is_at_least(kernel, row.since):
            _refuse(f"maps of type {shape.type} (map {shape.name})", kernel, row.since)
        if shape.frozen and not is_in_force("large-programs", kernel):
            _refuse(f"frozen maps (map {shape.name})", kernel, "5.2")


def _refuse(what: str, kernel: str, since: str) -> None:
    raise Rejection("not-in-kernel", f"Linux {kernel} has no {what}: they came with {since}")
