"""A program prepared for the walk: logical instructions with resolved targets, maps and subprograms, and its structure.

`prepare` runs the stages before the walk in the kernel's order and raises the first violation: subprograms, jumps,
wide loads, reachability. It also marks where states are compared (prune points) and where the path is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from ebpfkit._bits import to_signed
from ebpfkit.abi.licenses import GPL_COMPATIBLE
from ebpfkit.abi.model import Effect, HelperSpec
from ebpfkit.abi.uapi import BPF_F_NO_PREALLOC
from ebpfkit.abi.versions import DEFAULT_KERNEL, has_instruction, is_in_force
from ebpfkit.asm.codec import resolve_labels, slot_starts
from ebpfkit.asm.insn import FuncRef, Instruction, Label, MapRef, MapValueRef
from ebpfkit.asm.isa import OPCODES, Kind, Opcode
from ebpfkit.btf.types import DeclTag, Func, Linkage
from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.verifier.domain.pointer import MapTarget
from ebpfkit.verifier.kernel_functions import KernelFunction, function_of
from ebpfkit.verifier.ksyms import Symbol, find_symbol
from ebpfkit.verifier.rejection import Rejection, Unmodelled
from ebpfkit.verifier.special import check_program_type

if TYPE_CHECKING:
    from ebpfkit.btf.types import Btf

__all__ = [
    "CALLS_BACK",
    "ITERATES",
    "FORCED",
    "JUMP_CLASS",
    "JUMP_POINT",
    "PRUNE_POINT",
    "Code",
    "Subprogram",
    "has_function_types",
    "is_known_byte",
    "prepare",
]

# Bits of `Code.flags`.
PRUNE_POINT, JUMP_POINT, FORCED, JUMP_CLASS, CALLS_BACK, ITERATES = 1, 2, 4, 8, 16, 32

_MAX_SUBPROGRAMS = 256
_MAX_MAPS = 64
_PAGE = 4096
_DEVICE_BOUND = 1 << 6
_HANDLER = "exception_callback:"
_COMPARING = frozenset({"bpf_rbtree_add_impl"})
_ASYNCHRONOUS = frozenset({"bpf_wq_set_callback_impl"})
_JUMPS = (Kind.JUMP, Kind.GOTO, Kind.MAY_GOTO)
_JUMP_CLASS = (*_JUMPS, Kind.CALL, Kind.EXIT, Kind.GOTO_INDIRECT)


@dataclass(slots=True, eq=False)
class Subprogram:
    """A function of the program: logical indices `start` to `end` (exclusive)."""

    number: int
    start: int
    end: int
    name: str = ""
    is_global: bool = False
    type_id: int = 0
    has_tail_call: bool = False
    is_callback: bool = False  # the walk met a call that has it called
    is_async: bool = False  # the walk met a helper that has it called later
    depth: int = 0  # deepest stack access of the walk, in bytes
    callees: list[tuple[int, int]] = field(default_factory=list)  # (call site, subprogram number)


class Code:
    """What the walk needs to know of the program, indexed by logical instruction."""

    def __init__(
        self,
        spec: ProgramSpec,
        helpers: dict[int, HelperSpec],
        kernel_btf: Btf | None = None,
        kernel: str = DEFAULT_KERNEL,
    ) -> None:
        self.spec = spec
        self.kernel = kernel
        self.kernel_btf = kernel_btf  # the types of the kernel that the program is judged for
        insns: Sequence[Instruction] = spec.instructions
        self.insns = resolve_labels(insns) if any(isinstance(insn.ref, Label) for insn in insns) else insns
        self.slots = slot_starts(self.insns)
        self.slot_count = self.slots[-1] + self.insns[-1].slots if self.insns else 0
        self.index_of = {slot: index for index, slot in enumerate(self.slots)}
        self.helpers = helpers
        self.flags = [0] * len(self.insns)
        self.targets: list[int | None] = [None] * len(self.insns)
        self.subprograms: list[Subprogram] = []
        self.subprogram_of: list[Subprogram] = []
        self.handler: Subprogram | None = None  # what a tag of the program names for exceptions
        self.maps: list[MapTarget | None] = [None] * len(self.insns)
        self.arena: MapTarget | None = None
        self.symbols: dict[int, Symbol] = {}  # the kernel's, that wide loads name
        self.live: list[int] = []  # registers live before each instruction, as a bit mask
        self.loops: list[int] = []  # number of the strongly connected component, 0: in none

    def slot_of(self, index: int) -> int:
        return self.slots[index]

    def subprogram_at(self, start: int) -> Subprogram:
        """The subprogram that starts at this logical index."""
        return self.subprogram_of[start]

    def is_tail_call(self, index: int) -> bool:
        helper = self.helper_of(index)
        return helper is not None and Effect.TAIL_CALL in helper.effects

    def kfunc_of(self, index: int) -> KernelFunction | None:
        """The kernel function called here, None for other instructions and unknown functions."""
        insn = self.insns[index]
        return function_of(insn, self.kernel_btf, self.kernel) if insn.op.name == "CALL_KFUNC" else None

    def helper_of(self, index: int) -> HelperSpec | None:
        insn = self.insns[index]
        return self.helpers.get(insn.imm) if insn.op.name == "CALL" else None


def prepare(
    spec: ProgramSpec, helpers: dict[int, HelperSpec], kernel_btf: Btf | None = None, kernel: str = DEFAULT_KERNEL
) -> Code:
    """The program ready to be walked; raises Rejection for a broken structure, Unmodelled for what has no model."""
    code = Code(spec, helpers, kernel_btf, kernel)
    if not code.insns:
        raise Rejection("empty-program", "a program has at least one instruction")
    _find_subprograms(code)
    _check_jumps(code)
    if has_function_types(spec) and len(spec.func_infos) != len(code.subprograms):
        raise Rejection("btf-mismatch", "number of funcs in func_info doesn't match number of subprogs")
    _resolve_wide_loads(code, kernel)
    _check_reachability(code)
    return code


def has_function_types(spec: ProgramSpec) -> bool:
    """Whether the kernel is told the type of every function: without, all are walked in place."""
    return spec.btf is not None and bool(spec.func_infos) and all(info.type_id for info in spec.func_infos)


def _find_subprograms(code: Code) -> None:
    starts = {0}
    names = {info.name: info.slot for info in code.spec.func_infos}
    for index, insn in enumerate(code.insns):
        if insn.op.name == "CALL_KFUNC":
            _check_kernel_function(code, index)
        if insn.op.name not in ("CALL_LOCAL", "LDDW_FUNC"):
            continue
        if isinstance(insn.ref, FuncRef) and insn.ref.name in names:
            slot = names[insn.ref.name]
        else:
            slot = code.slots[index] + to_signed(insn.imm, 32) + 1
        if not 0 <= slot < code.slot_count:
            raise Rejection("invalid-call", "call to invalid destination", index=index)
        target = code.index_of.get(slot)
        if target is None:
            # The function before it would end in the first half of the wide load.
            raise Rejection("fall-through", "last insn is not an exit or jmp", index=index)
        code.targets[index] = target
        starts.add(target)
    if not has_function_types(code.spec):
        for info in code.spec.func_infos:
            if info.slot in code.index_of:
                starts.add(code.index_of[info.slot])
    handler = _find_handler(code)
    if handler is not None:
        starts.add(handler)
    if len(starts) > _MAX_SUBPROGRAMS:
        raise Rejection("too-many-functions", "too many subprograms")
    ordered = sorted(starts)
    infos = {code.index_of.get(info.slot): info for info in code.spec.func_infos}
    typed = has_function_types(code.spec)
    for number, start in enumerate(ordered):
        end = ordered[number + 1] if number + 1 < len(ordered) else len(code.insns)
        found = infos.get(start)
        sub = Subprogram(
            number,
            start,
            end,
            found.name if found is not None else "",
            typed and found is not None and found.is_global and number > 0,
            found.type_id if found is not None else 0,
        )
        code.subprograms.append(sub)
        if start == handler:
            code.handler = sub
            sub.is_callback = sub.is_async = True
        code.subprogram_of.extend([sub] * (end - start))
    for index in range(len(code.insns)):
        target = code.targets[index]
        if target is not None:
            code.subprogram_of[index].callees.append((index, code.subprogram_of[target].number))
        if code.is_tail_call(index):
            code.subprogram_of[index].has_tail_call = True


def _find_handler(code: Code) -> int | None:
    """Where the function begins that a tag of the program names as its handler of exceptions."""
    spec = code.spec
    if not has_function_types(spec):
        return None
    btf = spec.btf
    assert btf is not None
    main = spec.func_infos[0].type_id
    tags = [tag.name for _, tag in btf.iter_kind(DeclTag) if tag.type == main and tag.component < 0]
    names = [tag.removeprefix(_HANDLER) for tag in tags if tag.startswith(_HANDLER)]
    if not names:
        return None

    def refuse(message: str) -> Rejection:
        return Rejection("callback", message)

    if len(names) > 1:
        raise refuse("multiple exception callback tags for main subprog")
    name = names[0]
    number = btf.find_id(name, Func)
    if not number:
        raise refuse(f"exception callback '{name}' could not be found in BTF")
    info = next((info for info in spec.func_infos if info.type_id == number), None)
    func = btf.get(number)
    hidden = info is not None and not info.is_global
    if hidden or not isinstance(func, Func) or func.linkage != Linkage.GLOBAL:
        raise refuse(f"exception callback '{name}' must have global linkage")
    if info is None:
        raise refuse("exception callback type id not found in func_info")
    if not info.slot:
        raise refuse("invalid exception callback insn_off in func_info: 0")
    return code.index_of.get(info.slot)


def _check_kernel_function(code: Code, index: int) -> None:
    """What the kernel asks of every call of one of its functions, whether the walk gets there or not."""
    if code.spec.license not in GPL_COMPATIBLE:
        message = "cannot call kernel function from non-GPL compatible program"
        raise Rejection("missing-licence", message, index=index)
    function = code.kfunc_of(index)
    if function is not None and function.name.startswith("bpf_xdp_metadata_") and not code.spec.flags & _DEVICE_BOUND:
        raise Rejection("kfunc-not-allowed", "metadata kfuncs require device-bound program", index=index)


def _check_jumps(code: Code) -> None:
    for sub in code.subprograms:
        first = code.slots[sub.start]
        behind = code.slots[sub.end] if sub.end < len(code.insns) else code.slot_count
        for index in range(sub.start, sub.end):
            insn = code.insns[index]
            if insn.op.kind in _JUMPS:
                slot = code.slots[index] + insn.off + 1
                if not first <= slot < behind:
                    message = f"jump out of range from insn {code.slots[index]} to {slot}"
                    raise Rejection("jump-out-of-range", message, index=index)
                code.targets[index] = code.index_of.get(slot)
            elif insn.op.kind is Kind.INVALID and insn.imm & 7 in (5, 6):
                _check_undefined_jump(code, index, first, behind)
        last = code.insns[sub.end - 1]
        if last.op.kind not in (Kind.EXIT, Kind.GOTO) and not _is_encoded_exit(last):
            raise Rejection("fall-through", "last insn is not an exit or jmp", index=sub.end - 1)


def _is_encoded_exit(insn: Instruction) -> bool:
    return insn.op.kind is Kind.INVALID and insn.imm & 0xFF in (0x95, 0x05, 0x06)


def _check_undefined_jump(code: Code, index: int, first: int, behind: int) -> None:
    bits = code.insns[index].imm
    if bits & 0xF0 in (0x80, 0x90):
        return
    off = to_signed(bits >> 32, 32) if bits & 0xFF == 0x06 else to_signed(bits >> 16, 16)
    slot = code.slots[index] + off + 1
    if not first <= slot < behind:
        message = f"jump out of range from insn {code.slots[index]} to {slot}"
        raise Rejection("jump-out-of-range", message, index=index)


@cache
def is_known_byte(byte: int, kernel: str) -> bool:
    """Whether the kernel's own table has some instruction with this opcode byte."""
    rows = (op for op in OPCODES.values() if op.code == byte and op.kind is not Kind.INVALID)
    return any(op.in_linux and has_instruction(kernel, op.name, op.since) for op in rows)


