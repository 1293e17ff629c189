"""Handlers in native code around the rings, over veth: every verdict, maps meanwhile, the end, what is refused."""

from __future__ import annotations

import importlib.util
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

import ebpfkit as bpf
from ebpfkit import Packet, u8, u32, u64
from ebpfkit.errors import CompileError, UsageError, VerifierError, XskError
from ebpfkit.net import Ethernet
from ebpfkit.testing import VethLab
from ebpfkit.xsk import FrameOwner, Running, Umem, XskGroup, XskSocket, run

from .conftest import HEADER, Far

LICENSE = "Dual MIT/GPL"
SMALL = {"rx_size": 64, "tx_size": 64, "fill_size": 64, "completion_size": 64, "frame_count": 256, "frame_size": 2048}
NEAR_MAC = HEADER[6:12]

orders = bpf.Array[u64](max_entries=4)
limits = bpf.Hash[u32, u32](max_entries=16)
per_worker = bpf.PerCpuArray[u64](max_entries=1)
ports = bpf.XskMap(max_entries=4)
total = bpf.var(u64)


@bpf.xdp(short=bpf.XDP_DROP)
def obey(pkt: Packet) -> bpf.XdpAction:
    """Do what the first byte of the payload says: 0 drop, 1 send back, 2 hand up, 3 send out on port 1."""
    eth = pkt.read(Ethernet)
    if eth.type != 0x88B5:
        return bpf.XDP_DROP
    order = pkt.read(u8)
    if order > 3:
        return bpf.XDP_ABORTED
    orders[u32(order)] += 1
    total.value.atomic_add(1)
    if order == 0:
        return bpf.XDP_DROP
    if order == 2:
        return bpf.XDP_PASS
    if order == 3:
        return ports.redirect(1, otherwise=bpf.XDP_DROP)
    kept = eth.dst
    eth.dst = eth.src
    eth.src = kept
    return bpf.XDP_TX


@bpf.xdp(short=bpf.XDP_DROP)
def limited(pkt: Packet) -> bpf.XdpAction:
    pkt.read(Ethernet)
    per_worker[0] += 1
    limit = limits.get(u32(pkt.read(u8)))
    return bpf.XDP_DROP if limit is None else bpf.XDP_PASS


@bpf.xdp(short=bpf.XDP_DROP)
def outward(pkt: Packet) -> bpf.XdpAction:
    return ports.redirect(1, otherwise=bpf.XDP_DROP)


@bpf.xdp(short=bpf.XDP_DROP)
def tagged(pkt: Packet) -> bpf.XdpAction:
    """Four bytes more in front."""
    pkt.push_head(4)
    head = pkt.read(Ethernet)
    head.dst = head.src
    head.type = 0x88B5
    return bpf.XDP_TX


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    for facade in (orders, limits, per_worker, ports):
        facade.close()
    total.value = 0


def payload(order: int, number: int = 0) -> bytes:
    return bytes([order]) + number.to_bytes(4, "big") + bytes(45)


