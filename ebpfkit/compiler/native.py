"""A program's IR as a native function for user space: the same lowering, other answers about the world.

Belongs here: the printer that spells the IR for this machine, what the native target does not have (a located error
with the way out), and running one packet. How helpers and maps are reached is `native_helpers`; the ring loop around a
handler is the AF_XDP room's. Packets are bounded by pointers as in the kernel, so what the verifier accepts is safe
here too.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ebpfkit.abi.limits import PAGE_SIZE, XDP_FRAME_BYTES, XDP_TAILROOM
from ebpfkit.abi.uapi import XDP_PACKET_HEADROOM
from ebpfkit.compiler.debuginfo import DebugInfo, quote
from ebpfkit.compiler.ir import Arg, Function, GlobalRef, Imm, Instr, Operand
from ebpfkit.compiler.llvm_ir import BpfTarget, FunctionPrinter, typed
from ebpfkit.compiler.lower import lower_program
from ebpfkit.compiler.native_helpers import CONTEXT, PREAMBLE, map_functions, supports
from ebpfkit.compiler.subprograms import CompiledFunction
from ebpfkit.dsl.variables import Config
from ebpfkit.errors import CompileError, NotSupported, UsageError

if TYPE_CHECKING:
    from ebpfkit.dsl.maps import MapFacade
    from ebpfkit.dsl.program import Program
    from ebpfkit.dsl.variables import Var
    from ebpfkit.llvm.native import NativeModule

__all__ = ["Handler", "NativeRun", "lower_handler"]

HANDLER: Final = "handler"
"""The name of the function: (ptr to the words of `CONTEXT`) to the verdict."""
WAY_OUT: Final = "attach it as an XDP program, or hand the packet up with XDP_PASS and do this part in Python"

_CLOSE: Final = "close the load first, or give the handler one of its own"

_OPERATIONS = frozenset(
    (
        "alloca", "load", "store", "gep", "add", "sub", "mul", "udiv", "urem", "and", "or", "xor", "shl", "lshr",
        "ashr", "eq", "ne", "ult", "ule", "ugt", "uge", "slt", "sle", "sgt", "sge", "zext", "sext", "trunc", "bswap",
        "opaque", "present", "select", "ctx_load", "packet_data", "packet_end", "packet_meta", "packet_length",
        "helper", "atomic", "memcpy", "memset", "br", "condbr", "ret",
    )
)  # fmt: skip
_FIELDS = {12: "ifindex", 16: "queue"}  # of struct xdp_md
_BOUNDS = {"packet_data": "data", "packet_end": "end", "packet_meta": "meta"}


@dataclass
class Handler:
    """A program made ready for native code: its text, and what the text holds by address.

    `targets`: the table of each socket map, an i64 for each index (0: nothing there), which who runs the handler fills.
    `verdicts`: all that it returns, None where that is not known.
    """

    program: Program
    text: str
    maps: Mapping[str, MapFacade]
    targets: Mapping[str, Any]
    verdicts: frozenset[int] | None
    held: tuple[Any, ...] = field(repr=False, default=())


class NativePrinter(FunctionPrinter):
    """The IR for this machine. Values that only the verifier needs hidden stay in sight of the optimiser."""

    def __init__(self) -> None:
        super().__init__(BpfTarget("v3"), DebugInfo("", {}), lambda note: 0 if note == "likely" else 1)

    def location(self, instr: Instr) -> str:
        return ""

    def function(self, function: Function) -> list[str]:
        out = [f"define internal i32 @{HANDLER}(ptr %ctx) alwaysinline nounwind {{"]
        for number, block in enumerate(function.blocks):
            out.append(f'"{block.label}":')
            allocas = function.allocas if number == 0 else []
            out += [f"  {line}" for instr in (*allocas, *block.instrs) for line in self.instr(instr)]
        return [*out, "}", ""]

    def _opaque(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        value = typed(instr.args[0])
        return [f"{result} = select i1 true, {value}, {value}"]

    def _ctx_load(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        offset = instr.args[0]
        assert isinstance(offset, Imm)
        return [
            f"{result}.p = getelementptr i64, ptr %ctx, i64 {CONTEXT[_FIELDS[offset.value]]}",
            f"{result} = load {type}, ptr {result}.p, align 8",
        ]

    def _gep(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        base, offset = instr.args
        if isinstance(base, Arg):
            assert isinstance(offset, Imm)
            return [f"{result} = getelementptr i64, ptr %ctx, i64 {CONTEXT[_FIELDS[offset.value]]}"]
        return super()._gep(instr, result, type, debug)

    def _packet_data(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return [
            f"{result}.p = getelementptr i64, ptr %ctx, i64 {CONTEXT[_BOUNDS[instr.op]]}",
            f"{result} = load ptr, ptr {result}.p, align 8",
        ]

    _packet_end = _packet_data
    _packet_meta = _packet_data

    def _packet_length(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        start, end = (typed(argument) for argument in instr.args)
        return [
            f"{result}.x = ptrtoint {end} to i64",
            f"{result}.y = ptrtoint {start} to i64",
            f"{result}.s = sub i64 {result}.x, {result}.y",
            f"{result} = trunc i64 {result}.s to i32",
        ]

    def _helper(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        left = f"{result} = " if result else ""
        arguments = list(instr.args)
        name = f"helper_{instr.note}"
        if arguments and isinstance(arguments[0], GlobalRef):
            name = f'"{quote(arguments.pop(0).name)}.{instr.note}"'  # type: ignore[union-attr]
        given = ", ".join(["ptr %ctx", *(typed(a) for a in arguments if typed(a) != "ptr %ctx")])
        return [f"{left}call {type or 'void'} @{name}({given})"]


def lower_handler(program: Program, *, cpus: int = 1) -> Handler:
    """Lower a program for native code, on the stores in memory of its maps, with room for `cpus` workers.

    The maps become native stores and stay so. Raises CompileError for what the language or the native target refuses,
    UsageError for maps that are bound to the kernel.
    """
    if program.prog_type != "xdp":
        raise NotSupported(f"'{program.name}' in native code", why="packets in user space are for XDP programs")
    maps: dict[str, MapFacade] = {}
    variables: dict[str, Config | Var[Any]] = {}
    subprograms: dict[object, CompiledFunction] = {}
    function = lower_program(program, cpu="v3", maps=maps, variables=variables, subprograms=subprograms)
    for one in subprograms.values():
        raise CompileError(
            f"{one.function.name}() is a function of its own, which native code in user space has not",
            span=one.function.blocks[0].instrs[0].place.span,
            code="not-native",
            hint="remove the decorator for this use: it is inlined then",
        )
    _check(function, maps)
    lines: list[str] = []
    held: list[Any] = []
    targets: dict[str, Any] = {}
    for name, facade in maps.items():
        if facade.map_type == "xskmap":
            targets[name] = (ctypes.c_uint64 * facade.max_entries)()
            held.append(targets[name])
        else:
            held.append(_make_native(facade, cpus))
        lines += map_functions(quote(name), len(held) - 1, facade, targets.get(name))
    places: dict[str, Operand] = {}
    for name, variable in variables.items():
        if isinstance(variable, Config):
            data = "".join(f"\\{byte:02X}" for byte in variable.initial)
            lines.append(
                f'@"config.{quote(name)}" = internal constant [{len(variable.initial)} x i8] c"{data}", align 8'
            )
            places[name] = GlobalRef(f"config.{name}")
        elif variable.is_bound:
            raise UsageError(f"'{name}' is bound to a variable in the kernel, out of native code's reach: {_CLOSE}")
        else:
            memory = (ctypes.c_char * len(variable.memory)).from_buffer(variable.memory)
            held.append(memory)
            places[name] = Imm(ctypes.addressof(memory), "ptr")
    _place(function, places)
    lines += NativePrinter().function(function)
    text = "\n".join([*PREAMBLE, *lines]) + "\n"
    return Handler(program, text, maps, targets, _verdicts(function), tuple(held))


def _make_native(facade: MapFacade, cpus: int) -> Any:
    """The facade's store in memory, as native code works on it."""
    if not hasattr(facade.store, "lookup"):
        raise UsageError(f"'{facade.name}' is bound to a map in the kernel, out of native code's reach: {_CLOSE}")
    if facade.store is facade.memory_store:
        facade.make_native(cpus)
    return facade.store


