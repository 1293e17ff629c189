"""Maps and helpers in programs: each operation leaves the same packets and the same entries in every executor."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebpfkit.compiler.driver import Options, compile_programs
from ebpfkit.dsl.execute import run_python
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError
from tests.compiler.support import check, packets, program

READ = "d = pkt.read(Data)\n"
END = "return XDP_PASS\n"
MAPS = """
counts = bpf.Hash[u8, u64](max_entries=300)
wide = bpf.Hash[u64, Pair](max_entries=64)
padded = bpf.Hash[Padded, u32](max_entries=64)
table = bpf.Array[u64](max_entries=16)
pairs = bpf.Array[Pair](max_entries=4)
cpu = bpf.PerCpuArray[u64](max_entries=256)
cpuh = bpf.PerCpuHash[u16, Pair](max_entries=64)
lru = bpf.LruHash[u32, u64](max_entries=1000)
trie = bpf.LpmTrie[IPv4Addr, u32](max_entries=64)
trie6 = bpf.LpmTrie[IPv6Addr, Pair](max_entries=64)
macs = bpf.Hash[MAC, IPv4Addr](max_entries=64)
flags = bpf.Array[bool_](max_entries=4)
bytes_ = bpf.Array[array[u8, 8]](max_entries=2)
xsks = bpf.XskMap(max_entries=4)
counts[1] = 5
counts[7] = 1
table[3] = 77
trie["0.0.0.0/0"] = 1
trie["255.0.0.0/8"] = 2
trie6["::/0"] = Pair(a=3, b=4)
macs[MAC("00:00:00:00:00:00")] = IPv4Addr("10.0.0.9")
"""

OPERATIONS = {
    "get scalar": """
        n = counts.get(d.x8)
        if n is None:
            d.r0 = 1
        else:
            d.r0 = n + 10
        """,
    "get scalar copies": """
        n = counts.get(1)
        counts[1] = 100
        if n is not None:
            d.r0 = n
        """,
    "get walrus": """
        if (n := counts.get(d.x8)) is not None and n > 3:
            d.r0 = n
        """,
    "get struct": """
        p = wide.get(d.x64)
        if p is None:
            wide[d.x64] = Pair(a=d.x32, b=1)
            return XDP_DROP
        p.a += 1
        d.r0 = u64(p.b)
        """,
    "get struct truth": """
        if p := pairs.get(d.x8 & 7):
            p.a = d.x32
            p.b += 1
        else:
            d.r0 = 5
        """,
    "item": "d.r0 = counts[d.x8]",
    "item of an array": "d.r0 = table[d.x8 & 31]",
    "item field": "pairs[d.x8 & 3].a += u32(1)\nd.t32 = pairs[1].a",
    "store": "counts[d.x8] = d.x64\ntable[d.y8 & 15] = d.x8",
    "store struct": "wide[5] = Pair(a=1, b=d.x32)\nwide[d.x64] = pairs[0]",
    "padded key": """
        key = Padded(small=d.x8, large=d.x64, half=d.x16)
        padded[key] = 1
        if key in padded:
            d.r0 = 3
        padded[Padded(small=1, large=2, half=3)] = 4
        padded[Padded(small=1, large=2, half=3)] += 1
        """,
    "augmented item": "table[d.x8 & 15] += d.x64\ntable[2] *= 3\ncpu[d.y8] += 1",
    "augmented missing": "counts[d.x8] += 1",
    "in": "d.flag = d.x8 in counts\nif d.y8 not in counts:\n    d.r0 = 7",
    "delete": "del counts[d.x8]\ndel counts[1], wide[5]",
    "per cpu hash": """
        p = cpuh.get(d.x16)
        if p is None:
            cpuh[d.x16] = Pair(a=1, b=0)
        else:
            p.a += 1
        """,
    "lru": "lru[d.x32] = d.x64\nif d.x32 in lru:\n    d.r0 = lru[d.x32]",
    "trie": """
        v = trie.get(d.ip)
        if v is not None:
            d.t32 = v
        p = trie6.get(d.ip6)
        if p is not None:
            d.r0 = p.b
        """,
    "trie stores": "trie[d.ip] = 9\ntrie[d.ip] += 1\ndel trie[IPv4Addr('255.255.255.255')]",
    "trie augmented": "trie[d.ip] += 1",
    "addresses": """
        ip = macs.get(d.mac)
        if ip is not None:
            d.ip = ip
        macs[d.mac2] = d.ip
        """,
    "mac as value through a name": "m = d.mac\nif m in macs:\n    d.ip = macs[m]",
    "bool values": "flags[1] = d.x8 > 9\nd.flag = flags[1]\nif flags[0]:\n    d.r0 = 1",
    "array values": "a = bytes_[1]\na[d.x8 & 7] = d.y8\nd.t8 = bytes_[1][0]\nbytes_[0] = bytes_[1]",
    "every atomic": """
        table[0] = 0x0F0F_1234_5678_9ABC
        d.r0 = table[0].atomic_sub(d.x64)
        d.r1 = table[0].atomic_and(d.y64)
        d.r2 = table[0].atomic_or(d.x64 >> 3)
        d.x64 = table[0].atomic_xor(d.y64)
        d.y64 = table[0].atomic_exchange(d.r0 + 1)
        d.q64 = s64(table[0].atomic_compare_exchange(d.r0 + 1, 77))
        d.p64 = s64(table[0].atomic_compare_exchange(5, 78))
        d.x32 = pairs[1].a.atomic_or(d.y32)
        d.y32 = pairs[1].a.atomic_compare_exchange(d.y32, 3)
        pairs[1].b.atomic_sub(1)
        pairs[1].b.atomic_and(0xFFFF)
        pairs[1].b.atomic_or(0x10000)
        pairs[1].b.atomic_xor(d.x32)
        pairs[1].a.atomic_exchange(d.x32)
        table[1].atomic_compare_exchange(0, d.x64)
        """,
    "atomic": """
        p = pairs.get(1)
        if p is not None:
            p.a.atomic_add(1)
            d.t32 = p.b.atomic_add(d.x32)
        table[2].atomic_add(d.x64)
        d.r0 = table[2].atomic_add(1)
        n = counts.get(1)
        if n is not None:
            n.atomic_add(3)
            d.r1 = n
        """,
    "redirect to nobody": "return xsks.redirect(pkt.rx_queue_index, otherwise=XDP_TX)",
    "redirect by key": "return xsks.redirect(d.x8 & 3, XDP_DROP)",
    "in a loop": """
        for i in range(4):
            table[i] += u64(d.arr[i])
            n = table.get(i)
            if n is not None and n > 300:
                break
        """,
    "update before a look-up": """
        if d.x8 not in counts:
            counts[d.x8] = 0
        counts[d.x8] += 1
        """,
    "csum_diff": """
        total = helpers.csum_diff(None, 0, d.words, 16, 0)
        d.t16 = csum_fold(u32(total))
        """,
    "smp id": "d.t32 = helpers.get_smp_processor_id() * 0",
    "helper full name": "d.r0 = helpers.bpf_ktime_get_ns() & 0",
    "helper update": "d.s0 = helpers.map_update_elem(table, 2, d.x64, 0)",
    "helper redirect": "return helpers.redirect_map(xsks, 1, 2)",
}


@pytest.mark.kernel
@pytest.mark.parametrize("body", OPERATIONS.values(), ids=OPERATIONS)
def test_a_map_operation_means_the_same_everywhere(body: str, tmp_path: Path):
    import textwrap

    prog = program(READ + textwrap.dedent(body).strip() + "\n" + END, tmp_path, MAPS)
    check(prog, packets(), kernel=True)


@pytest.mark.kernel
@pytest.mark.parametrize("cpu", ["v1", "v2", "v3", "v4"])
@pytest.mark.parametrize("name", ["get struct", "augmented item", "padded key", "trie", "in a loop"])
def test_every_cpu_gives_the_same(name: str, cpu: str, tmp_path: Path):
    import textwrap

    prog = program(READ + textwrap.dedent(OPERATIONS[name]).strip() + "\n" + END, tmp_path, MAPS)
    check(prog, packets(), kernel=True, mcpu=cpu)


RING = """
class Event(Struct):
    a: u8
    b: u64
    c: array[u16, 3]
