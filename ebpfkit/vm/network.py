"""The network that a machine's programs see: devices, routes, neighbours, sockets, given by the caller.

Rows and the look-ups in them belong here; helpers that read packets and memory are in `helpers_network`. Nothing here
asks the machine's own kernel.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ebpfkit.abi.socket_structs import TCP_SOCK, TCP_SOCK_BYTES
from ebpfkit.errors import UsageError
from ebpfkit.maps.base import ORDER, ByteOrder

__all__ = [
    "KINDS", "LOCAL_TABLE", "MAIN_TABLE", "Device", "Fib", "FibVerdict", "Lookup", "Neighbour", "Route",
    "Socket", "XfrmState", "socket_bytes", "tcp_sock_bytes",
]  # fmt: skip

DEFAULT_TABLE, MAIN_TABLE, LOCAL_TABLE = 253, 254, 255
_ALL_TABLES = (LOCAL_TABLE, MAIN_TABLE, DEFAULT_TABLE)
KINDS: Final = ("unicast", "local", "broadcast", "blackhole", "unreachable", "prohibit", "throw")
"""What a route may be, in the words of `ip route`."""

_V4_OF_V6 = bytes([127, 0, 0, 6])  # what the kernel keeps as the IPv4 address of an IPv6 socket
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class FibVerdict(IntEnum):
    """The return values of bpf_fib_lookup (BPF_FIB_LKUP_RET_*)."""

    SUCCESS = 0
    BLACKHOLE = 1
    UNREACHABLE = 2
    PROHIBIT = 3
    NOT_FWDED = 4
    FWD_DISABLED = 5
    UNSUPP_LWT = 6
    NO_NEIGH = 7
    FRAG_NEEDED = 8
    NO_SRC_ADDR = 9


def _mac(text: str) -> bytes:
    try:
        data = bytes.fromhex(text.replace(":", "").replace("-", ""))
    except ValueError:
        data = b""
    if len(data) != 6:
        raise UsageError(f"{text!r} is no hardware address: write 02:00:00:00:00:01")
    return data


def _address(text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no IP address") from error


@dataclass(frozen=True, slots=True)
class Device:
    """A network device: `mtu` in bytes of layer 3, `header` the bytes of its link header, `forwarding` per family."""

    ifindex: int
    mtu: int = 1500
    mac: str = "00:00:00:00:00:00"
    forwarding: bool = True
    header: int = 14
    table: int = MAIN_TABLE  # where direct look-ups go: the table of its VRF
    address: bytes = field(init=False, repr=False, compare=False, default=b"")

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", _mac(self.mac))


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A resolved neighbour: its address, on which device, and its hardware address."""

    address: str
    ifindex: int
    mac: str