def _place(function: Function, places: Mapping[str, Operand]) -> None:
    """Put the addresses of variables where their names are."""
    for block in function.blocks:
        for instr in block.instrs:
            instr.args = tuple(
                places.get(operand.name, operand) if isinstance(operand, GlobalRef) else operand
                for operand in instr.args
            )


def _verdicts(function: Function) -> frozenset[int] | None:
    """The verdicts that the program returns; None where one is not known before it runs."""
    returned = [instr.args[0] for block in function.blocks for instr in block.instrs if instr.op == "ret"]
    constant = [value.value for value in returned if isinstance(value, Imm)]
    return frozenset(constant) if len(constant) == len(returned) else None


def _check(function: Function, maps: Mapping[str, MapFacade]) -> None:
    """Refuse, at its place, what the native target does not have."""
    for instr in (*function.allocas, *(instr for block in function.blocks for instr in block.instrs)):
        what = ""
        if instr.op == "helper":
            facade = maps.get(instr.args[0].name) if instr.args and isinstance(instr.args[0], GlobalRef) else None
            what = supports(instr.note, facade)
        elif instr.op == "ctx_load" or any(isinstance(operand, Arg) for operand in instr.args):
            offset = instr.args[-1]
            known = isinstance(offset, Imm) and offset.value in _FIELDS
            if instr.op not in ("ctx_load", "gep") or not known:
                what = f"{instr.note or 'this part'} of the packet's context is not known in user space"
        elif instr.op not in _OPERATIONS:
            what = f"{instr.op} {instr.note}".strip() + " cannot run in native code"
        if what:
            raise CompileError(what, span=instr.place.span, code="not-native", hint=WAY_OUT)


