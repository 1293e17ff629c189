"""The context of XDP programs: the packet with its cursor, and the fields of `xdp_md`.

`read` is the one way to the bytes: it checks, gives a view, and moves on. Header formats are not here, but in
`ebpfkit.net`; a header's real length comes from its type.
"""

from __future__ import annotations

from typing import Any, TypeVar

from ebpfkit._bits import round_up
from ebpfkit.abi.limits import ETHERNET_HEADER, MAX_XDP_META, PAGE_SIZE, XDP_FRAME_BYTES, XDP_TAILROOM
from ebpfkit.abi.uapi import XDP_PACKET_HEADROOM
from ebpfkit.dsl.arrays import array
from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import ShortExit
from ebpfkit.dsl.structs import Struct
from ebpfkit.dsl.typeinfo import StructType, TypeInfo
from ebpfkit.dsl.types import info_of, type_name, u32

__all__ = ["Packet", "Reader"]

T = TypeVar("T")
MOST_SKIPPED = 0x3FFF
"""The most bytes that one skip moves over: the verifier follows a packet for 64 KiB."""
MOST_RESIZED = 0xFFFF
"""The most bytes by which one call moves an end of the packet."""
LARGEST_META = MAX_XDP_META // 4 * 4
"""The largest structure that fits the metadata area, in bytes."""


class Reader:
    """What every context with a packet offers: its length, and a cursor that reads on.

    `len(packet)` is its length in bytes, a u32 inside a program.
    """

    __slots__ = ("_cursor", "_region")

    _cursor: int
    _region: Region

    def __len__(self) -> int:
        return len(self._region.data)

    def read(self, what: type[T], /) -> T:
        """A view of the next bytes as `what` (a copy for a scalar); the cursor moves behind it.

        A packet that is too short ends the program with its `short=` verdict. A header with a length of its own (IPv4,
        TCP) moves the cursor by that length, which is only checked by the next read.
        """
        start = self._cursor
        value = self._look(what)
        if value is None:
            raise ShortExit(f"{len(self)} bytes are too short for {what.__name__} at {start}")
        info = info_of(what)
        self._cursor = start + _advance(info, value)
        return value

    def peek(self, what: type[T], /) -> T | None:
        """A view of the next bytes as `what`, or None when the packet is too short; the cursor stays."""
        return self._look(what)

    def write(self, value: T, /) -> T:
        """Write a structure over the next bytes, as it lies in memory; the cursor moves behind it. Gives a view of it.

        A packet that is too short ends the program with its `short=` verdict.
        """
        given: object = value
        if not isinstance(given, Struct):
            refuse("bad-type", f"write() takes a structure, not a {type_name(given)}")
        kind = type(value)
        start, size = self._cursor, given.__ebpf_type__.size
        if start + size > len(self._region.data):
            raise ShortExit(f"{len(self)} bytes are too short for {kind.__name__} at {start}")
        type(given).__ebpf_store__(self._region, start, given)
        self._cursor = start + size
        return self._load(kind, self._region, start)

    def skip(self, size: int, /) -> None:
        """Move the cursor over `size` bytes, at most 16383; whether they are there is only checked by the next read."""
        given: object = size
        if not isinstance(given, int) or isinstance(given, bool):
            refuse("bad-type", f"skip() takes a number of bytes, not a {type_name(given)}")
        if getattr(size, "__ebpf_type__", u32.__ebpf_type__).signed or size < 0:
            refuse("bad-size", "skip() of a signed number may go back", "write the cast u16(...)")
        if size > MOST_SKIPPED:
            refuse("bad-size", f"skip() of up to {size} bytes", f"write & {MOST_SKIPPED:#x}, or test it first")
        self._cursor += int(size)

    def read_into(self, target: Struct | array[Any, Any], size: int | None = None, /) -> None:
        """Copy the next `size` bytes (None: as many as fit) into an array or a structure of the program's own, of a map
        or of a ring buffer record, and zeros behind them; the cursor moves behind what was read.

        `size` is at most the target's. A packet that is too short ends the program with its `short=` verdict. This also
        reads beyond the first buffer of a packet in several (`frags=True`).
        """
        region, offset, room = _memory_of(target, "read_into")
        count = room if size is None else _count_of(size, room, "read_into")
        if self._cursor + count > len(self._region.data):
            raise ShortExit(f"{len(self)} bytes are too short for {count} at {self._cursor}")
        data = self._region.read(self._cursor, count)
        region.write(offset, data + bytes(room - count))
        self._cursor += count

    def write_from(self, source: Struct | array[Any, Any], size: int | None = None, /) -> None:
        """Copy the first `size` bytes (None: all) of an array or a structure over the packet's next.

        See `read_into`. In traffic control at most 64 bytes at once, a number known when it is compiled.
        """
        region, offset, room = _memory_of(source, "write_from")
        count = room if size is None else _count_of(size, room, "write_from")
        if self._cursor + count > len(self._region.data):
            raise ShortExit(f"{len(self)} bytes are too short for {count} at {self._cursor}")
        self._region.write(self._cursor, region.read(offset, count))
        self._cursor += count

    def _look(self, what: type[T]) -> T | None:
        size = info_of(what).size
        if self._cursor + size > len(self._region.data):
            return None
        return self._load(what, self._region, self._cursor)

    def _load(self, what: type[T], region: Region, offset: int) -> T:
        loader: Any = what
        value: T = loader.__ebpf_load__(region, offset)
        return value


