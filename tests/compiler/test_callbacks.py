"""Functions that the kernel calls back: loops, visits of every entry, timers; the same in every executor."""

# ruff: noqa: E501

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

import ebpfkit as bpf
from ebpfkit.compiler.driver import compile_programs
from ebpfkit.dsl.execute import run_python
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError
from ebpfkit.pipeline import verify
from ebpfkit.vm import Machine
from tests.compiler.support import agree, build, check, initial, packets, program, run_in_python, run_in_vm

READ = "d = pkt.read(Data)\n"
END = "\nreturn XDP_PASS\n"
BEFORE = """
counts = bpf.Array[u64](max_entries=4)
shares = bpf.PerCpuArray[Pair](max_entries=2)
pairs = bpf.Hash[u32, Pair](max_entries=8)
pairs[1] = Pair(a=1, b=2)
wide = bpf.LruHash[Pair, u32](max_entries=8)
wide[Pair(a=7, b=8)] = 9
events = bpf.RingBuf[Pair](max_entries=4096)
prefixes = bpf.LpmTrie[IPv4Addr, u32](max_entries=4)
class Sum(Struct):
    total: u64
    n: u32
    limit: u32

def add(i: u32, s: Sum) -> bool:
    s.total += u64(i)
    s.n += 1
    return s.n >= s.limit
def add_wide(i: u64, s: Sum) -> None:
    s.total += i
def no_state(i: u32, s: None) -> bool:
    counts[0] if False else None
    found = counts.get(1)
    if found is not None:
        found.atomic_add(1)
    return i == 4
def outer(i: u32, s: Sum) -> None:
    bpf.loop(i, add_wide, s)
def visit(k: u32, v: Pair, s: Sum) -> None:
    s.total += u64(k) * u64(v.b)
    v.a += 1
def each(k: u32, v: u64, s: Sum) -> bool:
    v.atomic_add(u64(k) + 1)
    s.n += 1
    return k == 2
def of_pairs(k: Pair, v: u32, s: Sum) -> None:
    s.total += u64(k.a) + u64(k.b) + u64(v)
def share(k: u32, v: Pair, s: Sum) -> None:
    v.b += k + 1
def drop_small(k: u32, v: Pair, s: Sum) -> None:
    if v.b < s.limit:
        del pairs[k]
"""

