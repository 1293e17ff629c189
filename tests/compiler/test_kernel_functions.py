"""The kernel's own functions, structures and iterators in programs."""

# ruff: noqa: E501

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ebpfkit.compiler.driver import compile_programs
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError, NotSupported, VerifierError
from ebpfkit.pipeline import verify
from tests.compiler.support import (
    agree,
    build,
    check,
    initial,
    packets,
    program,
    run_in_python,
    run_in_vm,
)
from tests.conftest import require_tool

READ = "d = pkt.read(Data)\n"
END = "\nreturn XDP_PASS\n"
BEFORE = """
from ebpfkit.dsl.kfuncs import *
table = bpf.Array[Pair](max_entries=1)
class Locked(Struct):
    lock: bpf.SpinLock
    n: u32
locked = bpf.Array[Locked](max_entries=1)
events = bpf.RingBuf[Pair](max_entries=4096)

@bpf.kfunc
def bpf_rcu_read_lock() -> None: ...
@bpf.kfunc
def bpf_rcu_read_unlock() -> None: ...
@bpf.kfunc
def bpf_cast_to_kern_ctx(ctx: object) -> bpf.Kernel: ...
@bpf.kfunc
def bpf_other(ctx: object) -> u32:
    raise NotImplementedError
@bpf.kfunc
def bpf_dynptr_is_null(ptr: bpf.Dynptr) -> bool:
    return False

class sched_info(bpf.Kernel):
    pcount: u64
class task_struct(bpf.Kernel):
    tgid: s32
    real_parent: bpf.Address
    comm: array[u8, 16]
    pid: s32
    sched_info: sched_info
class xdp_rxq_info(bpf.Kernel):
    dev: bpf.Address
    queue_index: u32
class net_device(bpf.Kernel):
    ifindex: s32
class xdp_buff(bpf.Kernel):
    frame_sz: u32
    rxq: bpf.Address

def search(d: Data, n: u32) -> u32:
    for i in bpf.iter_num(0, s32(n & 15)):
        if d.arr[i & 7] == 7:
            return u32(i)
    return u32(99)
"""

AGREED = {
    "an iterator": "for i in bpf.iter_num(0, 8):\n    d.r0 += u64(d.arr[i]) * u64(i)",
    "an end from the packet": "for i in bpf.iter_num(2, d.p32):\n    d.t32 += u32(i)\n    if i == 4:\n        continue\n    if i == 9:\n        break\nelse:\n    d.t8 = 5",
    "return out of an iterator": "d.t32 = search(d, d.x32)",
    "an iterator in an iterator": "for i in bpf.iter_num(0, 3):\n    for k in bpf.iter_num(0, 2):\n        d.t16 += u16(i * k)\n        if d.x8 == 3:\n            return XDP_TX",
    "the short exit out of an iterator": "for i in bpf.iter_num(0, 5):\n    d.t32 += table[u32(i)].a + 1",
    "a record in an iterator": "for i in bpf.iter_num(0, 5):\n    with events.record() as e:\n        if e is not None:\n            e.a = u32(i)",
    "no round": "for i in bpf.iter_num(5, 5):\n    d.t32 = 1",
    "a dynptr over the packet": "dyn = bpf.Dynptr.zero()\nd.q32 = bpf_dynptr_from_xdp(pkt, 0, dyn)\nd.t32 = bpf_dynptr_size(dyn)\nd.flag = bpf_dynptr_is_null(dyn)",
    "a slice of a dynptr": "dyn = bpf.Dynptr.zero()\nif bpf_dynptr_from_xdp(pkt, 0, dyn) != 0:\n    return XDP_ABORTED\nroom = Pair.zero()\none = bpf_dynptr_slice(dyn, 4, room, sizeof(Pair))\nif one is not None:\n    d.r1 = u64(one.a) + u64(one.b)",
    "functions without a result": "bpf_rcu_read_lock()\nd.t8 = 1\nbpf_rcu_read_unlock()",
}


