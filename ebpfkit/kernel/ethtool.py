"""ethtool's ioctls, as far as XDP and AF_XDP ask for them: driver, channels, rings, offloads, and which queue a packet
goes to (RSS, ntuple rules).

A device that does not know a question says so with EOPNOTSUPP: that is an answer here (None), not an error. A change
that it refuses is a KernelError. Structures are those of linux/ethtool.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

from ebpfkit.errors import KernelError

__all__ = [
    "Channels", "DriverInfo", "FlowRule", "RingSizes", "Rss", "add_flow_rule", "delete_flow_rule", "get_channels",
    "get_driver_info", "get_features", "get_flow_rules", "get_ring_sizes", "get_rss", "set_channels", "set_feature",
    "set_ring_sizes", "set_rss_queues",
]  # fmt: skip

_SIOCETHTOOL = 0x8946
_GDRVINFO, _GRINGPARAM, _GCHANNELS = 0x03, 0x10, 0x3C
_SCHANNELS, _SRINGPARAM = 0x3D, 0x11
_GSSET_INFO, _GSTRINGS, _GFEATURES, _SFEATURES = 0x37, 0x1B, 0x3A, 0x3B
_GRSSH, _SRSSH = 0x46, 0x47
_GRXCLSRLCNT, _GRXCLSRULE, _GRXCLSRLALL, _SRXCLSRLDEL, _SRXCLSRLINS = 0x2E, 0x2F, 0x30, 0x31, 0x32
_DRVINFO_SIZE = 196
_SS_FEATURES, _STRING_SIZE = 4, 32
_RSS_HEAD = 24
_FLOW_SPEC_SIZE = 168
_FLOW_TYPES = {"tcp4": 1, "udp4": 2}
_ANY_LOCATION = 0xFFFF_FFFF  # RX_CLS_LOC_ANY
_DISCARD = 0xFFFF_FFFF_FFFF_FFFF  # RX_CLS_FLOW_DISC


@dataclass(frozen=True, slots=True)
class DriverInfo:
    """struct ethtool_drvinfo: the driver's name and versions, and the bus address of the device."""

    driver: str
    version: str
    firmware: str
    bus: str


@dataclass(frozen=True, slots=True)
class Channels:
    """How many queues of each kind there are, and could be."""

    rx: int
    tx: int
    combined: int
    max_rx: int
    max_tx: int
    max_combined: int

    @property
    def receiving(self) -> int:
        """The number of queues that receive: valid ids for an AF_XDP socket are below it."""
        return self.rx + self.combined


@dataclass(frozen=True, slots=True)
class RingSizes:
    """Descriptors of the receive and transmit rings, and the most there could be."""

    rx: int
    tx: int
    max_rx: int
    max_tx: int


def _ioctl(device: str, request: bytes, *, change: bool = False) -> bytes | None:
    """The structure filled in, or None when the device does not know the question; a refused change is an error."""
    name = os.fsencode(device)
    if not 0 < len(name) <= 15:
        raise KernelError(f"{device!r} cannot be a device's name (1 to 15 bytes)", errno=errno.ENODEV)
    import ctypes

    room = ctypes.create_string_buffer(request, max(len(request), _DRVINFO_SIZE))
    ifreq = struct.pack("=16sQ16x" if struct.calcsize("P") == 8 else "=16sI12x", name, ctypes.addressof(room))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            fcntl.ioctl(sock, _SIOCETHTOOL, ifreq)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL) and not change:
                return None
            what = f"{'changing' if change else 'asking'} device {device} through ethtool"
            raise KernelError(f"{what}: {error.strerror}", errno=error.errno or 0) from error
    return room.raw


