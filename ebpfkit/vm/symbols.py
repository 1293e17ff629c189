"""What a program refers to beside maps and helpers: arenas, places in its code, kernel variables, kernel functions.

The machine asks here when it links a program. Where a name means nothing, the instruction that uses it says so when it
is executed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ebpfkit._bits import U64_MAX
from ebpfkit.asm.insn import Instruction, KfuncRef, VarRef
from ebpfkit.errors import NotSupported
from ebpfkit.maps.code import InsnArrayStore
from ebpfkit.maps.memory import ArenaStore, MemoryStore
from ebpfkit.vm.arena import GUARD_BYTES, WINDOW_BYTES, ArenaWindow
from ebpfkit.vm.kfuncs import KFUNCS, UNSUPPORTED, Kfunc, kfunc_reason
from ebpfkit.vm.memory import MemoryFault, Region

if TYPE_CHECKING:
    from ebpfkit.vm.machine import Machine

__all__ = ["Symbols", "direct_address"]

_ENTRY_BYTES = 8  # what a program reads of an entry of an instruction array


class Symbols:
    """The references of one machine's programs, with the regions that stand for them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._arena: ArenaWindow | None = None
        self._variables: dict[str, Region] = {}
        self._per_cpu: dict[int, tuple[int, ...]] = {}  # what programs hold of a per-CPU variable, to the addresses
        self._code: dict[int, Region] = {}
        self.targets: dict[int, set[int]] = {}  # by first slot of a program: the slots that its arrays name

    # Arenas.

    @property
    def arena(self) -> ArenaWindow | None:
        """The arena of the programs, None without one. Raises NotSupported for two."""
        if self._arena is None:
            stores = [store for store in self.machine.maps.values() if isinstance(store, ArenaStore)]
            if len(stores) > 1:
                why = "a program has one arena: run the programs in machines of their own"
                raise NotSupported(f"arenas '{stores[0].spec.name}' and '{stores[1].spec.name}' at once", why=why)
            if stores:
                self._arena = window = ArenaWindow(stores[0], self.machine.order)
                name = f"arena '{stores[0].spec.name}'"
                self.machine.memory.add_window(name, 0, WINDOW_BYTES, GUARD_BYTES, window)
                self.machine.memory.add_window(name, window.high, WINDOW_BYTES, GUARD_BYTES, window)
        return self._arena

    def arena_address(self, store: ArenaStore) -> int:
        """Where an arena begins, as user space sees it."""
        window = self.arena
        assert window is not None and window.pages is store
        return window.address

    # Places in the code.

    def code_address(self, store: InsnArrayStore) -> int:
        """Where a program finds the entries of an instruction array: addresses of instructions."""
        interpreter, region = self.machine.interpreter, self._code.get(store.id)
        if region is None:
            base = interpreter.base
            slots = [base + slot for slot in store.slots]
            data = b"".join(interpreter.function_address(slot).to_bytes(8, self.machine.order) for slot in slots)
            name = f"map '{store.spec.name}'"
            region = self._code[store.id] = self.machine.memory.add(name, bytearray(data), writable=False)
            self.targets.setdefault(base, set()).update(slots)
        return region.base

    # Names of the kernel.

    def variable(self, insn: Instruction) -> int:
        """The address of a kernel variable, or what was given in place of an address; 0 for a weak one without."""
        ref = insn.ref
        if not isinstance(ref, VarRef):
            raise NotSupported("a kernel variable by number", why="give the instruction a VarRef with its name")
        if ref.kind == "func":
            if ref.name in KFUNCS:
                return self._region_of(f"kernel function {ref.name}", b"").base
            if ref.weak:
                return 0
            raise _refusal(ref.name)
        given = self.machine.around.kernel_symbols.get(ref.name)
        if isinstance(given, int):
            return given & U64_MAX
        if isinstance(given, tuple):
            return self._per_cpu_variable(ref.name, given)
        if given is not None:
            return self._region_of(f"kernel variable {ref.name}", given).base
        if ref.weak:
            return 0
        why = f"give the machine kernel_symbols={{{ref.name!r}: ...}}, its bytes or its address"
        raise NotSupported(f"kernel variable '{ref.name}' in the virtual machine", why=why)

    def _per_cpu_variable(self, name: str, values: tuple[bytes, ...]) -> int:
        """What a program holds of a variable of each CPU: it cannot be read, only asked for a CPU's."""
        handle = self._region_of(f"per-CPU variable {name}", b"").base
        if handle not in self._per_cpu:
            self._per_cpu[handle] = tuple(
                self._region_of(f"kernel variable {name} of CPU {cpu}", value).base for cpu, value in enumerate(values)
            )
        return handle

    def on_cpu(self, handle: int, cpu: int) -> int:
        """The address of a per-CPU variable on one CPU, 0 where there is no such CPU. Raises MemoryFault."""
        places = self._per_cpu.get(handle)
        if places is None:
            raise MemoryFault(f"{handle:#x} is no per-CPU variable: give kernel_symbols a tuple of bytes for it")
        return places[cpu] if cpu < len(places) else 0

    def _region_of(self, name: str, data: bytes) -> Region:
        region = self._variables.get(name)
        if region is None:
            region = self._variables[name] = self.machine.memory.add(name, bytearray(data), writable=False)
        return region

    @staticmethod
    def kfunc(insn: Instruction) -> Kfunc:
        """The kernel function that a call names; one that refuses when it is called, where there is none."""
        if not isinstance(insn.ref, KfuncRef):
            what = f"kernel function number {insn.imm}"
            return Kfunc(partial(_refuse, what, "numbers differ from kernel to kernel: name it with a KfuncRef"), 0, 0)
        name = insn.ref.name.split("___")[0]
        return KFUNCS.get(name) or Kfunc(partial(_refuse, f"kernel function {name}", kfunc_reason(name)), 0, 0)


def _refusal(name: str) -> NotSupported:
    return NotSupported(f"kernel function {name} in the virtual machine", why=UNSUPPORTED.get(name, kfunc_reason(name)))


def _refuse(what: str, why: str, *arguments: object) -> int:
    raise NotSupported(f"{what} in the virtual machine", why=why)


def direct_address(symbols: Symbols, store: MemoryStore) -> int | None:
    """The address that a wide load gives for the first value of a map without cells, None for any other."""
    if isinstance(store, ArenaStore):
        return symbols.arena_address(store)
    return symbols.code_address(store) if isinstance(store, InsnArrayStore) else None