@pytest.mark.parametrize("name", AGREED)
def test_every_executor_agrees(name: str, tmp_path: Path):
    prog = program(READ + AGREED[name] + END, tmp_path, BEFORE)
    compiled = check(prog, packets(), kernel=os.geteuid() == 0)
    again = program(READ + AGREED[name] + END, tmp_path, BEFORE)
    contents = initial(again)
    agree(
        run_in_vm(again, compiled, contents, packets(), jit="safe"), run_in_python(again, packets()), packets(), "jit"
    )
    assert verify(open_object(compiled.elf)).ok


@pytest.mark.kernel
def test_fields_of_a_task_are_read_where_this_kernel_has_them(tmp_path: Path):
    body = (
        READ
        + """
task = task_struct.at(helpers.get_current_task())
d.q32 = task.tgid
d.p32 = task_struct.at(task.real_parent).tgid
d.t8 = task.comm[1]
d.flag = task.sched_info.pcount > 0
"""
        + END
    )
    prog = program(body, tmp_path, BEFORE)
    data_type = prog.function.__globals__["Data"]
    done = prog.run(bytes(200), on="kernel")
    d = data_type.from_bytes(done.data[: data_type.__ebpf_type__.size])
    name = Path("/proc/self/comm").read_bytes()
    assert (d.q32, d.p32, d.t8, d.flag) == (os.getpid(), os.getppid(), name[1], True)
    relocations = open_object(build(prog).elf)
    assert prog.name in relocations.needs_target
    assert prog.verify().ok


@pytest.mark.kernel
def test_what_a_kernel_function_gives_is_read_directly(tmp_path: Path):
    body = (
        READ
        + """
buff = xdp_buff.cast(bpf_cast_to_kern_ctx(pkt))
d.t32 = buff.frame_sz
queue = xdp_rxq_info.at(buff.rxq)
d.t16 = u16(queue.queue_index)
d.q32 = net_device.at(queue.dev).ifindex
"""
        + END
    )
    prog = program(body, tmp_path, BEFORE)
    data_type = prog.function.__globals__["Data"]
    done = prog.run(bytes(200), on="kernel")
    d = data_type.from_bytes(done.data[: data_type.__ebpf_type__.size])
    assert d.t32 >= 2048 and (d.t16, d.q32) == (0, 1)


def test_two_builds_of_kernel_fields_in_one_process_are_the_same(tmp_path: Path):
    prog = program(READ + "d.q32 = task_struct.at(helpers.get_current_task()).pid" + END, tmp_path, BEFORE)
    assert build(prog).elf == build(prog).elf


def test_metadata_of_the_card_is_none_in_plain_python_and_in_the_machine(tmp_path: Path):
    body = (
        READ
        + """
stamp = array[u64, 1]()
d.q32 = bpf_xdp_metadata_rx_timestamp(pkt, stamp)
number, kind = array[u32, 1](), array[u32, 1]()
d.p32 = bpf_xdp_metadata_rx_hash(pkt, number, kind)
protocol, tci = array[be16, 1](), array[u16, 1]()
d.s0 = s64(bpf_xdp_metadata_rx_vlan_tag(pkt, protocol, tci))
d.r0 = stamp[0]
"""
        + END
    )
    prog = program(body, tmp_path, BEFORE)
    compiled = build(prog)
    agree(run_in_vm(prog, compiled, {}, packets()), run_in_python(prog, packets()), packets(), "vm")


