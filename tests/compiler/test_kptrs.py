"""Objects that programs allocate, and pointers to them in map values."""

# ruff: noqa: E501

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import ebpfkit as bpf
from ebpfkit.compiler.driver import compile_programs
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError
from ebpfkit.pipeline import RUNNING_BTF, open_kernel_btf
from ebpfkit.verifier import verify_program
from tests.compiler.support import build, initial, packets, program, run_in_kernel, run_in_python, run_in_vm

BEFORE = """
class Node(Struct):
    n: u64
    last: u32
    first: u16
    second: u16
class Slot(Struct):
    count: u64
    node: bpf.Kptr[Node]
slots = bpf.Array[Slot](max_entries=2)
"""
SWAP = """
d = pkt.read(Data)
slot = slots.get(d.x32 & 1)
if slot is None:
    return XDP_DROP
node = bpf.new(Node)
if node is None:
    return XDP_ABORTED
node.n = d.x64
node.last += 3
node.first, node.second = 1, 2
old = slot.node.swap(node)
slot.count += 1
if old is not None:
    d.r0 = old.n
    d.t32 = old.last + u32(old.first) + u32(old.second)
    bpf.drop(old)
    return XDP_TX
return XDP_PASS
"""
TAKE = """
d = pkt.read(Data)
slot = slots.get(0)
if slot is None:
    return XDP_DROP
old = slot.node.swap(None)
if old is None:
    new = bpf.new(Node)
    if new is None:
        return XDP_ABORTED
    old = slot.node.swap(new)
    if old is not None:
        bpf.drop(old)
    return XDP_PASS
old.n += 1
d.r0 = old.n
again = slot.node.swap(old)
if again is not None:
    bpf.drop(again)
return XDP_TX
"""


@pytest.mark.parametrize("body", [SWAP, TAKE], ids=["swap", "take"])
def test_every_executor_agrees(body: str, tmp_path: Path):
    prog = program(body, tmp_path, BEFORE)
    compiled = build(prog)
    wanted = run_in_python(prog, packets()).results
    assert {action for action, _ in wanted} >= {2, 3}
    fresh = program(body, tmp_path, BEFORE)
    for jit in (None, "safe"):
        assert run_in_vm(fresh, compiled, initial(fresh), packets(), jit=jit).results == wanted
    if os.geteuid() == 0:
        assert run_in_kernel(fresh, compiled, initial(fresh), packets()).results == wanted


@pytest.mark.kernel
def test_our_verifier_accepts_it_and_refuses_what_is_not_given_back(tmp_path: Path):
    kernel = open_kernel_btf(RUNNING_BTF)
    for body, verdict in ((SWAP, "accept"), (TAKE, "accept"), (SWAP.replace("bpf.drop(old)", "pass"), "reject")):
        obj = open_object(build(program(body, tmp_path, BEFORE)).elf)
        assert verify_program(obj.programs["prog"], kernel_btf=kernel).verdict == verdict


GET = "d = pkt.read(Data)\nslot = slots.get(0)\nnode = bpf.new(Node)\nif slot is None or node is None:\n    return XDP_DROP\n"
REFUSED = {
    "an untested object": ("node = bpf.new(Node)\nnode.n = 1", "untested-optional: this is Node | None: new() may have found nothing (test it first: if node is not None)"),
    "use after a drop": (GET + "bpf.drop(node)\nnode.n = 1", "dead-view: node died in line N, where drop() took its object ()"),
    "use after a swap": (GET + "old = slot.node.swap(node)\nnode.n = 1", "dead-view: node died in line N, where swap() took its object ()"),
    "a drop of the packet": (GET + "bpf.drop(d)", "bad-kptr: this is no object that the program has allocated (make one with bpf.new(T))"),
    "a swap of another type": (GET + "slot.node.swap(d)", "bad-type: this is Data where a Node is wanted ()"),
    "a copy": (GET + "c = node.copy()", "kernel-struct: an allocated object cannot be copied as a whole: the kernel lets programs at one member at a time (copy its fields)"),
    "a number": ("x = bpf.new(u32)", "bad-type: new() makes structures (write bpf.new(Node))"),
    "another method": (GET + "slot.node.take()", "no-such-attribute: a Kptr has no method take (it has swap)"),
    "an assignment": (GET + "slot.node = node", "read-only: a kptr cannot be assigned ()"),
    "a local one": (GET + "s = Slot(count=1)\ns.node.swap(node)", "bad-kptr: this pointer lies in a local structure (use the one of a value that a map gave)"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_is_refused(body: str, wanted: str, tmp_path: Path):
    with pytest.raises(CompileError) as caught:
        compile_programs([program(body + "\nreturn XDP_PASS\n", tmp_path, BEFORE)])
    error = caught.value
    assert error.span is not None and error.span.column > 0
    assert f"{error.code}: {re.sub(r'line [0-9]+', 'line N', error.message)} ({error.hint})" == wanted


def test_python_refuses_a_use_after_the_object_went(tmp_path: Path):
    prog = program(GET + "bpf.drop(node)\nnode.n = 1\nreturn XDP_PASS\n", tmp_path, BEFORE)
    with pytest.raises(CompileError, match="this view died: it was dropped"):
        prog(bytes(200))


def test_python_refuses_an_object_that_is_left_behind(tmp_path: Path):
    prog = program(GET + "return XDP_PASS\n", tmp_path, BEFORE)
    with pytest.raises(CompileError, match="ends with an object that was neither dropped nor put into a map's value"):
        prog(bytes(200))


def test_a_map_that_keeps_no_pointers_says_so():
    class Node(bpf.Struct):
        n: bpf.u64

    class Slot(bpf.Struct):
        node: bpf.Kptr[Node]

    with pytest.raises(CompileError, match="values of a Queue cannot have a Kptr"):
        bpf.Queue[Slot](max_entries=1)