def _check_indirect(op: Opcode, kernel: str, index: int) -> None:
    """Jumps and calls through a register: no kernel has the call, older ones have neither."""
    if not is_known_byte(op.code, kernel):
        raise Rejection("unknown-opcode", f"unknown opcode {op.code:02x}", index=index)
    raise Unmodelled("indirect jumps (gotox)", index=index)


def _resolve_wide_loads(code: Code, kernel: str) -> None:
    targets: dict[int, MapTarget] = {}
    maps = list(code.spec.maps.values())
    names = {name: number for number, name in enumerate(code.spec.maps)}
    for index, insn in enumerate(code.insns):
        op = insn.op
        if op.kind is Kind.INVALID:
            byte = insn.imm & 0xFF
            if byte == 0x18:
                wrong = "unrecognized" if insn.imm >> 12 & 0xF > 6 else "invalid"
                raise Rejection("invalid-wide-load", f"{wrong} bpf_ld_imm64 insn", index=index)
            if byte & 7 == 1 and byte & 0xE0 not in (0x60, 0x80):
                raise Rejection("reserved-field", "BPF_LDX uses reserved fields", index=index)
            if not is_known_byte(byte, kernel):
                raise Rejection("unknown-opcode", f"unknown opcode {byte:02x}", index=index)
            continue
        if op.kind in (Kind.LOAD, Kind.LOADSX) and insn.imm:
            raise Rejection("reserved-field", "BPF_LDX uses reserved fields", index=index)
        if op.kind in (Kind.GOTO_INDIRECT, Kind.CALL_INDIRECT):
            _check_indirect(op, kernel, index)
        if op.kind is not Kind.WIDE:
            continue
        if op.operation in ("imm", "func"):
            continue
        if op.operation == "var":
            code.symbols[index] = find_symbol(insn, code.kernel_btf, index)
            continue
        code.maps[index] = _resolve_map(code, index, maps, names, targets)
    if len(targets) > _MAX_MAPS:
        raise Rejection("too-many-maps", "The total number of maps per program has reached the limit of 64")


