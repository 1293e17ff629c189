"""Netlink: one request and its answers, the kernel's own words when it refuses, and what XDP needs of rtnetlink.

Messages are packed here by hand: they are few and small, and importing pyroute2 for them costs 0.2 s, more than a
whole load and attach. Making namespaces, devices and addresses, where it is worth that, is `netns`'s. Generic netlink
families build on `request` in their own modules.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ebpfkit.errors import KernelError
from ebpfkit.kernel.bpf import HasFileno

__all__ = [
    "Attribute", "Device", "NetlinkError", "XdpState", "find_device", "list_devices", "pack_attribute",
    "read_attributes", "request", "set_xdp",
]  # fmt: skip

NETLINK_ROUTE, NETLINK_GENERIC = 0, 16
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 1, 4, 0x300
_NLM_F_CAPPED, _NLM_F_ACK_TLVS, _NLM_F_DUMP_INTR = 0x100, 0x200, 0x10
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_NLMSGERR_ATTR_MSG = 1
_NLA_F_NESTED, _NLA_TYPE_MASK = 0x8000, 0x3FFF
_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BBHiII")
_RTM_NEWLINK, _RTM_GETLINK, _RTM_SETLINK = 16, 18, 19
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_EXT_MASK = 3, 4, 5, 10, 18, 29
_IFLA_NUM_TX, _IFLA_NUM_RX, _IFLA_XDP, _IFLA_ALT_IFNAME = 31, 32, 43, 53
_LONGEST_NAME, _LONGEST_ALTERNATIVE = 15, 127
_IFLA_INFO_KIND = 1
_XDP_FD, _XDP_ATTACHED, _XDP_FLAGS, _XDP_PROG_ID, _XDP_DRV_ID, _XDP_SKB_ID, _XDP_HW_ID, _XDP_EXPECTED_FD = range(1, 9)
_MODES = {1: "native", 2: "skb", 3: "hw", 4: "multi"}
_RTEXT_FILTER_SKIP_STATS = 8

Attribute = tuple[int, memoryview]


class NetlinkError(KernelError):
    """The kernel refused a netlink request; `extack` is its own text (empty when it gave none)."""

    def __init__(self, message: str, *, errno: int, extack: str = "") -> None:
        super().__init__(message, errno=errno)
        self.extack = extack


def pack_attribute(kind: int, payload: bytes, *, nested: bool = False) -> bytes:
    """One attribute, padded to 4 bytes."""
    head = struct.pack("=HH", len(payload) + 4, kind | (_NLA_F_NESTED if nested else 0))
    return head + payload + bytes(-len(payload) % 4)


def read_attributes(data: memoryview) -> Iterator[Attribute]:
    """The attributes of a message's tail; stops where what is left is no attribute."""
    at = 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4 or at + size > len(data):
            return
        yield kind & _NLA_TYPE_MASK, data[at + 4 : at + size]
        at += (size + 3) & ~3


def request(
    protocol: int, kind: int, body: bytes, *, dump: bool = False, flags: int = 0, what: str = "netlink request"
) -> list[memoryview]:
    """Send one request and return the bodies of its answers. Raises NetlinkError with the kernel's text."""
    flags |= NLM_F_REQUEST | (NLM_F_DUMP if dump else NLM_F_ACK)
    message = _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body
    for _ in range(3):
        answers = _exchange(protocol, message, what)
        if answers is not None:
            return answers
    raise NetlinkError(f"{what}: the answer kept changing while it was read", errno=4)


