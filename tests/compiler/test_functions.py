"""Functions that stay functions: `@noinline` and `@global_func` mean the same in every executor."""

# ruff: noqa: E501

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ebpfkit.compiler.driver import Compiled, compile_programs
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError
from ebpfkit.pipeline import verify
from ebpfkit.vm import Machine
from tests.compiler.support import agree, check, initial, packets, program, run_in_python, run_in_vm

READ = "d = pkt.read(Data)\n"
END = "\nreturn XDP_PASS\n"
BEFORE = """
table = bpf.Hash[u32, Pair](max_entries=4)
table[1] = Pair(a=5, b=6)
counts = bpf.Array[u64](max_entries=4)
events = bpf.RingBuf[Pair](max_entries=4096)

@bpf.noinline
def mix(a: u32, b: u8, c: bool, e: s16 = s16(3)) -> s64:
    return s64(a) + s64(b) if c else s64(e)
@bpf.noinline
def five(a: u32, b: u32, c: u32, e: u32, f: u32) -> u32:
    return a + b * 2 + c * 3 + e * 4 + f * 5
@bpf.noinline
def next_pair(pkt: Packet) -> u32:
    return pkt.read(Pair).a
@bpf.noinline
def twice(pkt: Packet) -> u64:
    return u64(next_pair(pkt)) << 32 | u64(next_pair(pkt))
@bpf.noinline
def of_packet(d: Data, n: u32) -> u32:
    d.t16 = 7
    return d.x32 + n
@bpf.noinline
def at(pkt: Packet, d: Data) -> u8:
    return d.arr[d.x8 & 7]
@bpf.noinline
def bump(p: Pair) -> None:
    p.a += 1
@bpf.noinline
def look(n: u32) -> u32:
    return table[n].a
@bpf.noinline
def mac_of(m: MAC) -> u8:
    return m[5] if m != MAC("00:00:00:00:00:00") else u8(77)
@bpf.noinline
def tag(pkt: Packet) -> None:
    pkt.push_head(4)
    pkt.read(u32)
@bpf.noinline
def count(n: u32) -> bool:
    here = counts.get(n & 3)
    if here is None:
        return False
    here.atomic_add(2)
    return True
class Locked(Struct):
    lock: bpf.SpinLock
    n: u32
locked = bpf.Array[Locked](max_entries=2)
@bpf.noinline
def note(n: u32) -> u32:
    with events.record() as e:
        if e is None:
            return u32(1)
        e.a = n
        if n & 1 == 1:
            return u32(2)
        if n & 2 == 2:
            e.discard()
            return u32(3)
    return u32(4)
@bpf.noinline
def add_up(n: u32) -> bool:
    v = locked.get(n & 1)
    if v is None:
        return False
    with v.lock:
        v.n += n
        if v.n > 1000:
            v.n = 0
            return True
    return False
@bpf.noinline
def note_packet(pkt: Packet, n: u32) -> u32:
    with events.record() as e:
        if e is not None:
            e.a = pkt.read(u32)
            e.b = locked[n & 3].n
    return n
@bpf.noinline
def even(n: be16) -> XdpAction:
    return XDP_TX if n.to_host() & 1 == 0 else XDP_DROP

@bpf.global_func
def add(a: u64, b: u32) -> u64:
    return a + u64(b)
@bpf.global_func
def first_of(a: u32, b: u32, ok: bool) -> u32:
    return a
@bpf.global_func
def always() -> u32:
    return u32(7)
@bpf.global_func
def change(p: Pair, n: u8) -> u32:
    p.b += u32(n)
    return p.a
@bpf.global_func(short=9)
def deep(pkt: Packet, skip: u16) -> u32:
    pkt.skip(skip & 0xFF)
    return pkt.read(u32)
@bpf.global_func
def cut(pkt: Packet) -> None:
    pkt.trim(8)
@bpf.global_func
def sized(pkt: Packet) -> XdpAction:
    return XDP_TX if len(pkt) > 160 else XDP_DROP
def inlined(n: u32) -> u64:
    return add(u64(n), n)
"""

