"""The task that runs and its memory in user space: from the caller's tables, with the kernel's error numbers."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import pytest

from ebpfkit.asm.insn import Instruction, Register, VarRef
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import MachineFault, NotSupported
from ebpfkit.loader.collection import Collection
from ebpfkit.vm.machine import Machine
from ebpfkit.vm.objects import PidNamespace, Task

from .both import object_of

PACKET = bytes(range(64))


def signed(r0: int) -> int:
    return r0 - (1 << 64) if r0 >> 63 else r0


def test_who_it_is() -> None:
    asm = """
        call bpf_get_current_pid_tgid#14
        r6 = r0
        call bpf_get_current_uid_gid#15
        r6 ^= r0
        r1 = r10
        r1 += -8
        r2 = 8
        call bpf_get_current_comm#16
        r1 = *(u64 *)(r10 -8)
        r6 ^= r1
        r0 = r6
        exit
    """
    task = Task(pid=12, tgid=10, uid=1000, gid=100, comm="curl-and-more")
    expected = (10 << 32 | 12) ^ (100 << 32 | 1000) ^ int.from_bytes(b"curl-an\0", "little")
    assert Machine(object_of(asm), task=task).run(PACKET).r0 == expected
    with pytest.raises(NotSupported, match="task="):
        Machine(object_of(asm)).run(PACKET)


def namespace_program(device: int, inode: int, size: int = 8) -> str:
    return f"""
        r6 = r1
        r1 = {device} ll
        r2 = {inode} ll
        r3 = r10
        r3 += -8
        r4 = {size}
        call bpf_get_ns_current_pid_tgid#120
        r7 = r0
        r1 = r6
        r2 = 0
        r3 = r10
        r3 += -8
        r4 = 8
        call bpf_xdp_store_bytes#190
        r0 = r7
        exit
    """


@pytest.mark.kernel
@pytest.mark.parametrize("case", ["right", "another device", "another inode", "a wrong size"])
def test_ids_in_a_namespace(case: str) -> None:
    status = os.stat("/proc/self/ns/pid")
    device = status.st_dev + (case == "another device")
    inode = status.st_ino + (case == "another inode")
    obj = object_of(namespace_program(device, inode, 4 if case == "a wrong size" else 8))
    with Collection.load(obj) as collection:
        theirs = collection.programs["prog"].test_run(PACKET)
    space = PidNamespace(status.st_dev, status.st_ino, os.getpid(), os.getpid())
    ours = Machine(obj, task=Task(pid_namespace=space)).run(PACKET)
    skipped = 4 if case == "a wrong size" else 0  # what is not cleared differs
    assert (ours.r0 & 0xFFFF_FFFF, ours.data[skipped and 8 :]) == (theirs.retval, theirs.data[skipped and 8 :])
    assert (theirs.retval == 0) == (case == "right")


def test_control_groups_of_the_task() -> None:
    groups = MapSpec("groups", "cgroup_array", 4, 4, 3)
    task = Task(cgroup_id=9, cgroup_ancestors=(1, 5))

    def run(asm: str) -> int:
        machine = Machine(object_of(asm + "\nexit", [groups]), task=task)
        machine.maps["groups"].set(bytes(4), (5).to_bytes(4, "little"))
        machine.maps["groups"].set(b"\1\0\0\0", (6).to_bytes(4, "little"))
        return signed(machine.run(PACKET).r0)

    assert run("call bpf_get_current_cgroup_id#80") == 9
    levels = [run(f"r1 = {level}\ncall bpf_get_current_ancestor_cgroup_id#123") for level in (0, 1, 2, 3, -1)]
    assert levels == [1, 5, 9, 0, 0]
    under = [run(f"r1 = map[groups] ll\nr2 = {at}\ncall bpf_current_task_under_cgroup#37") for at in (0, 1, 2, 3)]
    assert under == [1, 0, -11, -7]


def test_signals_are_recorded() -> None:
    done = Machine(object_of("r1 = 9\ncall bpf_send_signal#109\nexit"), task=Task()).run(PACKET)
    assert done.r0 == 0 and [(effect.name, dict(effect.values)) for effect in done.effects] == [
        ("send_signal", {"signal": 9})
    ]
    assert signed(Machine(object_of("r1 = 65\ncall bpf_send_signal#109\nexit"), task=Task()).run(PACKET).r0) == -22


def test_storage_of_the_task() -> None:
    storage = MapSpec("store", "task_storage", 4, 8, 0, 1)
    asm = """
        call bpf_get_current_task_btf#158
        r6 = r0
        r1 = map[store] ll
        r2 = r6
        r3 = 0
        r4 = 1
        call bpf_task_storage_get#156
        if r0 == 0 goto none
        r7 = *(u64 *)(r0 +0)
        r7 += 1
        *(u64 *)(r0 +0) = r7
        r0 = r7
        if r7 != 3 goto out
        r1 = map[store] ll
        r2 = r6
        call bpf_task_storage_delete#157
        out:
        exit
        none:
        r0 = 99
        exit
    """
    machine = Machine(object_of(asm, [storage]), task=Task(pid=12))
    assert [machine.run(PACKET).r0 for _ in range(4)] == [1, 2, 0, 1]
    assert machine.maps["store"].get((12).to_bytes(4, "little")) == (1).to_bytes(8, "little")


# --- user space -------------------------------------------------------------------------------------------------------

READS = {"probe_read_user": 112, "probe_read_user_str": 114}


def read_program(name: str, address: int, size: int) -> str:
    return f"""
        r6 = r1
        *(u64 *)(r10 -16) = -1
        *(u64 *)(r10 -8) = -1
        r1 = r10
        r1 += -16
        r2 = {size}
        r3 = {address} ll
        call bpf_{name}#{READS[name]}
        r7 = r0
        r1 = r6
        r2 = 0
        r3 = r10
        r3 += -16
        r4 = 16
        call bpf_xdp_store_bytes#190
        r0 = r7
        exit
    """


@pytest.mark.kernel
@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(("offset", "size"), [(0, 16), (0, 5), (0, 4), (3, 8), (0, 1), (0, 0), (-4096, 8)])
def test_memory_of_user_space(name: str, offset: int, size: int) -> None:
    """A test run in the kernel sees the memory of this process."""
    held = ctypes.create_string_buffer(b"text\0more" + bytes(20), 32)
    start = ctypes.addressof(held)
    address = 4096 if offset < 0 else start + offset
    obj = object_of(read_program(name, address, size))
    with Collection.load(obj) as collection:
        theirs = collection.programs["prog"].test_run(PACKET)
    ours = Machine(obj, user_memory={start: held.raw}).run(PACKET)
    assert (ours.r0 & 0xFFFF_FFFF, ours.data) == (theirs.retval, theirs.data)


def test_memory_that_was_not_given_is_asked_for() -> None:
    obj = object_of(read_program("probe_read_user", 4096, 8))
    with pytest.raises(NotSupported, match="user_memory="):
        Machine(obj).run(PACKET)


def test_ticks_of_the_clock() -> None:
    obj = object_of("call bpf_jiffies64#118\nexit")
    assert Machine(obj, hz=250, clock=lambda: 1_500_000_000).run(PACKET).r0 == 375


def test_variables_of_each_cpu() -> None:
    """A pointer to one is only good for asking; a CPU that is not there has none."""

    def run(call: str, cpu: int = 0, given: object = (b"\5\0\0\0", b"\7\0\0\0")) -> int:
        load = Instruction(OPCODES["LDDW_VAR"], Register(1), ref=VarRef("counter"))
        code = [load, *parse(f"{call}\nif r0 == 0 goto out\nr0 = *(u32 *)(r0 +0)\nout:\nexit")]
        symbols: dict[str, Any] = {"counter": given}
        return Machine(code, cpus=2, kernel_symbols=symbols).run(PACKET, cpu=cpu).r0

    of_cpu = "r2 = {0}\ncall bpf_per_cpu_ptr#153"
    assert [run(of_cpu.format(cpu)) for cpu in (0, 1, 2)] == [5, 7, 0]
    assert [run("call bpf_this_cpu_ptr#154", cpu) for cpu in (0, 1)] == [5, 7]
    with pytest.raises(MachineFault, match="read of 4 bytes at offset 0 of the per-CPU variable counter"):
        run("r0 = r1")
    with pytest.raises(MachineFault, match="give kernel_symbols a tuple"):
        run("call bpf_this_cpu_ptr#154", given=b"\5\0\0\0")
