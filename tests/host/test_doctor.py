"""The doctor: every check on facts made by hand (of hardware that is not here too), and on a veth pair as it is."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ebpfkit.errors import AttachError
from ebpfkit.host import attach, doctor
from ebpfkit.host.bind import SocketRequest, explain_bind
from ebpfkit.host.doctor import check_device, check_host, examine
from ebpfkit.host.facts import DeviceFacts, HostFacts
from ebpfkit.host.findings import Finding
from ebpfkit.kernel import ethtool
from ebpfkit.kernel.ethtool import Channels, FlowRule, RingSizes, Rss
from ebpfkit.kernel.netdev import Napi, NetdevFeatures, Queue
from ebpfkit.kernel.netlink import Device, XdpState
from ebpfkit.loader import Program
from ebpfkit.testing import VethLab
from ebpfkit.xsk import XskSocket
from tests.loader import objects

WELL = HostFacts(
    kernel="6.18",
    capabilities=frozenset({"CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_PERFMON", "CAP_IPC_LOCK"}),
    cpus=(0, 1, 2, 3),
    huge_pages=(8, 8),
    bpffs="/sys/fs/bpf",
    settings={"net.core.bpf_jit_enable": 1, "net.core.bpf_jit_harden": 0, "kernel.unprivileged_bpf_disabled": 2},
    config={f"CONFIG_{name}": "y" for name in ("BPF_SYSCALL", "XDP_SOCKETS", "BPF_JIT", "XDP_SOCKETS_DIAG")},
)
XDP = frozenset({"basic", "redirect", "ndo-xmit", "xsk-zerocopy", "rx-sg", "ndo-xmit-sg"})
DEVICE = Device(2, "eth9", 1500, up=True, rx_queues=4, tx_queues=4)
GOOD = DeviceFacts(
    DEVICE,
    driver="i40e",
    firmware="9.20",
    bus="0000:01:00.0",
    features=NetdevFeatures(XDP, frozenset({"hash"}), frozenset({"tx-checksum"}), 5),
    channels=Channels(0, 0, 4, 0, 0, 16),
    rings=RingSizes(2048, 2048, 4096, 4096),
    offloads={"rx-lro": False, "rx-gro-hw": False, "rx-vlan-hw-parse": False},
    rss=Rss((0, 1, 2, 3)),
    rules=(),
    queues=tuple(Queue(number, "rx", 0, False) for number in range(4)),
    napis=tuple(Napi(100 + number, irq=30 + number) for number in range(4)),
    interrupt_cpus={30: (0,), 31: (1,), 32: (2,), 33: (3,)},
)


def test_a_host_and_a_device_that_are_well() -> None:
    findings = check_host(WELL) + check_device(GOOD, WELL)
    assert [finding.check for finding in findings if finding.status != "pass"] == []
    assert len({finding.check for finding in findings}) == len(findings) == 31


HOSTS: list[tuple[str, HostFacts, str, str, str]] = [
    ("kernel", replace(WELL, kernel="5.2"), "warn", "5.4", ""),
    ("kernel", replace(WELL, kernel="5.6"), "warn", "5.9", ""),
    ("capabilities", replace(WELL, capabilities=frozenset({"CAP_BPF"})), "fail", "CAP_NET_RAW to open", "sudo"),
    ("memory-lock", replace(WELL, memlock=65536, capabilities=frozenset()), "fail", "counts against it", "ulimit -l"),
    ("memory-lock", replace(WELL, memlock=1 << 30, capabilities=frozenset()), "warn", "counts against", "ulimit -l"),
    ("huge-pages", replace(WELL, huge_pages=(0, 0)), "warn", "needs some", "sysctl vm.nr_hugepages=64"),
    ("bpffs", replace(WELL, bpffs=None), "fail", "nothing can be pinned", "mount -t bpf bpf /sys/fs/bpf"),
    ("kernel-types", replace(WELL, has_btf=False), "warn", "CO-RE", ""),
    (
        "jit",
        replace(WELL, settings={"net.core.bpf_jit_enable": 0}),
        "fail",
        "interpreted",
        "sysctl net.core.bpf_jit_enable=1",
    ),
    (
        "jit-harden",
        replace(WELL, settings={"net.core.bpf_jit_harden": 2}),
        "warn",
        "slowed",
        "sysctl net.core.bpf_jit_harden=1",
    ),
    (
        "unprivileged-bpf",
        replace(WELL, settings={"kernel.unprivileged_bpf_disabled": 0}),
        "warn",
        "any user",
        "sysctl kernel.unprivileged_bpf_disabled=2",
    ),
    ("lockdown", replace(WELL, lockdown="confidentiality"), "warn", "may not read kernel memory", ""),
    ("kernel-config", replace(WELL, config=None), "warn", "config.gz", ""),
    (
        "kernel-config",
        replace(WELL, config={**(WELL.config or {}), "CONFIG_XDP_SOCKETS": "n"}),
        "fail",
        "no AF_XDP",
        "",
    ),
    (
        "kernel-config",
        replace(WELL, config={**(WELL.config or {}), "CONFIG_XDP_SOCKETS_DIAG": "n"}),
        "warn",
        "`ss --xdp`",
        "",
    ),
]


@pytest.mark.parametrize(("name", "facts", "status", "why", "fix"), HOSTS, ids=[f"{row[0]}-{row[2]}" for row in HOSTS])
def test_what_is_wrong_with_a_host(name: str, facts: HostFacts, status: str, why: str, fix: str) -> None:
    check(check_host(facts), name, status, why, fix)


def dev(**changes: object) -> Device:
    return replace(DEVICE, **changes)  # type: ignore[arg-type]


NO_ZC = NetdevFeatures(frozenset({"basic", "redirect"}), frozenset(), frozenset())
DEVICES: list[tuple[str, DeviceFacts, str, str, str]] = [
    ("link", replace(GOOD, device=dev(up=False)), "fail", "ENETDOWN", "ip link set dev eth9 up"),
    ("native-xdp", replace(GOOD, driver="e1000e", features=None), "warn", "--mode skb", ""),
    ("native-xdp", replace(GOOD, driver="new", features=None), "warn", "neither the kernel nor", ""),
    ("zero-copy", replace(GOOD, features=NO_ZC), "warn", "copy each packet", ""),
    (
        "zero-copy",
        replace(GOOD, features=NetdevFeatures(XDP, frozenset(), frozenset(), 1)),
        "pass",
        "of one buffer",
        "",
    ),
    ("redirect-target", replace(GOOD, features=NO_ZC), "warn", "redirected to it are dropped", ""),
    (
        "redirect-target",
        replace(GOOD, driver="veth", features=NO_ZC),
        "warn",
        "unless its peer",
        "ethtool -K PEER gro on",
    ),
    (
        "queues",
        replace(GOOD, channels=Channels(0, 0, 16, 0, 0, 16)),
        "warn",
        "XDP_TX and redirect need",
        "ethtool -L eth9 combined 8",
    ),
    (
        "queues",
        replace(GOOD, driver="mlx5_core", channels=Channels(0, 0, 8, 0, 0, 8)),
        "warn",
        "more queues than CPUs",
        "ethtool -L eth9 combined 4",
    ),
    ("steering", replace(GOOD, rss=Rss((1, 1)), rules=(FlowRule(1),)), "pass", "", ""),
    (
        "mtu",
        replace(GOOD, device=dev(mtu=9000)),
        "warn",
        "needs a program that takes fragments",
        "ip link set dev eth9 mtu 3046",
    ),
    (
        "mtu",
        replace(GOOD, device=dev(mtu=9000), features=NO_ZC),
        "fail",
        "takes no fragments",
        "ip link set dev eth9 mtu 3046",
    ),
    (
        "merging-offloads",
        replace(GOOD, offloads={"rx-lro": True, "rx-gro-hw": True}),
        "warn",
        "merged before XDP",
        "ethtool -K eth9 rx-lro off rx-gro-hw off",
    ),
    (
        "vlan-stripping",
        replace(GOOD, offloads={"rx-vlan-hw-parse": True}),
        "warn",
        "taken off",
        "ethtool -K eth9 rxvlan off",
    ),
    ("ring-sizes", replace(GOOD, rings=RingSizes(512, 512, 4096, 4096)), "warn", "bursts", "ethtool -G eth9 rx 2048"),
    ("promiscuous", replace(GOOD, promiscuous=True), "pass", "other stations", ""),
    (
        "attached",
        replace(GOOD, device=dev(xdp=XdpState("skb", (("skb", 7),))), owner="program 7 (attached through netlink)"),
        "warn",
        "a second program is refused",
        "ip link set dev eth9 xdpgeneric off",
    ),
    (
        "attached",
        replace(GOOD, device=dev(xdp=XdpState("native", (("native", 7),))), owner="program 7 (held by link 3)"),
        "warn",
        "a second program is refused",
        "ebpfkit unload --dev eth9",
    ),
    ("taken-queues", replace(GOOD, queues=(Queue(0, "rx", 0, True),)), "warn", "EBUSY", ""),
    (
        "interrupts",
        replace(GOOD, interrupt_cpus={30: (0,), 31: (0,)}),
        "warn",
        "served by one CPU",
        "smp_affinity_list",
    ),
    ("numa", replace(GOOD, numa_node=1, numa_cpus=(2, 3)), "warn", "crosses between nodes", "taskset -c 2,3"),
    (
        "busy-poll",
        replace(GOOD, napis=None, defer_hard_irqs=0, gro_flush_timeout=0),
        "pass",
        "napi_defer_hard_irqs",
        "",
    ),
    ("stacked", replace(GOOD, device=dev(kind="vlan")), "warn", "attach to the device below it", ""),
    ("stacked", replace(GOOD, upper="bond0"), "warn", "bond0 does not see", ""),
    ("namespace", replace(GOOD, sysfs_matches=False), "warn", "cannot be read", "ip netns exec"),
]


@pytest.mark.parametrize(
    ("name", "facts", "status", "why", "fix"), DEVICES, ids=[f"{row[0]}-{row[2]}" for row in DEVICES]
)
def test_what_is_wrong_with_a_device(name: str, facts: DeviceFacts, status: str, why: str, fix: str) -> None:
    check(check_device(facts, WELL), name, status, why, fix)


def check(findings: list[Finding], name: str, status: str, why: str, fix: str) -> None:
    (found,) = [finding for finding in findings if finding.check == name]
    assert found.status == status
    assert why in found.why
    assert (fix in found.fix.command) if fix else (found.fix is None)
    json.dumps([finding.to_json() for finding in findings])


def test_every_check_is_seen_to_fail_or_to_tell() -> None:
    names = {finding.check for finding in check_host(WELL) + check_device(GOOD, WELL)}
    assert names - {row[0] for row in [*HOSTS, *DEVICES]} == {"driver", "metadata"}  # which only tell


@pytest.mark.parametrize(
    ("number", "request_", "words"),
    [
        (errno.EBUSY, SocketRequest(0), "another AF_XDP socket owns this queue; close it"),
        (errno.EINVAL, SocketRequest(9), "eth9 has 4 RX queues, numbered from 0"),
        (errno.EINVAL, SocketRequest(0, multi_buffer=True), "no multi-buffer sockets (Linux 6.6)"),
        (errno.EINVAL, SocketRequest(0, shared=True), "does not take this sharing"),
        (errno.EINVAL, SocketRequest(0), "this combination of flags"),
        (errno.EOPNOTSUPP, SocketRequest(0), "does not support this mode"),
        (errno.ENETDOWN, SocketRequest(0), "the device is down; `ip link set dev eth9 up`"),
        (errno.ENXIO, SocketRequest(0), "gone"),
        (errno.EBADF, SocketRequest(0, shared=True), "is not bound any more"),
        (errno.EIO, SocketRequest(0), "EIO"),
    ],
)
def test_bind_is_explained_by_the_same_causes(number: int, request_: SocketRequest, words: str) -> None:
    assert words in explain_bind(number, DEVICE, request_)


def test_zero_copy_of_several_buffers_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    from ebpfkit.host import bind

    told = NetdevFeatures(XDP, frozenset(), frozenset(), 1)
    monkeypatch.setattr(bind.netdev, "query_features", lambda _: told)
    text = explain_bind(errno.EOPNOTSUPP, DEVICE, SocketRequest(0, "zero-copy", multi_buffer=True))
    assert "only for packets of one buffer (zero-copy segments: 1)" in text


def test_more_queues_on_the_other_side_of_a_veth_pair() -> None:
    text = attach.explain_xdp_attach("p", dev(kind="veth"), errno.ENOSPC, mode="native", via="link")
    assert "its peer sends on more queues than the 4 that eth9 receives on; `ethtool -L PEER tx 4`" in text


# --- on this host


@pytest.mark.kernel
class TestHere:
    @pytest.fixture
    def lab(self) -> Iterator[VethLab]:
        with VethLab(queues=2) as made:
            yield made

    def status(self, findings: list[Finding]) -> dict[str, str]:
        return {finding.check: finding.status for finding in findings}

    def test_the_host_has_no_failure(self) -> None:
        assert "fail" not in self.status(examine()).values()

    def test_a_veth_device(self, lab: VethLab) -> None:
        with lab.near.enter():
            found = {finding.check: finding for finding in examine("near0")}
        assert found["driver"].found == "veth"
        assert (found["native-xdp"].status, found["zero-copy"].found) == ("pass", "no")
        assert found["queues"].found.startswith("2 receiving")
        assert found["metadata"].found.startswith("received: hash, timestamp, vlan-tag")
        assert (found["attached"].found, found["taken-queues"].found) == ("nothing", "none")
        assert found["namespace"].status == "warn"  # /sys is the one of the namespace it was mounted in

    def test_what_holds_device_and_queue_is_named(self, lab: VethLab) -> None:
        with lab.near.enter(), Program.load(objects.returns(2)) as program, program.attach_xdp("near0"):
            with XskSocket("near0", 1, frame_size=2048):
                found = {finding.check: finding for finding in examine("near0")}
        assert "'verdict' (native, held by link" in found["attached"].found
        assert (found["taken-queues"].status, found["taken-queues"].found) == ("warn", "1")

    def test_a_device_that_is_down_and_one_that_is_not_there(self, lab: VethLab) -> None:
        from pyroute2 import IPRoute

        with lab.near.enter():
            with IPRoute() as route:
                route.link("set", index=route.link_lookup(ifname="near0")[0], state="down")
            found = {finding.check: finding for finding in examine("near0")}
            assert found["link"].status == "fail"
            with pytest.raises(AttachError, match="did you mean near0"):
                examine("near1")

    def test_a_safe_fix_does_what_its_command_says(self, lab: VethLab) -> None:
        with lab.near.enter():
            before = ethtool.get_features("near0")
            assert before is not None and before["rx-vlan-hw-parse"]
            (finding,) = [finding for finding in examine("near0") if finding.check == "vlan-stripping"]
            assert finding.fix is not None and finding.fix.apply is not None
            assert finding.fix.command == "ethtool -K near0 rxvlan off"
            finding.fix.apply()
            after = ethtool.get_features("near0")
            assert after == {**before, "rx-vlan-hw-parse": False}
            assert self.status(examine("near0"))["vlan-stripping"] == "pass"

    def test_a_veth_peer_with_more_queues_is_explained(self) -> None:
        with VethLab(queues=4) as lab, lab.near.enter(), Program.load(objects.returns(2)) as program:
            ethtool.set_channels("near0", rx=2)
            with pytest.raises(AttachError, match="its peer sends on more queues than the 2 that near0") as refused:
                program.attach_xdp("near0", "native")
            assert refused.value.errno == errno.ENOSPC


def test_settings_are_written_as_sysctl_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr(doctor.Path, "write_text", lambda self, text: written.update({str(self): text}))
    (finding,) = [f for f in check_host(replace(WELL, settings={"net.core.bpf_jit_enable": 0})) if f.check == "jit"]
    assert finding.fix is not None and finding.fix.apply is not None
    finding.fix.apply()
    assert written == {"/proc/sys/net/core/bpf_jit_enable": "1\n"}