@dataclass(frozen=True, slots=True)
class Route:
    """A route in the words of `ip route`: `kind` is one of KINDS, `source` the preferred source address.

    `mtu` is the route's own locked one (`mtu lock`; 0: its device's), `encap` says that it goes through a lightweight
    tunnel.
    """

    destination: str
    ifindex: int = 0
    gateway: str | None = None
    kind: str = "unicast"
    metric: int = 0
    table: int = MAIN_TABLE
    source: str | None = None
    mtu: int = 0
    encap: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"no route is {self.kind!r}: there are {', '.join(KINDS)}")
        if self.kind == "unicast" and not self.ifindex:
            raise UsageError(f"the route to {self.destination} needs the ifindex of its device")


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a look-up found: the route when the verdict is SUCCESS, and the address of the next hop."""

    verdict: FibVerdict
    route: Route | None = None
    next_hop: Address | None = None
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    prefix: int
    mask: int
    length: int
    route: Route
    gateway: Address | None
    source: Address | None


_REFUSALS: Final = {
    "blackhole": FibVerdict.BLACKHOLE,
    "unreachable": FibVerdict.UNREACHABLE,
    "prohibit": FibVerdict.PROHIBIT,
}


class Fib:
    """Routing tables and neighbours, searched as the kernel's: longest prefix, then lowest metric, table by table.

    >>> fib = Fib([Route("192.0.2.0/24", 2), Route("0.0.0.0/0", 3, gateway="198.51.100.1")])
    >>> fib.lookup(ipaddress.ip_address("203.0.113.9")).next_hop
    IPv4Address('198.51.100.1')
    """

    def __init__(self, routes: Iterable[Route] = (), neighbours: Iterable[Neighbour] = ()) -> None:
        self._tables: dict[tuple[int, int], list[_Entry]] = {}
        self._neighbours: dict[tuple[int, Address], bytes] = {}
        for route in routes:
            self.add(route)
        for neighbour in neighbours:
            self.add_neighbour(neighbour)

    def add(self, route: Route) -> None:
        """Another route. Raises UsageError for addresses that are none."""
        try:
            network = ipaddress.ip_network(route.destination)
        except ValueError as error:
            raise UsageError(f"{route.destination!r} is no destination: {error}") from error
        gateway = _address(route.gateway) if route.gateway else None
        source = _address(route.source) if route.source else None
        first, mask = int(network.network_address), int(network.netmask)
        entry = _Entry(first, mask, network.prefixlen, route, gateway, source)
        entries = self._tables.setdefault((network.version, route.table), [])
        entries.append(entry)
        entries.sort(key=lambda one: (-one.length, one.route.metric))

    def add_neighbour(self, neighbour: Neighbour) -> None:
        """Another neighbour. Raises UsageError for addresses that are none."""
        self._neighbours[neighbour.ifindex, _address(neighbour.address)] = _mac(neighbour.mac)

    def neighbour(self, ifindex: int, address: Address) -> bytes | None:
        """The hardware address of a neighbour, or None when it is not resolved."""
        return self._neighbours.get((ifindex, address))

    def lookup(self, destination: Address, table: int | None = None, oif: int = 0) -> Lookup:
        """The route to a destination: in one table, or by the kernel's default rules (local, main, default).

        Local IPv4 addresses are in the main table too, as in a kernel without rules of its own. With `oif` only routes
        through that device count.
        """
        merged = table == MAIN_TABLE and destination.version == 4
        tables = _ALL_TABLES if table is None else _ALL_TABLES[:2] if merged else (table,)
        for number in tables:
            for entry in self._tables.get((destination.version, number), ()):
                if int(destination) & entry.mask != entry.prefix:
                    continue
                if oif and entry.route.ifindex not in (0, oif):
                    continue
                if entry.route.kind == "throw":
                    break
                if entry.route.kind != "unicast":
                    return Lookup(_REFUSALS.get(entry.route.kind, FibVerdict.NOT_FWDED), entry.route)
                return Lookup(FibVerdict.SUCCESS, entry.route, entry.gateway or destination, entry.source)
        return Lookup(FibVerdict.NOT_FWDED)


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket that look-ups find: `protocol` is "tcp" or "udp", `state` a TCP state's name in lower case.

    Without a remote address it listens (TCP) or takes from anybody (UDP). `is_v6only` is IPV6_V6ONLY of a wildcard.
    `cookie` names it in maps of sockets. `tcp` are the fields of struct bpf_tcp_sock that are not 0, by name. `kernel`
    are the bytes of the kernel's own structure, for programs that read it through skc_to_tcp_sock and its siblings.
    `cgroup_ancestors` are the ids of the control groups above `cgroup_id`, the root first. `sends_cookies` says that a
    listener answers with SYN cookies.
    """

    protocol: str
    local: str
    local_port: int
    remote: str = ""
    remote_port: int = 0
    state: str = ""
    bound_dev_if: int = 0
    mark: int = 0
    priority: int = 0
    rx_queue_mapping: int = -1
    is_v6only: bool = False
    cookie: int = 0
    uid: int = 65534
    cgroup_id: int = 1
    cgroup_ancestors: tuple[int, ...] = ()
    sends_cookies: bool = False
    tcp: Mapping[str, int] = field(default_factory=dict, hash=False)
    kernel: bytes = b""

    def __post_init__(self) -> None:
        if self.protocol not in ("tcp", "udp"):
            raise UsageError(f"a socket is tcp or udp, not {self.protocol!r}")
        _address(self.local)
        if self.remote:
            _address(self.remote)
        if self.state and self.state not in TCP_STATES:
            raise UsageError(f"no TCP state {self.state!r}: there are {', '.join(TCP_STATES)}")
        unknown = set(self.tcp) - set(TCP_SOCK)
        if unknown:
            raise UsageError(f"struct bpf_tcp_sock has no field {min(unknown)!r}; there are {', '.join(TCP_SOCK)}")

    @property
    def state_number(self) -> int:
        """The number of the state (TCP_LISTEN = 10): as named, or what the addresses mean."""
        if self.state:
            return TCP_STATES[self.state]
        if self.remote:
            return TCP_STATES["established"]
        return TCP_STATES["listen" if self.protocol == "tcp" else "close"]

    @property
    def is_full(self) -> bool:
        """Whether it is a full socket, no request or time-wait one."""
        return self.state not in ("time_wait", "new_syn_recv")

    @property
    def is_v6(self) -> bool:
        """Whether it is a socket of AF_INET6."""
        return ":" in self.local

    @property
    def cgroups(self) -> tuple[int, ...]:
        """Its control group and those above it, the root first."""
        return (*self.cgroup_ancestors, self.cgroup_id)

    def score(self, source: Address, source_port: int, destination: Address, port: int, ifindex: int) -> int:
        """How well it takes a packet of these addresses: 0 not at all, a connected one best."""
        local = _address(self.local)
        if self.local_port != port or (self.bound_dev_if and self.bound_dev_if != ifindex):
            return 0
        wildcard = not int(local)
        if local != destination and not (wildcard and (local.version == destination.version or self._is_dual(local))):
            return 0
        score = 1 + 4 * (not wildcard) + 2 * (self.bound_dev_if != 0) + (local.version == destination.version)
        if self.remote:
            if (_address(self.remote), self.remote_port) != (source, source_port):
                return 0
            score += 16
        return score

    def _is_dual(self, local: Address) -> bool:
        return local.version == 6 and not self.is_v6only