def wait_for(condition: object, seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def collect(running: Running, count: int) -> list[bytes]:
    found: list[bytes] = []
    end = time.monotonic() + 5
    while len(found) < count and time.monotonic() < end:
        found += [bytes(frame)[14:] for frame in running.receive(timeout=1)]
    return found


@pytest.mark.kernel
def test_each_verdict_does_what_it_says(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        with group.run(obey) as running:
            for number in range(40):
                far.send(payload(number % 3, number), payload(9))
                wait_for(lambda sent=2 * number + 2: running.counters.received == sent)  # the rings are short
            assert collect(running, 13) == [payload(2, number) for number in range(2, 40, 3)]
            back = [far.socket.recv(100) for _ in range(13)]
            assert back == [NEAR_MAC + b"\xff" * 6 + HEADER[12:] + payload(1, number) for number in range(1, 40, 3)]
            counted = running.counters
            assert (counted.dropped, counted.aborted, counted.passed, counted.sent) == (14, 40, 13, 13)
            assert counted.bytes == 80 * 64
            assert [int(orders[order]) for order in range(4)] == [14, 13, 13, 0]
            assert total.value == 40
        assert group[0].counters.received == 80 and group[0].counters.completed == 13
        owners = [group[0].umem.count(owner) for owner in (FrameOwner.FREE, FrameOwner.FILL)]
        assert owners == [192, 64]  # every frame is where it was
        far.send(b"the plain interface goes on")
        assert [bytes(frame)[14:] for frame in group[0].receive(5)] == [b"the plain interface goes on"]


@pytest.mark.kernel
def test_python_answers_what_was_handed_up(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group, group.run(obey) as running:
        for number in range(300):  # more than there are frames, so that each must come back
            far.send(payload(2, number))
            for frame in running.receive(5):
                frame.data[0:6], frame.data[6:12] = bytes(frame.data[6:12]), bytes(frame.data[0:6])
                frame.data[14] = 77
                frame.send()
            assert far.socket.recv(100) == NEAR_MAC + b"\xff" * 6 + HEADER[12:] + payload(77, number)


@pytest.mark.kernel
def test_maps_are_read_and_written_while_it_runs(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group, group.run(limited) as running:
        far.send(payload(5))
        wait_for(lambda: running.counters.dropped == 1)
        limits[5] = 1
        far.send(payload(5), payload(6))
        assert collect(running, 1) == [payload(5)]
        del limits[5]
        far.send(payload(5))
        wait_for(lambda: running.counters.dropped == 3)
        assert per_worker.sum(0) == 4


@pytest.mark.kernel
@pytest.mark.parametrize("share", [True, False], ids=["one umem", "two umems"])
def test_packets_go_on_to_another_socket(share: bool) -> None:
    with VethLab() as one, VethLab() as two:
        ends = Far(one), Far(two)
        umem = Umem(512, 2048) if share else None
        options = {**SMALL, "frame_count": 512, "umem": umem}
        with one.near.enter():
            left = XskGroup(one.near_dev, **options)
        with left, two.near.enter(), XskGroup(two.near_dev, **options) as right:
            ports[1] = right[0]
            with run([left[0], right[0]], obey) as running:
                for number in range(500):
                    ends[0].send(payload(3, number))
                    assert ends[1].receive() == payload(3, number)
                assert running.counters.forwarded == 500 == running.counters.sent
                assert running.counters.no_room == 0
            assert sum(sock.umem.count(FrameOwner.TX) for sock in (left[0], right[0])) == 0
            assert right[0].counters.sent == 500 == right[0].counters.completed
        for end in ends:
            end.close()


@pytest.mark.kernel
@pytest.mark.parametrize(
    "options", [{"frame_size": 3000, "unaligned": True}, {"headroom": 128}, {"need_wakeup": False}]
)
def test_other_frames_and_a_packet_that_grows(lab: VethLab, far: Far, options: dict[str, int]) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **{**SMALL, **options}) as group, group.run(tagged):
        for number in range(300):
            far.send(payload(1, number))
            assert far.socket.recv(100)[14:] == (HEADER + payload(1, number))[10:]


@pytest.mark.kernel
def test_several_queues_have_a_thread_each() -> None:
    with VethLab(queues=2) as lab:
        far = Far(lab)
        with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group, group.run(limited, cpus=[0]) as running:
            assert len(running.loops) == 2
            far.send(*[payload(1)] * 20)
            wait_for(lambda: running.counters.dropped == 20)
            assert len(per_worker.per_cpu(0)) == 2 and per_worker.sum(0) == 20
        far.close()


@pytest.mark.kernel
def test_it_stops_at_once_and_leaves_the_lock_alone(lab: VethLab) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        running = group.run(obey)
        time.sleep(0.05)  # it sleeps in the kernel now
        before = time.perf_counter()
        running.stop()
        assert time.perf_counter() - before < 0.2
        assert not running.is_running and running.wait(0)
        running.close()
        with group.run(obey) as again:  # and once more
            assert again.is_running and not again.wait(0.01)


@pytest.mark.kernel
def test_closing_a_socket_ends_its_loop(lab: VethLab, far: Far) -> None:
    with lab.near.enter():
        group = XskGroup(lab.near_dev, **SMALL)
        running = group.run(obey)
        far.send(payload(2))
        wait_for(lambda: running.counters.passed == 1)
        group.close()  # with a packet that nobody took
        assert not running.is_running


@pytest.mark.kernel
def test_a_device_that_goes_is_told(lab: VethLab) -> None:
    with lab.near.enter(), IPRoute() as route:
        group = XskGroup(lab.near_dev, **SMALL)
        running = group.run(obey)
        route.link("del", index=group.device.index)
        with pytest.raises(XskError, match="the device has gone"):
            running.wait(10)
        running.close()
        group.close()


@pytest.mark.kernel
def test_a_link_that_is_down_holds_nothing_up(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group, group.run(obey) as running, IPRoute() as route:
        far.send(payload(2))
        assert len(collect(running, 1)) == 1
        route.link("set", index=group.device.index, state="down")
        route.link("set", index=group.device.index, state="up")
        wait_for(lambda: _arrives(far, running))
        route.link("set", index=group.device.index, state="down")
        before = time.perf_counter()
        running.stop()
        assert time.perf_counter() - before < 0.5


def _arrives(far: Far, running: Running) -> bool:
    """Whether packets come through again, once the link is up on both ends."""
    try:
        far.send(payload(2))
    except OSError:
        return False
    return any(True for _ in running.receive(timeout=0.1))


@pytest.mark.kernel
def test_what_cannot_be_run_is_refused(lab: VethLab) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group, VethLab() as other, other.near.enter():
        with group.run(obey):
            with pytest.raises(XskError, match="a compiled loop works on this socket"):
                list(group[0].receive(0))
            with pytest.raises(XskError, match="runs a compiled loop already"):
                group.run(obey)
            assert group.statistics().lost == 0 and group[0].fileno() > 0
            assert len(group[0].umem.allocate(1)) == 0  # the frames are the loop's
        with XskSocket(other.near_dev, tx_size=0) as receiver, pytest.raises(UsageError, match="has no TX ring"):
            receiver.run(tagged)
        with XskSocket(other.near_dev, multi_buffer=True) as large, pytest.raises(UsageError, match="of one frame"):
            large.run(obey)
        with XskSocket(other.near_dev) as third:
            ports[1] = third
            with pytest.raises(UsageError, match="'ports' has a socket at 1 that this loop does not serve"):
                group.run(outward)
            with pytest.raises(UsageError, match="frames of one size"):
                run([group[0], third], obey)
        with pytest.raises(UsageError, match="is no handler"):
            group.run(lambda pkt: 1)  # type: ignore[arg-type]


@pytest.mark.kernel
def test_every_packet_is_accounted_for_under_load(lab: VethLab, far: Far) -> None:
    before = _arrived(lab)
    with lab.near.enter(), XskGroup(lab.near_dev, frame_size=2048) as group, group.run(obey) as running:
        for _ in range(20_000):
            far.socket.send(HEADER + payload(1))
        wait_for(lambda: running.counters.received + group.statistics().lost == 20_000)
        wait_for(lambda: running.counters.completed == running.counters.sent)
        done = running.counters
        assert done.sent + done.no_room == done.received == int(orders[1])
        wait_for(lambda: _arrived(lab) - before == done.sent)


def _arrived(lab: VethLab) -> int:
    """Packets that came in at the far end."""
    with lab.far.enter(), open("/proc/thread-self/net/dev") as file:
        return next(int(line.split()[2]) for line in file if line.strip().startswith(f"{lab.far_dev}:"))


def test_wrong_programs_are_located_errors() -> None:
    with pytest.raises(CompileError, match="the DevMap 'devices' cannot be used in native code") as caught:
        through_devmap.run(bytes(64), on="native")
    assert caught.value.span is not None and caught.value.span.line > 300
    assert "hand the packet up with XDP_PASS" in caught.value.hint
    with pytest.raises(VerifierError):
        endless.run(bytes(64), on="native")


devices = bpf.DevMap(max_entries=4)


@bpf.xdp
def through_devmap(pkt: Packet) -> bpf.XdpAction:
    return devices.redirect(1)


@bpf.xdp(short=bpf.XDP_DROP)
def endless(pkt: Packet) -> bpf.XdpAction:
    n = u64(pkt.read(u8))
    while n < 1000:
        n &= 7
    return bpf.XDP_DROP


@pytest.mark.kernel
def test_the_handler_of_the_page_runs(
    lab: VethLab, far: Far, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "af-xdp.md").read_text()
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "def handler(pkt" in block)
    path = tmp_path / "page.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("page", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.01):
            far.send(b"to Python")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with lab.near.enter():
            module.main(lab.near_dev)
    finally:
        stop.set()
        sender.join()
    assert capsys.readouterr().out.startswith(f"{HEADER + b'to Python'}\n")