class Packet(Reader):
    """The packet an XDP program is called with (the kernel's `struct xdp_md`)."""

    __slots__ = (
        "_egress",
        "_end",
        "_frame",
        "_meta",
        "_meta_region",
        "_start",
        "ingress_ifindex",
        "rx_queue_index",
    )

    ingress_ifindex: u32
    rx_queue_index: u32

    def __init__(
        self, data: bytearray, *, ingress_ifindex: int = 0, rx_queue_index: int = 0, egress_ifindex: int | None = None
    ) -> None:
        start, end = XDP_PACKET_HEADROOM, XDP_PACKET_HEADROOM + len(data)
        self._frame = bytearray(round_up(end + XDP_TAILROOM, PAGE_SIZE))
        self._frame[start:end] = data
        self._place(start, start, end)
        self._egress = egress_ifindex
        object.__setattr__(self, "ingress_ifindex", u32(ingress_ifindex))
        object.__setattr__(self, "rx_queue_index", u32(rx_queue_index))

    @property
    def egress_ifindex(self) -> u32:
        """The interface that the packet leaves by: only known to programs in a devmap, `@xdp(at="devmap")`."""
        if self._egress is None:
            refuse("context-field", "egress_ifindex is only known to programs in a devmap", 'write @xdp(at="devmap")')
        return u32(self._egress)

    def __setattr__(self, name: str, value: object) -> None:
        if name[0] != "_":
            refuse("read-only", f"pkt.{name} cannot be assigned: the context of an XDP program is read-only")
        object.__setattr__(self, name, value)

    def push_head(self, size: int, /) -> None:
        """Make room for `size` bytes in front (bpf_xdp_adjust_head); without room the program ends as `short=` says.

        Like every call that moves the packet's ends, it ends the life of all views and puts the cursor at the packet's
        first byte. What is in the new bytes is not defined before the program writes them.
        """
        self._move_head(-_size_of(size, "push_head"))

    def pop_head(self, size: int, /) -> None:
        """Drop `size` bytes in front (bpf_xdp_adjust_head); at least an Ethernet header must stay."""
        self._move_head(_size_of(size, "pop_head"))

    def trim(self, size: int, /) -> None:
        """Drop `size` bytes at the end (bpf_xdp_adjust_tail); at least an Ethernet header must stay."""
        self._move_tail(-_size_of(size, "trim"))

    def extend(self, size: int, /) -> None:
        """Add `size` zero bytes at the end (bpf_xdp_adjust_tail); without room the program ends as `short=` says."""
        self._move_tail(_size_of(size, "extend"))

    def push_meta(self, what: type[T], /) -> T:
        """Room for a structure in front of the packet (bpf_xdp_adjust_meta), zeroed: a view of it.

        Later readers of the same packet (`meta` here, `data_meta` in a TC program, AF_XDP) find it there.
        """
        info = info_of(what)
        if not isinstance(info, StructType) or info.size % 4 or info.size > LARGEST_META:
            message = f"metadata is a structure of 4 to {LARGEST_META} bytes, a multiple of 4"
            refuse("bad-size", message, f"{what.__name__} has {info.size}")
        start = self._meta - info.size
        if start < XDP_FRAME_BYTES or self._start - start > MAX_XDP_META:
            raise ShortExit(f"no room for {info.size} bytes of metadata")
        self._frame[start : self._meta] = bytes(info.size)
        self._move("push_meta()", start, self._start, self._end)
        return self._load(what, self._meta_region, 0)

    def meta(self, what: type[T], /) -> T | None:
        """A view of the metadata in front of the packet as a structure, or None when there is less."""
        info = info_of(what)
        if not isinstance(info, StructType):
            refuse("bad-type", "metadata is a structure", "write a Struct of it")
        return None if self._start - self._meta < info.size else self._load(what, self._meta_region, 0)

    def _move_head(self, delta: int) -> None:
        what = "push_head()" if delta < 0 else "pop_head()"
        start, meta_size = self._start + delta, self._start - self._meta
        if start - meta_size < XDP_FRAME_BYTES or start > self._end - ETHERNET_HEADER:
            raise ShortExit(f"no room for {what} of {abs(delta)} bytes")
        self._frame[start - meta_size : start] = self._frame[self._meta : self._start]
        self._move(what, start - meta_size, start, self._end)

    def _move_tail(self, delta: int) -> None:
        what = "trim()" if delta < 0 else "extend()"
        end = self._end + delta
        if end > len(self._frame) - XDP_TAILROOM or end < self._start + ETHERNET_HEADER:
            raise ShortExit(f"no room for {what} of {abs(delta)} bytes")
        self._frame[self._end : max(end, self._end)] = bytes(max(delta, 0))
        self._move(what, self._meta, self._start, end)

    def _move(self, what: str, meta: int, start: int, end: int) -> None:
        """Other bounds: the views of before are dead, and the cursor is at the packet's first byte."""
        self._region.dead = self._meta_region.dead = f"{what} moved the packet's bounds"
        self._place(meta, start, end)

    def _place(self, meta: int, start: int, end: int) -> None:
        self._meta, self._start, self._end = meta, start, end
        whole = memoryview(self._frame)
        self._region = Region(whole[start:end], RegionKind.PACKET)
        self._meta_region = Region(whole[meta:start], RegionKind.PACKET)
        self._cursor = 0


