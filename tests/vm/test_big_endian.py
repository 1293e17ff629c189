"""Big-endian programs: all that they see is in their order, and what does not depend on the order stays the same."""

from __future__ import annotations

import functools
import importlib.util
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from ebpfkit.asm.codec import encode
from ebpfkit.asm.parser import parse
from ebpfkit.btf.values import decode_value
from ebpfkit.elf import open_object
from ebpfkit.elf.model import MapSpec, ObjectFile
from ebpfkit.errors import UsageError
from ebpfkit.maps.memory import create_store
from ebpfkit.verifier import Report, verify_program
from ebpfkit.vm.jit import Unit
from ebpfkit.vm.machine import Machine
from ebpfkit.vm.network import Device, Fib, Route, Socket
from tests.conftest import require_tool, skip_or_fail

from .both import accepted
from .random_code import KINDS, agree, outcome

SOURCE = Path(__file__).parent / "c" / "orders.c"
NET = 0x0A090000


@functools.cache
def orders(compiler: str, order: str) -> ObjectFile:
    if compiler == "clang":
        command = [require_tool("clang"), f"--target=bpf{order}"]
    else:
        if importlib.util.find_spec("ziglang") is None:
            skip_or_fail("the ziglang package is not installed")
        command = [sys.executable, "-m", "ziglang", "cc", "-target", f"bpf{order}-freestanding", "-w"]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "orders.o"
        command += ["-O2", "-g", "-mcpu=v3", "-c", str(SOURCE), "-o", str(out)]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        obj = open_object(out.read_bytes(), name="orders.o")
    assert obj.big_endian == (order == "eb")
    return obj


def packets() -> list[bytes]:
    dice = random.Random(5)
    made = [b"short"]
    for i in range(30):
        kind = dice.choice([b"\x08\x00", b"\x86\xdd"])
        ip = dice.randbytes(9) + bytes([dice.choice([6, 17])]) + dice.randbytes(2)
        source = dice.choice([b"\x0a\x09\x08\x07", b"\x0a\x08\x08\x07", b"\xc0\x00\x02\x01"])
        made.append(
            dice.randbytes(12) + kind + ip + source + dice.randbytes(6) + bytes([i % 3, 80]) + dice.randbytes(20)
        )
    return made


def ran(obj: ObjectFile, jit: str | None) -> tuple[Any, ...]:
    """Return values and packets, and what maps and variables hold, as values of their types."""
    report = Report(tuple(verify_program(spec) for spec in obj.programs.values())) if jit == "trusted" else None
    machine = Machine(obj, program="first", jit=jit, cpus=2, report=report)
    order = machine.order
    number = functools.partial(int.to_bytes, byteorder=order)
    for length, network, value in ((16, b"\x0a\x09\0\0", 3), (8, b"\x0a\0\0\0", 7)):
        machine.maps["nets"].set(number(length, 4) + network, number(value, 4))
    runs = [machine.run(packet, rx_queue=i, cpu=i % 2) for i, packet in enumerate(packets())]
    held: dict[str, Any] = {}
    assert obj.btf is not None
    for name, store in machine.maps.items():
        spec = store.spec
        if spec.btf_value_type and spec.type not in ("percpu_array", "prog_array"):
            rows = [
                (decode_value(obj.btf, spec.btf_key_type, key) if spec.btf_key_type else 0,
                 decode_value(obj.btf, spec.btf_value_type, value))
                for key, value in store.items()
            ]  # fmt: skip
            held[name] = sorted(rows, key=repr)
    sizes = [int.from_bytes(machine.maps["sizes"].get(number(3, 4))[at : at + 4], order) for at in (0, 8)]  # type: ignore[index]
    return [(run.r0, run.data) for run in runs], held, sizes


@pytest.mark.parametrize("jit", [None, "safe", "trusted"])
@pytest.mark.parametrize("compiler", ["clang", "zig"])
def test_an_object_of_either_order_does_the_same(compiler: str, jit: str | None) -> None:
    little, big = ran(orders(compiler, "el"), jit), ran(orders(compiler, "eb"), jit)
    little[1].pop("nets"), big[1].pop("nets")  # its addresses are bytes of the network in both
    assert big == little
    assert len({r0 for r0, _ in big[0]}) > 8 and len(big[1]["flows"]) > 4 and min(big[2]) > 0


