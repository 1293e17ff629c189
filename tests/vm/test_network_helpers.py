"""Routes, MTUs and sockets: the machine's tables answer as the kernel does in a namespace made the same way."""

from __future__ import annotations

import ipaddress
import socket as sockets
import struct
import subprocess
from collections.abc import Iterator

import pytest

from ebpfkit.errors import MachineFault, NotSupported, UsageError
from ebpfkit.kernel.netns import Namespace
from ebpfkit.loader.collection import Collection
from ebpfkit.vm.machine import Machine
from ebpfkit.vm.network import Device, Fib, FibVerdict, Neighbour, Route, Socket

from ..conftest import require_tool
from .both import object_of

MACS = {2: "02:00:00:00:00:02", 3: "02:00:00:00:00:03", 4: "02:00:00:00:00:04"}
SETUP = """
link set lo up
link add d2 index 2 address 02:00:00:00:00:02 type veth peer name e2 index 12
link add d3 index 3 address 02:00:00:00:00:03 mtu 1400 type veth peer name e3 index 13
link add d4 index 4 address 02:00:00:00:00:04 type veth peer name e4 index 14
link set d2 up
link set e2 up
link set d3 up
link set e3 up
link set d4 up
link set e4 up
addr add 192.0.2.1/24 dev d2
addr add 198.51.100.1/24 dev d3
addr add 2001:db8:2::1/64 dev d2 nodad
addr add 2001:db8:3::1/64 dev d3 nodad
route add 203.0.113.0/24 via 198.51.100.9 dev d3 metric 7
route add 203.0.113.128/25 via 198.51.100.8 dev d3 mtu lock 1000
route add 203.0.113.192/26 via 198.51.100.8 dev d3 mtu 900
route add blackhole 10.1.0.0/16
route add unreachable 10.2.0.0/16
route add prohibit 10.3.0.0/16
route add throw 10.4.0.0/16
route add 10.5.0.0/16 via inet6 2001:db8:3::9 dev d3
route add 10.6.0.0/16 dev d3 src 198.51.100.1
route add 10.7.0.0/16 via 192.0.2.9 dev d2 metric 20
route add 10.7.0.0/16 via 198.51.100.9 dev d3 metric 10
route add 10.8.0.0/16 via 192.0.2.9 dev d2 table 100
-6 route add 2001:db8:9::/48 via 2001:db8:3::9 dev d3 metric 5
-6 route add blackhole 2001:db8:a::/48
-6 route add unreachable 2001:db8:b::/48
-6 route add prohibit 2001:db8:c::/48
neigh add 198.51.100.9 lladdr 02:99:00:00:00:09 dev d3
neigh add 198.51.100.8 lladdr 02:99:00:00:00:08 dev d3
neigh add 192.0.2.77 lladdr 02:99:00:00:00:77 dev d2
neigh add 2001:db8:3::9 lladdr 02:99:00:00:06:09 dev d3
neigh add 2001:db8:2::77 lladdr 02:99:00:00:06:77 dev d2
"""
DEVICES = [
    Device(1, mtu=65536),
    Device(2, mac=MACS[2]),
    Device(3, mac=MACS[3], mtu=1400),
    Device(4, mac=MACS[4], forwarding=False),
]
ROUTES = [
    Route("192.0.2.0/24", 2, source="192.0.2.1"),
    Route("198.51.100.0/24", 3, source="198.51.100.1"),
    Route("192.0.2.1/32", 2, kind="local", table=255),
    Route("198.51.100.1/32", 3, kind="local", table=255),
    Route("192.0.2.255/32", 2, kind="broadcast", table=255),
    Route("127.0.0.0/8", 1, kind="local", table=255),
    Route("2001:db8:2::/64", 2, metric=256, source="2001:db8:2::1"),
    Route("2001:db8:3::/64", 3, metric=256, source="2001:db8:3::1"),
    Route("2001:db8:2::1/128", 2, kind="local", table=255),
    Route("203.0.113.0/24", 3, gateway="198.51.100.9", metric=7, source="198.51.100.1"),
    Route("203.0.113.128/25", 3, gateway="198.51.100.8", mtu=1000, source="198.51.100.1"),
    Route("203.0.113.192/26", 3, gateway="198.51.100.8", source="198.51.100.1"),
    Route("10.1.0.0/16", kind="blackhole"),
    Route("10.2.0.0/16", kind="unreachable"),
    Route("10.3.0.0/16", kind="prohibit"),
    Route("10.4.0.0/16", kind="throw"),
    Route("10.5.0.0/16", 3, gateway="2001:db8:3::9", source="198.51.100.1"),
    Route("10.6.0.0/16", 3, source="198.51.100.1"),
    Route("10.7.0.0/16", 2, gateway="192.0.2.9", metric=20),
    Route("10.7.0.0/16", 3, gateway="198.51.100.9", metric=10),
    Route("10.8.0.0/16", 2, gateway="192.0.2.9", table=100),
    Route("2001:db8:9::/48", 3, gateway="2001:db8:3::9", metric=5, source="2001:db8:3::1"),
    Route("2001:db8:a::/48", kind="blackhole"),
    Route("2001:db8:b::/48", kind="unreachable"),
    Route("2001:db8:c::/48", kind="prohibit"),
]
NEIGHBOURS = [
    Neighbour("198.51.100.9", 3, "02:99:00:00:00:09"),
    Neighbour("198.51.100.8", 3, "02:99:00:00:00:08"),
    Neighbour("192.0.2.77", 2, "02:99:00:00:00:77"),
    Neighbour("2001:db8:3::9", 3, "02:99:00:00:06:09"),
    Neighbour("2001:db8:2::77", 2, "02:99:00:00:06:77"),
]
SOCKETS = [
    Socket("tcp", "192.0.2.1", 80),
    Socket("tcp", "0.0.0.0", 81),
    Socket("tcp", "::", 82),
    Socket("tcp", "::", 83, is_v6only=True),
    Socket("udp", "192.0.2.1", 53),
    Socket("udp", "0.0.0.0", 54),
    Socket("udp", "192.0.2.1", 55, remote="192.0.2.77", remote_port=5555),
    Socket("udp", "2001:db8:2::1", 56),
    Socket("tcp", "192.0.2.1", 84, bound_dev_if=2),
]
DIRECT, OUTPUT, SKIP_NEIGH, TBID, SRC = 1, 2, 4, 8, 16