def _memory_of(memory: object, what: str) -> tuple[Region, int, int]:
    """Where an array or a structure lies, and its bytes."""
    if not isinstance(memory, Struct | array):
        refuse("bad-type", f"{what}() takes an array or a structure, not a {type_name(memory)}")
    if memory._region.kind is RegionKind.PACKET:
        hint = "use a local structure, a map value or a record"
        refuse("bad-type", f"{what}() with what lies in {memory._region.kind.value}", hint)
    return memory._region, memory._offset, memory.__ebpf_type__.size


def _count_of(size: object, room: int, what: str) -> int:
    if not isinstance(size, int) or isinstance(size, bool):
        refuse("bad-type", f"{what}() takes a number of bytes, not a {type_name(size)}")
    if not 0 <= size <= room:
        refuse("bad-size", f"{size} bytes, and there is room for {room}", f"test it first: if n <= {room}")
    return int(size)


def _size_of(size: object, what: str) -> int:
    """A number of bytes by which an end of the packet moves."""
    if not isinstance(size, int) or isinstance(size, bool):
        refuse("bad-type", f"{what}() takes a number of bytes, not a {type_name(size)}")
    if getattr(size, "__ebpf_type__", u32.__ebpf_type__).signed or size < 0:
        refuse("bad-size", f"{what}() of a signed number may go the other way", "write the cast u16(...)")
    if size > MOST_RESIZED:
        refuse("bad-size", f"{what}() of up to {size} bytes", f"write & {MOST_RESIZED:#x}, or test it first")
    return int(size)


def _advance(info: TypeInfo, value: Any) -> int:
    """How far `read` moves the cursor: the size of the type, or the length that its header says."""
    if isinstance(info, StructType) and info.header_length is not None:
        header = info.header_length
        return header.base + sum(int(getattr(value, name)) for name in header.fields) * header.scale
    return info.size
