"""The context of programs that see socket buffers: traffic control, socket filters, control groups.

Which fields a program may read and write, and whether it may look into the packet directly, is its type's: the rows of
`ebpfkit.abi.contexts` say so. A type without direct access reads copies.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ebpfkit.abi.contexts import CONTEXTS
from ebpfkit.abi.limits import ETHERNET_HEADER
from ebpfkit.abi.model import ContextField, FieldResult
from ebpfkit.dsl.addresses import IPv4Addr, IPv6Addr
from ebpfkit.dsl.arrays import array
from ebpfkit.dsl.memory import Region, RegionKind
from ebpfkit.dsl.packet import Reader
from ebpfkit.dsl.refusal import refuse
from ebpfkit.dsl.running import ShortExit
from ebpfkit.dsl.typeinfo import StructType
from ebpfkit.dsl.types import be16, be32, info_of, u8, u32, u64
from ebpfkit.errors import UsageError

if TYPE_CHECKING:
    from ebpfkit.dsl.kinds import Kind

__all__ = ["SkBuff"]

T = TypeVar("T")
_SIZE = 192


class SkBuff(Reader):
    """The packet that traffic control, a socket filter or a control group calls its program with (`struct __sk_buff`).

    `len(skb)` is its length. Fields that the program's type cannot read, or write, are refused by name.
    """

    __slots__ = ("_data", "_fields", "_kind", "_link", "_meta_region", "_rows")

    pkt_type: u32
    mark: u32
    queue_mapping: u32
    protocol: be16
    vlan_present: u32
    vlan_tci: u32
    vlan_proto: be16
    priority: u32
    ingress_ifindex: u32
    ifindex: u32
    tc_index: u32
    cb: array[u32, Literal[5]]
    hash: u32
    tc_classid: u32
    napi_id: u32
    family: u32
    remote_ip4: IPv4Addr
    local_ip4: IPv4Addr
    remote_ip6: IPv6Addr
    local_ip6: IPv6Addr
    remote_port: be32
    local_port: u32
    tstamp: u64
    wire_len: u32
    gso_segs: u32
    gso_size: u32
    tstamp_type: u8
    hwtstamp: u64

    def __init__(self, frame: bytes, kind: Kind, values: Mapping[str, int] | None = None) -> None:
        self._kind = kind
        self._rows = {row.name: row for row in CONTEXTS[kind.layout].fields}
        self._fields = Region(bytearray(_SIZE))
        self._link = b"" if kind.sees_link_layer else frame[:ETHERNET_HEADER]
        self._place(bytearray(frame[len(self._link) :]))
        self._meta_region = Region(bytearray(), RegionKind.PACKET)
        self._start_field("protocol", int.from_bytes(frame[12:14], "little"))
        for name, value in (values or {}).items():
            row = self._rows.get(name)
            if row is None or row.result is not FieldResult.SCALAR or row.count > 1:
                raise UsageError(f"{kind.layout} has no field '{name}' to set")
            self._start_field(name, value)

    def _start_field(self, name: str, value: int) -> None:
        row = self._rows[name]
        self._fields.data[row.offset : row.offset + row.size] = value.to_bytes(row.size, "little")

    def _row(self, name: str) -> ContextField:
        row = self._rows.get(name)
        if row is None:
            refuse("context-field", f"a {self._kind.decorator} program cannot read {name}", "see docs/program-types.md")
        return row

    def _place(self, data: bytearray) -> None:
        kind = RegionKind.PACKET if self._kind.access == "write" else RegionKind.READ_ONLY_PACKET
        self._data = data
        self._region = Region(data, kind)
        self._cursor = 0

    def _look(self, what: type[T]) -> T | None:
        if not self._kind.access:  # bpf_skb_load_bytes copies
            size = info_of(what).size
            if self._cursor + size > len(self._data):
                return None
            copy = Region(self._data[self._cursor : self._cursor + size], RegionKind.READ_ONLY_PACKET)
            return self._load(what, copy, 0)
        return super()._look(what)

    def pull(self, size: int, /) -> None:
        """Make the first `size` bytes readable in place (bpf_skb_pull_data); 0 means as many as lie together.

        A packet of the network's stack may be in pieces, of which only the first can be read in place. Like every call
        that may move the packet, it ends the life of all views and puts the cursor at the packet's first byte.
        """
        if self._kind.access != "write":
            refuse("no-such-field", f"a {self._kind.decorator} program has no pull()")
        if size > len(self._data):
            raise ShortExit(f"{len(self)} bytes are fewer than {size}")
        self._moved("pull()", self._data)

    def meta(self, what: type[T], /) -> T | None:
        """A view of the metadata that an XDP program put in front of the packet, or None when there is less."""
        info = info_of(what)
        if "data_meta" not in self._rows:
            refuse("no-such-field", f"a {self._kind.decorator} program has no metadata")
        if not isinstance(info, StructType):
            refuse("bad-type", "metadata is a structure", "write a Struct of it")
        return None if len(self._meta_region.data) < info.size else self._load(what, self._meta_region, 0)

    def _moved(self, what: str, data: bytearray) -> None:
        """The packet may be elsewhere: the views of before are dead."""
        self._region.dead = f"{what} may have moved the packet"
        self._place(data)

    @property
    def frame(self) -> bytes:
        """The packet as a run gives it back: a link header that the program never saw comes back as zeros."""
        return bytes(len(self._link)) + bytes(self._data)


class _ContextField:
    """The descriptor of one field: where the row of the program's type says it is."""

    __slots__ = ("kind", "name")

    def __init__(self, name: str, kind: Any) -> None:
        self.name = name
        self.kind = kind

    def __get__(self, instance: SkBuff | None, owner: Any = None, /) -> Any:
        if instance is None:
            return self
        row = instance._row(self.name)
        return self.kind.__ebpf_load__(instance._fields, row.offset)

    def __set__(self, instance: SkBuff, value: object, /) -> None:
        row = instance._row(self.name)
        if not row.writable or row.count > 1:
            kind = instance._kind.decorator
            refuse("read-only", f"a {kind} program cannot assign {self.name}", "see docs/program-types.md")
        self.kind.__ebpf_store__(instance._fields, row.offset, value)


FIELDS: dict[str, Any] = {
    name: kind for name, kind in inspect.get_annotations(SkBuff, eval_str=True).items() if not name.startswith("_")
}
"""The type of each field, by name."""
for _name, _kind in FIELDS.items():
    setattr(SkBuff, _name, _ContextField(_name, _kind))