@pytest.fixture(scope="module")
def space() -> Iterator[Namespace]:
    ip = require_tool("ip")
    made = Namespace()
    held = []
    with made.enter():
        for line in SETUP.strip().splitlines():
            subprocess.run([ip, *line.split()], check=True, capture_output=True)
        for family in ("ipv4", "ipv6"):
            for device in ("all", "d2", "d3"):
                with open(f"/proc/sys/net/{family}/conf/{device}/forwarding", "w") as switch:
                    switch.write("1")
            with open(f"/proc/sys/net/{family}/conf/d4/forwarding", "w") as switch:
                switch.write("0")
        for row in SOCKETS:
            held.append(open_socket(row))
    yield made
    for one in held:
        one.close()
    made.close()


def open_socket(row: Socket) -> sockets.socket:
    family = sockets.AF_INET6 if ":" in row.local else sockets.AF_INET
    one = sockets.socket(family, sockets.SOCK_STREAM if row.protocol == "tcp" else sockets.SOCK_DGRAM)
    one.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    if family == sockets.AF_INET6:
        one.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, int(row.is_v6only))
    if row.bound_dev_if:
        one.setsockopt(sockets.SOL_SOCKET, sockets.SO_BINDTODEVICE, b"d%d" % row.bound_dev_if)
    one.bind((row.local, row.local_port))
    if row.remote:
        one.connect((row.remote, row.remote_port))
    elif row.protocol == "tcp":
        one.listen()
    return one


def on_stack(size: int, call: str, xdp: bool = True) -> str:
    """Bring `size` bytes of the packet to the stack, call, and write them back; r0 is the call's."""
    load, store = ("xdp_load_bytes#189", "xdp_store_bytes#190") if xdp else ("skb_load_bytes#26", "skb_store_bytes#9")
    return f"""
        r6 = r1
        r2 = 0
        r3 = r10
        r3 += -{size}
        r4 = {size}
        call bpf_{load}
        if r0 != 0 goto out
        {call}
        r7 = r0
        r1 = r6
        r2 = 0
        r3 = r10
        r3 += -{size}
        r4 = {size}
        r5 = 0
        call bpf_{store}
        r0 = r7
        out:
        exit
    """


def both(asm: str, packet: bytes, space: Namespace, prog_type: str = "xdp") -> tuple[object, object]:
    obj = object_of(asm, prog_type=prog_type)
    with space.enter(), Collection.load(obj, programs=["prog"]) as collection:
        theirs = collection.programs["prog"].test_run(packet)
    ours = machine(asm, prog_type).run(packet)
    return (hex(ours.r0 & 0xFFFF_FFFF), ours.data.hex(" ")), (hex(theirs.retval), theirs.data.hex(" "))