events = bpf.RingBuf[Event](max_entries=4096)
plain = bpf.RingBuf[u32](max_entries=4096)
"""
RECORDS = {
    "reserve": """
        e = events.reserve()
        if e is None:
            return XDP_DROP
        e.a = d.x8
        e.b = d.x64
        e.c[1] = d.x16
        if d.x8 & 1:
            e.discard()
        else:
            e.submit()
        """,
    "output": "plain.output(d.x32)\nd.s0 = events.output(Event(a=1, b=d.x64, c=array[u16, 3]((1, 2, 3))))",
    "two at once": """
        one = events.reserve()
        if one is not None:
            two = events.reserve()
            if two is None:
                one.discard()
                return XDP_TX
            two.b = d.x64
            one.a = d.x8
            two.submit()
            one.submit()
        """,
}


@pytest.mark.kernel
@pytest.mark.parametrize("body", RECORDS.values(), ids=RECORDS)
def test_ring_buffer_records_are_the_same(body: str, tmp_path: Path):
    import textwrap

    from ebpfkit.loader.collection import Collection
    from ebpfkit.loader.ringbuf import RingBuffer

    prog = program(READ + textwrap.dedent(body).strip() + "\n" + END, tmp_path, RING)
    frames = [f for f in packets() if len(f) == 200]
    python = [run_python(prog, frame) for frame in frames]
    wanted = {m.name: [bytes(r) if not isinstance(r, int) else int(r).to_bytes(4, "little") for r in m.poll(0)]
              for m in prog.maps}  # fmt: skip
    with Collection.load(open_object(compile_programs([prog]).elf)) as live:
        ran = [live.programs["prog"].test_run(frame) for frame in frames]
        assert [(r.retval, r.data) for r in ran] == [(int(p.action), p.data) for p in python]
        for name, records in wanted.items():
            with RingBuffer(live.maps[name]) as reader:
                assert [bytes(r) for r in reader.poll(0)] == records


def test_atomics_other_than_adding_want_v3(tmp_path: Path):
    prog = program(READ + "table[0].atomic_or(1)\n" + END, tmp_path, MAPS)
    with pytest.raises(CompileError, match="CPU v2 has no atomic operation like atomic_or"):
        compile_programs([prog], options=Options(mcpu="v2"))


def test_an_atomic_result_wants_v3(tmp_path: Path):
    prog = program(READ + "d.r0 = table[0].atomic_add(1)\n" + END, tmp_path, MAPS)
    with pytest.raises(CompileError, match="CPU v2 has no atomic operation with a result"):
        compile_programs([prog], options=Options(kernel="5.10"))
    assert compile_programs([prog], options=Options(kernel="5.15")).elf
