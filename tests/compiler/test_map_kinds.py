"""Maps beyond tables of values: flags, redirects with programs, maps of maps, perf events; each in every executor."""

# ruff: noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import ebpfkit as bpf
from ebpfkit.compiler.driver import compile_programs
from ebpfkit.dsl.execute import run_python
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError, MapError, MapKeyError, UsageError
from ebpfkit.verifier import verify_program
from ebpfkit.vm.machine import Machine
from tests.compiler.support import PRELUDE, build, check, load_module, on_one_cpu, packets, program
from tests.compiler.test_maps import MAPS

READ = "d = pkt.read(Data)\n"
END = "return XDP_PASS\n"
BEFORE = (
    MAPS
    + """
devs = bpf.DevMap(max_entries=4)
devp = bpf.DevMapHash(max_entries=4, programs=True)
cpus = bpf.CpuMap(max_entries=2, programs=True)
events = bpf.RingBuf[Pair](max_entries=4096)
"""
)
BODIES = {
    "set": "d.s0 = counts.set(d.x8, d.x64)\nd.p32 = s32(counts.set(200, 6, flags=bpf.BPF_EXIST))\nd.p64 = table.set(d.x8, 7)\nd.q64 = trie.set(d.ip, 3)\npairs.set(1, Pair(a=1, b=d.x32))",
    "set of a new key alone": "if counts.set(d.y8, 5, bpf.BPF_NOEXIST) == -17:\n    d.r0 = 1\nd.s0 = counts.set(1, 6, bpf.BPF_NOEXIST)",
    "set of a key that is there": "d.s0 = counts.set(d.y8, 5, bpf.BPF_EXIST)\nd.p64 = wide.set(d.x64, Pair(a=1, b=2), bpf.BPF_EXIST)",
    "set in a per-CPU map": "d.s0 = cpuh.set(d.x16, Pair(a=1, b=2))\nd.p64 = cpu.set(d.x8, 9)",
    "delete": "d.s0 = counts.delete(d.x8)\nd.p64 = counts.delete(1)\nd.q64 = trie.delete(d.ip)\nif counts.delete(7) != 0:\n    d.r0 = 1",
    "broadcast": "if d.x8 & 1:\n    return devs.broadcast(exclude_ingress=True)\nif d.x8 & 2:\n    return devp.broadcast()\nreturn devp.redirect(7, XDP_TX)",
    "cpus with programs": "return cpus.redirect(0, otherwise=XDP_DROP)",
}  # fmt: skip
REFUSED = {
    "flags of a map": ("counts.set(1, 2, d.x64)", "bad-flags"),
    "other flags": ("counts.set(1, 2, 7)", "bad-flags"),
    "set without a value": ("counts.set(1)", "bad-call"),
    "delete in an array": ("table.delete(1)", "no-such-attribute"),
    "broadcast to CPUs": ("return cpus.broadcast()", "no-such-attribute"),
    "broadcast to some": ("return devs.broadcast(exclude_ingress=d.flag)", "bad-call"),
    "items": ("counts.items()", "user-space-only"),
}


@pytest.mark.kernel
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_operation_means_the_same_everywhere(body: str, tmp_path: Path):
    end = "" if body.splitlines()[-1].startswith("return") else END
    prog = program(f"{READ}{body}\n{end}", tmp_path, BEFORE)
    compiled = check(prog, packets(4), kernel=True)
    report = verify_program(open_object(compiled.elf).programs["prog"])
    assert report.verdict == "accept", report.message


@pytest.mark.parametrize(("body", "code"), REFUSED.values(), ids=REFUSED)
def test_what_a_map_has_not_is_refused(body: str, code: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, BEFORE)
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert caught.value.code == code and "^" in caught.value.render()


