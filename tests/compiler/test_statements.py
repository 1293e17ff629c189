"""`match` over tuples and structures, `assert`, `trace`, and records in a `with` block: the same in every executor."""

# ruff: noqa: E501

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ebpfkit.compiler.driver import compile_programs
from ebpfkit.dsl.execute import run_python
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError
from ebpfkit.verifier import verify_program
from ebpfkit.vm.machine import Machine
from tests.compiler.support import build, check, packets, program, run_in_kernel
from tests.compiler.test_maps import MAPS

READ = "d = pkt.read(Data)\n"
END = "return XDP_PASS\n"
BEFORE = (
    MAPS
    + """
events = bpf.RingBuf[Pair](max_entries=4096)
other = bpf.RingBuf[Pair](max_entries=4096)
class Locked(Struct):
    lock: bpf.SpinLock
    n: u32
locks = bpf.Array[Locked](max_entries=2)
def which(h: Pair | Nested) -> u32:
    match h:
        case Pair(a=0):
            return u32(1)
        case Pair():
            return u32(2)
        case Nested(first=Pair(b=0)):
            return u32(3)
    return u32(4)
def keep(n: u32, stop: bool) -> None:
    with events.record() as e:
        if e is None or stop:
            return
        e.a = n
def small(n: u8) -> u8:
    assert n < 8, "an index"
    return n
"""
)

BODIES = {
    "a tuple": "match d.x8, d.y8:\n    case (1, 2) | (7, _):\n        d.r0 = 1\n    case (0, n) if n < 100:\n        d.r0 = n\n    case (Kind.HIGH, Kind.HIGH):\n        d.r0 = 5\n    case (a, b):\n        d.r0 = 9\n        d.r1 = a",
    "a tuple of another length": "match d.x8, d.y8:\n    case (1, 2, 3):\n        d.r0 = 1\n    case _:\n        d.r0 = 2",
    "tuples in tuples": "match (d.x8, 7), d.y8:\n    case (0, 7), 0:\n        d.r0 = 1\n    case (_, 8), _:\n        d.r0 = 2\n    case _, 0:\n        d.r0 = 3",
    "an optional number": "match counts.get(d.x8):\n    case None:\n        d.r0 = 1\n    case 5:\n        d.r0 = 2\n    case n:\n        d.r0 = n + 1",
    "an optional number in an or": "match counts.get(d.x8):\n    case 5 | None:\n        d.r0 = 2\n    case _:\n        d.r0 = 3",
    "an optional structure": "n = wide.get(d.x64)\nmatch n:\n    case None:\n        wide[d.x64] = Pair(a=1, b=2)\n    case Pair(a=1, b=b):\n        d.t32 = b\n        n.a = 2\n    case Pair() as p:\n        p.a += 1",
    "a field with alternatives": "match pairs.get(d.x8 & 7):\n    case Pair(a=3 | 0) | None:\n        d.r1 = 1\n    case _:\n        d.r1 = 2",
    "a header that fits": "match pkt.peek(Pair):\n    case Pair(a=0):\n        return XDP_TX\n    case Pair(a=a) if a > 1000:\n        d.t32 = a\n    case None:\n        return XDP_DROP",
    "structures by their types": "p = Pair(a=d.x32 & 1, b=1)\nd.t32 = which(p) + which(pkt.read(Nested)) * 10",
    "a name for alternatives": "match d.x8:\n    case (1 | 2 | 7) as n:\n        d.r0 = n\n    case 0:\n        d.r0 = 77",
    "addresses": "match d.ip, d.mac:\n    case (_, m) if m == d.mac2:\n        d.r0 = 1\n    case (ip, _):\n        d.r0 = u64(ip.to_host())",
    "assert ends as a short packet does": "assert d.x8 < 16\nd.arr[0] = d.y8\nassert d.y8 & 1 == 0, 'even'\nd.r0 = table[d.x8]",
    "assert shows what it tests": "n = d.x8\nassert n < 8\nd.arr[n] = 9\np = counts.get(d.x8)\nassert p is not None\nd.r0 = p",
    "assert in a function": "d.arr[small(d.x8)] = 5",
    "assert of a constant": "assert SEVEN == 7\nd.r0 = 1\nassert DEBUG\nd.r0 = 2",
    "a record": "with events.record() as e:\n    if e is not None:\n        e.a = d.x32\n        if d.x8 & 1:\n            e.discard()\n        elif d.x8 & 2:\n            return XDP_TX\n        d.r0 = table[d.y8 & 31]",
    "a record in a loop": "for i in range(3):\n    with events.record() as e:\n        if e is None:\n            break\n        e.a = d.x32\n        if d.x8 & 1:\n            e.discard()\n            continue\n        e.b = 1\n        assert d.y8 & 1 == 0",
    "a record in a function": "keep(d.x32, d.x8 > 9)\nkeep(d.y32, False)",
    "a record that is submitted early": "with events.record() as e:\n    if e is not None:\n        e.a = 5\n        e.submit()\n    d.r0 = table[d.x8]",
    "blocks in blocks": "l = locks[0]\nwith events.record() as e:\n    if e is None:\n        return XDP_DROP\n    e.a = 3\n    with l.lock:\n        l.n += 1\n        if d.x8 & 1:\n            return XDP_TX\n    with other.record() as o:\n        if o is not None:\n            o.a = e.a\n            if d.x8 & 2:\n                e.discard()\n                d.r0 = table[d.y8]\n            o.b = 4",
    "every way out of a block": "n = d.x8 & 3\nwhile n > 0:\n    n -= 1\n    with events.record() as e:\n        if e is not None:\n            e.a = u32(n)\n            match d.y8 & 3:\n                case 0:\n                    continue\n                case 1:\n                    e.discard()\n                case _:\n                    assert d.x16 & 1",
    "a block in a loop that is unrolled": "for k in (1, 2, 3):\n    with events.record() as e:\n        if e is None:\n            continue\n        e.a = k\n        if d.x8 == k:\n            break\n        for i in range(4):\n            if d.arr[i] == 7:\n                break\n            e.b += 1",
    "reserve in a loop": "for i in range(3):\n    e = events.reserve()\n    if e is None:\n        break\n    e.a = d.x32\n    if d.x8 & 1:\n        e.discard()\n        continue\n    e.submit()",
}  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_statement_means_the_same_everywhere(body: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, BEFORE)
    compiled = check(prog, packets(4), kernel=True)
    report = verify_program(open_object(compiled.elf).programs["prog"])
    assert report.verdict == "accept", report.message


