"""The parameters of a tracing program: which is the context, which a record, which are arguments, and where these lie.

A probe's arguments are in registers, which differ by machine; those of other programs are numbers of 64 bits in a row.
"""

from __future__ import annotations

import inspect
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebpfkit.abi.model import RegistersSpec
from ebpfkit.abi.pt_regs import PT_REGS
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.trace_context import Context, TraceEvent, record_of
from ebpfkit.dsl.types import Integer
from ebpfkit.errors import NotSupported

if TYPE_CHECKING:
    from ebpfkit.dsl.program import Program

__all__ = ["Parameters", "context_fields", "machine_registers", "parameters_of"]

_SAME = {"AMD64": "x86_64", "arm64": "aarch64"}
MOST_ARGUMENTS = 12
"""The most arguments that the kernel passes to a traced function's program."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """`context` and `record` name the parameter that is the context itself, or a record of that class."""

    context: str = ""
    record: str = ""
    record_type: type[TraceEvent] | None = None
    arguments: tuple[tuple[str, type[Integer], int], ...] = ()
    """Name, type, and offset in the context in bytes."""


def machine_registers() -> RegistersSpec:
    """The registers of this machine, for whose kernel a probe is built. Raises NotSupported."""
    name = platform.machine()
    name = _SAME.get(name, name)
    if name not in PT_REGS:
        raise NotSupported(f"probes on {name}", why=f"their registers are known for {', '.join(PT_REGS)}")
    return PT_REGS[name]


def context_fields(program: Program) -> dict[str, int]:
    """The fields that a `Context` parameter has, with their offsets in bytes."""
    kind = program.kind
    if kind.prog_type == "kprobe":
        registers = machine_registers()
        return {"ip": registers.ip, "sp": registers.sp, "fp": registers.fp}
    if kind.prog_type == "perf_event":
        registers = machine_registers()
        size = registers.size
        return {
            "ip": registers.ip, "sp": registers.sp, "fp": registers.fp, "sample_period": size, "addr": size + 8,
        }  # fmt: skip
    return {}


def parameters_of(program: Program) -> Parameters:
    """The parameters by their annotations. Raises CompileError for those that have no meaning."""
    name, kind = program.name, program.kind
    try:
        annotations = inspect.get_annotations(program.function, eval_str=True)
    except NameError as error:
        refuse("unknown-name", f"{name}(): an annotation names something unknown: {error}")
    names = list(inspect.signature(program.function).parameters)
    context = ""
    if names and annotations.get(names[0]) is Context:
        context = names.pop(0)
    if kind.context is TraceEvent:
        record = annotations.get(names[0]) if len(names) == 1 else None
        if not isinstance(record, type) or not issubclass(record, TraceEvent):
            refuse("bad-signature", f"the program {name}() takes a record", "annotate it with a TraceEvent of yours")
        return Parameters(context, names[0], record)
    if kind.prog_type == "perf_event" and names:
        refuse("bad-signature", f"the program {name}() takes the context and nothing else", "write (ctx: Context)")
    places = _places(program, len(names))
    arguments = []
    for parameter, offset in zip(names, places, strict=True):
        type_ = annotations.get(parameter)
        if not isinstance(type_, type) or not issubclass(type_, Integer):
            hint = f"write {parameter}: u64, or another integer type"
            refuse("bad-signature", f"the argument {parameter} of {name}() has no type of an integer", hint)
        arguments.append((parameter, type_, offset))
    return Parameters(context, arguments=tuple(arguments))


def _places(program: Program, count: int) -> Sequence[int]:
    decorator = program.kind.decorator
    if decorator == "kretprobe":
        places: Sequence[int] = (machine_registers().result,)
    elif decorator == "kprobe":
        places = machine_registers().parameters
    else:
        places = [8 * number for number in range(MOST_ARGUMENTS)]
    if count > len(places):
        refuse("bad-signature", f"the program {program.name}() can see {len(places)} arguments, not {count}")
    return places[:count]


def context_bytes(program: Program, arguments: Sequence[Any]) -> bytes:
    """The context as memory, for executors that run the compiled program."""
    found = parameters_of(program)
    if found.record_type is not None:
        return bytes(arguments[0])
    kind = program.kind
    size = machine_registers().size if kind.prog_type == "kprobe" else 8 * max(1, len(found.arguments))
    data = bytearray(size)
    for (_, _, offset), value in zip(found.arguments, arguments, strict=True):
        data[offset : offset + 8] = (int(value) & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")
    return bytes(data)


def given_values(program: Program, arguments: Sequence[Any], fields: dict[str, int]) -> list[Any]:
    """What the function is called with in plain Python: arguments cut to the width of their types."""
    found = parameters_of(program)
    values: list[Any] = [Context(fields)] if found.context else []
    wanted = 1 if found.record_type is not None else len(found.arguments)
    if len(arguments) != wanted:
        refuse("bad-call", f"{program.name}() takes {wanted} arguments, not {len(arguments)}")
    if found.record_type is not None:
        return [*values, record_of(found.record_type, bytes(arguments[0]))]
    for (_, kind, _), value in zip(found.arguments, arguments, strict=True):
        info = kind.__ebpf_type__
        number = int(value) & (1 << info.bits) - 1
        values.append(kind(number - (1 << info.bits) if info.signed and number >> (info.bits - 1) else number))
    return values