def test_user_space_stores_with_flags():
    m = bpf.Hash[bpf.u32, bpf.u64](max_entries=2, name="m")
    assert m.set(1, 5, bpf.BPF_NOEXIST) == 0
    with pytest.raises(MapError, match="EEXIST"):
        m.set(1, 6, bpf.BPF_NOEXIST)
    with pytest.raises(MapKeyError):
        m.set(2, 6, bpf.BPF_EXIST)
    assert m.delete(1) == 0
    with pytest.raises(MapKeyError):
        m.delete(1)
    with pytest.raises(CompileError, match="BPF_ANY, BPF_NOEXIST or BPF_EXIST"):
        m.set(1, 6, 9)


# Redirect targets with programs

TARGETS = """
devs = bpf.DevMap(max_entries=4, programs=True)
cpus = bpf.CpuMap(max_entries=4, programs=True)
plain = bpf.DevMap(max_entries=4)
seen = bpf.Array[u32](max_entries=2)
@bpf.xdp
def prog(pkt: Packet) -> XdpAction:
    return devs.redirect(1, otherwise=XDP_DROP)
@bpf.xdp
def spread(pkt: Packet) -> XdpAction:
    return cpus.redirect(0)
@bpf.xdp(at="devmap")
def leaving(pkt: Packet) -> XdpAction:
    seen[0] = pkt.egress_ifindex
    return XDP_PASS
@bpf.xdp(at="cpumap")
def arrived(pkt: Packet) -> XdpAction:
    seen[1] = pkt.ingress_ifindex
    return XDP_PASS
"""


@pytest.mark.kernel
def test_targets_have_programs_of_their_own(tmp_path: Path):
    m = load_module(PRELUDE + TARGETS, tmp_path)
    with bpf.load([m.prog, m.spread, m.leaving, m.arrived]) as loaded:
        m.devs[1] = "lo", loaded.programs["leaving"]
        m.devs[2] = 1
        m.cpus[0] = 128, loaded.programs["arrived"]
        assert m.devs[1] == m.devs[2] == 1
        assert m.devs.program_id(1) == loaded.programs["leaving"].id and m.devs.program_id(2) == 0
        assert m.cpus.program_id(0) == loaded.programs["arrived"].id
        with pytest.raises(MapError):  # a program for a device does not fit a CPU
            m.cpus[1] = 128, loaded.programs["leaving"]
        assert loaded.programs["prog"].test_run(bytes(64)).retval == bpf.XDP_REDIRECT
        with pytest.raises(UsageError, match="programs=True"):
            m.plain[0] = "lo", loaded.programs["leaving"]


# Maps of maps

NESTED = """
tables = bpf.ArrayOfMaps(bpf.Hash[u8, u64](max_entries=16), max_entries=4)
byip = bpf.HashOfMaps(u8, bpf.Array[Pair](max_entries=8), max_entries=16)
one = bpf.Hash[u8, u64](max_entries=16, name="one")
two = bpf.Hash[u8, u64](max_entries=32, name="two")
arr = bpf.Array[Pair](max_entries=8, name="arr")
def begin():
    for m in (one, two, arr, tables, byip):
        m.close()
    one[7] = 9
    tables[0] = one
    tables[2] = two
    byip[7] = arr
    byip[0] = arr
begin()
def bump(m: bpf.Hash[u8, u64], k: u8) -> u64:
    n = m.get(k)
    if n is None:
        m[k] = 1
        return u64(0)
    n.atomic_add(1)
    return n
"""
IN_NESTED = """
t = tables.get(d.x8 & 3)
if t is None:
    return XDP_TX
d.r0 = bump(t, d.y8 & 7)
t[5] = d.x64
t.set(6, 4, bpf.BPF_NOEXIST)
if 7 in t:
    d.r1 = t[7]
    t[7] += 1
    del t[5]
if (a := byip.get(d.x8)) is not None:
    a[d.y8 & 7].a += 1
    a[1] = Pair(a=1, b=d.x32)
    p = a.get(9)
    if p is None:
        d.r2 = 5
d.flag = d.y8 in byip
tables[0][3] = 8
d.q64 = s64(tables[d.y8 & 3][3])
"""