CALLBACKS = {
    "a loop that ends by itself": "s = Sum(total=0, n=0, limit=u32(d.t8) + 1)\nd.q32 = bpf.loop(1000, add, s)\nd.r0 = s.total",
    "a loop to its end": "s = Sum(total=0, n=0, limit=99)\nd.q32 = bpf.loop(u32(d.x8) & 63, add, s)\nd.r0 = s.total",
    "an index of 64 bits": "s = Sum.zero()\nbpf.loop(7, add_wide, s)\nd.r0 = s.total",
    "no state": "d.q32 = bpf.loop(10, no_state, None)",
    "too many rounds": "s = Sum.zero()\nd.q32 = bpf.loop(d.x32 | 0x8000_0000, add_wide, s)",
    "a loop in a loop": "s = Sum.zero()\nbpf.loop(5, outer, s)\nd.r0 = s.total",
    "the same function twice": "s = Sum(total=0, n=0, limit=9)\nbpf.loop(4, add, s)\nbpf.loop(3, add, s)\nd.r0 = s.total",
    "every entry of a hash": "s = Sum.zero()\nd.s0 = pairs.for_each(visit, s)\nd.r0 = s.total",
    "an array, broken off": "s = Sum.zero()\nd.s0 = counts.for_each(each, s)\nd.t32 = s.n",
    "structures as keys": "s = Sum.zero()\nd.s0 = wide.for_each(of_pairs, s)\nd.r0 = s.total",
    "this CPU's values": "s = Sum.zero()\nd.s0 = shares.for_each(share, s)",
    "entries deleted on the way": "s = Sum(total=0, n=0, limit=u32(d.x8))\nd.s0 = pairs.for_each(drop_small, s)",
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_every_executor_agrees(name: str, tmp_path: Path):
    prog = program(READ + CALLBACKS[name] + END, tmp_path, BEFORE)
    compiled = check(prog, packets(), kernel=os.geteuid() == 0)
    again = program(READ + CALLBACKS[name] + END, tmp_path, BEFORE)
    contents = initial(again)
    agree(
        run_in_vm(again, compiled, contents, packets(), jit="safe"), run_in_python(again, packets()), packets(), "jit"
    )
    assert verify(open_object(compiled.elf)).ok


TIMERS = """
class Flow(Struct):
    timer: bpf.Timer
    packets: u64
    fired: u64
flows = bpf.Hash[u32, Flow](max_entries=8)
slots = bpf.Array[Flow](max_entries=2)
def expire(key: u32, flow: Flow) -> None:
    flow.fired += 1
    flow.packets += u64(key)
def again(key: u32, flow: Flow) -> None:
    flow.fired += 1
    if flow.fired < 3:
        flow.timer.start(1000)
"""
FLOW = """
d = pkt.read(Data)
k = d.x32 & 1
flow = flows.get(k)
if flow is None:
    flows[k] = Flow(packets=1, fired=0)
    new = flows.get(k)
    if new is None:
        return XDP_DROP
    d.s0 = new.timer.init(flows, bpf.CLOCK_MONOTONIC)
    d.p64 = new.timer.init(flows)
    d.q64 = new.timer.set_callback(expire)
    d.q32 = 1 if new.timer.start(1_000_000) == 0 else 2
    return XDP_TX
flow.packets += 1
if d.y8 & 3 == 0:
    d.s0 = flow.timer.cancel()
return XDP_PASS
"""


def shown(items: object) -> list[tuple[int, int, int]]:
    return sorted((int(k), int(v.packets), int(v.fired)) for k, v in items)  # type: ignore[attr-defined]


def test_timers_fire_in_python_and_in_the_virtual_machine(tmp_path: Path):
    prog = program(FLOW, tmp_path, TIMERS)
    machine = Machine(open_object(build(prog).elf), program="prog")
    flows = prog.function.__globals__["flows"]
    machine.clock = lambda: 0
    for frame in packets():
        python, vm = run_python(prog, frame, clock=lambda: 0), machine.run(frame, time_ns=0)
        assert (vm.r0, vm.data) == (python.action, python.data)
    assert flows.fire_timers(999_999) == machine.fire_timers(999_999) == 0
    fired = flows.fire_timers(2_000_000)
    assert fired == machine.fire_timers(2_000_000) > 0
    assert flows.fire_timers(3_000_000) == 0
    assert sum(flow.fired for flow in flows.values()) == fired
    stored = [(flows.decode_key(k), flows.decode_value(v)) for k, v in machine.maps["flows"].items()]
    assert shown(stored) == shown(flows.items())


def test_a_timer_starts_itself_again_until_its_entry_is_gone(tmp_path: Path):
    body = "flow = slots.get(1)\nif flow is None:\n    return XDP_DROP\nflow.timer.init(slots)\nflow.timer.set_callback(again)\nflow.timer.start(500, bpf.TIMER_ABSOLUTE)\nreturn XDP_PASS\n"
    prog = program(body, tmp_path, TIMERS)
    assert verify(open_object(build(prog).elf)).ok
    slots = prog.function.__globals__["slots"]
    assert run_python(prog, bytes(20), clock=lambda: 0).action == bpf.XDP_PASS
    assert slots.fire_timers(499) == 0
    assert [slots.fire_timers(now) for now in (500, 1000, 1500, 2500, 9000)] == [1, 0, 1, 1, 0]
    assert slots[1].fired == 3


@pytest.mark.kernel
def test_timers_fire_in_the_kernel(tmp_path: Path):
    wanted = program(FLOW, tmp_path, TIMERS)
    prog = program(FLOW, tmp_path, TIMERS)
    python = [run_python(wanted, frame, clock=lambda: 0) for frame in packets()]
    wanted.function.__globals__["flows"].fire_timers(2_000_000)
    with prog.load() as loaded:
        for frame, ran in zip(packets(), python, strict=True):
            live = loaded.programs["prog"].test_run(frame)
            if live.retval == bpf.XDP_TX:
                assert live.data == ran.data
        flows = prog.function.__globals__["flows"]
        deadline = time.monotonic() + 5
        while not all(flow.fired for key, flow in flows.items() if key == 1) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert {key: value for key, _, value in shown(flows.items())}[1] == 1


WRONG = (
    BEFORE
    + TIMERS
    + """
def returns_number(i: u32, s: Sum) -> u32:
    return i
def takes_one(i: u32) -> bool:
    return True
def wrong_key(k: u64, v: Pair, s: Sum) -> None:
    s.n += 1
def reads(i: u32, s: Sum) -> None:
    s.total += counts[i & 3]
def itself(i: u32, s: Sum) -> None:
    bpf.loop(2, itself, s)
def stops(key: u32, flow: Flow) -> bool:
    return True
by_flow = bpf.Array[Flow](max_entries=1)
"""
)

GET = "flow = flows.get(1)\nif flow is None:\n    return XDP_PASS\n"
REFUSED = {
    "no function": ("s = Sum.zero()\nbpf.loop(3, 4, s)", "not-a-function: loop() takes a function of the module (write a def)"),
    "a number as state": ("bpf.loop(3, add, 4)", "bad-type: the state of loop() is a local structure, or None, not int (make one here: state = State.zero())"),
    "the packet as state": ("bpf.loop(3, add, d)", "bad-type: the state of loop() is a local structure, or None, not Data in the packet (make one here: state = State.zero())"),
    "another structure": ("p = Pair.zero()\nbpf.loop(3, add, p)", "annotation: s of add() is the state, a Pair, and its annotation says Sum (write s: Pair)"),
    "a result that is no answer": ("s = Sum.zero()\nbpf.loop(3, returns_number, s)", "bad-annotation: returns_number() returns u32, which the kernel would not understand (write -> bool, where True ends it, or -> None)"),
    "too few parameters": ("s = Sum.zero()\nbpf.loop(3, takes_one, s)", "bad-call: takes_one() is called with 2 arguments (the index, the state), and takes 1 ()"),
    "too many rounds": ("s = Sum.zero()\nbpf.loop(10_000_000, add, s)", "too-large: loop() of 10000000 rounds: the kernel runs at most 8388608 (go in two loops)"),
    "the short exit": ("s = Sum.zero()\nbpf.loop(3, reads, s)", "no-short-exit: [] of a missing key may end the program, and reads() is called by the kernel (use get() or peek())"),
    "recursion": ("s = Sum.zero()\nbpf.loop(3, itself, s)", "recursion: itself calls itself, and functions cannot call themselves (write a loop)"),
    "a key of another type": ("s = Sum.zero()\npairs.for_each(wrong_key, s)", "annotation: k of wrong_key() is the key, a u32, and its annotation says u64 (write k: u32)"),
    "a map without entries": ("s = Sum.zero()\nevents.for_each(visit, s)", "bad-map-operation: a program cannot call for_each() of this RingBuf ()"),
    "a trie": ("s = Sum.zero()\nprefixes.for_each(visit, s)", "bad-map-operation: a program cannot call for_each() of this LpmTrie ()"),
    "a timer of another map": (GET + "flow.timer.init(by_flow)", "bad-timer: this timer is in no value of the map by_flow (name the map that has the value)"),
    "a timer of a local structure": ("flow = Flow(packets=1, fired=0)\nflow.timer.cancel()", "bad-timer: this timer lies in a local structure (use the one of a value that a map gave)"),
    "a timer's function that answers": (GET + "flow.timer.set_callback(stops)", "bad-annotation: stops() returns bool, which the kernel would not understand (write -> None)"),
    "a timer's unknown method": (GET + "flow.timer.stop()", "no-such-attribute: a timer has no method stop (it has init, set_callback, start, cancel)"),
    "a timer's flags": (GET + "flow.timer.start(5, 8)", "bad-flags: the flags of start() are a constant (0 or TIMER_ABSOLUTE)"),
    "a timer's clock": (GET + "flow.timer.init(flows, 4)", "bad-flags: the clock of a timer is a constant (CLOCK_MONOTONIC, CLOCK_BOOTTIME or CLOCK_REALTIME)"),
    "a timer assigned": (GET + "flow.timer = flow.timer", "read-only: a bpf_timer cannot be assigned ()"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "wanted"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_is_refused(body: str, wanted: str, tmp_path: Path):
    with pytest.raises(CompileError) as caught:
        compile_programs([program(READ + body + END, tmp_path, WRONG)])
    error = caught.value
    assert error.span is not None and error.span.column > 0
    assert f"{error.code}: {re.sub(r'line [0-9]+', 'line N', error.message)} ({error.hint})" == wanted


def test_a_map_that_can_have_no_timer_says_so():
    class Entry(bpf.Struct):
        timer: bpf.Timer

    with pytest.raises(CompileError, match="values of a PerCpuArray cannot have a timer; use a Hash or an Array"):
        bpf.PerCpuArray[Entry](max_entries=1)
