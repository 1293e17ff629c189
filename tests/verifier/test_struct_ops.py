"""Functions of structures of kernel operations, and writes into the kernel's structures: ours against the kernel's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cases import program
from judged import assert_agrees

from ebpfkit.btf.types import Struct
from ebpfkit.btf.vmlinux import read_btf_file
from ebpfkit.elf import open_object
from ebpfkit.elf.model import ProgramSpec
from ebpfkit.verifier import verify_program
from tests.conftest import require_tool

if TYPE_CHECKING:
    from verifier_kernel import KernelOracle

TCP, DUMMY = "tcp_congestion_ops", "bpf_dummy_ops"
SOCK = "r2 = *(u64 *)(r1 + 0)"
STATE = "r1 = *(u64 *)(r1 + 0); if r1 == 0 goto +1"
SOCKOPT = "r1 = *(u64 *)(r1 + 0); r2 = 1; r3 = 2; r4 = r10; r4 += -8; r5 = 4"

# name -> (verdict, structure/member, program; {NAME} is the offset of a member of tcp_sock)
CASES = {
    "returns a number": ("accept", f"{TCP}/ssthresh", "r0 = 10; exit"),
    "returns a pointer": ("accept", f"{TCP}/ssthresh", "r0 = r1; exit"),
    "returns what was never written": ("reject", f"{TCP}/ssthresh", "exit"),
    "has no result": ("accept", f"{TCP}/cong_avoid", "exit"),
    "a member that takes no program": ("reject", f"{TCP}/get_info", "r0 = 0; exit"),
    "reads the socket": ("accept", f"{TCP}/ssthresh", f"{SOCK}; r0 = *(u32 *)(r2 + 0); exit"),
    "the socket is a wider one": ("accept", f"{TCP}/undo_cwnd", f"{SOCK}; r0 = *(u32 *)(r2 + {{snd_cwnd}}); exit"),
    "a number as an argument": ("accept", f"{TCP}/cong_avoid", "r2 = *(u32 *)(r1 + 8); exit"),
    "one argument too many": ("reject", f"{TCP}/ssthresh", "r2 = *(u64 *)(r1 + 16); r0 = 0; exit"),
    "half of a pointer": ("reject", f"{TCP}/ssthresh", "r2 = *(u32 *)(r1 + 0); r0 = 0; exit"),
    "writes the context": ("reject", f"{TCP}/ssthresh", "*(u64 *)(r1 + 0) = 1; r0 = 0; exit"),
    "writes the window": ("accept", f"{TCP}/ssthresh", f"{SOCK}; *(u32 *)(r2 + {{snd_cwnd}}) = 1; r0 = 0; exit"),
    "writes a byte of the window": (
        "accept",
        f"{TCP}/ssthresh",
        f"{SOCK}; *(u8 *)(r2 + {{snd_cwnd}}) = 1; r0 = 0; exit",
    ),
    "writes behind the window": ("reject", f"{TCP}/ssthresh", f"{SOCK}; *(u64 *)(r2 + {{snd_cwnd}}) = 1; r0 = 0; exit"),
    "adds to the window at once": (
        "accept",
        f"{TCP}/ssthresh",
        f"{SOCK}; r3 = 1; lock *(u32 *)(r2 + {{snd_cwnd}}) += r3; r0 = 0; exit",
    ),
    "writes through a moved pointer": (
        "accept",
        f"{TCP}/ssthresh",
        f"{SOCK}; r2 += {{snd_cwnd}}; *(u32 *)(r2 + 0) = r2; r0 = 0; exit",
    ),
    "writes its own part of the socket": ("accept", f"{TCP}/init", f"{SOCK}; *(u32 *)(r2 + 1300) = 1; exit"),
    "writes another member": ("reject", f"{TCP}/ssthresh", f"{SOCK}; *(u32 *)(r2 + 0) = 1; r0 = 0; exit"),
    "writes another structure": (
        "reject",
        f"{TCP}/pkts_acked",
        f"{SOCK}; r2 = *(u64 *)(r1 + 8); *(u32 *)(r2 + 0) = 1; exit",
    ),
    "writes what was read out of it": (
        "reject",
        f"{TCP}/ssthresh",
        f"{SOCK}; r3 = *(u64 *)(r2 + 24); *(u32 *)(r3 + 0) = 1; r0 = 0; exit",
    ),
    "sends an acknowledgement": ("accept", f"{TCP}/ssthresh", "r1 = *(u64 *)(r1 + 0); r2 = 0; call 116; r0 = 0; exit"),
    "options of the socket": ("accept", f"{TCP}/init", f"{SOCKOPT}; call 57; exit"),
    "options of a socket that is let go": ("reject", f"{TCP}/release", f"{SOCKOPT}; call 57; exit"),
    "a tail call": ("accept", f"{TCP}/cong_avoid", "r2 = map[progs] ll; r3 = 0; call 12; exit"),
    "the state may be missing": ("reject", f"{DUMMY}/test_1", "r1 = *(u64 *)(r1 + 0); r0 = *(u32 *)(r1 + 0); exit"),
    "the state is there": ("accept", f"{DUMMY}/test_1", f"{STATE}; *(u32 *)(r1 + 0) = 3; r0 = 0; exit"),
    "the end of the state": ("accept", f"{DUMMY}/test_1", f"{STATE}; *(u16 *)(r1 + 2) = 3; r0 = 0; exit"),
    "behind the state": ("reject", f"{DUMMY}/test_1", f"{STATE}; *(u32 *)(r1 + 4) = 3; r0 = 0; exit"),
    "more than the state": ("reject", f"{DUMMY}/test_1", f"{STATE}; r2 = *(u64 *)(r1 + 0); r0 = 0; exit"),
    "the state of the second": (
        "accept",
        f"{DUMMY}/test_2",
        "r1 = *(u64 *)(r1 + 0); *(u32 *)(r1 + 0) = 3; r0 = 0; exit",
    ),
    "a helper of other operations": (
        "reject",
        f"{DUMMY}/test_2",
        "r1 = *(u64 *)(r1 + 0); r2 = 0; call 116; r0 = 0; exit",
    ),
}
SLEEPING = {
    f"{TCP}/ssthresh": "accept", f"{DUMMY}/test_1": "reject", f"{DUMMY}/test_sleepable": "accept",
}  # fmt: skip


def build(target: str, text: str, flags: int = 0, license: str = "GPL") -> ProgramSpec:
    kernel = read_btf_file()
    sock = kernel.find("tcp_sock", Struct)
    assert sock is not None
    window = sock.member("snd_cwnd")
    assert window is not None
    spec = program(text.replace("{snd_cwnd}", str(window.offset)), "struct_ops", flags=flags, license=license)
    return spec.replace(attach_type="struct_ops", attach_target=target)


@pytest.mark.kernel
@pytest.mark.parametrize("name", CASES)
def test_functions_of_operations(name: str, oracle: KernelOracle) -> None:
    verdict, target, text = CASES[name]
    assert_agrees(build(target, text), verdict, oracle, oracle.types)


@pytest.mark.kernel
@pytest.mark.parametrize("target", SLEEPING)
def test_functions_that_sleep(target: str, oracle: KernelOracle) -> None:
    assert_agrees(build(target, "r0 = 0; exit", flags=1 << 4), SLEEPING[target], oracle, oracle.types)


@pytest.mark.kernel
def test_operations_are_for_gpl_programs(oracle: KernelOracle) -> None:
    assert_agrees(build(f"{TCP}/ssthresh", "r0 = 0; exit", license="x"), "reject", oracle, oracle.types)


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["congestion", "dummy_ops"])
def test_operations_of_an_object(name: str, oracle: KernelOracle, tmp_path: Path) -> None:
    require_tool("clang")
    clang = shutil.which("clang") or "clang"
    source = Path(__file__).parents[1] / "elf/c" / f"{name}.c"
    command = [clang, "--target=bpf", "-O2", "-g", "-w", "-c", source.name, "-o", str(tmp_path / "o.o")]
    subprocess.run(command, cwd=source.parent, check=True)
    programs = open_object(tmp_path / "o.o").programs
    assert programs
    for spec in programs.values():
        assert_agrees(spec, "accept", oracle, oracle.types)


def test_an_operation_of_no_structure_has_no_verdict() -> None:
    report = verify_program(program("r0 = 0; exit", "struct_ops"), kernel_btf=read_btf_file())
    assert report.verdict == "unsupported" and "no structure of .struct_ops names" in report.message


LOOKUP = (
    "r3 = 0; *(u64 *)(r10 - 8) = r3; *(u64 *)(r10 - 16) = r3; *(u64 *)(r10 - 24) = r3; *(u64 *)(r10 - 32) = r3;"
    "r2 = r10; r2 += -16; r3 = 12; r4 = r10; r4 += -32; r5 = 12; call {lookup}; if r0 == 0 goto +4;"
    "{store}; r1 = r0; call {release}; r0 = 0; r0 = 0; exit"
)
MARKS = {
    "the mark": ("accept", "*(u32 *)(r0 + {mark}) = 1"),
    "a byte of the mark": ("accept", "*(u8 *)(r0 + {mark}) = 1"),
    "more than the mark": ("reject", "*(u64 *)(r0 + {mark}) = 1"),
    "the status": ("reject", "*(u64 *)(r0 + 128) = 1"),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", MARKS)
@pytest.mark.parametrize("prog_type", ["xdp", "sched_cls"])
def test_writes_into_a_tracked_connection(name: str, prog_type: str, oracle: KernelOracle) -> None:
    from ebpfkit.asm.insn import KfuncRef
    from ebpfkit.asm.isa import OPCODES

    connection = oracle.types.find("nf_conn", Struct)
    if connection is None:
        pytest.skip("a kernel without connection tracking")
    member = connection.member("mark")
    assert member is not None
    verdict, store = MARKS[name]
    text = LOOKUP.format(lookup=1001, release=1002, store=store.format(mark=member.offset))
    spec = program(text, prog_type)
    names = {1001: f"bpf_{'xdp' if prog_type == 'xdp' else 'skb'}_ct_lookup", 1002: "bpf_ct_release"}
    insns = tuple(
        insn.replace(op=OPCODES["CALL_KFUNC"], imm=0, ref=KfuncRef(names[insn.imm])) if insn.imm in names else insn
        for insn in spec.instructions
    )
    assert_agrees(spec.replace(instructions=insns), verdict, oracle, oracle.types)