def run(asm: str, memory: bytes = b"", jit: str | None = None, **options: Any) -> tuple[int, bytes]:
    options |= {"big_endian": True, "jit": jit, "report": accepted("prog")}
    result = Machine(parse(asm), None, **options).run(memory)
    return result.r0, result.data


MEMORY = bytes.fromhex("8122334455667788")
CASES = [
    ("r0 = *(u8 *)(r1 +0)", 0x81, MEMORY),
    ("r0 = *(u16 *)(r1 +1)", 0x2233, MEMORY),
    ("r0 = *(u32 *)(r1 +0)", 0x81223344, MEMORY),
    ("r0 = *(u64 *)(r1 +0)", 0x8122334455667788, MEMORY),
    ("r0 = *(s8 *)(r1 +0)", 0xFFFFFFFFFFFFFF81, MEMORY),
    ("r0 = *(s16 *)(r1 +0)", 0xFFFFFFFFFFFF8122, MEMORY),
    ("r0 = *(s32 *)(r1 +0)", 0xFFFFFFFF81223344, MEMORY),
    ("r0 = load_acquire((u32 *)(r1 +4))", 0x55667788, MEMORY),
    ("*(u16 *)(r1 +2) = 258", 0, bytes.fromhex("8122010255667788")),
    ("r3 = 0x0102030405060708 ll\n*(u64 *)(r1 +0) = r3", 0, bytes.fromhex("0102030405060708")),
    ("r3 = 0x0102030405060708 ll\n*(u32 *)(r1 +0) = r3", 0, bytes.fromhex("0506070855667788")),
    ("r3 = 7\nstore_release((u16 *)(r1 +0), r3)", 0, bytes.fromhex("0007334455667788")),
    ("r3 = 2\nlock *(u32 *)(r1 +4) += r3", 0, bytes.fromhex("812233445566778a")),
    ("r3 = 0x78\nr3 = atomic_fetch_add((u64 *)(r1 +0), r3)\nr0 = r3", 0x8122334455667788, MEMORY[:6] + b"\x78\0"),
    ("r3 = 0xff\nr3 = atomic_fetch_or((u32 *)(r1 +4), r3)\nr0 = r3", 0x55667788, bytes.fromhex("81223344556677ff")),
    ("r3 = 1\nr3 = xchg_64(r1 +0, r3)\nr0 = r3", 0x8122334455667788, bytes.fromhex("0000000000000001")),
    ("r0 = 0x55667788\nr3 = 9\nr0 = cmpxchg32_32(r1 +4, r0, r3)", 0x55667788, bytes.fromhex("8122334400000009")),
    ("w0 = 0x81223344\nr3 = 9\nw0 = cmpxchg32_32(r1 +4, w0, w3)", 0x55667788, MEMORY),
    ("r0 = 0x1234\nr0 = be16 r0", 0x1234, MEMORY),
    ("r0 = 0x11223344\nr0 = be16 r0", 0x3344, MEMORY),
    ("r0 = 0x1234\nr0 = le16 r0", 0x3412, MEMORY),
    ("r0 = 0x11223344\nr0 = le32 r0", 0x44332211, MEMORY),
    ("r0 = 0x1122334455667788 ll\nr0 = be64 r0", 0x1122334455667788, MEMORY),
    ("r0 = 0x1122334455667788 ll\nr0 = le64 r0", 0x8877665544332211, MEMORY),
    ("r0 = 0x11223344\nr0 = bswap16 r0", 0x4433, MEMORY),
    ("*(u64 *)(r10 -8) = 1\nr0 = *(u8 *)(r10 -1)", 1, MEMORY),
]  # fmt: skip


@pytest.mark.parametrize("jit", [None, "safe", "trusted"])
@pytest.mark.parametrize(("asm", "r0", "after"), CASES, ids=[asm for asm, _, _ in CASES])
def test_numbers_in_memory_are_big_endian(asm: str, r0: int, after: bytes, jit: str | None) -> None:
    lines = asm if asm.startswith(("r0", "w0")) else f"r0 = 0\n{asm}"
    assert run(f"{lines}\nexit", MEMORY, jit) == (r0, after)


@pytest.mark.parametrize("jit", [None, "safe"])
def test_bytes_are_read_in_the_program_s_order(jit: str | None) -> None:
    program = encode(parse("r0 = 0x01020304\nr0 += 1000\nexit"), big_endian=True)
    assert Machine(program, None, big_endian=True, jit=jit).run().r0 == 0x01020304 + 1000


