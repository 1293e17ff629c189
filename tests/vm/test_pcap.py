"""Captures: both formats, both byte orders, stamps, malformed files, and what scapy reads and writes."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebpfkit.errors import PcapError
from ebpfkit.vm.pcap import MAX_RECORD, Packet, PcapReader, PcapWriter, open_pcap

WHEN = 1_700_000_000_123_456_789
FRAMES = [bytes(range(60)), b"", b"\xff" * 1514]


def pcap(order: str = "<", nanoseconds: bool = False, frames: list[bytes] | None = None) -> bytes:
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    fraction = WHEN % 10**9 // (1 if nanoseconds else 1000)
    for frame in FRAMES if frames is None else frames:
        out += struct.pack(f"{order}IIII", WHEN // 10**9, fraction, len(frame), len(frame) + 4) + frame
    return out


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    return struct.pack(f"{order}II", kind, length) + body + struct.pack(f"{order}I", length)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(order: str, options: bytes = b"", link: int = 1, snap: int = 0) -> bytes:
    return block(order, 1, struct.pack(f"{order}HHI", link, 0, snap) + options)


def enhanced(order: str, ticks: int, frame: bytes, number: int = 0, wire: int | None = None) -> bytes:
    head = struct.pack(
        f"{order}5I", number, ticks >> 32, ticks & 0xFFFFFFFF, len(frame), len(frame) if wire is None else wire
    )
    return block(order, 6, head + frame)


def read(data: bytes) -> list[Packet]:
    with open_pcap(data) as reader:
        return list(reader)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_pcap(order: str, nanoseconds: bool) -> None:
    packets = read(pcap(order, nanoseconds))
    assert [p.data for p in packets] == FRAMES
    assert packets[0].time_ns == (WHEN if nanoseconds else WHEN // 1000 * 1000)
    assert packets[0].wire_length == 64 and packets[0].link_type == 1


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("options", "ticks", "time_ns"),
    [
        (lambda order: b"", 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (lambda order: option(order, 9, b"\x09"), WHEN, WHEN),
        (lambda order: option(order, 9, b"\x03"), 1_700_000_000_123, 1_700_000_000_123_000_000),
        (lambda order: option(order, 9, b"\x8a"), 1024 * 5 + 512, 5_500_000_000),
        (lambda order: option(order, 2, b"eth0") + option(order, 9, b"\x09") + option(order, 0, b""), 7, 7),
        (
            lambda order: option(order, 9, b"\x09") + option(order, 14, struct.pack(f"{order}q", 100)),
            7,
            100 * 10**9 + 7,
        ),
        (lambda order: option(order, 0, b"") + option(order, 9, b"\x09"), 5, 5000),
    ],
)
def test_pcapng_time(order: str, options: object, ticks: int, time_ns: int) -> None:
    data = section(order) + interface(order, options(order)) + enhanced(order, ticks, FRAMES[0])  # type: ignore[operator]
    assert [(p.data, p.time_ns) for p in read(data)] == [(FRAMES[0], time_ns)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_blocks(order: str) -> None:
    """Several sections and interfaces, unknown blocks, simple and obsolete packet blocks."""
    simple = block(order, 3, struct.pack(f"{order}I", 100) + FRAMES[0][:32])
    obsolete = block(order, 2, struct.pack(f"{order}HH4I", 1, 0, 0, 5, 3, 9) + b"abc")
    data = (
        section(order) + block(order, 0x0BAD, b"whatever") + interface(order, snap=32) + interface(order, link=101)
        + enhanced(order, 1, b"first", number=1, wire=50) + simple + obsolete
    )  # fmt: skip
    other = ">" if order == "<" else "<"
    data += section(other) + interface(other) + enhanced(other, 2, b"second")
    packets = read(data)
    assert [p.data for p in packets] == [b"first", FRAMES[0][:32], b"abc", b"second"]
    assert [p.wire_length for p in packets] == [50, 100, 9, 6]
    assert [p.interface for p in packets] == [1, 0, 1, 0]
    assert [p.link_type for p in packets] == [101, 1, 101, 1]
    assert [p.time_ns for p in packets] == [1000, 0, 5000, 2000]


NG = section("<") + interface("<")
BAD = {
    "empty": (b"", "empty"),
    "no capture": (b"hello world, this is no capture", "no capture starts with"),
    "gzip": (b"\x1f\x8b\x08\x00", "gunzip"),
    "half a magic": (b"\xd4\xc3", "cut off"),
    "half a header": (pcap()[:15], "offset 4"),
    "another version": (pcap()[:4] + b"\x09" + pcap()[5:], "version 9"),
    "half a record header": (pcap(frames=[])[:24] + bytes(7), "header of packet 1 is cut off"),
    "a truncated last packet": (pcap()[:-1], "packet 3 is cut off: 1514 bytes are announced, 1513 are there"),
    "a huge record": (pcap(frames=[]) + struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 0), "4294967295 bytes"),
    "a record just too big": (pcap(frames=[]) + struct.pack("<IIII", 0, 0, MAX_RECORD + 1, 0), "more than"),
    "a wrong byte-order magic": (section("<")[:8] + b"abcd" + section("<")[12:], "byte-order magic"),
    "a tiny section": (section("<")[:4] + b"\x08\0\0\0" + section("<")[8:], "section header of 8 bytes"),
    "another pcapng version": (section("<")[:12] + b"\x07" + section("<")[13:], "version 7"),
    "a block too short": (NG + struct.pack("<II", 6, 8), "block of 8 bytes"),
    "a block not aligned": (NG + struct.pack("<II", 6, 33) + bytes(25), "block of 33 bytes"),
    "a huge packet block": (NG + struct.pack("<II", 6, 0x7FFFFFF0), "bytes"),
    "a huge unknown block": (NG + struct.pack("<II", 99, 0xFFFFFFFC), "cut off"),
    "a block cut off": (NG + enhanced("<", 0, b"abcd")[:-6], "cut off"),
    "a block with two lengths": (NG + enhanced("<", 0, b"abcd")[:-4] + b"\x28\0\0\0", "in front and 40 behind"),
    "no interface": (section("<") + enhanced("<", 0, b"abcd"), "interface 0, which is not described"),
    "an unknown interface": (NG + enhanced("<", 0, b"abcd", number=3), "interface 3"),
    "a packet longer than its block": (
        NG + block("<", 6, struct.pack("<5I", 0, 0, 0, 999, 999) + b"abcd"), "999 bytes in a block that holds 4",
    ),
    "an option longer than its block": (
        section("<") + block("<", 1, struct.pack("<HHIHH", 1, 0, 0, 9, 500)), "option 9 is longer",
    ),
    "an interface without fields": (section("<") + block("<", 1, b"abcd"), "without its fields"),
    "a packet block without fields": (NG + block("<", 6, b"abcd"), "too short"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_malformed(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(PcapError) as caught:
        read(data)
    assert words in caught.value.message
    assert "offset" in caught.value.message


def test_packets_before_the_damage_are_read() -> None:
    reader = open_pcap(pcap()[:-1])
    assert [next(reader).data, next(reader).data] == FRAMES[:2]
    with pytest.raises(PcapError):
        next(reader)


def test_every_cut_and_every_mutation_is_a_result_or_an_error() -> None:
    dice = random.Random(5)
    good = [
        pcap("<"), pcap(">", True), NG + b"".join(enhanced("<", i, frame) for i, frame in enumerate(FRAMES)),
        section(">") + interface(">", option(">", 9, b"\x09")) + enhanced(">", 1, FRAMES[0]),
    ]  # fmt: skip
    for data in good:
        damaged = [data[:cut] for cut in range(min(len(data), 400))]
        for _ in range(800):
            copy = bytearray(data)
            for _ in range(dice.randint(1, 4)):
                copy[dice.randrange(min(len(copy), 200))] = dice.choice([0, 0xFF, 0x80, dice.randrange(256)])
            damaged.append(bytes(copy))
        for bad in damaged:
            try:
                packets = read(bad)
            except PcapError as error:
                assert "\n" not in error.message
            else:
                assert sum(len(p.data) for p in packets) <= len(bad)


def test_a_lying_length_takes_no_memory() -> None:
    huge = NG + struct.pack("<II", 6, (1 << 24)) + bytes(100)
    tracemalloc.start()
    with pytest.raises(PcapError, match="cut off"):
        read(huge)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_reading_streams() -> None:
    """Memory does not grow with the capture."""

    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.pending = io.BytesIO(pcap(frames=[]))
            self.record = pcap(frames=[bytes(1000)])[24:]

        def read(self, size: int = -1) -> bytes:
            data = self.pending.read(size)
            if not data:
                self.pending = io.BytesIO(self.record)
                data = self.pending.read(size)
            return data

    reader = PcapReader(Endless())  # type: ignore[arg-type]
    next(reader)
    tracemalloc.start()
    for _ in range(3000):
        next(reader)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=300), st.integers(0, (1 << 32) * 10**9 - 1)), max_size=8),
    st.booleans(),
)
def test_round_trip(packets: list[tuple[bytes, int]], nanoseconds: bool) -> None:
    out = io.BytesIO()
    with PcapWriter(out, nanoseconds=nanoseconds) as writer:
        for data, when in packets:
            writer.write(data, time_ns=when)
    unit = 1 if nanoseconds else 1000
    assert [(p.data, p.time_ns, p.wire_length) for p in read(out.getvalue())] == [
        (data, when // unit * unit, len(data)) for data, when in packets
    ]


def test_writing_files_and_packets(tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    with PcapWriter(path, snap_length=10) as writer:
        writer.write(Packet(b"0123456789abcdef", WHEN, 99))
        writer.write(b"abc", seconds=1.5)
    with open_pcap(path) as reader:
        first, second = reader
    assert (first.data, first.time_ns, first.wire_length) == (b"0123456789", WHEN, 99)
    assert second.seconds == 1.5
    with pytest.raises(PcapError, match="32 bits"):
        PcapWriter(io.BytesIO()).write(b"", time_ns=(1 << 32) * 10**9)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(PcapError, match="No such file"):
        open_pcap(tmp_path / "missing.pcap")
    with pytest.raises(PcapError, match="No such file"):
        PcapWriter(tmp_path / "missing" / "out.pcap")
    with pytest.raises(PcapError, match="directory"):
        open_pcap(tmp_path)


def test_scapy_reads_what_we_write_and_writes_what_we_read(tmp_path: Path) -> None:
    from scapy import utils as scapy
    from scapy.layers.l2 import Ether

    path = tmp_path / "ours.pcap"
    frames = [bytes(Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / bytes(i)) for i in range(1, 30)]
    with PcapWriter(path) as writer:
        for i, frame in enumerate(frames):
            writer.write(frame, time_ns=WHEN + i)
    theirs = scapy.rdpcap(str(path))
    assert [bytes(p) for p in theirs] == frames
    assert [int(p.time * 10**9) for p in theirs] == [WHEN + i for i in range(len(frames))]
    for name, write in (("theirs.pcap", scapy.wrpcap), ("theirs.pcapng", scapy.wrpcapng)):
        write(str(tmp_path / name), theirs)
        with open_pcap(tmp_path / name) as reader:
            packets = list(reader)
        assert [p.data for p in packets] == frames
        assert all(abs(p.time_ns - WHEN - i) < 2000 for i, p in enumerate(packets))
