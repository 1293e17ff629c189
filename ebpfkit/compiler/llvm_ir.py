"""The typed IR as LLVM IR text, for a target.

Belongs here: how each instruction is spelled, and the target's answers (how packet bounds, context fields, maps and
helpers are reached). `BpfTarget` is the kernel's; a native target answers the same questions for user space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.compiler.debuginfo import DebugInfo, quote
from ebpfkit.compiler.ir import Arg, Function, GlobalRef, Imm, Instr, Null, Operand, Temp
from ebpfkit.dsl.typeinfo import ArrayType, StructType, TypeInfo
from ebpfkit.llvm.emit import DATA_LAYOUT, TRIPLE

__all__ = ["BpfTarget", "DataDefinition", "Target", "print_module", "typed"]

PACKET_BOUNDS = {
    name: {
        "packet_data": next(field.offset for field in CONTEXTS[name].fields if field.name == "data"),
        "packet_end": next(field.offset for field in CONTEXTS[name].fields if field.name == "data_end"),
        "packet_meta": next(field.offset for field in CONTEXTS[name].fields if field.name == "data_meta"),
    }
    for name in ("xdp_md", "__sk_buff")
}
"""Where a context keeps the packet's bounds (offsets in bytes of 32-bit fields)."""


class Target(Protocol):
    """What differs between the kernel and user space: how the world outside of the function's values is reached."""

    def header(self) -> list[str]: ...

    def attributes(self) -> str: ...

    def packet_bound(self, result: str, context: str, which: str, debug: str) -> list[str]: ...

    def packet_length(self, result: str, start: str, end: str, debug: str) -> list[str]: ...

    def context_load(self, result: str, offset: int, type: str, align: int, debug: str) -> list[str]: ...

    def helper(self, result: str, type: str, id: int, arguments: str, debug: str) -> list[str]: ...


class BpfTarget:
    """The kernel: context in R1, helpers by number, maps by relocation."""

    def __init__(self, cpu: str) -> None:
        self.cpu = cpu

    def header(self) -> list[str]:
        return [f'target datalayout = "{DATA_LAYOUT}"', f'target triple = "{TRIPLE}"']

    def attributes(self) -> str:
        # no-builtins: LLVM must not turn loops into memset calls that BPF cannot make; no-jump-tables: no tables in
        # .rodata for a switch. Without mustprogress a loop is never assumed to end.
        return f'nounwind "target-cpu"="{self.cpu}" "no-builtins" "no-jump-tables"="true" "frame-pointer"="all"'

    def packet_bound(self, result: str, context: str, which: str, debug: str) -> list[str]:
        offset = PACKET_BOUNDS[context][which]
        return [
            f"{result}.p = getelementptr inbounds nuw i8, ptr %ctx, i64 {offset}{debug}",
            f"{result}.w = load i32, ptr {result}.p, align 4{debug}",
            f"{result}.q = zext i32 {result}.w to i64{debug}",
            f"{result} = inttoptr i64 {result}.q to ptr{debug}",
        ]

    def packet_length(self, result: str, start: str, end: str, debug: str) -> list[str]:
        # The subtraction stays 64 bits wide behind a barrier: the verifier refuses 32-bit arithmetic on pointers.
        return [
            f"{result}.x = ptrtoint ptr {end} to i64{debug}",
            f"{result}.y = ptrtoint ptr {start} to i64{debug}",
            f"{result}.s = sub i64 {result}.x, {result}.y{debug}",
            # Both bounds have 32 bits in the context, so widening the length again costs nothing.
            f'{result}.l = call range(i64 0, 4294967296) i64 asm "", "=r,0"(i64 {result}.s){debug}',
            f"{result} = trunc i64 {result}.l to i32{debug}",
        ]

    def context_load(self, result: str, offset: int, type: str, align: int, debug: str) -> list[str]:
        return [
            f"{result}.p = getelementptr inbounds nuw i8, ptr %ctx, i64 {offset}{debug}",
            f"{result} = load {type}, ptr {result}.p, align {align}{debug}",
        ]

    def helper(self, result: str, type: str, id: int, arguments: str, debug: str) -> list[str]:
        left = f"{result} = " if result else ""
        return [f"{left}call {type} inttoptr (i64 {id} to ptr)({arguments}){debug}"]


