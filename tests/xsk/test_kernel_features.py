"""What XDP and AF_XDP do on this kernel's virtual devices, each through the library: verdicts, redirects, devices."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ebpfkit.asm.parser import parse
from ebpfkit.elf.model import MapSpec, ObjectFile, ProgramSpec
from ebpfkit.errors import AttachError, XskError
from ebpfkit.kernel import ethtool, netdev, netlink
from ebpfkit.kernel.netns import Namespace
from ebpfkit.loader import Collection, Program
from ebpfkit.testing import VethLab, ping
from ebpfkit.xsk import XskGroup, XskSocket
from tests.loader import objects

from .conftest import HEADER, Far

pytestmark = pytest.mark.kernel
SMALL = {"rx_size": 64, "tx_size": 64, "fill_size": 64, "completion_size": 64, "frame_count": 256, "frame_size": 2048}
DROP, PASS, TX = 1, 2, 3


def program(text: str, *maps: MapSpec, **fields: object) -> ProgramSpec:
    spec = ProgramSpec("p", "xdp", "xdp", tuple(parse(text)), license="GPL", maps={m.name: m for m in maps})
    return spec.replace(**fields)


def counted(loaded: Collection, slot: int = 1) -> int:
    return int.from_bytes(loaded.maps["counts"].get(struct.pack("=I", slot)) or b"", "little")


@pytest.mark.parametrize("mode", ["native", "skb"])
@pytest.mark.parametrize("verdict", [DROP, PASS])
def test_pass_and_drop(lab: VethLab, far: Far, mode: str, verdict: int) -> None:
    spec = objects.counts(verdict=verdict)
    with lab.near.enter(), Collection.load(objects.object_of(spec)) as loaded:
        near = Far.__new__(Far)
        with loaded.programs["counter"].attach_xdp(lab.near_dev, mode):
            with lab.near.enter():
                import socket

                near.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x88B5))
                near.socket.bind((lab.near_dev, 0x88B5))
                near.socket.settimeout(0.2)
            far.send(b"seen?")
            try:
                assert near.receive() == b"seen?" and verdict == PASS
            except TimeoutError:
                # In skb mode a packet socket listens before the program does, in native mode behind it.
                assert verdict == DROP
            near.close()
            assert counted(loaded) == 1


def test_xdp_tx_needs_a_program_at_the_peer(lab: VethLab, far: Far) -> None:
    far.socket.settimeout(0.3)
    with lab.near.enter(), Program.load(objects.returns(TX)) as back, back.attach_xdp(lab.near_dev, "native"):
        far.send(b"to and fro")
        with pytest.raises(TimeoutError):
            far.receive()
        with lab.far.enter(), Program.load(objects.returns(PASS)) as passes, passes.attach_xdp(lab.far_dev, "native"):
            far.send(b"to and fro")
            assert far.receive() == b"to and fro"


REDIRECTS = {
    "bpf_redirect": ("r1 = {index}\nr2 = 0\ncall bpf_redirect\nexit", None),
    "devmap": ("r1 = map[m] ll\nr2 = 0\nr3 = 0\ncall bpf_redirect_map\nexit", MapSpec("m", "devmap", 4, 4, 1)),
    "devmap_hash": (
        "r1 = map[m] ll\nr2 = 77\nr3 = 0\ncall bpf_redirect_map\nexit",
        MapSpec("m", "devmap_hash", 4, 4, 4),
    ),
}


@pytest.mark.parametrize("kind", REDIRECTS)
def test_redirect_to_veth_and_a_test_run_as_generator(lab: VethLab, kind: str) -> None:
    """Live frames of a test run go out on the far end, and arrive in the sockets of the near end."""
    text, spec = REDIRECTS[kind]
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        with lab.far.enter():
            index = netlink.find_device(lab.far_dev).index
            sends = program(text.format(index=index), *([spec] if spec else []))
            with Collection.load(ObjectFile({"p": sends}, {"m": spec} if spec else {})) as loaded:
                if spec is not None:
                    loaded.maps["m"].set(
                        struct.pack("=I", 77 if kind == "devmap_hash" else 0), struct.pack("=I", index)
                    )
                loaded.programs["p"].test_run(HEADER + bytes(46), repeat=40, live_frames=True)
        came = 0
        deadline = time.monotonic() + 5
        while came < 40 and time.monotonic() < deadline:
            for frame in group[0].receive(0.1):
                assert bytes(frame) == HEADER + bytes(46)
                came += 1
        assert came == 40 and group.statistics().lost == 0


def test_redirected_frames_choose_the_queue_by_the_senders_cpu() -> None:
    with VethLab(queues=2) as lab, lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        before = os.sched_getaffinity(0)
        if not {0, 1} <= before:
            pytest.skip("needs CPUs 0 and 1")
        with lab.far.enter():
            index = netlink.find_device(lab.far_dev).index
            with Program.load(program(REDIRECTS["bpf_redirect"][0].format(index=index))) as sends:
                try:
                    for cpu in (0, 1):
                        os.sched_setaffinity(0, {cpu})
                        sends.test_run(HEADER + bytes(46), repeat=20, live_frames=True)
                finally:
                    os.sched_setaffinity(0, before)
        time.sleep(0.05)
        assert [len(list(sock.receive(1))) for sock in group] == [20, 20]


def test_cpumap_takes_packets_to_another_cpu_and_its_program(lab: VethLab, far: Far) -> None:
    cpus = MapSpec("cpus", "cpumap", 4, 8, 2)
    steer = program("r1 = map[cpus] ll\nr2 = 1\nr3 = 0\ncall bpf_redirect_map\nexit", cpus)
    counter = objects.counts(verdict=DROP).replace(attach_type="xdp_cpumap")
    if 1 not in os.sched_getaffinity(0):
        pytest.skip("needs CPU 1")
    with lab.near.enter(), Collection.load(objects.object_of(counter)) as behind:
        with Collection.load(ObjectFile({"p": steer}, {"cpus": cpus})) as loaded:
            value = struct.pack("=Ii", 2048, behind.programs["counter"].fileno())
            loaded.maps["cpus"].set(struct.pack("=I", 1), value)
            with loaded.programs["p"].attach_xdp(lab.near_dev, "native"):
                far.send(*[b"x"] * 10)
                deadline = time.monotonic() + 5
                while counted(behind) < 10 and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert counted(behind) == 10


def test_an_empty_slot_takes_the_programs_other_verdict(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        sock = group[0]
        far.send(b"one")
        assert [bytes(frame) for frame in sock.receive(5)] == [HEADER + b"one"]
        with lab.far.enter():
            assert ping(lab.near_address, count=1, timeout=0.2) == 0
            sock.close()  # its entry in the map goes with it: the stack has the queue again, program and all
            assert ping(lab.near_address, count=2) == 2


def test_features_follow_the_peers_settings(lab: VethLab) -> None:
    with lab.near.enter():
        index = netlink.find_device(lab.near_dev).index
        features = netdev.query_features(index)
        assert features is not None and features.xdp == {"basic", "redirect", "rx-sg"}
        ethtool.set_feature(lab.near_dev, "rx-gro", True)
        assert netdev.query_features(index) == features  # its own setting changes nothing
        with lab.far.enter():
            ethtool.set_feature(lab.far_dev, "rx-gro", True)
        features = netdev.query_features(index)
        assert features is not None and features.xdp >= {"ndo-xmit", "ndo-xmit-sg"}


@contextmanager
def tap(namespace: Namespace) -> Iterator[int]:
    """A tap device `tap0`, up, in the namespace: its descriptor is the other end of the wire."""
    from pyroute2 import IPRoute

    with namespace.enter():  # the device goes to the namespace in which this was opened
        number = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        with namespace.enter():
            fcntl.ioctl(number, 0x400454CA, struct.pack("16sH22x", b"tap0", 0x1002))  # TUNSETIFF: IFF_TAP | IFF_NO_PI
            with open("/proc/sys/net/ipv6/conf/tap0/disable_ipv6", "w") as setting:
                setting.write("1")
            with IPRoute() as route:
                route.link("set", index=route.link_lookup(ifname="tap0")[0], state="up")
        yield number
    finally:
        os.close(number)


@pytest.mark.parametrize("mode", ["native", "skb"])
def test_a_tap_device_receives_and_sends(mode: str) -> None:
    with Namespace() as namespace, tap(namespace) as wire, namespace.enter():
        with XskGroup("tap0", attach_mode=mode, **SMALL) as group:
            for number in range(20):
                os.write(wire, HEADER + bytes([number]) * 50)
                for frame in group[0].receive(5):
                    assert bytes(frame) == HEADER + bytes([number]) * 50
                    frame.data[14] = 255
                    frame.send()
                assert os.read(wire, 2048) == HEADER + b"\xff" + bytes([number]) * 49


def test_what_these_devices_cannot_do_is_explained(lab: VethLab) -> None:
    with lab.near.enter():
        with pytest.raises(XskError, match="the driver of near0 has no zero-copy mode; use mode='copy'") as refused:
            XskSocket(lab.near_dev, mode="zero-copy", **SMALL)
        assert refused.value.errno == errno.EOPNOTSUPP
        with Program.load(objects.returns(PASS)) as passes:
            with pytest.raises(AttachError, match="use mode native or skb"):
                passes.attach_xdp(lab.near_dev, "hw")
            with pytest.raises(AttachError, match="its driver has no native XDP; use mode skb"):
                passes.attach_xdp("lo", "native")
            passes.attach_xdp("lo", "skb").close()
            with passes.attach_xdp(lab.near_dev, "native"):
                with pytest.raises(
                    AttachError, match=r"native and generic \(skb\) mode exclude each other|is in place"
                ):
                    passes.attach_xdp(lab.near_dev, "skb")
