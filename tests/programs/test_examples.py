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
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether

from ebpfkit.dsl.execute import run_python
from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.program import Program
from ebpfkit.dsl.verdicts import XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX

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
