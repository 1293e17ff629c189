"""Whatever the bytes, a program ends as a result or a typed error, inside its budget and inside its memory."""

from __future__ import annotations

import random

import pytest

from ebpfkit.abi.helpers import HELPERS_BY_NAME
from ebpfkit.asm.codec import decode, encode
from ebpfkit.asm.insn import Instruction, Register
from ebpfkit.asm.isa import OPCODES, Kind
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import AsmError, EbpfError, MachineFault, NotSupported
from ebpfkit.vm.helpers import IMPLEMENTED
from ebpfkit.vm.machine import Machine
from ebpfkit.vm.network import Device, Fib, Route, Socket
from ebpfkit.vm.objects import Task

from .cases import all_cases

BUDGET = 2000
MEMORY = bytes(range(32))
MAPS = [
    MapSpec("hash", "hash", 4, 8, 4),
    MapSpec("array", "array", 4, 8, 4),
    MapSpec("ring", "ringbuf", 0, 0, 4096),
    MapSpec("queue", "queue", 0, 4, 4),
    MapSpec("progs", "prog_array", 4, 4, 4),
    MapSpec("outer", "array_of_maps", 4, 4, 2),
    MapSpec("lpm", "lpm_trie", 8, 8, 4, flags=1),
    MapSpec("socks", "xskmap", 4, 4, 4),
    MapSpec("percpu", "percpu_array", 4, 8, 4),
    MapSpec("bloom", "bloom_filter", 0, 4, 4),
    MapSpec("events", "perf_event_array", 4, 4, 4),
]
WORLD = {
    "fib": Fib([Route("0.0.0.0/0", 1), Route("::/0", 1)]),
    "devices": [Device(1), Device(2)],
    "sockets": [Socket("tcp", "0.0.0.0", 0), Socket("udp", "::", 0)],
    "task": Task(),
}
EXPECTED = (MachineFault, AsmError, NotSupported)


def run(program: bytes | list[Instruction], prog_type: str | None) -> str:
    """How it ended; anything but a result or an expected error gets out."""
    try:
        machine = Machine(program, prog_type=prog_type, maps=MAPS, budget=BUDGET, cpus=2, **WORLD)  # type: ignore[arg-type]
        result = machine.run(MEMORY)
    except EXPECTED as error:
        assert isinstance(error, EbpfError) and "\n" not in error.message
        return type(error).__name__
    assert 0 <= result.r0 < 1 << 64 and result.insns <= BUDGET
    return "result"


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes(seed: int) -> None:
    dice = random.Random(seed)
    seen = set()
    for _ in range(300):
        data, prog_type = dice.randbytes(8 * dice.randint(1, 12)), dice.choice([None, "xdp", "sched_cls"])
        seen.add(run(data, prog_type))
        run(decode(data, strict=False), prog_type)  # reserved fields kept, what is no instruction in its place
        small = bytes(dice.choice([0, 1, 2, 5, 7, 0x85, 0x95, 0xB7, 0xFF, byte]) for byte in data)
        run(decode(small, strict=False), prog_type)
    assert "AsmError" in seen
    with pytest.raises(AsmError):
        Machine(dice.randbytes(13))


