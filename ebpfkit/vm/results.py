"""What a run of the machine gives: its result, and the steps that a trace is shown on the way."""

from __future__ import annotations

from dataclasses import dataclass

from ebpfkit.asm.insn import Instruction
from ebpfkit.vm.objects import Effect

__all__ = ["Result", "Step"]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did: r0 (unsigned, 64 bits), the packet or memory afterwards, and how many instructions it took
    (None in trusted native code, which does not count).

    `redirect` is (map name, key, number stored there) of the last redirection, with an empty name and the interface
    index twice for a redirection without a map. `printed` are the first lines of trace_printk, `meta` the metadata
    before the packet. `effects` are the things that helpers would have done to the world, in order.
    """

    r0: int
    data: bytes
    insns: int | None
    redirect: tuple[str, int, int] | None = None
    printed: tuple[str, ...] = ()
    meta: bytes = b""
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction about to be executed: its slot, and r0 to r10 before it."""

    slot: int
    instruction: Instruction
    registers: tuple[int, ...]
