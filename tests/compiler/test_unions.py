"""Unions in packets, maps and local memory, and the warning that names padding in keys."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import ebpfkit as bpf
from ebpfkit.compiler.driver import compile_programs
from ebpfkit.dsl.struct_layout import PaddingWarning
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError
from ebpfkit.verifier import verify_program
from tests.compiler.support import check, packets, program
from tests.compiler.test_maps import MAPS

READ = "d = pkt.read(Data)\n"
END = "return XDP_PASS\n"
BEFORE = (
    MAPS
    + """
class Address(bpf.Union):
    v4: IPv4Addr
    v6: IPv6Addr
    words: array[u32, 4]
class Peer(Struct):
    address: Address
    family: u32
class Word(bpf.Union):
    whole: u32
    halves: array[u16, 2]
    net: be32
    pair: Pair
peers = bpf.Hash[Peer, u64](max_entries=64)
words = bpf.Array[Word](max_entries=4)
events = bpf.RingBuf[Peer](max_entries=4096)
"""
)
BODIES = {
    "members share their bytes": """
w = Word.zero()
w.whole = d.x32
d.t16 = w.halves[1]
w.halves[0] = d.x16
d.r0 = u64(w.whole) + u64(w.net.to_host()) + u64(w.pair.a) + u64(w.pair.b)
""",
    "one member named": """
p = Peer(address=Address(v4=d.ip), family=4)
peers[p] = 1
peers[Peer(address=Address(v6=d.ip6), family=6)] = d.x64
p.address.v6 = d.ip6
p.family = 6
if p in peers:
    d.r0 = peers[p]
d.t32 = p.address.words[d.x8 & 3]
""",
    "in a map": """
w = words[d.x8 & 3]
w.pair.b += 1
w.net = d.n32
d.r0 = u64(w.whole)
words[1] = w
words[2].whole = 7
""",
    "in the packet": "w = pkt.read(Word)\nw.whole = 0x01020304\nd.n32 = w.net\nd.r0 = u64(w.pair.b)",
    "copies and comparisons": """
a = Address(v4=d.ip)
b = a.copy()
d.flag = a == b
b.v6 = d.ip6
if a != b:
    d.r0 = 1
events.output(Peer(address=b, family=6))
""",
    "sizes": "d.r0 = bpf.sizeof(Word) + bpf.sizeof(Peer) + bpf.offsetof(Word, 'pair') + bpf.offsetof(Peer, 'family')",
}


@pytest.mark.kernel
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_union_means_the_same_everywhere(body: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, BEFORE)
    compiled = check(prog, packets(4), kernel=True)
    report = verify_program(open_object(compiled.elf).programs["prog"])
    assert report.verdict == "accept", report.message


def test_the_kernel_sees_a_union(tmp_path: Path):
    prog = program(f"{READ}peers[Peer.zero()] = 1\n{END}", tmp_path, BEFORE)
    btf = open_object(compile_programs([prog]).elf).btf
    assert btf is not None
    found = next(t for t in btf.types if getattr(t, "name", "") == "Address")
    assert type(found).__name__ == "Union" and found.size == 16


REFUSED = {
    "two members": ("a = Address(v4=d.ip, v6=d.ip6)", "bad-union"),
    "no member": ("a = Address()", "bad-union"),
    "a member that is not there": ("a = Address(v5=d.ip)", "no-such-field"),
    "a member of another type": ("a = Address(v4=d.ip6)", "bad-type"),
}


@pytest.mark.parametrize(("body", "code"), REFUSED.values(), ids=REFUSED)
def test_what_a_union_has_not_is_refused(body: str, code: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, BEFORE)
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert caught.value.code == code and "^" in caught.value.render()
    names = {**prog.function.__globals__, "d": None}
    if code == "bad-union":
        with pytest.raises(CompileError, match="takes one of its members"):
            names["Address"]()


def test_a_union_has_no_defaults_and_no_bit_fields():
    with pytest.raises(CompileError, match="no default"):

        class Wrong(bpf.Union):
            a: bpf.u32 = bpf.u32(5)

    with pytest.raises(CompileError, match="no bit fields"):

        class Bits(bpf.Union):
            a: bpf.u8 = bpf.bits(8)


class Key(bpf.Struct):
    kind: bpf.u8
    number: bpf.u32
    port: bpf.u16


class Meant(Key, padding=True):
    last: bpf.u8


def test_padding_of_keys_is_named():
    with pytest.warns(PaddingWarning) as caught:
        table = bpf.Hash[Key, bpf.u64](max_entries=4, name="table")
    text = str(caught[0].message)
    assert "3 behind 'kind' (offset 1), 2 behind 'port' (offset 10)" in text and "padding=True" in text
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bpf.Hash[Meant, bpf.u64](max_entries=4, name="meant")
        bpf.Array[Key](max_entries=4, name="values")  # only keys are compared byte for byte
    table[Key(kind=1, number=2, port=3)] = 5
    assert next(iter(table.store.keys())) == b"\1\0\0\0\2\0\0\0\3\0\0\0"