_BINARY = {"add", "sub", "mul", "udiv", "urem", "and", "or", "xor", "shl", "lshr", "ashr"}
_COMPARE = {"eq", "ne", "ult", "ule", "ugt", "uge", "slt", "sle", "sgt", "sge"}
_CONVERT = {"zext", "sext", "trunc", "ptrtoint"}


def _plain(operand: Operand) -> str:
    match operand:
        case Temp(id=number):
            return f"%t{number}"
        case Imm(value=value, type="i1"):
            return "true" if value else "false"
        case Imm(value=value, type="ptr"):
            return f"inttoptr (i64 {value} to ptr)"
        case Imm(value=value):
            return str(value)
        case Null():
            return "null"
        case Arg(name="ctx"):
            return "%ctx"
        case Arg(name=name):
            return f'%"p.{quote(name)}"'
        case GlobalRef(name=name):
            return f'@"{quote(name)}"'


def typed(operand: Operand) -> str:
    """A type and a value."""
    return f"{operand.type} {_plain(operand)}"


class FunctionPrinter:
    """One function's text. `locate` gives the debug location number of a place."""

    def __init__(self, target: Target, debug: DebugInfo, likely: Callable[[str], int]) -> None:
        self.target = target
        self.debug = debug
        self.likely = likely
        self.kernel_structs: dict[str, StructType] = {}
        self.own_types: dict[str, StructType] = {}
        self.type_ids = 0
        self.context = ""

    def print(self, function: Function) -> list[str]:
        self.context = function.context
        self.kernel_structs, self.own_types = function.kernel_structs, function.own_types
        out = [self._head(function)]
        for number, block in enumerate(function.blocks):
            out.append(f'"{block.label}":')
            if number == 0:
                out += [f"  {line}" for alloca in function.allocas for line in self.instr(alloca)]
            out += [f"  {line}" for instr in block.instrs for line in self.instr(instr)]
        return [*out, "}", ""]

    def _head(self, function: Function) -> str:
        """The line that begins a function; static ones lie in `.text`, and none but programs have a section."""
        name = quote(function.name)
        if function.linkage == "program":
            node = self.debug.subprogram(function.scope, context=function.context)
            return f'define dso_local i32 @"{name}"(ptr %ctx) #0 section "{quote(function.section)}" !dbg !{node} {{'
        node = self.debug.function(function)
        # Weak: the optimiser must believe nothing of what may be replaced, not even that it ignores an argument.
        linkage = "internal" if function.linkage == "static" else "weak dso_local"
        params = ", ".join(typed(param.arg) for param in function.params)
        section = f' section "{quote(function.section)}"' if function.section else ""
        return f'define {linkage} {function.result} @"{name}"({params}) #1{section} !dbg !{node} {{'

    def location(self, instr: Instr) -> str:
        """What follows an instruction's text: where it comes from."""
        return f", !dbg !{self.debug.location(instr.place)}"

    def instr(self, instr: Instr) -> list[str]:
        debug = self.location(instr)
        result = f"%t{instr.result.id}" if instr.result else ""
        type = instr.result.type if instr.result else ""
        args = instr.args
        op = instr.op
        if op in _BINARY:
            return [f"{result} = {op} {typed(args[0])}, {_plain(args[1])}{debug}"]
        if op in _COMPARE:
            return [f"{result} = icmp {op} {typed(args[0])}, {_plain(args[1])}{debug}"]
        if op in _CONVERT:
            return [f"{result} = {op} {typed(args[0])} to {type}{debug}"]
        handler: Callable[[Instr, str, str, str], list[str]] = getattr(self, f"_{op}")
        return handler(instr, result, type, debug)

    def _alloca(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        if instr.args:
            size = instr.args[0]
            assert isinstance(size, Imm)
            return [f"{result} = alloca [{size.value} x i8], align 8{debug}"]
        return [f"{result} = alloca {instr.note.split()[0]}, align 8{debug}"]

    def _load(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return [f"{result} = load {type}, {typed(instr.args[0])}, align {instr.align}{debug}"]

    def _store(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        how = "store volatile" if instr.note == "volatile" else "store"
        return [f"{how} {typed(instr.args[0])}, {typed(instr.args[1])}, align {instr.align}{debug}"]

    def _gep(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return [f"{result} = getelementptr i8, {typed(instr.args[0])}, {typed(instr.args[1])}{debug}"]

    def _bswap(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return [f"{result} = call {type} @llvm.bswap.{type}({typed(instr.args[0])}){debug}"]

    def _opaque(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return [f'{result} = call {type} asm "", "=r,0"({typed(instr.args[0])}){debug}']

    def _present(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return [f'call void @llvm.assume(i1 true) [ "nonnull"({typed(instr.args[0])}) ]{debug}']

    def _select(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return [f"{result} = select {', '.join(typed(a) for a in instr.args)}{debug}"]

    def _ctx_load(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        offset = instr.args[0]
        assert isinstance(offset, Imm)
        return self.target.context_load(result, offset.value, type, instr.align, debug)

    def _packet_data(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return self.target.packet_bound(result, self.context, instr.op, debug)

    _packet_end = _packet_data
    _packet_meta = _packet_data

    def _packet_length(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        start, end = instr.args
        return self.target.packet_length(result, _plain(start), _plain(end), debug)

    def _helper(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return self.target.helper(result, type or "void", instr.align, ", ".join(typed(a) for a in instr.args), debug)

    def _call(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        arguments = ", ".join(typed(a) for a in instr.args)
        left = f"{result} = " if result else ""
        return [f'{left}call {type or "void"} @"{quote(instr.note)}"({arguments}){debug}']

    def _inttoptr(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return [f"{result} = inttoptr {typed(instr.args[0])} to ptr{debug}"]

    def _type_id(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        self.type_ids += 1
        node = self.debug.type(self.own_types[instr.note])
        call = f"call i64 @llvm.bpf.btf.type.id(i32 {self.type_ids}, i64 0)"
        return [f"{result} = {call}{debug}, !llvm.preserve.access.index !{node}"]

    def _core_field(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        struct = self.kernel_structs[instr.note]
        place = f"ptr elementtype({_struct_name(struct)}) {_plain(instr.args[0])}, i32 {instr.align}, i32 {instr.align}"
        node = self.debug.type(struct)
        call = f"call ptr @llvm.preserve.struct.access.index.p0.p0({place})"
        return [f"{result} = {call}{debug}, !llvm.preserve.access.index !{node}"]

    def _atomic(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        pointer, *values = instr.args
        value = values[0]
        size = int(type[1:]) // 8
        if instr.note == "cmpxchg":
            order = f"{instr.labels[0]} {instr.labels[0]}, align {size}"
            return [
                f"{result}.c = cmpxchg {typed(pointer)}, {typed(value)}, {typed(values[1])} {order}{debug}",
                f"{result} = extractvalue {{ {type}, i1 }} {result}.c, 0{debug}",
            ]
        return [
            (
                f"{result} = atomicrmw {instr.note} {typed(pointer)}, {typed(value)} {instr.labels[0]}, "
                f"align {size}{debug}"
            )
        ]

    def _memcpy(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        target, source, size = instr.args
        return [
            (
                f"call void @llvm.memcpy.p0.p0.i64(ptr align {instr.align} {_plain(target)}, "
                f"ptr align {instr.note} {_plain(source)}, {typed(size)}, i1 false){debug}"
            )
        ]

    def _memset(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        target, size = instr.args
        return [
            (
                f"call void @llvm.memset.p0.i64(ptr align {instr.align} {_plain(target)}, i8 0, {typed(size)}, "
                f"i1 false){debug}"
            )
        ]

    def _br(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return [f'br label %"{instr.labels[0]}"{debug}']

    def _condbr(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        weights = f", !prof !{self.likely(instr.note)}" if instr.note else ""
        yes, no = instr.labels
        return [f'br {typed(instr.args[0])}, label %"{yes}", label %"{no}"{debug}{weights}']

    def _ret(self, instr: Instr, result: str, type: str, debug: str) -> list[str]:
        return [f"ret {typed(instr.args[0])}{debug}"]


def _struct_name(struct: StructType) -> str:
    return f'%"struct.{quote(struct.name)}"'


def _llvm_type(info: TypeInfo) -> str:
    """A type of the kernel's as LLVM lays it out."""
    if isinstance(info, ArrayType):
        return f"[{info.length} x {_llvm_type(info.element)}]"
    if isinstance(info, StructType):
        return _struct_name(info)
    return f"i{info.size * 8}"


def _kernel_structs(functions: list[Function]) -> list[str]:
    """The definitions of the kernel's structures that are read, with those inside of them."""
    found = {one.name: one for function in functions for one in function.kernel_structs.values()}
    todo = list(found.values())
    for struct in todo:
        for field in struct.fields:
            inner = field.type.element if isinstance(field.type, ArrayType) else field.type
            if isinstance(inner, StructType) and inner.name not in found:
                found[inner.name] = inner
                todo.append(inner)
    lines = [f"{_struct_name(s)} = type {{ {', '.join(_llvm_type(f.type) for f in s.fields)} }}" for s in todo]
    if lines:
        lines.append("declare ptr @llvm.preserve.struct.access.index.p0.p0(ptr, i32 immarg, i32 immarg)")
    return lines


@dataclass(frozen=True, slots=True)
class DataDefinition:
    """A global variable of an object: its first bytes, whether programs only read it, its debug node.

    `section` is where it lies when that is not one of the usual three.
    """

    name: str
    initial: bytes
    constant: bool
    debug: int
    section: str = ""

    def print(self) -> str:
        """Its definition. Constants are set before the load, so the optimiser must not believe these bytes."""
        kind = "externally_initialized constant" if self.constant else "global"
        data = f'c"{_bytes(self.initial)}"' if any(self.initial) or self.constant else "zeroinitializer"
        where = f', section "{self.section}"' if self.section else ""
        shape = f"[{len(self.initial)} x i8]"
        return f'@"{quote(self.name)}" = dso_local {kind} {shape} {data}{where}, align 8, !dbg !{self.debug}'


def _bytes(data: bytes) -> str:
    return "".join(f"\\{byte:02X}" for byte in data)


def print_module(
    functions: list[Function],
    target: Target,
    debug: DebugInfo,
    maps: list[tuple[str, int, int, tuple[str | None, ...]]],
    license: str,
    data: Sequence[DataDefinition] = (),
) -> str:
    """A whole module: `maps` are (name, bytes of the definition variable, debug node, what the slots hold at first)."""

    def likely(note: str) -> int:
        return debug.node(
            '!{!"branch_weights", i32 2000, i32 1}' if note == "likely" else '!{!"branch_weights", i32 1, i32 2000}'
        )

    out = [*target.header(), "", *_kernel_structs(functions)]
    used = []
    for name, size, node, slots in maps:
        symbol = f'@"{quote(name)}"'
        definition = f"[{size} x i8] zeroinitializer"
        if slots:
            held = ", ".join("ptr null" if slot is None else f'ptr @"{quote(slot)}"' for slot in slots)
            kind = f"[{len(slots)} x ptr]"
            definition = f"{{ [{size} x i8], {kind} }} {{ {definition}, {kind} [{held}] }}"
        out.append(f'{symbol} = dso_local global {definition}, section ".maps", align 8, !dbg !{node}')
        used.append(f"ptr {symbol}")
    if license:
        text = quote(license + "\0")
        out.append(
            f'@_license = dso_local global [{len(license.encode()) + 1} x i8] c"{text}", section "license", align 1'
        )
        used.append("ptr @_license")
    if used:
        out.append(
            f'@llvm.compiler.used = appending global [{len(used)} x ptr] [{", ".join(used)}], section "llvm.metadata"'
        )
    out += [definition.print() for definition in data]
    out.append("")
    printer = FunctionPrinter(target, debug, likely)
    for function in functions:
        out += printer.print(function)
    externs = {one.name: (one, function.context) for function in functions for one in function.externs.values()}
    for one, context in externs.values():
        result = "void" if one.result is None else one.result.arg.type
        params = ", ".join(param.arg.type for param in one.params)
        node = debug.extern(one, context)
        out.append(f'declare !dbg !{node} {result} @"{quote(one.name)}"({params}) section ".ksyms"')
    for bits in (16, 32, 64):
        out.append(f"declare i{bits} @llvm.bswap.i{bits}(i{bits})")
    out.append("declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)")
    out.append("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
    out.append("declare void @llvm.assume(i1)")
    if any(function.own_types for function in functions):
        out.append("declare i64 @llvm.bpf.btf.type.id(i32 immarg, i64 immarg)")
    out.append(f"attributes #0 = {{ {target.attributes()} }}")
    if any(function.linkage != "program" for function in functions):
        out.append(f"attributes #1 = {{ noinline {target.attributes()} }}")
    return "\n".join(out) + "\n" + debug.finish()