FUNCTIONS = {
    "numbers of all widths": "d.s0 = mix(d.x32, d.x8, d.y8 > 3)",
    "a default": "d.s0 = mix(d.x32, d.x8, False)",
    "a literal and a name": "d.s0 = mix(7, b=u8(2), c=True, e=d.p16)",
    "five arguments": "d.t32 = five(d.x32, d.y32, 3, d.x32, u32(d.x8))",
    "the cursor goes along and comes back": "d.t32 = next_pair(pkt) + next_pair(pkt)\nd.r0 = u64(pkt.read(u8))",
    "a function in a function": "d.r0 = twice(pkt)",
    "in a loop": "for _ in range(3):\n    d.t32 += next_pair(pkt)",
    "a view of the packet": "d.t32 = of_packet(d, d.y32)",
    "an index into the packet": "d.t8 = at(pkt, d)",
    "a local structure": "p = Pair(a=d.x32, b=0)\nbump(p)\nbump(p)\nd.t32 = p.a",
    "a map's value": "p = table.get(1)\nif p is not None:\n    bump(p)",
    "one of each in one program": "p = Pair(a=d.x32, b=0)\nbump(p)\nq = table.get(1)\nif q is not None:\n    bump(q)\n    d.t32 = p.a + q.a",
    "a missing key leaves the program": "d.t32 = look(d.x32 & 1)",
    "an address": "d.t8 = mac_of(d.mac) + mac_of(MAC('02:00:00:00:00:01'))",
    "moving the packet": "tag(pkt)\ne = pkt.read(Pair)\ne.a = 5",
    "a map inside": "d.flag = count(d.x32)",
    "a map inside and outside": "d.r0 = counts[1]\nd.flag = count(u32(d.x8))\ncounts[2] = u64(d.x8)\nd.r1 = counts[2]",
    "inside of a with block": "with events.record() as e:\n    if e is not None:\n        e.a = look(d.x32 & 1)",
    "a record inside, left in every way": "d.t32 = note(d.x32)",
    "a lock inside": "d.flag = add_up(d.x32)",
    "records inside and outside": "with events.record() as e:\n    if e is not None:\n        e.b = note(d.x32)\n        d.t32 = note_packet(pkt, d.x32)",
    "a verdict of network order": "return even(d.n16)",
    "a statement": "count(1)\ncount(u32(d.x8))",
    "global numbers": "d.r0 = add(d.x64, d.y32) + add(1, 2)",
    "a global function changes a local structure": "p = Pair(a=d.x32, b=1)\nd.t32 = change(p, d.x8) + p.b",
    "a global function changes a map's value": "p = table.get(1)\nif p is not None:\n    d.t32 = change(p, 3)",
    "a global function changes the packet": "p = pkt.read(Pair)\nd.t32 = change(p, 3)",
    "a global function begins at the packet's first byte": "d.t32 = deep(pkt, d.t16) + pkt.read(u32)",
    "a global function moves the packet": "cut(pkt)\nd = pkt.read(Data)\nd.t8 = 3",
    "a global function that ignores arguments": "d.t32 = first_of(d.x32, d.y32, True)",
    "a global function that is a constant": "d.t32 = always()",
    "a global verdict": "return sized(pkt)",
    "a global one through an inlined one": "d.r0 = inlined(d.x32)",
}


def run_everywhere(body: str, folder: Path, before: str = BEFORE) -> Compiled:
    prog = program(READ + body + END, folder, before)
    compiled = check(prog, packets(), kernel=os.geteuid() == 0)
    again = program(READ + body + END, folder, before)
    contents = initial(again)
    agree(
        run_in_vm(again, compiled, contents, packets(), jit="safe"), run_in_python(again, packets()), packets(), "jit"
    )
    return compiled


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_executor_agrees(name: str, tmp_path: Path):
    compiled = run_everywhere(FUNCTIONS[name], tmp_path)
    assert verify(open_object(compiled.elf)).ok
    assert any(function.linkage != "program" for function in compiled.functions)


def test_a_shape_is_compiled_once(tmp_path: Path):
    compiled = run_everywhere("p = Pair(a=1, b=1)\nbump(p)\nq = Pair(a=2, b=1)\nbump(q)\nd.t32 = p.a + q.a", tmp_path)
    assert [f.name for f in compiled.functions] == ["prog", "bump"]


def test_another_shape_has_a_name_of_its_own(tmp_path: Path):
    compiled = run_everywhere(FUNCTIONS["one of each in one program"], tmp_path)
    assert [f.name for f in compiled.functions] == ["prog", "bump", "bump_2"]


def test_programs_of_one_object_share_a_function(tmp_path: Path):
    from tests.compiler.support import load_module, module_text

    text = module_text(READ + "d.r0 = add(d.x64, 1)" + END, BEFORE)
    text += "@bpf.xdp\ndef other(pkt: Packet) -> XdpAction:\n    return XDP_TX if add(1, 2) == 3 else XDP_DROP\n"
    module = load_module(text, tmp_path)
    compiled = compile_programs([module.prog, module.other])
    assert [f.name for f in compiled.functions] == ["prog", "other", "add"]
    machine = Machine(open_object(compiled.elf), program="other")
    assert machine.run(bytes(20)).r0 == 3