def _inside(names: dict[str, Any]) -> list[dict[bytes, bytes]]:
    return [dict(names[name].store.items()) for name in ("one", "two", "arr")]


@pytest.mark.kernel
def test_maps_of_maps_mean_the_same_everywhere(tmp_path: Path):
    prog = program(f"{READ}{IN_NESTED}\n{END}", tmp_path, MAPS + NESTED)
    names, frames = prog.function.__globals__, packets(6)
    assert verify_program(open_object(build(prog).elf).programs["prog"]).verdict == "accept"
    wanted = [(ran.action, ran.data) for ran in (run_python(prog, frame) for frame in frames)]
    inside = _inside(names)
    assert len({action for action, _ in wanted}) == 3
    for on in ("interpreter", "jit"):
        names["begin"]()
        assert [(ran.action, ran.data) for ran in (prog.run(frame, on=on) for frame in frames)] == wanted
        assert _inside(names) == inside
    names["begin"]()
    with bpf.load(prog) as loaded:
        runs = [loaded.programs["prog"].test_run(frame) for frame in frames]
        assert [(ran.retval, ran.data) for ran in runs] == wanted
        assert _inside(names) == inside
        three = bpf.Hash[bpf.u8, bpf.u64](max_entries=16, name="three")
        three[1] = 77
        names["tables"][0] = three  # exchanged while the program may run
        loaded.programs["prog"].test_run(bytes(200))
        assert dict(three.items()) == {1: 77, 0: 1, 5: 0, 6: 4, 3: 8}
    assert dict(names["one"].items()) == {7: 9}  # in memory again
    assert prog.run(frames[0], on="kernel").data == prog.run(frames[0], on="python").data


@pytest.mark.kernel
def test_results_and_comparisons_look_into_maps_of_maps(tmp_path: Path):
    from ebpfkit.testing import diff_run

    prog = program(f"{READ}{IN_NESTED}\n{END}", tmp_path, MAPS + NESTED)
    frame = bytes(300)
    wanted = {0: {7: 10, 6: 4, 3: 8, 0: 1}, 2: {}}
    for on in ("kernel", "python", "interpreter"):
        prog.function.__globals__["begin"]()
        assert prog.run(frame, on=on).maps["tables"] == wanted, on
    prog.function.__globals__["begin"]()
    diff_run(prog, [frame, *packets(4)])


def test_only_maps_like_the_pattern_go_in():
    tables = bpf.ArrayOfMaps(bpf.Array[bpf.u64](max_entries=4), max_entries=2, name="tables")
    with pytest.raises(UsageError, match="not like the pattern"):
        tables[0] = bpf.Array[bpf.u64](max_entries=5)
    with pytest.raises(MapError, match="E2BIG"):
        tables[5] = bpf.Array[bpf.u64](max_entries=4)
    with pytest.raises(CompileError, match="cannot be in a map"):
        bpf.ArrayOfMaps(tables, max_entries=1)
    with pytest.raises(CompileError, match="not a int"):
        bpf.ArrayOfMaps(5, max_entries=1)  # type: ignore[type-var]
    inner = bpf.Array[bpf.u64](max_entries=4)
    tables[1] = inner
    inner[2] = 6
    assert tables[1][2] == 6 and 0 not in tables
    del tables[1]
    with pytest.raises(MapKeyError):
        tables[1]


