"""What the example programs do, as plain Python."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN

from ebpfkit.dsl.addresses import IPv4Addr
from ebpfkit.dsl.execute import run_python
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.verdicts import XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX
from ebpfkit.errors import NotSupported
from tests.programs.contents import prepare

PROGRAMS = Path(__file__).parents[2] / "programs"
ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
PING = ETHER / IP(src="192.0.2.1", dst="192.0.2.2") / ICMP(type=8, id=3, seq=4) / b"ping"


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", PROGRAMS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def example(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module that the test is named after: test_firewall gets firewall.py."""
    module = load_example(request.node.name.removeprefix("test_"))
    yield module
    for value in vars(module).values():
        if isinstance(value, MapFacade):
            value.close()


def test_firewall(example):
    example.blocked["192.0.2.0/24"] = example.Hits.zero()
    hostile, friendly = ETHER / IP(src="192.0.2.77") / TCP(), ETHER / IP(src="198.51.100.1") / UDP()
    assert example.firewall(hostile) is XDP_DROP
    assert example.firewall(friendly) is XDP_PASS
    assert example.firewall(ETHER / ARP()) is XDP_PASS
    assert example.firewall(bytes(hostile)[:33]) is XDP_DROP
    assert (example.seen.sum(6), example.seen.sum(17)) == (1, 1)
    assert example.blocked["192.0.2.0/24"] == example.Hits(packets=1, bytes=len(hostile))


def test_tailcall_parser(example):
    example.blocked[53] = 1
    verdict = example.tailcall_parser
    assert verdict(ETHER / IP() / UDP(dport=53)) is XDP_DROP
    assert verdict(ETHER / IPv6() / UDP(dport=53)) is XDP_DROP
    assert verdict(ETHER / IP(options=b"\1" * 4) / UDP(dport=54)) is XDP_PASS
    assert verdict(ETHER / IP() / TCP(flags="S")) is XDP_PASS
    assert verdict(ETHER / IPv6() / TCP(flags="SA")) is XDP_PASS
    assert verdict(ETHER / ARP()) is XDP_PASS
    assert verdict(bytes(ETHER / IP() / UDP())[:41]) is XDP_DROP  # cut short in the program that was jumped to
    assert example.opened.sum(0) == 1


class Socket:
    def fileno(self) -> int:
        return 5


def test_steer(example):
    example.ports[4789] = 3
    example.ports[53] = 9
    example.sockets[3] = Socket()
    steered = ETHER / IP(options=b"\1" * 4) / UDP(dport=4789)
    result = run_python(example.steer, steered)
    assert (result.action, result.redirect) == (XDP_REDIRECT, ("sockets", 3))
    assert example.steer(ETHER / IPv6() / UDP(dport=4789)) is XDP_REDIRECT
    for other in (
        ETHER / IP() / UDP(dport=53), ETHER / IP() / UDP(dport=80), ETHER / IP() / TCP(dport=4789),
        ETHER / IP(frag=1, proto=17) / bytes(8), ETHER / IPv6() / TCP(), ETHER / ARP(), bytes(steered)[:40],
    ):  # fmt: skip
        assert example.steer(other) is XDP_PASS


def test_counters(example):
    frames = [ETHER / IP() / TCP(), ETHER / IP() / TCP(), ETHER / IPv6() / UDP(), ETHER / ARP(), b"short"]
    for frame in frames:
        assert example.counters(frame) is XDP_PASS
    assert example.by_protocol.sum(6) == example.Traffic(packets=2, bytes=2 * len(frames[0]))
    assert example.by_protocol.sum(17) == example.Traffic(packets=1, bytes=len(frames[2]))
    assert example.other.sum(0).packets == 1


def test_swap_macs(example):
    result = run_python(example.swap_macs, ETHER / b"data")
    assert result.action is XDP_TX
    assert result.data == bytes(Ether(dst=ETHER.src, src=ETHER.dst, type=ETHER.type) / b"data")
    assert example.swap_macs(b"123") is XDP_DROP