def get_driver_info(device: str) -> DriverInfo | None:
    """ETHTOOL_GDRVINFO. Raises KernelError (ENODEV)."""
    answer = _ioctl(device, struct.pack("=I", _GDRVINFO))
    if answer is None:
        return None
    texts = struct.unpack_from("=4x32s32s32s32s", answer)
    driver, version, firmware, bus = (text.split(b"\0")[0].decode("utf-8", "replace") for text in texts)
    return DriverInfo(driver, version, firmware, bus)


def get_channels(device: str) -> Channels | None:
    """ETHTOOL_GCHANNELS. Raises KernelError (ENODEV)."""
    answer = _ioctl(device, struct.pack("=9I", _GCHANNELS, *[0] * 8))
    if answer is None:
        return None
    _, max_rx, max_tx, _, max_combined, rx, tx, _, combined = struct.unpack_from("=9I", answer)
    return Channels(rx, tx, combined, max_rx, max_tx, max_combined)


def get_ring_sizes(device: str) -> RingSizes | None:
    """ETHTOOL_GRINGPARAM. Raises KernelError (ENODEV)."""
    answer = _ioctl(device, struct.pack("=9I", _GRINGPARAM, *[0] * 8))
    if answer is None:
        return None
    _, max_rx, _, _, max_tx, rx, _, _, tx = struct.unpack_from("=9I", answer)
    return RingSizes(rx, tx, max_rx, max_tx)


def set_channels(device: str, *, rx: int | None = None, tx: int | None = None, combined: int | None = None) -> None:
    """ETHTOOL_SCHANNELS: how many queues; what is None stays. Raises KernelError (EINVAL, EOPNOTSUPP, EPERM)."""
    answer = _ioctl(device, struct.pack("=9I", _GCHANNELS, *[0] * 8))
    if answer is None:
        raise KernelError(f"device {device} has no channels to set", errno=errno.EOPNOTSUPP)
    numbers = list(struct.unpack_from("=9I", answer))
    for place, value in ((5, rx), (6, tx), (8, combined)):
        if value is not None:
            numbers[place] = value
    numbers[0] = _SCHANNELS
    _ioctl(device, struct.pack("=9I", *numbers), change=True)


def set_ring_sizes(device: str, *, rx: int | None = None, tx: int | None = None) -> None:
    """ETHTOOL_SRINGPARAM. Raises KernelError."""
    answer = _ioctl(device, struct.pack("=9I", _GRINGPARAM, *[0] * 8))
    if answer is None:
        raise KernelError(f"device {device} has no ring sizes to set", errno=errno.EOPNOTSUPP)
    numbers = list(struct.unpack_from("=9I", answer))
    for place, value in ((5, rx), (8, tx)):
        if value is not None:
            numbers[place] = value
    numbers[0] = _SRINGPARAM
    _ioctl(device, struct.pack("=9I", *numbers), change=True)


# --- offloads


def _feature_names(device: str) -> list[str]:
    answer = _ioctl(device, struct.pack("=IIQI", _GSSET_INFO, 0, 1 << _SS_FEATURES, 0))
    if answer is None or not struct.unpack_from("=Q", answer, 8)[0]:
        return []
    (count,) = struct.unpack_from("=I", answer, 16)
    answer = _ioctl(device, struct.pack("=III", _GSTRINGS, _SS_FEATURES, count) + bytes(count * _STRING_SIZE))
    if answer is None:
        return []
    texts = (answer[12 + at * _STRING_SIZE : 12 + (at + 1) * _STRING_SIZE] for at in range(count))
    return [text.split(b"\0")[0].decode("ascii", "replace") for text in texts]


