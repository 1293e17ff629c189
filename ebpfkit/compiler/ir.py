"""The typed IR between the syntax tree and LLVM: basic blocks of flat instructions over integers and pointers.

Belongs here: the data, the builder that appends to it, and its printer. Every instruction carries its author's place
and its inlining chain. It knows maps, helpers and the context by name, not how a target reaches them: see `llvm_ir`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ebpfkit.dsl.typeinfo import StructType, TypeInfo
from ebpfkit.span import Span

__all__ = [
    "Arg",
    "Block",
    "Builder",
    "Extern",
    "Function",
    "GlobalRef",
    "Imm",
    "Instr",
    "Module",
    "Null",
    "Operand",
    "Param",
    "Place",
    "Scope",
    "Temp",
    "print_function",
]


@dataclass(frozen=True, slots=True)
class Temp:
    """The result of an instruction. `type` is "i1", "i8", "i16", "i32", "i64" or "ptr"."""

    id: int
    type: str


@dataclass(frozen=True, slots=True)
class Imm:
    """A constant; `value` as an unsigned or signed number of `type`."""

    value: int
    type: str


@dataclass(frozen=True, slots=True)
class Null:
    """The null pointer."""

    type: str = "ptr"


@dataclass(frozen=True, slots=True)
class Arg:
    """An argument of the function; "ctx" is the program's context."""

    name: str = "ctx"
    type: str = "ptr"


@dataclass(frozen=True, slots=True)
class GlobalRef:
    """The address of a map, of a global variable or of a function."""

    name: str
    type: str = "ptr"


Operand = Temp | Imm | Null | Arg | GlobalRef


@dataclass(frozen=True, slots=True)
class Scope:
    """A function whose code this is: the program itself, or one inlined at `call` inside `parent`."""

    name: str
    file: str
    line: int
    parent: Scope | None = None
    call: Span | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instruction comes from."""

    span: Span
    scope: Scope


@dataclass(slots=True)
class Instr:
    """One instruction. `op` decides the meaning of `args`, `labels`, `align` and `note`:

    alloca (args: bytes, note: a name) or, without args, a slot (note: type and name); load, store (align); gep (base,
    offset); add sub mul udiv urem and or xor shl lshr ashr; eq ne ult ule ugt uge slt sle sgt sge; zext sext trunc
    ptrtoint bswap opaque; select; ctx_load (offset; align: bytes); packet_data, packet_end, packet_meta, packet_length;
    helper (align: id, note: name); inttoptr; core_field (base; note: a structure of the kernel's, align: the field's
    number); type_id (note: a structure); call (note: the name of a subprogram or kernel function); atomic (note:
    operation, labels: ordering); memcpy (to, from, bytes), memset (to, bytes); br, condbr (labels), ret.
    """

    op: str
    result: Temp | None
    args: tuple[Operand, ...]
    place: Place
    labels: tuple[str, ...] = ()
    align: int = 0
    note: str = ""


@dataclass(slots=True)
class Block:
    """A label and its instructions; the last one is the terminator."""

    label: str
    instrs: list[Instr] = field(default_factory=list)

    @property
    def closed(self) -> bool:
        return bool(self.instrs) and self.instrs[-1].op in {"br", "condbr", "ret"}


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a function: the argument, and its type in BTF (`pointee`: what the pointer points to).

    Without a type it is the context, or (`void`) a pointer to anything.
    """

    arg: Arg
    info: TypeInfo | None = None
    pointee: bool = False
    void: bool = False


@dataclass(frozen=True, slots=True)
class Extern:
    """A function of the kernel that is called: its parameters and its result, where it has one."""

    name: str
    params: tuple[Param, ...]
    result: Param | None = None


@dataclass(slots=True)
class Function:
    """A program or subprogram: its allocas, then its blocks, the entry first.

    `context` is the structure that a program's argument points to. A subprogram has `params`, its `result` is "i32" or
    "i64" (`result_info`: its type in BTF) and its `linkage` "static" or "global"; a program's is "program".
    """

    name: str
    section: str
    scope: Scope
    context: str
    allocas: list[Instr] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    context_name: str = "ctx"
    linkage: str = "program"
    params: tuple[Param, ...] = ()
    result: str = "i32"
    result_info: TypeInfo | None = None
    externs: dict[str, Extern] = field(default_factory=dict)
    kernel_structs: dict[str, StructType] = field(default_factory=dict)
    own_types: dict[str, StructType] = field(default_factory=dict)