MORE_NESTED = {
    "a name that two look-ups give": "t = tables.get(d.x32 & 7)\nif t is None:\n    t = tables.get(0)\nif t is not None:\n    d.r0 = u64(t.set(1, 5) == 0)",
    "in a loop": "for i in range(4):\n    t = tables.get(u32(i))\n    if t is None:\n        continue\n    t[1] = u64(d.x8)",
    "a ring buffer": "r = rings.get(d.x32 & 1)\nif r is not None:\n    r.output(Pair(a=1, b=d.x32))\n    with r.record() as e:\n        if e is not None:\n            e.a = 2",
    "prefixes": "t = tries.get(d.x8 & 1)\nif t is not None:\n    t[d.ip] = 5\n    v = t.get(d.ip)\n    if v is not None:\n        d.t32 = v",
}  # fmt: skip
INNERS = """
rings = bpf.ArrayOfMaps(bpf.RingBuf[Pair](max_entries=4096), max_entries=4)
tries = bpf.HashOfMaps(u8, bpf.LpmTrie[IPv4Addr, u32](max_entries=4), max_entries=4)
tries[1] = bpf.LpmTrie[IPv4Addr, u32](max_entries=4, name="trie_in")
"""


@pytest.mark.kernel
@pytest.mark.parametrize("body", MORE_NESTED.values(), ids=MORE_NESTED)
def test_maps_in_maps_are_used_as_any(body: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, MAPS + NESTED + INNERS)
    compiled = check(prog, packets(4), kernel=True)
    report = verify_program(open_object(compiled.elf).programs["prog"])
    assert report.verdict == "accept", report.message


NESTED_REFUSED = {
    "a second name": ("t = tables[0]\nu = t", "struct-alias"),
    "an inner map untested": ("d.r0 = tables.get(1)[2]", "untested-optional"),
    "storing a map": ("tables[0] = one", "bad-map-operation"),
    "deleting a map": ("del byip[0]", "bad-map-operation"),
    "a field of a map": ("t = tables[0]\nd.r0 = t.max_entries", "read-only"),
    "what an inner map has not": ("t = byip[0]\nt.delete(1)", "no-such-attribute"),
}


@pytest.mark.parametrize(("body", "code"), NESTED_REFUSED.values(), ids=NESTED_REFUSED)
def test_what_maps_of_maps_have_not_is_refused(body: str, code: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, MAPS + NESTED)
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert caught.value.code == code


# Perf events

SENDS = """
d.s0 = ev.output(pkt, Pair(a=d.x32, b=5), packet=d.x8 & 63)
if d.y8 & 1:
    d.p64 = ev.output(pkt, Pair(a=1, b=2))
d.q64 = ev.output(pkt, Pair(a=1, b=2), packet=20)
"""


def _events(ev: Any, found: Sequence[Any]) -> list[tuple[bytes, bytes]]:
    return [(bytes(event.record), event.packet) for event in found]


@pytest.mark.kernel
def test_perf_events_arrive_with_the_packet(tmp_path: Path):
    prog = program(f"{READ}{SENDS}{END}", tmp_path, "ev = bpf.PerfEventArray[Pair]()\n")
    ev, frames = prog.function.__globals__["ev"], packets(4)
    compiled = build(prog)
    assert verify_program(open_object(compiled.elf).programs["prog"]).verdict == "accept"
    wanted = [(ran.action, ran.data) for ran in (run_python(prog, frame) for frame in frames)]
    events = _events(ev, ev.poll(0))
    assert len(events) > 10 and len({len(packet) for _, packet in events}) > 4
    machine = Machine(open_object(compiled.elf), program="prog")
    assert [(ran.r0, bytes(ran.data)) for ran in (machine.run(frame) for frame in frames)] == wanted
    assert [(data[:8], data[8:]) for _, data in machine.maps["ev"].events] == events
    with on_one_cpu(), bpf.load(prog) as loaded:
        assert ev.poll(0) == []  # opens the channels
        runs = [loaded.programs["prog"].test_run(frame) for frame in frames]
        assert [(ran.retval, ran.data) for ran in runs] == wanted
        live = _events(ev, ev.poll(1))
        assert [record for record, _ in live] == [record for record, _ in events]
        for (_, sent), (_, got) in zip(events, live, strict=True):
            assert got.startswith(sent) and len(got) < len(sent) + 8
        assert ev.lost == 0 and ev.poll(0) == []
        loaded.programs["prog"].test_run(frames[5], repeat=20_000)
        ev.poll(0)
        loaded.programs["prog"].test_run(frames[5])  # the next event tells how many were lost
        ev.poll(0)
        assert ev.lost > 0


