"""The context of XDP programs: the packet with its cursor, and the fields of `xdp_md`.

`read` is the one way to the bytes: it checks, gives a view, and moves on. Header formats are not here, but in
`ebpfkit.net`; a header's real length comes from its type.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import ShortExit
from ebpfkit.dsl.typeinfo import StructType, TypeInfo
from ebpfkit.dsl.types import info_of, type_name, u32
from ebpfkit.errors import NotSupported

__all__ = ["Packet"]

T = TypeVar("T")
MOST_SKIPPED = 0x3FFF
"""The most bytes that one skip moves over: the verifier follows a packet for 64 KiB."""


class Packet:
    """The packet an XDP program is called with (the kernel's `struct xdp_md`).

    `len(packet)` is its length in bytes, a u32 inside a program.
    """

    __slots__ = ("_cursor", "_region", "ingress_ifindex", "rx_queue_index")

    ingress_ifindex: u32
    rx_queue_index: u32

    def __init__(self, data: bytearray, *, ingress_ifindex: int = 0, rx_queue_index: int = 0) -> None:
        self._region = Region(data, RegionKind.PACKET)
        self._cursor = 0
        object.__setattr__(self, "ingress_ifindex", u32(ingress_ifindex))
        object.__setattr__(self, "rx_queue_index", u32(rx_queue_index))

    @property
    def egress_ifindex(self) -> u32:
        """The interface that the packet leaves by; only programs in a devmap have one, and there are none yet."""
        refuse("context-field", "egress_ifindex is only known to programs in a devmap", "use ingress_ifindex")

    def __setattr__(self, name: str, value: object) -> None:
        if name[0] != "_":
            refuse("read-only", f"pkt.{name} cannot be assigned: the context of an XDP program is read-only")
        object.__setattr__(self, name, value)

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

    def _look(self, what: type[T]) -> T | None:
        size = info_of(what).size
        if self._cursor + size > len(self._region.data):
            return None
        loader: Any = what
        value: T = loader.__ebpf_load__(self._region, self._cursor)
        return value

    def push_head(self, size: int, /) -> NoReturn:
        """Make room for `size` bytes in front (bpf_xdp_adjust_head). Not there yet."""
        raise NotSupported("pkt.push_head")

    def pop_head(self, size: int, /) -> NoReturn:
        """Drop `size` bytes in front (bpf_xdp_adjust_head). Not there yet."""
        raise NotSupported("pkt.pop_head")

    def trim(self, size: int, /) -> NoReturn:
        """Drop `size` bytes at the end (bpf_xdp_adjust_tail). Not there yet."""
        raise NotSupported("pkt.trim")


def _advance(info: TypeInfo, value: Any) -> int:
    """How far `read` moves the cursor: the size of the type, or the length that its header says."""
    if isinstance(info, StructType) and info.header_length is not None:
        header = info.header_length
        return int(getattr(value, header.field)) * header.scale
    return info.size