def machine(asm: str, prog_type: str = "xdp") -> Machine:
    obj = object_of(asm, prog_type=prog_type)
    return Machine(obj, fib=Fib(ROUTES, NEIGHBOURS), devices=DEVICES, sockets=SOCKETS)


# --- fib_lookup -------------------------------------------------------------------------------------------------------


def request(destination: str, source: str = "", ifindex: int = 2, total: int = 0, table: int = 0) -> bytes:
    to = ipaddress.ip_address(destination)
    of = ipaddress.ip_address(source or ("192.0.2.77" if to.version == 4 else "2001:db8:2::77"))
    head = struct.pack("=BBHHHII", 2 if to.version == 4 else 10, 17, 0, 0, total, ifindex, 0)
    return head + of.packed.ljust(16, b"\0") + to.packed.ljust(16, b"\0") + struct.pack("=I12x", table)


def lookup(flags: int, size: int = 64, xdp: bool = True) -> str:
    return on_stack(64, f"r1 = r6\nr2 = r10\nr2 += -64\nr3 = {size}\nr4 = {flags}\ncall bpf_fib_lookup#69", xdp)


REQUESTS = {
    "by gateway": (request("203.0.113.5"), 0),
    "longer prefix": (request("203.0.113.130"), 0),
    "on the link": (request("192.0.2.77"), 0),
    "no neighbour": (request("192.0.2.66"), 0),
    "without neighbours": (request("192.0.2.66"), SKIP_NEIGH),
    "gateway without neighbours": (request("203.0.113.5"), SKIP_NEIGH),
    "our own address": (request("192.0.2.1"), 0),
    "our own address, main table": (request("192.0.2.1"), DIRECT),
    "broadcast": (request("192.0.2.255"), 0),
    "loopback": (request("127.0.0.1"), 0),
    "no route": (request("8.8.8.8"), 0),
    "no route, main table": (request("8.8.8.8"), DIRECT),
    **{
        f"{name}{' in main' if flags else ''}": (request(to), flags)
        for name, to in [
            ("blackhole", "10.1.2.3"),
            ("unreachable", "10.2.2.3"),
            ("prohibit", "10.3.2.3"),
            ("throw", "10.4.2.3"),
            ("blackhole of ipv6", "2001:db8:a::1"),
            ("unreachable of ipv6", "2001:db8:b::1"),
            ("prohibit of ipv6", "2001:db8:c::1"),
        ]
        for flags in (0, DIRECT)
    },
    "lower metric": (request("10.7.1.1"), 0),
    "gateway of the other family": (request("10.5.1.1"), 0),
    "source": (request("10.6.1.1"), SRC | SKIP_NEIGH),
    "source by gateway": (request("203.0.113.5"), SRC),
    "source of ipv6": (request("2001:db8:9::1"), SRC),
    "another table": (request("10.8.1.1", table=100), DIRECT | TBID | SKIP_NEIGH),
    "another table, empty": (request("10.8.1.1", table=101), DIRECT | TBID),
    "not in main": (request("10.8.1.1"), 0),
    "small enough": (request("203.0.113.5", total=1400), 0),
    "too long for the device": (request("203.0.113.5", total=1401), 0),
    "too long for the route": (request("203.0.113.130", total=1001), 0),
    "small enough for the route": (request("203.0.113.130", total=1000), 0),
    "an MTU that is not locked": (request("203.0.113.200", total=901), 0),
    "too long for ipv6": (request("2001:db8:9::1", total=1401), 0),
    "small enough for ipv6": (request("2001:db8:9::1", total=1400), 0),
    "output": (request("203.0.113.5", ifindex=3), OUTPUT),
    "output of another device": (request("203.0.113.5", ifindex=2), OUTPUT),
    "forwarding is off": (request("203.0.113.5", ifindex=4), 0),
    "no such device": (request("203.0.113.5", ifindex=99), 0),
    "ipv6 by gateway": (request("2001:db8:9::1"), 0),
    "ipv6 on the link": (request("2001:db8:2::77"), 0),
    "ipv6 without neighbour": (request("2001:db8:2::66"), 0),
    "ipv6 our own": (request("2001:db8:2::1"), 0),
    "ipv6 our own, main table": (request("2001:db8:2::1"), DIRECT),
    "ipv6 no route": (request("2001:db8:ffff::1"), 0),
    "ipv6 no route, main table": (request("2001:db8:ffff::1"), DIRECT),
    "wrong flags": (request("203.0.113.5"), 64),
    "no family": (bytes(8) + struct.pack("=I", 2) + bytes(52), 0),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", REQUESTS)
def test_fib_lookup(name: str, space: Namespace) -> None:
    packet, flags = REQUESTS[name]
    ours, theirs = both(lookup(flags), packet, space)
    assert ours == theirs


@pytest.mark.kernel
@pytest.mark.parametrize("length", [64, 1414, 1418, 1419, 2000])
def test_fib_lookup_of_a_classifier_looks_at_the_packet(length: int, space: Namespace) -> None:
    packet = request("203.0.113.5").ljust(length, b"\0")
    ours, theirs = both(lookup(0, xdp=False), packet, space, "sched_cls")
    assert ours == theirs


@pytest.mark.kernel
def test_fib_lookup_with_a_short_structure(space: Namespace) -> None:
    ours, theirs = both(lookup(0, size=63), request("203.0.113.5"), space)
    assert ours == theirs


def test_fib_lookup_by_hand() -> None:
    result = machine(lookup(0)).run(request("203.0.113.5"))
    assert result.r0 == FibVerdict.SUCCESS
    assert int.from_bytes(result.data[8:12], "little") == 3
    assert result.data[32:36] == bytes([198, 51, 100, 9])
    assert (result.data[52:58].hex(":"), result.data[58:64].hex(":")) == (MACS[3], "02:99:00:00:00:09")


def test_the_table_alone() -> None:
    fib = Fib([Route("10.0.0.0/8", 2), Route("10.1.0.0/16", kind="throw"), Route("0.0.0.0/0", 3, table=253)])
    routes = [fib.lookup(ipaddress.ip_address(text)).route for text in ("10.2.0.1", "10.1.0.1", "11.0.0.1")]
    assert [route.ifindex if route else None for route in routes] == [2, 3, 3]
    assert fib.lookup(ipaddress.ip_address("::1")).verdict is FibVerdict.NOT_FWDED


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Route("10.0.0.0/8"), "needs the ifindex"),
        (lambda: Route("10.0.0.0/8", 1, kind="odd"), "no route is 'odd'"),
        (lambda: Fib([Route("10.0.0.1/8", 1)]), "no destination"),
        (lambda: Fib([Route("10.0.0.0/8", 1, gateway="x")]), "no IP address"),
        (lambda: Device(1, mac="02:00"), "no hardware address"),
        (lambda: Socket("sctp", "10.0.0.1", 1), "tcp or udp"),
        (lambda: Socket("tcp", "10.0.0.1", 1, state="odd"), "no TCP state"),
    ],
)
def test_wrong_rows_are_refused(make: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("asm", "what"),
    [
        (lookup(0), "fib="),
        (on_stack(4, "r1 = r6\nr2 = 0\nr3 = r10\nr3 += -4\nr4 = 0\nr5 = 0\ncall bpf_check_mtu#163"), "devices="),
        (on_stack(12, "r1 = r6\nr2 = r10\nr2 += -12\nr3 = 12\nr4 = -1\nr5 = 0\ncall bpf_sk_lookup_tcp#84"), "sockets="),
        ("call bpf_get_current_pid_tgid#14\nexit", "task="),
    ],
)
def test_without_a_table_the_helper_says_what_to_give(asm: str, what: str) -> None:
    with pytest.raises(NotSupported, match=what):
        Machine(object_of(asm)).run(request("203.0.113.5"))