def random_instruction(dice: random.Random, length: int) -> Instruction:
    """An instruction that decodes, with operands that are mostly plausible."""
    op = dice.choice([op for op in OPCODES.values() if op.kind is not Kind.INVALID])
    fields: dict[str, int] = {}
    if "off" in op.operands:
        jumps = op.kind in (Kind.JUMP, Kind.GOTO, Kind.MAY_GOTO)
        fields["off"] = dice.randint(-3, length) if jumps else dice.choice([-8, -16, -4, 0, 1, 8, 14, 32, 700])
    if "imm" in op.operands:
        fields["imm"] = dice.choice([0, 1, 2, -1, 4, 8, 255, 0x7FFFFFFF, -0x80000000])
        if op.name == "CALL":
            fields["imm"] = HELPERS_BY_NAME[dice.choice(sorted(IMPLEMENTED))].id
        elif op.kind is Kind.WIDE:
            fields["imm"] = dice.randint(0, len(MAPS)) if "MAP" in op.name else abs(fields["imm"])
        elif op.name == "CALL_LOCAL":
            fields["imm"] = dice.randint(-3, length)
    registers = [Register(dice.choice([0, 1, 1, 2, 3, 4, 5, 6, 10, 10])) for _ in range(2)]
    if "dst" in op.operands:
        fields["dst"] = registers[0]
    if "src" in op.operands:
        fields["src"] = registers[1]
    return Instruction(op, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("prog_type", [None, "xdp", "sched_cls"])
def test_random_instructions(prog_type: str | None) -> None:
    dice = random.Random(7)
    seen: dict[str, int] = {}
    for _ in range(1500):
        length = dice.randint(1, 14)
        program = [random_instruction(dice, length) for _ in range(length)] + parse("exit")
        end = run(encode(program), prog_type)
        seen[end] = seen.get(end, 0) + 1
    assert seen["result"] > 20 and seen["MachineFault"] > 200


def test_helpers_with_random_arguments() -> None:
    """Every helper that works here gets maps, pointers, numbers and nonsense in every argument."""
    dice = random.Random(3)
    sources = ["r{} = map[{}] ll", "r{} = r10\nr{} += {}", "r{} = {}", "r{} = r6", "r{} = {} ll"]
    for name in sorted(IMPLEMENTED):
        for _ in range(15):
            lines = ["r6 = r1", *(f"*(u64 *)(r10 {-8 * i}) = {dice.randint(0, 9)}" for i in range(1, 9))]
            for register in range(1, 6):
                which = dice.randrange(len(sources))
                if which == 0:
                    lines.append(f"r{register} = map[{dice.choice(MAPS).name}] ll")
                elif which == 1:
                    lines.append(f"r{register} = r10\nr{register} += {dice.choice([-64, -32, -8, -4, 0])}")
                elif which == 3:
                    lines.append(f"r{register} = r6")
                else:
                    number = dice.choice([0, 1, 4, 8, 64, -1, 0x7FFFFFFF]) if which == 2 else dice.getrandbits(64)
                    lines.append(f"r{register} = {number}" if which == 2 else f"r{register} = {number} ll")
            call = f"call bpf_{name}#{HELPERS_BY_NAME[name].id}"
            again = "\n".join(line for line in lines[9:] if dice.random() < 0.7)
            program = parse(
                "\n".join([*lines, call, "r7 = r0", again, "r1 = r7" if dice.random() < 0.3 else "", call, "exit"])
            )
            run(program, dice.choice(["xdp", "sched_cls", "cgroup_skb", "sk_lookup"]))


def test_mutated_programs() -> None:
    dice = random.Random(11)
    programs = [encode(parse(case.asm)) for case in all_cases()]
    for _ in range(1500):
        program = bytearray(dice.choice(programs))
        for _ in range(dice.randint(1, 3)):
            program[dice.randrange(len(program))] = dice.choice([0, 1, 0xFF, 0x80, dice.randrange(256)])
        run(bytes(program), dice.choice([None, "xdp"]))


def test_slots_that_are_no_instructions_fault_when_reached() -> None:
    program = decode(bytes.fromhex("ffffffffffffffff"), strict=False)
    with pytest.raises(MachineFault, match="no instruction"):
        Machine(program).run(MEMORY)


def test_registers_that_do_not_exist_fault() -> None:
    with pytest.raises(MachineFault, match="r11"):
        Machine([Instruction(OPCODES["MOV64_IMM"], dst=Register(11))]).run(MEMORY)


@pytest.mark.parametrize("budget", [1, 2, 100])
def test_the_budget_is_exact(budget: int) -> None:
    program = parse("\n".join(["r0 = 0"] * (budget - 1)) + "\nexit")
    assert Machine(program, prog_type=None).run(budget=budget).insns == budget
    with pytest.raises(MachineFault, match="budget"):
        Machine(program, prog_type=None).run(budget=budget - 1)


def test_callbacks_draw_on_the_same_budget() -> None:
    program = parse("r1 = 10\nr2 = subprog[+5] ll\nr3 = 0\nr4 = 0\ncall bpf_loop#181\nexit\nr0 = 0\nexit")
    needed = 6 + 10 * 2
    assert Machine(program).run(MEMORY, budget=needed).insns == needed
    with pytest.raises(MachineFault, match="budget"):
        Machine(program).run(MEMORY, budget=needed - 1)


def test_an_endless_callback_ends() -> None:
    program = parse("r1 = 8000000\nr2 = subprog[+5] ll\nr3 = 0\nr4 = 0\ncall bpf_loop#181\nexit\nr0 = 0\nexit")
    with pytest.raises(MachineFault, match="budget"):
        Machine(program, budget=5000).run(MEMORY)