@pytest.mark.kernel
def test_a_program_that_asks_the_card_is_loaded_for_its_device(tmp_path: Path):
    body = "stamp = array[u64, 1]()\nif bpf_xdp_metadata_rx_timestamp(pkt, stamp) == 0:\n    return XDP_TX\nreturn XDP_PASS\n"
    prog = program(body, tmp_path, BEFORE)
    ip, name = require_tool("ip"), f"fnmd{os.getpid() % 100_000}"
    with pytest.raises(VerifierError, match="device-bound"):
        prog.load()
    subprocess.run([ip, "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
    try:
        with prog.attach(name, mode="native") as link:
            assert list(link.loaded.programs) == ["prog"]
        link.close()
    finally:
        subprocess.run([ip, "link", "del", name], check=True)


def test_a_declaration_without_a_body_says_so_in_plain_python(tmp_path: Path):
    prog = program("bpf_cast_to_kern_ctx(pkt)\nreturn XDP_PASS\n", tmp_path, BEFORE)
    with pytest.raises(NotSupported, match="the kernel function bpf_cast_to_kern_ctx in plain Python"):
        prog(bytes(20))
    prog = program("bpf_other(pkt)\nreturn XDP_PASS\n", tmp_path, BEFORE)
    with pytest.raises(NotSupported, match="the kernel function bpf_other in plain Python"):
        prog(bytes(20))
    prog = program("d = pkt.read(Data)\nd.q32 = task_struct.at(5).pid\nreturn XDP_PASS\n", tmp_path, BEFORE)
    with pytest.raises(NotSupported, match="task_struct of the kernel in plain Python"):
        prog(bytes(200))


WRONG = (
    BEFORE
    + """
@bpf.kfunc
def six(a: u32, b: u32, c: u32, e: u32, f: u32, g: u32) -> u32: ...
@bpf.kfunc
def of_text(text: str) -> u32: ...
@bpf.kfunc
def gives_pair() -> Pair: ...
@bpf.kfunc
def one(n: u32) -> u32: ...
"""
)

REFUSED = {
    "another type": ("one(d.x64)", "narrowing: u32 is narrower than u64 (write the cast u32(...))"),
    "six parameters": ("six(1, 2, 3, 4, 5, 6)", "too-many-arguments: six() has 6 parameters, and a call has room for 5 ()"),
    "a parameter without a type": ("of_text('x')", "bad-annotation: the parameter text of the kernel function of_text has no type of the language (annotate a number, a structure, an array or object)"),
    "a result of the program's": ("gives_pair()", "bad-annotation: the kernel function gives_pair gives no number and no structure of the kernel's (write -> s32, -> None, or a bpf.Kernel structure)"),
    "in a lock": ("v = locked.get(0)\nif v is not None:\n    with v.lock:\n        one(3)", "in-lock: one() is called while the lock of line N is held (call it before or after the with)"),
    "an iterator in a lock": ("v = locked.get(0)\nif v is not None:\n    with v.lock:\n        for i in bpf.iter_num(0, 3):\n            v.n += 1", "in-lock: iter_num() is called while the lock of line N is held (write range())"),
    "a cursor that moves": ("for i in bpf.iter_num(0, 3):\n    pkt.read(u8)", "moving-cursor: read() moves the cursor in a loop over iter_num(), of which the verifier sees no end (write for i in range(n), or peek() without moving)"),
    "an end of 64 bits": ("for i in bpf.iter_num(0, d.x64):\n    pass", "narrowing: s32 and u64 differ in signedness (write the cast s32(...))"),
    "an iterator as a value": ("x = bpf.iter_num(0, 3)", "not-callable: iter_num() only has a meaning in a for loop (write for i in iter_num(0, n))"),
    "a field of the kernel's assigned": ("task_struct.at(5).pid = s32(4)", "read-only: a task_struct of the kernel's cannot be changed ()"),
    "a structure of the kernel's copied": ("t = task_struct.at(5).copy()", "kernel-struct: a task_struct of the kernel's cannot be copied: where its fields lie is known at load time (copy the fields that you need)"),
    "a field that is not declared": ("d.q32 = task_struct.at(5).prio", "no-such-field: task_struct has no field prio (it has tgid, real_parent, comm, pid, sched_info)"),
    "a cast of something else": ("task_struct.cast(d)", "bad-type: this is Data where what a helper or kernel function gave is wanted ()"),
    "an address that is none": ("task_struct.at(d)", "bad-type: this is Data where a u64 is wanted ()"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_is_refused(body: str, wanted: str, tmp_path: Path):
    with pytest.raises(CompileError) as caught:
        compile_programs([program(READ + body + END, tmp_path, WRONG)])
    error = caught.value
    assert error.span is not None and error.span.column > 0
    assert f"{error.code}: {re.sub(r'line [0-9]+', 'line N', error.message)} ({error.hint})" == wanted


def test_a_kernel_function_wants_a_licence(tmp_path: Path):
    prog = program("bpf_rcu_read_lock()\nreturn XDP_PASS\n", tmp_path, BEFORE + '\nLICENSE = "proprietary"\n')
    with pytest.raises(CompileError, match="only for GPL-compatible programs"):
        compile_programs([prog])