class NativeRun:
    """A program compiled for one packet at a time: what the ring loop does to each, without rings."""

    def __init__(self, program: Program, *, cpus: int = 1) -> None:
        from ebpfkit.llvm.native import compile_native

        self.handler = lower_handler(program, cpus=cpus)
        text = self.handler.text + _ONE_PACKET
        self.module: NativeModule = compile_native(text)
        self._run = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)(self.module.address("one_packet"))
        self._seed = ctypes.c_uint64(int.from_bytes(os.urandom(8), "little") | 1)

    def run(self, frame: bytes, *, ifindex: int = 1, queue: int = 0, cpu: int = 0) -> tuple[int, bytes]:
        """One packet: the verdict, and the packet afterwards.

        Room before and behind the packet is that of the kernel's buffers. Raises UsageError for a frame too large.
        """
        room = PAGE_SIZE - XDP_PACKET_HEADROOM - XDP_TAILROOM
        if len(frame) > room:
            raise UsageError(f"a packet of {len(frame)} bytes; native code takes up to {room}")
        buffer = ctypes.create_string_buffer(PAGE_SIZE)
        base = ctypes.addressof(buffer)
        data = base + XDP_PACKET_HEADROOM
        ctypes.memmove(data, frame, len(frame))
        words: Any = (ctypes.c_uint64 * len(CONTEXT))()
        for name, value in {
            "data": data, "end": data + len(frame), "meta": data, "low": base + XDP_FRAME_BYTES,
            "high": base + PAGE_SIZE - XDP_TAILROOM, "ifindex": ifindex, "queue": queue, "cpu": cpu,
            "seed": ctypes.addressof(self._seed),
        }.items():  # fmt: skip
            words[CONTEXT[name]] = value
        verdict = int(self._run(ctypes.addressof(words)))
        start, end = words[CONTEXT["data"]] - base, words[CONTEXT["end"]] - base
        return verdict, buffer.raw[start:end]

    def fill_targets(self) -> None:
        """Let redirects find what the socket maps hold now."""
        for name, table in self.handler.targets.items():
            store = self.handler.maps[name].memory_store
            for index in range(len(table)):
                table[index] = store.target(index) is not None


_ONE_PACKET: Final = f"""
define i32 @one_packet(ptr %words) nounwind {{
  %verdict = call i32 @{HANDLER}(ptr %words)
  ret i32 %verdict
}}
"""
