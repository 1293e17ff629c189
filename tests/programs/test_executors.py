"""One function, many executors: every example gives the same verdict, bytes and maps in Python, the VM, the kernel."""

from __future__ import annotations

import functools
import random
from types import ModuleType
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether

from ebpfkit.dsl.maps import MapFacade
from ebpfkit.dsl.percpu_maps import add_up
from ebpfkit.dsl.program import Program
from tests.programs.test_examples import PING, PROGRAMS, load_example

ETHER = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
example = functools.cache(load_example)
ASKS_THE_KERNEL = {"fib_forward", "syn_cookie"}
"""What only a kernel can answer (routes, SYN cookies): their tests are in `test_examples.py`."""
NAMES = sorted(
    path.stem
    for path in PROGRAMS.glob("*.py")
    if f"\ndef {path.stem}(pkt: Packet)" in path.read_text() and path.stem not in ASKS_THE_KERNEL
)


def corpus() -> list[bytes]:
    """Packets of every kind the examples know, cut at header borders, and some with bytes at random."""
    whole = [
        ETHER / IP(src="192.0.2.77", dst="10.0.0.1", ttl=3) / TCP(sport=1, dport=443, options=[("MSS", 1460)]) / b"xyz",
        ETHER / IP(src="10.9.8.7", options=b"\1" * 12, ttl=1) / UDP(sport=9, dport=4789) / b"payload",
        ETHER / IPv6() / UDP(dport=53) / b"query",
        ETHER / IPv6() / TCP(),
        ETHER / ARP(),
        PING,
        ETHER / Dot1Q(vlan=10, prio=5) / IP() / UDP(),
        ETHER / Dot1AD(vlan=20) / Dot1Q(vlan=10) / IP() / UDP(),
        ETHER / Dot1AD(vlan=20) / Dot1Q(vlan=9) / IP(),
        ETHER / Dot1Q(vlan=11) / IP(),
    ]
    frames = [bytes(frame) for frame in whole]
    cuts = [frame[:size] for frame in frames[:2] for size in (14, 17, 18, 33, 34, 41, 42, 53, 54) if size < len(frame)]
    chance = random.Random(7)
    noise = []
    for frame in frames:
        changed = bytearray(frame)
        for _ in range(3):
            changed[chance.randrange(14, len(changed))] = chance.randrange(256)
        noise.append(bytes(changed))
    return frames + cuts + noise


def prepare(name: str, module: ModuleType) -> None:
    """The maps as they are before each packet."""
    for value in vars(module).values():
        if isinstance(value, MapFacade):
            value.close()
    if name == "firewall":
        module.blocked["192.0.2.0/24"] = module.Hits.zero()
        module.blocked["192.0.0.0/16"] = module.Hits(packets=1, bytes=2)
    elif name == "vlan":
        module.allowed[10] = module.allowed[20] = 1
    elif name == "steer":
        module.ports[4789] = 0


def comparable(facade: MapFacade, contents: dict[Any, Any]) -> dict[str, str]:
    """Map contents without what differs by nature: the number of CPUs, and times."""
    out = {}
    for key, value in contents.items():
        if facade.is_per_cpu:
            value = add_up(facade.value_type, value)
        if hasattr(value, "filled"):
            value = value.copy()
            value.filled = 0
        out[str(key)] = repr(value)
    return {key: value for key, value in out.items() if not (facade.map_type.endswith("array") and _is_zero(value))}


def _is_zero(text: str) -> bool:
    return not any(digit in text for digit in "123456789")


def outcome(name: str, frame: bytes, executor: str) -> tuple[Any, ...]:
    module = example(name)
    prepare(name, module)
    program: Program = getattr(module, name)
    result = program.run(frame, on=executor)
    maps = {facade.name: comparable(facade, dict(result.maps[facade.name])) for facade in program.maps}
    prepare(name, module)
    return result.action, result.data, maps


@pytest.mark.parametrize("name", NAMES)
def test_the_virtual_machine_agrees_with_python(name):
    for frame in [*corpus(), b"", b"short"]:
        assert outcome(name, frame, "interpreter") == outcome(name, frame, "python"), frame.hex()


@pytest.mark.kernel
@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_agrees_with_python(name):
    for frame in corpus():
        assert outcome(name, frame, "kernel") == outcome(name, frame, "python"), frame.hex()