def test_vlan(example):
    example.allowed[10] = 1
    example.allowed[20] = 1
    for frame, expected in (
        (ETHER / IP(), XDP_PASS),
        (ETHER / Dot1Q(vlan=10, prio=5) / IP(), XDP_PASS),
        (ETHER / Dot1Q(vlan=11) / IP(), XDP_DROP),
        (ETHER / Dot1AD(vlan=20) / Dot1Q(vlan=10) / IP(), XDP_PASS),
        (ETHER / Dot1AD(vlan=20) / Dot1Q(vlan=9) / IP(), XDP_DROP),
        (ETHER / Dot1AD(vlan=20) / Dot1Q(vlan=10) / Dot1Q(vlan=9) / IP(), XDP_PASS),
        (bytes(ETHER / Dot1Q(vlan=10))[:16], XDP_DROP),
    ):
        assert example.vlan(frame) is expected


def test_ratelimit(example):
    now = 5 * example.SECOND
    frame = bytes(ETHER / IP(src="192.0.2.1"))

    def send() -> int:
        return run_python(example.ratelimit, frame, clock=lambda: now).action

    assert [send() for _ in range(example.BURST + 3)] == [XDP_PASS] * example.BURST + [XDP_DROP] * 3
    now += 2 * example.SECOND // example.RATE
    assert [send() for _ in range(3)] == [XDP_PASS, XDP_PASS, XDP_DROP]
    now += 3600 * example.SECOND
    assert [send() for _ in range(example.BURST + 1)] == [XDP_PASS] * example.BURST + [XDP_DROP]
    assert example.ratelimit(ETHER / ARP()) is XDP_PASS
    assert len(example.buckets) == 1


def test_sample(example):
    frame = ETHER / IP(src="192.0.2.1", dst="192.0.2.2") / UDP()
    for _ in range(9):
        assert run_python(example.sample, frame, clock=lambda: 77).action is XDP_PASS
    records = list(example.samples)
    assert len(records) == 3
    assert (str(records[0].src), records[0].length, records[0].protocol, records[0].time) == (
        "192.0.2.1", len(frame), 17, 77)  # fmt: skip


def test_echo(example):
    result = run_python(example.echo, PING)
    assert result.action is XDP_TX
    answer = Ether(src=ETHER.dst, dst=ETHER.src) / IP(src="192.0.2.2", dst="192.0.2.1") / ICMP(type=0, id=3, seq=4)
    assert result.data == bytes(answer / b"ping")
    for other in (ETHER / ARP(), ETHER / IP() / UDP(), ETHER / IP() / ICMP(type=0), bytes(PING)[:40]):
        assert run_python(example.echo, other).action is XDP_PASS
        assert run_python(example.echo, other).data == bytes(other)


def test_hop(example):
    result = run_python(example.hop, ETHER / IP(ttl=9, src="10.0.0.1", dst="10.0.0.2") / UDP())
    assert result.action is XDP_TX
    assert result.data == bytes(ETHER / IP(ttl=8, src="10.0.0.1", dst="10.0.0.2") / UDP())
    assert example.hop(ETHER / IP(ttl=1)) is XDP_DROP
    assert example.hop(ETHER / IPv6()) is XDP_PASS


def sent(example, name, frame):
    """What comes of a frame: the verdict and scapy's reading of the bytes."""
    result = run_python(getattr(example, name), frame, clock=lambda: 10**12)
    return result.action, Ether(result.data)


@pytest.fixture
def prepared(request):
    """The module that the test is named after, its maps filled as in benchmarks."""
    name = request.node.name.removeprefix("test_")
    module = load_example(name)
    prepare(name, module)
    yield lambda frame: sent(module, name, frame)
    for value in vars(module).values():
        if isinstance(value, MapFacade):
            value.close()