def _resolve_map(
    code: Code, index: int, maps: list[MapSpec], names: dict[str, int], targets: dict[int, MapTarget]
) -> MapTarget:
    insn = code.insns[index]
    number: int | None
    if isinstance(insn.ref, MapRef | MapValueRef):
        number = names.get(insn.ref.name)
    else:
        if insn.op.operation in ("map_fd", "map_idx") and insn.imm >> 32:
            raise Rejection("invalid-wide-load", "unrecognized bpf_ld_imm64 insn", index=index)
        low = to_signed(insn.imm, 32)
        number = low if 0 <= low < len(maps) else None
    if number is None:
        fd = to_signed(insn.imm, 32)
        raise Rejection("invalid-map", f"fd {fd} is not pointing to valid bpf_map", index=index)
    target = targets.get(number)
    if target is None:
        target = targets[number] = MapTarget(number, maps[number])
        check_map_fits(code, target.spec, index)
        if target.spec.type == "arena":
            if code.arena is not None:
                raise Rejection("arena-access", "Only one arena per program", index=index)
            code.arena = target
    if insn.op.operation in ("map_value", "map_idx_value"):
        spec = target.spec
        offset = insn.ref.offset if isinstance(insn.ref, MapValueRef) else insn.imm >> 32
        if spec.type == "arena" and offset <= spec.max_entries * _PAGE:
            return target
        if spec.type != "array" or spec.max_entries != 1:
            raise Rejection("invalid-wide-load", "direct value access is only for arrays of one entry", index=index)
        if offset >= spec.value_size:
            text = f"direct value offset of {offset} is not allowed"
            raise Rejection("invalid-wide-load", text, index=index)
    return target


