"""The printer against those who own the spelling: the kernel's verifier log, bpftool, llvm-objdump."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ebpfkit.asm.codec import decode, encode, slot_starts
from ebpfkit.asm.insn import R0, R1, R2, R3, R6, R10, Instruction
from ebpfkit.asm.isa import OPCODES, Kind, Opcode
from ebpfkit.asm.parser import parse
from ebpfkit.asm.printer import format_instruction
from ebpfkit.btf.types import Func
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.elf import open_object
from ebpfkit.errors import AsmError
from ebpfkit.kernel import bpf
from ebpfkit.loader import Collection
from tests.conftest import require_tool
from tests.elf.objects import compile_c

SOCKET_FILTER = 1
ARRAY = 2
ARENA = 33

# Why a row of the table is not in the program that the kernel prints.
NOT_SHOWN = {
    "INVALID": "no instruction",
    "ADDR_SPACE_CAST": "needs an arena map: a test of its own below",
    "JA_INDIRECT": "Linux 6.19",
    "CALLX": "in no kernel",
    "CALL_LOCAL": "in the table of its own below",
    "CALL_KFUNC": "needs the kernel's BTF: a test of its own below",
    "LDDW_MAP_FD": "the log shows an address; bpftool's test below has it",
    "LDDW_MAP_VALUE": "the log shows an address; bpftool's test below has it",
    "LDDW_VAR": "the log shows an address",
    "LDDW_FUNC": "needs BTF function information: bpftool's test of callbacks below",
    "LDDW_MAP_IDX": "needs an array of descriptors",
    "LDDW_MAP_IDX_VALUE": "needs an array of descriptors",
}


def example(op: Opcode) -> list[Instruction]:
    """Instructions that make the one instruction of `op` (the last) acceptable to the kernel."""
    scalars = parse("r1 = 7\nr2 = 3")
    address = [Instruction(OPCODES["MOV64_REG"], R3, R10)]
    kind, reg = op.kind, op.source == "reg"
    if kind in (Kind.ALU, Kind.MOV, Kind.MOVSX, Kind.SWAP):
        return [*scalars, Instruction(op, R1, R2 if reg else R0, imm=5 if op.source == "imm" else 0)]
    if kind in (Kind.LOAD, Kind.LOADSX, Kind.LOAD_ACQUIRE):
        return [*address, Instruction(op, R1, R3, -8)]
    if kind is Kind.STORE:
        return [*scalars, Instruction(op, R10, R2 if reg else R0, -16, 0 if reg else -5)]
    if kind in (Kind.ATOMIC, Kind.STORE_RELEASE):
        return [*parse("r0 = 1"), *scalars, *address, Instruction(op, R3, R2, -8)]
    if kind is Kind.JUMP:
        return [*scalars, Instruction(op, R1, R2 if reg else R0, 0, 0 if reg else -2)]
    if kind is Kind.PACKET:
        return [*parse("r6 = r7\nr2 = 0"), Instruction(op, src=R2 if op.operation == "ind" else R0, imm=14)]
    if kind in (Kind.GOTO, Kind.MAY_GOTO):
        return [Instruction(op, off=0)]
    if op.name == "CALL":
        return [Instruction(op, imm=7)]
    return [Instruction(op, R6 if kind is Kind.WIDE else R0, imm=0x1122334455667788 if kind is Kind.WIDE else 0)]


def verifier_log(program: list[Instruction]) -> dict[int, tuple[int, str]]:
    """What the kernel prints for each slot: opcode byte and text."""
    result = bpf.prog_load(SOCKET_FILTER, encode(program), "GPL", name="asm_spelling", log_level=2, log_size=1 << 20)
    assert result.fd is not None, result.log
    result.fd.close()
    found = re.findall(r"^(\d+): \(([0-9a-f]{2})\) (.*?)(?:\s*;.*)?$", result.log, re.MULTILINE)
    return {int(slot): (int(code, 16), text.strip()) for slot, code, text in found}


@pytest.mark.kernel
def test_every_opcode_is_spelled_as_in_the_verifier_log() -> None:
    program = parse("r7 = r1\nr0 = 0\n*(u64 *)(r10 -8) = 0\n*(u64 *)(r10 -16) = 0")
    shown: list[tuple[Opcode, int]] = []
    for op in OPCODES.values():
        if op.name in NOT_SHOWN or op.name == "EXIT":
            continue
        insns = example(op)
        at = next(index for index, insn in enumerate(insns) if insn.op is op)
        shown.append((op, len(program) + at))
        program += insns
    shown.append((OPCODES["EXIT"], len(program) + 1))
    program += parse("r0 = 0\nexit")
    log = verifier_log(program)
    starts = slot_starts(program)
    assert {op.name for op, _ in shown} == OPCODES.keys() - NOT_SHOWN.keys()
    different = []
    for op, index in shown:
        code, text = log[starts[index]]
        ours = format_instruction(program[index]).removesuffix(" ll")
        if (code, text) != (op.code, ours):
            different.append((op, text, ours))
        assert parse(f"({code:02x}) {text}") == [program[index]]
    assert different == []


@pytest.mark.kernel
def test_local_calls_are_spelled_as_in_the_verifier_log() -> None:
    program = parse("call f\nexit\nf: r0 = 0\nexit")
    assert verifier_log(program)[0] == (0x85, "call pc+1")
    assert format_instruction(program[0].replace(ref=None)) == "call pc+1"


@pytest.mark.kernel
def test_casts_between_address_spaces_are_spelled_as_in_the_verifier_log() -> None:
    with bpf.map_create(ARENA, 0, 0, 4, flags=1 << 10, name="asm_arena", map_extra=1 << 44) as map_fd:
        casts = ["r2 = addr_space_cast(r2, 0, 1)", "r3 = addr_space_cast(r2, 1, 0)"]
        program = parse("\n".join([f"r1 = map[fd:{map_fd.fileno()}] ll", "r2 = 0", *casts, "r0 = 0", "exit"]))
        log = verifier_log(program)
    assert [log[slot] for slot in (3, 4)] == [(0xBF, text) for text in casts]
    assert [format_instruction(insn) for insn in program[2:4]] == casts


@pytest.mark.kernel
def test_kernel_functions_are_spelled_as_in_the_verifier_log() -> None:
    btf = read_btf_file()
    names = ["bpf_rcu_read_lock", "bpf_rcu_read_unlock"]
    numbers = [btf.find_id(name, Func) for name in names]
    program = parse("\n".join([f"call {name}#{number}" for name, number in zip(names, numbers, strict=True)]))
    log = verifier_log([*program, *parse("r0 = 0\nexit")])
    assert [log[slot] for slot in (0, 1)] == [(0x85, format_instruction(insn)) for insn in program]


@pytest.mark.kernel
def test_callbacks_are_spelled_as_by_bpftool(tmp_path: Path) -> None:
    bpftool = require_tool("bpftool")
    obj = open_object(compile_c("calls"), name="calls.o")
    found = 0
    with Collection.load(obj) as collection:
        for program in collection.programs.values():
            dump = [bpftool, "prog", "dump", "xlated", "id", str(program.info.id)]
            subprocess.run([*dump, "file", tmp_path / "code"], check=True)
            text = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
            shown = [line.split(") ", 1)[1] for line in text.splitlines() if re.match(r" *\d+: \(", line)]
            ours = [format_instruction(insn) for insn in decode((tmp_path / "code").read_bytes(), strict=False)]
            assert [_unnamed(line) for line in ours] == [_unnamed(line) for line in shown]
            found += sum("subprog[" in line for line in shown)
    assert found


@pytest.mark.kernel
def test_maps_are_read_from_what_bpftool_prints() -> None:
    bpftool = require_tool("bpftool")
    with bpf.map_create(ARRAY, 4, 8, 1, name="asm_map") as map_fd:
        number = map_fd.fileno()
        text = f"r1 = map[fd:{number}] ll\nr2 = map[fd:{number}][0]+4 ll\nr3 = 0x1122334455667788 ll\nr0 = 0\nexit"
        result = bpf.prog_load(SOCKET_FILTER, encode(parse(text)), "GPL", name="asm_maps")
        assert result.fd is not None
        with result.fd as prog:
            number = bpf.prog_info(prog).id
            dump = subprocess.run(
                [bpftool, "prog", "dump", "xlated", "id", str(number)], capture_output=True, text=True, check=True
            )
            map_id = bpf.map_info(map_fd).id
    shown = parse(dump.stdout)
    assert shown == parse(
        f"r1 = map[id:{map_id}] ll\nr2 = map[id:{map_id}][0]+4 ll\nr3 = 0x1122334455667788 ll\nr0 = 0\nexit"
    )
    ours = [format_instruction(insn).replace("fd:", "id:").removesuffix(" ll") for insn in shown]
    assert ours == [line.split(") ", 1)[1] for line in dump.stdout.splitlines()]


# Instructions that CPU v3 has, in LLVM's own spelling of them where that differs in more than spaces and bases.
FOR_LLVM = """\
r1 = 5
w1 = -7
r1 += r2
w1 <<= w2
w3 = -w3
r4 = be32 r4
r4 = le16 r4
r2 = *(u32 *)(r1 +4)
r2 = *(u8 *)(r1 -1)
*(u64 *)(r10 -8) = r1
*(u16 *)(r10 -16) = r2
r1 = 0x1122334455667788 ll
lock *(u64 *)(r1 +0) += r2
if r1 s> 0x5 goto pc+3
if w1 == w2 goto pc+2
if r1 != 0xffffffff goto pc-1
goto pc+0
r0 = *(u8 *)skb[14]
call bpf_map_lookup_elem#1
exit
"""


def test_llvm_reads_our_bytes_as_the_same_instructions(tmp_path: Path) -> None:
    clang, objdump = require_tool("clang"), require_tool("llvm-objdump")
    program = parse(FOR_LLVM)
    source = tmp_path / "prog.s"
    source.write_text("".join(f".byte {byte:#04x}\n" for byte in encode(program)))
    target = tmp_path / "prog.o"
    subprocess.run([clang, "-target", "bpfel", "-mcpu=v3", "-c", "-o", target, source], check=True)
    listing = subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", "--mcpu=v3", target], capture_output=True, text=True, check=True
    ).stdout
    lines = re.findall(r"^\s*(\d+):\s+(.*?)(?: <.*>)?$", listing, re.MULTILINE)
    assert [int(slot) for slot, _ in lines] == slot_starts(program)
    assert [parse(text) for _, text in lines] == [[insn] for insn in program]
    assert decode(encode(program)) == program


@pytest.mark.kernel
def test_every_opcode_up_to_v3_is_spelled_as_by_bpftool(tmp_path: Path) -> None:
    bpftool = require_tool("bpftool")
    program = parse("r7 = r1\nr0 = 0\n*(u64 *)(r10 -8) = 0\n*(u64 *)(r10 -16) = 0")
    wanted = [op for op in OPCODES.values() if op.name not in NOT_SHOWN and op.name != "EXIT" and op.cpu <= 3]
    for op in wanted:
        program += example(op)
    result = bpf.prog_load(SOCKET_FILTER, encode([*program, *parse("r0 = 0\nexit")]), "GPL", name="asm_v3")
    assert result.fd is not None, result.log
    with result.fd as prog:
        dump = [bpftool, "prog", "dump", "xlated", "id", str(bpf.prog_info(prog).id)]
        subprocess.run([*dump, "file", tmp_path / "code"], check=True)
        text = subprocess.run([*dump, "opcodes"], capture_output=True, text=True, check=True).stdout
    code = (tmp_path / "code").read_bytes()
    translated = decode(code, strict=False)
    shown = [line.split(") ", 1)[1] for line in text.splitlines() if re.match(r" *\d+: \(", line)]
    assert [_unnamed(format_instruction(insn)) for insn in translated] == [_unnamed(line) for line in shown]
    assert encode(parse(text)) == code
    kept = {insn.op.name for insn in translated}
    gone = {op.name for op in wanted} - kept
    assert all(name.startswith(("LD_ABS", "LD_IND", "JA", "MAY_GOTO")) for name in gone), gone  # translated or removed


PROGRAMS = Path(__file__).parent.parent.parent / "programs"


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["counters", "firewall", "ratelimit", "steer", "vlan"])
def test_translated_programs_are_spelled_as_by_bpftool(name: str, tmp_path: Path) -> None:
    from ebpfkit import pipeline

    bpftool = require_tool("bpftool")
    obj = pipeline.open_source(PROGRAMS / f"{name}.py").object
    with Collection.load(obj) as collection:
        number = str(next(iter(collection.programs.values())).info.id)
        dump = [bpftool, "prog", "dump", "xlated", "id", number]
        code = tmp_path / "code"
        subprocess.run([*dump, "file", code], check=True)
        texts = [
            subprocess.run([*dump, *extra], capture_output=True, text=True, check=True).stdout
            for extra in ([], ["linum"], ["opcodes"])
        ]
    program = decode(code.read_bytes(), strict=False)
    shown = [line.split(") ", 1)[1] for line in texts[0].splitlines() if re.match(r" *\d+: \(", line)]
    assert [_unnamed(format_instruction(insn)) for insn in program] == [_unnamed(line) for line in shown]
    assert encode(parse(texts[2])) == code.read_bytes()  # the bytes beside the text tell everything
    for text in texts[:2]:
        read = [insn.replace(ref=None, labels=()) for insn in parse(text)]
        assert [insn for insn in read if insn.op.name != "MOV64_REG"] == [
            insn for insn in program if insn.op.name not in ("MOV64_REG", "INVALID")
        ]


def _unnamed(text: str) -> str:
    """Names of functions and maps are the resolver's; bpftool shows the kernel's per-CPU move as a plain one."""
    text = re.sub(r"(call pc[+-]\d+)#\S+", r"\1", re.sub(r" \{\w+=\w+\}$", "", text))
    text = re.sub(r"call (?!pc[+-])\S+#", "call #", text.removesuffix(" ll"))
    text = re.sub(r"&\(void __percpu \*\)\((r\d+)\)", r"\1", text)
    return text.replace("map[fd:", "map[id:")


LOG_SOURCE = """
r0 = 0
r1 = 7
*(u64 *)(r10 -8) = r1
r2 = 0x1122334455667788 ll
if r1 == 7 goto x
x: call f
exit
f: r0 = 1
exit
"""


@pytest.mark.kernel
def test_a_verifier_log_assembles() -> None:
    program = parse(LOG_SOURCE)
    result = bpf.prog_load(SOCKET_FILTER, encode(program), "GPL", name="asm_log", log_level=2, log_size=1 << 20)
    assert result.fd is not None
    result.fd.close()
    assert encode(parse(result.log)) == encode(program)
    assert encode(parse("-- BEGIN PROG LOAD LOG --\n" + result.log)) == encode(program)


def test_a_log_with_a_gap_says_so() -> None:
    log = "0: R1=ctx() R10=fp0\n0: (b7) r0 = 0  ; R0=0\n2: (95) exit\nprocessed 2 insns (limit 1000000)\n"
    program = parse(log)
    assert [format_instruction(insn) for insn in program] == ["r0 = 0", "goto pc-1", "exit"]
    assert program[1].labels == ("not_shown_1",)
    rejected = "0: R1=ctx()\n0: (79) r2 = *(u64 *)(r1 +0)\ninvalid bpf_context access off=0 size=8\nprocessed 1 insns\n"
    with pytest.raises(AsmError, match="slot 1 is not in this log, whose walk ended with 'invalid bpf_context"):
        parse(rejected)
    with pytest.raises(AsmError, match="slot 3 is not in this log"):
        parse("func#0 @0\n0: (15) if r1 == 0x0 goto pc+6\n1: (b7) r0 = 0\n2: (95) exit\n")
    with pytest.raises(AsmError, match="slots 1 to 99999 are not in this log, which shows too little"):
        parse("func#0 @0\n0: (b7) r0 = 0\n100000: (95) exit\n")
    with pytest.raises(AsmError, match="shows no instruction"):
        parse("processed 2 insns (limit 1000000)")
    with pytest.raises(AsmError, match="slot 0 is"):
        parse("func#0 @0\n0: (b7) r0 = 0\n0: (b7) r0 = 1\n")
