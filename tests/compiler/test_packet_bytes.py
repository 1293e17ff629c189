"""Bytes of the packet by number, in one buffer and in several, and formats that are read byte for byte."""

# ruff: noqa: E501

from __future__ import annotations

import random
from pathlib import Path

import pytest

import ebpfkit as bpf
from ebpfkit.compiler.driver import compile_programs
from ebpfkit.dsl.program import Program
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError
from ebpfkit.verifier import verify_program
from tests.compiler.support import PRELUDE, check, load_module, packets, program
from tests.compiler.test_maps import MAPS

READ = "d = pkt.read(Data)\n"
END = "return XDP_PASS\n"
BEFORE = (
    MAPS
    + """
class Sample(Struct):
    length: u32
    head: array[u8, Literal[48]]
class Odd(Struct):
    a: u8
    b: array[u8, 13]
    c: u16
events = bpf.RingBuf[Sample](max_entries=4096)
names = bpf.Hash[array[u8, 16], u64](max_entries=64)
keep = bpf.Array[Odd](max_entries=4)
def into(pkt: Packet, s: Sample, n: u32) -> u32:
    pkt.read_into(s.head, min(n, u32(48)))
    return u32(s.head[0])
"""
)
BODIES = {
    "a number that is known": "a = array[u8, 16]()\npkt.skip(5)\npkt.read_into(a)\nd.r0 = u64(a[3])\nd.arr[0] = a[15]\nd.t8 = pkt.read(u8)",
    "a number that is not": "a = array[u8, 16]()\npkt.read_into(a, d.x8 & 15)\nnames[a] = 1\nd.t8 = pkt.read(u8)\nd.flag = a == b'\\0' * 16",
    "a map value of an odd size": "o = keep[1]\nn = d.x8\nif n <= 13:\n    pkt.read_into(o.b, n)\n    d.t8 = pkt.read(u8)\n    d.r0 = u64(o.b[7])",
    "a record": "with events.record() as e:\n    if e is not None:\n        n = min(len(pkt) - 100, u32(48))\n        e.length = n\n        pkt.read_into(e.head, n)",
    "writing": "a = array[u8, 8](b'abcdefgh')\npkt.write_from(a, d.x8 & 7)\npkt.write_from(a)\npkt.write_from(Pair(a=1, b=d.x32))\npkt.write_from(a, 0)\npkt.write_from(a, 3)\nd.r0 = 5",
    "in a loop": "a = array[u8, 32]()\nfor i in range(4):\n    n = pkt.read(u8)\n    if n > 31:\n        break\n    pkt.read_into(a, n)\n    d.r0 += u64(a[0]) + u64(a[31])",
    "structures": "p = Pair.zero()\npkt.read_into(p, d.x8 & 7)\nd.t32 = p.a\npkt.read_into(p)\nd.r1 = u64(p.b)",
    "more than is copied in place": "s = Sample.zero()\npkt.read_into(s.head)\nd.r1 = u64(s.head[47])\npkt.read_into(s, 50)\nd.r2 = u64(s.length)",
    "in a function": "s = Sample.zero()\nd.t32 = into(pkt, s, d.x32) + into(pkt, s, 3)",
}  # fmt: skip
REFUSED = {
    "more than fits": ("a = array[u8, 16]()\npkt.read_into(a, d.x8)", "bad-size"),
    "a constant that does not fit": ("a = array[u8, 16]()\npkt.read_into(a, 17)", "bad-size"),
    "a signed number": ("a = array[u8, 16]()\npkt.read_into(a, d.p8)", "bad-size"),
    "network order": ("a = array[u8, 16]()\npkt.read_into(a, d.n16)", "bad-type"),
    "into the packet": ("pkt.read_into(d.arr, 3)", "bad-type"),
    "into a number": ("pkt.read_into(d.x8, 1)", "bad-type"),
    "without a place": ("pkt.read_into()", "bad-call"),
    "too much": ("a = array[u8, 16]()\npkt.read_into(a, 1, 2)", "bad-call"),
    "an untested value": ("pkt.read_into(wide.get(1))", "untested-optional"),
    "a lock": ("pkt.write_from(locked[0].lock)", "read-only"),
}