LINES = {
    "three numbers": ("bpf.trace(f'x {d.x8} {d.x16:04x} {d.p32}')", "x 0 0000 0"),
    "many numbers": (
        "bpf.trace(f'{SEVEN}% {d.x64} {d.p64:5} {d.n16} {d.n32:08X} {d.y8:03d}')",
        "7% 0     0 0 00000000 000",
    ),
    "addresses": ("bpf.trace(f'{d.ip} <- {d.mac} {d.n64}')", "0.0.0.0 <- 00:00:00:00:00:00 0"),
    "plain text": ("bpf.trace('100%')", "100%"),
    "constants": ("bpf.trace(f'{Kind.HIGH} {TYPED:x} {PORTS[0]}')", "200 5 53"),
}


@pytest.mark.kernel
@pytest.mark.parametrize(("body", "of_zeros"), LINES.values(), ids=LINES)
def test_a_line_is_the_same_everywhere(body: str, of_zeros: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, MAPS)
    compiled = build(prog)
    machine = Machine(open_object(compiled.elf), program="prog")
    lines = []
    for frame in packets(4):
        lines.append(run_python(prog, frame).traced)
        assert machine.run(frame).printed == lines[-1]
    assert lines[4] == (of_zeros,)
    run_in_kernel(prog, compiled, {}, packets(4))
    assert verify_program(open_object(compiled.elf).programs["prog"]).verdict == "accept"
    assert prog.run(bytes(200), on="interpreter").traced == prog.run(bytes(200), on="python").traced == (of_zeros,)


