"""Captures: pcap and pcapng in, pcap out.

Reading streams: one record is in memory at a time, and a length in the file is never trusted beyond a bound. Whatever
is wrong is a PcapError that names the place. Both byte orders, microsecond and nanosecond pcap, and of pcapng the
section, interface, enhanced, simple and obsolete packet blocks are read; other blocks are skipped. Compressed
captures are not opened here.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO, Final

from ebpfkit.errors import PcapError

__all__ = ["LINKTYPE_ETHERNET", "MAX_RECORD", "Packet", "PcapReader", "PcapWriter", "open_pcap"]

LINKTYPE_ETHERNET: Final = 1
MAX_RECORD: Final = 1 << 18
"""Bytes of the largest packet that is read, as in libpcap."""
_MAX_BLOCK = 1 << 24
_CHUNK = 1 << 16

_PCAP_MAGICS: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1_000),
    b"\xa1\xb2\xc3\xd4": (">", 1_000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}  # byte order, nanoseconds in a fraction's unit
_SECTION_MAGIC = b"\x0a\x0d\x0d\x0a"
_BYTE_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_SECTION, _INTERFACE, _PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_IF_TSRESOL, _IF_TSOFFSET = 9, 14
_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Packet:
    """One captured packet: its bytes, when (nanoseconds since 1970), how long it was on the wire, and where."""

    data: bytes
    time_ns: int = 0
    wire_length: int = 0
    interface: int = 0
    link_type: int = LINKTYPE_ETHERNET

    @property
    def seconds(self) -> float:
        """When, in seconds since 1970."""
        return self.time_ns / _NANO


@dataclass(slots=True)
class _Interface:
    link_type: int
    snap_length: int
    ticks_per_second: int = 1_000_000
    offset_seconds: int = 0


class _Source:
    """A binary stream that knows where it is and never reads more than it was asked for."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream = stream
        self.name = name
        self.offset = 0

    def error(self, message: str, offset: int | None = None) -> PcapError:
        return PcapError(f"{self.name}: offset {self.offset if offset is None else offset}: {message}")

    def take(self, size: int, what: str) -> bytes:
        """Exactly `size` bytes. Raises PcapError when the file ends before."""
        data = self._read(size)
        if len(data) < size:
            raise self.error(f"{what} is cut off: {size} bytes are announced, {len(data)} are there", self.offset)
        self.offset += size
        return data

    def take_or_end(self, size: int, what: str) -> bytes | None:
        """Exactly `size` bytes, or None at the end of the file."""
        data = self._read(size)
        if not data:
            return None
        if len(data) < size:
            raise self.error(f"{what} is cut off: it has {size} bytes, {len(data)} are there")
        self.offset += size
        return data

    def _read(self, size: int) -> bytes:
        first = self.stream.read(min(size, _CHUNK))
        if len(first) == size or not first:
            return first
        parts = [first]
        size -= len(first)
        while size > 0:
            part = self.stream.read(min(size, _CHUNK))
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def skip(self, size: int, what: str) -> None:
        while size > 0:
            part = self.stream.read(min(size, _CHUNK))
            if not part:
                raise self.error(f"{what} is cut off: {size} more bytes are announced")
            size -= len(part)
            self.offset += len(part)


@dataclass(slots=True)
class _Section:
    order: str
    interfaces: list[_Interface] = field(default_factory=list)


class PcapReader:
    """The packets of a capture, one after the other; a context manager that closes what `open_pcap` opened.

    >>> stream = io.BytesIO()
    >>> PcapWriter(stream).write(b"a packet", time_ns=1_500_000_000)
    >>> [(packet.data, packet.seconds) for packet in PcapReader(io.BytesIO(stream.getvalue()))]
    [(b'a packet', 1.5)]
    """

    def __init__(self, stream: BinaryIO, name: str = "capture", *, close: bool = False) -> None:
        self._source = _Source(stream, name)
        self._close = close
        self._packets = self._start()

    def __iter__(self) -> Iterator[Packet]:
        return self._packets

    def __next__(self) -> Packet:
        return next(self._packets)

    @property
    def offset(self) -> int:
        """How many bytes of the file have been read."""
        return self._source.offset

    def __enter__(self) -> PcapReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._close:
            self._source.stream.close()

    def _start(self) -> Iterator[Packet]:
        magic = self._source.take_or_end(4, "the magic number")
        if magic is None:
            raise self._source.error("the file is empty, not a capture")
        if magic in _PCAP_MAGICS:
            return _read_pcap(self._source, *_PCAP_MAGICS[magic])
        if magic == _SECTION_MAGIC:
            return _read_pcapng(self._source)
        if magic[:2] == b"\x1f\x8b":
            raise self._source.error("this is gzip: unpack it first (gunzip)", 0)
        raise self._source.error(f"no capture starts with {magic.hex(' ')}: pcap and pcapng can be read", 0)


