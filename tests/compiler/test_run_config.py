"""How a program wants to run beside others: `@xdp(priority=, chain=)`, carried by the object for libxdp and for us."""

from __future__ import annotations

from typing import Any

import pytest

import ebpfkit as bpf
from ebpfkit import Packet
from ebpfkit.elf.run_config import RunConfig, read_run_config
from ebpfkit.errors import UsageError


@bpf.xdp(priority=7, chain=(bpf.XDP_PASS, bpf.XDP_DROP))
def early(pkt: Packet) -> bpf.XdpAction:
    return bpf.XDP_DROP


@bpf.xdp(chain=())
def alone(pkt: Packet) -> bpf.XdpAction:
    return bpf.XDP_PASS


@bpf.xdp
def plain(pkt: Packet) -> bpf.XdpAction:
    return bpf.XDP_PASS


@pytest.mark.parametrize(
    ("program", "config"),
    [
        (early, RunConfig(7, frozenset({"XDP_PASS", "XDP_DROP"}))),
        (alone, RunConfig(50, frozenset())),
        (plain, RunConfig()),
    ],
)
def test_the_object_says_how_a_program_wants_to_run(program: Any, config: RunConfig) -> None:
    built = program.build()
    assert read_run_config(built.btf, program.name) == config
    assert not built.maps  # the section is types alone
    assert (b".xdp_run_config" in built.raw) == (config != RunConfig())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": -1}, "priority=-1 is not within 0..4294967295"),
        ({"chain": (7,)}, r"is a tuple of verdicts, such as \(XDP_PASS, XDP_DROP\)"),
        ({"at": "devmap", "priority": 3}, "a program of a devmap stands alone"),
    ],
)
def test_wrong_wishes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bpf.xdp(**options)
