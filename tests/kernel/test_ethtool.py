"""Channels, rings, offloads, RSS and ntuple rules through ethtool's ioctls: the bytes, and what a veth pair answers."""

from __future__ import annotations

import errno
import struct
import subprocess
from collections.abc import Iterator

import pytest

from ebpfkit.errors import KernelError
from ebpfkit.kernel import ethtool
from ebpfkit.kernel.ethtool import FlowRule
from ebpfkit.testing import VethLab
from tests.conftest import require_tool

LAYOUT = """
#include <linux/ethtool.h>
#include <stdio.h>
#include <stddef.h>
#define AT(t, m) (unsigned long) offsetof(struct t, m)
int main(void) {
  printf("%lu %lu %lu %lu %lu %lu\\n", (unsigned long) sizeof(struct ethtool_rx_flow_spec),
         AT(ethtool_rx_flow_spec, m_u), AT(ethtool_rx_flow_spec, ring_cookie), AT(ethtool_rx_flow_spec, location),
         AT(ethtool_rxnfc, rule_cnt), AT(ethtool_rxfh, rss_config));
  struct ethtool_rx_flow_spec spec = {.flow_type = UDP_V4_FLOW, .ring_cookie = 3, .location = RX_CLS_LOC_ANY};
  spec.h_u.udp_ip4_spec.ip4dst = 0x0200000a; spec.m_u.udp_ip4_spec.ip4dst = -1;
  spec.h_u.udp_ip4_spec.pdst = 0x901f; spec.m_u.udp_ip4_spec.pdst = -1;
  for (unsigned at = 0; at < sizeof spec; at++) printf("%02x", ((unsigned char *) &spec)[at]);
  printf("\\n%x %x %x %x %x %x %x\\n", ETHTOOL_GRSSH, ETHTOOL_SRSSH, ETHTOOL_GRXCLSRLCNT, ETHTOOL_GRXCLSRULE,
         ETHTOOL_GRXCLSRLALL, ETHTOOL_SRXCLSRLDEL, ETHTOOL_SRXCLSRLINS);
}
"""


def test_the_structures_are_the_headers(tmp_path) -> None:  # type: ignore[no-untyped-def]
    compiler = require_tool("gcc")
    source, binary = tmp_path / "layout.c", tmp_path / "layout"
    source.write_text(LAYOUT)
    subprocess.run([compiler, "-o", binary, source], check=True)
    sizes, spec, commands = subprocess.run([binary], capture_output=True, text=True, check=True).stdout.splitlines()
    assert sizes == "168 76 152 160 184 24"
    rule = FlowRule(3, "udp4", destination="10.0.0.2", destination_port=8080)
    assert rule.to_bytes().hex() == spec
    assert [int(text, 16) for text in commands.split()] == [
        ethtool._GRSSH, ethtool._SRSSH, ethtool._GRXCLSRLCNT, ethtool._GRXCLSRULE, ethtool._GRXCLSRLALL,
        ethtool._SRXCLSRLDEL, ethtool._SRXCLSRLINS,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "rule",
    [
        FlowRule(0, "udp4"),
        FlowRule(None, "tcp4", source="1.2.3.4", location=7),
        FlowRule(5, "udp4", "1.2.3.4", "5.6.7.8", 1, 65535, 0),
    ],
)
def test_rules_there_and_back(rule: FlowRule) -> None:
    assert FlowRule.from_bytes(rule.to_bytes()) == rule


def test_rules_of_other_protocols_keep_their_queue() -> None:
    data = bytearray(FlowRule(4, location=9).to_bytes())
    data[0] = 0x12
    assert FlowRule.from_bytes(bytes(data)) == FlowRule(4, "type-18", location=9)


@pytest.mark.parametrize("rule", [FlowRule(1, "sctp4"), FlowRule(1, source="nowhere")])
def test_rules_that_cannot_be(rule: FlowRule) -> None:
    with pytest.raises(KernelError) as refused:
        rule.to_bytes()
    assert refused.value.errno == errno.EINVAL


def test_the_bytes_of_an_rss_request() -> None:
    data = ethtool.rss_request(8, (2, 3))
    assert struct.unpack_from("=4I", data) == (0x47, 0, 8, 0)
    assert struct.unpack_from("=8I", data, 24) == (2, 3, 2, 3, 2, 3, 2, 3)


@pytest.mark.kernel
class TestOnVeth:
    @pytest.fixture
    def dev(self) -> Iterator[str]:
        with VethLab(queues=4) as lab, lab.near.enter():
            yield lab.near_dev

    def test_channels_are_read_and_set(self, dev: str) -> None:
        found = ethtool.get_channels(dev)
        assert found is not None and (found.rx, found.tx, found.max_rx) == (4, 4, 4)
        ethtool.set_channels(dev, rx=2)
        found = ethtool.get_channels(dev)
        assert found is not None and (found.rx, found.tx, found.receiving) == (2, 4, 2)
        with pytest.raises(KernelError) as refused:
            ethtool.set_channels(dev, rx=5)
        assert refused.value.errno == errno.EINVAL

    def test_offloads_are_read_and_set(self, dev: str) -> None:
        before = ethtool.get_features(dev)
        assert before is not None and before["rx-gro"] is False
        ethtool.set_feature(dev, "rx-gro", True)
        after = ethtool.get_features(dev)
        assert after is not None and after == {**before, "rx-gro": True}
        with pytest.raises(KernelError, match="has no offload 'warp'"):
            ethtool.set_feature(dev, "warp", True)

    def test_what_veth_has_not(self, dev: str) -> None:
        assert ethtool.get_ring_sizes(dev) is None
        assert ethtool.get_rss(dev) is None
        assert not ethtool.get_flow_rules(dev)
        for change in (
            lambda: ethtool.set_rss_queues(dev, (0,)),
            lambda: ethtool.add_flow_rule(dev, FlowRule(0)),
            lambda: ethtool.delete_flow_rule(dev, 0),
            lambda: ethtool.set_ring_sizes(dev, rx=64),
        ):
            with pytest.raises(KernelError) as refused:
                change()
            assert refused.value.errno == errno.EOPNOTSUPP

    def test_a_device_that_is_not_there(self, dev: str) -> None:
        for ask in (ethtool.get_channels, ethtool.get_features, ethtool.get_rss, ethtool.get_flow_rules):
            with pytest.raises(KernelError) as refused:
                ask("nosuch0")
            assert refused.value.errno == errno.ENODEV