def open_pcap(source: str | os.PathLike[str] | bytes | BinaryIO) -> PcapReader:
    """Open a capture: a path, its bytes, or a binary stream. Raises PcapError for what is none."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return PcapReader(io.BytesIO(source), "capture", close=True)
    if isinstance(source, (str, os.PathLike)):
        try:
            stream: BinaryIO = open(source, "rb")  # noqa: SIM115 (the reader closes it)
        except OSError as error:
            raise PcapError(f"{os.fspath(source)}: {error.strerror or error}") from error
        try:
            return PcapReader(stream, os.fspath(source), close=True)
        except PcapError:
            stream.close()
            raise
    return PcapReader(source, str(getattr(source, "name", "capture")))


def _read_pcap(source: _Source, order: str, unit: int) -> Iterator[Packet]:
    major, _minor, _zone, _sigfigs, _snap, link = struct.unpack(f"{order}HHiIII", source.take(20, "the file header"))
    if major != 2:
        raise source.error(f"pcap version {major} is not known", 4)
    return _pcap_records(source, order, unit, link & 0xFFFF)


def _pcap_records(source: _Source, order: str, unit: int, link_type: int) -> Iterator[Packet]:
    header = struct.Struct(f"{order}IIII")
    number = 0
    while (raw := source.take_or_end(16, f"the header of packet {number + 1}")) is not None:
        number += 1
        seconds, fraction, captured, wire = header.unpack(raw)
        if captured > MAX_RECORD:
            raise source.error(f"packet {number} has {captured} bytes, more than {MAX_RECORD}", source.offset - 8)
        data = source.take(captured, f"packet {number}")
        yield Packet(data, seconds * _NANO + fraction * unit, wire, 0, link_type)


def _read_pcapng(source: _Source) -> Iterator[Packet]:
    """The first section header has been recognised by its type, which is a palindrome of bytes."""
    section = _section_header(source, source.offset - 4)
    return _pcapng_blocks(source, section)


def _section_header(source: _Source, start: int) -> _Section:
    raw_length = source.take(4, "the section header")
    order = _BYTE_ORDERS.get(source.take(4, "the section header"))
    if order is None:
        raise source.error("the byte-order magic of the section is wrong", start + 8)
    (length,) = struct.unpack(f"{order}I", raw_length)
    if length < 28 or length % 4 or length > _MAX_BLOCK:
        raise source.error(f"a section header of {length} bytes", start + 4)
    body = source.take(length - 16, "the section header")
    major, _minor = struct.unpack_from(f"{order}HH", body)
    if major != 1:
        raise source.error(f"pcapng version {major} is not known", start + 12)
    _check_trailer(source, order, length, start)
    return _Section(order)


def _check_trailer(source: _Source, order: str, length: int, start: int) -> None:
    (again,) = struct.unpack(f"{order}I", source.take(4, "the end of a block"))
    if again != length:
        raise source.error(f"the block at {start} says {length} bytes in front and {again} behind", source.offset - 4)


def _pcapng_blocks(source: _Source, section: _Section) -> Iterator[Packet]:
    while True:
        start = source.offset
        raw = source.take_or_end(4, "a block's type")
        if raw is None:
            return
        if raw == _SECTION_MAGIC:
            section = _section_header(source, start)
            continue
        (kind,) = struct.unpack(f"{section.order}I", raw)
        (length,) = struct.unpack(f"{section.order}I", source.take(4, "a block's length"))
        if length < 12 or length % 4:
            raise source.error(f"a block of {length} bytes", start + 4)
        if kind not in (_INTERFACE, _PACKET, _SIMPLE, _ENHANCED):
            source.skip(length - 12, "a block")
            _check_trailer(source, section.order, length, start)
            continue
        if length > _MAX_BLOCK:
            raise source.error(f"a block of {length} bytes", start + 4)
        body = source.take(length - 12, "a block")
        _check_trailer(source, section.order, length, start)
        if kind == _INTERFACE:
            section.interfaces.append(_interface(source, section, body, start))
        else:
            yield _packet(source, section, kind, body, start)


def _interface(source: _Source, section: _Section, body: bytes, start: int) -> _Interface:
    if len(body) < 8:
        raise source.error("an interface description without its fields", start)
    link_type, _reserved, snap_length = struct.unpack_from(f"{section.order}HHI", body)
    interface = _Interface(link_type, snap_length)
    place = 8
    while place + 4 <= len(body):
        code, length = struct.unpack_from(f"{section.order}HH", body, place)
        value = body[place + 4 : place + 4 + length]
        if len(value) < length:
            raise source.error(f"option {code} is longer than its block", start + 8 + place)
        if code == 0:
            break
        if code == _IF_TSRESOL and length == 1:
            exponent = value[0] & 0x7F
            interface.ticks_per_second = (2 if value[0] & 0x80 else 10) ** exponent
        elif code == _IF_TSOFFSET and length == 8:
            (interface.offset_seconds,) = struct.unpack(f"{section.order}q", value)
        place += 4 + -(-length // 4) * 4
    return interface


def _packet(source: _Source, section: _Section, kind: int, body: bytes, start: int) -> Packet:
    order = section.order
    fixed = {_ENHANCED: 20, _PACKET: 20, _SIMPLE: 4}[kind]
    if len(body) < fixed:
        raise source.error(f"a packet block of {len(body) + 12} bytes is too short", start)
    high = low = number = 0
    if kind == _ENHANCED:
        number, high, low, captured, wire = struct.unpack_from(f"{order}5I", body)
    elif kind == _PACKET:
        number, _drops, high, low, captured, wire = struct.unpack_from(f"{order}HH4I", body)
    else:
        (wire,) = struct.unpack_from(f"{order}I", body)
        captured = wire
    if number >= len(section.interfaces):
        raise source.error(f"a packet of interface {number}, which is not described", start)
    interface = section.interfaces[number]
    if kind == _SIMPLE:
        captured = min(wire, interface.snap_length or wire)
    if captured > len(body) - fixed:
        raise source.error(f"a packet of {captured} bytes in a block that holds {len(body) - fixed}", start)
    if captured > MAX_RECORD:
        raise source.error(f"a packet of {captured} bytes, more than {MAX_RECORD}", start)
    ticks = high << 32 | low
    time_ns = ticks * _NANO // interface.ticks_per_second + interface.offset_seconds * _NANO
    return Packet(body[fixed : fixed + captured], time_ns, wire, number, interface.link_type)


class PcapWriter:
    """Writes a pcap file with nanosecond stamps, packet by packet; a context manager.

    `target` is a path or a binary stream (which stays open).
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        link_type: int = LINKTYPE_ETHERNET,
        nanoseconds: bool = True,
        snap_length: int = MAX_RECORD,
    ) -> None:
        self._close = isinstance(target, (str, os.PathLike))
        if isinstance(target, (str, os.PathLike)):
            try:
                self._stream: BinaryIO = open(target, "wb")  # noqa: SIM115 (close does)
            except OSError as error:
                raise PcapError(f"{os.fspath(target)}: {error.strerror or error}") from error
        else:
            self._stream = target
        self._unit = 1 if nanoseconds else 1_000
        self._snap_length = snap_length
        magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
        self._stream.write(struct.pack("<IHHiIII", magic, 2, 4, 0, 0, snap_length, link_type))

    def write(
        self,
        packet: Packet | bytes | bytearray | memoryview,
        *,
        time_ns: int | None = None,
        seconds: float | None = None,
        wire_length: int | None = None,
    ) -> None:
        """Append a packet. A Packet brings its time and length along; bytes take them from the arguments."""
        if isinstance(packet, Packet):
            data = packet.data
            time_ns = packet.time_ns if time_ns is None and seconds is None else time_ns
            wire_length = wire_length if wire_length is not None else max(packet.wire_length, len(data))
        else:
            data = bytes(packet)
        when = time_ns if time_ns is not None else round((seconds or 0) * _NANO)
        wire = len(data) if wire_length is None else wire_length
        if not 0 <= when < 1 << 32 << 30 or when // _NANO >= 1 << 32:
            raise PcapError(f"pcap cannot hold the time {when} ns: it counts seconds from 1970 in 32 bits")
        kept = data[: self._snap_length]
        whole, rest = divmod(when, _NANO)
        self._stream.write(struct.pack("<IIII", whole, rest // self._unit, len(kept), wire) + kept)

    def close(self) -> None:
        """Close the file when this object opened it."""
        if self._close:
            self._stream.close()

    def __enter__(self) -> PcapWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