def test_drop_all(prepared):
    assert prepared(ETHER / ARP())[0] is XDP_DROP


def test_ipip_lb(prepared):
    frame = ETHER / IP(src="10.3.4.5", dst="10.0.0.100") / TCP(dport=80, flags="S") / b"data"
    action, packet = prepared(frame)
    assert action is XDP_TX
    outer, inner = packet[IP], packet[IP].payload
    assert (outer.proto, outer.src, outer.len, outer.dst[:6]) == (4, "10.0.0.100", len(frame) - 14 + 20, "10.1.0")
    assert outer.chksum == IP(bytes(outer.copy().__class__(**{**outer.fields, "chksum": None}) / bytes(inner))).chksum
    assert bytes(inner) == bytes(frame[IP])
    assert prepared(frame) == (action, packet)
    assert prepared(ETHER / IP(dst="10.0.0.101") / TCP())[0] is XDP_PASS


def test_vlan_push(prepared):
    frame = ETHER / IP() / UDP() / b"data"
    action, packet = prepared(frame)
    assert (action, packet[Dot1Q].vlan, bytes(packet[IP])) == (XDP_PASS, 100, bytes(frame[IP]))
    assert (packet.dst, packet.src) == (frame.dst, frame.src)
    tagged = ETHER / Dot1Q(vlan=7) / IP()
    assert prepared(tagged) == (XDP_PASS, Ether(bytes(tagged)))


def test_vlan_pop(prepared):
    assert bytes(prepared(ETHER / Dot1Q(vlan=7) / IP() / b"data")[1]) == bytes(ETHER / IP() / b"data")
    assert bytes(prepared(ETHER / IP() / b"data")[1]) == bytes(ETHER / IP() / b"data")


def test_bucket(example):
    example.buckets[IPv4Addr("10.9.9.9")] = example.Bucket(drops=0, tokens=100, stamp=0)
    frame = bytes(ETHER / IP(dst="10.9.9.9") / UDP() / bytes(58))
    assert len(frame) == 100
    for now, action in ((0, XDP_PASS), (0, XDP_DROP), (1_000_000, XDP_PASS)):
        assert run_python(example.bucket, frame, clock=lambda now=now: now).action is action
    assert example.buckets[IPv4Addr("10.9.9.9")].drops == 1
    assert example.bucket(ETHER / IP(dst="10.9.9.8")) is XDP_PASS


def test_cpu_steer(example):
    example.cpus[0] = 192
    example.cpus[1] = 192
    frames = [ETHER / IP(src=f"10.0.0.{i}", dst="10.9.9.9") / UDP() for i in range(20)]
    assert {run_python(example.cpu_steer, frame).redirect for frame in frames} == {("cpus", 0), ("cpus", 1)}
    assert example.cpu_steer(ETHER / IPv6(fl=7)) is XDP_REDIRECT
    assert example.cpu_steer(ETHER / ARP()) is XDP_PASS


def test_gre_decap(prepared):
    inner = IP(src="172.16.0.1", dst="172.16.0.2") / UDP() / b"inner"
    for gre in (GRE(), GRE(key_present=1, key=7), GRE(chksum_present=1, key_present=1, seqnum_present=1)):
        action, packet = prepared(ETHER / IP(src="10.0.0.1", dst="10.9.9.9") / gre / inner)
        assert (action, bytes(packet)) == (XDP_PASS, bytes(ETHER / inner))
    assert prepared(ETHER / IP(src="10.0.0.1") / GRE(proto=0x6558) / ETHER)[0] is XDP_DROP
    assert prepared(ETHER / IP(src="10.0.0.7") / GRE() / inner)[0] is XDP_PASS


