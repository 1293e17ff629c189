"""The table of what is refused: complete, true, and the one that the documentation shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from ebpfkit.abi.helpers import HELPERS
from ebpfkit.abi.map_types import MAP_TYPES
from ebpfkit.abi.prog_types import PROG_TYPES
from ebpfkit.asm.isa import OPCODES
from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec
from ebpfkit.errors import NotSupported
from ebpfkit.maps.memory import STORES, create_store
from ebpfkit.vm.helpers import IMPLEMENTED
from ebpfkit.vm.limits import limits, to_markdown, to_text
from ebpfkit.vm.machine import Machine

PAGE = Path(__file__).parent.parent.parent / "docs" / "vm.md"


def names(kind: str) -> list[str]:
    return [name for row in limits() if row.kind == kind for name in row.names]


def test_the_documentation_shows_this_table() -> None:
    assert to_markdown(limits()) in PAGE.read_text()


def test_the_terminal_shows_every_name() -> None:
    words = to_text(limits()).replace(",", " ").split()
    for kind in ("instruction", "program type", "map type", "helper", "kernel function"):
        assert set(names(kind)) <= set(words)


def test_every_name_is_one_and_stands_once() -> None:
    assert set(names("instruction")) <= set(OPCODES)
    assert set(names("map type")) | set(STORES) == set(MAP_TYPES) - {"unspec"}
    assert set(names("program type")) <= set(PROG_TYPES)
    helpers = names("helper")
    assert len(helpers) == len(set(helpers)) and not set(helpers) & set(IMPLEMENTED)


PACKET_TYPES = {
    "xdp", "sched_cls", "sched_act", "socket_filter", "cgroup_skb", "sk_skb", "sk_msg", "sk_lookup", "sk_reuseport",
    "flow_dissector", "lwt_in", "lwt_out", "lwt_xmit", "lwt_seg6local", "sock_ops", "cgroup_sock_addr",
    "cgroup_sockopt", "cgroup_sysctl", "cgroup_sock", "cgroup_device",
}  # fmt: skip


def test_every_helper_of_programs_on_packets_and_sockets_works_or_is_in_the_table() -> None:
    callable_there = {row.name for row in HELPERS.values() if row.prog_types & (PACKET_TYPES | {"*"})}
    assert callable_there - set(IMPLEMENTED) - {"tail_call"} == set(names("helper"))


@pytest.mark.parametrize("name", names("map type"))
def test_a_map_type_is_refused_with_the_reason_of_the_table(name: str) -> None:
    why = next(row.why for row in limits() if row.kind == "map type" and name in row.names)
    with pytest.raises(NotSupported) as caught:
        create_store(MapSpec("m", name, 4, 8, 4))
    assert why in str(caught.value)


@pytest.mark.parametrize("name", names("helper"))
def test_a_helper_is_refused_with_the_reason_of_the_table(name: str) -> None:
    why = next(row.why for row in limits() if row.kind == "helper" and name in row.names)
    number = next(row.id for row in HELPERS.values() if row.name == name)
    with pytest.raises(NotSupported) as caught:
        Machine(parse(f"call bpf_{name}#{number}\nexit")).run(bytes(14))
    assert why in str(caught.value)


@pytest.mark.parametrize("name", names("program type"))
def test_a_program_type_is_refused_with_the_reason_of_the_table(name: str) -> None:
    with pytest.raises(NotSupported, match=name):
        Machine(parse("r0 = 0\nexit"), prog_type=name)