REFUSED = {
    "a star in a pattern": ("match d.x8, d.y8:\n    case (a, *b):\n        pass", "unsupported-syntax"),
    "a tuple pattern for a number": ("match d.x8:\n    case (1, 2):\n        pass", "bad-type"),
    "a class that is no structure": ("match d.x8:\n    case int():\n        pass", "bad-type"),
    "a structure for a number": ("match d.x8:\n    case Pair():\n        pass", "bad-type"),
    "fields without names": ("match pairs[0]:\n    case Pair(1, 2):\n        pass", "bad-call"),
    "a field that is not there": ("match pairs[0]:\n    case Pair(c=1):\n        pass", "no-such-field"),
    "a name in an or-pattern": ("match d.x8:\n    case (1 as n) | (2 as n):\n        pass", "unsupported-syntax"),
    "text that is computed": ("assert d.x8, f'{d.x8}'", "unsupported-syntax"),
    "trace of a number": ("bpf.trace(d.x8)", "bad-type"),
    "trace of two": ("bpf.trace('a', 'b')", "bad-call"),
    "trace of a truth value": ("bpf.trace(f'{d.flag}')", "bad-format"),
    "trace of an IPv6 address": ("bpf.trace(f'{d.ip6}')", "bad-format"),
    "hexadecimal of a signed number": ("bpf.trace(f'{d.p8:x}')", "bad-format"),
    "a width of its own": ("bpf.trace(f'{d.x8:{d.y8}}')", "bad-format"),
    "an alignment": ("bpf.trace(f'{d.x8:<5}')", "bad-format"),
    "a conversion": ("bpf.trace(f'{d.x8!r}')", "bad-format"),
    "too many values": ("bpf.trace(f'{d.mac} {d.mac2} {d.x8}')", "bad-format"),
    "too long a text": (f"bpf.trace('{'x' * 300}')", "bad-format"),
    "a record without a name": ("with events.record():\n    pass", "unsupported-syntax"),
    "record outside of a with": ("e = events.record()", "unsupported-syntax"),
    "a record used behind its block": (
        "with events.record() as e:\n    pass\nif e is not None:\n    e.a = 1",
        "dead-view",
    ),
    "a record finished on some paths": (
        "with events.record() as e:\n    if e is not None:\n        if d.x8:\n            e.discard()\n        e.a = 1",
        "dead-view",
    ),
    "two things in a with": ("with events.record() as e, events.record() as f:\n    pass", "unsupported-syntax"),
    "something else in a with": ("with d.x8 as x:\n    pass", "bad-type"),
}


@pytest.mark.parametrize(("body", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_has_its_code_and_place(body: str, code: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, BEFORE)
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert caught.value.code == code and "^" in caught.value.render()


def test_only_gpl_programs_trace(tmp_path: Path):
    prog = program("bpf.trace('hello')\nreturn XDP_PASS\n", tmp_path, "LICENSE = 'Apache-2.0'\n")
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert caught.value.code == "gpl-only"
    plain = program("return XDP_PASS\n", tmp_path, "bpf.trace\n")
    with pytest.raises(CompileError, match="only in a running program"):
        plain.function.__globals__["bpf"].trace("x")


def test_plain_python_without_asserts_is_refused(tmp_path: Path):
    path = tmp_path / "asserting.py"
    path.write_text(
        "import ebpfkit as bpf\nfrom ebpfkit import Packet, u8\n@bpf.xdp\ndef prog(pkt: Packet) -> bpf.XdpAction:\n"
        "    assert pkt.read(u8) < 5\n    return bpf.XDP_PASS\nprint(int(prog(bytes(64))))\n"
    )
    assert subprocess.run([sys.executable, path], capture_output=True, text=True, check=True).stdout == "2\n"
    done = subprocess.run([sys.executable, "-O", path], capture_output=True, text=True, check=False)
    assert "UsageError: python -O has removed the asserts of prog()" in done.stderr