@pytest.mark.kernel
@pytest.mark.parametrize("frags", [False, True], ids=["one buffer", "several"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bytes_are_the_same_everywhere(body: str, frags: bool, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, BEFORE, f"@bpf.xdp(short=XDP_DROP, frags={frags})")
    compiled = check(prog, packets(4), kernel=True)
    report = verify_program(open_object(compiled.elf).programs["prog"])
    assert report.verdict == "accept", report.message


@pytest.mark.parametrize(("body", "code"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_room_is_refused(body: str, code: str, tmp_path: Path):
    lock = "class Locked(Struct):\n    lock: bpf.SpinLock\nlocked = bpf.Array[Locked](max_entries=1)\n"
    prog = program(f"{READ}{body}\n{END}", tmp_path, BEFORE + lock)
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert caught.value.code == code and "^" in caught.value.render()


@pytest.mark.kernel
def test_packets_in_several_buffers_are_read_and_written_to_their_end(tmp_path: Path):
    body = (
        "a = array[u8, 8]()\npkt.skip(4090)\npkt.read_into(a)\npkt.skip(900)\npkt.write_from(a, 7)\npkt.read_into(a, 5)\n"
        "table[0] = u64(a[0]) << 8 | u64(a[4])\nreturn XDP_TX if len(pkt) == 5500 else XDP_DROP\n"
    )
    prog = program(body, tmp_path, MAPS, "@bpf.xdp(frags=True)")
    chance = random.Random(5)
    check(prog, [chance.randbytes(size) for size in (5500, 5500, 5010, 5009, 5001, 4500, 60)], kernel=True)


@pytest.mark.kernel
def test_traffic_control_and_socket_filters_copy_bytes(tmp_path: Path):
    text = """
@bpf.tc
def classify(skb: bpf.SkBuff) -> bpf.TcAction:
    skb.read(Ethernet)
    a = array[u8, 16]()
    n = skb.read(u8)
    skb.read_into(a, n & 15)
    skb.read_into(a)
    skb.write_from(a, 4)
    return bpf.TC_ACT_SHOT if a[3] > 100 else bpf.TC_ACT_OK
@bpf.socket_filter
def first(skb: bpf.SkBuff) -> int:
    a = array[u8, 16]()
    n = skb.read(u8)
    skb.read_into(a, n & 15)
    return u32(a[0])
@bpf.tc
def wrong(skb: bpf.SkBuff) -> bpf.TcAction:
    a = array[u8, 16]()
    skb.write_from(a, skb.mark & 15)
    return bpf.TC_ACT_OK
"""
    m = load_module(PRELUDE + text, tmp_path)
    for frame in packets(4):
        for prog in (m.classify, m.first):
            if len(frame) >= 34:
                runs = [prog.run(frame, on=on) for on in ("python", "interpreter", "kernel")]
                assert len({(int(ran.action) & 0xFFFF_FFFF, ran.data) for ran in runs}) == 1
    with pytest.raises(CompileError, match="at most 64 bytes"):
        compile_programs([m.wrong])


DNS = """
class Query(Header):
    id: be16
    flags: be16
    questions: be16
    answers: be16
    authority: be16
    additional: be16
class Name(Struct):
    text: array[u8, Literal[64]]
blocked = bpf.Hash[Name, u64](max_entries=1000)
@bpf.xdp(short=XDP_PASS)
def prog(pkt: Packet) -> XdpAction:
    if pkt.read(Ethernet).type != ETH_P_IP or pkt.read(IPv4).protocol != IPPROTO_UDP:
        return XDP_PASS
    if pkt.read(UDP).dest != 53 or pkt.read(Query).questions != 1:
        return XDP_PASS
    name = Name.zero()
    for at in range(64):
        letter = pkt.read(u8)
        if letter == 0:
            hits = blocked.get(name)
            if hits is None:
                return XDP_PASS
            hits.atomic_add(1)
            return XDP_DROP
        if 65 <= letter <= 90:
            letter |= 32
        name.text[at] = letter
    return XDP_PASS
"""


def _query(name: bytes) -> bytes:
    question = b"".join(bytes([len(part)]) + part for part in name.split(b".")) + b"\0" + b"\0\1\0\1"
    udp = b"\x30\x39\0\x35" + (8 + 12 + len(question)).to_bytes(2, "big") + b"\0\0"
    ip = b"\x45\0" + (20 + len(udp) + 12 + len(question)).to_bytes(2, "big") + bytes(5) + b"\x11" + bytes(10)
    return bytes(12) + b"\x08\0" + ip + udp + b"\x12\x34\1\0\0\1" + bytes(6) + question


@pytest.mark.kernel
def test_names_of_queries_are_read_letter_by_letter(tmp_path: Path):
    m = load_module(PRELUDE + DNS, tmp_path)
    prog = m.prog
    assert isinstance(prog, Program)
    m.blocked[m.Name(text=b"\3ads\7example\3com".ljust(64, b"\0"))] = 0
    whole = [_query(name) for name in (b"ads.example.com", b"ADS.Example.com", b"example.com", b"a.b.c.d.e.f.g.h")]
    assert [prog(frame) for frame in whole] == [bpf.XDP_DROP, bpf.XDP_DROP, bpf.XDP_PASS, bpf.XDP_PASS]
    assert [value for _, value in m.blocked.items()] == [2]
    compiled = check(prog, [*whole, *(whole[0][:size] for size in range(14, len(whole[0])))], kernel=True)
    assert verify_program(open_object(compiled.elf).programs["prog"]).verdict == "accept"