# --- check_mtu --------------------------------------------------------------------------------------------------------


def check_mtu(ifindex: int, delta: int, flags: int, xdp: bool = True) -> str:
    return on_stack(
        4, f"r1 = r6\nr2 = {ifindex}\nr3 = r10\nr3 += -4\nr4 = {delta}\nr5 = {flags}\ncall bpf_check_mtu#163", xdp
    )


@pytest.mark.kernel
@pytest.mark.parametrize("prog_type", ["xdp", "sched_cls"])
@pytest.mark.parametrize(
    ("ifindex", "wanted", "delta", "flags", "length"),
    [
        (2, 0, 0, 0, 1514),
        (2, 0, 0, 0, 1515),
        (2, 0, 1, 0, 1514),
        (2, 0, -1, 0, 1515),
        (2, 1500, 0, 0, 64),
        (2, 1501, 0, 0, 64),
        (3, 1500, -100, 0, 64),
        (3, 0, 0, 0, 64),
        (2, 0, 2000, 0, 64),
        (2, 0, -2000, 0, 64),
        (99, 0, 0, 0, 64),
        (2, 0, 0, 1, 64),
        (2, 5, 0, 1, 64),
        (2, 0, 5, 1, 64),
        (2, 0, 0, 2, 64),
        (0, 0, 0, 0, 64),
    ],
)
def test_check_mtu(
    prog_type: str, ifindex: int, wanted: int, delta: int, flags: int, length: int, space: Namespace
) -> None:
    packet = wanted.to_bytes(4, "little") + bytes(length - 4)
    ours, theirs = both(check_mtu(ifindex, delta, flags, prog_type == "xdp"), packet, space, prog_type)
    assert ours == theirs


