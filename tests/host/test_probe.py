"""What the probe finds, against what this machine and its own devices are known to be."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator

import pytest

from ebpfkit.abi.helpers import HELPERS
from ebpfkit.errors import AttachError, UsageError
from ebpfkit.host import features, probe
from ebpfkit.kernel.cpus import possible_cpus
from ebpfkit.kernel.netdev import NetdevFeatures
from ebpfkit.loader import Program
from ebpfkit.testing.lab import VethLab
from tests.loader import objects

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def lab() -> Iterator[VethLab]:
    with VethLab(queues=2) as made:
        yield made


def test_the_profile_is_the_running_kernel() -> None:
    profile = probe.host_profile()
    assert os.uname().release.startswith(profile.kernel + ".") or os.uname().release.startswith(profile.kernel)
    assert (profile.cpus, profile.arch, profile.privileged) == (possible_cpus(), os.uname().machine, True)


def test_kernel_findings_are_json_and_whole() -> None:
    found = json.loads(json.dumps(probe.probe_kernel()))
    assert found["capabilities"]["CAP_BPF"] is True
    assert found["bpf"]["kernel_btf"] is True
    assert found["bpf"]["bpffs"] == "/sys/fs/bpf"
    assert set(found) == {
        "kernel", "release", "machine", "basis", "cpus", "capabilities", "bpf", "memlock_bytes", "hints", "profile"
    }  # fmt: skip


def test_a_veth_device(lab: VethLab) -> None:
    with lab.near.enter():
        found = json.loads(json.dumps(probe.probe_device("near0")))
    assert (found["driver"], found["kind"], found["mtu"], found["up"]) == ("veth", "veth", 1500, True)
    assert found["modes"] == {"native": True, "skb": True, "hw": False}
    assert found["features"]["zero_copy"] is False
    assert found["features"]["source"] == "kernel"
    assert found["rx_metadata"] == ["hash", "timestamp", "vlan-tag"]
    assert (found["queues"]["rx"], found["queues"]["with_af_xdp_socket"]) == (2, [])
    assert found["attached"]["owner"] is None


def test_what_is_attached_is_seen(lab: VethLab) -> None:
    with lab.near.enter(), Program.load(objects.returns(2)) as program, program.attach_xdp("near0", "skb"):
        found = probe.probe_device("near0")
    assert found["attached"]["mode"] == "skb"
    assert found["attached"]["program_ids"] == {"skb": program_id(found)}
    assert "'verdict' (skb, held by link" in found["attached"]["owner"]
    assert any("is attached already" in hint for hint in found["hints"])


def program_id(found: dict[str, dict[str, dict[str, int]]]) -> int:
    number = found["attached"]["program_ids"]["skb"]
    assert number > 0
    return number


def test_loopback_has_no_native_mode(lab: VethLab) -> None:
    with lab.near.enter():
        found = probe.probe_device("lo")
    assert found["modes"]["native"] is False
    assert any("--mode skb" in hint for hint in found["hints"])


def test_a_missing_device_has_a_neighbour(lab: VethLab) -> None:
    with lab.near.enter(), pytest.raises(AttachError, match="did you mean near0") as refused:
        probe.probe_device("neaar0")
    assert refused.value.errno == errno.ENODEV


@pytest.mark.parametrize(
    ("driver", "told", "native", "frags", "zero_copy", "source"),
    [
        ("i40e", None, True, True, True, "driver table"),
        ("ixgbe", None, True, False, True, "driver table"),
        ("e1000e", None, False, False, False, "driver table"),
        ("some_new_driver", None, None, None, None, "unknown"),
        ("i40e", NetdevFeatures(frozenset({"basic"}), frozenset(), frozenset()), True, False, False, "kernel"),
    ],
)
def test_drivers_by_table_or_by_their_own_word(
    driver: str, told: NetdevFeatures | None, native: bool, frags: bool, zero_copy: bool, source: str
) -> None:
    found = probe._native_features(driver, told)
    assert (found["native"], found["frags"], found["zero_copy"], found["source"]) == (native, frags, zero_copy, source)


class TestFeatures:
    def test_map_types(self) -> None:
        found = features.available_map_types()
        assert found["hash"] is found["xskmap"] is found["ringbuf"] is True
        assert found["rhash"] is False
        assert found["sk_storage"] is None

    def test_program_types(self) -> None:
        found = features.available_program_types()
        assert found["xdp"] is found["sched_cls"] is True
        assert found["tracing"] is None

    def test_helpers_agree_with_the_rows(self) -> None:
        found = features.available_helpers("xdp")
        rows = {row.name for row in HELPERS.values() if row.prog_types & {"xdp", "*"}}
        assert {name for name, there in found.items() if there} == rows

    def test_a_number_beyond_all_helpers(self) -> None:
        assert features.available_helpers("xdp", [4_000]) == {"4000": False}

    def test_a_type_that_cannot_be_tried(self) -> None:
        with pytest.raises(UsageError, match="cannot be tried"):
            features.available_helpers("tracing")