def check_map_fits(code: Code, target: MapSpec, index: int) -> None:
    """Whether this program type may use the map at all."""
    spec = code.spec
    if target.type in ("struct_ops", "insn_array"):
        raise Unmodelled(f"maps of type {target.type}", index=index)
    check_program_type(spec, target, code.kernel, code.kernel_btf, index)
    young = target.type in _SLEEPABLE_LATER and not is_in_force("more-sleepable-maps", code.kernel)
    if spec.flags & (1 << 4) and (young or target.type not in _SLEEPABLE_MAPS):
        raise Rejection("invalid-map", "Sleepable programs can only use array, hash, ringbuf and local storage maps")
    if not is_in_force("hashes-allocate-anywhere", code.kernel):
        _check_preallocated(spec, target, index)


def _check_preallocated(spec: ProgramSpec, target: MapSpec, index: int) -> None:
    """Where the program may have interrupted the allocator, or sleeps, elements are there from the beginning."""
    shapes = [target] if target.inner is None else [target, target.inner]
    if not any(shape.type in _HASHES and shape.flags & BPF_F_NO_PREALLOC for shape in shapes):
        return
    if spec.prog_type == "perf_event":
        raise Rejection("invalid-map", "perf_event programs can only use preallocated hash map", index=index)
    if spec.flags & (1 << 4):
        raise Rejection("invalid-map", "Sleepable programs can only use preallocated maps", index=index)


