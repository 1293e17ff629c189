"""The machine: what it takes, maps, tail calls, callbacks, tracing, and errors of use."""

from __future__ import annotations

import doctest
import importlib

import pytest

from ebpfkit.asm.codec import encode
from ebpfkit.asm.insn import Instruction, MapRef
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.errors import AsmError, MachineFault, MapError, NotSupported, UsageError
from ebpfkit.maps.memory import ArrayOfMapsStore, create_store
from ebpfkit.vm import Machine, Step

PACKET = bytes(range(64))
ARRAY = MapSpec("counts", "array", 4, 8, 4)
FIRST_VALUE = "*(u32 *)(r10 -4) = 0\nr1 = map[counts] ll\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem#1\n"


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def program(name: str, asm: str, maps: list[MapSpec] | None = None) -> ProgramSpec:
    return ProgramSpec(name, "xdp", "xdp", tuple(parse(asm)), license="GPL", maps={m.name: m for m in maps or []})


def object_file(*programs: ProgramSpec, maps: list[MapSpec] | None = None) -> ObjectFile:
    return ObjectFile({p.name: p for p in programs}, {m.name: m for m in maps or []}, license="GPL")


@pytest.mark.parametrize("name", ["vm.machine", "vm.pcap", "maps.memory", "maps.codec"])
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(f"ebpfkit.{name}")
    failed, tried = doctest.testmod(module)
    assert tried and not failed


def test_every_form_of_a_program() -> None:
    insns = parse("r0 = 2\nexit")
    spec = program("p", "r0 = 2\nexit")
    for x in (insns, encode(insns), bytearray(encode(insns)), spec, object_file(spec)):
        assert Machine(x).run(PACKET).r0 == 2


def test_plain_memory() -> None:
    result = Machine(parse("r0 = r2\n*(u8 *)(r1 +1) = 7\nexit"), prog_type=None).run(b"abc")
    assert (result.r0, result.data, result.insns) == (3, b"a\x07c", 3)
    assert Machine(parse("r0 = r2\nexit"), prog_type=None).run().r0 == 0


def test_r0_is_unsigned() -> None:
    assert Machine(parse("r0 = -1\nexit"), prog_type=None).run().r0 == 2**64 - 1