TCP_STATES: Final = {
    "established": 1,
    "syn_sent": 2,
    "syn_recv": 3,
    "fin_wait1": 4,
    "fin_wait2": 5,
    "time_wait": 6,
    "close": 7,
    "close_wait": 8,
    "last_ack": 9,
    "listen": 10,
    "closing": 11,
    "new_syn_recv": 12,
}
"""States of a TCP socket by name, with the kernel's numbers."""


def socket_bytes(socket: Socket, order: ByteOrder = ORDER) -> bytes:
    """The socket as `struct bpf_sock` shows it to programs of this byte order."""
    local, remote = ipaddress.ip_address(socket.local), ipaddress.ip_address(socket.remote or "0.0.0.0")
    is_v4 = local.version == 4
    numbers = (
        socket.bound_dev_if,
        2 if is_v4 else 10,
        1 if socket.protocol == "tcp" else 2,
        6 if socket.protocol == "tcp" else 17,
        socket.mark,
        socket.priority,
    )
    return b"".join(
        (
            *(number.to_bytes(4, order) for number in numbers),
            local.packed if is_v4 else _V4_OF_V6 if int(local) else bytes(4),
            bytes(16) if is_v4 else local.packed,
            socket.local_port.to_bytes(4, order),
            socket.remote_port.to_bytes(2, "big") + bytes(2),
            remote.packed if is_v4 else _V4_OF_V6 if socket.remote else bytes(4),
            remote.packed if remote.version == 6 else bytes(16),
            socket.state_number.to_bytes(4, order),
            socket.rx_queue_mapping.to_bytes(4, order, signed=True),
        )
    )


def tcp_sock_bytes(socket: Socket, order: ByteOrder = ORDER) -> bytes:
    """The socket as `struct bpf_tcp_sock` shows it to programs of this byte order."""
    data = bytearray(TCP_SOCK_BYTES)
    for name, value in socket.tcp.items():
        offset, size = TCP_SOCK[name]
        data[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, order)
    return bytes(data)


@dataclass(frozen=True, slots=True)
class XfrmState:
    """An IPsec state that packets came through: its request id, SPI, and the address of the remote end."""

    reqid: int
    spi: int
    remote: str

    def __post_init__(self) -> None:
        _address(self.remote)

    def to_bytes(self, order: ByteOrder) -> bytes:
        """As `struct bpf_xfrm_state` shows it to programs of this byte order."""
        remote = _address(self.remote)
        family = 2 if remote.version == 4 else 10
        head = self.reqid.to_bytes(4, order) + self.spi.to_bytes(4, "big") + family.to_bytes(2, order) + bytes(2)
        return head + remote.packed.ljust(16, b"\0")