def _exchange(protocol: int, message: bytes, what: str) -> list[memoryview] | None:
    """The answers, or None when the kernel's tables changed under a dump and it asks for another try."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as sock:
            for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK):
                sock.setsockopt(_SOL_NETLINK, option, 1)
            sock.bind((0, 0))
            sock.send(message)
            return _receive(sock, what)
    except NetlinkError:
        raise
    except OSError as error:
        raise NetlinkError(f"{what}: {error.strerror or error}", errno=error.errno or 0) from error


def _receive(sock: socket.socket, what: str) -> list[memoryview] | None:
    answers: list[memoryview] = []
    interrupted = False
    while True:
        data = memoryview(sock.recv(1 << 18))
        at = 0
        while at + _HEADER.size <= len(data):
            size, kind, flags, _, _ = _HEADER.unpack_from(data, at)
            body = data[at + _HEADER.size : at + size]
            interrupted = interrupted or bool(flags & _NLM_F_DUMP_INTR)
            if kind == _NLMSG_ERROR:
                _check_error(body, flags, what)
                return answers
            if kind == _NLMSG_DONE:
                return None if interrupted else answers
            answers.append(body)
            at += (max(size, _HEADER.size) + 3) & ~3


def _check_error(body: memoryview, flags: int, what: str) -> None:
    number = -struct.unpack_from("=i", body)[0]
    if not number:
        return
    extack = ""
    if flags & _NLM_F_ACK_TLVS:
        echoed = _HEADER.size if flags & _NLM_F_CAPPED else struct.unpack_from("=I", body, 4)[0]
        for kind, value in read_attributes(body[4 + ((echoed + 3) & ~3) :]):
            if kind == _NLMSGERR_ATTR_MSG:
                extack = bytes(value).rstrip(b"\0").decode("utf-8", "replace").strip()
    raise NetlinkError(f"{what}: {extack or os.strerror(number)}", errno=number, extack=extack)


@dataclass(frozen=True, slots=True)
class XdpState:
    """What is attached to a device: `mode` "native", "skb", "hw", "multi" or "" for nothing; program ids by mode."""

    mode: str = ""
    program_ids: tuple[tuple[str, int], ...] = ()

    @property
    def program_id(self) -> int:
        """The id of the program of the mode in force, the first of several (0: none)."""
        return self.program_ids[0][1] if self.program_ids else 0

    def id_of(self, mode: str) -> int:
        """The id of the program attached in that mode (0: none)."""
        return dict(self.program_ids).get(mode, 0)


@dataclass(frozen=True, slots=True)
class Device:
    """A network device. `kind` is the kind of a virtual one ("veth", "bond", ""); `lower` and `master` are indices."""

    index: int
    name: str
    mtu: int
    kind: str = ""
    up: bool = False
    lower: int = 0
    master: int = 0
    tx_queues: int = 0
    rx_queues: int = 0
    xdp: XdpState = XdpState()


def list_devices() -> list[Device]:
    """Every device of the current network namespace. Raises NetlinkError."""
    body = _IFINFO.pack(0, 0, 0, 0, 0, 0) + pack_attribute(_IFLA_EXT_MASK, struct.pack("=I", _RTEXT_FILTER_SKIP_STATS))
    return [_device(answer) for answer in request(NETLINK_ROUTE, _RTM_GETLINK, body, dump=True, what="listing devices")]


def find_device(name_or_index: str | int) -> Device:
    """One device by name or index. Raises NetlinkError (ENODEV when there is none)."""
    if isinstance(name_or_index, int):
        if not 0 < name_or_index < 1 << 31:
            raise NetlinkError(f"{name_or_index} cannot be a device's index", errno=19)
        index, tail = name_or_index, b""
    else:
        name = os.fsencode(name_or_index)
        if not 0 < len(name) <= _LONGEST_ALTERNATIVE or b"\0" in name:
            raise NetlinkError(f"{name_or_index!r} cannot be a device's name", errno=19)
        kind = _IFLA_IFNAME if len(name) <= _LONGEST_NAME else _IFLA_ALT_IFNAME
        index, tail = 0, pack_attribute(kind, name + b"\0")
    mask = pack_attribute(_IFLA_EXT_MASK, struct.pack("=I", _RTEXT_FILTER_SKIP_STATS))
    body = _IFINFO.pack(0, 0, 0, index, 0, 0) + tail + mask
    answers = request(NETLINK_ROUTE, _RTM_GETLINK, body, what=f"looking up device {name_or_index}")
    if not answers:
        raise NetlinkError(f"looking up device {name_or_index}: no answer", errno=19)
    return _device(answers[0])


def _device(body: memoryview) -> Device:
    _, _, _, index, flags, _ = _IFINFO.unpack_from(body)
    attributes = dict(read_attributes(body[_IFINFO.size :]))

    def number(kind: int) -> int:
        value = attributes.get(kind)
        return int(struct.unpack_from("=I", value)[0]) if value is not None and len(value) >= 4 else 0

    info = dict(read_attributes(attributes.get(_IFLA_LINKINFO, memoryview(b""))))
    return Device(
        index=index,
        name=_text(attributes.get(_IFLA_IFNAME)),
        mtu=number(_IFLA_MTU),
        kind=_text(info.get(_IFLA_INFO_KIND)),
        up=bool(flags & 1),
        lower=number(_IFLA_LINK),
        master=number(_IFLA_MASTER),
        tx_queues=number(_IFLA_NUM_TX),
        rx_queues=number(_IFLA_NUM_RX),
        xdp=_xdp_state(attributes.get(_IFLA_XDP, memoryview(b""))),
    )


def _text(value: memoryview | None) -> str:
    return bytes(value).split(b"\0")[0].decode("utf-8", "replace") if value is not None else ""


def _xdp_state(nest: memoryview) -> XdpState:
    attributes = {kind: bytes(value) for kind, value in read_attributes(nest)}
    mode = _MODES.get(attributes.get(_XDP_ATTACHED, b"\0")[0], "")
    ids = _ids(attributes, (("native", _XDP_DRV_ID), ("skb", _XDP_SKB_ID), ("hw", _XDP_HW_ID)))
    if not ids and mode:  # kernels before 4.20 tell one id only
        ids = _ids(attributes, ((mode, _XDP_PROG_ID),))
    return XdpState(mode, tuple(ids))


def _ids(attributes: dict[int, bytes], kinds: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return [(mode, struct.unpack("=I", attributes[kind][:4])[0]) for mode, kind in kinds if kind in attributes]


def set_xdp(ifindex: int, prog: HasFileno | None, flags: int, *, expected: HasFileno | int | None = None) -> None:
    """Attach a program to a device (None: detach) as XDP_FLAGS_* say.

    `expected`, with XDP_FLAGS_REPLACE: the program that must be in place, or -1 for none. Raises NetlinkError: EEXIST
    or EBUSY when something else is there.
    """
    nest = pack_attribute(_XDP_FD, struct.pack("=i", prog.fileno() if prog is not None else -1))
    nest += pack_attribute(_XDP_FLAGS, struct.pack("=I", flags))
    if expected is not None:
        number = expected if isinstance(expected, int) else expected.fileno()
        nest += pack_attribute(_XDP_EXPECTED_FD, struct.pack("=i", number))
    body = _IFINFO.pack(0, 0, 0, ifindex, 0, 0) + pack_attribute(_IFLA_XDP, nest, nested=True)
    what = "attaching an XDP program" if prog is not None else "detaching the XDP program"
    request(NETLINK_ROUTE, _RTM_SETLINK, body, what=f"{what} on device {ifindex}")
