"""A socket opened by root and used by a process without any privileges, and brought back after that one was killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap

import pytest

from ebpfkit.errors import UsageError, XskError
from ebpfkit.testing import VethLab
from ebpfkit.xsk import FrameOwner, Handle, XskGroup, XskSocket, hand_over, take_over

from .conftest import HEADER, Far

pytestmark = pytest.mark.kernel
SMALL = {"rx_size": 64, "tx_size": 64, "fill_size": 64, "completion_size": 64, "frame_count": 256, "frame_size": 2048}

# As `nobody`, without capabilities; the modules were imported before, since the checkout may be root's.
ECHO = """
import os, socket, sys
from ebpfkit.kernel.caps import effective_capabilities
from ebpfkit.xsk import take_over
import ebpfkit.xsk.socket, ebpfkit.xsk.handover, ebpfkit.xsk.ordering, encodings.idna
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
assert not effective_capabilities() and os.geteuid() == 65534
sock = take_over(socket.socket(fileno=int(sys.argv[1])))
print("ready", flush=True)
wanted = int(sys.argv[2])
count = 0
while count < wanted:
    for frame in sock.receive(10):
        count += 1
        frame.data[14:18] = b"echo"
        frame.send()
assert sock.drain(5)
print(count, sock.statistics().lost, sock.umem.count(3), flush=True)
sock.close()
"""


def start(program: str, channel: socket.socket, *arguments: object) -> subprocess.Popen[str]:
    number = channel.fileno()
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(number), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=[number],
    )  # fmt: skip


def test_a_process_without_privileges_receives_and_sends(lab: VethLab, far: Far) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, lab.near.enter(), XskGroup(lab.near_dev, shareable=True, **SMALL) as group:
        far.send(b"before")  # it arrived before the socket changed hands, and is not lost
        assert group[0].wait(5)
        process = start(ECHO, theirs, 101)
        hand_over(group[0], ours)
        assert group[0].closed
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()
        assert far.receive() == b"echore"
        for number in range(100):
            far.send(b"----" + bytes([number]))
            assert far.receive() == b"echo" + bytes([number])
        output, errors = process.communicate(timeout=20)
        assert (output, errors, process.returncode) == ("101 0 0\n", "", 0)
    with lab.near.enter():
        XskSocket(lab.near_dev, **SMALL).close()  # the queue is free again


KILLED = """
import socket, sys
from ebpfkit.xsk import take_over
sock = take_over(socket.socket(fileno=int(sys.argv[1])))
print("ready", flush=True)
held = []
while True:
    for frame in sock.receive():
        data = bytes(frame)
        if data[14:15] == b"h":
            held.append(frame.keep())
        else:
            frame.send()
        print(len(held), flush=True)
"""


def test_after_kill_9_the_next_process_goes_on_with_every_frame(lab: VethLab, far: Far) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, lab.near.enter(), XskGroup(lab.near_dev, shareable=True, **SMALL) as group:
        with Handle.of(group[0]) as handle:
            hand_over(group[0], ours)
            process = start(KILLED, theirs)
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == "ready\n", process.communicate()
            far.send(b"echo")
            assert far.receive() == b"echo"
            process.stdout.readline()
            for count in range(1, 4):
                far.send(b"held")
                assert process.stdout.readline() == f"{count}\n"
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            far.send(b"1", b"2", b"3")  # nobody reads; they wait in the RX ring
            handle.send(ours)
            again = take_over(theirs)
            assert again.umem.count(FrameOwner.USER) == 0
            # A packet whose turn of the loop had not ended comes again; none is lost.
            waiting = [bytes(frame)[14:] for frame in again.receive(5)]
            assert waiting in ([b"1", b"2", b"3"], [b"held", b"1", b"2", b"3"])
            again.send(HEADER + b"alive")
            assert far.receive() == b"alive"
            assert again.drain(5)
            # Every frame is free or in the fill ring: those the killed process held are back.
            assert again.umem.count(FrameOwner.FILL) == 64 and len(again.umem) == 256 - 64
            assert again.statistics().lost == 0
            again.close()


@pytest.mark.parametrize("ring", ["fill", "tx"])
@pytest.mark.parametrize("step", ["write", "submit"])
def test_a_kill_in_the_middle_of_a_ring_operation_loses_no_frame(
    lab: VethLab, far: Far, ring: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    ours, theirs = socket.socketpair()
    with ours, theirs, lab.near.enter(), XskGroup(lab.near_dev, shareable=True, **SMALL) as group:
        sock = group[0]
        far.send(*[b"x"] * 8)
        assert sock.wait(5)
        batch = sock.rx.consume(64)
        sock.umem.move(batch["addr"], FrameOwner.FILL, FrameOwner.USER)
        monkeypatch.setattr(sock.fill if ring == "fill" else sock.tx, step, die)
        with pytest.raises(Killed):
            sock.refill() if ring == "fill" else sock.send_batch(batch)
        with Handle.of(sock) as handle:
            handle.send(ours)
            sock._leave()
        again = take_over(theirs)
        waiting = sum(1 for _ in again.receive(0.2)) + len(batch)
        assert waiting == 8
        umem = again.umem
        assert umem.count(FrameOwner.FILL) == len(again.fill) == 64
        assert len(umem) == umem.count(FrameOwner.FREE) == 256 - 64
        again.close()


def test_what_cannot_be_handed_over(lab: VethLab, far: Far) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, lab.near.enter():
        with XskSocket(lab.near_dev, **SMALL) as sock:
            with pytest.raises(UsageError, match="make it with shareable=True"):
                hand_over(sock, ours)
        with XskGroup(lab.near_dev, shareable=True, **SMALL) as group:
            far.send(b"x")
            (kept,) = [frame.keep() for frame in group[0].receive(5)]
            with pytest.raises(XskError, match="1 of 256 frames leaked"):
                hand_over(group[0], ours)
            kept.release()
        theirs.settimeout(1)
        for garbage in (b"\0\0\0\4nope", b"\0\0", b"\xff\xff\xff\xff"):
            ours.sendall(garbage)
            with pytest.raises(XskError, match="no socket came over the channel"):
                take_over(theirs)
            try:
                theirs.setblocking(False)
                theirs.recv(100)
            except BlockingIOError:
                pass
            theirs.settimeout(1)
        with open(os.devnull) as null:
            socket.send_fds(ours, [b"\0\0\0\2"], [null.fileno(), null.fileno()])
            ours.sendall(b"{}")
            with pytest.raises(XskError, match="describes no socket"):
                take_over(theirs)
