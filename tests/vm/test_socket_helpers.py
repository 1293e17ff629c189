"""Helpers on sockets, control groups and SYN cookies: the machine's tables answer as the kernel does."""

from __future__ import annotations

import socket as sockets
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from ebpfkit.btf.build import BtfBuilder
from ebpfkit.elf.model import MapSpec, ObjectFile
from ebpfkit.errors import MachineFault, NotSupported, UsageError
from ebpfkit.kernel.netns import Namespace
from ebpfkit.loader.collection import Collection
from ebpfkit.maps.memory import create_store
from ebpfkit.vm.machine import Machine
from ebpfkit.vm.network import Socket, XfrmState

from .both import object_of

LISTENER = Socket("tcp", "127.0.0.1", 80, cookie=1, sends_cookies=True)
SOCKETS = [
    LISTENER,
    Socket("tcp", "::", 82, cookie=2, sends_cookies=True, is_v6only=True),
    Socket("udp", "127.0.0.1", 53, cookie=3),
    Socket("udp", "::1", 56, cookie=4),
]
OUT = MapSpec("out", "array", 4, 8, 16)


@pytest.fixture(scope="module")
def space() -> Iterator[tuple[Namespace, list[sockets.socket]]]:
    made, held = Namespace(), []
    with made.enter():
        with open("/proc/sys/net/ipv4/tcp_syncookies", "w") as switch:
            switch.write("2")
        made_up = sockets.if_nametoindex("lo")
        assert made_up == 1
        _set_up("lo")
        for row in SOCKETS:
            family = sockets.AF_INET6 if row.is_v6 else sockets.AF_INET
            one = sockets.socket(family, sockets.SOCK_STREAM if row.protocol == "tcp" else sockets.SOCK_DGRAM)
            if row.is_v6:
                one.setsockopt(sockets.IPPROTO_IPV6, sockets.IPV6_V6ONLY, int(row.is_v6only))
            one.bind((row.local, row.local_port))
            if row.protocol == "tcp":
                one.listen()
            held.append(one)
    yield made, held
    for one in held:
        one.close()
    made.close()


def _set_up(device: str) -> None:
    import fcntl

    request = struct.pack("16sH14x", device.encode(), 0x1)  # IFF_UP
    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, request)  # SIOCSIFFLAGS


def put(index: int, register: str = "r0") -> str:
    """Keep a register in the map `out`."""
    return f"""
        *(u64 *)(r10 -8) = {register}
        *(u32 *)(r10 -12) = {index}
        r1 = map[out] ll
        r2 = r10
        r2 += -12
        r3 = r10
        r3 += -8
        r4 = 0
        call bpf_map_update_elem#2
    """


def find(address: str, port: int, protocol: str = "tcp") -> str:
    """Look a socket up; r8 is it, or the program ends."""
    number = {"tcp": 84, "udp": 85}[protocol]
    to = sockets.inet_pton(sockets.AF_INET6 if ":" in address else sockets.AF_INET, address)
    key = bytes(len(to)) + to + struct.pack("!HH", 4000, port)
    words = [int.from_bytes(key[at : at + 4], "little") for at in range(0, len(key), 4)]
    stores = "\n".join(f"w1 = {word}\n*(u32 *)(r10 {4 * at - 64}) = w1" for at, word in enumerate(words))
    return f"""
        {stores}
        r1 = r6
        r2 = r10
        r2 += -64
        r3 = {len(key)}
        r4 = -1
        r5 = 0
        call bpf_sk_lookup_{protocol}#{number}
        if r0 == 0 goto out
        r8 = r0
    """


RELEASE = "r1 = r8\ncall bpf_sk_release#86\n"
DONE = "r0 = 0\nexit\n"
END = "r0 = 0\ngoto done\nout: r0 = 99\ndone: exit\n"


def answers(runs: dict[bytes, bytes]) -> list[int]:
    return [int.from_bytes(value, "little", signed=True) for _, value in sorted(runs.items())]


