"""IR text to optimised IR, BPF object or assembly, in process where that is safe.

Belongs here: the pass pipeline and the target machine. What might end the process is judged by `fence.py` and emitted
in a child. The pass builder gets the target machine, so BPF's own passes run as they do under clang -O2.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ebpfkit.llvm.fence import LlvmError, assess, emit_in_child, optimise_in_child

__all__ = ["Emission", "emit_assembly", "emit_optimised", "optimise", "optimise_and_emit"]

TRIPLE = "bpfel"
DATA_LAYOUT = "e-m:e-p:64:64-i64:64-i128:128-n32:64-S128"
CPUS = ("v1", "v2", "v3", "v4")
KEPT_BY_NAME = "@llvm.preserve.struct.access.index"
"""LLVM's pass for these accesses keeps what it has made in a table of the whole process, by name: the second module
in a process gets what belonged to the first. So each is optimised in a process of its own."""


@lru_cache(maxsize=16)
def _target_machine(cpu: str, features: str, speed: int) -> Any:
    if cpu not in CPUS:
        raise LlvmError(f"no BPF CPU is called {cpu!r}; there are {', '.join(CPUS)}", code="bad-option")
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=cpu, features=features, opt=speed)


def _parse(ir_text: str) -> Any:
    import llvmlite.binding as llvm

    if "\0" in ir_text:  # LLVM would take it as the end
        raise LlvmError("this is not valid LLVM IR: it has a zero character", code="llvm-invalid")
    try:
        module = llvm.parse_assembly(ir_text)
        module.verify()
    except RuntimeError as problem:
        raise LlvmError(f"this is not valid LLVM IR: {str(problem).strip()}", code="llvm-invalid") from problem
    return module


class Emission:
    """An optimised module, ready to be emitted as often as wanted. `text` is its IR."""

    def __init__(self, module: Any, cpu: str, features: str, speed: int) -> None:
        self._module, self._cpu, self._features, self._speed = module, cpu, features, speed
        self.text = str(module)
        self.assessment = assess(self.text)

    def emit(self, *, assembly: bool = False) -> bytes:
        """The ELF object, or the assembly text in UTF-8. Raises `LlvmError` for what BPF cannot do."""
        if self.assessment.risky:
            return emit_in_child(self.text, cpu=self._cpu, features=self._features, assembly=assembly)
        machine = _target_machine(self._cpu, self._features, self._speed)
        if assembly:
            return str(machine.emit_assembly(self._module)).encode()
        return bytes(machine.emit_object(self._module))


def optimise(ir_text: str, *, cpu: str = "v3", features: str = "", speed: int = 2) -> Emission:
    """Parse, verify and optimise IR text. `speed` is LLVM's level, as in -O2. Raises `LlvmError` for invalid IR."""
    if KEPT_BY_NAME in ir_text:
        again = optimise_in_child(ir_text, cpu=cpu, features=features, speed=speed)
        return Emission(_parse(again), cpu, features, speed)
    emission = Emission(_optimised(ir_text, cpu, features, speed), cpu, features, speed)
    if emission.assessment.has_wide_integers:
        again = optimise_in_child(ir_text, cpu=cpu, features=features, speed=speed)
        emission = Emission(_parse(again), cpu, features, speed)
    return emission


def optimise_without_closed_forms(ir_text: str, *, cpu: str, features: str, speed: int) -> str:
    """What the child runs: it changes an option of the whole process."""
    import llvmlite.binding as llvm

    llvm.set_option("ebpfkit", "-replexitval=never")
    return str(_optimised(ir_text, cpu, features, speed))


def _optimised(ir_text: str, cpu: str, features: str, speed: int) -> Any:
    machine = _target_machine(cpu, features, speed)
    module = _parse(ir_text)
    import llvmlite.binding as llvm

    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=speed))
    builder.getModulePassManager().run(module, builder)
    return module


def optimise_and_emit(ir_text: str, *, cpu: str = "v3", features: str = "", speed: int = 2) -> bytes:
    """IR text to a BPF object. Raises `LlvmError`; never ends the process."""
    return optimise(ir_text, cpu=cpu, features=features, speed=speed).emit()


def emit_assembly(ir_text: str, *, cpu: str = "v3", features: str = "", speed: int = 2) -> str:
    """IR text to BPF assembly text. Raises `LlvmError`; never ends the process."""
    return optimise(ir_text, cpu=cpu, features=features, speed=speed).emit(assembly=True).decode()


def emit_optimised(optimised: str, *, cpu: str, features: str, assembly: bool) -> bytes:
    """Emit IR text that was optimised before, in this process, whatever happens: what the child runs."""
    machine = _target_machine(cpu, features, 2)
    module = _parse(optimised)
    return str(machine.emit_assembly(module)).encode() if assembly else bytes(machine.emit_object(module))
