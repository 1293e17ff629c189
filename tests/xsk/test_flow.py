"""Both packet flows of an AF_XDP system, looked at ring by ring, and 100,000 packets through both."""

from __future__ import annotations

import struct
import threading
import time

import numpy as np
import pytest

from ebpfkit.testing import VethLab
from ebpfkit.xsk import FrameOwner, XskGroup

from .conftest import HEADER, Far

pytestmark = pytest.mark.kernel

SIZES = {"rx_size": 4, "tx_size": 4, "fill_size": 8, "completion_size": 8, "frame_count": 16, "frame_size": 2048}


def test_a_packet_goes_in_and_out_ring_by_ring(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SIZES) as group:
        sock = group[0]
        fill, rx, tx, completion, umem = sock.fill, sock.rx, sock.tx, sock.completion, sock.umem

        # Before: eight frames lie in the fill ring, in the kernel's hands; everything else is empty.
        assert [len(ring) for ring in (fill, rx, tx, completion)] == [8, 0, 0, 0]
        assert (umem.count(FrameOwner.FILL), umem.count(FrameOwner.FREE)) == (8, 8)
        first_frame = umem.owned_by(FrameOwner.FILL)[-1] * umem.frame_size

        # NIC -> XDP program -> redirect through the XSK map -> a frame of the fill ring -> the RX ring.
        far.send(b"ping" + bytes(60))
        assert sock.wait(5)
        assert [len(ring) for ring in (fill, rx, tx, completion)] == [7, 1, 0, 0]
        assert (fill.producer_index.load(), fill.consumer_index.load()) == (8, 1)
        assert (rx.producer_index.load(), rx.consumer_index.load()) == (1, 0)

        # The application peeks: the packet lies in the frame that was first in the fill ring, behind the headroom.
        index, found = rx.peek(8)
        assert (index, found) == (0, 1)
        (address, length, options) = rx.read(index, found)[0].item()
        assert (address, length, options) == (first_frame + 256, len(HEADER) + 64, 0)
        packet = umem.data(address, length)
        assert bytes(packet) == HEADER + b"ping" + bytes(60)
        umem.move_one(address, FrameOwner.FILL, FrameOwner.USER)
        rx.release(1)
        assert (rx.consumer_index.load(), len(rx)) == (1, 0)

        # It changes the packet where it lies, and puts the same frame into the TX ring. Nothing moves yet.
        packet[len(HEADER) : len(HEADER) + 4] = b"pong"
        slot = tx.reserve(1)
        assert slot == 0
        tx.write(slot, np.array([(address, length, 0)], tx._entries.dtype))
        assert len(tx) == 0
        tx.submit(1)
        umem.move_one(address, FrameOwner.USER, FrameOwner.TX)
        assert [len(ring) for ring in (fill, rx, tx, completion)] == [7, 0, 1, 0]

        # The wake-up: TX ring -> NIC -> wire; the frame comes back through the completion ring.
        assert tx.needs_wakeup
        assert sock.flush() == 0
        assert far.receive() == b"pong" + bytes(60)
        assert [len(ring) for ring in (fill, rx, tx, completion)] == [7, 0, 0, 1]
        index, found = completion.peek(8)
        assert completion.read(index, found).tolist() == [address]
        completion.cancel(found)

        # Reuse: the frame is free, and the fill ring is topped up with it, since it was the last one freed.
        assert sock.reap() == 1 and len(completion) == 0
        assert umem.count(FrameOwner.FREE) == 9
        assert sock.refill() == 1
        assert [len(ring) for ring in (fill, rx, tx, completion)] == [8, 0, 0, 0]
        assert int(fill._entries[8 % fill.size]) == first_frame
        assert sock.statistics().lost == 0


def test_the_rings_go_round_many_times(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SIZES) as group:
        sock = group[0]
        for number in range(50):
            far.send(struct.pack("!I", number) + bytes(60))
            for frame in sock.receive(5):
                frame.data[18:22] = b"back"
                frame.send()
            assert far.receive()[:8] == struct.pack("!I", number) + b"back"
        sock.drain(5)
        assert sock.fill.producer_index.load() > 50 and sock.tx.producer_index.load() == 50
        assert sock.umem.count(FrameOwner.FILL) == 8 and len(sock.umem) == 8


