"""Sockets: lifetimes of frames, refusals with their cause, statistics, closing and reopening, fork."""

from __future__ import annotations

import errno
import struct
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from ebpfkit.errors import AttachError, EbpfError, UsageError, XskError
from ebpfkit.kernel import netlink, xdp_socket
from ebpfkit.testing import VethLab, ping
from ebpfkit.xsk import FrameOwner, Umem, XskGroup, XskSocket, XskStatistics

from .conftest import HEADER, Far

SMALL = {"rx_size": 8, "tx_size": 8, "fill_size": 8, "completion_size": 8, "frame_count": 32, "frame_size": 2048}


# --- frames


@pytest.mark.kernel
def test_a_frame_is_valid_in_its_turn_of_the_loop(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        sock = group[0]
        far.send(b"one", b"two")
        sock.wait(5)
        frames = []
        for frame in sock.receive(5, count=1):
            frames.append(frame)
            assert bytes(frame) == HEADER + b"one"
        with pytest.raises(ValueError, match="released"):
            frames[0].data[0]
        with pytest.raises(XskError, match="sent or released before"):
            frames[0].release()
        with pytest.raises(XskError, match="sent or released before"):
            sock.send(frames[0])
        assert sock.umem.count(FrameOwner.USER) == 0
        sock.release_batch(sock.receive_batch())


@pytest.mark.kernel
def test_a_loop_left_early_loses_nothing(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        sock = group[0]
        far.send(b"a", b"b", b"c")
        time.sleep(0.01)
        for frame in sock.receive(5):
            assert bytes(frame)[14:15] == b"a"
            break
        with pytest.raises(ZeroDivisionError):
            for frame in sock.receive(5):
                assert bytes(frame)[14:15] == b"b"
                raise ZeroDivisionError
        assert [bytes(frame)[14:15] for frame in sock.receive(5)] == [b"c"]
        assert sock.counters.received == 3
        assert list(sock.receive(0)) == []


@pytest.mark.kernel
def test_kept_frames_are_the_callers_and_a_leak_is_named_at_close(lab: VethLab, far: Far) -> None:
    with lab.near.enter():
        group = XskGroup(lab.near_dev, **SMALL)
        sock = group[0]
        far.send(b"a", b"b")
        time.sleep(0.01)
        kept = [frame.keep() for frame in sock.receive(5)]
        assert [bytes(frame)[14:15] for frame in kept] == [b"a", b"b"]
        kept[0].release()
        number = sock.umem.index_of(kept[1].address)
        with pytest.raises(XskError, match=rf"1 of 32 frames leaked: frame {number} was taken"):
            group.close()
        assert group.closed and sock.closed
        assert bytes(kept[1].data)[14:15] == b"b"  # the memory lives as long as the view
        with pytest.raises(XskError, match="is closed"):
            sock.receive_batch()
        assert len(sock.fill) == 0 and len(sock.rx) == 0  # rings without memory, not a crash
        assert lab_is_bare(lab)


def lab_is_bare(lab: VethLab) -> bool:
    return not netlink.find_device(lab.near_dev).xdp.program_id


@pytest.mark.kernel
def test_an_exception_in_the_block_is_not_hidden_by_a_leak(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), pytest.raises(ZeroDivisionError), XskGroup(lab.near_dev, **SMALL) as group:
        far.send(b"a")
        for frame in group[0].receive(5):
            frame.keep()
            raise ZeroDivisionError


@pytest.mark.kernel
def test_one_receiving_loop_at_a_time(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        far.send(b"a")
        for _ in group[0].receive(5):
            with pytest.raises(XskError, match="running on this socket already"):
                next(group[0].receive(0))
            with pytest.raises(XskError, match="running on this socket already"):
                group[0].receive_batch()


@pytest.mark.kernel
def test_sending_bytes_frames_and_batches(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group:
        sock = group[0]
        sock.send(HEADER + b"bytes")
        sock.send(memoryview(bytearray(HEADER + b"view")))
        frame = sock.allocate(len(HEADER) + 6)
        frame.data[:] = HEADER + b"frame!"
        frame.resize(len(HEADER) + 5)
        frame.send()
        with sock.allocate(3) as unused:
            unused.data[:] = b"abc"
        batch = np.zeros(3, [("addr", np.uint64), ("len", np.uint32), ("options", np.uint32)])
        batch["addr"] = sock.umem.allocate(3)
        batch["len"] = len(HEADER) + 1
        for number, address in enumerate(batch["addr"]):
            sock.umem.data(int(address), len(HEADER) + 1)[:] = HEADER + bytes([65 + number])
        sock.send_batch(batch)
        assert [far.receive() for _ in range(6)] == [b"bytes", b"view", b"frame", b"A", b"B", b"C"]
        with pytest.raises(XskError, match="cannot be sent: it is"):
            sock.send_batch(batch)
        assert sock.drain(5) and sock.counters.completed == sock.counters.sent == 6
        with pytest.raises(UsageError, match="2049 bytes does not fit a frame, which has room for 2048"):
            sock.allocate(2049)
        with pytest.raises(UsageError, match="9 descriptors do not fit the TX ring of 8"):
            sock.send_batch(np.zeros(9, batch.dtype))
        held = sock.umem.allocate(99)
        with pytest.raises(
            XskError, match="no frame is free: 24 are the application's, 8 in the fill ring, 0 being sent"
        ):
            sock.allocate()
        sock.umem.release(held)


@pytest.mark.kernel
def test_a_frame_of_another_socket_is_copied(far: Far, lab: VethLab) -> None:
    with VethLab() as other:
        with other.near.enter():
            second = XskSocket(other.near_dev, **SMALL)
        answers = Far(other)
        with lab.near.enter(), XskGroup(lab.near_dev, **SMALL) as group, second:
            far.send(b"across")
            for frame in group[0].receive(5):
                second.send(frame)
            assert answers.receive()[:6] == b"across"
        answers.close()


@pytest.mark.kernel
def test_more_than_the_ring_holds_is_sent_in_turns(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskSocket(lab.near_dev, **SMALL) as sock:
        for number in range(100):
            sock.send(HEADER + bytes([number]), timeout=5)
        assert [far.receive()[0] for _ in range(100)] == list(range(100))


# --- statistics


@pytest.mark.kernel
def test_statistics_name_the_losses(lab: VethLab, far: Far) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL | {"rx_size": 4}) as group:
        far.send(*[b"x"] * 20)
        time.sleep(0.05)
        statistics = group.statistics()
        assert statistics.rx_ring_full and statistics.lost == 16
        batch = group[0].receive_batch()
        assert len(batch) == 4
        group[0].release_batch(batch)
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL | {"rx_size": 64, "fill_size": 4}) as group:
        far.send(*[b"x"] * 20)
        time.sleep(0.05)
        assert group.statistics().rx_fill_ring_empty
        assert sum(1 for _ in group[0].receive(5)) == 4


def test_statistics_of_older_and_newer_kernels() -> None:
    six = struct.pack("=6Q", 1, 2, 3, 4, 5, 6)
    assert XskStatistics.from_bytes(six) == XskStatistics.from_bytes(six + bytes(16)) == XskStatistics(1, 2, 3, 4, 5, 6)
    old = XskStatistics.from_bytes(six[:24])
    assert (old.rx_ring_full, old.lost) == (None, 1)
    assert old + XskStatistics(1, 1, 1, 1, 1, 1) == XskStatistics(2, 3, 4, 1, 1, 1)
    assert old + old == XskStatistics(2, 4, 6)
    with pytest.raises(XskError, match="16 bytes"):
        XskStatistics.from_bytes(six[:16])


# --- refusals

REFUSED: list[tuple[dict[str, object], type[EbpfError], str]] = [
    ({"queue": 7}, XskError, "cannot bind to queue 7 of near0: near0 has 1 RX queues, numbered from 0"),
    ({"queue": -1}, UsageError, "queues are numbered from 0, not -1"),
    ({"mode": "zero-copy"}, XskError, "has no zero-copy mode; use mode='copy' or mode='auto'"),
    ({"mode": "fast"}, UsageError, "mode 'fast' is none of auto, copy, zero-copy"),
    ({"rx_size": 100}, XskError, r"\(rx ring of 100 entries\): .* powers of 2"),
    ({"rx_size": 0, "tx_size": 0}, UsageError, "needs an RX ring, a TX ring, or both"),
    ({"tx_budget": 9000}, UsageError, "32 to the TX ring's 2048 packets, not 9000"),
    ({"software_checksum": True}, UsageError, "set tx_metadata=True as well"),
    ({"dev": "nosuch0"}, AttachError, "nosuch0"),
]


@pytest.mark.kernel
@pytest.mark.parametrize(("options", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_refusals_name_cause_and_mend(
    lab: VethLab, options: dict[str, object], error: type[EbpfError], message: str
) -> None:
    with lab.near.enter(), pytest.raises(error, match=message):
        XskSocket(**{"dev": lab.near_dev, **options})  # type: ignore[arg-type]


@pytest.mark.kernel
def test_a_queue_that_is_taken_says_so_and_a_closed_one_is_waited_for(lab: VethLab) -> None:
    with lab.near.enter():
        with XskSocket(lab.near_dev, **SMALL):
            with pytest.raises(XskError, match="another AF_XDP socket owns this queue") as caught:
                XskSocket(lab.near_dev, **SMALL, bind_timeout=0.05)
            assert caught.value.errno == errno.EBUSY
        for _ in range(3):
            XskSocket(lab.near_dev, **SMALL).close()


@pytest.mark.kernel
def test_a_umem_goes_from_socket_to_socket(lab: VethLab) -> None:
    umem = Umem(16, 2048)
    with lab.near.enter():
        for _ in range(2):
            with XskSocket(lab.near_dev, umem=umem, fill_size=8, tx_size=8) as sock:
                assert sock.umem is umem and umem.count(FrameOwner.FILL) == 8
            assert len(umem) == 16


@pytest.mark.kernel
def test_sending_on_a_device_that_is_down(lab: VethLab) -> None:
    from pyroute2 import IPRoute

    with lab.near.enter(), XskSocket(lab.near_dev, **SMALL) as sock:
        with IPRoute() as route:
            route.link("set", index=sock.device.index, state="down")
        with pytest.raises(XskError, match="the device is down; bring it up: ip link set dev near0 up"):
            sock.send(HEADER)


@pytest.mark.kernel
def test_a_device_that_goes_away_ends_the_waiting(lab: VethLab) -> None:
    from pyroute2 import IPRoute

    with lab.near.enter(), XskSocket(lab.near_dev, **SMALL) as sock:
        with IPRoute() as route:
            route.link("del", index=sock.device.index)
        with pytest.raises(
            XskError, match="queue 0 of near0 has failed: Network is down; the device has gone"
        ) as caught:
            list(sock.receive(5))
        assert caught.value.errno == errno.ENETDOWN
        with pytest.raises(XskError, match="cannot send on queue 0 of near0"):
            sock.send(HEADER)


@pytest.mark.kernel
@pytest.mark.parametrize("need_wakeup", [True, False])
@pytest.mark.parametrize("headroom", [0, 128])
def test_wakeup_and_headroom(lab: VethLab, far: Far, need_wakeup: bool, headroom: int) -> None:
    with lab.near.enter(), XskGroup(lab.near_dev, **SMALL, need_wakeup=need_wakeup, headroom=headroom) as group:
        far.send(b"ping")
        for frame in group[0].receive(5):
            assert frame.address % 2048 == headroom + 256
            assert bytes(frame) == HEADER + b"ping"
            frame.send()
        assert group[0].tx.needs_wakeup  # copy mode: always
        group[0].send(HEADER + b"own")
        assert [far.receive(), far.receive()] == [b"ping", b"own"]
        with group[0].allocate(2048 - headroom) as frame:
            assert frame.address % 2048 == headroom and len(frame) == 2048 - headroom
        assert group[0].drain(5)


@pytest.mark.kernel
def test_one_direction_only(lab: VethLab, far: Far) -> None:
    with lab.near.enter():
        with XskSocket(lab.near_dev, rx_size=0, frame_count=64) as sender:
            sender.send(HEADER + b"out")
            assert far.receive() == b"out"
            assert len(sender.fill) == 0
            with pytest.raises(UsageError, match="no RX ring"):
                sender.wait(0)
        with XskGroup(lab.near_dev, tx_size=0, frame_count=64) as group:
            far.send(b"in")
            assert [bytes(frame)[14:16] for frame in group[0].receive(5)] == [b"in"]
            with pytest.raises(UsageError, match="no TX ring"):
                group[0].send(b"x")


@pytest.mark.kernel
def test_a_kernel_without_the_tx_budget_is_served_in_smaller_steps(
    lab: VethLab, far: Far, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xdp_socket.uapi, "XDP_MAX_TX_SKB_BUDGET", 250)  # no such option: ENOPROTOOPT
    with lab.near.enter(), XskSocket(lab.near_dev, tx_size=256, frame_size=2048) as sock:
        assert sock.tx_budget == 32
        batch = np.zeros(200, [("addr", np.uint64), ("len", np.uint32), ("options", np.uint32)])
        batch["addr"], batch["len"] = sock.umem.allocate(200), len(HEADER)
        for address in batch["addr"]:
            sock.umem.data(int(address), len(HEADER))[:] = HEADER
        sock.send_batch(batch)
        assert [far.receive() for _ in range(200)] == [b""] * 200
        assert sock.counters.wakeups >= 200 // 32
        assert sock.drain(5)


# --- the end


@pytest.mark.kernel
def test_after_the_end_the_stack_has_the_queue_again(lab: VethLab) -> None:
    with lab.near.enter():
        with XskGroup(lab.near_dev, **SMALL):
            with lab.far.enter():
                assert ping(lab.near_address, count=1, timeout=0.2) == 0  # the socket has it all
        assert lab_is_bare(lab)
    with lab.far.enter():
        assert ping(lab.near_address, count=1) == 1


@pytest.mark.kernel
def test_a_forgotten_socket_warns_and_is_closed(lab: VethLab) -> None:
    with lab.near.enter():
        with pytest.warns(ResourceWarning, match="unclosed <XskSocket on queue 0 of near0>"):
            XskSocket(lab.near_dev, **SMALL)
        XskSocket(lab.near_dev, **SMALL).close()


@pytest.mark.kernel
def test_a_child_cannot_use_the_socket_and_does_not_hold_the_queue() -> None:
    code = """
        import os, signal, sys
        from ebpfkit.errors import XskError
        from ebpfkit.testing import VethLab
        from ebpfkit.xsk import XskSocket

        with VethLab() as lab, lab.near.enter():
            sock = XskSocket(lab.near_dev)
            ours, theirs = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    sock.receive_batch()
                except XskError as error:
                    os.write(theirs, str(error).encode())
                len(sock.rx), len(sock.tx)
                signal.pause()
            message = os.read(ours, 1000).decode()
            assert "belongs to the parent process; open one in the child" in message, message
            sock.send(b"x" * 60)
            sock.close()
            XskSocket(lab.near_dev).close()  # while the child lives
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    """
    subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)],
        check=True,
        timeout=60,
    )


@pytest.mark.kernel
def test_a_killed_process_leaves_nothing_attached(lab: VethLab) -> None:
    code = f"""
        import os, signal
        from ebpfkit.xsk import XskGroup
        group = XskGroup({lab.near_dev!r})
        print("ready", flush=True)
        signal.pause()
    """
    with lab.near.enter():
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert not lab_is_bare(lab)
        process.kill()
        process.communicate()
        deadline = time.monotonic() + 5
        while not lab_is_bare(lab) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lab_is_bare(lab)
        XskSocket(lab.near_dev, **SMALL).close()
