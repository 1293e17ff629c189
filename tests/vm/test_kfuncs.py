# ruff: noqa: E501 (programs stay together)
"""Kernel functions: programs of `c/kfuncs.c` get the same answers in the machine and in the kernel."""

from __future__ import annotations

import functools
import inspect
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ebpfkit.asm.insn import Instruction, KfuncRef, VarRef
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.parser import parse
from ebpfkit.btf.types import Btf, DeclTag
from ebpfkit.elf import open_object
from ebpfkit.elf.model import ObjectFile, ProgramSpec
from ebpfkit.elf.raw import program_from_code
from ebpfkit.errors import MachineFault, NotSupported, UsageError
from ebpfkit.loader.collection import Collection
from ebpfkit.vm.kfuncs import KFUNCS, UNSUPPORTED
from ebpfkit.vm.kfuncs_registry import CALLBACK_KFUNCS
from ebpfkit.vm.machine import Machine
from ebpfkit.vm.surroundings import RxMetadata
from tests.conftest import require_tool

from .both import accepted

SOURCE = Path(__file__).parent / "c" / "kfuncs.c"
PROGRAMS = ["views", "shrunken", "loops", "sections", "thrower", "strings", "lists", "trees"]
PACKETS = [bytes(range(64)), bytes(range(100, 163)), bytes(67)]