@dataclass(slots=True)
class Module:
    """What one object is made from: functions, and the maps that they mention, by name, in order of first mention."""

    functions: list[Function]
    maps: list[str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a builder had come, to go back there when a loop is lowered again with more known about its head."""

    blocks: int
    current: Block
    current_length: int


class Builder:
    """Appends instructions to a function's blocks. `place` is the place given to whatever is emitted next."""

    def __init__(self, function: Function, place: Place) -> None:
        self.function = function
        self.place = place
        self._temps = 0
        self._labels = 0
        self._slots: set[int] = set()
        self.places: dict[object, Operand] = {}
        """Elements whose address is known here, for whoever asks for them again."""
        self._held: dict[int, Operand] = {}
        """What each slot is known to hold here: what was stored, so that reading it again costs no instruction."""
        self.current = Block("entry")
        function.blocks.append(self.current)

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(len(self.function.blocks), self.current, len(self.current.instrs))

    def rollback(self, to: Checkpoint) -> None:
        del self.function.blocks[to.blocks :]
        self.current = to.current
        del self.current.instrs[to.current_length :]
        self._forget()

    def _forget(self) -> None:
        """What was known in the last block does not hold in the next."""
        self._held.clear()
        self.places.clear()

    def drop_unused_slots(self) -> None:
        """Forget allocas that nothing mentions any more."""
        used = {a.id for b in self.function.blocks for i in b.instrs for a in i.args if isinstance(a, Temp)}
        self.function.allocas = [a for a in self.function.allocas if a.result is not None and a.result.id in used]

    def label(self, hint: str) -> str:
        self._labels += 1
        return f"{hint}.{self._labels}"

    def start(self, label: str, *, only_from_here: bool = False) -> None:
        """Begin a block; what came before must have ended in a terminator.

        `only_from_here`: nothing else branches to it, so what slots hold is still known.
        """
        if not only_from_here:
            self._forget()
        self.current = Block(label)
        self.function.blocks.append(self.current)

    def _emit(
        self,
        op: str,
        type: str | None,
        args: tuple[Operand, ...],
        labels: tuple[str, ...] = (),
        align: int = 0,
        note: str = "",
    ) -> Temp | None:
        result = None
        if type is not None:
            self._temps += 1
            result = Temp(self._temps, type)
        if self._slots and op not in ("load", "store"):
            self._slots.difference_update([a.id for a in args if isinstance(a, Temp) and a.id in self._slots])
        instr = Instr(op, result, args, self.place, labels, align, note)
        if op == "alloca":
            self.function.allocas.append(instr)
        else:
            self.current.instrs.append(instr)
        return result

    def _value(
        self, op: str, type: str, args: tuple[Operand, ...], *, align: int = 0, note: str = "", order: str = ""
    ) -> Temp:
        result = self._emit(op, type, args, (order,) if order else (), align, note)
        assert result is not None
        return result

    def alloca(self, size: int, name: str) -> Temp:
        """Stack memory of `size` bytes, 8-byte aligned so that the verifier tracks what is spilled there."""
        return self._value("alloca", "ptr", (Imm(size, "i64"),), align=8, note=name)

    def slot(self, type: str, name: str) -> Temp:
        """A stack slot for one scalar or pointer; LLVM turns it into a register."""
        made = self._value("alloca", "ptr", (), align=8, note=f"{type} {name}")
        self._slots.add(made.id)
        return made

    def load(self, type: str, pointer: Operand, align: int) -> Operand:
        if isinstance(pointer, Temp) and pointer.id in self._slots:
            held = self._held.get(pointer.id)
            if held is not None and held.type == type:
                return held
            loaded = self._value("load", type, (pointer,), align=align)
            self._held[pointer.id] = loaded
            return loaded
        return self._value("load", type, (pointer,), align=align)

    def store(self, value: Operand, pointer: Operand, align: int) -> None:
        if isinstance(pointer, Temp) and pointer.id in self._slots:
            self._held[pointer.id] = value
        self._emit("store", None, (value, pointer), align=align, note="volatile" if self.volatile else "")

    volatile: bool = False
    """Whether the stores emitted now stay as they are: the kernel wants one for each member of an object."""

    def gep(self, base: Operand, offset: int | Operand) -> Operand:
        if offset == 0:
            return base
        step = Imm(offset, "i64") if isinstance(offset, int) else offset
        return self._value("gep", "ptr", (base, step))

    def binary(self, op: str, left: Operand, right: Operand) -> Temp:
        return self._value(op, left.type, (left, right))

    def compare(self, op: str, left: Operand, right: Operand) -> Temp:
        return self._value(op, "i1", (left, right))

    def convert(self, op: str, value: Operand, type: str) -> Operand:
        return value if value.type == type else self._value(op, type, (value,))

    def bswap(self, value: Operand) -> Operand:
        return value if value.type == "i8" else self._value("bswap", value.type, (value,))

    def select(self, condition: Operand, yes: Operand, no: Operand) -> Temp:
        return self._value("select", yes.type, (condition, yes, no))

    def ctx_load(self, offset: int, size: int, name: str) -> Temp:
        return self._value("ctx_load", f"i{size * 8}", (Imm(offset, "i64"),), align=size, note=name)

    def packet_bound(self, which: str) -> Temp:
        """The packet's first byte ("packet_data"), the one behind its last ("packet_end"), or the first of what is in
        front of it ("packet_meta"), freshly read."""
        return self._value(which, "ptr", ())

    def packet_length(self, start: Operand, end: Operand) -> Temp:
        """The packet's length in bytes, 32 bits."""
        return self._value("packet_length", "i32", (start, end))

    def opaque(self, value: Operand) -> Temp:
        """The same value, of which the optimiser no longer knows anything."""
        return self._value("opaque", value.type, (value,))

    def present(self, pointer: Operand) -> None:
        """Tell the optimiser that a pointer into the packet is never null."""
        self._emit("present", None, (pointer,))

    def helper(self, id: int, name: str, type: str, args: tuple[Operand, ...]) -> Temp:
        """A helper call; of one without a result ("void") nothing may use what this returns."""
        if type == "void":
            self._emit("helper", None, args, align=id, note=name)
            return Temp(0, "void")
        return self._value("helper", type, args, align=id, note=name)

    def pointer(self, address: Operand) -> Operand:
        """A number as an address."""
        return self._value("inttoptr", "ptr", (address,))

    def type_id(self, struct: StructType) -> Operand:
        """The number of a structure among the program's own types."""
        self.function.own_types[struct.name] = struct
        return self._value("type_id", "i64", (), note=struct.name)

    def core_field(self, base: Operand, struct: StructType, index: int) -> Operand:
        """Where a field of a structure of the kernel's is: by its name, which the loader looks up."""
        self.function.kernel_structs[struct.name] = struct
        return self._value("core_field", "ptr", (base,), align=index, note=struct.name)

    def call(self, name: str, type: str, args: tuple[Operand, ...]) -> Temp:
        """A call of a subprogram or kernel function; what one without a result ("void") gives is of no use."""
        if type == "void":
            self._emit("call", None, args, note=name)
            return Temp(0, "void")
        return self._value("call", type, args, note=name)

    def atomic(self, operation: str, pointer: Operand, *values: Operand, used: bool) -> Temp:
        """An atomic read-modify-write; the values of "cmpxchg" are the expected and the new one.

        A used result needs seq_cst: with monotonic the back end drops the fetch.
        """
        order = "seq_cst" if used else "monotonic"
        return self._value("atomic", values[0].type, (pointer, *values), note=operation, order=order)

    def memcpy(self, target: Operand, source: Operand, size: int, target_align: int, source_align: int) -> None:
        self._emit("memcpy", None, (target, source, Imm(size, "i64")), align=target_align, note=str(source_align))

    def memset(self, target: Operand, size: int, align: int) -> None:
        self._emit("memset", None, (target, Imm(size, "i64")), align=align)

    def br(self, label: str) -> None:
        self._emit("br", None, (), (label,))

    def condbr(self, condition: Operand, yes: str, no: str, *, likely: bool | None = None) -> None:
        note = "" if likely is None else "likely" if likely else "unlikely"
        self._emit("condbr", None, (condition,), (yes, no), note=note)

    def ret(self, value: Operand) -> None:
        self._emit("ret", None, (value,))


def _operand(operand: Operand) -> str:
    match operand:
        case Temp(id=number):
            return f"%{number}"
        case Imm(value=value, type=type):
            return f"{value}:{type}"
        case Null():
            return "null"
        case Arg(name=name):
            return f"%{name}"
        case GlobalRef(name=name):
            return f"@{name}"


def _print_instr(instr: Instr) -> str:
    parts = [instr.op]
    if instr.note:
        parts.append(f"<{instr.note}>")
    parts.append(", ".join(_operand(a) for a in instr.args))
    if instr.labels:
        parts.append("-> " + ", ".join(instr.labels) if instr.op in {"br", "condbr"} else instr.labels[0])
    if instr.op in {"load", "store"}:
        parts.append(f"align {instr.align}")
    left = f"%{instr.result.id}: {instr.result.type} = " if instr.result else ""
    span = instr.place.span
    return f"  {left}{' '.join(p for p in parts if p)}".ljust(72) + f" ; {span.line}:{span.column}"


def print_function(function: Function) -> str:
    """The IR as text, each line with its source line and column: `--emit ir` and the golden files."""
    params = ", ".join(f"{p.arg.name}: {p.arg.type}" for p in function.params)
    if function.linkage == "program":
        out = [f'func {function.name}({function.context_name}: {function.context}) section "{function.section}"']
    else:
        out = [f"{function.linkage} func {function.name}({params}) -> {function.result}"]
    out += [_print_instr(i) for i in function.allocas]
    for block in function.blocks:
        out.append(f"{block.label}:")
        out += [_print_instr(i) for i in block.instrs]
    return "\n".join(line.rstrip() for line in out) + "\n"