@pytest.mark.parametrize("style", ["frames", "batches"])
def test_the_fill_ring_is_kept_up_while_the_rx_ring_is_never_empty(lab: VethLab, far: Far, style: str) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SIZES | {"frame_count": 64, "rx_size": 8}) as group:
        sock = group[0]
        far.send(b"x", b"x")
        for _ in range(40):
            far.send(b"x")
            while len(sock.rx) < 3:
                time.sleep(0.0001)
            if style == "frames":
                for _ in sock.receive(5, count=1):
                    pass
            else:
                sock.umem.release(sock.receive_batch(1)["addr"])
            assert len(sock.fill) >= 7
        assert group.statistics().lost == 0
        sock.release_batch(sock.receive_batch())


TOTAL = 100_000
WINDOW = 256


@pytest.mark.parametrize("style", ["frames", "batches"])
def test_100_000_packets_none_lost_none_doubled(lab: VethLab, far: Far, style: str) -> None:
    total = TOTAL if style == "batches" else TOTAL // 4
    with lab.near.enter(), XskGroup(lab.near_dev, frame_size=2048) as group:
        sock = group[0]
        stop = threading.Event()
        echoed: list[BaseException | int] = []
        echo = echo_frames if style == "frames" else echo_batches
        app = threading.Thread(target=lambda: echoed.append(guarded(echo, sock, stop)))
        app.start()
        try:
            seen = exchange(far, total)
        finally:
            stop.set()
            app.join()
        assert echoed == [total]
        assert (seen == 1).all() and len(seen) == total
        assert sock.drain(5)
        statistics = sock.statistics()
        assert statistics.lost == 0 and statistics.rx_invalid_descs == statistics.tx_invalid_descs == 0
        assert (sock.counters.received, sock.counters.sent, sock.counters.completed) == (total, total, total)
        assert sock.umem.count(FrameOwner.USER) == sock.umem.count(FrameOwner.TX) == 0


def guarded(function, *arguments):  # type: ignore[no-untyped-def]
    try:
        return function(*arguments)
    except BaseException as error:
        return error


def echo_frames(sock, stop: threading.Event) -> int:  # type: ignore[no-untyped-def]
    count = 0
    while not stop.is_set():
        for frame in sock.receive(0.05):
            frame.data[18:22] = b"echo"
            frame.send()
            count += 1
    return count


def echo_batches(sock, stop: threading.Event) -> int:  # type: ignore[no-untyped-def]
    count = 0
    mark = np.frombuffer(b"echo", np.uint8)
    while not stop.is_set():
        batch = sock.receive_batch(timeout=0.05)
        offsets = batch["addr"] & np.uint64(sock.umem.frame_size - 1)
        frames = batch["addr"] // np.uint64(sock.umem.frame_size)
        columns = offsets[:, None] + np.arange(18, 22, dtype=np.uint64)
        sock.umem.frames[frames[:, None], columns] = mark
        sock.send_batch(batch)
        count += len(batch)
    return count


def exchange(far: Far, total: int) -> np.ndarray:
    """Sends numbered packets, never more than WINDOW ahead of the answers; how often each number came back."""
    seen = np.zeros(total, np.uint32)
    sent = answered = 0
    deadline = time.monotonic() + 60
    while answered < total:
        while sent < total and sent - answered < WINDOW:
            far.send(struct.pack("!I", sent) + b"----" + bytes(52))
            sent += 1
        reply = far.receive()
        assert reply[4:8] == b"echo", "an answer came back unchanged"
        seen[struct.unpack_from("!I", reply)[0]] += 1
        answered += 1
        assert time.monotonic() < deadline, f"{answered} of {total} after a minute"
    far.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        far.receive()  # nothing came twice
    return seen
