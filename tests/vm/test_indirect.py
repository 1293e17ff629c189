"""Indirect jumps through an instruction array, and calls of a helper whose number is in a register.

No kernel here has either: jumps came with 6.19, and the call is in no Linux and not in RFC 9669; compilers without
optimization write it, and other virtual machines take the register's value for the number of a helper.
"""

from __future__ import annotations

import pytest

from ebpfkit.asm.insn import Instruction
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MachineFault, MapError, NotSupported
from ebpfkit.maps.memory import create_store
from ebpfkit.vm.machine import Machine

from .both import accepted

JITS = pytest.mark.parametrize("jit", [None, "safe"])


def table(*slots: int) -> MapSpec:
    entries = [(at.to_bytes(4, "little"), slot.to_bytes(16, "little")) for at, slot in enumerate(slots)]
    return MapSpec("table", "insn_array", 4, 16, len(slots), contents=tuple(entries))


SWITCH = """
r3 = *(u8 *)(r1 +0)
if r3 > 3 goto other
r4 = map[table][0]+0 ll
r3 <<= 3
r4 += r3
r4 = *(u64 *)(r4 +0)
r0 = 7
gotox r4
r0 = 10
exit
r0 += 20
exit
r0 = 30
other:
exit
"""  # the targets are slots 9, 11, 13 and 14


@pytest.mark.parametrize("jit", [None, "safe", "trusted"])
def test_a_jump_table(jit: str | None) -> None:
    machine = Machine(parse(SWITCH), None, [table(9, 11, 13, 14)], jit=jit, report=accepted("prog"))
    runs = [machine.run(bytes([number])) for number in (0, 1, 2, 3, 4)]
    assert [run.r0 for run in runs] == [10, 27, 30, 7, 0]
    assert jit == "trusted" or [run.insns for run in runs] == [10, 10, 10, 9, 3]


@JITS
def test_a_jump_to_what_is_no_instruction_of_the_program(jit: str | None) -> None:
    for asm, message in (
        ("r4 = 5\ngotox r4\nexit", "no function address"),
        ("r4 = map[table][0]+0 ll\ngotox r4\nexit", "no function address"),
        ("r4 = map[table][0]+0 ll\nr4 = *(u64 *)(r4 +0)\nr4 += 40\ngotox r4\nr0 = 0\nexit", "no function address"),
        ("r4 = map[table][0]+0 ll\nr4 = *(u64 *)(r4 +0)\nr4 -= 3\ngotox r4\nexit", "no function|another"),
    ):
        with pytest.raises(MachineFault, match=message):
            Machine(parse(asm), None, [table(2, 2, 2)], jit=jit).run()


@JITS
def test_a_jump_that_the_table_does_not_name_is_one_still(jit: str | None) -> None:
    asm = "r4 = map[table][0]+0 ll\nr4 = *(u64 *)(r4 +0)\nr4 += 1\nr0 = 1\ngotox r4\nr0 = 5\nr0 += 1\nexit"
    assert Machine(parse(asm), None, [table(6)], jit=jit).run().r0 == 2
    assert Machine(parse(asm), None, [table(5)], jit=jit).run().r0 == 6
    with pytest.raises(MachineFault, match="past the last"):
        Machine(parse(asm), None, [table(8)], jit=jit).run()


@JITS
def test_an_endless_loop_through_a_table_ends(jit: str | None) -> None:
    asm = "r4 = map[table][0]+0 ll\nr4 = *(u64 *)(r4 +0)\nr0 = 1\ngotox r4\nexit"
    with pytest.raises(MachineFault, match="budget") as caught:
        Machine(parse(asm), None, [table(3)], jit=jit, budget=1000).run()
    assert caught.value.insn in (3, 4)


def test_the_array_is_read_only_for_programs() -> None:
    with pytest.raises(MachineFault, match="read-only"):
        Machine(parse("r4 = map[table][0]+0 ll\n*(u64 *)(r4 +0) = 1\nexit"), None, [table(2)]).run()
    store = create_store(table(4, 5))
    assert store.get(bytes([1, 0, 0, 0])) == bytes([5]) + bytes(15)
    with pytest.raises(MapError, match="EINVAL"):
        store.set(bytes(4), b"\xff" * 16)
    with pytest.raises(MapError, match="16 bytes"):
        create_store(MapSpec("table", "insn_array", 4, 8, 1))


@JITS
def test_a_helper_by_the_number_in_a_register(jit: str | None) -> None:
    program = parse("r8 = 8\ncallx r8\nr0 += 40\nexit")
    machine = Machine(program, None, cpus=3, jit=jit)
    assert machine.run(cpu=2).r0 == 42
    with pytest.raises(MachineFault, match="there is no helper 9999"):
        Machine(parse("r8 = 9999\ncallx r8\nexit"), None, jit=jit).run()
    with pytest.raises(MachineFault, match="there is no helper 12"):
        Machine(parse("r8 = 12\ncallx r8\nexit"), None, jit=jit).run()
    with pytest.raises(NotSupported, match="no Linux takes it"):
        Machine(program, "xdp", jit=jit).run(bytes(14))
    for number in (11, -5, 1 << 30):
        with pytest.raises(MachineFault, match=f"r{number} does not exist"):
            Machine([Instruction(OPCODES["CALLX"], imm=number), *parse("exit")], None, jit=jit).run()
    loop = "r1 = 3\nr2 = subprog[+7] ll\nr3 = 0\nr4 = 0\nr7 = 181\ncallx r7\nr0 += r6\nexit\nr6 = 5\nr0 = 0\nexit"
    ran = [Machine(parse(loop), None, jit=mode).run() for mode in (None, jit)]
    assert (ran[0].r0, ran[0].insns) == (ran[1].r0, ran[1].insns) == (3, 17)
