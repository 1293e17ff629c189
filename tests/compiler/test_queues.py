"""Queues, stacks, bloom filters and redirect targets: the same results and the same contents in every executor."""

# ruff: noqa: E501

from __future__ import annotations

import os
from pathlib import Path

import pytest

import ebpfkit as bpf
from ebpfkit.compiler.driver import compile_programs
from ebpfkit.dsl.execute import run_python
from ebpfkit.errors import CompileError, MapError, MapKeyError, UsageError
from tests.compiler.support import check, load_module, module_text, packets, program

READ = "d = pkt.read(Data)\n"
END = "return XDP_PASS\n"
BEFORE = """
waiting = bpf.Queue[Pair](max_entries=3)
numbers = bpf.Stack[u32](max_entries=4)
macs = bpf.Queue[MAC](max_entries=2)
known = bpf.BloomFilter[u32](max_entries=64)
pairs = bpf.BloomFilter[Pair](max_entries=64)
devices = bpf.DevMap(max_entries=4)
by_number = bpf.DevMapHash(max_entries=4)
cpus = bpf.CpuMap(max_entries=4)
waiting.push(Pair(a=1, b=2))
waiting.push(Pair(a=3, b=4))
numbers.push(10)
numbers.push(20)
known.add(5)
devices[1] = 1
by_number[200] = "lo"
cpus[0] = 64
"""

OPERATIONS = {
    "push a structure": "d.s0 = waiting.push(Pair(a=d.x32, b=1))",
    "push what lies in the packet": "p = pkt.read(Pair)\nwaiting.push(p)",
    "push until full": "for i in range(5):\n    d.s0 += waiting.push(Pair(a=d.x32, b=d.y32))",
    "push over the oldest": "for i in range(5):\n    d.s0 += waiting.push(Pair(a=d.x32, b=d.y32), replace=True)",
    "pop a structure": "p = waiting.pop()\nif p is not None:\n    d.r0 = u64(p.a) << 32 | u64(p.b)\nelse:\n    d.r0 = 1",
    "pop all": "for _ in range(4):\n    p = waiting.pop()\n    if p is None:\n        break\n    d.r0 += u64(p.a)",
    "peek a structure": "p = waiting.peek()\nif p is not None:\n    p.a += 1\n    d.r0 = u64(p.a)",
    "pop a scalar": "if (n := numbers.pop()) is not None:\n    d.t32 = n",
    "peek a scalar": "n = numbers.peek()\nif n is None:\n    d.t32 = 7\nelse:\n    d.t32 = n + 1",
    "a stack turns round": "numbers.push(d.x32)\nnumbers.push(d.y32)\nn = numbers.pop()\nif n is not None:\n    d.t32 = n",
    "addresses": "macs.push(d.mac)\nm = macs.pop()\nif m is not None:\n    d.mac2 = m",
    "known from before": "d.flag = u32(5) in known",
    "not known": "d.flag = d.x32 not in known",
    "known from now on": "known.add(d.x32)\nd.flag = d.x32 in known",
    "structures that are known": "p = Pair(a=d.x32, b=2)\npairs.add(p)\nif p in pairs:\n    return XDP_TX",
    "to a device": "return devices.redirect(1)",
    "to no device": "return devices.redirect(2, otherwise=XDP_TX)",
    "to a device by number": "return by_number.redirect(200, XDP_DROP)",
    "to what may be no device": "return by_number.redirect(d.x32, otherwise=XDP_PASS)",
    "to a CPU": "return cpus.redirect(0)",
    "to no CPU": "return cpus.redirect(1, otherwise=XDP_DROP)",
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_executor_agrees(name: str, tmp_path: Path):
    check(program(READ + OPERATIONS[name] + "\n" + END, tmp_path, BEFORE), packets(), kernel=os.geteuid() == 0)


def test_user_space_fills_and_reads(tmp_path: Path):
    module = load_module(module_text("pkt.read(u8)\nreturn devices.redirect(1)\n", BEFORE), tmp_path)
    assert module.numbers.pop() == 20 and module.numbers.peek() == 10 and module.numbers.pop() == 10
    assert module.numbers.pop() is None
    module.waiting.push(module.Pair(a=9, b=9))
    with pytest.raises(MapError, match="E2BIG"):
        module.waiting.push(module.Pair(a=9, b=9))
    assert 5 in module.known and 6 not in module.known
    assert module.devices[1] == 1
    with pytest.raises(MapKeyError, match="no device at 0"):
        module.devices[0]
    with pytest.raises(UsageError, match="no network device 'nowhere0'"):
        module.devices[0] = "nowhere0"
    assert run_python(module.prog, bytes(20)).redirect == ("devices", 1)


@pytest.mark.kernel
def test_contents_from_before_the_load_are_in_the_kernel(tmp_path: Path):
    module = load_module(module_text("n = numbers.pop()\nif n is None:\n    return XDP_DROP\nreturn XDP_TX if n == 20 and u32(5) in known else XDP_PASS\n", BEFORE), tmp_path)  # fmt: skip
    assert module.prog.run(bytes(20), on="kernel").action == bpf.XDP_TX
    with module.prog.load() as loaded:
        assert loaded.collection.programs["prog"].test_run(bytes(20)).retval == bpf.XDP_TX
        assert module.numbers.pop() == 10
        module.numbers.push(3)
        assert module.numbers.peek() == 3 and 5 in module.known


REFUSED = {
    "get of a queue": ("n = waiting.get(1)", "a program cannot call get() of this Queue (it has push, pop, peek)"),
    "untested pop": ("d.t32 = numbers.pop() + 1", "this is u32 | None: numbers.pop() may have found nothing (test it first: if x is not None)"),
    "wrong value": ("numbers.push(d.x64)", "u32 is narrower than u64 (write the cast u32(...))"),
    "filter": ("known.remove(5)", "a program cannot call remove() of this BloomFilter (it has add, in)"),
    "device": ("devices[1] = 2", "a program cannot reach the entries of this DevMap ()"),
    "verdict": ("return devices.redirect(1, otherwise=XDP_REDIRECT)", "otherwise= is one of XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX ()"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_is_refused(body: str, wanted: str, tmp_path: Path):
    prog = program(READ + body + "\n" + END, tmp_path, BEFORE + "from ebpfkit import XDP_REDIRECT\n")
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert f"{caught.value.message} ({caught.value.hint})" == wanted
