"""LLVM IR text to machine code: for this process, or as assembly text for any target.

The caller writes the IR and knows the signatures; addresses come out. BPF objects are `emit`'s.
"""

from __future__ import annotations

from typing import Any

from ebpfkit.llvm.fence import LlvmError

__all__ = ["NativeModule", "compile_native", "native_assembly"]


class NativeModule:
    """Compiled functions, callable by address for as long as this object lives."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def address(self, name: str) -> int:
        """The address of a function."""
        address = int(self._engine.get_function_address(name))
        if not address:
            raise LlvmError(f"the module has no function {name!r}", code="llvm-missing")
        return address


def _optimised(ir_text: str, machine: Any, speed: int) -> Any:
    import llvmlite.binding as llvm

    try:
        module = llvm.parse_assembly(ir_text)
        module.verify()
    except RuntimeError as problem:
        raise LlvmError(f"this is not valid LLVM IR: {str(problem).strip()}", code="llvm-invalid") from problem
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=speed))
    builder.getModulePassManager().run(module, builder)
    return module


def compile_native(ir_text: str, *, speed: int = 2) -> NativeModule:
    """Compile IR text for this machine's own processor. Raises `LlvmError` for invalid IR."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=speed, jit=True
    )
    engine = llvm.create_mcjit_compiler(_optimised(ir_text, machine, speed), machine)
    engine.finalize_object()
    return NativeModule(engine)


def native_assembly(ir_text: str, triple: str, *, cpu: str = "", features: str = "", speed: int = 2) -> str:
    """Assembly text of IR text for any target that LLVM was built with, such as "aarch64-linux-gnu"."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError as problem:
        raise LlvmError(f"LLVM has no target {triple!r}: {str(problem).strip()}", code="bad-option") from problem
    machine = target.create_target_machine(cpu=cpu, features=features, opt=speed)
    return str(machine.emit_assembly(_optimised(ir_text, machine, speed)))