# --- sockets ----------------------------------------------------------------------------------------------------------


def tuple_of(source: str, source_port: int, destination: str, port: int) -> bytes:
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    return ends + struct.pack(">HH", source_port, port)


FIELDS = (4, 8, 12, 16, 20, 24, 28, 40, 44, 52, 72)  # what is the same in every run
COMMON_FIELDS = (4, 24, 28, 40, 44, 52, 72)  # and there in any kind of socket


def find(helper: str, size: int, netns: int = -1, flags: int = 0) -> str:
    known = COMMON_FIELDS if helper.startswith("skc") else FIELDS
    fields = "".join(f"r2 = *(u32 *)(r8 +{at})\nr7 *= 31\nr7 += r2\n" for at in known)
    fields += "r2 = *(u16 *)(r8 +48)\nr7 *= 31\nr7 += r2\n"
    return on_stack(
        size,
        f"r1 = r6\nr2 = r10\nr2 += -{size}\nr3 = {size}\nr4 = {netns}\nr5 = {flags}\ncall bpf_{helper}\n"
        f"if r0 == 0 goto out\nr8 = r0\nr7 = 1\n{fields}r1 = r8\ncall bpf_sk_release#86\nr0 = r7",
    )


V4, V6 = ("192.0.2.77", 5555, "192.0.2.1"), ("2001:db8:2::77", 5555, "2001:db8:2::1")


@pytest.mark.kernel
@pytest.mark.parametrize("helper", ["sk_lookup_tcp#84", "sk_lookup_udp#85", "skc_lookup_tcp#99"])
@pytest.mark.parametrize("port", [53, 54, 55, 56, 80, 81, 82, 83, 84, 99])
@pytest.mark.parametrize("ends", [V4, V6, ("192.0.2.78", 5555, "192.0.2.1"), ("192.0.2.77", 5555, "198.51.100.1")])
def test_socket_lookups(helper: str, port: int, ends: tuple[str, int, str], space: Namespace) -> None:
    packet = tuple_of(*ends, port)
    asm = find(helper, len(packet))
    ours, theirs = both(asm, packet.ljust(64, b"\0"), space)
    assert ours == theirs


@pytest.mark.kernel
@pytest.mark.parametrize(("netns", "flags"), [(-1, 1), (0, 0), (77, 0), (-2, 0)])
def test_socket_lookups_elsewhere(netns: int, flags: int, space: Namespace) -> None:
    packet = tuple_of(*V4, 80)
    ours, theirs = both(find("sk_lookup_tcp#84", 12, netns, flags), packet.ljust(64, b"\0"), space)
    assert ours == theirs


def test_a_socket_is_gone_after_its_release() -> None:
    asm = on_stack(
        12,
        "r1 = r6\nr2 = r10\nr2 += -12\nr3 = 12\nr4 = -1\nr5 = 0\ncall bpf_sk_lookup_tcp#84\nr8 = r0\nr1 = r0\n"
        "call bpf_sk_release#86\nr0 = *(u32 *)(r8 +4)",
    )
    with pytest.raises(MachineFault, match="no memory there"):
        machine(asm).run(tuple_of(*V4, 80).ljust(64, b"\0"))
    twice = asm.replace("r0 = *(u32 *)(r8 +4)", "r1 = r8\ncall bpf_sk_release#86")
    with pytest.raises(MachineFault, match="is no socket"):
        machine(twice).run(tuple_of(*V4, 80).ljust(64, b"\0"))


def test_a_classifier_assigns_a_socket() -> None:
    asm = on_stack(
        12,
        "r1 = r6\nr2 = r10\nr2 += -12\nr3 = 12\nr4 = -1\nr5 = 0\ncall bpf_sk_lookup_tcp#84\nr8 = r0\nr1 = r6\nr2 = r0\n"
        "r3 = 0\ncall bpf_sk_assign#124\nr9 = r0\nr1 = r8\ncall bpf_sk_release#86\nr0 = r9",
        xdp=False,
    )
    result = machine(asm, "sched_cls").run(tuple_of(*V4, 80).ljust(64, b"\0"))
    assert (result.r0, [effect.name for effect in result.effects]) == (0, ["sk_assign"])
