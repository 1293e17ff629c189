"""What the verifier's tests share: standard maps, and programs from one line of assembly."""

from __future__ import annotations

import re

from ebpfkit.abi.kfunc_table import PROTOTYPES
from ebpfkit.asm.insn import KfuncRef, Label
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec, ProgramSpec

MAPS = {
    spec.name: spec
    for spec in (
        MapSpec("hash", "hash", 4, 16, 8),
        MapSpec("array", "array", 4, 16, 4),
        MapSpec("percpu", "percpu_array", 4, 8, 4),
        MapSpec("lpm", "lpm_trie", 8, 8, 16, flags=1),
        MapSpec("progs", "prog_array", 4, 4, 4),
        MapSpec("ring", "ringbuf", 0, 0, 4096),
        MapSpec("xsks", "xskmap", 4, 4, 4),
        MapSpec("rodata", "array", 4, 64, 1, data=bytes(64), frozen=True),
        MapSpec("data", "array", 4, 64, 1, data=bytes(64)),
    )
}


def program(asm: str, prog_type: str = "xdp", *, license: str = "GPL", flags: int = 0) -> ProgramSpec:
    """A program from assembly whose lines may be separated by semicolons; maps are those of `MAPS`."""
    text = "\n".join(line.strip() for line in asm.replace(";", "\n").splitlines())
    # Distances stand in the instructions already; without names, moving an instruction moves its distance along.
    insns = tuple(
        insn.replace(labels=(), ref=None if isinstance(insn.ref, Label) else insn.ref) for insn in parse(text)
    )
    return ProgramSpec("case", prog_type, prog_type, insns, license, maps=MAPS, flags=flags)


_NAMES = list(PROTOTYPES)
_FIRST = 10_000  # no helper has such a number
_KCALL = re.compile(r"kcall (\w+)")


def kernel_program(
    asm: str,
    prog_type: str = "xdp",
    *,
    attach_type: str | None = None,
    attach_target: str | None = None,
    flags: int = 0,
    license: str = "GPL",
) -> ProgramSpec:
    """The same for programs that call kernel functions by name: `kcall bpf_rcu_read_lock`."""
    text = _KCALL.sub(lambda found: f"call {_FIRST + _NAMES.index(found[1])}", asm)
    spec = program(text, prog_type, license=license, flags=flags)
    insns = tuple(
        insn.replace(op=OPCODES["CALL_KFUNC"], imm=0, ref=KfuncRef(_NAMES[insn.imm - _FIRST]))
        if insn.op.name == "CALL" and insn.imm >= _FIRST
        else insn
        for insn in spec.instructions
    )
    return spec.replace(instructions=insns, attach_type=attach_type, attach_target=attach_target)