def get_features(device: str) -> dict[str, bool] | None:
    """ETHTOOL_GFEATURES: which offloads are on, by the kernel's names ("rx-lro", "rx-gro-hw", "rx-gro")."""
    names = _feature_names(device)
    blocks = (len(names) + 31) // 32
    answer = _ioctl(device, struct.pack("=II", _GFEATURES, blocks) + bytes(16 * blocks)) if names else None
    if answer is None:
        return None
    active = [struct.unpack_from("=I", answer, 8 + 16 * block + 8)[0] for block in range(blocks)]
    return {name: bool(active[at // 32] >> at % 32 & 1) for at, name in enumerate(names) if name}


def set_feature(device: str, name: str, on: bool) -> None:
    """ETHTOOL_SFEATURES: one offload on or off. Raises KernelError (EOPNOTSUPP: the device has none of that name)."""
    names = _feature_names(device)
    if name not in names:
        raise KernelError(f"device {device} has no offload {name!r}", errno=errno.EOPNOTSUPP)
    blocks = (len(names) + 31) // 32
    at = names.index(name)
    words = [(0, 0)] * blocks
    words[at // 32] = (1 << at % 32, int(on) << at % 32)
    body = b"".join(struct.pack("=II", valid, requested) for valid, requested in words)
    _ioctl(device, struct.pack("=II", _SFEATURES, blocks) + body, change=True)


# --- which queue a packet goes to


@dataclass(frozen=True, slots=True)
class Rss:
    """The indirection table: a packet's hash, modulo its length, is an index into it, and gives the queue."""

    table: tuple[int, ...]
    key: bytes = b""

    @property
    def queues(self) -> frozenset[int]:
        """The queues that hashed packets go to."""
        return frozenset(self.table)


def get_rss(device: str) -> Rss | None:
    """ETHTOOL_GRSSH: the default context's table and hash key."""
    head = struct.pack("=IIIIBBHI", _GRSSH, 0, 0, 0, 0, 0, 0, 0)
    answer = _ioctl(device, head)
    if answer is None:
        return None
    entries, key_size = struct.unpack_from("=II", answer, 8)
    request = struct.pack("=IIIIBBHI", _GRSSH, 0, entries, key_size, 0, 0, 0, 0) + bytes(4 * entries + key_size)
    answer = _ioctl(device, request)
    if answer is None:
        return None
    table = struct.unpack_from(f"={entries}I", answer, _RSS_HEAD)
    return Rss(table, answer[_RSS_HEAD + 4 * entries :][:key_size])


def rss_request(entries: int, queues: tuple[int, ...]) -> bytes:
    """ETHTOOL_SRSSH that spreads evenly over the queues and keeps key and hash function."""
    table = [queues[at % len(queues)] for at in range(entries)]
    return struct.pack("=IIIIBBHI", _SRSSH, 0, entries, 0, 0, 0, 0, 0) + struct.pack(f"={entries}I", *table)


def set_rss_queues(device: str, queues: tuple[int, ...]) -> None:
    """Spread packets over these queues only (`ethtool -X DEV equal N` and its kin). Raises KernelError."""
    rss = get_rss(device)
    if rss is None or not rss.table or not queues:
        raise KernelError(f"device {device} has no indirection table", errno=errno.EOPNOTSUPP)
    _ioctl(device, rss_request(len(rss.table), queues), change=True)


@dataclass(frozen=True, slots=True)
class FlowRule:
    """An ntuple rule for IPv4: packets that match go to `queue` (None: they are dropped). None matches anything."""

    queue: int | None
    protocol: str = "udp4"  # or "tcp4"
    source: str | None = None
    destination: str | None = None
    source_port: int | None = None
    destination_port: int | None = None
    location: int = _ANY_LOCATION

    def to_bytes(self) -> bytes:
        """struct ethtool_rx_flow_spec. Raises KernelError for what is no protocol, address or port."""
        if self.protocol not in _FLOW_TYPES:
            raise KernelError(
                f"flow rules here are for {' and '.join(_FLOW_TYPES)}, not {self.protocol}", errno=errno.EINVAL
            )
        value, mask = b"", b""
        for address in (self.source, self.destination):
            try:
                value += socket.inet_aton(address) if address is not None else bytes(4)
            except OSError as error:
                raise KernelError(f"{address!r} is no IPv4 address", errno=errno.EINVAL) from error
            mask += b"\xff" * 4 if address is not None else bytes(4)
        for port in (self.source_port, self.destination_port):
            value += struct.pack("!H", port or 0)
            mask += b"\xff\xff" if port is not None else bytes(2)
        head = struct.pack("=I", _FLOW_TYPES[self.protocol])
        cookie = _DISCARD if self.queue is None else self.queue
        return (
            head + value.ljust(52, b"\0") + bytes(20) + mask.ljust(52, b"\0") + bytes(20) + bytes(4)
            + struct.pack("=QI4x", cookie, self.location)
        )  # fmt: skip

    @classmethod
    def from_bytes(cls, data: bytes) -> FlowRule:
        """What the kernel gave; a rule for another protocol has it as "type-N", and addresses are not read."""
        (kind,) = struct.unpack_from("=I", data)
        cookie, location = struct.unpack_from("=QI", data, 152)
        queue = None if cookie == _DISCARD else cookie & 0xFFFF_FFFF
        name = next((name for name, number in _FLOW_TYPES.items() if number == kind & 0xFF), f"type-{kind & 0xFF}")
        if name not in _FLOW_TYPES:
            return cls(queue, name, location=location)
        parts: list[str | int | None] = []
        for at, size in ((4, 4), (8, 4), (12, 2), (14, 2)):
            value, mask = data[at : at + size], data[at + 72 : at + 72 + size]
            if not any(mask):
                parts.append(None)
            else:
                parts.append(socket.inet_ntoa(value) if size == 4 else int.from_bytes(value, "big"))
        names = ("source", "destination", "source_port", "destination_port")
        return cls(queue, name, location=location, **dict(zip(names, parts)))  # type: ignore[arg-type]


def _rxnfc(command: int, spec: bytes, *, data: int = 0, count: int = 0, rules: int = 0) -> bytes:
    """struct ethtool_rxnfc with room for `rules` numbers behind it."""
    return (
        struct.pack("=IIQ", command, 0, data)
        + spec.ljust(_FLOW_SPEC_SIZE, b"\0")
        + struct.pack("=I", count)
        + bytes(4 * rules + 4)
    )


def get_flow_rules(device: str) -> list[FlowRule] | None:
    """ETHTOOL_GRXCLSRLALL and GRXCLSRULE: the ntuple rules of a device."""
    answer = _ioctl(device, _rxnfc(_GRXCLSRLCNT, b""))
    if answer is None:
        return None
    (count,) = struct.unpack_from("=I", answer, 16 + _FLOW_SPEC_SIZE)
    answer = _ioctl(device, _rxnfc(_GRXCLSRLALL, b"", count=count, rules=count))
    if answer is None:
        return None
    found = []
    for location in struct.unpack_from(f"={count}I", answer, 16 + _FLOW_SPEC_SIZE + 4):
        rule = _ioctl(device, _rxnfc(_GRXCLSRULE, bytes(_FLOW_SPEC_SIZE - 8) + struct.pack("=I", location)))
        if rule is not None:
            found.append(FlowRule.from_bytes(rule[16 : 16 + _FLOW_SPEC_SIZE]))
    return found


def add_flow_rule(device: str, rule: FlowRule) -> int:
    """ETHTOOL_SRXCLSRLINS: add a rule; its location. Raises KernelError (EOPNOTSUPP: no such table)."""
    answer = _ioctl(device, _rxnfc(_SRXCLSRLINS, rule.to_bytes()), change=True)
    assert answer is not None
    return FlowRule.from_bytes(answer[16 : 16 + _FLOW_SPEC_SIZE]).location


def delete_flow_rule(device: str, location: int) -> None:
    """ETHTOOL_SRXCLSRLDEL. Raises KernelError (ENOENT)."""
    spec = bytes(_FLOW_SPEC_SIZE - 8) + struct.pack("=I", location)
    _ioctl(device, _rxnfc(_SRXCLSRLDEL, spec), change=True)
