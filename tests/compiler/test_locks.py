"""Spin locks: held for a block and given back however it is left, in every executor."""

# ruff: noqa: E501

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ebpfkit.compiler.driver import compile_programs
from ebpfkit.errors import CompileError
from tests.compiler.support import check, packets, program

READ = "d = pkt.read(Data)\n"
END = "return XDP_PASS\n"
BEFORE = """
class Bucket(Struct):
    tokens: u32
    lock: bpf.SpinLock
    last: u64
buckets = bpf.Hash[u32, Bucket](max_entries=8)
slots = bpf.Array[Bucket](max_entries=4)
other = bpf.Array[u64](max_entries=1)
buckets[0] = Bucket(tokens=5, last=1)
def take(b: Bucket, n: u32) -> bool:
    if b.tokens < n:
        return False
    b.tokens -= n
    return True
def locked(b: Bucket) -> u32:
    with b.lock:
        if b.tokens > 3:
            return b.tokens
        b.tokens += 2
    return u32(0)
"""

BODIES = {
    "a counter": "b = slots[d.x8 & 3]\nwith b.lock:\n    b.tokens += 1\n    b.last = d.x64",
    "return inside": "b = slots[0]\nwith b.lock:\n    if d.x8 > 100:\n        return XDP_TX\n    b.tokens += 1",
    "return a value that is locked": (
        "b = slots[0]\nwith b.lock:\n    b.tokens += d.x32\n    return XDP_TX if b.tokens & 1 else XDP_DROP"
    ),
    "the token bucket": (
        "b = buckets.get(0)\nif b is None:\n    return XDP_DROP\nok = False\nwith b.lock:\n    if b.tokens > 0:\n"
        "        b.tokens -= 1\n        ok = True\n    b.last += 1\nif not ok:\n    return XDP_TX"
    ),
    "a new entry": (
        "b = buckets.get(d.x32)\nif b is None:\n    buckets[d.x32 & 7] = Bucket(tokens=d.y32, last=d.x64)\n"
        "else:\n    with b.lock:\n        b.last = d.x64"
    ),
    "a copy leaves the lock out": "b = slots[1].copy()\nb.tokens += d.x32\nslots[1] = b",
    "break inside": "b = slots[0]\nfor i in range(4):\n    with b.lock:\n        b.tokens += 1\n        if b.tokens & 1:\n            break",
    "continue inside": (
        "b = slots[0]\nfor i in range(4):\n    with b.lock:\n        b.tokens += 1\n        if b.tokens & 1:\n"
        "            continue\n        b.last += 1\n    d.r0 += 1"
    ),
    "a loop inside": "b = slots[0]\nwith b.lock:\n    for i in range(5):\n        if d.x32 >> u32(i) & 1:\n            break\n        b.tokens += 1",
    "functions inside": "b = slots[0]\nwith b.lock:\n    b.tokens = 9\n    if take(b, d.x32 & 15):\n        d.flag = True",
    "a function that locks": "d.t32 = locked(slots[0])\nd.r0 = u64(locked(slots[d.x8 & 1]))",
    "the packet inside": "b = slots[0]\nwith b.lock:\n    d.t32 = b.tokens\n    b.tokens = d.x32",
}


@pytest.mark.parametrize("name", BODIES)
def test_every_executor_agrees(name: str, tmp_path: Path):
    check(program(READ + BODIES[name] + "\n" + END, tmp_path, BEFORE), packets(), kernel=os.geteuid() == 0)


REFUSED = {
    "a map inside": ("b = slots[0]\nwith b.lock:\n    b.last = other[0]", "3:18 in-lock: map_lookup_elem() is called while the lock of line 2 is held"),
    "a helper inside": ("b = slots[0]\nwith b.lock:\n    b.last = helpers.ktime_get_ns()", "3:18 in-lock: ktime_get_ns() is called while the lock of line 2 is held"),
    "a header inside": ("b = slots[0]\nwith b.lock:\n    b.tokens = pkt.read(u32)", "3:20 in-lock: read() may end the program while the lock of line 2 is held"),
    "two locks": ("a = slots[0]\nb = slots[1]\nwith a.lock:\n    with b.lock:\n        a.tokens = b.tokens", "4:14 bad-lock: a second lock inside of another"),
    "a lock of its own": ("b = Bucket.zero()\nwith b.lock:\n    b.tokens = 1", "2:10 bad-lock: this lock lies in a local structure"),
    "no lock": ("with d.arr:\n    d.x8 = 1", "1:10 bad-type: array[u8, 8] is no lock"),
    "a name": ("b = slots[0]\nwith b.lock as n:\n    b.tokens = 1", "2:10 unsupported-syntax: a lock has no name"),
    "an assignment": ("a = slots[0]\na.lock = a.lock", "2:14 read-only: a bpf_spin_lock cannot be assigned"),
    "a look inside": ("d.t32 = slots[0].lock.val", "1:13 read-only: only the kernel looks into a bpf_spin_lock"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_the_kernel_forbids_is_refused(body: str, wanted: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, BEFORE)
    first = prog.function.__code__.co_firstlineno + 2
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    error = caught.value
    assert error.span is not None
    message = error.message.replace(f"line {first + 2}", "line 2")
    assert f"{error.span.line - first}:{error.span.column} {error.code}: {message}" == wanted


def test_plain_python_refuses_the_same(tmp_path: Path):
    for name in ("a map inside", "a helper inside", "two locks", "a lock of its own", "an assignment"):
        prog = program(f"{READ}{REFUSED[name][0]}\n{END}", tmp_path, BEFORE)
        with pytest.raises(CompileError) as caught:
            prog(bytes(200))
        assert caught.value.code == REFUSED[name][1].split()[1].rstrip(":")


def test_only_maps_that_the_kernel_allows_have_locks(tmp_path: Path):
    for kind in ("LruHash[u32, Bucket]", "PerCpuArray[Bucket]", "Queue[Bucket]", "RingBuf[Bucket]"):
        with pytest.raises(CompileError, match=r"values of a \w+ cannot have a spin lock"):
            program("return XDP_PASS\n", tmp_path, BEFORE + f"bad = bpf.{kind}(max_entries=4096)\n")
