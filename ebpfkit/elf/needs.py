"""What a program needs of a kernel, and from which version on that is there: helpers, kfuncs, map types, instructions.

The versions are rows in `abi/`; nothing is asked of the running kernel. A distribution may carry something earlier.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ebpfkit.abi.attach_types import ATTACH_TYPES
from ebpfkit.abi.helpers import HELPERS
from ebpfkit.abi.kfuncs import KFUNCS
from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.asm.insn import KfuncRef, VarRef
from ebpfkit.asm.isa import Kind
from ebpfkit.elf.model import ProgramSpec

__all__ = ["Need", "first_kernel", "instruction_level", "needs_of", "version_key"]

OLDEST = "4.4"
"""What is older than the rows reach counts as this."""

# Conventions of an object that only newer kernels understand.
_GLOBAL_DATA, _FUNCTIONS_OF_BTF, _FRAGS = "5.2", "5.6", "5.18"
_KSYM_VARIABLES, _SLEEPABLE = "5.10", "5.10"
_LOCAL_CALLS = "4.16"
BPF_F_SLEEPABLE, BPF_F_XDP_HAS_FRAGS = 1 << 4, 1 << 5


@dataclass(frozen=True, slots=True)
class Need:
    """One thing: its `kind` ("helper", "map type", ...), name, and the first kernel with it ("?": not known)."""

    kind: str
    name: str
    since: str


def needs_of(spec: ProgramSpec) -> tuple[Need, ...]:
    """Everything one program needs, each once, in order of kind and name."""
    found: set[Need] = set()
    add = found.add
    prog_type = PROG_TYPES.get(spec.prog_type)
    add(Need("program type", spec.prog_type or "?", prog_type.since or OLDEST if prog_type else "?"))
    attach = ATTACH_TYPES.get(spec.attach_type or "")
    if attach is not None and attach.name != "struct_ops":  # the attach type of a link, which not every structure has
        add(Need("attach type", attach.name, attach.since or OLDEST))
    for map_spec in spec.maps.values():
        row = MAP_TYPES.get(map_spec.type)
        add(Need("map type", map_spec.type, row.since or OLDEST if row else "?"))
    for insn in spec.instructions:
        kind, ref = insn.op.kind, insn.ref
        if insn.op.since:
            add(Need("instruction", insn.op.name, insn.op.since))
        if kind is Kind.CALL and insn.op.name == "CALL":
            helper = HELPERS.get(insn.imm)
            if helper is not None:
                since = max(helper.since or OLDEST, helper.prog_types_since.get(spec.prog_type, ""), key=version_key)
                add(Need("helper", f"bpf_{helper.name}", since))
            else:
                add(Need("helper", f"number {insn.imm}", "?"))
        elif isinstance(ref, KfuncRef):
            kfunc = KFUNCS.get(ref.name)
            if not ref.weak:
                add(Need("kfunc", ref.name, kfunc.since if kfunc else "?"))
        elif insn.op.name == "CALL_LOCAL":
            add(Need("feature", "calls of own functions", _LOCAL_CALLS))
        if insn.op.name == "LDDW_MAP_VALUE":
            add(Need("feature", "global variables", _GLOBAL_DATA))
        if isinstance(ref, VarRef) and ref.kind != "address" and not ref.weak:
            add(Need("feature", "kernel variables", _KSYM_VARIABLES))
    if any(info.is_global for info in spec.func_infos[1:]):
        add(Need("feature", "functions verified apart", _FUNCTIONS_OF_BTF))
    if spec.flags & BPF_F_XDP_HAS_FRAGS:
        add(Need("feature", "XDP on several buffers", _FRAGS))
    if spec.flags & BPF_F_SLEEPABLE:
        add(Need("feature", "sleeping", _SLEEPABLE))
    return tuple(sorted(found, key=lambda need: (need.kind, need.name)))


def first_kernel(needs: Iterable[Need]) -> str:
    """The first kernel that has all of it, as far as that is known."""
    return max((need.since for need in needs if need.since != "?"), key=version_key, default=OLDEST)


def instruction_level(spec: ProgramSpec) -> int:
    """The LLVM CPU level that its instructions take: 1 to 4."""
    return max((insn.op.cpu for insn in spec.instructions), default=1)


def version_key(text: str) -> tuple[int, ...]:
    """Versions in order: "5.10" comes after "5.9"."""
    return tuple(int(part) for part in text.split(".")) if text else (0,)