def both(
    body: str, space: tuple[Namespace, list[sockets.socket]], packet: bytes = bytes(64), prog_type: str = "xdp"
) -> tuple[list[int], list[int]]:
    """What the program kept in `out`, here and in the kernel; it has to get to its end."""
    obj = object_of(f"r6 = r1\n{body}\n{END if 'goto out' in body else DONE}", [OUT], prog_type)
    with space[0].enter(), Collection.load(obj, programs=["prog"]) as collection:
        assert collection.programs["prog"].test_run(packet).retval == 0
        theirs = answers(dict(collection.maps["out"].items()))
    machine = Machine(obj, sockets=SOCKETS)
    assert machine.run(packet).r0 == 0
    return answers(dict(machine.maps["out"].items())), theirs


# --- SYN cookies ------------------------------------------------------------------------------------------------------

MSS = {
    "no options": b"",
    "1460": b"\x02\x04\x05\xb4",
    "1459": b"\x02\x04\x05\xb3",
    "behind others": b"\x01\x01\x04\x02\x02\x04\x05\x14",
    "100": b"\x02\x04\x00\x64",
    "9000": b"\x02\x04\x23\x28",
    "of a wrong length": b"\x02\x03\x05\x00",
    "behind the end": b"\x00\x00\x00\x00\x02\x04\x05\xb4",
    "cut off": b"\x01\x01\x02\x04",
    "zero": b"\x02\x04\x00\x00",
}


