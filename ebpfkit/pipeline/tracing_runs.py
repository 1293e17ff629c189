"""Programs that the kernel calls with arguments or a record, run on these: here, in the virtual machine, there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ebpfkit.errors import NotSupported, UsageError
from ebpfkit.pipeline.running import Result, _built_for_run, _memory_of, _values_of, kernel_run, machine_result
from ebpfkit.pipeline.running import _contents_of as contents_of

if TYPE_CHECKING:
    from ebpfkit.dsl.program import TracingProgram

__all__ = ["run_tracing"]


def run_tracing(program: TracingProgram, arguments: Sequence[Any], on: str = "python", **options: Any) -> Result:
    """Run a tracing program on its arguments, in their order, or on a record (`TraceEvent` or its bytes).

    `context=` gives the fields of its `Context` by name. `on` is "python", "interpreter", "jit", or "kernel" where the
    kernel runs the type on request (raw tracepoints).
    """
    if on == "python":
        from ebpfkit.dsl.execute import run_tracing as run_here

        done = run_here(program, arguments, **options)
        return Result(done.action, b"", contents_of(program), None, _values_of(program), done.traced)
    data, context = _context_of(program, arguments, options.pop("context", {}))
    if on in ("interpreter", "jit"):
        from ebpfkit.vm import Machine

        obj = _built_for_run(program)
        stores = [_memory_of(facade) for facade in program.maps]
        machine = Machine(obj, maps=stores, jit="safe" if on == "jit" else None)
        return machine_result(program, obj, machine, data, {"context": context, **options} if context else options)
    if on == "kernel":
        if not program.kind.test_run:
            raise NotSupported(
                f"a {program.kind.decorator} program with on='kernel'", why="the kernel has no run on request for it"
            )
        return kernel_run(program, b"", ctx=data, **options)
    raise UsageError(f"no executor {on!r} for a {program.kind.decorator} program; there are python, interpreter, jit, "
                     "kernel")  # fmt: skip


def _context_of(
    program: TracingProgram, arguments: Sequence[Any], fields: dict[str, int]
) -> tuple[bytes, dict[str, int]]:
    """The context in memory, and the fields of one that the machine builds by itself."""
    from ebpfkit.dsl.parameters import context_bytes, context_fields

    places = context_fields(program)
    unknown = sorted(set(fields) - set(places))
    if unknown:
        raise UsageError(f"the context of a {program.kind.decorator} has no field '{unknown[0]}'")
    if program.kind.prog_type == "perf_event":
        registers = sum(value << 8 * places[name] for name, value in fields.items() if name in ("ip", "sp", "fp"))
        return b"", {"regs": registers, **{n: v for n, v in fields.items() if n not in ("ip", "sp", "fp")}}
    data = bytearray(context_bytes(program, arguments))
    for name, value in fields.items():
        data[places[name] : places[name] + 8] = value.to_bytes(8, "little")
    return bytes(data), {}