def test_runs_do_not_see_each_other() -> None:
    machine = Machine(parse("r0 = *(u64 *)(r10 -8)\n*(u64 *)(r10 -8) = 7\nexit"), prog_type=None)
    assert [machine.run().r0 for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("op", ["LDDW_MAP_FD", "LDDW_MAP_IDX"])
def test_raw_bytes_name_maps_by_index(op: str) -> None:
    load = Instruction(OPCODES[op], imm=1)
    body = parse("*(u32 *)(r10 -4) = 1\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem#1\nr0 = *(u64 *)(r0 +0)\nexit")
    code = encode([load.replace(dst=parse("r1 = 0")[0].dst), *body])
    other = MapSpec("other", "array", 4, 8, 4)
    machine = Machine(code, maps=[ARRAY, other])
    machine.maps["other"].set(u32(1), (42).to_bytes(8, "little"))
    assert machine.run(PACKET).r0 == 42
    with pytest.raises(MachineFault, match="no map 1"):
        Machine(code, maps=[ARRAY]).run(PACKET)


def test_a_map_value_by_address() -> None:
    data = MapSpec(".data", "array", 4, 16, 1, data=bytes(8) + (5).to_bytes(8, "little"))
    asm = "r1 = map[.data][0]+8 ll\nr0 = *(u64 *)(r1 +0)\nr2 = r0\nr2 += 1\n*(u64 *)(r1 +0) = r2\nexit"
    machine = Machine(program("p", asm, [data]))
    assert [machine.run(PACKET).r0 for _ in range(3)] == [5, 6, 7]
    assert machine.maps[".data"].get(bytes(4)) == bytes(8) + (8).to_bytes(8, "little")


def test_read_only_data_cannot_be_written() -> None:
    data = MapSpec(".rodata", "array", 4, 8, 1, data=b"constant", frozen=True)
    with pytest.raises(MachineFault, match="read-only"):
        Machine(program("p", "r1 = map[.rodata][0]+0 ll\n*(u64 *)(r1 +0) = 1\nexit", [data])).run(PACKET)


def test_read_only_data_cannot_be_updated() -> None:
    asm = """
        *(u32 *)(r10 -4) = 0
        *(u64 *)(r10 -16) = 0
        r1 = map[.rodata] ll
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -16
        r4 = 0
        call bpf_map_update_elem#2
        exit
    """
    data = MapSpec(".rodata", "array", 4, 8, 1, data=b"constant", frozen=True)
    machine = Machine(program("p", asm, [data]))
    assert machine.run(PACKET).r0 == 2**64 - 1  # -EPERM
    assert machine.maps[".rodata"].get(bytes(4)) == b"constant"


def test_a_map_pointer_is_opaque() -> None:
    with pytest.raises(MachineFault, match="opaque"):
        Machine(program("p", "r1 = map[counts] ll\nr0 = *(u64 *)(r1 +0)\nexit", [ARRAY])).run(PACKET)


def test_a_value_has_its_own_bounds() -> None:
    """The next element of an array is not part of this one."""
    asm = FIRST_VALUE + "r0 = *(u64 *)(r0 +8)\nexit"
    with pytest.raises(MachineFault, match="offset 8 of the value of map 'counts', which has 8 bytes"):
        Machine(program("p", asm, [ARRAY])).run(PACKET)


def test_stores_can_be_given_and_kept() -> None:
    store = create_store(ARRAY)
    asm = FIRST_VALUE + "*(u8 *)(r0 +0) = 9\nr0 = 1\nexit"
    machine = Machine(program("p", asm, [ARRAY]), maps=[store])
    machine.run(PACKET)
    assert machine.maps["counts"] is store and store.get(bytes(4)) == b"\x09" + bytes(7)


TAIL = "r6 = r1\nr2 = map[jumps] ll\nr3 = {index}\ncall bpf_tail_call#12\nr0 = {otherwise}\nexit"
JUMPS = MapSpec("jumps", "prog_array", 4, 4, 2, value_slots=("first", "second"))


def test_tail_calls_from_an_object() -> None:
    first = program("first", "r0 = 10\nexit", [JUMPS])
    second = program("second", TAIL.format(index=1, otherwise=33), [JUMPS])
    entry = program("entry", TAIL.format(index=0, otherwise=1), [JUMPS])
    obj = object_file(entry, first, second, maps=[JUMPS])
    machine = Machine(obj, program="entry")
    assert machine.run(PACKET).r0 == 10
    machine.maps["jumps"].delete(u32(0))
    assert machine.run(PACKET).r0 == 1
    machine.maps["jumps"].set(u32(0), u32(machine.program_id("second")))
    result = machine.run(PACKET)
    assert result.r0 == 33  # after 33 tail calls the next one falls through
    assert result.insns == 4 + 33 * 4 + 2
    with pytest.raises(UsageError, match="no program 'third'"):
        machine.program_id("third")


def test_tail_calls_share_context_and_frame() -> None:
    target = program("target", "r2 = *(u32 *)(r1 +0)\nr0 = *(u8 *)(r2 +5)\nexit")
    machine = Machine(program("entry", TAIL.format(index=1, otherwise=0), [JUMPS.replace(value_slots=())]))
    machine.maps["jumps"].set(u32(1), u32(machine.add_program(target)))
    assert machine.run(PACKET).r0 == 5
    machine.maps["jumps"].set(u32(1), u32(77))
    with pytest.raises(MachineFault, match="77, which is no program"):
        machine.run(PACKET)


def test_maps_of_maps() -> None:
    inner = MapSpec("inner", "array", 4, 8, 1)
    outer = MapSpec("outer", "array_of_maps", 4, 4, 2, inner=inner, value_slots=(None, "filled"))
    filled = inner.replace(name="filled", contents=((bytes(4), (6).to_bytes(8, "little")),))
    asm = """
        *(u32 *)(r10 -4) = 1
        r1 = map[outer] ll
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem#1
        if r0 == 0 goto out
        *(u32 *)(r10 -4) = 0
        r1 = r0
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem#1
        r0 = *(u64 *)(r0 +0)
        out:
        exit
    """
    machine = Machine(object_file(program("p", asm, [outer, filled]), maps=[outer, filled]))
    assert machine.run(PACKET).r0 == 6
    store = machine.maps["outer"]
    assert isinstance(store, ArrayOfMapsStore)
    store.delete(u32(1))
    assert machine.run(PACKET).r0 == 0


def test_bpf_loop_calls_back() -> None:
    asm = """
        *(u64 *)(r10 -8) = 0
        r1 = 10
        r2 = subprog[body] ll
        r3 = r10
        r3 += -8
        r4 = 0
        call bpf_loop#181
        r6 = *(u64 *)(r10 -8)
        r0 <<= 32
        r0 |= r6
        exit
        body:
        r3 = *(u64 *)(r2 +0)
        r3 += r1
        *(u64 *)(r2 +0) = r3
        r0 = 0
        if r1 < {stop} goto pc+1
        r0 = 1
        exit
    """
    assert Machine(parse(asm.format(stop=100))).run(PACKET).r0 == 10 << 32 | 45
    result = Machine(parse(asm.format(stop=3))).run(PACKET)
    assert result.r0 == 4 << 32 | 6
    assert result.insns == 11 + 3 * 6 + 7


def test_for_each_calls_back_with_key_and_value() -> None:
    asm = """
        *(u64 *)(r10 -8) = 0
        r1 = map[m] ll
        r2 = subprog[body] ll
        r3 = r10
        r3 += -8
        r4 = 0
        call bpf_for_each_map_elem#164
        r6 = *(u64 *)(r10 -8)
        r0 <<= 32
        r0 |= r6
        exit
        body:
        r5 = *(u32 *)(r2 +0)
        r0 = *(u64 *)(r3 +0)
        r0 *= r5
        r5 = *(u64 *)(r4 +0)
        r5 += r0
        *(u64 *)(r4 +0) = r5
        r0 = 0
        exit
    """
    contents = tuple((u32(k), v.to_bytes(8, "little")) for k, v in [(1, 10), (2, 20), (3, 30)])
    spec = MapSpec("m", "hash", 4, 8, 9, contents=contents)
    assert Machine(program("p", asm, [spec])).run(PACKET).r0 == 3 << 32 | 140


def test_a_number_is_no_callback() -> None:
    with pytest.raises(MachineFault, match="no function address"):
        Machine(parse("r1 = 5\nr2 = 5\nr3 = 0\nr4 = 0\ncall bpf_loop#181\nexit")).run(PACKET)


def test_tracing() -> None:
    steps: list[Step] = []
    Machine(parse("r0 = 5\nr3 = 1 ll\ngoto pc+0\nexit"), prog_type=None).run(trace=steps.append)
    assert [(step.slot, step.instruction.op.name) for step in steps] == [
        (0, "MOV64_IMM"), (1, "LDDW"), (3, "JA"), (4, "EXIT"),
    ]  # fmt: skip
    assert steps[1].registers[0] == 5 and len(steps[1].registers) == 11


def test_tracing_changes_nothing() -> None:
    asm = "r0 = 0\nr1 = 10\nr0 += r1\nr1 += -1\nif r1 != 0 goto pc-3\nexit"
    plain = Machine(parse(asm), prog_type=None).run()
    traced = Machine(parse(asm), prog_type=None).run(trace=lambda step: None)
    assert plain == traced


def test_what_the_machine_does_not_model_is_refused_by_name() -> None:
    stacks = MapSpec("stacks", "stack_trace", 4, 8, 4)
    user = program("user", "r1 = map[stacks] ll\nr0 = 1\nexit", [stacks])
    obj = object_file(program("other", "r0 = 1\nexit", [stacks]), user, maps=[stacks])
    assert Machine(obj, program="other").run(PACKET).r0 == 1
    with pytest.raises(NotSupported, match="stack_trace"):
        Machine(obj, program="user")


def test_errors_of_use() -> None:
    two = object_file(program("a", "r0 = 1\nexit"), program("b", "r0 = 2\nexit"))
    assert Machine(two, program="b").run(PACKET).r0 == 2
    with pytest.raises(UsageError, match="a, b"):
        Machine(two)
    with pytest.raises(UsageError, match="'c' is not among a, b"):
        Machine(two, program="c")
    with pytest.raises(UsageError, match="holds no program"):
        Machine(object_file())
    with pytest.raises(UsageError, match="two maps"):
        Machine(parse("exit"), maps=[ARRAY, ARRAY])
    with pytest.raises(UsageError, match="no CPU 1"):
        Machine(parse("exit")).run(PACKET, cpu=1)
    with pytest.raises(UsageError, match="metadata"):
        Machine(parse("exit")).run(PACKET, meta=b"abc")
    with pytest.raises(UsageError, match="at most"):
        Machine(parse("exit")).run(bytes(1 << 21))
    with pytest.raises(UsageError, match="'missing', which was not given"):
        Machine([Instruction(OPCODES["LDDW_MAP_FD"], ref=MapRef("missing")), *parse("exit")])
    with pytest.raises(AsmError):
        Machine(b"\xff" * 8)
    with pytest.raises(UsageError, match="decorated function"):
        Machine(lambda packet: 2)  # type: ignore[arg-type]
    with pytest.raises(MapError):
        Machine(parse("exit"), maps=[MapSpec("m", "array", 3, 8, 1)])


def test_big_packets_get_a_bigger_frame() -> None:
    machine = Machine(parse("r2 = *(u32 *)(r1 +4)\nr0 = *(u8 *)(r2 -1)\nexit"))
    for size in (64, 3520, 3521, 9000, 65_536, 64):
        packet = bytes(size - 1) + b"\x07"
        result = machine.run(packet)
        assert result.r0 == 7 and result.data == packet


def test_many_values_and_runs_take_no_more_memory() -> None:
    asm = """
        r6 = *(u32 *)(r1 +0)
        r1 = map[m] ll
        r2 = r6
        call bpf_map_lookup_elem#1
        if r0 != 0 goto found
        *(u64 *)(r10 -8) = 1
        r1 = map[m] ll
        r2 = r6
        r3 = r10
        r3 += -8
        r4 = 0
        call bpf_map_update_elem#2
        exit
        found:
        r1 = 1
        lock *(u64 *)(r0 +0) += r1
        r0 = 1
        exit
    """
    machine = Machine(program("p", asm, [MapSpec("m", "lru_hash", 4, 8, 3000)]))
    for i in range(10_000):
        machine.run(u32(i % 4000 if i % 3 else 7) + bytes(60))
    assert len(machine.memory.regions) < 1100
    count = machine.maps["m"].get(u32(7))
    assert count is not None and int.from_bytes(count, "little") == len([i for i in range(10_000) if not i % 3]) + 2
