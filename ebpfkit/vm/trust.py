"""When native code may go without checks: what the verifier has to have said, and what it cannot know of a machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from ebpfkit.abi.helpers import HELPERS
from ebpfkit.abi.model import RetKind
from ebpfkit.asm.insn import Instruction, KfuncRef, VarRef
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.errors import UsageError
from ebpfkit.maps.base import MemoryStore

__all__ = ["Verdict", "check_trust"]

_KERNEL_OBJECTS: Final = frozenset({RetKind.BTF_ID, RetKind.BTF_ID_OR_NULL})
_ANY_ADDRESS: Final = frozenset({"bpf_rdonly_cast"})


class ProgramVerdict(Protocol):
    """What the verifier says about one program."""

    @property
    def name(self) -> str: ...

    @property
    def verdict(self) -> str: ...


class Verdict(Protocol):
    """What the verifier says about the programs of a machine."""

    @property
    def programs(self) -> Sequence[ProgramVerdict]: ...


def check_trust(report: Verdict | None, programs: Iterable[ProgramSpec], stores: Mapping[str, MemoryStore]) -> None:
    """Trusted code is for programs that the verifier accepted, with the maps that it saw. Raises UsageError."""
    if report is None:
        raise UsageError('jit="trusted" needs report=, the verifier\'s acceptance of the program')
    accepted = {program.name for program in report.programs if program.verdict == "accept"}
    for spec in programs:
        if spec.name not in accepted:
            raise UsageError(f"program '{spec.name}' was not accepted by the verifier: use jit=\"safe\"")
        for insn in spec.instructions:
            what = _unbounded(insn)
            if what:
                raise UsageError(
                    f"program '{spec.name}' {what}, which a kernel guards and trusted code does not: use jit=\"safe\""
                )
        _check_maps(spec, stores)


def _unbounded(insn: Instruction) -> str:
    """How an accepted program may follow a pointer out of the machine's memory: kernel objects end elsewhere here."""
    if insn.op.name == "CALL":
        row = HELPERS.get(insn.imm)
        return f"follows what bpf_{row.name} gives" if row is not None and row.ret in _KERNEL_OBJECTS else ""
    if isinstance(insn.ref, KfuncRef) and insn.ref.name in _ANY_ADDRESS:
        return f"follows what {insn.ref.name} gives"
    if isinstance(insn.ref, VarRef) and insn.ref.kind == "var":
        return f"looks into the kernel variable '{insn.ref.name}'"
    return ""


def _check_maps(program: ProgramSpec, stores: Mapping[str, MemoryStore]) -> None:
    for name, spec in program.maps.items():
        store = stores[name].spec
        seen = (spec.type, spec.key_size, spec.value_size, spec.flags, spec.frozen)
        if (store.type, store.key_size, store.value_size, store.flags, store.frozen) != seen:
            raise UsageError(f"map '{name}' is not the one that the verifier saw: its type, sizes or flags differ")
        if "array" in spec.type and store.max_entries < spec.max_entries:
            raise UsageError(f"map '{name}' has {store.max_entries} entries, the verifier saw {spec.max_entries}")