FIELDS = [
    ("sched_cls", "r0 = *(u32 *)(r1 +16)", 0x0800),  # protocol
    ("sched_cls", "r0 = *(u16 *)(r1 +2)", 60),  # the low half of len
    ("sched_cls", "r0 = *(u8 *)(r1 +11)", 0x44),  # the last byte of mark
    ("sched_cls", "r0 = *(u32 *)(r1 +52)", 0x99),  # cb[1]
    ("xdp", "r0 = *(u32 *)(r1 +16)", 9),  # rx_queue_index
]


@pytest.mark.parametrize("jit", [None, "safe"])
@pytest.mark.parametrize(("prog_type", "asm", "expected"), FIELDS, ids=[asm for _, asm, _ in FIELDS])
def test_fields_of_contexts(prog_type: str, asm: str, expected: int, jit: str | None) -> None:
    machine = Machine(parse(f"{asm}\nexit"), prog_type, big_endian=True, jit=jit)
    given = {"mark": 0x11223344, "cb": 0x99 << 96} if prog_type != "xdp" else None
    assert machine.run(bytes(12) + b"\x08\x00" + bytes(46), context=given, rx_queue=9).r0 == expected


def test_helpers_fill_structures_in_the_program_s_order() -> None:
    asm = """
        r1 += 0
        r2 = r10
        r2 += -64
        *(u64 *)(r10 -64) = 0
        *(u8 *)(r10 -64) = 2
        *(u64 *)(r10 -56) = 0
        *(u32 *)(r10 -56) = 3
        *(u64 *)(r10 -48) = 0
        *(u64 *)(r10 -40) = 0
        *(u64 *)(r10 -32) = 0
        *(u8 *)(r10 -32) = 10
        *(u64 *)(r10 -24) = 0
        *(u64 *)(r10 -16) = 0
        *(u64 *)(r10 -8) = 0
        r3 = 64
        r4 = 4
        call bpf_fib_lookup#69
        r7 = r0
        r0 = *(u32 *)(r10 -56)
        r0 <<= 16
        r1 = *(u16 *)(r10 -58)
        r0 |= r1
        r0 += r7
        exit
    """
    fib = Fib([Route("10.0.0.0/8", 5)])
    machine = Machine(parse(asm), big_endian=True, fib=fib, devices=[Device(3), Device(5, mtu=1400)])
    assert machine.run(bytes(60)).r0 == 5 << 16 | 1400
    socket = Socket("tcp", "10.0.0.1", 80, mark=0x11223344)
    asm = "r1 = *(u64 *)(r1 +168)\nr0 = *(u32 *)(r1 +16)\nexit"
    assert Machine(parse(asm), "sched_cls", big_endian=True).run(bytes(60), socket=socket).r0 == 0x11223344


@pytest.mark.parametrize("kind", KINDS)
def test_native_code_does_what_the_interpreter_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Unit, "speed", 0)
    wrong = []
    for number in range(40):
        dice = random.Random(f"{kind}/big/{number}")
        program, prog_type = KINDS[kind](dice), dice.choice([None, "xdp", "sched_cls"])
        ours, theirs = (outcome(program, jit, prog_type, big_endian=True) for jit in ("safe", None))
        if not agree(ours, theirs):
            wrong.append((number, ours, theirs))
    assert not wrong


def test_an_object_s_order_is_its_own() -> None:
    spec = MapSpec("counts", "array", 4, 8, 4)
    with pytest.raises(UsageError, match="leave big_endian= away"):
        Machine(ObjectFile({}, {}, big_endian=True), big_endian=False)
    with pytest.raises(UsageError, match="little-endian, the program is not: give create_store its order='big'"):
        Machine(parse("exit"), maps=[create_store(spec, order="little")], big_endian=True)
    store = create_store(spec, order="big")
    store.set(bytes([0, 0, 0, 3]), bytes(7) + b"\x05")
    asm = "*(u32 *)(r10 -4) = 3\nr2 = r10\nr2 += -4\nr1 = map[counts] ll\ncall bpf_map_lookup_elem#1\n"
    asm += "if r0 == 0 goto out\nr0 = *(u64 *)(r0 +0)\nout: exit"
    assert Machine(parse(asm), maps=[store], big_endian=True).run(bytes(60)).r0 == 5
