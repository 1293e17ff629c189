"""Random programs from a seeded generator, and what can be told about a run of one, for comparisons between executors.

Three kinds: computations that end and leave a digest of everything, instructions that decode but mean anything, and
bytes. The tests run a few of each; `tools/jit_campaign.py` runs many.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any, Literal

from ebpfkit.abi.helpers import HELPERS_BY_NAME
from ebpfkit.asm.codec import decode, encode
from ebpfkit.asm.insn import R10, Instruction, KfuncRef, Register
from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import AsmError, EbpfError, MachineFault
from ebpfkit.vm.helpers import IMPLEMENTED
from ebpfkit.vm.kfuncs import KFUNCS
from ebpfkit.vm.machine import Machine

from .cases import all_cases

MEMORY = bytes(range(32))
MAPS = [
    MapSpec("hash", "hash", 4, 8, 4),
    MapSpec("array", "array", 4, 8, 4),
    MapSpec("lru", "lru_hash", 4, 8, 3),
    MapSpec("ring", "ringbuf", 0, 0, 4096),
    MapSpec("progs", "prog_array", 4, 4, 4),
    MapSpec("lpm", "lpm_trie", 8, 8, 4, flags=1),
    MapSpec("percpu", "percpu_array", 4, 8, 4),
]
_SLOTS = [-8 * i for i in range(1, 9)]
_NUMBERS = [0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 0xFF, 0x8000]
_COMPUTING = [op for op in OPCODES.values() if op.kind in (Kind.ALU, Kind.MOV, Kind.MOVSX, Kind.SWAP)]
_JUMPING = [op for op in OPCODES.values() if op.kind is Kind.JUMP]
_STORING = [op for op in OPCODES.values() if op.kind in (Kind.STORE, Kind.STORE_RELEASE)]
_LOADING = [op for op in OPCODES.values() if op.kind in (Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE)]
_ATOMIC = [op for op in OPCODES.values() if op.kind is Kind.ATOMIC]
_ANY = [op for op in OPCODES.values() if op.kind is not Kind.INVALID]
_DIGEST = parse(
    "".join(f"r0 *= 31\nr0 += r{i}\n" for i in range(1, 10))
    + "".join(f"r1 = *(u64 *)(r10 {off})\nr0 *= 31\nr0 += r1\n" for off in _SLOTS)
    + "exit"
)
_ENCODED_CASES = [encode(parse(case.asm)) for case in all_cases()]
_HELPERS = sorted(IMPLEMENTED)
_KFUNCS = sorted(KFUNCS)


def more_maps(order: Literal["little", "big"]) -> list[MapSpec]:
    """With those that `newer` programs use."""
    places = [(i.to_bytes(4, order), (3 + i).to_bytes(4, order) + bytes(12)) for i in range(4)]
    return [
        *MAPS,
        MapSpec("arena", "arena", 0, 0, 4, flags=1024, map_extra=0x1000_0000_8000),
        MapSpec("table", "insn_array", 4, 16, 4, contents=tuple(places)),
    ]


def _number(dice: random.Random) -> int:
    return dice.choice(_NUMBERS) if dice.random() < 0.5 else dice.getrandbits(64)


def _immediate(dice: random.Random) -> int:
    return (
        dice.choice([0, 1, -1, 2**31 - 1, -(2**31), 7, 32, 63])
        if dice.random() < 0.5
        else dice.randint(-(2**31), 2**31 - 1)
    )


def _register(dice: random.Random) -> Register:
    return Register(dice.randrange(10))


def _computation(dice: random.Random) -> Instruction:
    op = dice.choice(_COMPUTING)
    if op.source == "imm":
        imm = _immediate(dice)
        if dice.random() < 0.95:  # what the verifier wants
            if op.operation in ("lsh", "rsh", "arsh"):
                imm %= op.width
            elif op.operation in ("div", "mod", "sdiv", "smod"):
                imm = imm or 3
        return Instruction(op, _register(dice), imm=imm)
    src = _register(dice) if "src" in op.operands else Register(0)
    return Instruction(op, _register(dice), src)


def _access(dice: random.Random) -> Instruction:
    op = dice.choice(_STORING + _LOADING + _ATOMIC)
    off = dice.choice(_SLOTS) + op.size * dice.randrange(8 // op.size)
    if op in _LOADING:
        return Instruction(op, _register(dice), R10, off)
    if op.source == "imm":
        return Instruction(op, R10, off=off, imm=_immediate(dice))
    return Instruction(op, R10, _register(dice), off)


def computation(dice: random.Random) -> list[Instruction]:
    """Ten registers and eight stack slots with numbers, a body with jumps both ways, perhaps a function, a digest."""
    wide = OPCODES["LDDW"]
    start = [Instruction(wide, Register(i), imm=_number(dice)) for i in range(10)]
    start += [Instruction(OPCODES["STXDW"], R10, Register(i % 10), off) for i, off in enumerate(_SLOTS)]
    body = [(_computation if dice.random() < 0.7 else _access)(dice) for _ in range(dice.randint(5, 40))]
    calls = dice.random() < 0.15
    for position in sorted(dice.sample(range(len(body)), min(len(body), dice.randint(0, 6))), reverse=True):
        op = dice.choice(_JUMPING)
        operand: dict[str, Any] = {"src": _register(dice)} if op.source == "reg" else {"imm": _immediate(dice)}
        back = dice.random() < 0.03
        distance = -dice.randint(1, position + 1) if back else dice.randint(0, min(5, len(body) - position))
        body.insert(position, Instruction(op, _register(dice), off=distance, **operand))
    program = [*start, *body]
    if calls:
        program.append(Instruction(OPCODES["CALL_LOCAL"], imm=len(_DIGEST)))
    program += _DIGEST
    if calls:
        inner = [(_computation if dice.random() < 0.5 else _access)(dice) for _ in range(dice.randint(1, 12))]
        program += [*inner, Instruction(OPCODES["EXIT"])]
    return program


def anything(dice: random.Random) -> list[Instruction]:
    """Instructions that decode, with operands that are mostly plausible, and calls of helpers with map arguments."""
    length = dice.randint(1, 14)
    program: list[Instruction] = []
    if dice.random() < 0.4:
        program += _map_calls(dice)
    program += [_any_instruction(dice, length) for _ in range(length)]
    return [*program, *parse("exit")]


def _map_calls(dice: random.Random) -> list[Instruction]:
    lines = ["r6 = r1"]
    for _ in range(dice.randint(1, 5)):
        which = dice.randrange(len(MAPS))
        lines.append(f"*(u64 *)(r10 -8) = {dice.choice([0, 1, 3, 4, 8, 33])}")
        lines.append(f"*(u64 *)(r10 -16) = {dice.randint(0, 9)}")
        lines += [f"r1 = map[{MAPS[which].name}] ll", "r2 = r10", f"r2 += {dice.choice([-8, -8, -8, -4, 8])}"]
        helper = dice.choice([1, 1, 2, 2, 3])
        if helper == 2:
            lines += ["r3 = r10", f"r3 += {dice.choice([-16, -16, -2])}", f"r4 = {dice.choice([0, 0, 1, 2, 3])}"]
        lines.append(f"call {helper}")
        if helper == 1 and dice.random() < 0.8:
            off = dice.choice([0, 0, 0, 4, 7, 8])
            lines += ["if r0 == 0 goto +2", f"r1 = *(u32 *)(r0 +{off})", f"*(u8 *)(r0 +{off}) = 7", "r0 = 0"]
    return parse("\n".join(lines))


def _any_instruction(dice: random.Random, length: int) -> Instruction:
    op = dice.choice(_ANY)
    fields: dict[str, Any] = {}
    if "off" in op.operands:
        jumps = op.kind in (Kind.JUMP, Kind.GOTO, Kind.MAY_GOTO)
        fields["off"] = dice.randint(-3, length) if jumps else dice.choice([-8, -16, -4, 0, 1, 8, 14, 32, 700])
    if "imm" in op.operands:
        fields["imm"] = dice.choice([0, 1, 2, -1, 4, 8, 255, 0x7FFFFFFF, -0x80000000])
        if op.name == "CALL":
            fields["imm"] = HELPERS_BY_NAME[dice.choice(_HELPERS)].id
        elif op.kind is Kind.WIDE:
            fields["imm"] = dice.randint(0, len(MAPS)) if "MAP" in op.name else abs(fields["imm"])
        elif op.name == "CALL_LOCAL":
            fields["imm"] = dice.randint(-3, length)
    if "dst" in op.operands:
        fields["dst"] = Register(dice.choice([0, 1, 1, 2, 3, 4, 5, 6, 9, 10]))
    if "src" in op.operands:
        fields["src"] = Register(dice.choice([0, 1, 1, 2, 3, 4, 5, 6, 10, 10]))
    return Instruction(op, **fields)


def newer(dice: random.Random) -> list[Instruction]:
    """Arenas, jumps through a table and kernel functions, with arguments that are mostly plausible, among anything."""
    arena = "r1 = map[arena] ll\nr2 = 0\nr3 = 2\nr4 = -1\nr5 = 0\ncall 9001\nr8 = r0"
    lines = ["r6 = r1", *(f"*(u64 *)(r10 {off}) = {dice.randint(0, 4)}" for off in _SLOTS), arena]
    names = ["bpf_arena_alloc_pages"]
    for _ in range(dice.randint(1, 6)):
        which = dice.randrange(4)
        if which == 0:
            lines += ["r2 = r8", f"r2 = addr_space_cast(r2, {dice.choice(['0, 1', '0, 1', '1, 0'])})"]
            off, size = dice.choice([0, 8, 4092, 8190, 8200, -8]), dice.choice([8, 16, 32, 64])
            action = dice.choice([f"r0 = *(u{size} *)(r2 {off:+})", f"*(u{size} *)(r2 {off:+}) = 77"])
            lines += [
                action,
                f"r3 = 5\nr3 = atomic_fetch_add((u64 *)(r2 {off:+}), r3)" if dice.random() < 0.4 else action,
            ]
        elif which == 1 and dice.random() < 0.3:
            lines += [
                f"r4 = map[table][0]+{8 * dice.randrange(5)} ll\nr4 = *(u64 *)(r4 +0)",
                f"r4 += {dice.choice([0, 0, 1])}",
            ]
            lines += ["r9 += 1", f"if r9 > {dice.randint(0, 3)} goto +1", "gotox r4"]
        else:
            sources = ["r{} = r6", "r{} = r10\nr{} += -16", "r{} = r10\nr{} += -32", "r{} = map[hash] ll", "r{} = r8"]
            for register in range(1, 6):
                source = (
                    dice.choice(sources) if dice.random() < 0.55 else f"r{{}} = {dice.choice([0, 0, 1, 2, 4, 8, 40])}"
                )
                lines.append(source.replace("{}", str(register)))
            names.append(dice.choice(_KFUNCS))
            lines.append(f"call {9000 + len(names)}")
            lines += ["if r0 == 0 goto +1", "r0 = *(u32 *)(r0 +0)"] if dice.random() < 0.2 else ["r7 += r0"]
    program = [
        Instruction(OPCODES["CALL_KFUNC"], ref=KfuncRef(names[insn.imm - 9001]))
        if insn.op.name == "CALL" and insn.imm > 9000
        else insn
        for insn in parse("\n".join(lines))
    ]
    length = dice.randint(0, 5)
    program += [_any_instruction(dice, length) for _ in range(length)]
    return [*program, *parse("r0 += r7\nexit")]


def random_bytes(dice: random.Random) -> list[Instruction]:
    """Bytes as instructions; slots that are none stay in place and fault when they are reached."""
    return decode(dice.randbytes(8 * dice.randint(1, 12)), strict=False)


def mutated(dice: random.Random) -> list[Instruction]:
    """A program of the conformance table with a few bytes changed."""
    program = bytearray(dice.choice(_ENCODED_CASES))
    for _ in range(dice.randint(1, 3)):
        program[dice.randrange(len(program))] = dice.choice([0, 1, 0xFF, 0x80, dice.randrange(256)])
    return decode(bytes(program), strict=False)


KINDS = {
    "computation": computation,
    "anything": anything,
    "bytes": random_bytes,
    "mutated": mutated,
    "newer": newer,
}
_NUMBERED = re.compile("ADDRESS|value of map")
_ADDRESS = re.compile(r"0x[0-9a-f]{9,}|[0-9]{10,}")


def outcome(
    program: Sequence[Instruction], jit: str | None, prog_type: str | None, budget: int = 2000, **options: Any
) -> tuple[Any, ...]:
    """Everything that can be told about a run: the result or the error, and what the maps hold."""
    try:
        is_newer = any(insn.op.name == "CALL_KFUNC" and insn.ref for insn in program)
        maps = more_maps("big" if options.get("big_endian") else "little") if is_newer else MAPS
        machine = Machine(program, prog_type, maps, jit=jit, budget=budget, cpus=2, clock=lambda: 12345, **options)
    except AsmError as error:
        return (AsmError, error.message)
    try:
        result = machine.run(MEMORY)
        told: tuple[Any, ...] = (result.r0, result.data, result.insns, result.printed, result.redirect, result.meta)
    except EbpfError as error:
        message = _ADDRESS.sub("ADDRESS", error.message)
        told = (type(error), message, getattr(error, "insn", None), getattr(error, "region", None))
    held = {name: sorted(store.items()) for name, store in machine.maps.items() if store.spec.key_size}
    return (*told, held)


def agree(ours: tuple[Any, ...], theirs: tuple[Any, ...], *, counted: bool = True) -> bool:
    """Whether two outcomes are the same, apart from numbers that are addresses of map values."""
    if len(ours) != len(theirs):
        return False
    if ours[0] is theirs[0] is MachineFault and any(_NUMBERED.search(told[1]) for told in (ours, theirs)):
        return bool((ours[2], ours[-1]) == (theirs[2], theirs[-1]))  # what was hit depends on numbers of regions
    pairs = list(zip(ours, theirs, strict=True))
    if not counted and len(ours) > 4 and isinstance(ours[0], int):
        pairs[2] = (None, None)
    return all(_same(a, b) for a, b in pairs)


def _same(a: Any, b: Any) -> bool:
    if a == b:
        return True
    return isinstance(a, int) and isinstance(b, int) and a > 1 << 32 and b > 1 << 32
