"""Enumerations as fields, keys and values; formats with numbers of several lengths."""

# ruff: noqa: E501

from __future__ import annotations

import enum
import random
import struct
from pathlib import Path

import pytest

import ebpfkit as bpf
from ebpfkit.compiler.driver import compile_programs
from ebpfkit.elf import open_object
from ebpfkit.errors import CompileError
from ebpfkit.verifier import verify_program
from tests.compiler.support import PRELUDE, check, load_module, packets, program
from tests.compiler.test_maps import MAPS

READ = "d = pkt.read(Data)\np = pkt.read(Paint)\n"
END = "return XDP_PASS\n"
BEFORE = (
    MAPS
    + """
@bpf.enum(u8)
class Color(enum.IntEnum):
    RED = 1
    GREEN = 2
    BLUE = 200
@bpf.enum(s16)
class Level(enum.IntEnum):
    LOW = -5
    HIGH = 500
class Paint(Header):
    color: Color
    level: Level
class Wall(Struct):
    color: Color
    coats: u32
walls = bpf.Hash[Color, Wall](max_entries=16)
def nice(c: Color) -> bool:
    return c != Color.RED
"""
)
BODIES = {
    "reading": "d.flag = p.color == Color.RED or p.level == Level.LOW\nd.t8 = u8(p.color)\nd.p16 = s16(p.level)\nif p.color in (Color.RED, Color.BLUE):\n    d.r0 = 1\nif nice(p.color):\n    d.r1 = 3",
    "writing": "p.color = Color.BLUE\np.level = Level.LOW if d.x8 & 1 else Level.HIGH",
    "keys and values": "walls[p.color] = Wall(color=p.color, coats=3)\nwalls[Color.RED] = Wall(color=Color.GREEN, coats=1)\nw = walls.get(Color.BLUE)\nif w is not None:\n    d.t8 = u8(w.color)",
    "match": "match p.color:\n    case Color.RED:\n        d.r0 = 1\n    case Color.GREEN | Color.BLUE:\n        d.r0 = 2\n    case _:\n        d.r0 = u64(u8(p.color))\nmatch p.level, p.color:\n    case (Level.LOW, Color.RED):\n        d.r1 = 7\n    case (_, c):\n        d.r2 = u64(u8(c))",
    "a variable": "c = Color.RED\nif d.x8 > 100:\n    c = Color.BLUE\nif c == Color.BLUE:\n    d.r0 = 2\nd.t8 = u8(c)",
    "order and truth": "d.flag = p.color > Color.RED\nif p.color:\n    d.r0 = 1\nd.r1 = u64(u8(p.color) + 1)",
}  # fmt: skip


def frames(size: int) -> list[bytes]:
    chance = random.Random(1)
    out = packets(4, 300)
    for color in (0, 1, 2, 200, 77):
        for level in (-5, 500, 0):
            frame = bytearray(chance.randbytes(300))
            frame[size : size + 3] = struct.pack("<Bh", color, level)
            out.append(bytes(frame))
    return out


@pytest.mark.kernel
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_enumeration_means_the_same_everywhere(body: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, BEFORE)
    compiled = check(prog, frames(bpf.sizeof(prog.function.__globals__["Data"])), kernel=True)
    report = verify_program(open_object(compiled.elf).programs["prog"])
    assert report.verdict == "accept", report.message


REFUSED = {
    "a larger number": ("p.color = 300", "does-not-fit"),
    "another width": ("p.color = d.x32", "narrowing"),
    "arithmetic": ("d.r0 = p.color + 1", "enum-arithmetic"),
    "a number that may be no member": ("c = Color(d.x8)", "bad-cast"),
}


@pytest.mark.parametrize(("body", "code"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_meaning_is_refused(body: str, code: str, tmp_path: Path):
    prog = program(f"{READ}{body}\n{END}", tmp_path, BEFORE)
    with pytest.raises(CompileError) as caught:
        compile_programs([prog])
    assert caught.value.code == code and "^" in caught.value.render()


def test_members_fit_the_width():
    with pytest.raises(CompileError, match="does not fit u8"):

        @bpf.enum(bpf.u8)
        class Large(enum.IntEnum):
            MUCH = 256

    with pytest.raises(CompileError, match="not int"):
        bpf.enum(int)  # type: ignore[type-var]
    with pytest.raises(CompileError, match="decorates an enum"):
        bpf.enum(bpf.u8)(int)  # type: ignore[type-var]


QUIC = """
class Id(Struct):
    bytes: array[u8, Literal[20]]
servers = bpf.Hash[Id, u32](max_entries=64)
lengths = bpf.Array[u64](max_entries=1)
def number(pkt: Packet) -> u64:
    first = pkt.read(u8)
    match first >> 6:
        case 0:
            return u64(first & 63)
        case 1:
            return u64(first & 63) << 8 | u64(pkt.read(u8))
        case 2:
            rest = u64(pkt.read(u8)) << 16
            return u64(first & 63) << 24 | rest | u64(pkt.read(be16).to_host())
        case _:
            middle = u64(pkt.read(u8)) << 48 | u64(pkt.read(be16).to_host()) << 32
            return u64(first & 63) << 56 | middle | u64(pkt.read(be32).to_host())
@bpf.xdp(short=XDP_DROP)
def prog(pkt: Packet) -> XdpAction:
    pkt.skip(42)
    first = pkt.read(u8)
    if first & 0x80 == 0:
        return XDP_PASS
    if pkt.read(be32) != 1:
        return XDP_PASS
    size = pkt.read(u8)
    if size > 20:
        return XDP_DROP
    name = Id.zero()
    pkt.read_into(name.bytes, size)
    source = pkt.read(u8)
    pkt.skip(source & 31)
    token = number(pkt)
    if token > 1000:
        return XDP_DROP
    pkt.skip(u16(token))
    lengths[0] = number(pkt)
    return XDP_TX if name in servers else XDP_PASS
"""


def _number(value: int, size: int) -> bytes:
    return (value | {1: 0, 2: 1, 4: 2, 8: 3}[size] << (size * 8 - 2)).to_bytes(size, "big")


@pytest.mark.kernel
def test_long_headers_of_quic_are_read_with_their_numbers_of_several_lengths(tmp_path: Path):
    m = load_module(PRELUDE + QUIC, tmp_path)
    name = m.Id.zero()
    name.bytes[0], name.bytes[1] = 7, 9
    m.servers[name] = 3
    whole = []
    for sizes in ((1, 1), (2, 2), (4, 4), (8, 8), (1, 8), (2, 4)):
        token, length = _number(5, sizes[0]), _number(60, sizes[1])
        for dcid in (b"\7\x09", b"\7\x08", bytes(20)):
            header = b"\xc0\0\0\0\1" + bytes([len(dcid)]) + dcid + b"\x04abcd" + token + b"token" + length
            whole.append(bytes(42) + header + bytes(30))
    assert [m.prog(frame) for frame in whole[:3]] == [bpf.XDP_TX, bpf.XDP_PASS, bpf.XDP_PASS]
    assert m.lengths[0] == 60
    cut = [whole[9][:size] for size in range(40, len(whole[9]) - 30)]
    compiled = check(m.prog, [*whole, *cut], kernel=True)
    assert verify_program(open_object(compiled.elf).programs["prog"]).verdict == "accept"