_HASHES = frozenset({"hash", "percpu_hash", "hash_of_maps"})
_SLEEPABLE_LATER = frozenset({"queue", "stack"})
_SLEEPABLE_MAPS = frozenset(
    {
        "hash", "lru_hash", "array", "percpu_hash", "percpu_array", "lru_percpu_hash", "array_of_maps", "hash_of_maps",
        "ringbuf", "user_ringbuf", "inode_storage", "sk_storage", "task_storage", "cgrp_storage", "queue", "stack",
        "arena", "insn_array",
    }
)  # fmt: skip


def successors(code: Code, index: int) -> list[int]:
    """Where control goes after this instruction inside its own function (a call falls through)."""
    insn = code.insns[index]
    kind = insn.op.kind
    if kind is Kind.EXIT:
        return []
    if kind is Kind.INVALID:
        byte = insn.imm & 0xFF
        if byte == 0x95:
            return []
    result = [] if kind is Kind.GOTO else [index + 1]
    target = code.targets[index]
    if target is not None and kind in _JUMPS:
        result.append(target)
    return result


def _call_flags(code: Code, index: int) -> int:
    """Marks of a call that has a function of the program called, or advances an iterator."""
    helper = code.helper_of(index)
    kfunc = code.kfunc_of(index)
    if kfunc is not None:
        if kfunc.is_any("next"):
            return ITERATES | FORCED | PRUNE_POINT
        if kfunc.name in _COMPARING:
            return CALLS_BACK | FORCED | PRUNE_POINT | JUMP_POINT
        return PRUNE_POINT if kfunc.name in _ASYNCHRONOUS else 0
    if helper is None:
        return 0
    if Effect.CALLS_BACK in helper.effects:
        return CALLS_BACK | FORCED | PRUNE_POINT | JUMP_POINT
    return PRUNE_POINT if Effect.CALLS_BACK_LATER in helper.effects else 0


def _check_reachability(code: Code) -> None:
    insns, flags = code.insns, code.flags
    count = len(insns)
    seen = [False] * count
    stack = [0]
    if code.handler is not None:
        stack.insert(0, code.handler.start)
    for index in stack:
        seen[index] = True
    halved: dict[int, int] = {}  # wide loads into which something jumps, and the jump
    while stack:
        index = stack.pop()
        insn = insns[index]
        kind = insn.op.kind
        edges: list[int] = []
        if kind in _JUMP_CLASS:
            flags[index] |= JUMP_CLASS
        if kind in _JUMPS:
            target = code.targets[index]
            if target is None:
                # The kernel follows the second half first, and complains at the end.
                middle = code.slots[index] + insn.off
                halved.setdefault(middle, index)
                target = code.index_of[middle] + 1
                if target >= count:
                    raise Rejection("fall-through", f"fall-through from insn {middle + 1}", index=index)
            flags[target] |= PRUNE_POINT | JUMP_POINT
            edges.append(target)
            if kind is not Kind.GOTO:
                flags[index] |= PRUNE_POINT
                edges.append(index + 1)
            if kind is Kind.MAY_GOTO:
                flags[index] |= FORCED
        elif kind is Kind.CALL:
            if index + 1 < count:
                flags[index + 1] |= PRUNE_POINT | JUMP_POINT
            edges.append(index + 1)
            target = code.targets[index]
            if target is not None:
                flags[index] |= PRUNE_POINT
                flags[target] |= PRUNE_POINT | JUMP_POINT
                edges.append(target)
            flags[index] |= _call_flags(code, index)
        elif kind is Kind.WIDE and code.targets[index] is not None:
            function = code.targets[index]
            assert function is not None
            flags[index] |= PRUNE_POINT
            for edge in (index + 1, function):
                if edge < count:
                    flags[edge] |= PRUNE_POINT | JUMP_POINT
                edges.append(edge)
        elif kind is not Kind.EXIT and not _is_encoded_exit(insn):
            edges.append(index + 1)
        for edge in edges:
            if edge >= count:
                raise Rejection("fall-through", f"fall-through from insn {code.slots[index]}", index=index)
            if not seen[edge]:
                seen[edge] = True
                stack.append(edge)
    for index in range(count):
        if not seen[index]:
            raise Rejection("unreachable-code", f"unreachable insn {code.slots[index]}", index=index)
        if code.slots[index] in halved:
            first = code.slots[index]
            message = f"jump into the middle of ldimm64 insn {first}"
            raise Rejection("jump-out-of-range", message, index=halved[first])