def test_events_want_the_packet_and_a_size_that_is_known(tmp_path: Path):
    for body, code in {
        "ev.output(Pair(a=1, b=2))": "bad-call",
        "ev.output(d, Pair(a=1, b=2))": "bad-type",
        "ev.output(pkt, Pair(a=1, b=2), packet=d.x32)": "bad-size",
        "ev.output(pkt, Pair(a=1, b=2), packet=d.p32)": "bad-size",
        "ev.output(pkt, 5)": "bad-type",
        "ev.poll(0)": "user-space-only",
    }.items():
        prog = program(f"{READ}{body}\n{END}", tmp_path, "ev = bpf.PerfEventArray[Pair]()\n")
        with pytest.raises(CompileError) as caught:
            compile_programs([prog])
        assert caught.value.code == code, body


# Records from user space

COMMANDS = """
class Command(Struct):
    kind: u32
    pad: u32
    value: u64
class Sums(Struct):
    count: u64
    total: u64
commands = bpf.UserRingBuf[Command](max_entries=4096)
def take(c: Command, sums: Sums) -> bool:
    if c.kind == 9:
        return True
    counts[u8(c.kind & 7)] = c.value
    sums.count += 1
    sums.total += c.value
    return False
"""
DRAINS = "s = Sums.zero()\nd.s0 = commands.drain(take, s)\nd.r0 = s.count\nd.r1 = s.total\n"


@pytest.mark.kernel
def test_programs_take_records_from_user_space(tmp_path: Path):
    prog = program(f"{READ}{DRAINS}{END}", tmp_path, MAPS + COMMANDS)
    assert verify_program(open_object(build(prog).elf).programs["prog"]).verdict == "accept"
    names, frame = prog.function.__globals__, packets(4)[0]
    commands = names["commands"]

    def feed() -> None:
        for kind, value in ((1, 5), (2, 6), (9, 0), (3, 8)):
            commands.send(names["Command"](kind=kind, pad=0, value=value))

    seen = []
    for on in ("python", "interpreter"):
        feed()
        seen.append([prog.run(frame, on=on).data for _ in range(3)])
    with bpf.load(prog) as loaded:
        feed()
        seen.append([loaded.programs["prog"].test_run(frame).data for _ in range(3)])
        assert names["counts"][3] == 8
        with pytest.raises(MapError, match="ENOSPC"):
            for _ in range(1000):
                feed()
        loaded.programs["prog"].test_run(frame, repeat=10)
        feed()  # there is room again
        with pytest.raises(MapError, match="max_entries"):
            loaded.maps["commands"].write(bytes(5000))
        with pytest.raises(UsageError, match="not a user_ringbuf"):
            loaded.maps["counts"].write(b"x")
    assert seen[0] == seen[1] == seen[2] and len(set(seen[0])) == 3


def test_draining_wants_a_function_and_a_state(tmp_path: Path):
    for body, code in {
        "commands.drain(take)": "bad-call",
        "commands.drain(5, None)": "not-a-function",
        "commands.drain(take, d)": "bad-type",
        "commands.send(d)": "user-space-only",
        "commands.get(1)": "no-such-attribute",
    }.items():
        prog = program(f"{READ}{body}\n{END}", tmp_path, MAPS + COMMANDS)
        with pytest.raises(CompileError) as caught:
            compile_programs([prog])
        assert caught.value.code == code, body
    with pytest.raises(CompileError, match="structures"):
        bpf.UserRingBuf[bpf.u32](max_entries=4096)  # type: ignore[type-var]
