"""One UMEM for several sockets, frames of any size, packets of several frames."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ebpfkit.errors import UsageError, XskError
from ebpfkit.loader import Program
from ebpfkit.testing import VethLab
from ebpfkit.xsk import FrameOwner, Umem, XskGroup, XskSocket
from ebpfkit.xsk.redirect import redirect_object
from tests.loader import objects

from .conftest import HEADER, Far

pytestmark = pytest.mark.kernel
SMALL = {"rx_size": 8, "tx_size": 8, "fill_size": 8, "completion_size": 8}


# --- one UMEM, several sockets


def test_one_umem_on_two_queues_has_rings_for_each() -> None:
    with VethLab(queues=2) as lab:
        far = Far(lab)
        umem = Umem(64, 2048)
        with lab.near.enter(), XskGroup(lab.near_dev, umem=umem, **SMALL) as group:
            one, two = group
            assert one.fill is not two.fill and one.completion is not two.completion
            assert (umem.count(FrameOwner.FILL), len(umem)) == (16, 48)
            for number in range(40):
                group[number % 2].send(HEADER + bytes([number]))
                assert far.receive() == bytes([number])
                far.send(bytes([number]))
                (ready,) = group.wait(5)
                for frame in ready.receive(0):
                    assert bytes(frame) == HEADER + bytes([number])
                    group[number % 2].send(frame)  # of whichever queue: it is one memory, so nothing is copied
                assert far.receive() == bytes([number])
            assert one.drain(5) and two.drain(5)
            assert umem.count(FrameOwner.TX) == umem.count(FrameOwner.USER) == 0
            assert umem.count(FrameOwner.FILL) + len(umem) == 64
            assert group.statistics().lost == 0
        assert len(umem) == 64 and not umem.pools
        far.close()


def test_closing_one_queue_gives_back_its_frames_only() -> None:
    with VethLab(queues=2) as lab, lab.near.enter():
        umem = Umem(64, 2048)
        one = XskSocket(lab.near_dev, 0, umem=umem, **SMALL)
        with XskSocket(lab.near_dev, 1, umem=umem, **SMALL) as two:
            held = two.fill._entries[:8].tolist()
            one.close()  # the first, which registered the memory
            assert sorted(umem.owned_by(FrameOwner.FILL)) == sorted(address // 2048 for address in held)
            assert len(umem) == 56
            with XskSocket(lab.near_dev, 0, umem=umem, **SMALL) as again:
                assert len(again.fill) == 8 and umem.count(FrameOwner.FILL) == 16
        assert len(umem) == 64


def test_two_sockets_on_one_queue_share_its_rings(lab: VethLab, far: Far) -> None:
    umem = Umem(64, 2048)
    with lab.near.enter(), XskGroup(lab.near_dev, umem=umem, **SMALL) as group:
        first = group[0]
        second = XskSocket(lab.near_dev, 0, umem=umem, **SMALL)
        assert second.fill is first.fill and second.completion is first.completion
        assert second.rx is not first.rx and second.tx is not first.tx
        for sock in (first, second, second, first):
            sock.send(HEADER + b"out")
            assert far.receive() == b"out"
        assert first.drain(5) and second.drain(5)
        assert umem.count(FrameOwner.TX) == 0
        # Which of them gets a packet is the XSK map's choice.
        for sock in (first, second, first):
            group.map.set(b"\0\0\0\0", sock.fileno().to_bytes(4, "little"))
            far.send(b"in")
            assert [bytes(frame) for frame in sock.receive(5)] == [HEADER + b"in"]
        far.send(b"late")
        assert first.wait(5)
        group.map.set(b"\0\0\0\0", second.fileno().to_bytes(4, "little"))
        first.close()  # with an unread packet: its frame comes back, and the queue stays second's
        assert umem.count(FrameOwner.FILL) + len(umem) == 64
        far.send(b"still")
        assert [bytes(frame) for frame in second.receive(5)] == [HEADER + b"still"]
        second.close()
        assert len(umem) == 64
        XskSocket(lab.near_dev, 0, **SMALL).close()  # and the queue is free


def test_one_umem_on_two_devices(lab: VethLab) -> None:
    with VethLab(near_address="10.78.0.1/24", far_address="10.78.0.2/24") as other:
        umem = Umem(64, 2048)
        with lab.near.enter():
            one = XskSocket(lab.near_dev, 0, umem=umem, **SMALL)
        with other.near.enter():
            two = XskSocket(other.near_dev, 0, umem=umem, **SMALL)
        ends = Far(lab), Far(other)
        for sock, end in zip((one, two), ends, strict=True):
            frame = sock.allocate(len(HEADER) + 2)
            frame.data[:] = HEADER + b"hi"
            frame.send()
            assert end.receive() == b"hi"
            end.close()
        one.close()
        two.close()
        assert len(umem) == 64


def test_sharing_that_cannot_be_is_explained() -> None:
    with VethLab(queues=2) as lab, lab.near.enter():
        umem = Umem(8, 2048)
        with XskSocket(lab.near_dev, 0, umem=umem, mode="copy", **SMALL | {"tx_size": 0}):
            with pytest.raises(UsageError, match=r"have one mode and all or none multi_buffer.*mode='copy'"):
                XskSocket(lab.near_dev, 1, umem=umem, mode="zero-copy")
            with pytest.raises(XskError, match="no frame is free for the fill ring of queue 1: the UMEM's 8 frames"):
                XskSocket(lab.near_dev, 1, umem=umem, **SMALL)
            with pytest.raises(XskError, match=r"near0 has 2 RX queues"):
                XskSocket(lab.near_dev, 2, umem=umem, **SMALL)
        assert len(umem) == 8


# --- sizes of frames


@pytest.mark.parametrize(
    ("size", "unaligned", "headroom"),
    [(2048, False, 0), (4096, False, 128), (3000, True, 0), (2049, True, 64), (2048, True, 0), (4096, True, 0)],
)
def test_frames_of_any_size(lab: VethLab, far: Far, size: int, unaligned: bool, headroom: int) -> None:
    options = SMALL | {"frame_size": size, "unaligned": unaligned, "headroom": headroom, "frame_count": 33}
    with lab.near.enter(), XskGroup(lab.near_dev, **options) as group:
        sock = group[0]
        for number in range(100):
            payload = bytes([number]) * (number * 14)
            far.send(payload)
            for frame in sock.receive(5):
                assert bytes(frame) == HEADER + payload
                assert frame.address % size == 256 + headroom  # plain addresses, in every mode
                frame.send()
            assert far.receive() == payload
        assert sock.drain(5)
        assert sock.umem.count(FrameOwner.TX) == sock.umem.count(FrameOwner.USER) == 0
        assert sock.statistics().tx_invalid_descs == sock.statistics().rx_invalid_descs == sock.statistics().lost == 0


def test_the_kernel_writes_unaligned_addresses_with_their_offset_on_top(lab: VethLab, far: Far) -> None:
    options = SMALL | {"frame_size": 3000, "unaligned": True, "headroom": 64, "frame_count": 16}
    with lab.near.enter(), XskGroup(lab.near_dev, **options) as group:
        sock = group[0]
        far.send(b"x")
        assert sock.wait(5)
        raw = int(sock.rx._entries["addr"][0])
        assert raw >> 48 == 256 + 64 and (raw & (1 << 48) - 1) % 3000 == 0
        (descriptor,) = sock.receive_batch()
        assert int(descriptor["addr"]) == (raw & (1 << 48) - 1) + 320
        sock.release_batch(np.array([descriptor]))


def test_huge_pages(lab: VethLab, far: Far) -> None:
    path = "/proc/sys/vm/nr_hugepages"
    with open(path) as handle:
        before = int(handle.read())
    try:
        with open(path, "w") as handle:
            handle.write(str(before + 4))
        with open(path) as handle:
            if int(handle.read()) < before + 4:
                pytest.skip("the kernel has no huge pages to give")
        with lab.near.enter(), XskGroup(lab.near_dev, huge_pages=True, frame_count=1024, frame_size=4096) as group:
            far.send(b"big pages")
            assert [bytes(frame) for frame in group[0].receive(5)] == [HEADER + b"big pages"]
    finally:
        with open(path, "w") as handle:
            handle.write(str(before))


# --- packets of several frames


@pytest.fixture
def jumbo():  # type: ignore[no-untyped-def]
    with VethLab(mtu=9000) as lab:
        far = Far(lab)
        yield lab, far
        far.close()


@pytest.mark.parametrize("size", [100, 2000, 3800, 4000, 8986])
@pytest.mark.parametrize("attach_mode", ["native", "skb"])
def test_packets_of_several_frames_come_and_go(jumbo, size: int, attach_mode: str) -> None:  # type: ignore[no-untyped-def]
    lab, far = jumbo
    payload = bytes(range(256)) * 36
    payload = payload[: size - len(HEADER)]
    options = SMALL | {"frame_count": 32, "fill_size": 16}
    with lab.near.enter(), XskGroup(lab.near_dev, multi_buffer=True, attach_mode=attach_mode, **options) as group:
        sock = group[0]
        for _ in range(3):
            far.send(payload)
            frames = 0
            for frame in sock.receive(5):
                frames += 1
                assert len(frame) == size and bytes(frame) == HEADER + payload
                assert len(frame.rest) == (size - 1) // 3840
                frame.send()
            assert frames == 1
            assert far.receive() == payload
            sock.send(HEADER + payload)  # from bytes
            assert far.receive() == payload
        assert sock.drain(5)
        assert (sock.counters.received, sock.counters.sent) == (3, 6)
        assert sock.umem.count(FrameOwner.TX) == sock.umem.count(FrameOwner.USER) == 0
        assert sock.statistics().lost == 0


def test_packets_of_several_frames_in_batches_and_kept(jumbo) -> None:  # type: ignore[no-untyped-def]
    lab, far = jumbo
    payload = bytes(range(200)) * 40
    with lab.near.enter(), XskGroup(lab.near_dev, multi_buffer=True, **SMALL | {"frame_count": 32}) as group:
        sock = group[0]
        far.send(payload, b"small")
        while len(sock.rx) < 4:
            time.sleep(0.001)
        batch = sock.receive_batch(2)  # not enough for the first packet: whole packets come all the same
        assert batch["options"].tolist() == [1, 1, 0, 0] and sock.counters.received == 2
        sock.send_batch(batch)
        assert [far.receive(), far.receive()] == [payload, b"small"]
        far.send(payload)
        (kept,) = [frame.keep() for frame in sock.receive(5)]
        assert sock.umem.count(FrameOwner.USER) == 3
        kept.release()
        assert sock.umem.count(FrameOwner.USER) == 0


def test_a_packet_too_large_for_a_frame_is_counted_and_named(jumbo) -> None:  # type: ignore[no-untyped-def]
    lab, far = jumbo
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL | {"frame_count": 32}) as group:
        sock = group[0]
        far.send(bytes(8000), b"small")
        assert [bytes(frame) for frame in sock.receive(5)] == [HEADER + b"small"]
        statistics = sock.statistics()
        assert (statistics.rx_dropped, statistics.lost) == (1, 1)
        assert statistics.explain()[0].startswith("1 packets dropped: larger than a frame (multi_buffer=True")
        with pytest.raises(UsageError, match="larger ones need multi_buffer=True"):
            sock.send(bytes(5000))


def test_the_missing_piece_of_multi_buffer_is_named(jumbo, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    lab, _ = jumbo
    with lab.near.enter():
        with pytest.raises(UsageError, match="needs a program that takes packets of several buffers"):
            XskGroup(lab.near_dev, program=redirect_object(4), multi_buffer=True, **SMALL)
        from ebpfkit.errors import NotSupported
        from ebpfkit.kernel import netdev

        told = netdev.NetdevFeatures(frozenset({"basic", "redirect"}), frozenset(), frozenset())
        monkeypatch.setattr(netdev, "query_features", lambda _: told)
        with pytest.raises(NotSupported, match=r"not for packets of several buffers \(no rx-sg"):
            XskGroup(lab.near_dev, multi_buffer=True, **SMALL)


def test_one_frame_more_than_the_fill_ring_has(jumbo) -> None:  # type: ignore[no-untyped-def]
    lab, far = jumbo
    with (
        lab.near.enter(),
        XskGroup(lab.near_dev, multi_buffer=True, **SMALL | {"frame_count": 32, "fill_size": 2}) as group,
    ):
        far.send(bytes(8000))
        far.send(b"small")
        assert [bytes(frame) for frame in group[0].receive(5)] == [HEADER + b"small"]
        statistics = group.statistics()
        assert statistics.rx_dropped == 1 and "or than the frames that the fill ring had" in statistics.explain()[0]


def test_starvation_is_seen_and_named(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL | {"frame_count": 4, "frame_size": 2048}) as group:
        sock = group[0]
        far.send(*[b"x"] * 4)
        kept = [frame.keep() for frame in sock.receive(5)]
        deadline = time.monotonic() + 5
        while len(kept) < 2 and time.monotonic() < deadline:
            kept += [frame.keep() for frame in sock.receive(0.1)]
        assert kept
        before = sock.statistics().rx_fill_ring_empty
        far.send(*[b"y"] * 8)
        time.sleep(0.05)
        statistics = sock.statistics()
        assert statistics.rx_fill_ring_empty is not None and before is not None
        assert statistics.rx_fill_ring_empty > before
        assert any("no frame was there to receive into" in line for line in statistics.explain())
        for frame in kept:
            frame.release()
        sock.release_batch(sock.receive_batch())


def test_without_a_program_nothing_comes_but_sending_works(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskSocket(lab.near_dev, **SMALL | {"frame_count": 32}) as sock:
        sock.send(HEADER + b"out")
        assert far.receive() == b"out"
        far.send(b"in")
        assert not sock.wait(0.1)
        with Program.load(objects.returns(2)) as passes, passes.attach_xdp(lab.near_dev):
            far.send(b"in")
            assert not sock.wait(0.1)