def test_vxlan_decap(prepared):
    inner = Ether(src="02:00:00:00:00:05", dst="02:00:00:00:00:06") / IP() / UDP() / b"inner"
    outer = ETHER / IP(src="10.0.0.1") / UDP(sport=1, dport=4789)
    assert bytes(prepared(outer / VXLAN(vni=7, flags=8) / inner)[1]) == bytes(inner)
    assert prepared(outer / VXLAN(vni=8, flags=8) / inner)[0] is XDP_DROP
    assert prepared(outer / VXLAN(vni=7, flags=0) / inner)[0] is XDP_DROP


def test_too_big(prepared):
    frame = ETHER / IP(src="10.0.0.1", dst="10.9.9.9", flags="DF") / UDP(sport=5) / (bytes(range(256)) * 6)
    action, packet = prepared(frame)
    quoted = bytes(frame)[14:42]
    wanted = Ether(src=frame.dst, dst=frame.src) / IP(src="10.0.0.254", dst="10.0.0.1", id=0)
    assert action is XDP_TX
    assert bytes(packet) == bytes(wanted / ICMP(type=3, code=4, nexthopmtu=1400) / quoted)
    assert prepared(ETHER / IP() / UDP() / bytes(1500))[0] is XDP_PASS


def test_fib_forward(example):
    assert example.fib_forward(ETHER / IP(ttl=1)) is XDP_PASS
    assert example.fib_forward(ETHER / IPv6(hlim=1)) is XDP_PASS
    assert example.fib_forward(ETHER / ARP()) is XDP_PASS
    assert example.fib_forward(bytes(ETHER / IPv6())[:53]) is XDP_DROP
    with pytest.raises(NotSupported, match="fib_lookup"):
        example.fib_forward(ETHER / IP())


@pytest.mark.kernel
def test_syn_cookie(example):
    peers = IP(src="10.0.0.1", dst="10.9.9.9")
    syn = ETHER / peers / TCP(sport=4000, dport=80, flags="S", seq=1000, options=[("MSS", 1460), ("SAckOK", b"")])
    result = example.syn_cookie.run(bytes(syn), on="kernel")
    assert result.action is XDP_TX
    answer = Ether(result.data)
    tcp, cookie = answer[TCP], answer[TCP].seq
    assert (answer.src, answer[IP].dst, answer[IP].len) == (ETHER.dst, "10.0.0.1", 44)
    assert (tcp.sport, tcp.dport, tcp.ack, tcp.flags, tcp.options[0][0]) == (80, 4000, 1001, "SA", "MSS")
    for layer in (IP, TCP):
        again = answer.copy()
        del again[layer].chksum
        assert Ether(bytes(again))[layer].chksum == answer[layer].chksum
    for ack, action in ((cookie + 1, XDP_PASS), (cookie + 7, XDP_DROP)):
        last = ETHER / peers / TCP(sport=4000, dport=80, flags="A", seq=1001, ack=ack % 2**32) / b"data"
        assert example.syn_cookie.run(bytes(last), on="kernel").action is action


def test_tail_parser(example):
    for frame, action in (
        (ETHER / IP() / UDP(), XDP_PASS),
        (ETHER / Dot1AD(vlan=1) / Dot1Q(vlan=2) / IP() / UDP(), XDP_PASS),
        (ETHER / Dot1Q(vlan=2) / IPv6(nh=59), XDP_DROP),
        (ETHER / ARP(), XDP_PASS),
        (bytes(ETHER / IP())[:30], XDP_DROP),
    ):
        assert example.tail_parser(frame) is action
    assert (example.tagged.sum(0), example.protocols.sum(17), example.protocols.sum(59)) == (3, 2, 1)


def test_every_example_has_a_test_and_a_docstring():
    tests = "".join(path.read_text() for path in Path(__file__).parents[1].rglob("test_*.py"))
    for path in PROGRAMS.glob("*.py"):
        module = load_example(path.stem)
        assert module.__doc__
        names = [p.name for p in vars(module).values() if isinstance(p, Program)]
        if names == [path.stem]:
            assert f"test_{path.stem}" in globals(), path
        else:
            assert path.stem in tests, f"{path} has no test"