def syn(options: bytes = b"", version: int = 4, flags: int = 2, port: int = 80, words: int | None = None) -> bytes:
    """The IP header, in 40 bytes, and the TCP header of a SYN."""
    if version == 4:
        ip = bytes([0x45, *bytes(8), 6, 0, 0, 127, 0, 0, 9, 127, 0, 0, 1]).ljust(40, b"\0")
    else:
        ip = bytes([0x60, 0, 0, 0, 0, 20, 6, 64]) + bytes(15) + b"\x09" + bytes(15) + b"\x01"
    options = options.ljust(-(-len(options) // 4) * 4, b"\0")
    length = 5 + len(options) // 4 if words is None else words
    return ip + struct.pack("!HHIIBBHHH", 4000, port, 7777, 0, length << 4, flags, 64, 0, 0) + options


def load(packet: bytes) -> str:
    """Bring the packet to the stack: the IP header to -160, the TCP header to -120."""
    return f"r1 = r6\nr2 = 0\nr3 = r10\nr3 += -160\nr4 = {len(packet)}\ncall bpf_xdp_load_bytes#189\n"


ACK = """
    r1 = *(u32 *)(r10 -116)
    r1 = be32 r1
    r1 += 1
    r1 = be32 r1
    *(u32 *)(r10 -116) = r1
    r2 = r7
    w2 += 1
    r2 = be32 r2
    *(u32 *)(r10 -112) = r2
    *(u8 *)(r10 -107) = 16
"""
HEADERS = "r1 = r10\nr1 += -160\nr2 = r10\nr2 += -120\n"


@pytest.mark.kernel
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("name", MSS)
def test_cookies_of_headers_alone(name: str, version: int, space: Any) -> None:
    """The size a cookie stands for, that the ACK is recognised, and that one with another number is not."""
    packet = syn(MSS[name], version)
    make, check = (204, 206) if version == 4 else (205, 207)
    code = f"""
        {load(packet)}
        {HEADERS}
        r3 = {len(packet) - 40}
        call bpf_tcp_raw_gen_syncookie_ipv{version}#{make}
        r7 = r0
        r9 = r0
        r9 s>>= 32
        {put(0, "r9")}
        {ACK}
        {HEADERS}
        call bpf_tcp_raw_check_syncookie_ipv{version}#{check}
        {put(1)}
        r1 = *(u32 *)(r10 -112)
        r1 ^= 1
        *(u32 *)(r10 -112) = r1
        {HEADERS}
        call bpf_tcp_raw_check_syncookie_ipv{version}#{check}
        {put(2)}
    """
    ours, theirs = both(code, space, packet)
    assert ours == theirs


@pytest.mark.kernel
@pytest.mark.parametrize("words", [4, 6, 15])
def test_a_wrong_length_of_the_header_makes_no_cookie(words: int, space: Any) -> None:
    packet = syn(words=words)
    code = f"{load(packet)}{HEADERS}r3 = 20\ncall bpf_tcp_raw_gen_syncookie_ipv4#204\n{put(0)}"
    ours, theirs = both(code, space, packet)
    assert ours == theirs and ours[0] == -22


LISTENERS = {
    "a SYN": (("127.0.0.1", 80, "tcp"), syn(), 20),
    "a SYN with options": (("127.0.0.1", 80, "tcp"), syn(MSS["1460"]), 20),
    "a SYN of IPv6": (("::1", 82, "tcp"), syn(MSS["9000"], 6), 40),
    "a SYN with ACK": (("127.0.0.1", 80, "tcp"), syn(flags=0x12), 20),
    "a FIN": (("127.0.0.1", 80, "tcp"), syn(flags=1), 20),
    "an IPv4 SYN to an IPv6 socket": (("::1", 82, "tcp"), syn(), 20),
    "an IPv6 SYN to an IPv4 socket": (("127.0.0.1", 80, "tcp"), syn(version=6), 40),
    "a short IPv6 header": (("::1", 82, "tcp"), syn(version=6), 20),
    "no IP at all": (("127.0.0.1", 80, "tcp"), b"\x00" + syn()[1:], 20),
    "a UDP socket": (("127.0.0.1", 53, "udp"), syn(), 20),
}


@pytest.mark.kernel
@pytest.mark.parametrize("name", LISTENERS)
def test_cookies_of_a_listener(name: str, space: Any) -> None:
    where, packet, ip_size = LISTENERS[name]
    headers = f"r1 = r8\nr2 = r10\nr2 += -160\nr3 = {ip_size}\nr4 = r10\nr4 += -120\n"
    code = f"""
        {find(*where)}
        {load(packet)}
        {headers}
        r5 = {len(packet) - 40}
        call bpf_tcp_gen_syncookie#110
        r7 = r0
        r9 = r0
        r9 s>>= 32
        {put(0, "r9")}
        {headers}
        r5 = 20
        call bpf_tcp_check_syncookie#100
        {put(1)}
        {ACK}
        {headers}
        r5 = 20
        call bpf_tcp_check_syncookie#100
        {put(2)}
        {RELEASE}
    """
    ours, theirs = both(code, space, packet)
    assert ours == theirs


def test_a_cookie_grows_old_and_depends_on_the_secret() -> None:
    packet = syn(MSS["1460"])
    make = f"r6 = r1\n{load(packet)}{HEADERS}r3 = {len(packet) - 40}\ncall bpf_tcp_raw_gen_syncookie_ipv4#204\nexit"

    def cookie(minute: float, secret: bytes = b"") -> int:
        machine = Machine(object_of(make), clock=lambda: int(minute * 60e9), cookie_secret=secret)
        return machine.run(packet).r0 & 0xFFFF_FFFF

    assert cookie(5) == cookie(5.5) != cookie(6) and cookie(5) != cookie(5, b"other")
    check = f"r6 = r1\n{load(packet)}{HEADERS}call bpf_tcp_raw_check_syncookie_ipv4#206\nexit"
    ack = packet[:44] + struct.pack("!II", 7778, cookie(5) + 1) + packet[52:]
    for minute, r0 in ((5, 0), (6.9, 0), (7, -13), (4.9, -13)):
        machine = Machine(object_of(check), clock=lambda: int(minute * 60e9))  # noqa: B023
        assert machine.run(ack).r0 - (1 << 64 if r0 else 0) == r0, minute


# --- structures -------------------------------------------------------------------------------------------------------

CASTS = {"tcp6_sock": 136, "tcp_sock": 137, "tcp_timewait_sock": 138, "tcp_request_sock": 139, "udp6_sock": 140}
CASTS |= {"unix_sock": 178, "mptcp_sock": 196}


@pytest.mark.kernel
@pytest.mark.parametrize("where", [("127.0.0.1", 80, "tcp"), ("::1", 82, "tcp"), ("::1", 56, "udp")])
def test_which_structure_a_socket_is(where: tuple[str, int, str], space: Any) -> None:
    calls = "".join(
        f"r1 = r8\ncall bpf_skc_to_{name}#{number}\nif r0 == 0 goto no{at}\nr0 = 1\nno{at}:\n{put(at)}"
        for at, (name, number) in enumerate(CASTS.items())
    )
    ours, theirs = both(f"{find(*where)}{calls}{RELEASE}", space)
    assert ours == theirs and sum(ours) == (2 if where[1] == 82 else 1)


def test_the_kernels_structure_has_the_bytes_that_were_given() -> None:
    code = f"r6 = r1\n{find('127.0.0.1', 80)}r1 = r8\ncall bpf_skc_to_tcp_sock#137\nr7 = *(u32 *)(r0 +4)\n"
    obj = object_of(f"{code}{put(0, 'r7')}{RELEASE}{END}", [OUT])
    with pytest.raises(MachineFault, match=r"struct tcp_sock of a socket \(Socket.kernel\), which has 0 bytes"):
        Machine(obj, sockets=SOCKETS).run(bytes(64))
    row = Socket("tcp", "127.0.0.1", 80, cookie=1, kernel=bytes(4) + b"\x2a\0\0\0")
    machine = Machine(obj, sockets=[row])
    assert machine.run(bytes(64)).r0 == 0 and answers(dict(machine.maps["out"].items()))[0] == 42


@pytest.mark.kernel
@pytest.mark.parametrize("where", [("127.0.0.1", 80, "tcp"), ("127.0.0.1", 53, "udp")])
def test_which_sockets_have_counters(where: tuple[str, int, str], space: Any) -> None:
    code = f"{find(*where)}r1 = r8\ncall bpf_tcp_sock#96\nif r0 == 0 goto none\nr0 = 1\nnone:\n{put(0)}{RELEASE}"
    ours, theirs = both(code, space, prog_type="sched_cls")
    assert ours == theirs and ours[0] == (where[2] == "tcp")


def test_the_counters_are_those_of_the_table() -> None:
    code = f"""
        r6 = r1
        {find("127.0.0.1", 80)}
        r1 = r8
        call bpf_tcp_sock#96
        r7 = *(u32 *)(r0 +0)
        r9 = *(u64 *)(r0 +88)
        {put(0, "r7")}{put(1, "r9")}{RELEASE}
        {END}
    """
    row = Socket("tcp", "127.0.0.1", 80, tcp={"snd_cwnd": 10, "bytes_acked": 1 << 33})
    machine = Machine(object_of(code, [OUT], "sched_cls"), sockets=[row])
    assert machine.run(bytes(64)).r0 == 0
    assert answers(dict(machine.maps["out"].items()))[:2] == [10, 1 << 33]
    with pytest.raises(UsageError, match="no field 'cwnd'; there are snd_cwnd"):
        Socket("tcp", "127.0.0.1", 80, tcp={"cwnd": 1})


# --- control groups ---------------------------------------------------------------------------------------------------

GROUPS = MapSpec("groups", "cgroup_array", 4, 4, 2)
ASK = f"""
    r6 = r1
    r1 = r6
    call bpf_skb_cgroup_id#79
    {put(0)}
    r1 = r6
    r2 = 0
    call bpf_skb_ancestor_cgroup_id#83
    {put(1)}
    r1 = r6
    r2 = 1
    call bpf_skb_ancestor_cgroup_id#83
    {put(2)}
    r1 = r6
    r2 = -1
    call bpf_skb_ancestor_cgroup_id#83
    {put(3)}
    r0 = 0
    exit
"""
UNDER = "".join(
    f"r1 = r6\nr2 = map[groups] ll\nr3 = {index}\ncall bpf_skb_under_cgroup#33\n{put(index)}" for index in (0, 1, 2)
)


@pytest.mark.kernel
@pytest.mark.parametrize("code", [ASK, f"r6 = r1\n{UNDER}r0 = 0\nexit"])
def test_control_groups_of_the_packet(code: str) -> None:
    """A test run in the kernel has a socket of the root group."""
    maps = [OUT, GROUPS] if "groups" in code else [OUT]
    obj = object_of(code, maps, "sched_cls")
    with Collection.load(obj, programs=["prog"]) as collection:
        collection.programs["prog"].test_run(bytes(64))
        theirs = answers(dict(collection.maps["out"].items()))
    machine = Machine(obj)
    machine.run(bytes(64), socket=LISTENER)
    assert answers(dict(machine.maps["out"].items())) == theirs


def test_control_groups_of_the_table() -> None:
    row = Socket("tcp", "127.0.0.1", 80, cgroup_id=77, cgroup_ancestors=(1, 42))
    machine = Machine(object_of(ASK, [OUT], "sched_cls"))
    machine.run(bytes(64), socket=row)
    assert answers(dict(machine.maps["out"].items()))[:4] == [77, 1, 42, 0]
    under = Machine(object_of(f"r6 = r1\n{UNDER}r0 = 0\nexit", [OUT, GROUPS], "sched_cls"))
    under.maps["groups"].set(bytes(4), (42).to_bytes(4, "little"))
    under.maps["groups"].set(b"\1\0\0\0", (43).to_bytes(4, "little"))
    under.run(bytes(64), socket=row)
    assert answers(dict(under.maps["out"].items()))[:3] == [1, 0, -7]


def test_storage_of_the_control_group_starts_as_zeros_and_stays() -> None:
    local = MapSpec("local", "cgroup_storage", 16, 8, 0)
    code = "r1 = map[local] ll\nr2 = 0\ncall bpf_get_local_storage#81\nr1 = *(u64 *)(r0 +0)\nr2 = r1\nr2 += 1\n"
    obj = object_of(f"{code}*(u64 *)(r0 +0) = r2\nr0 = r1\nexit", [local], "cgroup_skb")
    machine = Machine(obj, cgroup_id=9)
    assert [machine.run(bytes(64)).r0 for _ in range(3)] == [0, 1, 2]
    assert machine.maps["local"].get((9).to_bytes(8, "little") + bytes(8)) == (3).to_bytes(8, "little")


# --- storage and maps of sockets --------------------------------------------------------------------------------------


def storage_object(body: str) -> ObjectFile:
    btf = BtfBuilder()
    key, value = btf.integer("int", 4, signed=True), btf.integer("unsigned long", 8)
    spec = MapSpec("store", "sk_storage", 4, 8, 0, 1, btf_key_type=key, btf_value_type=value)
    obj = object_of(body, [OUT, spec], "sched_cls")
    return obj.replace(btf=btf.build())


def get(flags: int, value: str = "r3 = 0") -> str:
    return f"r1 = map[store] ll\nr2 = r8\n{value}\nr4 = {flags}\ncall bpf_sk_storage_get#107\n"


DELETE = "r1 = map[store] ll\nr2 = r8\ncall bpf_sk_storage_delete#108\n"
READ = "if r0 == 0 goto {0}\nr7 = *(u64 *)(r0 +0)\nr1 = r7\nr1 += 1\n*(u64 *)(r0 +0) = r1\nr0 = r7\ngoto {0}\n{0}:\n"


@pytest.mark.kernel
def test_storage_of_a_socket(space: Any) -> None:
    steps = [
        get(0) + READ.format("a"), get(7) + READ.format("b"),
        "*(u64 *)(r10 -24) = 5\n" + get(1, "r3 = r10\nr3 += -24") + READ.format("c"),
        get(1) + READ.format("d"), get(0) + READ.format("e"), DELETE, DELETE, get(1) + READ.format("f"),
    ]  # fmt: skip
    body = "".join(step + put(at) for at, step in enumerate(steps))
    obj = storage_object(f"r6 = r1\n{find('127.0.0.1', 80)}{body}{RELEASE}{END}")
    with space[0].enter(), Collection.load(obj) as collection:
        assert collection.programs["prog"].test_run(bytes(64)).retval == 0
        theirs = answers(dict(collection.maps["out"].items()))
    machine = Machine(obj, sockets=SOCKETS)
    assert machine.run(bytes(64)).r0 == 0
    assert answers(dict(machine.maps["out"].items())) == theirs
    assert machine.maps["store"].get((1).to_bytes(4, "little")) == (1).to_bytes(8, "little")


SOCKMAP = MapSpec("socks", "sockmap", 4, 8, 2)
KEY = "*(u32 *)(r10 -4) = {0}\nr1 = map[socks] ll\nr2 = r10\nr2 += -4\n"
PORT = "if r0 == 0 goto {0}\nr9 = r0\nr7 = *(u32 *)(r0 +44)\nr1 = r9\ncall bpf_sk_release#86\nr0 = r7\n{0}:\n"


@pytest.mark.kernel
def test_sockets_in_maps_are_found_and_stored(space: Any) -> None:
    lookup = KEY + "call bpf_map_lookup_elem#1\n"
    update = KEY + "r3 = r8\nr4 = {1}\ncall bpf_map_update_elem#2\n"
    steps = [
        lookup.format(0) + PORT.format("a"), lookup.format(1) + PORT.format("b"), lookup.format(2) + PORT.format("c"),
        update.format(0, 1), update.format(2, 0), update.format(1, 1), lookup.format(1) + PORT.format("d"),
        KEY.format(1) + "call bpf_map_delete_elem#3\n", KEY.format(1) + "call bpf_map_delete_elem#3\n",
    ]  # fmt: skip
    body = "".join(step + put(at) for at, step in enumerate(steps))
    obj = object_of(f"r6 = r1\n{find('127.0.0.1', 80)}{body}{RELEASE}{END}", [OUT, SOCKMAP], "sched_cls")
    with space[0].enter(), Collection.load(obj) as collection:
        collection.maps["socks"].set(bytes(4), space[1][0].fileno().to_bytes(8, "little"))
        assert collection.programs["prog"].test_run(bytes(64)).retval == 0
        theirs = answers(dict(collection.maps["out"].items()))
    machine = Machine(obj, sockets=SOCKETS)
    machine.maps["socks"].set(bytes(4), (1).to_bytes(8, "little"))
    assert machine.run(bytes(64)).r0 == 0
    assert answers(dict(machine.maps["out"].items())) == theirs


def test_a_map_may_not_name_a_socket_that_is_not_there() -> None:
    obj = object_of(KEY.format(0) + "call bpf_map_lookup_elem#1\nr0 = 0\nexit", [SOCKMAP], "sched_cls")
    machine = Machine(obj, sockets=SOCKETS)
    machine.maps["socks"].set(bytes(4), (9).to_bytes(8, "little"))
    with pytest.raises(
        NotSupported, match=r"the socket of cookie 9.*give the machine its sockets=\[Socket\(..., cookie=9\)"
    ):
        machine.run(bytes(64))


CONNECTED = Socket("tcp", "192.0.2.1", 80, "192.0.2.9", 4000, cookie=7)


@pytest.mark.parametrize(
    ("prog_type", "helper", "type", "store"),
    [
        ("sk_skb", "sk_redirect_map#52", "sockmap", "r3 = 1"),
        ("sk_msg", "msg_redirect_map#60", "sockmap", "r3 = 1"),
        ("sk_skb", "sk_redirect_hash#72", "sockhash", "r3 = r10\nr3 += -4"),
        ("sk_msg", "msg_redirect_hash#71", "sockhash", "r3 = r10\nr3 += -4"),
    ],
)
def test_redirection_to_a_socket(prog_type: str, helper: str, type: str, store: str) -> None:
    """Passed and recorded, or dropped: no socket there, a listener, flags that do not exist."""
    spec = MapSpec("socks", type, 4, 8, 4)

    def run(flags: int, cookie: int | None) -> tuple[int, object]:
        code = f"*(u32 *)(r10 -4) = 1\nr2 = map[socks] ll\n{store}\nr4 = {flags}\ncall bpf_{helper}\nexit"
        machine = Machine(object_of(code, [spec], prog_type), sockets=[CONNECTED, LISTENER])
        if cookie is not None:
            machine.maps["socks"].set(b"\1\0\0\0", cookie.to_bytes(8, "little"))
        done = machine.run(bytes(64))
        return done.r0, done.redirect

    assert run(0, 7) == run(1, 7) == (1, ("socks", 1, 7))
    assert run(0, None) == run(2, 7) == run(0, 1) == (0, None)


def test_a_socket_of_a_reuseport_group_is_chosen() -> None:
    spec = MapSpec("socks", "reuseport_sockarray", 4, 8, 2)
    code = "r6 = r1\n*(u32 *)(r10 -4) = {0}\nr1 = r6\nr2 = map[socks] ll\nr3 = r10\nr3 += -4\nr4 = {1}\n"
    code += "call bpf_sk_select_reuseport#82\nexit"

    def run(index: int, flags: int, protocol: int = 6) -> tuple[int, list[object]]:
        machine = Machine(object_of(code.format(index, flags), [spec], "sk_reuseport"), sockets=SOCKETS)
        machine.maps["socks"].set(bytes(4), (1).to_bytes(8, "little"))
        done = machine.run(bytes(64), context={"ip_protocol": protocol})
        return done.r0 - (1 << 64 if done.r0 >> 63 else 0), [dict(effect.values) for effect in done.effects]

    assert run(0, 0) == (0, [{"cookie": 1}])
    assert run(1, 0) == (-2, []) and run(0, 1) == (-22, []) and run(0, 0, 17) == (-91, [])


# --- IPsec ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "size", "flags", "expected"),
    [(0, 28, 0, "v4"), (1, 28, 0, "v6"), (2, 28, 0, None), (0, 24, 0, None), (0, 28, 1, None)],
)
def test_ipsec_states(index: int, size: int, flags: int, expected: str | None) -> None:
    code = f"r6 = r1\nr2 = {index}\nr3 = r10\nr3 += -28\nr4 = {size}\nr5 = {flags}\ncall bpf_skb_get_xfrm_state#66\n"
    code += "r7 = r0\nr1 = r6\nr2 = 0\nr3 = r10\nr3 += -28\nr4 = 28\nr5 = 0\ncall bpf_skb_store_bytes#9\nr0 = r7\nexit"
    states = [XfrmState(5, 0x01020304, "192.0.2.1"), XfrmState(6, 7, "2001:db8::1")]
    done = Machine(object_of(code, prog_type="sched_cls"), xfrm=states).run(bytes(64))
    found = done.data[:28]
    if expected == "v4":
        assert found == struct.pack("=I", 5) + b"\1\2\3\4" + b"\2\0\0\0" + bytes((192, 0, 2, 1)) + bytes(12)
    elif expected == "v6":
        assert found[8:10] == b"\x0a\0" and found[12:] == sockets.inet_pton(sockets.AF_INET6, "2001:db8::1")
    else:
        assert done.r0 == 2**64 - 22 and found == bytes(28)


def test_what_was_not_given_is_asked_for() -> None:
    for call, wanted in (("skb_get_xfrm_state#66", "xfrm="), ("jiffies64#118", "hz=250")):
        code = f"r2 = 0\nr3 = r10\nr3 += -28\nr4 = 28\nr5 = 0\ncall bpf_{call}\nexit"
        with pytest.raises(NotSupported, match=wanted):
            Machine(object_of(code, prog_type="sched_cls")).run(bytes(64))
    with pytest.raises(UsageError, match="hz=250"):
        Machine(object_of("r0 = 0\nexit"), hz=0)


def test_stores_of_sockets_are_the_machines() -> None:
    """A store made beforehand is used as it is."""
    store = create_store(SOCKMAP)
    assert Machine(object_of("r1 = map[socks] ll\nr0 = 0\nexit", [SOCKMAP]), maps=[store]).maps["socks"] is store
