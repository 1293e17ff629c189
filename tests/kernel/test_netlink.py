"""Netlink requests and answers: devices, XDP, the netdev family, the kernel's own words."""

from __future__ import annotations

import errno
import struct
import subprocess
from collections.abc import Iterator

import pytest

from ebpfkit.kernel import bpf, ethtool, netdev, netlink, netns
from ebpfkit.kernel.fd import Fd
from ebpfkit.testing.lab import VethLab
from tests.conftest import require_tool

pytestmark = pytest.mark.kernel

DRV, SKB, IF_NOEXIST, REPLACE = 4, 2, 1, 16
PASS = bytes.fromhex("b700000002000000 9500000000000000")


@pytest.fixture(scope="module")
def lab() -> Iterator[VethLab]:
    with VethLab(queues=2) as made:
        yield made


@pytest.fixture
def prog() -> Iterator[Fd]:
    fd = bpf.prog_load(6, PASS, "GPL", name="pass_all").fd
    assert fd is not None
    with fd:
        yield fd


def test_attributes_are_packed_and_read_back() -> None:
    packed = netlink.pack_attribute(1, b"abc") + netlink.pack_attribute(2, b"") + netlink.pack_attribute(3, b"12345678")
    assert len(packed) % 4 == 0
    assert [(kind, bytes(value)) for kind, value in netlink.read_attributes(memoryview(packed))] == [
        (1, b"abc"),
        (2, b""),
        (3, b"12345678"),
    ]


@pytest.mark.parametrize("cut", range(1, 12))
def test_cut_attributes_end_the_walk(cut: int) -> None:
    packed = netlink.pack_attribute(1, b"abcd") + netlink.pack_attribute(2, b"efgh")
    kinds = [kind for kind, _ in netlink.read_attributes(memoryview(packed[:-cut]))]
    assert kinds == ([1] if cut <= 8 else [])


def test_an_attribute_of_impossible_size_ends_the_walk() -> None:
    assert list(netlink.read_attributes(memoryview(struct.pack("=HH", 2, 1) + bytes(8)))) == []


def test_devices_of_the_namespace(lab: VethLab) -> None:
    with lab.near.enter():
        devices = {device.name: device for device in netlink.list_devices()}
        assert set(devices) == {"lo", "near0"}
        assert netlink.find_device("near0") == devices["near0"]
        assert netlink.find_device(devices["near0"].index) == devices["near0"]
        assert (devices["near0"].kind, devices["near0"].mtu, devices["near0"].rx_queues) == ("veth", 1500, 2)
        assert devices["near0"].up
        assert devices["near0"].xdp == netlink.XdpState()


@pytest.mark.parametrize(
    "name", ["nope", "", "far_too_long_for_a_device", "x" * 200, "a\0b", "\udcff", 99999, 0, -1, 1 << 40]
)
def test_a_missing_device(name: str | int) -> None:
    with pytest.raises(netlink.NetlinkError) as refused:
        netlink.find_device(name)
    assert refused.value.errno == errno.ENODEV


def test_alternative_names(lab: VethLab) -> None:
    ip = require_tool("ip")
    with lab.near.enter():
        for name in ("short_alias", "an_alias_that_is_longer_than_any_device_name"):
            subprocess.run([ip, "link", "property", "add", "dev", "near0", "altname", name], check=True)
            assert netlink.find_device(name).name == "near0"


@pytest.mark.parametrize(("flags", "mode"), [(DRV, "native"), (SKB, "skb"), (0, "native")])
def test_xdp_on_and_off(lab: VethLab, prog: Fd, flags: int, mode: str) -> None:
    with lab.near.enter():
        index = netlink.find_device("near0").index
        netlink.set_xdp(index, prog, flags)
        state = netlink.find_device("near0").xdp
        assert (state.mode, state.program_id) == (mode, bpf.prog_info(prog).id)
        assert state.id_of(mode) == state.program_id
        netlink.set_xdp(index, None, flags)
        assert netlink.find_device("near0").xdp.mode == ""


def test_the_kernels_own_words_come_through(lab: VethLab, prog: Fd) -> None:
    with lab.near.enter():
        index = netlink.find_device("near0").index
        netlink.set_xdp(index, prog, DRV)
        try:
            with pytest.raises(netlink.NetlinkError) as busy:
                netlink.set_xdp(index, prog, DRV | IF_NOEXIST)
            assert (busy.value.errno, busy.value.extack) == (errno.EBUSY, "XDP program already attached")
        finally:
            netlink.set_xdp(index, None, DRV)


def test_replace_checks_what_is_expected(lab: VethLab, prog: Fd) -> None:
    other = bpf.prog_load(6, PASS, "GPL", name="other").fd
    assert other is not None
    with lab.near.enter(), other:
        index = netlink.find_device("near0").index
        netlink.set_xdp(index, prog, DRV)
        with pytest.raises(netlink.NetlinkError) as mismatch:
            netlink.set_xdp(index, other, DRV | REPLACE, expected=other)
        assert mismatch.value.errno == errno.EEXIST
        netlink.set_xdp(index, other, DRV | REPLACE, expected=prog)
        assert netlink.find_device("near0").xdp.program_id == bpf.prog_info(other).id
        netlink.set_xdp(index, None, DRV | REPLACE, expected=other)


def test_netdev_features_of_veth(lab: VethLab) -> None:
    with lab.near.enter():
        features = netdev.query_features(netlink.find_device("near0").index)
        nothing = netdev.query_features(netlink.find_device("lo").index)
        queues = netdev.query_queues(netlink.find_device("near0").index)
    assert features is not None
    assert nothing is not None
    assert queues is not None
    assert {"basic", "redirect", "rx-sg"} <= features.xdp
    assert "xsk-zerocopy" not in features.xdp
    assert features.rx_metadata == {"timestamp", "hash", "vlan-tag"}
    assert nothing.xdp == frozenset()
    assert [(q.kind, q.id) for q in queues] == [("rx", 0), ("rx", 1), ("tx", 0), ("tx", 1)]


def test_ethtool_on_veth(lab: VethLab) -> None:
    with lab.near.enter():
        driver, channels = ethtool.get_driver_info("near0"), ethtool.get_channels("near0")
        assert ethtool.get_channels("lo") is None
        with pytest.raises(netlink.KernelError):
            ethtool.get_driver_info("nope")
    assert driver is not None
    assert channels is not None
    assert driver.driver == "veth"
    assert (channels.receiving, channels.max_rx) == (2, 2)


def test_namespaces_have_cookies_of_their_own(lab: VethLab) -> None:
    home = netns.namespace_cookie()
    with lab.near.enter():
        near, inode = netns.namespace_cookie(), netns.namespace_inode()
        handle = netns.NamespaceHandle()
    with lab.far.enter():
        far = netns.namespace_cookie()
    assert len({home, near, far}) == 3
    assert netns.namespace_inode() != inode
    with handle.visit():
        assert netns.namespace_inode() == inode
    assert netns.namespace_cookie() == home
    handle.close()