@functools.cache
def kfuncs() -> ObjectFile:
    command = [require_tool("clang"), "--target=bpf", "-O2", "-g", "-mcpu=v3", "-c", str(SOURCE), "-o", "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return open_object(done.stdout, name="kfuncs.o")


def ran(name: str, jit: str | None) -> list[Any]:
    """Of each packet the return value, the packet and the results."""
    report = accepted(*kfuncs().programs) if jit == "trusted" else None
    machine = Machine(kfuncs(), program=name, jit=jit, report=report)
    runs = []
    for packet in PACKETS:
        result = machine.run(packet)
        runs.append((result.r0 & 0xFFFF_FFFF, result.data, dict(machine.maps["results"].items())))
    return runs


@pytest.mark.kernel
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_kernel_agrees(name: str) -> None:
    with Collection.load(kfuncs(), programs=[name]) as collection:
        theirs = []
        for packet in PACKETS:
            run = collection.programs[name].test_run(packet)
            theirs.append((run.retval, run.data, dict(collection.maps["results"].items())))
    assert ran(name, None) == theirs


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("jit", ["safe", "trusted"])
def test_native_code_gets_the_same_answers(name: str, jit: str) -> None:
    assert ran(name, jit) == ran(name, None)


def code(asm: str, **refs: Any) -> list[Instruction]:
    """Assembly in which `call 9001` and so on are calls of the kernel functions given, in order."""
    names = list(refs.values())
    program = parse(asm)
    return [
        Instruction(OPCODES["CALL_KFUNC"], ref=KfuncRef(names[insn.imm - 9001]))
        if insn.op.name == "CALL" and insn.imm > 9000
        else insn
        for insn in program
    ]


@pytest.mark.parametrize("jit", [None, "safe"])
def test_a_thrown_exception_ends_the_run_and_counts_what_ran(jit: str | None) -> None:
    program = code("r6 = 9\nr1 = 55\ncall pc+1\nexit\ncall 9001\nr0 = 1\nexit", name="bpf_throw")
    result = Machine(program, None, jit=jit).run()
    assert (result.r0, result.insns) == (55, 4)
    callback = code(
        "r1 = 4\nr2 = subprog[+5] ll\nr3 = 0\nr4 = 0\ncall bpf_loop#181\nexit\nr1 = 77\ncall 9001\nexit",
        name="bpf_throw",
    )
    machine = Machine(callback, jit=jit)
    assert [(machine.run(bytes(14)).r0, machine.run(bytes(14)).insns) for _ in range(2)] == [(77, 7)] * 2


@pytest.mark.parametrize("jit", [None, "safe"])
def test_the_card_s_metadata_comes_from_the_caller(jit: str | None) -> None:
    asm = "r6 = r1\nr2 = r10\nr2 += -8\nr3 = r10\nr3 += -16\n*(u64 *)(r10 -16) = 0\n"
    stamp = code(f"{asm}call 9001\nr1 = r0\nr0 = *(u64 *)(r10 -8)\nr0 -= r1\nexit", n="bpf_xdp_metadata_rx_timestamp")
    hashed = code(f"{asm}call 9001\nr0 = *(u32 *)(r10 -8)\nr1 = *(u32 *)(r10 -16)\nr0 += r1\nexit",
                  n="bpf_xdp_metadata_rx_hash")  # fmt: skip
    tag = code(f"{asm}call 9001\nr0 = *(u16 *)(r10 -8)\nr1 = *(u16 *)(r10 -16)\nr0 <<= 16\nr0 |= r1\nexit",
               n="bpf_xdp_metadata_rx_vlan_tag")  # fmt: skip
    given = RxMetadata(timestamp=1 << 40, hash=1000, hash_type=3, vlan_tag=(0x8100, 7))
    answers = [Machine(program, jit=jit, rx_metadata=given).run(bytes(14)).r0 for program in (stamp, hashed, tag)]
    assert answers == [1 << 40, 1003, 0x0081_0007]
    assert Machine(code(f"{asm}call 9001\nexit", n="bpf_xdp_metadata_rx_hash"), jit=jit).run(bytes(14)).r0 == 2**32 - 95


@pytest.mark.parametrize("jit", [None, "safe"])
def test_what_is_not_there_is_refused_by_name(jit: str | None) -> None:
    for name, reason in UNSUPPORTED.items():
        with pytest.raises(NotSupported) as caught:
            Machine(code("call 9001\nexit", name=name), jit=jit).run(bytes(14))
        assert name in caught.value.message and reason in str(caught.value)
    with pytest.raises(NotSupported, match="bpf_nonsense"):
        Machine(code("call 9001\nexit", name="bpf_nonsense"), jit=jit).run(bytes(14))
    with pytest.raises(NotSupported, match="number 77"):
        Machine([Instruction(OPCODES["CALL_KFUNC"], imm=77), *parse("exit")], jit=jit).run(bytes(14))
    assert not set(UNSUPPORTED) & set(KFUNCS)


@pytest.mark.parametrize("jit", [None, "safe"])
def test_wrong_arguments_fault(jit: str | None) -> None:
    for asm, name, message in (
        ("r1 = r10\nr1 += -16", "bpf_dynptr_size", "no dynptr"),
        ("r1 = 5", "bpf_iter_num_next", "no memory there"),
        ("r1 = r10\nr1 += -16\nr2 = 0", "bpf_obj_drop_impl", "no object"),
        ("r1 = r10\nr1 += -16", "bpf_res_spin_unlock", "not held"),
        ("r1 = 5\nr2 = 0", "bpf_dynptr_from_xdp", "no context"),
    ):
        with pytest.raises(MachineFault, match=message):
            Machine(code(f"{asm}\nr2 = 0\nr3 = r10\nr3 += -16\ncall 9001\nexit", name=name), jit=jit).run(bytes(14))


def test_functions_that_call_back_are_known() -> None:
    calling = {name for name, row in KFUNCS.items() if "interpreter.call(" in inspect.getsource(row.function)}
    assert calling | {"bpf_throw"} == CALLBACK_KFUNCS


def wide(ref: VarRef) -> Instruction:
    return Instruction(OPCODES["LDDW_VAR"], ref=ref)


@pytest.mark.parametrize("jit", [None, "safe"])
def test_kernel_variables_come_from_the_caller(jit: str | None) -> None:
    given = {"counter": (1234).to_bytes(8, "little"), "place": 0xFFFF_8000_0000_0000}
    read = [wide(VarRef("counter")), *parse("r0 = *(u64 *)(r0 +0)\nexit")]
    assert Machine(read, None, jit=jit, kernel_symbols=given).run().r0 == 1234
    assert (
        Machine([wide(VarRef("place", kind="address")), *parse("exit")], jit=jit, kernel_symbols=given)
        .run(bytes(14))
        .r0
        == 0xFFFF_8000_0000_0000
    )
    assert Machine([wide(VarRef("nothing", weak=True)), *parse("exit")], jit=jit).run(bytes(14)).r0 == 0
    assert (
        Machine([wide(VarRef("bpf_nothing", weak=True, kind="func")), *parse("exit")], jit=jit).run(bytes(14)).r0 == 0
    )
    assert Machine([wide(VarRef("bpf_throw", kind="func")), *parse("exit")], jit=jit).run(bytes(14)).r0
    with pytest.raises(NotSupported, match=r"'nothing'.*") as caught:
        Machine([wide(VarRef("nothing")), *parse("exit")], jit=jit).run(bytes(14))
    assert "kernel_symbols={'nothing': ...}" in str(caught.value)
    with pytest.raises(MachineFault, match="read-only"):
        Machine([wide(VarRef("counter")), *parse("*(u8 *)(r0 +0) = 1\nexit")], jit=jit, kernel_symbols=given).run(
            bytes(14)
        )


def test_trusted_code_follows_no_pointer_out_of_the_machine() -> None:
    for program, message in (
        (code("r1 = 0\nr2 = 1\ncall 9001\nexit", n="bpf_rdonly_cast"), "follows what bpf_rdonly_cast gives"),
        ([wide(VarRef("counter")), *parse("exit")], "looks into the kernel variable 'counter'"),
        (parse("r1 = 0\ncall bpf_skc_to_tcp_sock#137\nexit"), "follows what bpf_skc_to_tcp_sock gives"),
    ):
        with pytest.raises(UsageError, match=message):
            Machine(program, jit="trusted", report=accepted("prog"))


def test_a_callback_for_exceptions_is_refused_by_name() -> None:
    btf = kfuncs().btf
    assert btf is not None
    tagged = Btf([*btf.types, DeclTag(name="exception_callback:handler", type=1)], big_endian=False)
    spec = program_from_code(code("r1 = 5\ncall 9001\nexit", n="bpf_throw")).replace(btf=tagged)
    with pytest.raises(NotSupported, match="exception callback") as caught:
        Machine(spec).run(bytes(14))
    assert "'handler'" in str(caught.value)


SKB_DYNPTR = {
    "sched_cls": (
        "r6 = r1\nr2 = 0\nr3 = r10\nr3 += -16\ncall 9001\nr7 = r0\nr1 = r10\nr1 += -16\ncall 9002\nr0 <<= 4\nr7 += r0\n"
        "r1 = r10\nr1 += -16\ncall 9003\nr0 <<= 8\nr7 += r0\n*(u64 *)(r10 -24) = 77\nr1 = r10\nr1 += -16\nr2 = 20\nr3 = r10\n"
        "r3 += -24\nr4 = 8\nr5 = 1\ncall bpf_dynptr_write#202\nr7 -= r0\nr1 = r10\nr1 += -16\nr2 = 60\nr3 = r10\nr3 += -24\n"
        "r4 = 8\nr5 = 0\ncall bpf_dynptr_write#202\nr7 -= r0\nr1 = r10\nr1 += -16\nr2 = 30\nr3 = r10\nr3 += -24\nr4 = 4\n"
        "call 9004\nif r0 == 0 goto out\nr1 = *(u8 *)(r0 +2)\nr7 += r1\nout: r0 = r7\nexit"
    ),
    "cgroup_skb": (
        "r6 = r1\nr2 = 0\nr3 = r10\nr3 += -16\ncall 9001\nr1 = r10\nr1 += -16\ncall 9002\nr7 = r0\nr1 = r10\nr1 += -16\n"
        "call 9003\nr0 &= 1\nr7 += r0\n*(u64 *)(r10 -24) = 77\nr1 = r10\nr1 += -16\nr2 = 2\nr3 = r10\nr3 += -24\nr4 = 8\nr5 = 0\n"
        "call bpf_dynptr_write#202\nr0 += 22\nif r0 == 0 goto out\nr7 = 0\nout: r7 &= 3\nr0 = 0\nif r7 != 1 goto end\nr0 = 1\nend: exit"
    ),
}  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize("prog_type", SKB_DYNPTR)
def test_a_dynptr_of_a_socket_buffer_is_the_kernel_s(prog_type: str) -> None:
    names = ["bpf_dynptr_from_skb", "bpf_dynptr_is_rdonly", "bpf_dynptr_size", "bpf_dynptr_slice"]
    program = code(SKB_DYNPTR[prog_type], **{name: name for name in names})
    section = {"sched_cls": "tc", "cgroup_skb": "cgroup_skb/ingress"}[prog_type]
    attach = "cgroup_inet_ingress" if prog_type == "cgroup_skb" else None
    spec = ProgramSpec("prog", section, prog_type, tuple(program), license="GPL", attach_type=attach)
    obj = ObjectFile({"prog": spec}, {}, license="GPL")
    packet = bytes(12) + b"\x08\x00" + bytes([0x45, 0, 0, 50]) + bytes(range(46))
    with Collection.load(obj) as collection:
        theirs = collection.programs["prog"].test_run(packet)
    for jit in (None, "safe"):
        ours = Machine(obj, jit=jit).run(packet)
        assert (ours.r0 & 0xFFFF_FFFF, ours.data[14:]) == (theirs.retval, theirs.data[14:])
    assert theirs.retval