REFUSING = (
    BEFORE
    + """
@bpf.noinline
def again(n: u32) -> u32:
    return again(n - 1)
@bpf.noinline
def ping(n: u32) -> u32:
    return pong(n)
def pong(n: u32) -> u32:
    return ping(n)
@bpf.noinline
def six(a: u32, b: u32, c: u32, e: u32, f: u32, g: u32) -> u32:
    return a
@bpf.noinline
def needs_one_more(pkt: Packet, a: u32, b: u32, c: u32, e: u32) -> u32:
    return pkt.read(u32) + a + b + c + e
@bpf.noinline
def no_result(n: u32):
    return n
@bpf.noinline
def returns_view(p: Pair) -> Pair:
    return p
@bpf.noinline
def untyped(n) -> u32:
    return u32(n)
@bpf.noinline
def without_packet(d: Data) -> u8:
    return d.arr[d.x8 & 7]
@bpf.noinline
def says_none(n: u32) -> None:
    return n
@bpf.noinline
def forgets(n: u32) -> u32:
    if n:
        return n
@bpf.global_func
def global_untyped(n) -> u32:
    return u32(n)
@bpf.global_func
def of_type(kind: type[Pair]) -> u32:
    return u32(sizeof(kind))
class Locked(Struct):
    lock: bpf.SpinLock
    n: u32
locked = bpf.Array[Locked](max_entries=1)
"""
)

REFUSED = {
    "itself": ("d.t32 = again(3)", "recursion: again calls itself, and functions cannot call themselves (write a loop)"),
    "two": ("d.t32 = ping(3)", "recursion: ping calls pong, which calls ping, and functions cannot call themselves (write a loop)"),
    "six arguments": ("d.t32 = six(1, 2, 3, 4, 5, 6)", "too-many-arguments: six() has 6 arguments; a call has room for 5 (put some of them into a structure, or remove the decorator)"),
    "one too many": ("d.t32 = needs_one_more(pkt, 1, 2, 3, 4)", "too-many-arguments: needs_one_more() has 5 arguments, and one that it needs itself since it reads the packet or may take the short exit; a call has room for 5 (put some of them into a structure, or remove the decorator)"),
    "no result": ("d.t32 = no_result(3)", "bad-annotation: the result of no_result() has no annotation (write -> None, -> u32 or another type)"),
    "a structure": ("p = returns_view(Pair.zero())", "bad-annotation: returns_view() returns Pair, and a result is one number (fill a structure that the caller passes, or return u64)"),
    "a literal": ("d.t32 = untyped(3)", "no-width: n is given an int of no width (annotate it: n: u32)"),
    "without the packet": ("d.t8 = without_packet(d)", "no-packet: without_packet() does not know where the packet ends (give without_packet() the packet as well)"),
    "none": ("says_none(3)", "annotation: says_none() returns u32, and its annotation says None (annotate the result, or return nothing)"),
    "no value": ("d.t32 = forgets(3)", "no-return: forgets() can end without a result (return a value at the end)"),
    "untested": ("bump(table.get(1))", "untested-optional: this is Pair | None: table.get() may have found nothing (test it first: if x is not None)"),
    "too narrow": ("d.t32 = of_packet(d, d.x64)", "narrowing: u32 is narrower than u64 (write the cast u32(...))"),
    "another structure": ("bump(d)", "bad-type: this is Data where a Pair is wanted ()"),
    "global without annotation": ("d.t32 = global_untyped(d.x32)", "bad-annotation: the parameter n of the global function global_untyped() has no annotation (write n: u32 or another type)"),
    "global with a type": ("d.t32 = of_type(Pair)", "bad-type: kind of the global function of_type() is the type Pair (pass numbers, structures and the packet)"),
    "a dead view": ("tag(pkt)\nd.t8 = 1", "dead-view: d died in line 88, where tag() moved the packet's bounds (read the header again)"),
    "in a lock": ("v = locked.get(0)\nif v is not None:\n    with v.lock:\n        count(1)", "in-lock: count() is called while the lock of line 90 is held (call it before or after the with, or without the decorator)"),
    "a lock": ("v = locked.get(0)\nif v is not None:\n    bump(v.lock)", "bad-type: this is bpf_spin_lock where a Pair is wanted ()"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_is_refused(body: str, wanted: str, tmp_path: Path):
    import re

    with pytest.raises(CompileError) as caught:
        compile_programs([program(READ + body + END, tmp_path, REFUSING)])
    error = caught.value
    assert error.span is not None and error.span.column > 0
    said = f"{error.code}: {error.message} ({error.hint})"
    assert re.sub(r"line \d+", "line N", said) == re.sub(r"line \d+", "line N", wanted)


def test_a_lambda_is_no_function(tmp_path: Path):
    import ebpfkit as bpf

    with pytest.raises(CompileError, match="@noinline decorates a function, not a int"):
        bpf.noinline(3)  # type: ignore[type-var]
