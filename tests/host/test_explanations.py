"""Every errno that has a known cause becomes one line with that cause and a mend; the rest keep their name."""

from __future__ import annotations

import errno

import pytest

from ebpfkit.elf.model import MapSpec, ProgramSpec
from ebpfkit.host import attach, errnos, pins
from ebpfkit.kernel.netlink import Device, XdpState

MAP = MapSpec("table", "hash", 4, 8, 1000)
XDP = ProgramSpec("firewall", "xdp", "xdp", ())
DEVICE = Device(2, "eth0", 1500)


@pytest.fixture
def with_every_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = frozenset({"CAP_SYS_ADMIN", "CAP_NET_ADMIN"})
    monkeypatch.setattr(errnos, "effective_capabilities", lambda: everything)


@pytest.fixture
def with_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errnos, "effective_capabilities", frozenset)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EPERM, "lockdown, an LSM"),
        (errno.E2BIG, "key 4 bytes, value 8 bytes, max_entries 1000; make max_entries"),
        (errno.ENOMEM, "no memory"),
        (errno.EINVAL, "does not accept its shape"),
        (524, "not supported by this kernel"),
        (errno.EIO, "EIO (Input/output error)"),
    ],
)
def test_maps(number: int, words: str, with_every_capability: None) -> None:
    text = errnos.explain_map_create(MAP, number)
    assert text.startswith("cannot create map 'table' (hash): ")
    assert words in text


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EPERM, "lockdown, an LSM"),
        (errno.E2BIG, "0 instructions are more than this kernel takes"),
        (errno.EINVAL, "does not take a xdp program and flags 0x0"),
        (errno.ENOMEM, "no memory"),
        (524, "not supported by this kernel"),
        (errno.EIO, "EIO (Input/output error)"),
    ],
)
def test_programs(number: int, words: str, with_every_capability: None) -> None:
    text = errnos.explain_program_load(XDP, number)
    assert text.startswith("cannot load program 'firewall' (xdp): ")
    assert words in text


@pytest.mark.parametrize(
    ("prog_type", "missing"),
    [("xdp", "CAP_BPF and CAP_NET_ADMIN"), ("kprobe", "CAP_BPF and CAP_PERFMON"), ("socket_filter", "CAP_BPF;")],
)
def test_each_program_type_has_its_capabilities(prog_type: str, missing: str, with_none: None) -> None:
    assert f"lacks {missing}" in errnos.explain_program_load(XDP.replace(prog_type=prog_type), errno.EPERM)


def test_network_maps_need_net_admin(with_none: None) -> None:
    assert "lacks CAP_BPF and CAP_NET_ADMIN;" in errnos.explain_map_create(MAP.replace(type="xskmap"), errno.EPERM)
    assert "lacks CAP_BPF;" in errnos.explain_map_create(MAP, errno.EPERM)


def test_sys_admin_stands_in_for_bpf_but_not_for_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errnos, "effective_capabilities", lambda: frozenset({"CAP_SYS_ADMIN"}))
    assert errnos.missing_capabilities("CAP_BPF", "CAP_NET_ADMIN") == ()
    assert errnos.missing_capabilities("CAP_NET_ADMIN", through_bpf=False) == ("CAP_NET_ADMIN",)


@pytest.mark.parametrize(
    ("number", "options", "words"),
    [
        (errno.EOPNOTSUPP, {"mode": "native"}, "its driver has no native XDP; use mode skb (`--mode skb`)"),
        (errno.EOPNOTSUPP, {"mode": "hw"}, "cannot offload programs"),
        (errno.EINVAL, {"mode": "hw"}, "not loaded for offload"),
        (errno.ENODEV, {"mode": None}, "the device is gone"),
        (errno.EBUSY, {"mode": None}, "another attach is under way"),
        (errno.EINVAL, {"mode": None, "extack": "Too many queues"}, "Too many queues (EINVAL)"),
        (errno.EINVAL, {"mode": None, "extack": "MTU too large"}, "its MTU of 1500 needs a program that takes frag"),
        (errno.ERANGE, {"mode": None, "has_frags": True}, "more than its driver allows with XDP"),
        (errno.EIO, {"mode": None}, "EIO (Input/output error)"),
    ],
)
def test_attaching(number: int, options: dict[str, object], words: str, with_every_capability: None) -> None:
    text = attach.explain_xdp_attach("firewall", DEVICE, number, via="link", **options)  # type: ignore[arg-type]
    assert text.startswith("cannot attach 'firewall' to eth0: ")
    assert words in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("mode", "command"), [("native", "xdpdrv off"), ("skb", "xdpgeneric off"), ("hw", "xdpoffload off")]
)
def test_freeing_names_the_mode_in_force(mode: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "_link_on", lambda *_: 0)
    monkeypatch.setattr(attach, "_program_name", lambda _: " 'other'")
    held = Device(2, "eth0", 1500, xdp=XdpState(mode, ((mode, 7),)))
    text = attach.explain_xdp_attach("firewall", held, errno.EBUSY, mode=mode, via="netlink")
    assert f"program 7 'other' ({mode}, attached through netlink)" in text
    assert f"`ip link set dev eth0 {command}`" in text


@pytest.mark.parametrize(
    ("action", "number", "on_bpffs", "words"),
    [
        ("open", errno.ENOENT, True, "nothing is pinned there"),
        ("pin", errno.ENOENT, True, "`mkdir -p`"),
        ("pin", errno.EEXIST, True, "`rm /sys/fs/bpf/x`"),
        ("pin", errno.EPERM, False, "`mount -t bpf bpf /sys/fs/bpf` mounts one"),
        ("pin", errno.EPERM, True, "no full stop in names"),
        ("open", errno.EINVAL, True, "what is pinned there is no map"),
        ("pin", errno.ENOSPC, True, "ENOSPC"),
    ],
)
def test_pins(
    action: str, number: int, on_bpffs: bool, words: str, monkeypatch: pytest.MonkeyPatch, with_every_capability: None
) -> None:
    monkeypatch.setattr(pins, "is_bpffs", lambda _: on_bpffs)
    text = pins.explain_pin(action, "map", "/sys/fs/bpf/x", number)
    assert text.startswith(f"cannot {action} map at /sys/fs/bpf/x: ")
    assert words in text
